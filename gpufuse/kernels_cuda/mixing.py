"""CUDA twin of gradient mixing with divergence."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = ["CHANNELS", "FILE", "VARIANTS", "mixed_divergence"]

FILE = "mixing"

CHANNELS = (1, 3)
"""Numbers of channels that the kernel is compiled for."""


def _variant(channels: int, lifted: bool, pulled: bool) -> str:
    return f"mixed_divergence<{channels}, {str(lifted).lower()}, {str(pulled).lower()}>"


VARIANTS = tuple(_variant(*choice) for choice in product(CHANNELS, (False, True), (False, True)))

_WARPS = 4
_STRIP = _WARPS * 30  # columns of a block

# Enough segments to fill a GPU with few frames; two rows in this many are read again.
_ROWS = 20


def mixed_divergence(
    day: Any,
    night: Any,
    importance: Any,
    day_only: Any,
    larger_where_zero: bool,
    night_gain: float,
    night_floor: Any,
    lift: Any,
    lift_span: float,
    target_share: Any,
    data_weight: float,
) -> Any:
    """Divergence of the mixed gradients of many frames, pulled towards a picture.

    Parameters
    ----------
    day : cupy.ndarray, shape (T or 1, C, H, W), float32, grey levels
    night : cupy.ndarray, shape (T, C, H, W), float32, grey levels
        C is one of `CHANNELS`.
    importance : cupy.ndarray, shape (T, H, W), float32
    day_only : cupy.ndarray, shape (T, H, W) or (0, 0, 0), bool
    larger_where_zero, night_gain
        As in `gpufuse.mixing.mix_gradients`.
    night_floor, lift : float, or cupy.ndarray of shape (), float32
        As in `gpufuse.mixing.mix_gradients`.
    lift_span : float
        Grey levels of the brightest channel at which half of the lift is left.
    target_share : cupy.ndarray, shape (T, H, W), float32
        Not read if `data_weight` is 0.
    data_weight : float
        As in `gpufuse.mixing.mixed_divergence`.

    Returns
    -------
    cupy.ndarray, shape (T, C, H, W), float32
    """
    import cupy

    rhs = cupy.empty(night.shape, numpy.float32)
    frames, channels, height, width = night.shape
    if rhs.size == 0:
        return rhs
    lifted = isinstance(lift, cupy.ndarray) or lift != 1
    floored = isinstance(night_floor, cupy.ndarray) or night_floor != 0
    not_read = importance
    kernel(FILE, _variant(channels, lifted, data_weight > 0), VARIANTS)(
        (frames, -(-width // _STRIP), -(-height // _ROWS)),
        (32, _WARPS),
        (
            day,
            night,
            importance,
            day_only.view(numpy.uint8),
            target_share,
            _on_device(lift) if lifted else not_read,
            _on_device(night_floor) if floored else not_read,
            rhs,
            numpy.int32(height),
            numpy.int32(width),
            numpy.int32(_ROWS),
            numpy.int32(day.shape[0]),
            numpy.int32(day_only.size > 0),
            numpy.int32(floored),
            numpy.int32(larger_where_zero),
            numpy.float32(night_gain),
            numpy.float32(lift_span),
            numpy.float32(data_weight),
        ),
    )
    return rhs


def _on_device(value: Any) -> Any:
    import cupy

    return value if isinstance(value, cupy.ndarray) else cupy.full((), value, numpy.float32)
