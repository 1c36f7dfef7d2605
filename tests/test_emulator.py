"""The emulator finds planted mistakes where they are, passes sound kernels, and knows which lines ran."""

import cuemu
import emulator_bugs
import numpy
import pytest
from cuemu import fakecupy


@pytest.fixture(autouse=True)
def _emulator():
    cuemu.need(cuemu.unavailable())


@pytest.mark.parametrize("case", emulator_bugs.CASES, ids=lambda case: case.name)
def test_planted_mistake(case):
    source = case.source()
    module = cuemu.Module(source, path=case.file)
    for order in (0,) if case.kinds == "timeout" else (0, 1, 2):

        def get(name, order=order):
            kernel = module.get_function(name)
            kernel.order, kernel.seed = order, 7
            kernel.timeout = 1
            return kernel

        with numpy.errstate(all="ignore"):
            if case.kinds in ("", "numeric"):
                assert (case.run(get) < 1e-4) == (case.kinds == "")
                continue
            with pytest.raises(cuemu.EmuError) as caught:
                case.run(get)
        assert caught.value.kind in case.kinds.split("|")
        file, _, line = caught.value.where.partition(":")
        if case.at:
            assert file == case.file
            blamed = source.splitlines()[int(line) - 1]
            assert any(text in blamed for text in case.at.split("|")), blamed
        else:
            assert not caught.value.where


def test_the_message_names_both_threads_and_the_element():
    case = next(case for case in emulator_bugs.CASES if case.name.startswith("several sweeps in place"))
    module = cuemu.Module(case.source(), path=case.file)
    with pytest.raises(cuemu.EmuError) as caught:
        case.run(module.get_function)
    message = str(caught.value)
    assert "relax_rb: global-race: write/read data race on global memory between blocks" in message
    assert "at relax.cu:30" in message
    assert "thread (0, 0, 0) of block (1, 0, 0)" in message
    assert "other access: thread (28, 4, 0) of linear block 0 at relax.cu:54" in message
    assert "element (0, 28, 28) of argument 0, shape (2, 70, 45)" in message


@pytest.mark.parametrize("order", [0, 1, 2])
def test_fast_mode_gives_the_same_values(order):
    for run, file in ((emulator_bugs.relax, "relax.cu"), (emulator_bugs.sum_of_squares, "misc.cu")):
        module = cuemu.Module((emulator_bugs.SAMPLES / file).read_text(encoding="utf-8"), mode="fast")

        def get(name, module=module):
            kernel = module.get_function(name)
            kernel.order = order
            return kernel

        assert run(get) < 1e-4


def test_tables_and_templates():
    code, name = (emulator_bugs.SAMPLES / "misc.cu").read_text(encoding="utf-8"), "to_float<unsigned char, 3>"
    module = cuemu.Module(code, name_expressions=(name,))
    module.get_global("gain")[:] = numpy.float32([1, 2, 3, 0]).view(numpy.uint8)
    pixels = numpy.random.default_rng(0).integers(0, 256, (1000, 3), dtype=numpy.uint8)
    out = numpy.empty((1000, 3), numpy.float32)
    module.get_function(name)((8,), (128,), (pixels, out, numpy.int32(1000)))
    numpy.testing.assert_array_equal(out, pixels * numpy.float32([1, 2, 3]))


WARP = """extern "C" __global__ void __launch_bounds__(64) warp(const int* in, int* out)
{
    const int v = in[threadIdx.x], lane = threadIdx.x & 31;
    int* o = out + 12 * threadIdx.x;
    o[0] = __shfl_sync(0xffffffffu, v, 5);
    o[1] = __shfl_up_sync(0xffffffffu, v, 3);
    o[2] = __shfl_down_sync(0xffffffffu, v, 4, 8);
    o[3] = __shfl_xor_sync(0xffffffffu, v, 9);
    o[4] = (int)__ballot_sync(0xffffffffu, v & 1);
    o[5] = __any_sync(0xffffffffu, v == 7) + 2 * __all_sync(0xffffffffu, v >= 0);
    o[6] = __reduce_add_sync(0xffffffffu, v);
    o[7] = __reduce_max_sync(0xffffffffu, v);
    o[8] = __syncthreads_count(v & 1);
    o[9] = __syncthreads_or(v == 63) + 2 * __syncthreads_and(v < 64);
    o[10] = (int)__byte_perm(0x33221100u, 0x77665544u, 0x7531u) + __popc(v) + __clz(v);
    o[11] = __float2int_rn(v + 0.5f) + __float2int_rz(lane < 0 ? 0.0f : 1e20f) % 2 + __float2int_rn(NAN);
}
"""


@pytest.mark.parametrize("mode", ["check", "fast", "cover"])
def test_warp_operations(mode):
    values = numpy.random.default_rng(1).permutation(64).astype(numpy.int32)
    out = numpy.empty((64, 12), numpy.int32)
    cuemu.Module(WARP, mode=mode).get_function("warp")((1,), (64,), (values, out))
    lane = numpy.arange(32)
    for part, found in ((values[:32], out[:32]), (values[32:], out[32:])):
        expected = [
            numpy.full(32, part[5]),
            numpy.where(lane >= 3, numpy.roll(part, 3), part),
            numpy.where(lane % 8 < 4, numpy.roll(part, -4), part),
            part[lane ^ 9],
            numpy.full(32, ((part & 1).astype(numpy.uint64) << lane.astype(numpy.uint64)).sum()).astype(
                numpy.uint32
            ),
            numpy.full(32, (part == 7).any() + 2),
            numpy.full(32, part.sum()),
            numpy.full(32, part.max()),
            numpy.full(32, 32),
            numpy.full(32, 1 + 2),
            [0x77553311 + int(v).bit_count() + 32 - int(v).bit_length() for v in part],
            numpy.rint(part + 0.5) + 1,
        ]
        for k, column in enumerate(expected):
            numpy.testing.assert_array_equal(
                found[:, k], numpy.asarray(column).astype(numpy.int64).astype(numpy.int32)
            )


# ---- sources of several files, templates, coverage -----------------------------------------------------

TWO_FILES = """#line 1 "kernels/shared.cuh"
__device__ __forceinline__ float half_of(const float* p, int i)
{
    return 0.5f * p[i];
}
#line 1 "kernels/own.cu"
template <int N, bool TWICE>
__global__ void __launch_bounds__(32 * N) scale(const float* in, float* out, int n)
{
    const int i = blockIdx.x * 32 * N + threadIdx.x;
    if (TWICE)
        out[i] = 4.0f * half_of(in, i);
    else if (i < n)
        out[i] = half_of(in, i);
    else
        __syncthreads();
}
extern "C" __global__ void __launch_bounds__(32) other(float* out)
{
    __shared__ float s[32];
    s[threadIdx.x] = 1.0f;
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = s[0];
}
"""
INSTANCES = ("scale<1, false>", "scale<2, true>")
SIZE = numpy.int32(64)


def floats(count):
    return numpy.ones(count, numpy.float32)


def test_errors_name_the_file_that_a_line_comes_from():
    module = cuemu.Module(TWO_FILES, name_expressions=INSTANCES)
    with pytest.raises(cuemu.EmuError) as caught:
        module.get_function("scale<1, false>")((2,), (32,), (floats(63), floats(64), SIZE))
    assert (caught.value.kind, caught.value.where) == ("out-of-bounds", "kernels/shared.cuh:3")
    with pytest.raises(cuemu.EmuError) as caught:
        module.get_function("scale<2, true>")((2,), (64,), (floats(128), floats(127), SIZE))
    assert (caught.value.kind, caught.value.where) == ("out-of-bounds", "kernels/own.cu:6")
    with pytest.raises(cuemu.EmuError) as caught:
        module.get_function("other")((1,), (32,), (floats(32),))
    assert caught.value.kind in ("barrier", "shared-race")
    assert caught.value.where.startswith("kernels/own.cu:")


def test_launch_bounds_of_templates_hold():
    module = cuemu.Module(TWO_FILES, name_expressions=INSTANCES)
    assert [module.get_function(name).bound for name in (*INSTANCES, "other")] == [32, 64, 32]
    with pytest.raises(cuemu.LaunchError, match="__launch_bounds__ says 32"):
        module.get_function("scale<1, false>")((1,), (64,), (floats(64), floats(64), SIZE))
    with pytest.raises(cuemu.LaunchError, match="no kernel"):
        module.get_function("scale<3, false>")


def lines(text):
    return {n + 1 for n, line in enumerate(TWO_FILES.split('own.cu"\n')[1].splitlines()) if text in line}


def test_coverage_adds_up_over_modules():
    with fakecupy.installed(mode="cover") as cupy:
        before = fakecupy.coverage()[0]
        module = cupy.RawModule(code=TWO_FILES, options=("-DFIRST",), name_expressions=INSTANCES)
        x, y = cupy.ones(64, cupy.float32), cupy.ones(64, cupy.float32)
        module.get_function("scale<1, false>")((2,), (32,), (x, y, SIZE))
        executed, known = fakecupy.coverage()
        own = {line for file, line in executed - before if file == "kernels/own.cu"}
        assert lines("else if (i < n)") | lines("out[i] = half_of") <= own
        assert ("kernels/shared.cuh", 3) in executed
        assert not own & (lines("4.0f * half_of") | lines("s[threadIdx.x] = 1.0f"))
        assert {
            ("kernels/own.cu", n) for n in lines("4.0f") | lines("    __syncthreads") | lines("s[0]")
        } <= known
        other = cupy.RawModule(code=TWO_FILES, options=("-DSECOND",), name_expressions=INSTANCES)
        other.get_function("scale<2, true>")((1,), (64,), (x, y, SIZE))
        executed, _ = fakecupy.coverage()
        assert {("kernels/own.cu", n) for n in lines("4.0f") | lines("else if (i < n)")} <= executed
        assert ("kernels/own.cu", min(lines("s[0]"))) not in executed


# ---- arguments -----------------------------------------------------------------------------------------

ARGUMENTS = """extern "C" __global__ void __launch_bounds__(32)
take(const float* a, unsigned char* b, float2* c, int n, float f, size_t big) {}
"""


@pytest.fixture
def take():
    kernel = cuemu.Module(ARGUMENTS, mode="fast").get_function("take")
    sound = [floats(8), numpy.zeros(8, numpy.uint8), floats(8), SIZE, numpy.float32(1), numpy.uint64(1)]

    def launch(at=None, value=None, grid=(1,), block=(32,), count=6, **options):
        args = list(sound)
        if at is not None:
            args[at] = value
        kernel(grid, block, args[:count], **options)

    return launch


def test_sound_arguments(take):
    take()
    take(0, None)
    take(2, numpy.zeros(4, numpy.complex64))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, numpy.zeros(8), "float64"),
        (0, numpy.zeros((8, 8), numpy.float32)[:, 0], "contiguous"),
        (0, numpy.float32(3), "pointer"),
        (1, numpy.zeros(8, numpy.int8), "int8"),
        (1, numpy.zeros(8, bool), "bool"),
        (2, floats(9)[1:], "aligned"),
        (3, 64, "int64"),
        (3, numpy.float32(3), "float32"),
        (3, floats(8), "scalar"),
        (4, 1.0, "float64"),
        (5, numpy.int32(3), "int32"),
        (5, numpy.int64(-1), "int64"),
    ],
)
def test_arguments_of_another_type(take, at, value, message):
    with pytest.raises(cuemu.LaunchError, match=message):
        take(at, value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 5}, "5 arguments for 6"),
        ({"grid": (0,)}, "empty launch"),
        ({"grid": (1, 65536)}, "beyond"),
        ({"block": (1, 1, 65)}, "65 threads"),
        ({"block": (64,)}, "__launch_bounds__"),
        ({"shared_mem": 50000}, "max_dynamic"),
    ],
)
def test_launches_that_the_driver_refuses(take, options, message):
    with pytest.raises(cuemu.LaunchError, match=message):
        take(**options)


def test_grids_are_tuples(take):
    with pytest.raises(TypeError):
        take(grid=1)


def test_refused_sources():
    with pytest.raises(cuemu.CompileError, match="expected"):
        cuemu.Module("__global__ void f() { int x = }")
    with pytest.raises(cuemu.CompileError, match="--fast"):
        cuemu.Module(ARGUMENTS, options=("--fast",))


# ---- warnings, profiles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("*p = *p * 2.0;", "double-promotion|conversion"),
        ("float unset; *p = unset;", "uninitialized"),
        ("const float q = *p; { const float q = 1.0f; *p = q; } p[1] = q;", "shadow"),
        ("if (threadIdx.x < -1) *p = 0.0f;", "sign-compare"),
    ],
)
def test_lint_finds(line, warning):
    source = f'#line 1 "kernels/a.cu"\nextern "C" __global__ void f(float* p)\n{{\n    {line}\n}}\n'
    found = cuemu.lint(source)
    assert found
    assert all(text.startswith("kernels/a.cu:3:") for text in found)
    assert any(name in text for text in found for name in warning.split("|"))


def test_lint_looks_into_instances_of_templates():
    source = "template <class T> __global__ void f(T* p) { *p = *p * 2.0; }\n"
    assert cuemu.lint(source) == []
    assert "kernel.cu:1:" in cuemu.lint(source, instances=("f<float>",))[0]


PROFILE = """extern "C" __global__ void __launch_bounds__(32) copy(const float* a, float* b, int step)
{
    __shared__ float s[32 * 33];
    s[threadIdx.x * step] = a[threadIdx.x * step];
    __syncthreads();
    b[threadIdx.x] = s[threadIdx.x * step];
}
"""


@pytest.mark.parametrize(("step", "sectors", "ways"), [(1, 1, 1), (2, 2, 2), (32, 8, 32), (33, 8, 1)])
def test_profile_counts_sectors_and_bank_conflicts(step, sectors, ways):
    kernel = cuemu.Module(PROFILE).get_function("copy")
    rows = kernel.profile((1,), (32,), (floats(33 * 32), floats(32), numpy.int32(step)))
    cost = {(space, act): price for _, space, act, _, _, price in rows}
    assert cost["global", "load"] == sectors
    assert cost["global", "store"] == 1
    assert cost["shared", "load"] == cost["shared", "store"] == ways


def test_the_machine_can_emulate():
    assert cuemu.unavailable() is None
