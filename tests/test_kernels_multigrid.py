"""The CUDA twin of multigrid: against the CPU twin and the direct solution, on levels of every kind."""

import numpy
import pytest

from gpufuse import hierarchy, poisson
from gpufuse.kernels_cpu import multigrid as cpu
from gpufuse.kernels_cuda import multigrid as cuda

TWIN_LEVELS = 0.02
"""Same method; fused multiply-adds differ, and a thin plane's rounding grows with its length squared."""

SHAPES = [
    (2, 2), (2, 3), (7, 5), (8, 16),  # one level, or two
    (12, 12), (16, 17), (37, 61), (64, 96), (61, 64),
    (130, 250),  # two levels outside the block
    (132, 264),  # a warp reads beyond a coarser level whose rows are padded
    (121, 245), (129, 361), (257, 123),  # last columns that are narrow, wide, merged from three
    (240, 320),
    (67, 2), (2, 211), (5, 333),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_memory_kept():
    """Workspaces belong to the module that a test calls CuPy."""
    cuda.release()
    yield
    cuda.release()


def pictures(shape, planes=2, seed=1):
    rng = numpy.random.default_rng(seed)
    steps = numpy.cumsum(rng.normal(0, 20, (planes, *shape)), axis=-1)
    steps += numpy.cumsum(rng.normal(0, 20, (planes, *shape)), axis=-2)
    return steps.clip(-255, 255).astype(numpy.float32)


def solved(cp, rhs, cycles=poisson.CYCLES, weight=0.0):
    out = cuda.solve(cp.asarray(rhs), cycles, weight)
    assert isinstance(out, cp.ndarray)
    return cp.asnumpy(out)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_cpu_twin(cp, shape):
    rhs = poisson.laplacian(pictures(shape))
    numpy.testing.assert_allclose(solved(cp, rhs), cpu.solve(rhs, 2), rtol=0, atol=TWIN_LEVELS)


@pytest.mark.parametrize("weight", [1e-4, 0.03, 1.0, 1e6])
@pytest.mark.parametrize("shape", [(2, 3), (12, 12), (37, 61), (64, 96), (121, 245), (257, 123), (67, 2)])
def test_equals_the_cpu_twin_with_a_data_weight(cp, shape, weight):
    u = pictures(shape)
    rhs = poisson.screened(poisson.laplacian(u), u[::-1] + numpy.float32(90), weight)
    found = solved(cp, rhs, weight=weight)
    numpy.testing.assert_allclose(found, cpu.solve(rhs, 2, weight), rtol=0, atol=TWIN_LEVELS)


@pytest.mark.parametrize("cycles", [0, 1, 4])
@pytest.mark.parametrize("weight", [0.01, 10.0])
def test_equals_the_cpu_twin_with_a_data_weight_for_any_number_of_cycles(cp, weight, cycles):
    rhs = poisson.laplacian(pictures((70, 132)), weight) + numpy.float32(3 * weight)
    found = solved(cp, rhs, cycles, weight)
    numpy.testing.assert_allclose(found, cpu.solve(rhs, cycles, weight), rtol=0, atol=TWIN_LEVELS)


@pytest.mark.parametrize(("shape", "weight"), [((130, 252), 0.1), ((121, 245), 1e-3), ((37, 61), 0.01)])
def test_more_cycles_reach_the_direct_solution_of_the_screened_equation(cp, shape, weight):
    rhs = poisson.laplacian(pictures(shape)) - numpy.float32(weight * 100)
    exact = poisson.solve(rhs, method="dct", data_weight=weight)
    errors = [abs(solved(cp, rhs, cycles, weight) - exact).max() for cycles in (0, 2, 4)]
    assert errors[0] > 7 * errors[1] > 49 * errors[2]


@pytest.mark.parametrize("cycles", [0, 1, 3, 4])
def test_equals_the_cpu_twin_for_any_number_of_cycles(cp, cycles):
    rhs = poisson.laplacian(pictures((70, 132)))
    numpy.testing.assert_allclose(solved(cp, rhs, cycles), cpu.solve(rhs, cycles), rtol=0, atol=TWIN_LEVELS)


@pytest.mark.parametrize("shape", [(37, 61), (130, 252), (121, 245)])
def test_more_cycles_reach_the_direct_solution(cp, shape):
    rhs = poisson.laplacian(pictures(shape))
    exact = poisson.solve(rhs, method="dct")
    errors = [abs(solved(cp, rhs, cycles) - exact).max() for cycles in (0, 2, 4)]
    # A cycle divides the error by several: by 7 at least over two.
    assert errors[0] > 7 * errors[1] > 49 * errors[2]


@pytest.mark.parametrize("shape", [(16, 17), (121, 245), (240, 320)])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_the_mean_is_zero_and_a_mean_of_the_right_hand_side_is_taken_out(cp, shape, mean):
    rhs = poisson.laplacian(pictures(shape)) + numpy.float32(mean)
    found = solved(cp, rhs)
    assert abs(found.mean(axis=(1, 2), dtype=numpy.float64)).max() < 1e-3
    numpy.testing.assert_allclose(found, cpu.solve(rhs, 2), rtol=0, atol=TWIN_LEVELS)


@pytest.mark.parametrize("shape", [(37, 61), (121, 245), (96, 256)])
def test_a_plane_alone_gives_the_same_bits(cp, shape):
    rhs = poisson.laplacian(pictures(shape, planes=5))
    together = solved(cp, rhs)
    for plane in (0, 3, 4):
        numpy.testing.assert_array_equal(solved(cp, rhs[plane : plane + 1]), together[plane : plane + 1])


def test_other_weights_between_do_not_matter(cp):
    """What is kept from call to call goes by the weight too."""
    rhs = poisson.laplacian(pictures((41, 66), planes=1))
    weights = (0.0, 0.01, 0.0, 0.2, 0.01, 0.01)
    results = [(weight, solved(cp, rhs, weight=weight)) for weight in weights]
    for weight, result in results:
        cuda.release()
        numpy.testing.assert_array_equal(result, solved(cp, rhs, weight=weight))


@pytest.mark.parametrize(
    ("shape", "rows", "weight"),
    [
        ((121, 245), 1, 0.0), ((121, 245), 5, 0.0), ((121, 245), 1000, 0.0), ((92, 256), 3, 0.0),
        ((121, 245), 5, 0.05), ((92, 256), 3, 0.05),
    ],
)  # fmt: skip
def test_nothing_depends_on_segments(cp, shape, rows, weight, monkeypatch):
    """A halo that is one row or column short shows here."""
    rhs = poisson.laplacian(pictures(shape))
    expected = solved(cp, rhs, weight=weight)
    cuda.release()
    monkeypatch.setattr(cuda, "_FEWEST_ROWS", rows)
    monkeypatch.setattr(cuda, "_MOST_ROWS", rows)
    numpy.testing.assert_array_equal(solved(cp, rhs, weight=weight), expected)


@pytest.mark.parametrize("shape", [(64, 96), (121, 245), (97, 131), (300, 3), (2, 301)])
@pytest.mark.parametrize("block_bytes", [2048, 8000])
def test_any_level_may_be_the_first_of_the_block(cp, shape, block_bytes, monkeypatch):
    rhs = poisson.laplacian(pictures(shape))
    monkeypatch.setattr(cuda, "BLOCK_BYTES", block_bytes)
    for weight in (0.0, 0.02):
        found, expected = solved(cp, rhs, weight=weight), cpu.solve(rhs, 2, weight)
        numpy.testing.assert_allclose(found, expected, rtol=0, atol=TWIN_LEVELS)


def test_rows_that_are_not_aligned(cp):
    """Four columns are read at once: from a copy, where a picture does not begin at a multiple of 16 bytes."""
    rhs = poisson.laplacian(pictures((32, 64)))
    flat = cp.empty(rhs.size + 1, numpy.float32)
    flat[1:] = cp.asarray(rhs.ravel())
    shifted = flat[1:].reshape(rhs.shape)
    assert shifted.data.ptr % 16
    numpy.testing.assert_array_equal(cp.asnumpy(cuda.solve(shifted, 2)), solved(cp, rhs))


def test_the_input_is_not_changed(cp):
    for shape in [(64, 96), (37, 61)]:
        rhs = cp.asarray(poisson.laplacian(pictures(shape)))
        before = cp.asnumpy(rhs)
        cuda.solve(rhs, 2)
        numpy.testing.assert_array_equal(cp.asnumpy(rhs), before)


@pytest.mark.parametrize("shape", [(130, 252), (37, 61)])
def test_launches_are_replayed_as_a_graph(cp, shape):
    first, second = (poisson.laplacian(pictures(shape, seed=seed)) for seed in (1, 2))
    space = cuda._Workspace(cp, 2, *shape, 2)
    pitch = space.levels[0].pitch
    source, out = cp.zeros((2, shape[0], pitch), numpy.float32), cp.empty((2, shape[0], pitch), numpy.float32)
    graphs = []
    for rhs in (first, second, first, second):
        source[..., : shape[1]] = cp.asarray(rhs)
        space._replay(source, out)
        graphs += [graph for graph in space.graphs.values() if graph is not None]
        numpy.testing.assert_array_equal(cp.asnumpy(out)[..., : shape[1]], solved(cp, rhs))
    assert len(graphs) == 3  # not the first time
    assert graphs[0] is graphs[1] is graphs[2]


def test_few_graphs_are_kept(cp):
    space = cuda._Workspace(cp, 1, 8, 8, 2)
    rhs = cp.zeros((1, 8, 8), numpy.float32)
    for out in [cp.empty((1, 8, 8), numpy.float32) for _ in range(cuda._GRAPHS_KEPT + 3)]:
        space._replay(rhs, out)
        space._replay(rhs, out)
    assert len(space.graphs) == cuda._GRAPHS_KEPT


@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 40), (3, 33, 1), (1, 1), (2, 9), (3, 31, 90), (0, 8, 9), (2, 0, 70, 64)]
)
@pytest.mark.parametrize("method", poisson.METHODS)
@pytest.mark.parametrize("weight", [0.0, 1e-7, 0.01])
def test_the_stage(cp, shape, method, weight):
    rhs = poisson.laplacian(pictures(shape[-2:], planes=int(numpy.prod(shape[:-2]))).reshape(shape), weight)
    found = poisson.solve(cp.asarray(rhs), method=method, data_weight=weight)
    assert isinstance(found, cp.ndarray)
    assert found.shape == shape
    assert found.dtype == numpy.float32
    numpy.testing.assert_allclose(
        cp.asnumpy(found),
        poisson.solve(rhs, method=method, data_weight=weight),
        rtol=0,
        atol=TWIN_LEVELS,
    )


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_values_that_are_not_finite(cp, value):
    rhs = numpy.zeros((2, 40, 50), numpy.float32)
    rhs[1, 20, 30] = value
    with pytest.raises(ValueError, match="rhs: expected finite grey levels, got NaN or infinity"):
        poisson.solve(cp.asarray(rhs))
    poisson.solve(cp.asarray(rhs), check_values=False)


def test_the_block_takes_levels_of_64x64_and_below():
    for height, width in [(128, 128), (1080, 1920), (127, 129), (1079, 1919), (240, 320)]:
        shape = hierarchy.plan(height, width)
        cut = next(k for k in range(1, 20) if cuda._block_bytes(shape, k) <= cuda.BLOCK_BYTES)
        cells = shape.shape.prod(axis=1)
        assert cells[cut] <= 4400
        assert cells[cut - 1] > 4096


def exercise(cp):
    cuda.release()
    for shape in [(37, 61), (121, 245), (96, 256), (8, 8), (123, 241)]:
        rhs = cp.asarray(poisson.laplacian(pictures(shape, planes=1)))
        poisson.solve(rhs, check_values=False)
    cuda.release()
