"""CPU twin of the 3D SUSAN filter: one pass over frames with a temporal halo."""

from __future__ import annotations

import math

import numpy

from gpufuse.kernels_cpu._compile import kernel
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
    frames: numpy.ndarray,
    out: numpy.ndarray,
    start: int,
    sigma: float,
    threshold: float,
) -> None:
    """Filter frames ``start .. start + len(out) - 1`` of `frames` into `out`.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, grey levels
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
    count = out.shape[0] * out.shape[1] * out.shape[2]
    for_bands(_susan3d_rows, count, frames, out, start, closeness, scale, minimum=32)


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
def _accumulate_three(weight, moment, nucleus, left, middle, right, near):  # type: ignore[no-untyped-def]
    """Add the three neighbours of one row to the sums of weights and of weighted differences."""
    near_side, near_middle = near[0], near[1]
    for i in range(nucleus.size):
        v = nucleus[i]
        dl = left[i] - v
        dm = middle[i] - v
        dr = right[i] - v
        wl = _similarity(dl)
        wm = _similarity(dm)
        wr = _similarity(dr)
        weight[i] += near_middle * wm + near_side * (wl + wr)
        moment[i] += near_middle * (wm * dm) + near_side * (wl * dl + wr * dr)


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
def _susan3d_rows(first, last, frames, out, start, closeness, scale):  # type: ignore[no-untyped-def]
    count, channels, height, width = frames.shape
    padded = numpy.empty((5, 3, width + 2), numpy.float32)
    weight = numpy.empty(width, numpy.float32)
    moment = numpy.empty(width, numpy.float32)
    for item in range(first, last):
        y = item % height
        plane = item // height
        c = plane % channels
        t = plane // channels
        for k in range(5):
            tt = min(max(start + t + k - 2, 0), count - 1)
            for j in range(3):
                yy = min(max(y + j - 1, 0), height - 1)
                _copy_padded(frames[tt, c, yy], scale, padded[k, j])
        weight[:] = numpy.float32(0.0)
        moment[:] = numpy.float32(0.0)
        nucleus = padded[2, 1, 1 : width + 1]
        for k in range(5):
            for j in range(3):
                row = padded[k, j]
                _accumulate_three(
                    weight, moment, nucleus,
                    row[0:width], row[1 : width + 1], row[2 : width + 2],
                    closeness[k, j],
                )  # fmt: skip
        target, source = out[t, c, y], frames[start + t, c, y]
        unit = _ONE / scale
        for x in range(width):
            if weight[x] < EMPTY_USAN:
                target[x] = unit * _median_of_ring(padded[2, 0], padded[2, 1], padded[2, 2], x)
            else:
                target[x] = source[x] + unit * (moment[x] / weight[x])
