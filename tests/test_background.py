"""The daytime plate: an exact median over time, in bounded memory."""

import weakref

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpufuse
from gpufuse import background, errors


def median_by_sorting(frames):
    """Middle value, or the rounded mean of the two middle values: Python integers only."""
    out = numpy.empty(frames.shape[1:], frames.dtype)
    for place in numpy.ndindex(*out.shape):
        column = sorted(int(v) for v in frames[(slice(None), *place)])
        n = len(column)
        out[place] = column[n // 2] if n % 2 else round((column[n // 2 - 1] + column[n // 2]) / 2)
    return out


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30, 31, 32, 255, 256, 257, 399, 400])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_exact_for_integers(rng, count, dtype):
    frames = rng.integers(0, numpy.iinfo(dtype).max, (count, 3, 7), endpoint=True).astype(dtype)
    found = background.daytime_background(frames)
    assert found.dtype == dtype
    numpy.testing.assert_array_equal(found, median_by_sorting(frames))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_exact_for_any_8_bit_column(values):
    frames = numpy.array(values, numpy.uint8)[:, None, None]
    numpy.testing.assert_array_equal(background.median_plate(frames), median_by_sorting(frames))


@pytest.mark.parametrize("values", [(0, 0), (255, 255), (254, 255), (0, 255), (0, 1, 1, 2), (0, 0, 1, 1)])
def test_extremes_and_halves(values):
    frames = numpy.array(values, numpy.uint8)[:, None, None]
    numpy.testing.assert_array_equal(background.median_plate(frames), median_by_sorting(frames))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_floats(rng, dtype, count):
    frames = rng.random((count, 4, 5, 3)).astype(dtype)
    found = background.daytime_background(frames)
    assert found.dtype == dtype
    expected = numpy.sort(frames, axis=0)
    expected = (expected[(count - 1) // 2] + expected[count // 2]) / 2
    numpy.testing.assert_allclose(found, expected, rtol=1e-6)


def test_more_samples_than_one_tile_and_any_thread_count(rng, threads):
    frames = rng.integers(0, 255, (11, 97, 61, 3)).astype(numpy.uint8)
    expected = numpy.sort(frames, axis=0)[5]
    for count in (1, 2, 5):
        threads(count)
        numpy.testing.assert_array_equal(background.daytime_background(frames), expected)


def test_more_frames_than_16_bits_can_count():
    frames = numpy.zeros((65536, 1, 2), numpy.uint8)
    frames[:32768, 0, 0] = 4
    frames[:32769, 0, 1] = 9
    assert background.median_plate(frames).tolist() == [[2, 9]]


def test_traffic_vanishes(scene):
    street = numpy.repeat(scene.day_image[None], 21, axis=0)
    for t in range(21):
        street[t, 20:26, 2 * t : 2 * t + 8] = 255
    numpy.testing.assert_array_equal(gpufuse.daytime_background(street), scene.day_image)


def test_iterables_are_read_once_and_frames_may_share_memory(rng):
    frames = rng.integers(0, 255, (9, 5, 6)).astype(numpy.uint8)
    buffer = numpy.empty((5, 6), numpy.uint8)

    def decoder():
        for frame in frames:
            buffer[...] = frame
            yield buffer

    numpy.testing.assert_array_equal(background.daytime_background(decoder()), median_by_sorting(frames))


@pytest.mark.parametrize("capacity", [31, 32, 40, 41, 100])
@pytest.mark.parametrize("count", [1, 30, 31, 32, 63, 64, 200, 1000])
def test_memory_is_bounded_and_frames_are_evenly_spaced(capacity, count):
    frames = (numpy.full((2, 2), k, numpy.uint16) for k in range(count))
    kept = background._evenly_spaced(frames, memory=capacity * 8)
    taken = [int(frame[0, 0]) for frame in kept]
    assert len(taken) <= capacity
    assert taken[0] == 0
    steps = set(numpy.diff(taken).tolist())
    assert len(steps) <= 1, "evenly spaced"
    step = steps.pop() if steps else 1
    assert step == 1 if count <= capacity else step * capacity < 2 * count + 2 * step
    assert taken[-1] + step >= count, "to the end of the clip"


def test_never_more_than_the_memory_while_reading():
    copies, most = [], 0

    class Frame(numpy.ndarray):
        def copy(self, *args, **kwargs):
            copy = super().copy(*args, **kwargs)
            copies.append(weakref.ref(copy))
            return copy

    def frames():
        nonlocal most
        for k in range(500):
            most = max(most, sum(copy() is not None for copy in copies))
            yield numpy.full((2, 2), k % 256, numpy.uint8).view(Frame)

    background.daytime_background(frames(), memory=4 * 40)
    assert 31 <= most <= 40


def test_at_least_31_frames_are_kept_whatever_their_size():
    frames = numpy.arange(31, dtype=numpy.uint8)[:, None, None] * numpy.ones((8, 8), numpy.uint8)
    assert (background.daytime_background(frames, memory=1) == 15).all()


def test_the_thinned_median_stays_near_the_full_one(rng):
    frames = rng.integers(100, 110, (400, 8, 8)).astype(numpy.uint8)
    thinned = background.daytime_background(frames, memory=64 * 50)
    assert abs(thinned.astype(int) - median_by_sorting(frames)).max() <= 3


def test_layouts_and_no_write(rng):
    frames = rng.integers(0, 65535, (5, 6, 7, 3)).astype(numpy.uint16)
    expected = median_by_sorting(frames)
    for form in (frames[:, ::-1][:, ::-1], numpy.asfortranarray(frames)):
        form.flags.writeable = False
        numpy.testing.assert_array_equal(background.daytime_background(form), expected)


def test_no_frame():
    with pytest.raises(errors.InputError, match="frames: expected at least one day frame, found none; give"):
        background.daytime_background([])


def test_frames_of_different_form():
    frame = numpy.zeros((4, 5), numpy.uint8)
    for other in (frame.T, frame.astype(numpy.uint16), numpy.zeros((4, 5, 3), numpy.uint8)):
        with pytest.raises(
            ValueError, match=r"frames\[1\]: expected \(4, 5\) uint8 like the first, got .*one clip"
        ):
            background.daytime_background([frame, other])


def test_no_images():
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        background.daytime_background([[1, 2]])
    with pytest.raises(
        TypeError, match=r"frames\[0\]: expected uint8, uint16 or float in \[0, 1\], got int64"
    ):
        background.daytime_background([numpy.zeros((2, 2), int)])
    with pytest.raises(ValueError, match=r"frames\[0\]: expected shape"):
        background.daytime_background([numpy.zeros(2, numpy.uint8)])


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf])
def test_values_that_are_not_finite(bad):
    frames = numpy.zeros((3, 2, 2), numpy.float32)
    frames[1, 0, 0] = bad
    with pytest.raises(ValueError, match="expected finite"):
        background.daytime_background(frames)
