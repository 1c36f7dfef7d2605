"""Which module owns an array, and images to planar levels and back."""

import sys

import numpy
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gpufuse import arrays, errors

MODERATE = settings(derandomize=True, deadline=None, max_examples=30)
PICTURES = arrays_of.array_shapes(min_dims=2, max_dims=2, max_side=7)
DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]


def picture(rng, dtype, shape):
    if numpy.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, numpy.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def test_numpy_arrays_belong_to_numpy():
    assert arrays.array_module(numpy.zeros(1), numpy.ones((2, 2), bool)) is numpy


@pytest.mark.parametrize("other", [[1, 2], None, 3.0, "frames"])
def test_what_is_no_array_has_no_module(other):
    with pytest.raises(
        TypeError, match=f"expected NumPy or CuPy arrays, got {type(other).__name__}; convert"
    ):
        arrays.array_module(numpy.zeros(1), other)


def test_no_array_at_all():
    with pytest.raises(TypeError, match="expected all on one device"):
        arrays.array_module()


class FakeCupy:
    class ndarray:  # noqa: N801
        pass


def test_arrays_of_two_devices(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy)
    assert arrays.array_module(FakeCupy.ndarray()) is FakeCupy
    with pytest.raises(TypeError, match=r"NumPy and CuPy arrays together; move them with gpufuse\.to_device"):
        arrays.array_module(numpy.zeros(1), FakeCupy.ndarray())


def test_to_device_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(errors.DeviceError, match="found no CuPy; install it"):
        arrays.to_device(numpy.zeros(1))


def test_to_device_without_gpu(monkeypatch):
    class Broken(FakeCupy):
        @staticmethod
        def asarray(array):
            raise OSError("no driver")

    monkeypatch.setitem(sys.modules, "cupy", Broken)
    with pytest.raises(errors.DeviceError, match=r"usable NVIDIA GPU, found none \(no driver\); check"):
        arrays.to_device(numpy.zeros(1))


def test_to_host_returns_the_host_array_itself():
    a = numpy.arange(3)
    assert arrays.to_host(a) is a
    with pytest.raises(TypeError, match="got list"):
        arrays.to_host([1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (1, 1, 3), (4, 3), (3, 3, 3)])
def test_round_trip_through_levels(rng, dtype, shape):
    image = picture(rng, dtype, shape)
    levels = arrays.to_levels(image)
    colour = len(shape) == 3
    assert levels.shape == (3 if colour else 1, *shape[:2])
    assert levels.dtype == numpy.float32
    assert levels.flags.c_contiguous
    assert 0 <= levels.min() <= levels.max() <= 255
    back = arrays.from_levels(levels, arrays.image_format(image))
    assert back.dtype == image.dtype
    assert back.flags.c_contiguous
    if image.dtype.kind == "f":
        numpy.testing.assert_allclose(back, image, atol=2e-7 if dtype != "float16" else 1e-3)
    else:
        numpy.testing.assert_allclose(back, image, atol=tolerances.UINT16_ROUND_TRIP)


@pytest.mark.parametrize(("dtype", "step"), [("uint8", 1), ("uint16", 257)])
def test_every_integer_survives(dtype, step):
    image = numpy.arange(numpy.iinfo(dtype).max + 1).astype(dtype).reshape(-1, 256)
    levels = arrays.to_levels(image)
    numpy.testing.assert_allclose(levels[0] * step, image, rtol=3e-7)
    numpy.testing.assert_array_equal(arrays.from_levels(levels, arrays.image_format(image)), image)


def test_white_is_255_levels_in_every_depth():
    for white in (
        numpy.uint8(255),
        numpy.uint16(65535),
        numpy.float16(1),
        numpy.float32(1),
        numpy.float64(1),
    ):
        assert arrays.to_levels(numpy.full((1, 1), white))[0, 0, 0] == 255


def test_rounding_is_half_to_even_and_clips():
    levels = numpy.array([[[-5, 0.5, 1.5, 2.5, 254.5, 255.4, 900]]], numpy.float32)
    kept = levels.copy()
    image = arrays.from_levels(levels, arrays.ImageFormat(numpy.dtype("uint8"), False))
    assert image.tolist() == [[0, 0, 2, 2, 254, 255, 255]]
    image = arrays.from_levels(levels, arrays.ImageFormat(numpy.dtype("float32"), False))
    assert (image.min(), image.max()) == (0, 1)
    numpy.testing.assert_array_equal(levels, kept)


@MODERATE
@given(st.data())
def test_layout_does_not_matter(data):
    shape = data.draw(PICTURES) + data.draw(st.sampled_from([(), (3,)]))
    image = data.draw(arrays_of.arrays(numpy.uint16, shape))
    expected = arrays.to_levels(image)
    wide = numpy.zeros([2 * n for n in shape], numpy.uint16)[tuple(slice(None, None, 2) for _ in shape)]
    wide[...] = image
    flipped = image[::-1, ::-1].copy()[::-1, ::-1]
    for form in (image.astype(">u2"), image.astype("<u2"), numpy.asfortranarray(image), wide, flipped):
        form.flags.writeable = False
        assert arrays.image_format(form) == arrays.image_format(image)
        numpy.testing.assert_array_equal(arrays.to_levels(form), expected)


def test_levels_are_a_copy():
    image = numpy.zeros((2, 2), numpy.float32)
    arrays.to_levels(image)[...] = 9
    assert image.max() == 0


def test_leading_axes():
    clip = numpy.arange(2 * 3 * 4 * 3, dtype=numpy.uint8).reshape(2, 3, 4, 3)
    levels = arrays.to_levels(clip, leading=1)
    assert levels.shape == (2, 3, 3, 4)
    for frame, expected in zip(levels, clip, strict=True):
        numpy.testing.assert_array_equal(frame, arrays.to_levels(expected))
    form = arrays.image_format(clip, leading=1)
    numpy.testing.assert_array_equal(arrays.from_levels(levels, form), clip)


@pytest.mark.parametrize(
    "dtype",
    [
        "uint8",
        "uint16",
        "float32",
    ],
)
def test_a_clip_without_frames_has_no_levels(dtype):
    clip = numpy.empty((0, 4, 5, 3), dtype)
    assert arrays.to_levels(clip, leading=1).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (2, 3, 1), (1, 2, 3, 3), (0, 4), (4, 0), (4, 0, 3)])
def test_shapes_that_no_image_has(shape):
    with pytest.raises(
        ValueError, match=r"night: expected shape \(H, W\) or \(H, W, 3\) without empty axes, got"
    ):
        arrays.image_format(numpy.zeros(shape, numpy.uint8), name="night")


def test_message_names_the_leading_axis():
    with pytest.raises(ValueError, match=r"expected shape \(T, H, W\) or \(T, H, W, 3\)"):
        arrays.image_format(numpy.zeros((2, 2), numpy.uint8), leading=1)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "int32", "int64", "uint32", "complex64", "O", "U1"]
)
def test_dtypes_that_no_image_has(dtype):
    with pytest.raises(TypeError, match=r"image: expected uint8, uint16 or float in \[0, 1\], got .*astype"):
        arrays.image_format(numpy.zeros((2, 2), dtype))


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite(bad, dtype):
    image = numpy.zeros((4, 5), dtype)
    image[2, 3] = bad
    with pytest.raises(ValueError, match="day: expected finite values, got 1 NaN or infinite of 20; replace"):
        arrays.to_levels(image, name="day")


@pytest.mark.parametrize("bad", [-0.5, 1.5, 255.0])
def test_floats_outside_the_unit_range(bad):
    with pytest.raises(
        ValueError, match=rf"expected float values in \[0, 1\], got .*{bad:g}.*; divide by the white"
    ):
        arrays.to_levels(numpy.array([[0.5, bad]]))


def test_levels_that_fit_are_returned_themselves():
    levels = numpy.zeros((2, 1, 3, 4), numpy.float32)
    assert arrays.check_levels(levels) is levels
    for form in (
        levels.astype(">f4"),
        levels.astype(int),
        numpy.asfortranarray(levels),
        levels[..., ::-1] + 0,
    ):
        checked = arrays.check_levels(form)
        assert checked.dtype == numpy.dtype("float32").newbyteorder("=")
        assert checked.flags.c_contiguous


def test_levels_of_wrong_kind_or_shape():
    with pytest.raises(TypeError, match="u: expected float32 grey levels, got complex128; convert"):
        arrays.check_levels(numpy.zeros((1, 1), complex), name="u", axes="(..., H, W)")
    with pytest.raises(ValueError, match=r"frames: expected shape \(T, C, H, W\), got \(1, 2, 3\); reshape"):
        arrays.check_levels(numpy.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match=r"expected shape \(..., H, W\), got \(0, 3\)"):
        arrays.check_levels(numpy.zeros((0, 3)), axes="(..., H, W)")


@pytest.mark.parametrize("bad", [[numpy.nan], [numpy.inf], [-numpy.inf], [numpy.nan, numpy.inf]])
def test_levels_that_are_not_finite(bad):
    levels = numpy.zeros((1, 1, 4, 5), numpy.float32)
    levels.flat[3 : 3 + len(bad)] = bad
    with pytest.raises(ValueError, match="frames: expected finite grey levels, got NaN or infinity; replace"):
        arrays.check_levels(levels)


def test_levels_with_both_infinities_raise_without_warning():
    levels = numpy.array([[numpy.inf, -numpy.inf]], numpy.float32)
    with pytest.raises(ValueError, match="expected finite grey levels"):
        arrays.check_levels(levels, axes="(..., H, W)")


def test_values_of_levels_need_not_be_checked():
    levels = numpy.full((1, 1, 2, 2), numpy.nan, numpy.float32)
    assert arrays.check_levels(levels, check_values=False) is levels
    with pytest.raises(ValueError, match="expected shape"):
        arrays.check_levels(levels[0], check_values=False)
