"""Arrays: which module owns them, crossing the bus, and images to planar levels and back.

Inside the package frames are planar, contiguous ``float32`` in grey levels 0..255, with any axes in
front of ``(H, W)``. A function follows the array it is given, NumPy or CuPy; only `to_device`
and `to_host` move data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy

from gpufuse.errors import DeviceError

__all__ = [
    "Array",
    "ImageFormat",
    "array_module",
    "check_levels",
    "check_unit_range",
    "free_memory",
    "from_levels",
    "image_format",
    "to_device",
    "to_host",
    "to_levels",
    "to_share",
    "with_channels",
]

Array: TypeAlias = Any
"""`numpy.ndarray` or `cupy.ndarray`."""

LEVELS = 255.0
"""Grey levels of full brightness, for every input depth."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601)."""


def array_module(*arrays: Array) -> Any:
    """Return the one module, NumPy or CuPy, that owns all the arrays.

    Parameters
    ----------
    *arrays : ndarray
        NumPy or CuPy arrays, at least one; CuPy is never imported in order to ask.

    Returns
    -------
    module
        `numpy` or `cupy`.

    Raises
    ------
    TypeError
        If an argument is neither, or if the arrays live on different devices.

    Examples
    --------
    >>> import numpy
    >>> array_module(numpy.zeros(3)).__name__
    'numpy'
    """
    cupy = sys.modules.get("cupy")
    owners: set[Any] = set()
    for array in arrays:
        if isinstance(array, numpy.ndarray):
            owners.add(numpy)
        elif cupy is not None and isinstance(array, cupy.ndarray):
            owners.add(cupy)
        else:
            raise TypeError(
                f"arrays: expected NumPy or CuPy arrays, got {type(array).__name__}; "
                "convert it with numpy.asarray or gpufuse.to_device"
            )
    if len(owners) != 1:
        raise TypeError(
            "arrays: expected all on one device, got NumPy and CuPy arrays together; "
            "move them with gpufuse.to_device or gpufuse.to_host"
        )
    return owners.pop()


def to_device(array: Array) -> Array:
    """Copy an array to the GPU.

    Parameters
    ----------
    array : ndarray
        NumPy or CuPy array of any shape and dtype.

    Returns
    -------
    cupy.ndarray
        The same values on the current device; a CuPy array is returned as it is.

    Raises
    ------
    DeviceError
        If CuPy is not installed or no GPU can be used.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise DeviceError(
            "to_device: expected CuPy and an NVIDIA GPU, found no CuPy; "
            "install it, for example with pip install 'gpufuse[cuda13]'"
        ) from error
    except Exception as error:  # a broken installation raises whatever it meets
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"to_device: expected a CuPy that can be imported, found {type(error).__name__} ({reason}); "
            "see gpufuse doctor"
        ) from error
    try:
        return cupy.asarray(array)
    except Exception as error:
        raise DeviceError(
            f"to_device: expected a usable NVIDIA GPU, found none ({error}); "
            "check the driver with nvidia-smi, or stay on NumPy arrays"
        ) from error


def to_host(array: Array) -> numpy.ndarray:
    """Copy an array to the host.

    Parameters
    ----------
    array : ndarray
        NumPy or CuPy array of any shape and dtype.

    Returns
    -------
    numpy.ndarray
        The same values; a NumPy array is returned as it is.

    Examples
    --------
    >>> import numpy
    >>> to_host(numpy.arange(3))
    array([0, 1, 2])
    """
    if isinstance(array, numpy.ndarray):
        return array
    return array_module(array).asnumpy(array)  # type: ignore[no-any-return]


def free_memory(array: Array) -> int | None:
    """Return how much more memory arrays of this device may take.

    Parameters
    ----------
    array : ndarray
        NumPy or CuPy.

    Returns
    -------
    int or None
        Bytes, with what CuPy's pool keeps for reuse; None on the host, where nobody asks.

    Examples
    --------
    >>> import numpy
    >>> free_memory(numpy.zeros(1)) is None
    True
    """
    xp = array_module(array)
    if xp is numpy:
        return None
    return int(array.device.mem_info[0] + xp.get_default_memory_pool().free_bytes())


@dataclass(frozen=True)
class ImageFormat:
    """What a public image looked like, so that a result can be given the same form.

    Attributes
    ----------
    dtype : numpy.dtype
        ``uint8``, ``uint16`` or a float type, in native byte order.
    colour : bool
        Whether there is a last axis of three channels.
    """

    dtype: numpy.dtype[Any]
    colour: bool


def image_format(image: Array, *, name: str = "image", leading: int = 0) -> ImageFormat:
    """Check the form of an image (or of images stacked along leading axes).

    Parameters
    ----------
    image : ndarray, shape (..., H, W) or (..., H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1].
    name : str
        The argument's name, for messages.
    leading : int
        Number of axes in front of the image: 0 for an image, 1 for a video.

    Returns
    -------
    ImageFormat

    Raises
    ------
    TypeError
        For something that is no array, or a dtype that no image has.
    ValueError
        For a shape that no image has.
    """
    array_module(image)
    dtype = numpy.dtype(image.dtype).newbyteorder("=")
    if dtype not in (numpy.uint8, numpy.uint16) and dtype.kind != "f":
        raise TypeError(
            f"{name}: expected uint8, uint16 or float in [0, 1], got {dtype}; convert it with astype"
        )
    colour = image.ndim == leading + 3 and image.shape[-1] == 3
    if not (colour or image.ndim == leading + 2) or 0 in image.shape[leading:]:
        front = "T, " * leading
        raise ValueError(
            f"{name}: expected shape ({front}H, W) or ({front}H, W, 3) without empty axes, "
            f"got {tuple(image.shape)}; reorder or select its axes"
        )
    return ImageFormat(dtype, colour)


def to_levels(image: Array, *, name: str = "image", leading: int = 0) -> Array:
    """Turn images into planar levels.

    Parameters
    ----------
    image : ndarray, shape (..., H, W) or (..., H, W, 3)
        ``uint8``, ``uint16`` (65535 = 255 levels) or float in [0, 1]; any layout and byte order.
    name : str
        The argument's name, for messages.
    leading : int
        Number of axes in front of the image.

    Returns
    -------
    ndarray, shape (..., C, H, W), float32, grey levels 0..255
        A new contiguous array on the same device; C is 1 or 3.

    Raises
    ------
    TypeError, ValueError
        As `image_format`; and ``ValueError`` for NaN, infinity or a float outside [0, 1].

    Examples
    --------
    >>> import numpy
    >>> to_levels(numpy.full((1, 2), 65535, numpy.uint16))
    array([[[255., 255.]]], dtype=float32)
    """
    xp = array_module(image)
    form = image_format(image, name=name, leading=leading)
    if form.dtype.kind == "f":
        check_unit_range(image, name=name)
    planar = xp.moveaxis(image, -1, -3) if form.colour else image[..., None, :, :]
    levels = xp.empty(planar.shape, numpy.float32)
    levels[...] = planar
    if form.dtype == numpy.uint16:
        levels *= numpy.float32(LEVELS / 65535.0)
    elif form.dtype.kind == "f":
        levels *= numpy.float32(LEVELS)
    return levels


def check_unit_range(image: Array, *, name: str = "image") -> None:
    """Check that the values of a float image are finite and in [0, 1] (a thousandth beyond is let pass).

    Parameters
    ----------
    image : ndarray, any shape, float
    name : str
        The argument's name, for messages.

    Raises
    ------
    ValueError
        For NaN, infinity or a value outside [0, 1].
    """
    xp = array_module(image)
    if not image.size:
        return
    finite = xp.isfinite(image)
    if not bool(finite.all()):
        raise ValueError(
            f"{name}: expected finite values, got {int(image.size - finite.sum())} NaN or infinite of "
            f"{image.size}; replace them first, for example with numpy.nan_to_num"
        )
    low, high = float(image.min()), float(image.max())
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ValueError(
            f"{name}: expected float values in [0, 1], got {low:g} to {high:g}; "
            "divide by the white level, or pass uint8 or uint16"
        )


def from_levels(levels: Array, form: ImageFormat) -> Array:
    """Turn planar levels into images of a given form.

    Clipped to [0, 255] levels; integers are rounded half to even.

    Parameters
    ----------
    levels : ndarray, shape (..., C, H, W), float32, grey levels
        Not changed.
    form : ImageFormat
        The wanted dtype and channels.

    Returns
    -------
    ndarray, shape (..., H, W) or (..., H, W, 3)
        New array on the same device.

    Examples
    --------
    >>> import numpy
    >>> from_levels(numpy.array([[[0.5, 1.5, 300.0]]]), ImageFormat(numpy.dtype("uint8"), False))
    array([[  0,   2, 255]], dtype=uint8)
    """
    xp = array_module(levels)
    clipped = xp.clip(levels, 0.0, LEVELS)
    if form.dtype.kind == "f":
        pixels = (clipped / numpy.float32(LEVELS)).astype(form.dtype)
    else:
        if form.dtype == numpy.uint16:
            clipped = clipped * (65535.0 / LEVELS)
        pixels = xp.rint(clipped, out=clipped).astype(form.dtype)
    if form.colour:
        return xp.ascontiguousarray(xp.moveaxis(pixels, -3, -1))
    return pixels[..., 0, :, :]


def with_channels(levels: Array, channels: int) -> Array:
    """Give planar levels a number of channels: grey is repeated, colour is weighed to grey.

    Parameters
    ----------
    levels : ndarray, shape (C, H, W), float32, grey levels
    channels : int
        1 or 3.

    Returns
    -------
    ndarray, shape (channels, H, W), float32
        The argument itself if it has them already.

    Examples
    --------
    >>> import numpy
    >>> with_channels(numpy.full((3, 1, 1), 9, numpy.float32), 1).round(3)
    array([[[9.]]], dtype=float32)
    """
    xp = array_module(levels)
    if levels.shape[0] == channels:
        return levels
    if channels == 1:
        weights = xp.asarray(LUMA, dtype=numpy.float32)[:, None, None]
        return (levels * weights).sum(axis=0, keepdims=True)
    return xp.repeat(levels, channels, axis=0)


def to_share(picture: Array, *, name: str = "picture") -> Array:
    """Turn a grey picture that stands for a share into that share.

    Parameters
    ----------
    picture : ndarray, shape (H, W) or (H, W, 3)
        ``bool``, ``uint8`` (255 = 1), ``uint16`` (65535 = 1) or float in [0, 1]; of colours the mean.
    name : str
        The argument's name, for messages.

    Returns
    -------
    ndarray, shape (H, W), float32 in [0, 1]
        On the same device.

    Raises
    ------
    TypeError, ValueError
        As `to_levels`.

    Examples
    --------
    >>> import numpy
    >>> to_share(numpy.array([[0, 51, 255]], numpy.uint8))
    array([[0. , 0.2, 1. ]], dtype=float32)
    """
    xp = array_module(picture)
    if picture.dtype == bool:
        return picture.astype(xp.float32)
    return to_levels(picture, name=name).mean(axis=0) / numpy.float32(LEVELS)


def check_levels(
    levels: Array, *, name: str = "frames", axes: str = "(T, C, H, W)", check_values: bool = True
) -> Array:
    """Check planar levels given to a stage, and make them contiguous ``float32``.

    Parameters
    ----------
    levels : ndarray
        Numbers in grey levels; the axes named by `axes`, or any axes in front of (H, W) if `axes`
        begins with ``(...``.
    name, axes : str
        For messages and for the number of axes.
    check_values : bool
        False: type and shape are checked, but not that values are finite, which needs a look at all of
        them and, on a GPU, waits for it.

    Returns
    -------
    ndarray, float32, contiguous, native byte order
        The argument itself where it already has this form.

    Raises
    ------
    TypeError
        For something that is no NumPy or CuPy array of real numbers.
    ValueError
        For a wrong number of axes, an empty image, NaN or infinity.
    """
    xp = array_module(levels)
    if numpy.dtype(levels.dtype).kind not in "fuib":
        raise TypeError(f"{name}: expected float32 grey levels, got {levels.dtype}; convert it with astype")
    expected = axes.count(",") + 1
    any_leading = axes.startswith("(...")
    if (levels.ndim < 2 if any_leading else levels.ndim != expected) or 0 in levels.shape[-2:]:
        raise ValueError(f"{name}: expected shape {axes}, got {tuple(levels.shape)}; reshape it")
    with numpy.errstate(invalid="ignore", over="ignore"):
        checked = xp.ascontiguousarray(levels, dtype=numpy.float32)
        # A sum is finite exactly if no term is NaN or infinite (levels are far from overflow).
        finite = not check_values or bool(xp.isfinite(checked.sum()))
    if not finite:
        raise ValueError(f"{name}: expected finite grey levels, got NaN or infinity; replace them first")
    return checked
