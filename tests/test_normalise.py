"""The colour fit against least squares."""

import numpy
import oracles
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse import arrays, baselines, normalise


def close(found, expected):
    assert found == pytest.approx(expected, rel=tolerances.FIT, abs=tolerances.FIT)


@pytest.mark.parametrize("shape", [(37, 61), (1, 2), (5, 1), (240, 320)])
def test_against_least_squares(rng, shape):
    u, v = rng.normal(0, 40, (2, *shape)).astype(numpy.float32)
    c1, c2 = normalise.fit_affine(u, v + 120)
    assert c1.dtype == c2.dtype == numpy.float64
    close((float(c1), float(c2)), oracles.fit_affine(u, v + 120))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(scale=st.integers(-20, 20), shift=st.integers(-255, 255), seed=st.integers(0, 999))
def test_recovers_an_affine_change(scale, shift, seed):
    u = numpy.random.default_rng(seed).integers(0, 255, (6, 7)).astype(numpy.float32)
    c1, c2 = normalise.fit_affine(u, scale / 4 * u + shift)
    close((float(c1), float(c2)), (scale / 4, shift))


def test_idempotent(rng):
    u, v = rng.normal(0, 40, (2, 3, 9, 11)).astype(numpy.float32)
    once = normalise.apply_affine(u, *normalise.fit_affine(u, v))
    c1, c2 = normalise.fit_affine(once, v)
    numpy.testing.assert_allclose(c1, 1, atol=1e-5)
    numpy.testing.assert_allclose(c2, 0, atol=1e-4)


@pytest.mark.parametrize("value", [0, 77.7, 255, 0.1, 1 / 3, 99.99, -3e4, 1e-3])
@pytest.mark.parametrize("shape", [(1, 1), (7, 11), (13, 17), (480, 640)])
def test_a_constant_keeps_scale_one(rng, value, shape):
    u = numpy.full(shape, value, numpy.float32)
    v = rng.normal(100, 30, shape).astype(numpy.float32)
    c1, c2 = normalise.fit_affine(u, v)
    assert c1 == 1
    close(float(c1 * u[0, 0].astype(float) + c2), float(v.mean(dtype=float)))


@pytest.mark.parametrize("offset", [0.0, 1e3, -2e4])
def test_small_contrast_on_a_large_offset(rng, offset):
    u = (offset + rng.integers(0, 3, (40, 50))).astype(numpy.float32)
    c1, c2 = normalise.fit_affine(u, 2 * (u - numpy.float32(offset)) + 7)
    assert float(c1) == pytest.approx(2, abs=1e-6)
    assert float(c1 * offset + c2) == pytest.approx(7, abs=1e-5)


def test_each_channel_by_itself(rng):
    u, v = rng.normal(0, 40, (2, 2, 3, 9, 11)).astype(numpy.float32)
    c1, c2 = normalise.fit_affine(u, v)
    assert c1.shape == c2.shape == (2, 3)
    for place in numpy.ndindex(2, 3):
        close((c1[place], c2[place]), oracles.fit_affine(u[place], v[place]))


@pytest.mark.parametrize("shape", [(4, 3, 37, 61), (1, 1, 1, 1), (2, 3, 1, 9), (2, 1, 8, 1)])
def test_moments_of_the_blend_are_those_of_the_explicit_blend(rng, shape):
    u = rng.normal(0, 40, shape).astype(numpy.float32)
    night = rng.integers(0, 255, shape).astype(numpy.float32)
    day = rng.integers(0, 255, shape[1:]).astype(numpy.float32)
    w = rng.choice(numpy.float32([0, 0.25, 0.7, 1]), (shape[0], *shape[2:]))
    moments = normalise.blend_moments(u, day, night, w)
    assert moments.shape == (*shape[:2], 4)
    assert moments.dtype == numpy.float64
    c1, c2 = normalise.affine_from_moments(moments, shape[-2] * shape[-1])
    expected = normalise.fit_affine(u, baselines.blend(day, night, w))
    numpy.testing.assert_allclose((c1, c2), expected, rtol=1e-5, atol=1e-5)
    for t, c in numpy.ndindex(*shape[:2]):
        a, b = u[t, c].astype(float), oracles.blend(day[c], night[t, c], w[t].astype(float))
        numpy.testing.assert_allclose(
            moments[t, c], [a.sum(), (a * a).sum(), b.sum(), (a * b).sum()], rtol=1e-6, atol=1e-2
        )


def test_moments_of_frames_add_up(rng):
    u, v = rng.normal(0, 40, (2, 5, 1, 9, 11)).astype(numpy.float32)
    ones = numpy.ones((5, 9, 11), numpy.float32)
    moments = normalise.blend_moments(u, v[0], v, ones).sum(axis=0)
    c1, c2 = normalise.affine_from_moments(moments, 5 * 9 * 11)
    close((c1[0], c2[0]), oracles.fit_affine(u, v))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_bits_do_not_depend_on_threads_or_other_frames(rng, threads, count):
    u, night = rng.normal(0, 40, (2, 7, 3, 29, 31)).astype(numpy.float32)
    day, w = night[0] + 50, rng.random((7, 29, 31)).astype(numpy.float32)
    threads(1)
    expected = normalise.blend_moments(u, day, night, w)
    threads(count)
    numpy.testing.assert_array_equal(normalise.blend_moments(u, day, night, w), expected)
    numpy.testing.assert_array_equal(normalise.blend_moments(u[2:3], day, night[2:3], w[2:3]), expected[2:3])


def test_apply_affine(rng):
    u = rng.normal(0, 100, (2, 3, 4, 5)).astype(numpy.float32)
    kept = u.copy()
    c1, c2 = rng.normal(size=(2, 2, 3))
    found = normalise.apply_affine(u, c1, c2)
    assert found.dtype == numpy.float32
    numpy.testing.assert_allclose(
        found, u * c1[..., None, None] + c2[..., None, None], atol=tolerances.FLOAT32_LEVELS
    )
    numpy.testing.assert_array_equal(u, kept)


@pytest.mark.parametrize("frames", [1, 2, 5, 12])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (5, 5), (0, 1), (2, 0), (50, 70)])
def test_shared_fits_are_the_fits_of_joined_frames(rng, frames, before, after):
    u, v = rng.normal(0, 40, (2, frames, 2, 5, 7)).astype(numpy.float32)
    ones = numpy.ones((frames, 5, 7), numpy.float32)
    moments = normalise.blend_moments(u, v[0], v, ones)
    c1, c2 = normalise.shared_fits(moments, 0, frames, before, after, 35)
    assert c1.shape == c2.shape == (frames, 2)
    assert c1.dtype == c2.dtype == numpy.float64
    for k, c in numpy.ndindex(frames, 2):
        together = slice(max(0, k - before), k + after + 1)
        close((c1[k, c], c2[k, c]), oracles.fit_affine(u[together, c], v[together, c]))
        shared = moments[together]
        alone = normalise.affine_from_moments(shared.sum(axis=0), len(shared) * 35)
        assert (c1[k, c], c2[k, c]) == (alone[0][c], alone[1][c])


def test_shared_fits_of_some_frames(rng):
    moments = rng.random((9, 3, 4))
    moments[..., 1] += 5  # larger than the square of the mean, as sums are
    whole = normalise.shared_fits(moments, 0, 9, 2, 1, 7)
    for start, stop in ((0, 1), (3, 7), (8, 9), (4, 4)):
        for part, expected in zip(normalise.shared_fits(moments, start, stop, 2, 1, 7), whole, strict=True):
            numpy.testing.assert_array_equal(part, expected[start:stop])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_affine_pixels(rng, dtype, channels):
    u = rng.normal(0, 100, (2, channels, 4, 5)).astype(numpy.float32)
    kept = u.copy()
    c1, c2 = rng.normal(size=(2, 2, channels)) * 50
    form = arrays.ImageFormat(numpy.dtype(dtype), channels == 3)
    found = normalise.affine_pixels(u, c1, c2, form)
    assert found.dtype == form.dtype
    assert found.shape == ((2, 4, 5, 3) if channels == 3 else (2, 4, 5))
    levels = (u * c1[..., None, None] + c2[..., None, None]).clip(0, 255)
    white = 1 if form.dtype.kind == "f" else numpy.iinfo(form.dtype).max
    step = 0.5 + 1e-3 if form.dtype.kind == "u" else 1e-3
    planar = numpy.moveaxis(found, -1, 1) if channels == 3 else found[:, None]
    numpy.testing.assert_allclose(
        planar.astype(float), levels * white / 255, atol=step * max(1, white / 2**14)
    )
    numpy.testing.assert_array_equal(u, kept)


def test_wrong_arguments():
    u = numpy.zeros((2, 3), numpy.float32)
    with pytest.raises(
        ValueError, match=r"image, target: expected equal shapes, got \(2, 3\) and \(3, 2\); crop"
    ):
        normalise.fit_affine(u, u.T)
    with pytest.raises(ValueError, match="target: expected finite"):
        normalise.fit_affine(u, u + numpy.inf)
    with pytest.raises(ValueError, match="image: expected finite"):
        normalise.fit_affine(u * numpy.nan, u)
    with pytest.raises(TypeError, match="got float"):
        normalise.fit_affine(u, 3.0)
