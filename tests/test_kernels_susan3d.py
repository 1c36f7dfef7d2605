"""The CUDA twin of the 3D SUSAN filter against float64 and against the CPU twin."""

import itertools

import numpy
import oracles
import pytest
import tolerances
from test_denoise import clip

from gpufuse import denoise
from gpufuse.kernels_cuda import susan

LEVELS = 0.001
"""Float32 throughout: sums of 44 terms, 2^x within 2^-22, an exponent of -20 rounded to 2^-20 where the sum of
weights is barely above 1e-6. The promise of `denoise.susan3d`; the emulator, whose 2^x is exact, is five times
nearer."""

EMPTY_BAND = 1e-3
"""Relative distance of a sum of weights from 1e-6 within which float32 may decide otherwise than float64."""

SHAPES = [
    (7, 3, 37, 67),  # several tiles of 64 x 8, none of them full on the right and below
    (1, 1, 1, 1),
    (2, 3, 1, 7),
    (3, 1, 5, 1),
    (1, 3, 2, 2),
    (4, 1, 1, 131),
    (4, 1, 19, 1),
    (3, 2, 8, 64),  # one tile
    (2, 1, 9, 65),
    (6, 1, 23, 129),
]


def filtered(cp, frames, **parameters):
    found = denoise.susan3d(cp.asarray(frames), **parameters)
    assert isinstance(found, cp.ndarray)
    assert found.shape == frames.shape
    assert found.dtype == numpy.float32
    return cp.asnumpy(found)


def assert_close(found, frames, sigma=15.0, threshold=20.0):
    expected, weights = oracles.susan3d(frames, sigma, threshold)
    clear = abs(weights / oracles.EMPTY_USAN - 1) > EMPTY_BAND
    assert clear.mean() > 0.99
    assert abs(found - expected)[clear].max() <= LEVELS
    return weights


def exercise(cp):
    """Reach every line of the kernel, the medians included."""
    filtered(cp, clip("outliers", (3, 2, 9, 65)))


@pytest.fixture
def segments(monkeypatch):
    """Setter of the number of frames that a block filters."""
    return lambda length: monkeypatch.setattr(susan, "_segment", lambda *sizes: length)


@pytest.mark.parametrize("kind", ["noise", "edges", "outliers"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_oracle_and_the_cpu_twin(cp, kind, shape):
    frames = clip(kind, shape)
    found = filtered(cp, frames)
    weights = assert_close(found, frames)
    if kind == "outliers" and shape == SHAPES[0]:
        assert (weights < oracles.EMPTY_USAN).sum() > 100, "the median must have been needed"
    clear = abs(weights / oracles.EMPTY_USAN - 1) > tolerances.SUSAN_EMPTY_BAND
    assert abs(found - denoise.susan3d(frames))[clear].max() <= tolerances.SUSAN_LEVELS


@pytest.mark.parametrize("threshold", [0.001, 0.5, 3.0, 7.5, 60.0, 1e4, numpy.inf])
@pytest.mark.parametrize("kind", ["noise", "edges", "outliers"])
def test_thresholds(cp, kind, threshold):
    frames = clip(kind, (4, 2, 13, 17))
    if threshold < 1:
        frames = numpy.rint(frames)  # equal or far apart: no sum of weights is near the limit
    assert_close(filtered(cp, frames, threshold=threshold), frames, threshold=threshold)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 0.7, 2.0, 1e3, numpy.inf])
def test_sigmas(cp, sigma):
    frames = clip("noise", (4, 2, 13, 17))
    assert_close(filtered(cp, frames, sigma=sigma), frames, sigma=sigma)


@pytest.mark.parametrize("place", list(itertools.product((6, 7, 8), (62, 63, 64, 65))))
def test_without_similar_neighbours_the_median_is_taken(cp, place):
    y, x = place  # in each sample of a thread, and on both sides of the borders of tiles
    frames = numpy.full((5, 1, 17, 129), 10.0, numpy.float32)
    frames[2, 0, y - 1 : y + 2, x - 1 : x + 2] += numpy.array([[3, 0, 8], [1, 9, 7], [5, 6, 2]])
    frames[2, 0, y, x] = 250
    # of 10 11 12 13 | 15 16 17 18
    assert filtered(cp, frames)[2, 0, y, x] == pytest.approx(14, abs=tolerances.FLOAT32_LEVELS)


def test_the_median_of_equal_values_and_at_corners(cp):
    frames = numpy.zeros((1, 1, 2, 3), numpy.float32)
    frames[0, 0] = [[250, 10, 90], [20, 10, 170]]
    # Around the corner: 250 250 10 | 250 10 | 20 20 10, where its own replica is like it.
    assert filtered(cp, frames)[0, 0, 0, 0] == 250
    expected, _ = oracles.susan3d(frames, 0.05, 20.0)
    # So small a sigma leaves no weight to anything: medians everywhere.
    found = filtered(cp, frames, sigma=0.05)
    numpy.testing.assert_allclose(found, expected, atol=tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("value", [0.0, 77.7, 255.0])
@pytest.mark.parametrize("threshold", [0.001, 20.0, numpy.inf])
def test_constants_are_fixed(cp, value, threshold):
    frames = numpy.full((3, 2, 5, 7), value, numpy.float32)
    numpy.testing.assert_array_equal(filtered(cp, frames, threshold=threshold, passes=3), frames)


def test_each_neighbour_counts_once(cp):
    """A single other sample, with every offset from the samples of a thread, in time as in space."""
    for y, x in ((8, 64), (9, 65)):
        frames = numpy.full((9, 1, 19, 130), 100.0, numpy.float32)
        frames[4, 0, y, x] = 104
        found = filtered(cp, frames, sigma=numpy.inf, threshold=numpy.inf) - 100
        expected = numpy.zeros_like(frames)
        expected[2:7, 0, y - 1 : y + 2, x - 1 : x + 2] = 4 / 44
        expected[4, 0, y, x] = 0
        numpy.testing.assert_allclose(found, expected, atol=tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("kind", ["noise", "outliers"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_pieces_with_halos_give_equal_bits(cp, kind, count):
    frames = cp.asarray(clip(kind, (count, 2, 6, 7)))
    expected = cp.asnumpy(denoise.susan3d(frames))
    halo = denoise.TEMPORAL_HALO
    for length in range(1, count):
        for start in range(0, count, length):
            stop = min(start + length, count)
            low, high = max(0, start - halo), min(count, stop + halo)
            found = denoise.susan3d_pass(
                frames[low:high], start - low, stop - low, sigma=15.0, threshold=20.0
            )
            numpy.testing.assert_array_equal(cp.asnumpy(found), expected[start:stop])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7])
def test_bits_do_not_depend_on_segments(cp, segments, length):
    frames = clip("outliers", (7, 2, 11, 67))
    segments(7)
    expected = filtered(cp, frames)
    assert_close(expected, frames)
    segments(length)
    numpy.testing.assert_array_equal(filtered(cp, frames), expected)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_segments_of_a_window(cp, segments, length):
    frames = clip("noise", (9, 1, 9, 11))
    expected = filtered(cp, frames)
    segments(length)
    found = denoise.susan3d_pass(cp.asarray(frames), 3, 8, sigma=15.0, threshold=20.0)
    numpy.testing.assert_array_equal(cp.asnumpy(found), expected[3:8])


def test_segments_employ_the_chip_and_are_not_too_short():
    assert susan._segment(filtered=16, tiles=12150, processors=132) == 16
    assert susan._segment(filtered=16, tiles=660, processors=132) == 8
    assert susan._segment(filtered=17, tiles=660, processors=132) == 9
    assert susan._segment(filtered=400, tiles=1, processors=132) == 4
    assert susan._segment(filtered=3, tiles=1, processors=132) == 3


def test_bits_do_not_depend_on_the_place(cp):
    """Wherever a thread or a tile begins, the neighbours are the same and so are the sums, but for rounding."""
    frames = clip("edges", (4, 1, 15, 70))
    expected = filtered(cp, frames)
    found = filtered(cp, frames[:, :, 3:, 5:])
    inner = (slice(None), slice(None), slice(1, None), slice(1, None))
    numpy.testing.assert_allclose(found[inner], expected[:, :, 4:, 6:], atol=tolerances.SUSAN_SYMMETRY_LEVELS)


def test_channels_do_not_mix(cp):
    frames = clip("edges", (4, 3, 9, 11))
    together = filtered(cp, frames)
    for c in range(3):
        numpy.testing.assert_array_equal(filtered(cp, frames[:, c : c + 1]), together[:, c : c + 1])


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_passes_any_layout_and_no_write_into_the_argument(cp, passes):
    frames = clip("noise", (3, 2, 7, 9))
    expected = frames
    for _ in range(passes):
        expected = filtered(cp, expected)
    strided = cp.zeros((6, 4, 14, 18), numpy.float32)[::2, ::2, ::2, ::2]
    strided[...] = cp.asarray(frames)
    for form in (strided, cp.asarray(frames).astype(numpy.float64)):
        kept = cp.asnumpy(form)
        numpy.testing.assert_array_equal(cp.asnumpy(denoise.susan3d(form, passes=passes)), expected)
        numpy.testing.assert_array_equal(cp.asnumpy(form), kept)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_nothing_to_filter(cp, shape):
    assert denoise.susan3d(cp.empty(shape, numpy.float32)).shape == shape


def test_wrong_frames(cp):
    with pytest.raises(ValueError, match="frames: expected finite grey levels"):
        denoise.susan3d(cp.asarray(numpy.full((1, 1, 2, 2), numpy.nan, numpy.float32)))
