"""Mistakes planted into sound kernels (cuemu/samples): what the emulator must find, and where.

A case changes the source of a kernel, runs it, and states the kind of error and a part of the line that
is to be blamed. A runner takes a function that returns kernels and gives the largest error of the result.
"""

import dataclasses
from collections.abc import Callable

import numpy
from cuemu import HERE

SAMPLES = HERE / "samples"


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel with a mistake, or without one."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    """Texts to be replaced, once each."""
    run: Callable
    kinds: str = ""
    """Kinds of error that are right, separated by "|"; "numeric": only the result is wrong; empty: sound."""
    at: str = ""
    """Texts, separated by "|", one of which is in the line that is blamed; empty where there is no line."""

    def source(self):
        source = (SAMPLES / self.file).read_text(encoding="utf-8")
        for old, new in self.changes:
            assert source.count(old) >= 1, f"{self.name}: {old!r} is not in {self.file}"
            source = source.replace(old, new, 1)
        return source


# ---- references ----------------------------------------------------------------------------------------


def susan_reference(video, radius, frames, inv2s, inv2t, invb):
    count, height, width = video.shape
    video = video.astype(float)
    total, weights = numpy.zeros_like(video), numpy.zeros_like(video)
    for dt in range(-frames, frames + 1):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                shifts = list(zip((dt, dy, dx), (count, height, width), strict=True))
                here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in shifts)
                there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in shifts)
                difference = (video[there] - video[here]) * invb
                weight = numpy.exp(-((dx * dx + dy * dy) * inv2s + dt * dt * inv2t + difference**2))
                total[here] += weight * video[there]
                weights[here] += weight
    return total / weights


def jacobi_reference(u, f, omega):
    total, count = numpy.zeros_like(u), numpy.zeros_like(u)
    for here, there in (
        (numpy.s_[..., 1:], numpy.s_[..., :-1]),
        (numpy.s_[..., 1:, :], numpy.s_[..., :-1, :]),
    ):
        total[here] += u[there]
        total[there] += u[here]
        count[here] += 1
        count[there] += 1
    return u + omega * ((total - f) / count - u)


def red_black_reference(u, f, omega, sweeps):
    u = u.astype(float)
    colours = numpy.add.outer(numpy.arange(u.shape[-2]), numpy.arange(u.shape[-1])) & 1
    for _ in range(sweeps):
        for colour in (0, 1):
            u = numpy.where(colours == colour, jacobi_reference(u, f, omega), u)
    return u


# ---- runners -------------------------------------------------------------------------------------------


def blocks(count, size):
    return -(-count // size)


def neighbours(*shapes):
    """float32 arrays that lie next to each other in one buffer, as in a pool of memory."""
    counts = [int(numpy.prod(shape)) for shape in shapes]
    buffer = numpy.zeros(sum(counts) + 64, numpy.float32)
    start = (-buffer.ctypes.data // 4) % 16
    arrays = []
    for shape, count in zip(shapes, counts, strict=True):
        arrays.append(buffer[start : start + count].reshape(shape))
        start += count
    return arrays


def normal(shape, seed=2):
    rng = numpy.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=numpy.float32) for _ in range(2)]


def sizes(*values):
    return [numpy.int32(value) for value in values]


def susan(get, grid=None, block=(32, 8)):
    count, height, width = shape = (3, 45, 70)
    video = numpy.random.default_rng(1).random(shape, dtype=numpy.float32)
    out = numpy.full_like(video, numpy.nan)
    parameters = [numpy.float32(p) for p in (0.08, 0.3, 4)]
    grid = grid or (blocks(width, 32), blocks(height, 8), count)
    get("susan3d")(grid, block, (video, out, *sizes(*shape), *parameters))
    return abs(out - susan_reference(video, 3, 1, *map(float, parameters))).max()


def relax(get, in_place=False, shared=2 * 40 * 40 * 4):
    batch, height, width = shape = (2, 70, 45)
    u, f = normal(shape)
    expected = red_black_reference(u, f.astype(float), 1.2, 2)
    out = u if in_place else numpy.full_like(u, numpy.nan)
    grid = (blocks(width, 32), blocks(height, 32), batch)
    args = (u, f, out, *sizes(height, width), numpy.float32(1.2))
    get("relax_rb")(grid, (32, 8), args, shared_mem=shared)
    return abs(out - expected).max()


def half_sweeps(get):
    batch, height, width = shape = (2, 70, 45)
    u, f = normal(shape)
    expected = red_black_reference(u, f.astype(float), 1.2, 1)
    for colour in (0, 1):
        grid = (blocks(blocks(width, 2), 32), blocks(height, 8), batch)
        get("rb_half")(grid, (32, 8), (u, f, *sizes(height, width), numpy.float32(1.2), numpy.int32(colour)))
    return abs(u - expected).max()


def jacobi(get, in_place=False, pool=False):
    batch, height, width = shape = (2, 37, 45)
    u, f, out = (
        neighbours(shape, shape, shape) if pool else (numpy.zeros(shape, numpy.float32) for _ in range(3))
    )
    rng = numpy.random.default_rng(2)
    u[...], f[...] = rng.random(shape), rng.random(shape)
    expected = jacobi_reference(u.astype(float), f, 0.8)
    out = u if in_place else out
    grid = (blocks(width, 32), blocks(height, 8), batch)
    get("jacobi")(grid, (32, 8), (u, f, out, *sizes(height, width), numpy.float32(0.8)))
    return abs(out - expected).max()


def sum_of_squares(get):
    values = numpy.random.default_rng(3).random(5000, dtype=numpy.float32)
    out = numpy.zeros(1)
    get("sumsq")((4,), (256,), (values, out, *sizes(values.size)))
    return abs(out[0] - (values.astype(float) ** 2).sum())


def restriction(get, shift=0):
    fine = numpy.zeros(64 * 64 + 16, numpy.float32)[shift : shift + 64 * 64].reshape(64, 64)
    fine[...] = numpy.random.default_rng(3).random((64, 64))
    out = numpy.full((32, 32), numpy.nan, numpy.float32)
    get("restrict2")((1, 4, 1), (32, 8), (fine, out, *sizes(32, 32)))
    return abs(out - fine.reshape(32, 2, 32, 2).mean((1, 3))).max()


def packing(get):
    colours = numpy.random.default_rng(3).random((100, 3), dtype=numpy.float32) * 1.6 - 0.3
    out = numpy.zeros((100, 4), numpy.uint8)
    get("pack8")((1,), (128,), (colours, out, *sizes(100)))
    return abs(out[:, :3].astype(int) - numpy.rint(numpy.clip(colours, 0, 1) * 255)).max()


# ---- cases ---------------------------------------------------------------------------------------------

SUSAN, RELAX, MISC = "susan3d.cu", "relax.cu", "misc.cu"
SYNC = "        __syncthreads();\n"
LEFT = "    if (x > 0)     { s += u[i - 1]; n += 1.0f; }\n"
RIGHT = "    if (x < W - 1) { s += u[i + 1]; n += 1.0f; }\n"
ABOVE = "    if (y > 0)     { s += u[i - W]; n += 1.0f; }\n"
BELOW = "    if (y < H - 1) { s += u[i + W]; n += 1.0f; }\n"
PAST_THE_END = (BELOW + "    o[i]", BELOW.replace("y < H - 1", "y < H") + "    o[i]")
INDEX = "    const size_t i = ((size_t)blockIdx.z * H + y) * W + x;\n    float s = 0.0f, n = 0.0f;\n"
LANE_0 = "    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = s;"
EXCHANGE = (
    "    __shared__ double ex[256]; ex[threadIdx.x] = s;{}\n"
    "    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = ex[threadIdx.x] + 0 * ex[threadIdx.x + 1];"
)
BARRIER_BEFORE_WEIGHTS = SYNC + "        const float wt"
CASES = [
    # Barriers
    Case(
        "no barrier after the tile was loaded",
        SUSAN,
        ((BARRIER_BEFORE_WEIGHTS, "        const float wt"),),
        susan,
        "shared-race|uninitialised-shared",
        "float v = tile",
    ),
    Case(
        "no barrier before the next load",
        SUSAN,
        (("            }\n        }\n" + SYNC, "            }\n        }\n"),),
        susan,
        "shared-race",
        "float v = tile|tile[i / TW]",
    ),
    Case(
        "no barrier between half sweeps",
        RELAX,
        (("++half) {\n        __syncthreads();", "++half) {\n        if (half == 0) __syncthreads();"),),
        relax,
        "shared-race",
        "float s = l * p[-1]",
    ),
    Case(
        "no barrier before the result is written",
        RELAX,
        (
            (
                "    }\n    __syncthreads();\n    for (int i = lin; i < CW",
                "    }\n    for (int i = lin; i < CW",
            ),
        ),
        relax,
        "shared-race",
        "= su[ly * TW + lx]|su[ly * TW + lx] +=",
    ),
    Case(
        "no barrier before the sum over warps",
        MISC,
        (("    __syncthreads();\n    if (threadIdx.x < 8)", "    if (threadIdx.x < 8)"),),
        sum_of_squares,
        "shared-race|uninitialised-shared",
        "s = part[threadIdx.x]",
    ),
    Case(
        "an exchange within a warp without __syncwarp",
        MISC,
        ((LANE_0, EXCHANGE.format("")),),
        sum_of_squares,
        "shared-race|uninitialised-shared",
        "0 * ex[threadIdx.x + 1]",
    ),
    Case(
        "an exchange within a warp, sound",
        MISC,
        ((LANE_0, EXCHANGE.format(" __syncwarp();")),),
        sum_of_squares,
    ),
    Case(
        "a barrier that some threads pass by",
        SUSAN,
        ((BARRIER_BEFORE_WEIGHTS, "        if (live) __syncthreads();\n        const float wt"),),
        susan,
        "barrier|uninitialised-shared",
        "float v = tile",
    ),
    Case(
        "a return before a barrier",
        SUSAN,
        (("    const size_t plane", "    if (!live) return;\n    const size_t plane"),),
        susan,
        "barrier|uninitialised-shared",
        "__syncthreads()",
    ),
    Case(
        "different barriers in the branches of an if",
        SUSAN,
        (
            (
                BARRIER_BEFORE_WEIGHTS,
                "        if (live) {\n __syncthreads();\n } else {\n __syncthreads();\n }\n"
                "        const float wt",
            ),
        ),
        susan,
        "barrier",
        "__syncthreads()",
    ),
    Case(
        "a shuffle that names lanes which are elsewhere",
        MISC,
        (("__shfl_down_sync(0xffu, s, o)", "__shfl_down_sync(0xffffffffu, s, o)"),),
        sum_of_squares,
        "warp",
        "__shfl_down_sync(0xffffffffu, s, o)",
    ),
    # Races
    Case(
        "both colours at once",
        RELAX,
        (("+ half) & 1)", "+ threadIdx.y) & 1)"),),
        relax,
        "shared-race",
        "float s = l * p[-1]",
    ),
    Case(
        "the wrong colour",
        RELAX,
        (("((y + colour) & 1);\n    if (x >= W", "((y * colour) & 1);\n    if (x >= W"),),
        half_sweeps,
        "global-race",
        "s += u[i + W]|s += u[i - W]",
    ),
    Case(
        "several sweeps in place, blocks read what others wrote",
        RELAX,
        (),
        lambda get: relax(get, in_place=True),
        "global-race",
        "su[i] = in ? u_in",
    ),
    Case(
        "Jacobi in place",
        RELAX,
        (),
        lambda get: jacobi(get, in_place=True),
        "global-race",
        "s += u[i - 1]|s += u[i + 1]",
    ),
    Case(
        "+= instead of atomicAdd",
        MISC,
        (("atomicAdd(out, s);", "*out += s;"),),
        sum_of_squares,
        "global-race",
        "*out += s",
    ),
    # Bounds
    Case(
        "a column too far is read",
        SUSAN,
        (("sx < W &&", "sx <= W &&"),),
        susan,
        "out-of-bounds",
        "sx <= W",
    ),
    Case(
        "a row past the end is read",
        RELAX,
        (PAST_THE_END,),
        jacobi,
        "out-of-bounds",
        "if (y < H) { s += u[i + W]",
    ),
    Case(
        "a row past the end is read, where another array lies",
        RELAX,
        (PAST_THE_END,),
        lambda get: jacobi(get, pool=True),
        "out-of-bounds|global-race",
        "if (y < H) { s += u[i + W]",
    ),
    Case(
        "the element before the first is read",
        RELAX,
        ((LEFT + RIGHT + ABOVE + BELOW + "    o[i]", "s += u[i - 1]; n += 1.0f; o[i]"),),
        jacobi,
        "out-of-bounds",
        "s += u[i - 1]",
    ),
    Case(
        "the result is written past the end",
        SUSAN,
        (("const bool live = x < W && y < H", "const bool live = y < H"),),
        susan,
        "out-of-bounds|global-race",
        "float c = live ?|if (live) out",
    ),
    Case(
        "a shared row is left",
        SUSAN,
        (("tile[ty + dy][tx + dx]", "tile[ty + dy][tx + dx + 1]"),),
        susan,
        "undefined-behaviour",
        "tile[ty + dy][tx + dx + 1]",
    ),
    Case(
        "a shared array is left",
        SUSAN,
        (("tile[ty + dy][tx + dx]", "tile[ty + dy + 1][tx + dx]"),),
        susan,
        "undefined-behaviour",
        "tile[ty + dy + 1][tx + dx]",
    ),
    Case(
        "dynamic shared memory one float short",
        RELAX,
        (),
        lambda get: relax(get, shared=2 * 40 * 40 * 4 - 4),
        "out-of-bounds",
        "sf[i] = in ?",
    ),
    Case(
        "a write through a pointer to const",
        RELAX,
        (("o[i] = n > 0.0f ?", "((float*)f)[i] = 0; o[i] = n > 0.0f ?"),),
        jacobi,
        "write-to-read-only",
        "((float*)f)[i] = 0",
    ),
    # Memory that was not written
    Case(
        "the last row of the tile is not loaded",
        SUSAN,
        (("i < TW * TH; i += BX", "i < TW * (TH - 1); i += BX"),),
        susan,
        "uninitialised-shared",
        "float v = tile",
    ),
    Case(
        "the halo outside the image is not written",
        RELAX,
        (("        su[i] = in ?", "        if (in) su[i] = in ?"),),
        relax,
        "uninitialised-shared",
        "float s = l * p[-1]",
    ),
    Case(
        "a local variable without a value",
        SUSAN,
        (("float num = 0.0f, den = 0.0f;", "float num = 0.0f, den;"),),
        susan,
        "numeric",
    ),
    # Undefined behaviour
    Case(
        "a float2 at an odd float",
        MISC,
        (
            (
                "const float2 p = fine[b + (size_t)(2 * y) * Wc + x]",
                "const float2 p = "
                "*(const float2*)((const float*)fine + 2 * (b + (size_t)(2 * y) * Wc + x) + 1)",
            ),
        ),
        restriction,
        "undefined-behaviour",
        "*(const float2*)",
    ),
    Case(
        "a float out of the range of its integer",
        MISC,
        (
            (
                "(unsigned char)__float2int_rn(255.0f * __saturatef(in[3 * i]))",
                "(unsigned char)(255.0f * in[3 * i])",
            ),
        ),
        packing,
        "undefined-behaviour",
        "(unsigned char)(255.0f * in[3 * i])",
    ),
    Case(
        "an index over 31 bits",
        RELAX,
        (
            (
                INDEX + LEFT + RIGHT + ABOVE + BELOW + "    o[i]",
                "    const int i = ((int)blockIdx.z * H + y) * W + x; float s = 0, n = 0;\n"
                "    s += (float)(i * 4000000);\n"
                "    n += (float)(s > 1e30f); o[i]",
            ),
        ),
        jacobi,
        "undefined-behaviour",
        "i * 4000000",
    ),
    Case(
        "a division by zero",
        SUSAN,
        (("sy = y0 + i / TW", "sy = y0 + i / (TW * (T - 3))"),),
        susan,
        "undefined-behaviour|signal",
        "TW * (T - 3)",
    ),
    Case(
        "a loop without end",
        SUSAN,
        (("i += BX * BY) {\n            const int sx", "i += 0 * BX) {\n            const int sx"),),
        susan,
        "timeout",
    ),
    # Launches
    Case("a float2 array at an odd float", MISC, (), lambda get: restriction(get, 1), "launch"),
    Case(
        "a block over the launch bound",
        SUSAN,
        (),
        lambda get: susan(get, (3, 3, 3), (32, 16)),
        "launch",
    ),
    Case("a grid one block short", SUSAN, (), lambda get: susan(get, (2, 6, 3)), "numeric"),
    Case(
        "a halo too narrow",
        RELAX,
        (("#define HALO (2 * SWEEPS)", "#define HALO (SWEEPS)"),),
        lambda get: relax(get, shared=2 * 36 * 36 * 4),
        "numeric",
    ),
    # Sound kernels
    Case("sound: an odd literal", SUSAN, (("num += w * v", "num += w * v * 1.0"),), susan),
    Case("sound: susan3d", SUSAN, (), susan),
    Case("sound: relax_rb", RELAX, (), relax),
    Case("sound: rb_half", RELAX, (), half_sweeps),
    Case("sound: jacobi", RELAX, (), jacobi),
    Case("sound: sumsq", MISC, (), sum_of_squares),
    Case("sound: restrict2", MISC, (), restriction),
    Case("sound: pack8", MISC, (), packing),
]
