"""The Poisson solvers against plain float64 solutions."""

from __future__ import annotations

import itertools
import os
import pathlib

import numpy
import pytest
import scipy.fft

import gpufuse.errors
import gpufuse.threads
from gpufuse import hierarchy, poisson
from gpufuse.kernels_cpu import multigrid

LIMIT = 0.25  # grey levels, promised for the default cycles
FACTOR = 0.2  # error after a V-cycle / error before, at most
SMALL = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (11, 1), (3, 5), (7, 2), (8, 8), (5, 13), (13, 17)]
MEDIUM = [
    (1, 300),
    (1000, 1),
    (2, 129),
    (3, 700),
    (64, 500),
    (97, 511),
    (128, 128),
    (129, 257),
    (251, 333),
    (270, 481),
    (3840, 2),
    (3, 3839),
]
WEIGHTS = [1e-6, 1e-4, 1e-2, 1.0, 1e6]  # of the data: from nearly none to nothing else
DATA = pathlib.Path(os.environ.get("GPUFUSE_DATA", "../shared/data"))


def gradient(image):
    gx, gy = numpy.zeros_like(image), numpy.zeros_like(image)
    gx[:, :-1] = numpy.diff(image, axis=1)
    gy[:-1, :] = numpy.diff(image, axis=0)
    return gx, gy


def divergence(gx, gy):
    out = gx + gy
    out[:, 1:] -= gx[:, :-1]
    out[1:, :] -= gy[:-1, :]
    return out


def mixed(day, night, importance):
    """Divergence of two pictures' gradients mixed: a field that is no picture's gradient."""
    fields = [
        importance * n + (1 - importance) * d for d, n in zip(gradient(day), gradient(night), strict=True)
    ]
    return divergence(*fields).astype(numpy.float32)


def boxes(rng, shape, count, low, high):
    picture = numpy.zeros(shape)
    for _ in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        tall, wide = rng.integers(1, shape[0] // 3 + 2), rng.integers(1, shape[1] // 3 + 2)
        picture[y : y + tall, x : x + wide] = rng.uniform(low, high)
    return picture


def scene_rhs(height, width, seed=0):
    """Day with ramps, waves and boxes; dark night with lit windows; noise; an uneven mask."""
    rng = numpy.random.default_rng(seed)
    shape = (height, width)
    y, x = numpy.mgrid[:height, :width]
    day = 120 + 60 * numpy.sin(x / 97) + 40 * numpy.cos(y / 61) + boxes(rng, shape, 25, -90, 90)
    night = 10 + 20 * x / width + boxes(rng, shape, 10, 40, 220)
    day = numpy.clip(day + rng.normal(0, 3, shape), 0, 255)
    night = numpy.clip(night + rng.normal(0, 6, shape), 0, 255)
    return mixed(day, night, boxes(rng, shape, 12, 0.2, 1))


def screened_rhs(height, width, weight, seed=0):
    """The same with a target that is not the day: it has waves, noise and a mean of its own."""
    target = 90 + 60 * numpy.sin(numpy.arange(width) / 40) * numpy.cos(numpy.arange(height) / 70)[:, None]
    target += numpy.random.default_rng(seed).normal(0, 10, target.shape)
    return poisson.screened(scene_rhs(height, width, seed), target.astype(numpy.float32), weight)


def dense_solution(rhs, weight=0.0):
    """Least squares with the operator written out as a matrix."""
    height, width = rhs.shape
    operator = numpy.zeros((height * width, height * width))
    for y in range(height):
        for x in range(width):
            for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= b < height and 0 <= a < width:
                    operator[y * width + x, b * width + a] += 1
                    operator[y * width + x, y * width + x] -= 1
    flat = rhs.astype(numpy.float64).ravel()
    if weight:
        return numpy.linalg.solve(operator - weight * numpy.eye(flat.size), flat).reshape(rhs.shape)
    return (numpy.linalg.pinv(operator, rtol=1e-9) @ (flat - flat.mean())).reshape(rhs.shape)


def cosine_solution(rhs, weight=0.0):
    """Direct solution in float64."""
    spectrum = scipy.fft.dctn(rhs.astype(numpy.float64), axes=(-2, -1))
    rows, columns = (2 * numpy.cos(numpy.pi * numpy.arange(n) / n) - 2 for n in rhs.shape[-2:])
    eigenvalues = rows[:, None] + columns - weight
    if weight == 0:
        eigenvalues[0, 0] = numpy.inf
    return scipy.fft.idctn(spectrum / eigenvalues, axes=(-2, -1))


def interpolate(coarse, shape):
    """The coarse correction as a pass adds it."""
    geometry = hierarchy.plan(*shape)
    out = numpy.empty(shape, numpy.float32)
    nothing = numpy.zeros(0, numpy.float32)
    run_pass(geometry, out, coarse, out.copy(), nothing, out, coarse.copy(), has_old=False, has_coarse=True)
    return out


def sides(geometry, depth):
    """Heights of a level's rows, widths of its columns."""
    result = [numpy.ones(count) for count in geometry.shape[depth]]
    for side, last in zip(result, geometry.last[depth], strict=True):
        side[-1] = last
    return result


def applied(geometry, depth, u):
    """``A u - mass u`` on any level, in finite volumes."""
    heights, widths = sides(geometry, depth)
    down, across = ((side[1:] + side[:-1]) / 2 for side in (heights, widths))  # between centres
    flow = numpy.diff(u, axis=0) / down[:, None] * widths
    result = numpy.diff(numpy.pad(flow, ((1, 1), (0, 0))), axis=0)
    flow = numpy.diff(u, axis=1) / across * heights[:, None]
    result += numpy.diff(numpy.pad(flow, ((0, 0), (1, 1))), axis=1)
    return result - geometry.mass[depth] * numpy.outer(heights, widths) * u


def run_pass(
    geometry, old, coarse, f, steps, new, coarse_f, *, has_old, has_coarse, has_residual=False, depth=0
):
    zero = numpy.float32(0)
    ring = numpy.empty((steps.size + 2, 4, f.shape[1] + 32), numpy.float32)
    rows = int(geometry.shape[depth + 1, 0])
    multigrid._pass(
        0, rows, depth, geometry, old, has_old, coarse, has_coarse, zero, f, steps, new, coarse_f,
        has_residual, zero, ring,
    )  # fmt: skip


@pytest.fixture
def threads():
    before = gpufuse.threads.get_threads()
    yield gpufuse.threads.set_threads
    gpufuse.threads.set_threads(before)


@pytest.mark.parametrize("method", poisson.METHODS)
@pytest.mark.parametrize("shape", SMALL)
def test_small_sizes_against_dense_least_squares(shape, method):
    rhs = numpy.random.default_rng(1).normal(0, 30, (2, *shape)).astype(numpy.float32)
    u = poisson.solve(rhs, method=method)
    assert u.shape == rhs.shape
    assert u.dtype == numpy.float32
    for plane, expected in zip(u, map(dense_solution, rhs), strict=True):
        numpy.testing.assert_allclose(plane, expected, atol=0.05 if method == "multigrid" else 1e-3)
    numpy.testing.assert_allclose(u.mean((1, 2), dtype=numpy.float64), 0, atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1e-4, 0.3])
def test_the_two_oracles_agree(weight):
    rhs = scene_rhs(9, 14)
    numpy.testing.assert_allclose(cosine_solution(rhs, weight), dense_solution(rhs, weight), atol=1e-8)


@pytest.mark.parametrize("method", poisson.METHODS)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("shape", SMALL)
def test_screened_small_sizes_against_a_dense_solution(shape, weight, method):
    rhs = numpy.stack([screened_rhs(*shape, weight, seed) for seed in range(2)])
    u = poisson.solve(rhs, method=method, data_weight=weight)
    assert u.shape == rhs.shape
    assert u.dtype == numpy.float32
    for plane, part in zip(u, rhs, strict=True):
        expected = dense_solution(part, weight)
        numpy.testing.assert_allclose(plane, expected, atol=0.05 if method == "multigrid" else 1e-3)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("shape", MEDIUM)
def test_screened_medium_sizes_within_the_limit(shape, weight):
    rhs = screened_rhs(*shape, weight)
    expected = cosine_solution(rhs, weight)
    assert abs(poisson.solve(rhs, data_weight=weight) - expected).max() < LIMIT
    direct = poisson.solve(rhs, method="dct", data_weight=weight)
    numpy.testing.assert_allclose(direct, expected, atol=5e-3)


@pytest.mark.parametrize(
    ("shape", "weight"), [((1025, 515), 1e-5), ((1080, 1920), 1e-3), ((2160, 3840), 3e-4)]
)
def test_screened_large_sizes_within_the_limit(shape, weight):
    rhs = screened_rhs(*shape, weight)
    direct = poisson.solve(rhs, method="dct", data_weight=weight)
    assert abs(poisson.solve(rhs, data_weight=weight) - direct).max() < LIMIT


@pytest.mark.parametrize("weight", [1e-8, 1e-7, 9e-6, 1.1e-5])
@pytest.mark.parametrize("method", poisson.METHODS)
def test_light_weights_do_not_magnify_what_is_rounded(weight, method):
    rhs = screened_rhs(205, 109, weight)
    u = poisson.solve(rhs, method=method, data_weight=weight)
    assert abs(u - cosine_solution(rhs, weight)).max() < 0.06


@pytest.mark.parametrize("weight", [1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(128, 128), (251, 333), (97, 511)])
def test_convergence_factor_does_not_depend_on_the_weight(shape, weight):
    rhs = screened_rhs(*shape, weight)
    expected = cosine_solution(rhs, weight)
    solutions = [poisson.solve(rhs, cycles=c, data_weight=weight) for c in range(4)]
    errors = [numpy.sqrt(((u - expected) ** 2).mean()) for u in solutions]
    for before, after in itertools.pairwise(errors):
        assert after < FACTOR * before, errors


@pytest.mark.parametrize("method", poisson.METHODS)
def test_the_solution_minimises_what_it_is_to_minimise(method):
    rng = numpy.random.default_rng(2)
    shape, weight = (23, 37), 0.02
    gx, gy = rng.normal(0, 20, (2, *shape))
    gx[:, -1], gy[-1] = 0, 0  # no difference leads out of the picture
    target = rng.uniform(0, 255, shape)

    def cost(u):
        dx, dy = gradient(u)
        return ((dx - gx) ** 2 + (dy - gy) ** 2 + weight * (u - target) ** 2).sum()

    rhs = poisson.screened(divergence(gx, gy), target, weight)
    u = poisson.solve(rhs, method=method, data_weight=weight, cycles=6).astype(numpy.float64)
    for change in (numpy.ones(shape), *rng.normal(size=(20, *shape)), *gradient(target)):
        change *= 0.1 / abs(change).max()
        assert cost(u) < min(cost(u + change), cost(u - change))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (9, 9), (12, 31), (61, 83), (400, 360)])
@pytest.mark.parametrize("method", poisson.METHODS)
def test_the_weight_fixes_the_mean(shape, method):
    rhs = screened_rhs(*shape, 0.01) + numpy.float32(2)
    u = poisson.solve(rhs, method=method, data_weight=0.01)
    assert u.mean(dtype=numpy.float64) == pytest.approx(-rhs.mean(dtype=numpy.float64) / 0.01, abs=1e-3)


def test_no_weight_is_the_limit_of_small_weights():
    rhs = scene_rhs(71, 90)
    rhs -= rhs.mean(dtype=numpy.float64).astype(numpy.float32)
    u = poisson.solve(rhs, data_weight=1e-9)
    u -= u.mean(dtype=numpy.float64).astype(numpy.float32)
    numpy.testing.assert_allclose(u, poisson.solve(rhs), atol=2e-3)


@pytest.mark.parametrize("shape", MEDIUM)
def test_medium_sizes_within_the_limit(shape):
    rhs = numpy.stack([scene_rhs(*shape, seed) for seed in range(3)])
    expected = cosine_solution(rhs)
    assert abs(poisson.solve(rhs) - expected).max() < LIMIT
    numpy.testing.assert_allclose(poisson.solve(rhs, method="dct"), expected, atol=5e-3)


@pytest.mark.parametrize("shape", [(593, 800), (1025, 515), (1080, 1920), (2160, 3840)])
def test_large_sizes_within_the_limit(shape):
    rhs = scene_rhs(*shape)
    direct = poisson.solve(rhs, method="dct")
    assert abs(poisson.solve(rhs) - direct).max() < LIMIT


@pytest.mark.parametrize("kind", ["noise", "point", "step", "smooth"])
def test_hard_right_hand_sides(kind):
    height, width = 191, 255
    if kind == "noise":  # no picture has such gradients everywhere
        rng = numpy.random.default_rng(3)
        rhs = divergence(*rng.normal(0, 30, (2, height, width)) * [[[1]], [[1]]])
        rhs -= rhs.mean()
    elif kind == "point":
        rhs = numpy.zeros((height, width))
        rhs[0, 0], rhs[-1, -1] = 255, -255
    elif kind == "step":
        rhs = poisson.laplacian(numpy.where(numpy.arange(width) > 100, 255.0, 0.0) * numpy.ones((height, 1)))
    else:
        y, x = numpy.mgrid[:height, :width]
        rhs = poisson.laplacian(
            127 * numpy.cos(numpy.pi * (x + 0.5) / width) * numpy.cos(numpy.pi * (y + 0.5) / height)
        )
    rhs = rhs.astype(numpy.float32)
    assert abs(poisson.solve(rhs) - cosine_solution(rhs)).max() < LIMIT


@pytest.mark.data
@pytest.mark.parametrize(
    "camera", sorted(path.parent.name for path in DATA.glob("amos/*/pair_day.jpg")) or [None]
)
def test_real_pairs_within_the_limit(camera):
    if camera is None:
        pytest.skip(f"no real pairs in {DATA}: set GPUFUSE_DATA")
    image = pytest.importorskip("PIL.Image")
    folder = DATA / "amos" / camera
    day, night = (
        numpy.asarray(image.open(folder / f"pair_{k}.jpg"), numpy.float64) for k in ("day", "night")
    )
    sizes = [numpy.hypot(*gradient(picture.max(axis=2))) for picture in (day, night)]
    importance = (sizes[1] > sizes[0]).astype(float)
    rhs = numpy.stack([mixed(day[..., c], night[..., c], importance) for c in range(3)])
    assert abs(poisson.solve(rhs) - poisson.solve(rhs, method="dct")).max() < LIMIT


@pytest.mark.parametrize(
    "shape", [(128, 128), (256, 512), (251, 333), (257, 129), (2, 1024), (997, 3), (5, 700), (449, 65)]
)
def test_convergence_factor_does_not_depend_on_size(shape):
    rhs = scene_rhs(*shape)
    expected = cosine_solution(rhs)
    errors = [numpy.sqrt(((poisson.solve(rhs, cycles=c) - expected) ** 2).mean()) for c in range(4)]
    for before, after in itertools.pairwise(errors):
        # float32 leaves an error that no cycle removes, and that grows with the length.
        assert after < max(FACTOR * before, 2e-5 * max(shape)), errors


def test_residual_shrinks_with_cycles():
    rhs = scene_rhs(101, 203)
    left = [float(poisson.residual_norm(poisson.solve(rhs, cycles=c), rhs)) for c in range(3)]
    assert left[0] > left[1] > left[2]


def test_restriction_is_the_adjoint_of_piecewise_constants():
    rng = numpy.random.default_rng(0)
    shape, half = (32, 48), (16, 24)
    f, e = rng.normal(size=shape).astype(numpy.float32), rng.normal(size=half).astype(numpy.float32)
    coarse_f = numpy.empty(half, numpy.float32)
    multigrid._restrict(0, half[0], f, coarse_f, numpy.empty(shape[1], numpy.float32))
    assert (coarse_f * e).sum() == pytest.approx((f * e.repeat(2, 0).repeat(2, 1)).sum(), rel=1e-4)


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (1, 300), (131, 1), (2, 301), (17, 1000)])
def test_restriction_keeps_the_sum(shape):
    f = numpy.random.default_rng(0).normal(size=shape).astype(numpy.float32)
    coarse_f = numpy.empty(tuple(hierarchy.plan(*shape).shape[1]), numpy.float32)
    multigrid._restrict(0, len(coarse_f), f, coarse_f, numpy.empty(shape[1], numpy.float32))
    assert coarse_f.sum(dtype=float) == pytest.approx(f.sum(dtype=float), abs=1e-3)


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (1, 300), (131, 1), (2, 301), (17, 1000)])
def test_interpolation_keeps_constants_and_ramps(shape):
    half = tuple(hierarchy.plan(*shape).shape[1])
    constant = interpolate(numpy.full(half, 7, numpy.float32), shape)
    numpy.testing.assert_allclose(constant, 7, rtol=2e-7)
    y, x = numpy.mgrid[: half[0], : half[1]].astype(numpy.float32)
    ramp = interpolate(3 * x - 2 * y, shape)
    fine_y, fine_x = (numpy.arange(n) / 2 - 0.25 if n > 2 else numpy.zeros(n) for n in shape)
    inner = tuple(
        slice(1, n - 5) if n > 5 else slice(0, n) for n in shape
    )  # the last cells have other centres
    expected = 3 * fine_x[None, :] - 2 * fine_y[:, None]
    numpy.testing.assert_allclose(ramp[inner], expected[inner], rtol=1e-6, atol=1e-4)


def test_restriction_is_proportional_to_the_adjoint_of_interpolation_in_the_mean():
    """Every coarse cell's correction weighs as much as its children: so corrections keep the mean."""
    shape = (16, 24)
    weights = [interpolate(cell.reshape(8, 12), shape).sum() for cell in numpy.eye(96, dtype=numpy.float32)]
    numpy.testing.assert_allclose(weights, 4, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("shape", [(40, 50), (41, 51), (2, 200), (200, 3)])
def test_relaxation_keeps_the_solution(shape, weight):
    u = numpy.random.default_rng(0).uniform(0, 255, shape).astype(numpy.float32)
    geometry = hierarchy.plan(*shape, weight)
    out, coarse = numpy.empty_like(u), numpy.zeros(tuple(geometry.shape[1]), numpy.float32)
    coarse_f = numpy.empty_like(coarse)
    steps = hierarchy.STEPS[hierarchy.MIDDLE]
    run_pass(
        geometry, u, coarse, poisson.laplacian(u, weight), steps, out, coarse_f,
        has_old=True, has_coarse=True, has_residual=True,
    )  # fmt: skip
    numpy.testing.assert_allclose(out, u, atol=2e-3)
    numpy.testing.assert_allclose(coarse_f, 0, atol=5e-3)


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("shape", [(64, 96), (129, 255), (97, 133), (254, 131), (1000, 1021)])
def test_relaxation_keeps_the_solution_on_coarser_levels(shape, weight):
    geometry = hierarchy.plan(*shape, weight)
    for depth in range(1, len(geometry.shape) - 1):
        size, below = (tuple(int(n) for n in geometry.shape[k]) for k in (depth, depth + 1))
        u = numpy.random.default_rng(0).uniform(-20, 20, size).astype(numpy.float32)
        f = applied(geometry, depth, u.astype(numpy.float64)).astype(numpy.float32)
        out, coarse, coarse_f = numpy.empty_like(u), numpy.zeros(below, numpy.float32), numpy.ones(below)
        coarse_f = coarse_f.astype(numpy.float32)
        run_pass(
            geometry, u, coarse, f, hierarchy.STEPS[hierarchy.UP], out, coarse_f,
            has_old=True, has_coarse=True, has_residual=True, depth=depth,
        )  # fmt: skip
        rounding = 2e-4 * max(1, geometry.mass[depth])
        numpy.testing.assert_allclose(out, u, atol=rounding)
        numpy.testing.assert_allclose(coarse_f, 0, atol=10 * rounding)


@pytest.mark.parametrize("shape", [(9, 13), (7, 18), (128, 1), (40, 81), (129, 255)])
def test_masses_add_up_to_the_weight_of_the_picture(shape):
    weight = 0.25
    geometry = hierarchy.plan(*shape, weight)
    for depth, mass in enumerate(geometry.mass):
        heights, widths = sides(geometry, depth)
        assert mass * heights.sum() * widths.sum() == pytest.approx(weight * shape[0] * shape[1])


@pytest.mark.parametrize("weight", [0.0, 1e-9, 1e-3, 0.5])
@pytest.mark.parametrize("shape", [(129, 255), (40, 82), (7, 9)])
def test_the_coarsest_inverse_inverts(shape, weight):
    """Constants too, where there are other levels and the mass is not tiny."""
    geometry = hierarchy.plan(*shape, weight)
    bottom = len(geometry.shape) - 1
    u = numpy.random.default_rng(0).normal(size=geometry.shape[bottom])
    area = numpy.outer(*sides(geometry, bottom)) if weight else numpy.ones_like(u)
    if bottom == 0 or weight < 1e-6:
        u -= (area * u).sum() / area.sum()
    found = geometry.inverse @ applied(geometry, bottom, u).ravel()
    numpy.testing.assert_allclose(found, u.ravel(), atol=1e-7)


@pytest.mark.parametrize("size", range(1, 70))
def test_every_halving_leaves_a_last_cell_of_about_one(size):
    count, last, length = size, 1.0, float(size)
    while count > 1:
        count, last = hierarchy._halve(count, last)
        length /= 2
        assert count - 1 + last == length
        assert 0.5 <= last < 1.5


@pytest.mark.parametrize("weight", [0.0, 0.003])
@pytest.mark.parametrize("shape", [(64, 64), (97, 133), (129, 67), (1, 700), (300, 3)])
def test_bits_do_not_depend_on_threads_or_on_the_other_planes(shape, weight, threads, monkeypatch):
    # So that small planes and levels are cut into bands too.
    monkeypatch.setattr(multigrid, "SERIAL_CELLS", 256)
    monkeypatch.setattr(multigrid, "BANDED_CELLS", 256)
    rhs = numpy.stack([scene_rhs(*shape, seed) for seed in range(5)]) + numpy.float32(0.3)
    threads(1)
    expected = poisson.solve(rhs, data_weight=weight)
    for count in (2, 3, 4, 7):
        threads(count)
        numpy.testing.assert_array_equal(poisson.solve(rhs, data_weight=weight), expected)
        numpy.testing.assert_array_equal(poisson.solve(rhs[3], data_weight=weight), expected[3])


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize("method", poisson.METHODS)
def test_solving_a_laplacian_returns_the_picture(method, weight):
    u = numpy.random.default_rng(0).uniform(0, 255, (2, 3, 61, 83)).astype(numpy.float32)
    expected = u if weight else u - u.mean(axis=(-2, -1), keepdims=True)
    found = poisson.solve(poisson.laplacian(u, weight), method=method, data_weight=weight)
    numpy.testing.assert_allclose(found, expected, atol=LIMIT)


@pytest.mark.parametrize("method", poisson.METHODS)
def test_linear(method):
    a, b = scene_rhs(90, 120, 1), scene_rhs(90, 120, 2)
    both = poisson.solve(2 * a - 3 * b, method=method)
    apart = 2 * poisson.solve(a, method=method) - 3 * poisson.solve(b, method=method)
    numpy.testing.assert_allclose(both, apart, atol=5e-3)


@pytest.mark.parametrize("shape", [(40, 50), (41, 51), (1, 300), (300, 1), (9, 9)])
@pytest.mark.parametrize("method", poisson.METHODS)
def test_a_mean_without_solution_is_taken_out(shape, method):
    rhs = scene_rhs(*shape)
    u = poisson.solve(rhs + numpy.float32(50), method=method)
    assert abs(u - cosine_solution(rhs)).max() < LIMIT
    assert abs(u.mean(dtype=numpy.float64)) < 1e-3


def test_transposed_and_mirrored_pictures():
    rhs = scene_rhs(75, 110)
    u = poisson.solve(rhs)
    numpy.testing.assert_allclose(poisson.solve(rhs.T), u.T, atol=2 * LIMIT)
    numpy.testing.assert_allclose(poisson.solve(rhs[::-1, ::-1]), u[::-1, ::-1], atol=2 * LIMIT)


@pytest.mark.parametrize("method", poisson.METHODS)
def test_any_layout_and_no_write_into_the_argument(method):
    rhs = scene_rhs(60, 90)
    expected = poisson.solve(rhs, method=method)
    big_endian = rhs.astype(">f4")
    strided = numpy.zeros((120, 180), numpy.float32)[::2, ::2]
    strided[...] = rhs
    fortran = numpy.asfortranarray(rhs)
    wide = rhs.astype(numpy.float64)
    for form in (rhs, big_endian, strided, fortran, wide):
        form.setflags(write=False)
        result = poisson.solve(form, method=method)
        assert result.dtype == numpy.float32
        assert result.flags.writeable
        numpy.testing.assert_array_equal(result, expected)
        numpy.testing.assert_array_equal(form, rhs)


def test_any_leading_axes():
    rhs = numpy.stack([scene_rhs(20, 30, seed) for seed in range(4)])
    expected = poisson.solve(rhs)
    numpy.testing.assert_array_equal(poisson.solve(rhs.reshape(2, 1, 2, 20, 30)).reshape(4, 20, 30), expected)
    numpy.testing.assert_array_equal(poisson.solve(rhs[2]), expected[2])
    for method in poisson.METHODS:
        assert poisson.solve(rhs[:0], method=method).shape == (0, 20, 30)


def test_laplacian_and_residual():
    u = numpy.random.default_rng(0).normal(size=(3, 7, 9))
    for plane, expected in zip(poisson.laplacian(u), u, strict=True):
        numpy.testing.assert_allclose(plane, divergence(*gradient(expected)), atol=1e-12)
    rhs = numpy.random.default_rng(1).normal(size=u.shape)
    left = poisson.residual(u, rhs)
    numpy.testing.assert_allclose(left + poisson.laplacian(u), rhs)
    norm = poisson.residual_norm(u, rhs)
    assert norm.shape == (3,)
    numpy.testing.assert_allclose(norm, [abs(plane - plane.mean()).max() for plane in left])
    numpy.testing.assert_allclose(poisson.laplacian(u, 0.1), poisson.laplacian(u) - 0.1 * u)
    numpy.testing.assert_allclose(poisson.residual(u, rhs, 0.1), left + 0.1 * u)
    norm = poisson.residual_norm(u, rhs, 0.1)  # the mean is part of it
    numpy.testing.assert_allclose(norm, abs(left + 0.1 * u).max(axis=(1, 2)))


def test_residual_of_other_shape():
    with pytest.raises(ValueError, match=r"rhs: expected shape \(2, 3\) as the image, got \(3, 2\)"):
        poisson.residual(numpy.zeros((2, 3)), numpy.zeros((3, 2)))


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 1), 1), ((2, 3), 4), ((4, 4), 4), ((5, 4), 8), ((240, 320), 512)]
)
def test_padding_to_a_square(shape, side):
    image = numpy.random.default_rng(0).integers(0, 255, (2, *shape)).astype(numpy.uint8)
    padded, crop = poisson.pad_to_square(image)
    assert padded.shape == (2, side, side)
    assert padded.dtype == numpy.uint8
    numpy.testing.assert_array_equal(padded[crop], image)
    numpy.testing.assert_array_equal(padded[:, shape[0] - 1 :, : shape[1]].min(1), image[:, -1])
    numpy.testing.assert_array_equal(padded[:, :, shape[1] - 1 :].max(2)[:, : shape[0]], image[:, :, -1])


def test_padding_needs_an_image():
    with pytest.raises(ValueError, match=r"image: expected shape \(..., H, W\), got \(0, 3\)"):
        poisson.pad_to_square(numpy.zeros((0, 3)))


def test_wrong_arguments():
    rhs = numpy.zeros((4, 5), numpy.float32)
    with pytest.raises(ValueError, match="method: expected 'multigrid' or 'dct', got 'fft'"):
        poisson.solve(rhs, method="fft")
    with pytest.raises(ValueError, match="cycles: expected 0 or more, got -1"):
        poisson.solve(rhs, cycles=-1)
    for weight in (-1e-9, numpy.nan, numpy.inf, 2e6):
        with pytest.raises(ValueError, match="data_weight: expected 0 to 1e6, got"):
            poisson.solve(rhs, data_weight=weight)
        with pytest.raises(ValueError, match="data_weight: expected 0 to 1e6, got"):
            poisson.screened(rhs, rhs, weight)
    with pytest.raises(ValueError, match=r"rhs: expected shape \(..., H, W\), got \(5,\)"):
        poisson.solve(rhs[0])
    with pytest.raises(ValueError, match="rhs: expected finite"):
        poisson.solve(rhs + numpy.nan)
    with pytest.raises(ValueError, match=r"rhs: expected shape \(..., H, W\), got \(0, 5\)"):
        poisson.solve(rhs[:0])
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        poisson.solve([[1.0, 2.0]])


@pytest.mark.parametrize("shape", [(4, 5), (1, 30), (2, 90), (61, 83), (400, 360)])
@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("method", poisson.METHODS)
@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_one_pixel_that_is_not_finite_is_refused(shape, value, method, weight):
    rhs = numpy.zeros((3, *shape), numpy.float32)
    rhs[1, shape[0] // 2, shape[1] // 3] = value
    with pytest.raises(ValueError, match="rhs: expected finite grey levels, got NaN or infinity"):
        poisson.solve(rhs, method=method, data_weight=weight)
