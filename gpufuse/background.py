"""The daytime plate: the street without its traffic, by a median over time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module, check_unit_range, image_format
from gpufuse.errors import InputError

__all__ = ["MEMORY", "daytime_background", "median_plate"]

MEMORY = 512 * 2**20
"""Bytes of frames kept at once by `daytime_background`."""

_FEWEST = 31
"""Frames kept whatever their size: fewer would leave traffic in the plate."""


def daytime_background(frames: Iterable[Array], *, memory: int = MEMORY) -> Array:
    """Make the daytime plate from frames of a day clip.

    Parameters
    ----------
    frames : iterable of ndarray, or one ndarray with a leading time axis
        Public images of one shape and dtype, ``(H, W)`` or ``(H, W, 3)``: ``uint8``, ``uint16`` or float in
        [0, 1]; NumPy or CuPy. About 15 s of video.
    memory : int
        Bytes of frames to keep (but at least 31 frames). When a clip needs more, every second kept
        frame is dropped and from then on only every n-th is taken: the memory does not grow with the clip.

    Returns
    -------
    ndarray, shape and dtype of one frame
        Per-pixel median over the frames kept, on their device. 8-bit input is counted exactly; between
        two middle values their mean is rounded half to even.

    Raises
    ------
    InputError
        If there is no frame.
    TypeError, ValueError
        For something that is no image, or images of different form.

    Notes
    -----
    Ilie, Raskar and Yu (2004), section 4. Synchronises: for float frames only, to check their range.

    Examples
    --------
    >>> import numpy
    >>> daytime_background(numpy.array([[[10]], [[200]], [[12]]], numpy.uint8))
    array([[12]], dtype=uint8)
    """
    kept = _evenly_spaced(frames, memory)
    if not kept:
        raise InputError("frames: expected at least one day frame, found none; give a longer clip")
    xp = array_module(*kept)
    return median_plate(xp.stack(kept))


def _evenly_spaced(frames: Iterable[Array], memory: int) -> list[Array]:
    """Keep every n-th frame, with n doubled whenever the memory is full."""
    kept: list[Array] = []
    stride = 1
    for index, frame in enumerate(frames):
        if image_format(frame, name=f"frames[{index}]").dtype.kind == "f":
            check_unit_range(frame, name=f"frames[{index}]")
        if kept and (frame.shape != kept[0].shape or frame.dtype != kept[0].dtype):
            raise ValueError(
                f"frames[{index}]: expected {tuple(kept[0].shape)} {kept[0].dtype} like the first, "
                f"got {tuple(frame.shape)} {frame.dtype}; give frames of one clip"
            )
        if index % stride:
            continue
        if len(kept) >= max(_FEWEST, memory // frame.nbytes):
            kept = kept[::2]
            stride *= 2
            if index % stride:
                continue
        kept.append(frame.copy())  # a decoder may use the same memory for the next frame
    return kept


def median_plate(stack: Array) -> Array:
    """Median over the first axis, in the dtype of the input.

    Parameters
    ----------
    stack : ndarray, shape (T, ...), real numbers
        NumPy or CuPy, T at least 1.

    Returns
    -------
    ndarray, shape (...)
        Same dtype and device; integers are rounded half to even.

    Examples
    --------
    >>> import numpy
    >>> median_plate(numpy.array([[1, 4], [2, 3]], numpy.uint8))
    array([2, 4], dtype=uint8)
    """
    xp = array_module(stack)
    if stack.dtype == numpy.uint8 and len(stack) <= 65535:
        samples = math.prod(stack.shape[1:])
        flat = xp.ascontiguousarray(stack).reshape(len(stack), samples)
        middle = _twin(xp).median_8bit(flat).reshape(stack.shape[1:])
    else:
        middle = xp.median(stack, axis=0)
    if numpy.dtype(stack.dtype).kind in "ui":
        middle = xp.rint(middle)
    return middle.astype(stack.dtype)


def _twin(xp: Any) -> Any:
    if xp is numpy:
        from gpufuse.kernels_cpu import median as cpu

        return cpu
    from gpufuse.kernels_cuda import median as cuda

    return cuda
