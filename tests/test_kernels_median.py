"""The CUDA twin of the exact 8-bit median, and the daytime plate on the device."""

import numpy
import pytest

from gpufuse import background, errors

COUNTS = [1, 2, 3, 16, 31, 255, 300]
SAMPLES = [1, 2, 255, 256, 257, 1009]


def plate(cp, frames):
    found = background.median_plate(cp.asarray(frames))
    assert isinstance(found, cp.ndarray)
    assert found.dtype == frames.dtype
    assert found.shape == frames.shape[1:]
    return cp.asnumpy(found)


def middle(cp, frames):
    """The median as the kernel gives it, halves included."""
    from gpufuse.kernels_cuda import median

    found = median.median_8bit(cp.asarray(frames))
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.float32
    return cp.asnumpy(found)


def exercise(cp):
    """Reach every line of the kernel: the middle in one bin, in two bins of a bucket, and in two buckets."""
    middle(cp, numpy.array([[7, 7, 7], [7, 10, 200]], numpy.uint8))


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("count", COUNTS)
def test_exact(cp, rng, count, samples):
    frames = rng.integers(0, 255, (count, samples), endpoint=True).astype(numpy.uint8)
    numpy.testing.assert_array_equal(middle(cp, frames), numpy.median(frames, axis=0))


@pytest.mark.parametrize(
    "values", [(0,), (255,), (0, 255), (15, 16), (127, 128), (14, 15, 16, 17), (0, 1, 254, 255)]
)
@pytest.mark.parametrize("count", COUNTS)
def test_extremes_and_ties(cp, rng, count, values):
    frames = rng.choice(numpy.array(values, numpy.uint8), (count, 401))
    numpy.testing.assert_array_equal(middle(cp, frames), numpy.median(frames, axis=0))


def test_every_pair_of_middle_values(cp):
    """The two middle values in one bin, in one bucket and in any two buckets, those between them empty."""
    low, high = numpy.triu_indices(256)
    frames = numpy.array([low, high, low, high], numpy.uint8)
    frames[2] = 0
    frames[3] = 255
    numpy.testing.assert_array_equal(middle(cp, frames), (low + high) / 2)
    numpy.testing.assert_array_equal(middle(cp, frames[:2]), (low + high) / 2)
    numpy.testing.assert_array_equal(middle(cp, frames[:3]), low)
    numpy.testing.assert_array_equal(middle(cp, frames[[0, 1, 3]]), high)


def test_as_many_frames_as_the_cpu_twin_takes(cp):
    frames = numpy.zeros((65535, 3), numpy.uint8)
    frames[:32767, 0] = 4
    frames[:32768, 1] = 9
    frames[:, 2] = 255
    assert middle(cp, frames).tolist() == [0, 9, 255]


def test_more_frames_than_16_bits_can_count(cp):
    frames = numpy.zeros((65536, 1, 2), numpy.uint8)
    frames[:32768, 0, 0] = 4
    frames[:32769, 0, 1] = 9
    assert plate(cp, frames).tolist() == [[2, 9]]


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 7, 13), (5, 13, 7, 3), (6, 3), (3,), (2, 0, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_plates_have_the_form_of_a_frame(cp, rng, dtype, shape):
    frames = rng.integers(0, numpy.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    numpy.testing.assert_array_equal(plate(cp, frames), background.median_plate(frames))


def test_any_layout_and_no_write_into_the_argument(cp, rng):
    frames = rng.integers(0, 255, (5, 6, 7, 3)).astype(numpy.uint8)
    strided = cp.zeros((10, 12, 7, 3), numpy.uint8)[::2, ::2]
    strided[...] = cp.asarray(frames)
    numpy.testing.assert_array_equal(
        cp.asnumpy(background.median_plate(strided)), background.median_plate(frames)
    )
    numpy.testing.assert_array_equal(cp.asnumpy(strided), frames)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(40, 5, 7), (9, 11, 6, 3)])
def test_the_daytime_plate_of_device_frames(cp, rng, dtype, shape):
    frames = (
        rng.random(shape).astype(dtype)
        if dtype == "float32"
        else rng.integers(0, numpy.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    )
    expected = background.daytime_background(frames)
    for form in (cp.asarray(frames), (cp.asarray(frame) for frame in frames)):
        found = background.daytime_background(form)
        assert isinstance(found, cp.ndarray)
        assert found.dtype == dtype
        numpy.testing.assert_array_equal(cp.asnumpy(found), expected)


def test_device_frames_may_share_memory_and_are_thinned(cp, rng):
    frames = rng.integers(0, 255, (100, 5, 6)).astype(numpy.uint8)
    buffer = cp.empty((5, 6), numpy.uint8)

    def decoder():
        for frame in frames:
            buffer[...] = cp.asarray(frame)
            yield buffer

    found = background.daytime_background(decoder(), memory=40 * buffer.nbytes)
    expected = background.daytime_background(frames, memory=40 * buffer.nbytes)
    numpy.testing.assert_array_equal(cp.asnumpy(found), expected)


def test_wrong_device_frames(cp):
    with pytest.raises(errors.InputError, match="frames: expected at least one day frame"):
        background.daytime_background(cp.empty((0, 4, 5), numpy.uint8))
    with pytest.raises(ValueError, match=r"frames\[1\]: expected \(4, 5\) uint8 like the first"):
        background.daytime_background([cp.zeros((4, 5), numpy.uint8), cp.zeros((5, 4), numpy.uint8)])
    with pytest.raises(ValueError, match=r"frames\[0\]: expected finite"):
        background.daytime_background(cp.asarray(numpy.full((1, 2, 2), numpy.nan)))
    with pytest.raises(TypeError, match="all on one device"):
        background.daytime_background([cp.zeros((4, 5), numpy.uint8), numpy.zeros((4, 5), numpy.uint8)])
