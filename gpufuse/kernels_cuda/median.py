"""CUDA twin of the exact 8-bit median over time."""

from __future__ import annotations

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.kernels_cuda._compile import kernel

__all__ = ["FILE", "median_8bit"]

FILE = "median"

_THREADS = 256  # as in the kernel


def median_8bit(frames: Array) -> Array:
    """Median over the first axis.

    Parameters
    ----------
    frames : cupy.ndarray, shape (T, N), uint8, contiguous
        At most 65535 frames and 2**31 - 1 samples.

    Returns
    -------
    cupy.ndarray, shape (N,), float32
        Mean of the two middle values where T is even.
    """
    count, samples = frames.shape
    out = array_module(frames).empty(samples, numpy.float32)
    if samples:
        kernel(FILE, "median_8bit")(
            (-(-samples // _THREADS),),
            (_THREADS,),
            (frames, out, numpy.int32(count), numpy.int32(samples)),
        )
    return out
