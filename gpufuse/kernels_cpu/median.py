"""CPU twin of the exact 8-bit median over time: a bit search by counting, without sorting."""

from __future__ import annotations

import numpy

from gpufuse.kernels_cpu._compile import kernel
from gpufuse.threads import for_bands

__all__ = ["median_8bit"]

_TILE = 4096


def median_8bit(frames: numpy.ndarray) -> numpy.ndarray:
    """Median over the first axis.

    Parameters
    ----------
    frames : ndarray, shape (T, N), uint8, contiguous
        At most 65535 frames.

    Returns
    -------
    ndarray, shape (N,), float32
        Mean of the two middle values where T is even.
    """
    count, samples = frames.shape
    out = numpy.empty(samples, numpy.float32)
    tiles = -(-samples // _TILE)
    for_bands(_median_tiles, tiles, frames, (count + 1) // 2, count // 2 + 1, out)
    return out


@kernel
def _count_below(values, candidate, below):  # type: ignore[no-untyped-def]
    for i in range(below.size):
        below[i] += numpy.uint16(1) if values[i] < candidate[i] else numpy.uint16(0)


@kernel
def _order_statistic(frames, lo, hi, rank, value):  # type: ignore[no-untyped-def]
    """The `rank`-th smallest value (from 1): the largest v with fewer than `rank` samples below it."""
    size = hi - lo
    candidate = numpy.empty(size, numpy.uint8)
    below = numpy.empty(size, numpy.uint16)
    value[:] = numpy.uint8(0)
    for bit in range(7, -1, -1):
        step = numpy.uint8(1 << bit)
        for i in range(size):
            candidate[i] = value[i] | step
            below[i] = numpy.uint16(0)
        for t in range(frames.shape[0]):
            _count_below(frames[t, lo:hi], candidate, below)
        for i in range(size):
            if below[i] < rank:
                value[i] = candidate[i]


@kernel
def _median_tiles(first, last, frames, lower_rank, upper_rank, out):  # type: ignore[no-untyped-def]
    samples = frames.shape[1]
    for tile in range(first, last):
        lo = tile * _TILE
        hi = min(lo + _TILE, samples)
        lower = numpy.empty(hi - lo, numpy.uint8)
        _order_statistic(frames, lo, hi, lower_rank, lower)
        upper = lower
        if upper_rank != lower_rank:
            upper = numpy.empty(hi - lo, numpy.uint8)
            _order_statistic(frames, lo, hi, upper_rank, upper)
        target = out[lo:hi]
        for i in range(hi - lo):
            target[i] = numpy.float32(0.5) * (numpy.float32(lower[i]) + numpy.float32(upper[i]))
