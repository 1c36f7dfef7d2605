"""CUDA twin of gradient mixing with divergence."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = ["CHANNELS", "FILE", "VARIANTS", "mixed_divergence"]

FILE = "mixing"

CHANNELS = (1, 3)
"""Numbers of channels that the kernel is compiled for."""

VARIANTS = tuple(f"mixed_divergence<{channels}>" for channels in CHANNELS)

_WARPS = 4
_STRIP = _WARPS * 30  # columns of a block

# Enough segments to fill a GPU with few frames; two rows in this many are read again.
_ROWS = 20


def mixed_divergence(
    day: Any, night: Any, importance: Any, day_only: Any, larger_where_zero: bool, night_gain: float
) -> Any:
    """Divergence of the mixed gradients of many frames.

    Parameters
    ----------
    day : cupy.ndarray, shape (T or 1, C, H, W), float32, grey levels
    night : cupy.ndarray, shape (T, C, H, W), float32, grey levels
        C is one of `CHANNELS`.
    importance : cupy.ndarray, shape (T, H, W), float32
    day_only : cupy.ndarray, shape (T, H, W) or (0, 0, 0), bool
    larger_where_zero, night_gain
        As in `gpufuse.mixing.mix_gradients`.

    Returns
    -------
    cupy.ndarray, shape (T, C, H, W), float32
    """
    import cupy

    rhs = cupy.empty(night.shape, numpy.float32)
    frames, channels, height, width = night.shape
    if rhs.size == 0:
        return rhs
    kernel(FILE, f"mixed_divergence<{channels}>", VARIANTS)(
        (frames, -(-width // _STRIP), -(-height // _ROWS)),
        (32, _WARPS),
        (
            day,
            night,
            importance,
            day_only.view(numpy.uint8),
            rhs,
            numpy.int32(height),
            numpy.int32(width),
            numpy.int32(_ROWS),
            numpy.int32(day.shape[0]),
            numpy.int32(day_only.size > 0),
            numpy.int32(larger_where_zero),
            numpy.float32(night_gain),
        ),
    )
    return rhs
