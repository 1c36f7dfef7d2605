"""The CUDA twin of moving lamps, against pixel-by-pixel float64 and against the CPU: equal bits."""

import contextlib

import numpy
import oracles
import pytest

from gpufuse import importance
from gpufuse.kernels_cuda import lamps

# A block takes 256 units of one pixel, or of four where these divide a frame.
SHAPES = [
    (1, 1, 1, 1), (2, 3, 1, 4), (1, 3, 9, 1), (3, 1, 2, 2), (2, 3, 5, 7), (1, 3, 16, 16), (1, 1, 1, 257),
    (2, 3, 32, 33), (3, 3, 31, 37), (1, 2, 40, 52),
]  # fmt: skip


def arguments(rng, shape):
    """Importance of which a third is 0, and night frames."""
    frames, _, height, width = shape
    return (
        rng.choice(numpy.float32([0, 0, 1e-6, 0.25, 0.7, 1]), (frames, height, width)),
        rng.uniform(-9, 270, shape).astype(numpy.float32),
    )


def on_device(cp, weights, frames, **options):
    """The public stage on the device, its results on the host."""
    found = importance.keep_lamps(cp.asarray(weights), cp.asarray(frames), **options)
    for part in found:
        assert isinstance(part, cp.ndarray)
        assert part.dtype == numpy.float32
        assert part.shape == weights.shape
    return tuple(cp.asnumpy(part) for part in found)


def exercise(cp):
    """Reach every line of the kernel: one pixel and four at once."""
    rng = numpy.random.default_rng(1)
    for shape in [(2, 3, 3, 5), (2, 3, 4, 5)]:
        on_device(cp, *arguments(rng, shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("threshold", "gain"), [(200.0, 1.0), (133.7, 2.0), (0.5, 0.0), (180.0, 0.3)])
def test_against_oracle_and_cpu(cp, rng, shape, threshold, gain):
    weights, frames = arguments(rng, shape)
    found = on_device(cp, weights, frames, threshold=threshold, gain=gain)
    for t in range(shape[0]):
        expected = oracles.keep_lamps(weights[t], frames[t].astype(float), threshold, gain)
        numpy.testing.assert_allclose([part[t] for part in found], expected, atol=1e-6)
    expected = importance.keep_lamps(weights, frames, threshold=threshold, gain=gain)
    for part, wanted in zip(found, expected, strict=True):
        numpy.testing.assert_array_equal(part, wanted)


def test_exact_at_the_threshold_and_at_half_of_it(cp):
    thresholds = numpy.random.default_rng(3).uniform(1, 400, 40).astype(numpy.float32)
    for threshold in (200.0, *thresholds):
        level = numpy.float32(threshold)
        night = numpy.stack([level / 2, level]).reshape(1, 1, 2)
        kept, share = on_device(cp, numpy.full((1, 2), 0.25, numpy.float32), night, threshold=float(level))
        assert kept.tolist() == [[0.25, 1]]
        assert share.tolist() == [[0, 1]]


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 4, 8)])
@pytest.mark.parametrize("threshold", [numpy.inf, 1e39])
def test_no_lamps(cp, rng, shape, threshold):
    weights, frames = arguments(rng, shape)
    kept, share = on_device(cp, weights, frames, threshold=threshold)
    numpy.testing.assert_array_equal(kept, weights)
    assert not share.any()


def test_more_frames_than_the_grid_has_room_for(cp, rng, monkeypatch):
    weights, frames = arguments(rng, (7, 3, 4, 9))
    expected = on_device(cp, weights, frames)
    monkeypatch.setattr(lamps, "_MOST_ROWS", 3)
    numpy.testing.assert_array_equal(on_device(cp, weights, frames), expected)


@pytest.mark.parametrize("leading", [(), (0,), (2, 3)])
def test_leading_axes_any_layout_and_no_write_into_the_arguments(cp, rng, leading):
    frames = rng.uniform(0, 255, (*leading, 3, 5, 8)).astype(numpy.float32)
    weights = rng.random((*leading, 5, 8)).astype(numpy.float32)
    expected = importance.keep_lamps(weights, frames)
    for convert in (cp.asfortranarray, lambda a: a.astype(float), lambda a: a[..., ::-1].copy()[..., ::-1]):
        given = [convert(cp.asarray(a)) for a in (weights, frames)]
        for part, wanted in zip(importance.keep_lamps(*given), expected, strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(part), wanted)
        for array, before in zip(given, (weights, frames), strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(array), before)


def test_nobody_waits(cp):
    weights, frames = cp.zeros((2, 4, 5), numpy.float32), cp.zeros((2, 3, 4, 5), numpy.float32)
    with getattr(cp, "no_transfers", contextlib.nullcontext)():  # the stand-in knows what would wait
        importance.keep_lamps(weights, frames)


def test_arrays_of_two_devices(cp):
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        importance.keep_lamps(cp.zeros((4, 5), numpy.float32), numpy.zeros((3, 4, 5), numpy.float32))
