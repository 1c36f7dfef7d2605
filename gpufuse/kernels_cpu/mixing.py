"""CPU twin of gradient mixing with divergence: one pass over each frame, no gradient is stored."""

from __future__ import annotations

import numpy

from gpufuse.kernels_cpu._compile import kernel
from gpufuse.threads import for_bands

__all__ = ["mixed_divergence"]


def mixed_divergence(
    day: numpy.ndarray,
    night: numpy.ndarray,
    importance: numpy.ndarray,
    day_only: numpy.ndarray,
    larger_where_zero: bool,
    night_gain: float,
) -> numpy.ndarray:
    """Divergence of the mixed gradients of many frames.

    Parameters
    ----------
    day : ndarray, shape (T or 1, C, H, W), float32, grey levels
    night : ndarray, shape (T, C, H, W), float32, grey levels
    importance : ndarray, shape (T, H, W), float32
    day_only : ndarray, shape (T, H, W) or (0, 0, 0), bool
        Pixels that take the day's gradient even where the night's is larger.
    larger_where_zero, night_gain
        As in `gpufuse.mixing.mix_gradients`.

    Returns
    -------
    ndarray, shape (T, C, H, W), float32
    """
    rhs = numpy.empty_like(night)
    count = night.shape[0] * night.shape[2]
    gain = numpy.float32(night_gain)
    for_bands(
        _mixed_divergence_rows, count, day, night, importance, day_only, larger_where_zero, gain, rhs,
        minimum=32,
    )  # fmt: skip
    return rhs


@kernel
def _difference(here, there, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = there[i] - here[i]


@kernel
def _add_squares(gx, gy, total):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        total[i] += gx[i] * gx[i] + gy[i] * gy[i]


@kernel
def _gradient_row(image, y, gx, gy):  # type: ignore[no-untyped-def]
    """Forward differences of row `y` of one plane; 0 in the last column and the last row."""
    height, width = image.shape
    row = image[y]
    _difference(row[: width - 1], row[1:], gx[: width - 1])
    gx[width - 1] = numpy.float32(0.0)
    if y + 1 < height:
        _difference(row, image[y + 1], gy)
    else:
        gy[:] = numpy.float32(0.0)


@kernel
def _night_share(importance, night_energy, day_energy, gain_squared, larger_where_zero, share):  # type: ignore[no-untyped-def]
    for i in range(share.size):
        w = importance[i]
        if larger_where_zero and w == numpy.float32(0.0):
            larger = night_energy[i] * gain_squared > day_energy[i]
            w = numpy.float32(1.0) if larger else numpy.float32(0.0)
        share[i] = w


@kernel
def _mix(share, gain, night, day, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        w = share[i]
        out[i] = w * (gain * night[i]) + (numpy.float32(1.0) - w) * day[i]


@kernel
def _mixed_row(day, night, importance, day_only, larger_where_zero, gain, y, work, mixed):  # type: ignore[no-untyped-def]
    """Mixed gradient of row `y` of one frame: ``mixed[0]`` is x, ``mixed[1]`` is y, per channel."""
    channels = night.shape[0]
    night_energy, day_energy, share = work[0, 0], work[0, 1], work[0, 2]
    night_energy[:] = numpy.float32(0.0)
    day_energy[:] = numpy.float32(0.0)
    for c in range(channels):
        own = work[c + 1]
        _gradient_row(night[c], y, own[0], own[1])
        _gradient_row(day[c], y, own[2], own[3])
        _add_squares(own[0], own[1], night_energy)
        _add_squares(own[2], own[3], day_energy)
    _night_share(importance[y], night_energy, day_energy, gain * gain, larger_where_zero, share)
    if day_only.size > 0:
        for i in range(share.size):
            if day_only[y, i]:
                share[i] = numpy.float32(0.0)
    for c in range(channels):
        own = work[c + 1]
        _mix(share, gain, own[0], own[2], mixed[0, c])
        _mix(share, gain, own[1], own[3], mixed[1, c])


@kernel
def _divergence_row(gx, gy, above, rhs):  # type: ignore[no-untyped-def]
    """Negative adjoint of the forward differences, on one row."""
    width = rhs.size
    rhs[0] = gx[0] + gy[0] - above[0]
    left, own, down, up, out = gx[: width - 1], gx[1:], gy[1:], above[1:], rhs[1:]
    for i in range(width - 1):
        out[i] = own[i] - left[i] + down[i] - up[i]


@kernel
def _mixed_divergence_rows(  # type: ignore[no-untyped-def]
    first, last, day, night, importance, day_only, larger_where_zero, gain, rhs
):
    _, channels, height, width = night.shape
    work = numpy.empty((channels + 1, 4, width), numpy.float32)
    mixed = numpy.empty((2, channels, width), numpy.float32)
    above = numpy.empty((channels, width), numpy.float32)
    for item in range(first, last):
        t = item // height
        y = item % height
        day_t = t if day.shape[0] > 1 else 0
        mask = day_only[t] if day_only.size > 0 else day_only[0:0].reshape(0, 0)
        if y == 0:
            above[:] = numpy.float32(0.0)
        elif item == first:  # a band begins inside a frame: its upper neighbour is computed again
            _mixed_row(day[day_t], night[t], importance[t], mask, larger_where_zero, gain, y - 1, work, mixed)
            above[:] = mixed[1]
        _mixed_row(day[day_t], night[t], importance[t], mask, larger_where_zero, gain, y, work, mixed)
        for c in range(channels):
            _divergence_row(mixed[0, c], mixed[1, c], above[c], rhs[t, c, y])
        above[:] = mixed[1]
