"""The simple methods to compare with."""

import numpy
import oracles
import pytest
import tolerances

from gpufuse import baselines


@pytest.fixture
def pair(rng):
    return rng.integers(0, 256, (2, 3, 7, 9)).astype(numpy.float32)


def test_average(pair):
    numpy.testing.assert_array_equal(baselines.average(*pair), (pair[0] + pair[1]) / 2)


def test_maximum(pair):
    day, night = pair
    numpy.testing.assert_array_equal(baselines.maximum(day, night), numpy.where(day > night, day, night))


def test_blend(pair, rng):
    w = rng.random((7, 9)).astype(numpy.float32)
    found = baselines.blend(*pair, w)
    numpy.testing.assert_allclose(
        found, oracles.blend(*pair, w.astype(float)), atol=tolerances.FLOAT32_LEVELS
    )
    numpy.testing.assert_array_equal(baselines.blend(*pair, w * 0), pair[0])
    numpy.testing.assert_array_equal(baselines.blend(*pair, w * 0 + 1), pair[1])


def test_substitute(pair):
    w = numpy.linspace(0, 1, 63, dtype=numpy.float32).reshape(7, 9)
    found = baselines.substitute(*pair, w)
    for y, x in numpy.ndindex(7, 9):
        numpy.testing.assert_array_equal(found[:, y, x], pair[int(w[y, x] >= 0.5)][:, y, x])


def test_one_day_for_many_frames(pair, rng):
    day, night = pair[0], numpy.stack([pair[1], pair[1] / 2])
    w = rng.random((2, 7, 9)).astype(numpy.float32)
    assert baselines.average(day, night).shape == night.shape
    assert baselines.maximum(day, night).shape == night.shape
    for method in (baselines.blend, baselines.substitute):
        together = method(day, night, w)
        for k in range(2):
            numpy.testing.assert_array_equal(together[k], method(day, night[k], w[k]))


@pytest.mark.parametrize("name", ["average", "maximum", "blend", "substitute"])
def test_arguments(pair, name):
    method, more = getattr(baselines, name), ()
    if name in ("blend", "substitute"):
        more = (numpy.ones((7, 9), numpy.float32),)
    day, night = pair
    kept = pair.copy()
    assert method(day, night, *more).dtype == numpy.float32
    numpy.testing.assert_array_equal(pair, kept)
    with pytest.raises(
        ValueError, match=r"day, night: expected equal \(C, H, W\), got \(3, 7, 9\) and \(3, 7, 8\)"
    ):
        method(day, night[..., :8], *more)
    with pytest.raises(ValueError, match="night: expected finite"):
        method(day, night * numpy.nan, *more)
    with pytest.raises(TypeError, match="got list"):
        method(day, [0], *more)
