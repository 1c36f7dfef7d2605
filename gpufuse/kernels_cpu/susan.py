"""CPU twin of the 3D SUSAN filter: one pass over frames with a temporal halo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from gpufuse.kernels_cpu._compile import kernel, wide_vectors
from gpufuse.threads import for_bands

__all__ = ["susan3d_pass"]

# exp(-x) is computed as p(x / 32) ** 32 with p(z) close to exp(-z) on [0, 1]: a polynomial and five
# squarings vectorise, a call of exp does not. Least-squares fit on Chebyshev nodes, relative error of
# the weight below 3e-5. Larger x are cut at 32, where the weight is 1e-14.
_P0 = numpy.float32(0.9999992847442627)
_P1 = numpy.float32(-0.9999565482139587)
_P2 = numpy.float32(0.4995359778404236)
_P3 = numpy.float32(-0.16478566825389862)
_P4 = numpy.float32(0.0380881167948246)
_P5 = numpy.float32(-0.0050020064227283)
_POWER = 32.0
_ONE = numpy.float32(1.0)

EMPTY_USAN = numpy.float32(1e-6)
"""Sum of weights under which a sample has no similar neighbour."""


def susan3d_pass(
    frames: Sequence[numpy.ndarray],
    out: numpy.ndarray,
    start: int,
    sigma: float,
    threshold: float,
) -> None:
    """Filter frames ``start .. start + len(out) - 1`` of `frames` into `out`.

    Parameters
    ----------
    frames : sequence of ndarray, shape (C, H, W), float32, contiguous, grey levels
        With the temporal halo that exists; beyond its two ends frames are replicated.
    out : ndarray, shape (t, C, H, W), float32
        Written.
    start : int
        Index in `frames` of the first filtered frame.
    sigma, threshold : float
        As in `gpufuse.denoise.susan3d`.
    """
    closeness = _closeness(sigma)
    # An infinite threshold leaves differences of 1e-9, not 0: the mean of differences must survive.
    scale = numpy.float32(max(1.0 / (threshold * math.sqrt(_POWER)), 1e-9))
    # One type for all, or they cannot be told apart by number; a read-only array is a type of its own.
    plain = [numpy.require(frame, numpy.float32, ["C", "W"]) for frame in frames]
    around = [
        tuple(plain[min(max(start + t + k, 0), len(plain) - 1)] for k in range(-2, 3))
        for t in range(len(out))
    ]
    rows = out.shape[1] * out.shape[2]
    for_bands(_susan3d_frames, len(out) * rows, around, out, closeness, scale, minimum=32)


def _susan3d_frames(
    first: int, last: int, around: list[Any], out: numpy.ndarray, closeness: Any, scale: Any
) -> None:
    """Rows first .. last - 1, counted through all channels of all frames."""
    rows = out.shape[1] * out.shape[2]
    while first < last:
        t, row = divmod(first, rows)
        end = min(rows, row + last - first)
        _susan3d_rows(row, end, around[t], out[t], closeness, scale)
        first += end - row


def _closeness(sigma: float) -> numpy.ndarray:
    """Weights by distance, shape (5, 3, 3); 0 for the nucleus, which is left out."""
    dt, dy, dx = numpy.mgrid[-2:3, -1:2, -1:2]
    weights: numpy.ndarray = numpy.exp(-(dt**2 + dy**2 + dx**2) / (2.0 * sigma * sigma))
    weights[2, 1, 1] = 0.0
    return weights.astype(numpy.float32)


@kernel
def _similarity(difference):  # type: ignore[no-untyped-def]
    """exp(-32 d^2) of a difference in units of the threshold times sqrt(32)."""
    z = min(difference * difference, _ONE)
    p = _P0 + z * (_P1 + z * (_P2 + z * (_P3 + z * (_P4 + z * _P5))))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@kernel
def _add_frame(weight, moment, padded, k, above, here, below, closeness):  # type: ignore[no-untyped-def]
    """Add the 3x3 neighbours in frame `k` to the sums of weights and of weighted differences of a row.

    One loop for nine weights keeps the sums in registers; rows are cut out here, for each array that is handed
    over costs as much as some dozen weights.
    """
    wide_vectors()
    width = weight.size
    near_middle, near_side = closeness[k, 1, 1], closeness[k, 1, 0]
    far_middle, far_side = closeness[k, 0, 1], closeness[k, 0, 0]
    nucleus = padded[2, here, 1 : width + 1]
    a0, a1, a2 = padded[k, above, :width], padded[k, above, 1 : width + 1], padded[k, above, 2 : width + 2]
    h0, h1, h2 = padded[k, here, :width], padded[k, here, 1 : width + 1], padded[k, here, 2 : width + 2]
    b0, b1, b2 = padded[k, below, :width], padded[k, below, 1 : width + 1], padded[k, below, 2 : width + 2]
    for i in range(width):
        v = nucleus[i]
        da0, da1, da2 = a0[i] - v, a1[i] - v, a2[i] - v
        dh0, dh1, dh2 = h0[i] - v, h1[i] - v, h2[i] - v
        db0, db1, db2 = b0[i] - v, b1[i] - v, b2[i] - v
        wa0, wa1, wa2 = _similarity(da0), _similarity(da1), _similarity(da2)
        wh0, wh1, wh2 = _similarity(dh0), _similarity(dh1), _similarity(dh2)
        wb0, wb1, wb2 = _similarity(db0), _similarity(db1), _similarity(db2)
        weight[i] += (
            far_side * ((wa0 + wa2) + (wb0 + wb2))
            + far_middle * (wa1 + wb1)
            + near_side * (wh0 + wh2)
            + near_middle * wh1
        )
        moment[i] += (
            far_side * (wa0 * da0 + wa2 * da2 + wb0 * db0 + wb2 * db2)
            + far_middle * (wa1 * da1 + wb1 * db1)
            + near_side * (wh0 * dh0 + wh2 * dh2)
            + near_middle * (wh1 * dh1)
        )


@kernel
def _copy_padded(row, scale, padded):  # type: ignore[no-untyped-def]
    """Copy a row in units of the weights, its two ends replicated."""
    width = row.size
    inner = padded[1:]
    for i in range(width):
        inner[i] = scale * row[i]
    padded[0] = padded[1]
    padded[width + 1] = padded[width]


@kernel
def _median_of_ring(above, here, below, x):  # type: ignore[no-untyped-def]
    """Median of the 8 spatial neighbours of sample `x` in padded rows (x counts from the pad)."""
    ring = numpy.empty(8, numpy.float32)
    for k in range(3):
        ring[k] = above[x + k]
        ring[3 + k] = below[x + k]
    ring[6] = here[x]
    ring[7] = here[x + 2]
    ring.sort()
    return numpy.float32(0.5) * (ring[3] + ring[4])


@kernel
def _means(source, weight, moment, unit, target):  # type: ignore[no-untyped-def]
    """Weighted means of a row; tells how many of them mean nothing."""
    empty = 0
    for x in range(target.size):
        target[x] = source[x] + unit * (moment[x] / weight[x])
        empty += 1 if weight[x] < EMPTY_USAN else 0
    return empty


@kernel
def _susan3d_rows(first, last, frames, out, closeness, scale):  # type: ignore[no-untyped-def]
    """Rows of one frame, counted through its channels; `frames` are the five around it."""
    _, height, width = out.shape
    padded = numpy.empty((5, 3, width + 2), numpy.float32)  # of each frame the rows y - 1, y, y + 1, in turn
    weight = numpy.empty(width, numpy.float32)
    moment = numpy.empty(width, numpy.float32)
    unit = _ONE / scale
    for item in range(first, last):
        c = item // height
        y = item % height
        fresh = item == first or y == 0
        for k in range(5):
            for row in range(y - 1 if fresh else y + 1, y + 2):
                _copy_padded(frames[k][c, min(max(row, 0), height - 1)], scale, padded[k, (row + 3) % 3])
        above, here, below = (y + 2) % 3, y % 3, (y + 1) % 3
        weight[:] = numpy.float32(0.0)
        moment[:] = numpy.float32(0.0)
        for k in range(5):
            _add_frame(weight, moment, padded, k, above, here, below, closeness)
        target = out[c, y]
        if _means(frames[2][c, y], weight, moment, unit, target) > 0:
            for x in range(width):
                if weight[x] < EMPTY_USAN:
                    target[x] = unit * _median_of_ring(padded[2, above], padded[2, here], padded[2, below], x)
