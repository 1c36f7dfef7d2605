"""Grey planes of pictures, and smaller ones: what is compared when only the layout of a view matters."""

from __future__ import annotations

import math

import numpy

from gpufuse.arrays import LEVELS, LUMA, Array, check_unit_range, image_format
from gpufuse.resampling import check_pair

__all__ = ["grey_plane", "of_size", "picture_size", "reduced", "reduction"]


def picture_size(picture: Array) -> tuple[int, int]:
    """Tell height and width of what `grey_plane` accepts.

    Parameters
    ----------
    picture : ndarray

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> picture_size(numpy.zeros((3, 20, 30), numpy.float32)), picture_size(numpy.zeros((20, 30, 3)))
    ((20, 30), (20, 30))
    """
    height, width = picture.shape[-2:] if _is_planar(picture) else picture.shape[:2]
    return height, width


def _is_planar(picture: Array) -> bool:
    channels_first = picture.ndim == 3 and picture.shape[0] in (1, 3) and picture.shape[-1] != 3
    return bool(channels_first and picture.dtype.kind == "f")


def grey_plane(picture: Array) -> numpy.ndarray:
    """Make a grey plane of a picture.

    Parameters
    ----------
    picture : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1], on the host; or planar float grey levels (1, H, W) or (3, H, W).

    Returns
    -------
    ndarray, shape (H, W), float32, grey levels

    Raises
    ------
    TypeError, ValueError
        For something that is no picture.

    Examples
    --------
    >>> grey_plane(numpy.full((1, 2, 3), 65535, numpy.uint16)).round(3)
    array([[255., 255.]], dtype=float32)
    """
    plane: numpy.ndarray
    if _is_planar(picture):
        if picture.shape[0] == 1:
            return numpy.ascontiguousarray(picture[0], numpy.float32)
        red, green, blue = (numpy.float32(weight) * picture[k] for k, weight in enumerate(LUMA))
        plane = red + green + blue
        return numpy.ascontiguousarray(plane, numpy.float32)
    form = image_format(picture)
    if form.dtype.kind == "f":
        check_unit_range(picture, name="picture")
    plane = picture @ numpy.asarray(LUMA, numpy.float32) if form.colour else picture
    white = {"u1": 255.0, "u2": 65535.0}.get(form.dtype.str[1:], 1.0)
    return numpy.ascontiguousarray(plane, numpy.float32) * numpy.float32(LEVELS / white)


def reduction(shape: tuple[int, ...], longest: int) -> int:
    """Find the whole factor by which a picture has to shrink.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    longest : int
        What the longer side may be.

    Returns
    -------
    int

    Examples
    --------
    >>> reduction((1080, 1920), 512)
    4
    """
    return max(1, math.ceil(max(shape) / longest))


def reduced(plane: Array, factor: int) -> Array:
    """Average squares of pixels; what is over at the right and at the bottom is left out.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32
        NumPy or CuPy.
    factor : int

    Returns
    -------
    ndarray, shape (H // factor, W // factor), float32
        On the same device; the argument itself for a factor of 1.

    Examples
    --------
    >>> reduced(numpy.arange(10, dtype=numpy.float32).reshape(2, 5), 2)
    array([[3., 5.]], dtype=float32)
    """
    if factor == 1:
        return plane
    height, width = (length // factor * factor for length in plane.shape)
    part = plane[:height, :width]
    rows = part[::factor].copy()
    for k in range(1, factor):
        rows += part[k::factor]
    columns = rows[:, ::factor].copy()
    for k in range(1, factor):
        columns += rows[:, k::factor]
    columns /= numpy.float32(factor * factor)
    return columns


def of_size(plane: numpy.ndarray, size: tuple[int, int]) -> numpy.ndarray:
    """Average a larger day down to the size of its night.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32
    size : tuple of int
        Height and width of the night.

    Returns
    -------
    ndarray, shape `size`, float32
        The argument itself if it has that size.

    Raises
    ------
    PairError
        If the sizes do not belong together.

    Examples
    --------
    >>> of_size(numpy.arange(6, dtype=numpy.float32).reshape(2, 3), (2, 3))[1]
    array([3., 4., 5.], dtype=float32)
    """
    shape = plane.shape[0], plane.shape[1]
    if shape == size:
        return plane
    check_pair(shape, size)
    factor = shape[0] // size[0]
    if shape == (size[0] * factor, size[1] * factor):
        whole: numpy.ndarray = reduced(plane, factor)
        return whole
    for axis in (0, 1):
        plane = numpy.moveaxis(_averaged_rows(numpy.moveaxis(plane, axis, 0), size[axis]), 0, axis)
    return numpy.ascontiguousarray(plane)


def _averaged_rows(plane: numpy.ndarray, length: int) -> numpy.ndarray:
    """Means over rows of which there are a broken number to each new one."""
    edges = numpy.arange(length + 1) * (len(plane) / length)
    sums = numpy.zeros((len(plane) + 1, *plane.shape[1:]))
    numpy.cumsum(plane, axis=0, dtype=numpy.float64, out=sums[1:])
    below = numpy.minimum(edges.astype(int), len(plane) - 1)
    share = (edges - below)[:, None]
    at_edges = sums[below] * (1 - share) + sums[below + 1] * share
    means: numpy.ndarray = numpy.diff(at_edges, axis=0) * (length / len(plane))
    return means.astype(numpy.float32)
