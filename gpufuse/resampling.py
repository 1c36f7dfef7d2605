"""Bringing the night to the size of a larger day picture."""

from __future__ import annotations

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.errors import PairError

__all__ = ["check_pair", "enlarged"]

_TOLERANCE = 0.02
"""Greatest relative difference between the factors in width and height."""


def check_pair(day: tuple[int, int], night: tuple[int, int]) -> None:
    """Check that a day and a night picture can show the same view.

    Parameters
    ----------
    day, night : tuple of int
        Height and width in pixels.

    Raises
    ------
    PairError
        Unless the day is as large as the night, or larger with the same aspect ratio (2 %).

    Examples
    --------
    >>> check_pair((480, 640), (240, 320))
    """
    vertical, horizontal = day[0] / night[0], day[1] / night[1]
    same_shape = abs(vertical - horizontal) <= _TOLERANCE * max(vertical, horizontal)
    if day == night or (same_shape and vertical >= 1 and horizontal >= 1):
        return
    raise PairError(
        f"day: expected {night[1]}x{night[0]} like the night, or larger with the same aspect ratio (2 %), "
        f"got {day[1]}x{day[0]}; crop or resize one of them"
    )


def enlarged(frames: Array, size: tuple[int, int]) -> Array:
    """Resample planes bilinearly, pixel centres aligned with the whole picture.

    Parameters
    ----------
    frames : ndarray, shape (..., H, W), float32
        NumPy or CuPy.
    size : tuple of int
        Wanted height and width in pixels.

    Returns
    -------
    ndarray, shape (..., *size), float32
        On the same device; the argument itself if it has that size.

    Examples
    --------
    >>> import numpy
    >>> enlarged(numpy.array([[0.0, 4.0]], numpy.float32), (1, 4))
    array([[0., 1., 3., 4.]], dtype=float32)
    """
    for axis, length in ((-2, size[0]), (-1, size[1])):
        if frames.shape[axis] != length:
            frames = _enlarged_axis(frames, axis, length)
    return frames


def _enlarged_axis(frames: Array, axis: int, length: int) -> Array:
    xp = array_module(frames)
    known = frames.shape[axis]
    centres = numpy.clip((numpy.arange(length) + 0.5) * known / length - 0.5, 0, known - 1)
    below = numpy.floor(centres).astype(numpy.int64)
    share = (centres - below).astype(numpy.float32)
    above = numpy.minimum(below + 1, known - 1)
    near = xp.take(frames, xp.asarray(below), axis=axis)
    far = xp.take(frames, xp.asarray(above), axis=axis)
    shape = (length, 1) if axis == -2 else (length,)
    far -= near
    far *= xp.asarray(share).reshape(shape)
    near += far
    return near
