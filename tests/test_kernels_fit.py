"""The CUDA kernels of the colour fit against float64 formulas and against the CPU."""

import contextlib

import numpy
import oracles
import pytest

from gpufuse import arrays, normalise

# A block sums 4096 pixels, 128 at a time; it scales 1024 samples, 256 at a time.
SHAPES = [
    (1, 1, 1, 1), (2, 3, 1, 9), (1, 1, 8, 1), (1, 3, 7, 11), (1, 1, 1, 128), (1, 1, 3, 43), (2, 3, 64, 64),
    (1, 1, 17, 241), (3, 3, 97, 101),
]  # fmt: skip
DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]

SUMS = 1e-13
"""Float64 sums of some thousand terms in another order, relative to the sum of their magnitudes."""

BLEND_LEVELS = 4e-5
"""The blend is float32 (one rounding of 255 is 1.5e-5), with or without fused multiply-add."""

SOLUTION = 1e-9
"""Float64 with and without fused multiply-add, relative, for a variance not far below the mean square."""


def arguments(rng, shape, *, exact=True):
    """Image, day, night, importance; exact: every blend is a float32 without rounding."""
    plane = (shape[0], *shape[2:])
    if exact:
        levels = [rng.integers(0, 256, s).astype(numpy.float32) for s in (shape, shape[1:], shape)]
        return *levels, rng.choice(numpy.float32([0, 0.25, 0.5, 1]), plane)
    levels = [(255 * rng.random(s)).astype(numpy.float32) for s in (shape, shape[1:], shape)]
    return *levels, rng.random(plane).astype(numpy.float32)


def moments_on_device(cp, *given):
    found = normalise.blend_moments(*(cp.asarray(a) for a in given))
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.float64
    assert found.shape == (*given[0].shape[:2], 4)
    return cp.asnumpy(found)


def exercise(cp):
    """Reach every line of the kernels."""
    rng = numpy.random.default_rng(1)
    for shape in [(2, 1, 5, 7), (2, 3, 33, 32), (1, 3, 65, 64)]:
        image, *blend = (cp.asarray(a) for a in arguments(rng, shape))
        moments = normalise.blend_moments(image, *blend)
        c1, c2 = normalise.shared_fits(moments, 0, shape[0], 1, 1, shape[2] * shape[3])
        normalise.apply_affine(image, c1, c2)
        for dtype in ("uint8", "uint16", "float32"):
            form = arrays.ImageFormat(numpy.dtype(dtype), shape[1] == 3)
            normalise.affine_pixels(image, c1, c2, form)


# Sums


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_against_float64(cp, rng, shape):
    image, day, night, importance = given = arguments(rng, shape)
    u = image.astype(float)
    v = oracles.blend(day, night, importance[:, None].astype(float))
    expected = numpy.stack([term.sum(axis=(-2, -1)) for term in (u, u * u, v, u * v)], axis=-1)
    numpy.testing.assert_allclose(moments_on_device(cp, *given), expected, rtol=SUMS)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_against_the_cpu(cp, rng, shape):
    image, *blend = arguments(rng, shape, exact=False)
    image -= numpy.float32(100)
    expected = normalise.blend_moments(image, *blend)
    found = moments_on_device(cp, image, *blend)
    magnitudes = abs(image).sum(axis=(-2, -1), dtype=float)
    numpy.testing.assert_allclose(found[..., :2], expected[..., :2], rtol=SUMS, atol=SUMS * magnitudes.max())
    limits = numpy.stack([numpy.full_like(magnitudes, shape[2] * shape[3]), magnitudes], axis=-1)
    assert (abs(found[..., 2:] - expected[..., 2:]) <= BLEND_LEVELS * limits).all()


def test_bits_of_moments_do_not_depend_on_the_other_frames(cp, rng):
    image, day, night, importance = arguments(rng, (5, 3, 67, 71), exact=False)
    whole = moments_on_device(cp, image, day, night, importance)
    numpy.testing.assert_array_equal(moments_on_device(cp, image, day, night, importance), whole)
    for start, stop in ((0, 1), (1, 2), (1, 4), (4, 5)):
        part = [a[start:stop] for a in (night, importance)]
        numpy.testing.assert_array_equal(
            moments_on_device(cp, image[start:stop], day, *part), whole[start:stop]
        )
    for c in range(3):
        alone = moments_on_device(cp, image[:, c : c + 1], day[c : c + 1], night[:, c : c + 1], importance)
        numpy.testing.assert_array_equal(alone, whole[:, c : c + 1])


def test_moments_are_linear_in_the_picture(cp, rng):
    image, *blend = arguments(rng, (1, 3, 13, 17))
    once, twice = (moments_on_device(cp, factor * image, *blend) for factor in numpy.float32([1, 2]))
    numpy.testing.assert_array_equal(twice, once * [2, 4, 1, 2])


def test_moments_of_other_layouts_and_numbers_of_channels(cp, rng):
    given = arguments(rng, (2, 2, 9, 11))
    numpy.testing.assert_allclose(moments_on_device(cp, *given), normalise.blend_moments(*given), rtol=SUMS)
    given = [cp.asarray(a) for a in arguments(rng, (2, 3, 9, 11))]
    expected = cp.asnumpy(normalise.blend_moments(*given))
    for convert in (cp.asfortranarray, lambda a: a.astype(float)):
        found = normalise.blend_moments(*(convert(a) for a in given))
        numpy.testing.assert_array_equal(cp.asnumpy(found), expected)


def test_moments_of_no_frames(cp, rng):
    assert moments_on_device(cp, *arguments(rng, (0, 3, 9, 11))).shape == (0, 3, 4)


# Solution


def some_moments(rng, shape=(2, 3, 13, 17)):
    return normalise.blend_moments(*arguments(rng, shape))


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (5, 5), (0, 1), (2, 0), (50, 70)])
def test_shared_fits_against_the_cpu(cp, rng, frames, before, after):
    moments = some_moments(rng, (frames, 3, 13, 17))
    for start, stop in ((0, frames), (frames - 1, frames), (frames // 2, frames)):
        expected = normalise.shared_fits(moments, start, stop, before, after, 13 * 17)
        found = normalise.shared_fits(cp.asarray(moments), start, stop, before, after, 13 * 17)
        for part, wanted in zip(found, expected, strict=True):
            assert isinstance(part, cp.ndarray)
            assert part.dtype == numpy.float64
            assert part.shape == (stop - start, 3)
            numpy.testing.assert_allclose(cp.asnumpy(part), wanted, rtol=SOLUTION, atol=SOLUTION)


def test_bits_of_shared_fits_do_not_depend_on_what_else_is_asked(cp, rng):
    moments = cp.asarray(some_moments(rng, (70, 1, 5, 7)))
    whole = normalise.shared_fits(moments, 0, 70, 3, 3, 35)
    for k in (0, 1, 2, 3, 40, 65, 66, 67, 68, 69):
        # The window alone, as a stream holds it.
        low, high = max(0, k - 3), min(70, k + 4)
        alone = normalise.shared_fits(moments[low:high], k - low, k - low + 1, 3, 3, 35)
        for part, wanted in zip(alone, whole, strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(part)[0], cp.asnumpy(wanted)[k])


@pytest.mark.parametrize("value", [0, 77.7, 0.1, -3e4])
def test_a_constant_keeps_scale_one(cp, rng, value):
    image, *blend = arguments(rng, (3, 1, 43, 61), exact=False)
    image[:] = value
    moments = normalise.blend_moments(*(cp.asarray(a) for a in (image, *blend)))
    c1, c2 = normalise.shared_fits(moments, 0, 3, 0, 0, 43 * 61)
    assert (cp.asnumpy(c1) == 1).all()
    mean_of_blend = cp.asnumpy(moments)[:, 0, 2] / (43 * 61)
    numpy.testing.assert_allclose(cp.asnumpy(c2)[:, 0], mean_of_blend - float(image[0, 0, 0, 0]), atol=1e-7)
    c1, _ = normalise.shared_fits(moments, 0, 3, 1, 1, 43 * 61)
    assert (cp.asnumpy(c1) == 1).all()


@pytest.mark.parametrize(("variance", "expected"), [(-1e-13, 1), (0, 1), (1e-13, 1), (1e-11, 3)])
def test_a_variance_that_is_rounding_counts_as_none(cp, variance, expected):
    # Mean 8, mean square 64 (1 + variance), v = 3 u + 16.
    square = 64 * (1 + variance)
    moments = 5 * numpy.array([[[8, square, 40, 3 * square + 16 * 8]]])
    c1, c2 = normalise.shared_fits(cp.asarray(moments), 0, 1, 0, 0, 5)
    assert float(cp.asnumpy(c1)[0, 0]) == pytest.approx(expected, rel=1e-3)
    assert float(cp.asnumpy(8 * c1 + c2)[0, 0]) == pytest.approx(40)


def test_no_fits(cp):
    c1, c2 = normalise.shared_fits(cp.zeros((2, 3, 4)), 1, 1, 5, 5, 9)
    assert c1.shape == c2.shape == (0, 3)


# Application


def some_fits(rng, shape):
    return rng.normal(1, 0.3, shape), rng.normal(60, 90, shape)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 32, 32), (2, 1, 25, 41), (5, 4), (2, 2, 3, 4, 5)])
def test_apply_affine_has_the_bits_of_the_cpu(cp, rng, shape):
    image = rng.normal(0, 100, shape).astype(numpy.float32)
    c1, c2 = (numpy.asarray(c) for c in some_fits(rng, shape[:-2]))
    given = cp.asarray(image)
    found = normalise.apply_affine(given, cp.asarray(c1), cp.asarray(c2))
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.float32
    numpy.testing.assert_array_equal(cp.asnumpy(found), normalise.apply_affine(image, c1, c2))
    numpy.testing.assert_array_equal(cp.asnumpy(given), image)


def test_apply_affine_repeats_a_pair(cp, rng):
    image = rng.normal(0, 100, (2, 3, 4, 5)).astype(numpy.float32)
    for shape in [(), (3,), (2, 1)]:
        c1, c2 = (numpy.asarray(c) for c in some_fits(rng, shape))
        found = normalise.apply_affine(cp.asarray(image), cp.asarray(c1), cp.asarray(c2))
        numpy.testing.assert_array_equal(cp.asnumpy(found), normalise.apply_affine(image, c1, c2))
    nothing = cp.empty((0, 3, 4, 5), numpy.float32)
    fits = cp.empty((0, 3))
    assert normalise.apply_affine(nothing, fits, fits).shape == nothing.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (8, 1), (7, 11), (2, 3), (32, 32), (25, 41), (33, 32), (53, 59)]
)
def test_pixels_have_the_bits_of_the_cpu(cp, rng, dtype, channels, size):
    image = rng.normal(60, 100, (3, channels, *size)).astype(numpy.float32)
    form = arrays.ImageFormat(numpy.dtype(dtype), channels == 3)
    c1, c2 = some_fits(rng, (3, channels))
    expected = normalise.affine_pixels(image, c1, c2, form)
    found = normalise.affine_pixels(cp.asarray(image), cp.asarray(c1), cp.asarray(c2), form)
    assert isinstance(found, cp.ndarray)
    assert found.dtype == form.dtype
    numpy.testing.assert_array_equal(cp.asnumpy(found), expected)
    assert found.shape == ((3, *size, 3) if channels == 3 else (3, *size))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_clipped_and_rounded_half_to_even(cp, channels):
    levels = numpy.array([-9, -0.5, 0.49, 0.5, 1.5, 2.5, 127.5, 254.5, 255, 255.4, 300, 3e38], numpy.float32)
    image = numpy.repeat(levels[None, None, None], channels, axis=1)
    one = cp.ones((1, channels))
    for dtype, expected in (
        ("uint8", [0, 0, 0, 0, 2, 2, 128, 254, 255, 255, 255, 255]),
        ("uint16", [0, 0, 126, 128, 386, 642, 32768, 65406, 65535, 65535, 65535, 65535]),
    ):
        form = arrays.ImageFormat(numpy.dtype(dtype), channels == 3)
        found = cp.asnumpy(normalise.affine_pixels(cp.asarray(image), one, 0 * one, form))
        for c in range(channels):
            assert (found[0, 0, :, c] if channels == 3 else found[0, 0]).tolist() == expected
        numpy.testing.assert_array_equal(found[0], arrays.from_levels(image[0], form))


def test_pixels_whose_channels_do_not_fit_are_as_on_the_cpu(cp, rng):
    image = rng.normal(100, 50, (2, 3, 4, 5)).astype(numpy.float32)
    c1, c2 = some_fits(rng, (2, 3))
    form = arrays.ImageFormat(numpy.dtype("uint8"), False)
    found = normalise.affine_pixels(cp.asarray(image), cp.asarray(c1), cp.asarray(c2), form)
    numpy.testing.assert_array_equal(cp.asnumpy(found), normalise.affine_pixels(image, c1, c2, form))


def test_pixels_of_no_frames(cp):
    fits = cp.empty((0, 3))
    form = arrays.ImageFormat(numpy.dtype("uint8"), True)
    found = normalise.affine_pixels(cp.empty((0, 3, 4, 5), numpy.float32), fits, fits, form)
    assert found.shape == (0, 4, 5, 3)


def test_nothing_waits_for_the_device(cp, rng):
    image, *blend = (cp.asarray(a) for a in arguments(rng, (2, 3, 9, 11)))
    form = arrays.ImageFormat(numpy.dtype("uint8"), True)
    # The stand-in knows what would wait.
    with getattr(cp, "no_transfers", contextlib.nullcontext)():
        moments = normalise.blend_moments(image, *blend)
        fits = normalise.shared_fits(moments, 0, 2, 1, 1, 99)
        normalise.apply_affine(image, *fits)
        normalise.affine_pixels(image, *fits, form)
