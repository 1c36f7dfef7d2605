"""CUDA twin of the importance of moving lamps."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = ["FILE", "VARIANTS", "keep_lamps"]

FILE = "lamps"

VARIANTS = ("keep_lamps<float>", "keep_lamps<float4>")

_THREADS = 256
_MOST_ROWS = 65535  # of a grid


def keep_lamps(weights: Any, frames: Any, threshold: float, gain: float) -> tuple[Any, Any]:
    """Raise the importance of moving lamps, and find the share of the night that they are to keep.

    Parameters
    ----------
    weights : cupy.ndarray, shape (T, H, W), float32
    frames : cupy.ndarray, shape (T, C, H, W), float32, grey levels
        At least one channel.
    threshold : float
        Grey levels, above 0; may be infinite.
    gain : float
        Factor on the weights, which end at 1.

    Returns
    -------
    kept, target_share : cupy.ndarray, shape (T, H, W), float32
    """
    import cupy

    kept, share = cupy.empty(weights.shape, numpy.float32), cupy.empty(weights.shape, numpy.float32)
    if weights.size == 0:
        return kept, share
    half = min(threshold / 2, float(numpy.finfo(numpy.float32).max))  # so that no remainder is infinite
    count, channels, height, width = frames.shape
    pixels = height * width
    together = 1 if pixels % 4 else 4
    kernel(FILE, "keep_lamps<float>" if together == 1 else "keep_lamps<float4>", VARIANTS)(
        (-(-(pixels // together) // _THREADS), min(count, _MOST_ROWS)),
        (_THREADS,),
        (
            weights,
            frames,
            kept,
            share,
            numpy.int32(count),
            numpy.int32(channels),
            numpy.int32(pixels // together),
            numpy.float32(half),
            numpy.float32(gain),
        ),
    )
    return kept, share
