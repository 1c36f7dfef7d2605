"""The 3D SUSAN filter against float64."""

import itertools

import numpy
import oracles
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse import denoise

SHAPES = [(5, 3, 37, 61), (1, 1, 1, 1), (2, 3, 1, 7), (3, 1, 5, 1), (1, 3, 2, 2), (7, 1, 11, 3)]
CONTENTS = ["noise", "edges", "outliers"]


def clip(kind, shape, seed=0):
    rng = numpy.random.default_rng(seed)
    if kind == "noise":
        frames = 90 + rng.normal(0, 12, shape)
    elif kind == "edges":
        y, x = numpy.mgrid[: shape[-2], : shape[-1]]
        frames = numpy.where((x // 4 + y // 3) % 2, 200.0, 40.0) + rng.normal(0, 3, shape)
    else:  # isolated samples like nothing around them: the sum of weights vanishes
        frames = 30 + rng.normal(0, 2, shape)
        frames[rng.random(shape) < 0.02] = 250
        frames.flat[0] = 250
    return frames.clip(0, 255).astype(numpy.float32)


def assert_close(found, frames, sigma=15.0, threshold=20.0):
    expected, weights = oracles.susan3d(frames, sigma, threshold)
    clear = abs(weights / oracles.EMPTY_USAN - 1) > tolerances.SUSAN_EMPTY_BAND
    assert clear.mean() > 0.99
    assert abs(found - expected)[clear].max() <= tolerances.SUSAN_LEVELS
    return weights


def test_the_two_forms_of_the_oracle_agree():
    frames = clip("noise", (4, 2, 3, 5))
    expected, _ = oracles.susan3d(frames, 1.5, 9.0)
    for place in numpy.ndindex(*frames.shape):
        assert oracles.susan3d_sample(frames, *place, 1.5, 9.0) == pytest.approx(expected[place], abs=1e-9)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_oracle(kind, shape):
    frames = clip(kind, shape)
    found = denoise.susan3d(frames)
    assert found.shape == shape
    assert found.dtype == numpy.float32
    weights = assert_close(found, frames)
    if kind == "outliers" and shape == SHAPES[0]:
        assert (weights < oracles.EMPTY_USAN).sum() > 100, "the median must have been needed"


@pytest.mark.parametrize("threshold", [0.5, 3.0, 7.5, 60.0, 1e4, numpy.inf])
@pytest.mark.parametrize("kind", CONTENTS)
def test_thresholds(kind, threshold):
    frames = clip(kind, (4, 2, 13, 17))
    if threshold < 1:
        frames = numpy.rint(frames)  # equal or far apart: no sum of weights is near the limit
    assert_close(denoise.susan3d(frames, threshold=threshold), frames, threshold=threshold)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7, 2.0, 1e3, numpy.inf])
def test_sigmas(sigma):
    frames = clip("noise", (4, 2, 13, 17))
    assert_close(denoise.susan3d(frames, sigma=sigma), frames, sigma=sigma)


def test_without_similar_neighbours_the_median_is_taken():
    frames = numpy.full((5, 1, 3, 3), 10.0, numpy.float32)
    frames[2, 0] += numpy.arange(9).reshape(3, 3)
    frames[2, 0, 1, 1] = 250
    assert denoise.susan3d(frames)[2, 0, 1, 1] == 14  # of 10 11 12 13 | 15 16 17 18


@pytest.mark.parametrize("value", [0.0, 77.7, 255.0])
def test_constants_are_fixed(value):
    frames = numpy.full((3, 2, 5, 7), value, numpy.float32)
    numpy.testing.assert_array_equal(denoise.susan3d(frames, passes=3), frames)


@pytest.mark.parametrize("kind", CONTENTS)
def test_within_the_neighbourhood(kind):
    frames = clip(kind, (5, 2, 19, 23))
    padded = numpy.pad(frames, ((2, 2), (0, 0), (1, 1), (1, 1)), mode="edge")
    around = numpy.array(
        [
            padded[2 + dt : 7 + dt, :, 1 + dy : 20 + dy, 1 + dx : 24 + dx]
            for dt, dy, dx in oracles.BLOCK
            if (dt, dy, dx) != (0, 0, 0)
        ]
    )
    found = denoise.susan3d(frames)
    assert (found >= around.min(axis=0) - tolerances.FLOAT32_LEVELS).all()
    assert (found <= around.max(axis=0) + tolerances.FLOAT32_LEVELS).all()


def test_adding_a_constant_commutes():
    frames = numpy.rint(clip("noise", (4, 1, 15, 16)))
    moved = denoise.susan3d(frames + 50)
    numpy.testing.assert_allclose(moved, denoise.susan3d(frames) + 50, atol=tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("axis", [0, 2, 3])
def test_flips_commute(kind, axis):
    frames = numpy.rint(clip(kind, (5, 2, 14, 19)))
    found = denoise.susan3d(numpy.flip(frames, axis))
    expected = numpy.flip(denoise.susan3d(frames), axis)
    numpy.testing.assert_allclose(found, expected, atol=tolerances.SUSAN_SYMMETRY_LEVELS)


@pytest.mark.parametrize("kind", CONTENTS)
def test_transposition_commutes(kind):
    frames = numpy.rint(clip(kind, (5, 2, 14, 19)))
    found = denoise.susan3d(frames.swapaxes(2, 3)).swapaxes(2, 3)
    numpy.testing.assert_allclose(found, denoise.susan3d(frames), atol=tolerances.SUSAN_SYMMETRY_LEVELS)


def test_channels_do_not_mix():
    frames = clip("edges", (4, 3, 9, 11))
    together = denoise.susan3d(frames)
    for c in range(3):
        numpy.testing.assert_array_equal(denoise.susan3d(frames[:, c : c + 1]), together[:, c : c + 1])


@pytest.mark.parametrize("passes", [0, 1, 2, 3])
def test_passes_are_repetitions(passes):
    frames = clip("noise", (5, 1, 9, 10))
    expected = frames
    for _ in range(passes):
        expected = denoise.susan3d(expected)
    found = denoise.susan3d(frames, passes=passes)
    numpy.testing.assert_array_equal(found, expected)
    assert not numpy.shares_memory(found, frames)


def test_noise_falls_and_edges_stay():
    frames = clip("edges", (9, 1, 24, 32))
    clean = numpy.where(frames > 120, 200.0, 40.0)
    before, after = (abs(v - clean).std() for v in (frames, denoise.susan3d(frames)))
    assert after < before / 3


@settings(derandomize=True, deadline=None, max_examples=30)
@given(count=st.integers(1, 12), cuts=st.sets(st.integers(1, 11)))
def test_pieces_with_halos_give_equal_bits(count, cuts):
    frames = clip("outliers", (count, 2, 6, 7))
    expected = denoise.susan3d(frames)
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    halo = denoise.TEMPORAL_HALO
    for start, stop in itertools.pairwise(edges):
        low, high = max(0, start - halo), min(count, stop + halo)
        found = denoise.susan3d_pass(frames[low:high], start - low, stop - low, sigma=15.0, threshold=20.0)
        numpy.testing.assert_array_equal(found, expected[start:stop])


def test_a_list_of_frames_gives_equal_bits():
    frames = clip("outliers", (6, 3, 11, 70))
    options = {"sigma": 15.0, "threshold": 20.0}
    expected = denoise.susan3d_pass(frames, 1, 5, **options)
    numpy.testing.assert_array_equal(denoise.susan3d_pass(list(frames), 1, 5, **options), expected)
    kinds = [frame.copy() for frame in frames]  # frames of chunks that are not all of one kind
    kinds[0].flags.writeable = False
    kinds[2] = numpy.asfortranarray(kinds[2])
    numpy.testing.assert_array_equal(denoise.susan3d_pass(kinds, 1, 5, **options), expected)


def test_vectors_are_as_wide_as_they_are_asked_to_be():
    """The attribute that asks for them is no public word of llvmlite: it must still be written down."""
    from numba import njit

    from gpufuse.kernels_cpu._compile import wide_vectors

    @njit
    def narrow(values):
        return values.sum()

    @njit
    def wide(values):
        wide_vectors()
        return values.sum()

    for function, expected in ((narrow, False), (wide, True)):
        assert function(numpy.arange(4.0)) == 6
        (code,) = function.inspect_llvm().values()
        assert ('"prefer-vector-width"="512"' in code) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_bits_do_not_depend_on_threads(threads, count):
    frames = clip("outliers", (3, 3, 37, 61))
    threads(1)
    expected = denoise.susan3d(frames, passes=2)
    threads(count)
    numpy.testing.assert_array_equal(denoise.susan3d(frames, passes=2), expected)


def test_any_layout_and_no_write_into_the_argument():
    frames = clip("noise", (3, 2, 7, 9))
    expected = denoise.susan3d(frames)
    strided = numpy.zeros((6, 4, 14, 18), numpy.float32)[::2, ::2, ::2, ::2]
    strided[...] = frames
    for form in (frames, strided, frames.astype(">f4"), numpy.asfortranarray(frames), frames.astype("f8")):
        form.flags.writeable = False
        kept = form.tobytes()
        numpy.testing.assert_array_equal(denoise.susan3d(form), expected)
        assert form.tobytes() == kept


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_nothing_to_filter(shape):
    assert denoise.susan3d(numpy.empty(shape, numpy.float32)).shape == shape


@pytest.mark.parametrize("name", ["sigma", "threshold"])
@pytest.mark.parametrize("value", [0, -1.0, numpy.nan])
def test_parameters_out_of_range(name, value):
    frames = numpy.zeros((1, 1, 2, 2), numpy.float32)
    with pytest.raises(
        ValueError, match=f"{name}: expected a number of .* from 0.*, got {value}; the default"
    ):
        denoise.susan3d(frames, **{name: value})


@pytest.mark.parametrize("passes", [-1, 1.5])
def test_passes_out_of_range(passes):
    with pytest.raises(ValueError, match=f"passes: expected a whole number from 0, got {passes}"):
        denoise.susan3d(numpy.zeros((1, 1, 2, 2), numpy.float32), passes=passes)


def test_thresholds_far_below_rounding():
    frames = numpy.full((5, 1, 3, 3), 5.0, numpy.float32)
    frames[2, 0, 1, 1] = 9
    assert (denoise.susan3d(frames, threshold=0.001)[2] == 5).all()
    with pytest.raises(ValueError, match=r"threshold: expected a number .* from 0\.001, got 1e-25"):
        denoise.susan3d(frames, threshold=1e-25)


def test_wrong_frames():
    with pytest.raises(ValueError, match=r"frames: expected shape \(T, C, H, W\), got \(3, 4\)"):
        denoise.susan3d(numpy.zeros((3, 4)))
    with pytest.raises(ValueError, match="frames: expected finite grey levels"):
        denoise.susan3d(numpy.full((1, 1, 2, 2), numpy.nan))
    with pytest.raises(TypeError, match="got list"):
        denoise.susan3d([[0]])
