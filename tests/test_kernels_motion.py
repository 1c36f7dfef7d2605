"""CUDA twins of the motion masks and their temporal mean, against the CPU: equal bits."""

import fractions

import numpy
import oracles
import pytest

from gpufuse import importance
from gpufuse.kernels_cuda import motion

# Smaller than the tile of 60 x 28 pixels, one tile, one more, and several; half a tile is 32 columns.
SIZES = [(1, 1), (1, 70), (70, 1), (2, 3), (28, 60), (29, 61), (27, 59), (5, 33), (57, 127), (31, 181)]


def moving(shape, seed=5, share=0.35):
    """Noise of which some pixels change from frame to frame, in blobs and specks."""
    rng = numpy.random.default_rng(seed)
    frames = rng.normal(60, 1, shape)
    frames += 40 * (rng.random((*shape[:1], 1, *shape[2:])) < share)
    return frames.astype(numpy.float32)


def exercise(cp):
    """Reach every kernel of kernels/motion.cu and every line of it."""
    for channels in (1, 3):
        importance.motion_masks(cp.asarray(moving((3, channels, 30, 62))), threshold=9.0)
    for width in (4, 5):
        importance.temporal_mean(cp.zeros((9, 3, width), bool), 1)


# Masks


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("count", "channels"), [(2, 1), (4, 3)])
def test_masks_are_those_of_the_cpu(cp, size, count, channels):
    frames = moving((count, channels, *size))
    found = importance.motion_masks(cp.asarray(frames), threshold=9.0)
    assert isinstance(found, cp.ndarray)
    assert found.dtype == bool
    expected = importance.motion_masks(frames, threshold=9.0)
    numpy.testing.assert_array_equal(cp.asnumpy(found), expected)
    numpy.testing.assert_array_equal(expected, oracles.motion_masks(frames, 9.0))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.75])
def test_masks_of_any_density(cp, share):
    frames = moving((2, 1, 33, 67), seed=8, share=share)
    found = cp.asnumpy(importance.motion_masks(cp.asarray(frames), threshold=9.0))
    numpy.testing.assert_array_equal(found, importance.motion_masks(frames, threshold=9.0))


def test_every_neighbourhood_of_a_pixel(cp):
    """All 512 patterns of 3 x 3 pixels, each at its own place, and each at a corner of a picture."""
    patterns = (numpy.arange(512)[:, None, None] >> numpy.arange(9).reshape(3, 3) & 1).astype(bool)
    cells = numpy.zeros((16, 32, 7, 7), bool)
    cells[:, :, 2:5, 2:5] = patterns.reshape(16, 32, 3, 3)
    mask = cells.transpose(0, 2, 1, 3).reshape(112, 224)
    frames = numpy.zeros((2, 1, 112, 224), numpy.float32)
    frames[1, 0] = 50 * mask
    found = cp.asnumpy(importance.motion_masks(cp.asarray(frames), threshold=1.0))
    numpy.testing.assert_array_equal(found[1], importance.clean_masks(mask))


@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_borders_are_replicated_before_each_pass(cp, size):
    """Masks in which a border of zeros, or one of the first pass alone, would differ: all of this size."""
    height, width = size
    rng = numpy.random.default_rng(0)
    for numbers in rng.integers(0, 1 << 12, (6, 12)):
        masks = (numbers[:, None] >> numpy.arange(12) & 1).reshape(12, *size).astype(bool)
        frames = numpy.zeros((13, 1, height, width), numpy.float32)
        frames[1:, 0] = numpy.cumsum(50 * masks, axis=0)
        found = cp.asnumpy(importance.motion_masks(cp.asarray(frames), threshold=1.0))
        numpy.testing.assert_array_equal(found[1:], importance.clean_masks(masks))


def test_changes_are_compared_strictly_and_either_way(cp):
    frames = numpy.zeros((3, 3, 6, 6), numpy.float32)
    frames[1, 2] = 7
    for threshold, expected in ((6.99, True), (7.0, False)):
        found = importance.motion_masks(cp.asarray(frames), threshold=threshold)
        assert (cp.asnumpy(found) == expected).all()


@pytest.mark.parametrize("blocks", [1, 2, 3, 1000])
def test_frames_shared_out_among_blocks(cp, monkeypatch, blocks):
    """All frames in one block, or two, or with a remainder, or one each."""
    monkeypatch.setattr(motion, "_ENOUGH_BLOCKS", blocks)
    frames = moving((6, 3, 9, 40))
    found = importance.motion_masks(cp.asarray(frames), threshold=9.0)
    numpy.testing.assert_array_equal(cp.asnumpy(found), importance.motion_masks(frames, threshold=9.0))


@pytest.mark.parametrize("motion_from", ["intensity", "gradient"])
def test_masks_of_pieces(cp, motion_from):
    frames = moving((7, 3, 9, 70))
    whole = importance.motion_masks(frames, threshold=9.0, motion_from=motion_from)
    for start, stop in [(0, 1), (0, 2), (0, 7), (1, 2), (2, 7), (3, 5), (6, 7), (4, 4)]:
        first = max(0, start - 1)
        piece = cp.asarray(frames)[first : max(stop, 2)]
        found = importance.cleaned_motion(
            piece, start - first, stop - first, cp.asarray(numpy.float32(9.0)), motion_from=motion_from
        )
        assert isinstance(found, cp.ndarray)
        numpy.testing.assert_array_equal(cp.asnumpy(found), whole[start:stop])


@pytest.mark.parametrize("count", [0, 1])
def test_one_frame_or_none_does_not_move(cp, count):
    found = importance.motion_masks(cp.full((count, 3, 4, 5), 200, numpy.float32), threshold=1.0)
    assert found.shape == (count, 4, 5)
    assert not cp.asnumpy(found).any()


def test_other_numbers_of_channels(cp):
    frames = moving((3, 2, 8, 9))
    found = cp.asnumpy(importance.motion_masks(cp.asarray(frames), threshold=9.0))
    numpy.testing.assert_array_equal(found, importance.motion_masks(frames, threshold=9.0))


# Threshold


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 6, 8), (1, 1, 1)])
def test_noise_is_that_of_the_cpu(cp, noise, shape):
    changes = abs(numpy.random.default_rng(2).normal(0, noise, shape)).astype(numpy.float32)
    for function in (importance.motion_noise, importance.motion_threshold):
        found = function(cp.asarray(changes))
        assert isinstance(found, cp.ndarray), "on the device: nobody waited"
        assert found.shape == ()
        assert cp.asnumpy(found) == numpy.float32(function(changes))


def test_noise_of_nothing(cp):
    assert cp.asnumpy(importance.motion_noise(cp.zeros((0, 4, 5), numpy.float32))) == 0
    assert cp.asnumpy(importance.motion_threshold(cp.zeros((2, 4, 5), numpy.float32))) == numpy.float32(1.5)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("motion_from", ["intensity", "gradient"])
def test_masks_by_the_measured_threshold(cp, clean, motion_from):
    frames = moving((4, 3, 12, 40), share=0.1)
    options = {"clean": clean, "motion_from": motion_from}
    found = importance.motion_masks(cp.asarray(frames), **options)
    numpy.testing.assert_array_equal(cp.asnumpy(found), importance.motion_masks(frames, **options))


# Temporal mean


@pytest.mark.parametrize("c", [0, 1, 5, 40])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (13, 3, 5), (11, 20, 60)])
def test_means_are_those_of_the_cpu(cp, c, shape):
    masks = numpy.random.default_rng(3).random(shape) < 0.5
    found = importance.temporal_mean(cp.asarray(masks), c)
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.float32
    numpy.testing.assert_array_equal(cp.asnumpy(found), importance.temporal_mean(masks, c))


@pytest.mark.parametrize("width", [4, 5])
def test_means_of_pieces(cp, width):
    masks = numpy.random.default_rng(3).random((12, 3, width)) < 0.5
    whole = importance.temporal_mean(masks, 2)
    for start, stop in [(0, 12), (0, 1), (3, 4), (5, 12), (11, 12), (4, 4)]:
        low, high = max(0, start - 2), min(12, stop + 2)
        piece = cp.asarray(masks)[low:high]
        found = importance.temporal_mean(piece, 2, start - low, stop - low)
        numpy.testing.assert_array_equal(cp.asnumpy(found), whole[start:stop])


def test_means_are_correctly_rounded(cp):
    """A triangle of masks: at pixel n, n + 1 of k frames are set, for every k."""
    count = 96
    masks = cp.asarray(numpy.tri(count, dtype=bool).T[:, None])  # frame t: pixels from t
    for frames in range(1, count + 1, 7):
        found = cp.asnumpy(importance.temporal_mean(masks[:frames], count, frames - 1))
        sums = numpy.minimum(numpy.arange(count) + 1, frames)
        expected = [numpy.float32(float(fractions.Fraction(int(n), frames))) for n in sums]
        numpy.testing.assert_array_equal(found[0, 0], expected)


def test_masks_that_are_not_contiguous(cp):
    masks = numpy.random.default_rng(3).random((6, 4, 10)) < 0.5
    found = importance.temporal_mean(cp.asarray(masks)[:, :, ::2], 1)
    numpy.testing.assert_array_equal(cp.asnumpy(found), importance.temporal_mean(masks[:, :, ::2], 1))


# Pictures


def test_importance_of_pictures(cp):
    rng = numpy.random.default_rng(1)
    day, night = (rng.integers(0, 255, (2, 3, 30, 40)) // 40 * 40).astype(numpy.float32)
    for function in (importance.static_importance, importance.dynamic_importance):
        found = function(cp.asarray(day), cp.asarray(night))
        assert isinstance(found, cp.ndarray)
        numpy.testing.assert_allclose(cp.asnumpy(found), function(day, night), atol=1e-6)


def test_every_kernel_runs(cp):
    exercise(cp)
