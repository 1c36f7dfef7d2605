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
    night_floor: float,
    lift: float,
    lift_span: float,
    target_share: numpy.ndarray,
    data_weight: float,
) -> numpy.ndarray:
    """Divergence of the mixed gradients of many frames, pulled towards a picture.

    Parameters
    ----------
    day : ndarray, shape (T or 1, C, H, W), float32, grey levels
    night : ndarray, shape (T, C, H, W), float32, grey levels
    importance : ndarray, shape (T, H, W), float32
    day_only : ndarray, shape (T, H, W) or (0, 0, 0), bool
        Pixels that take the day's gradient even where the night's is larger.
    larger_where_zero, night_gain, night_floor, lift
        As in `gpufuse.mixing.mix_gradients`.
    lift_span : float
        Grey levels of the brightest channel at which half of the lift is left.
    target_share : ndarray, shape (T, H, W), float32
        Not read if `data_weight` is 0.
    data_weight : float
        As in `gpufuse.mixing.mixed_divergence`.

    Returns
    -------
    ndarray, shape (T, C, H, W), float32
    """
    rhs = numpy.empty_like(night)
    count = night.shape[0] * night.shape[2]
    gain, floor, extra = (numpy.float32(a) for a in (night_gain, night_floor, lift - 1.0))
    for_bands(
        _mixed_divergence_rows, count, day, night, importance, day_only, target_share, larger_where_zero,
        gain, floor, extra, numpy.float32(lift_span), numpy.float32(data_weight), rhs,
        minimum=32,
    )  # fmt: skip
    return rhs


@kernel
def _add_squares(gx, gy, total):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        total[i] += gx[i] * gx[i] + gy[i] * gy[i]


@kernel
def _gradient_row(image, y, gx, gy):  # type: ignore[no-untyped-def]
    """Forward differences of row `y` of one plane; 0 in the last column and the last row."""
    height, width = image.shape
    for i in range(width - 1):
        gx[i] = image[y, i + 1] - image[y, i]
    gx[width - 1] = numpy.float32(0.0)
    if y + 1 < height:
        for i in range(width):
            gy[i] = image[y + 1, i] - image[y, i]
    else:
        gy[:] = numpy.float32(0.0)


@kernel
def _gained_levels(night, y, extra, span, gained):  # type: ignore[no-untyped-def]
    """Grey levels that the lift adds to row `y` of all channels of one frame."""
    channels, _, width = night.shape
    gained[:] = numpy.float32(0.0)
    for c in range(channels):
        for i in range(width):
            level = night[c, y, i]
            gained[i] = level if level > gained[i] else gained[i]
    scale = extra * span
    for i in range(width):
        gained[i] = scale * (gained[i] / (span + gained[i]))


@kernel
def _gained_gradient_row(own, below, importance, share, gain, gx, gy):  # type: ignore[no-untyped-def]
    """What the lift adds to the mixed gradient of all channels; 0 where the importance is 0.

    `own` and `below` are the gained levels of this row and of the next.
    """
    width = gx.size
    right = own[1:]
    for i in range(width - 1):
        w = share[i] if importance[i] != numpy.float32(0.0) else numpy.float32(0.0)
        gx[i] = w * (gain * (right[i] - own[i]))
    gx[width - 1] = numpy.float32(0.0)
    for i in range(width):
        w = share[i] if importance[i] != numpy.float32(0.0) else numpy.float32(0.0)
        gy[i] = w * (gain * (below[i] - own[i]))


@kernel
def _night_share(  # type: ignore[no-untyped-def]
    importance, night_energy, day_energy, gain_squared, floor_squared, larger_where_zero, share
):
    for i in range(share.size):
        w = importance[i]
        if larger_where_zero and w == numpy.float32(0.0):
            to_beat = floor_squared if floor_squared > day_energy[i] else day_energy[i]
            larger = night_energy[i] * gain_squared > to_beat
            w = numpy.float32(1.0) if larger else numpy.float32(0.0)
        share[i] = w


@kernel
def _mix(share, gain, night, day, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        w = share[i]
        out[i] = w * (gain * night[i]) + (numpy.float32(1.0) - w) * day[i]


@kernel
def _mix_and_gain(share, gain, night, day, gained, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        w = share[i]
        out[i] = w * (gain * night[i]) + ((numpy.float32(1.0) - w) * day[i] + gained[i])


@kernel
def _mixed_row(  # type: ignore[no-untyped-def]
    day, night, importance, day_only, larger_where_zero, gain, floor, extra, span, y, work, gained, mixed
):
    """Mixed gradient of row `y` of one frame: ``mixed[0]`` is x, ``mixed[1]`` is y, per channel.

    With lift, the gained levels of row y are in ``gained[y % 2]``; those of the next row are put beside them.
    """
    channels, height, _ = night.shape
    night_energy, day_energy, share = work[0, 0], work[0, 1], work[0, 2]
    night_energy[:] = numpy.float32(0.0)
    day_energy[:] = numpy.float32(0.0)
    for c in range(channels):
        own = work[c + 1]
        _gradient_row(night[c], y, own[0], own[1])
        _gradient_row(day[c], y, own[2], own[3])
        _add_squares(own[0], own[1], night_energy)
        _add_squares(own[2], own[3], day_energy)
    _night_share(
        importance[y], night_energy, day_energy, gain * gain, floor * floor, larger_where_zero, share
    )
    if day_only.size > 0:
        for i in range(share.size):
            if day_only[y, i]:
                share[i] = numpy.float32(0.0)
    if extra > numpy.float32(0.0):
        below = y % 2  # in the last row: itself, for a difference of equal levels is 0
        if y + 1 < height:
            below = (y + 1) % 2
            _gained_levels(night, y + 1, extra, span, gained[below])
        gained_x, gained_y = night_energy, day_energy  # which have been used
        _gained_gradient_row(gained[y % 2], gained[below], importance[y], share, gain, gained_x, gained_y)
        for c in range(channels):
            own = work[c + 1]
            _mix_and_gain(share, gain, own[0], own[2], gained_x, mixed[0, c])
            _mix_and_gain(share, gain, own[1], own[3], gained_y, mixed[1, c])
    else:
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
def _pull(day, night, share, y, weight, rhs):  # type: ignore[no-untyped-def]
    """Pull row `y` of all channels of one frame towards a mix of the pictures."""
    channels, _, width = rhs.shape
    for c in range(channels):
        for i in range(width):
            target = day[c, y, i] + share[y, i] * (night[c, y, i] - day[c, y, i])
            rhs[c, y, i] -= weight * target


@kernel
def _mixed_divergence_rows(  # type: ignore[no-untyped-def]
    first, last, day, night, importance, day_only, target_share, larger_where_zero, gain, floor, extra,
    span, data_weight, rhs,
):  # fmt: skip
    _, channels, height, width = night.shape
    work = numpy.empty((channels + 1, 4, width), numpy.float32)
    mixed = numpy.empty((2, channels, width), numpy.float32)
    above = numpy.empty((channels, width), numpy.float32)
    lifts = extra > numpy.float32(0.0)
    gained = numpy.empty((2, width), numpy.float32)
    for item in range(first, last):
        t = item // height
        y = item % height
        day_t = t if day.shape[0] > 1 else 0
        mask = day_only[t] if day_only.size > 0 else day_only[0:0].reshape(0, 0)
        if lifts and (y == 0 or item == first):
            start = max(y - 1, 0)
            _gained_levels(night[t], start, extra, span, gained[start % 2])
        if y == 0:
            above[:] = numpy.float32(0.0)
        elif item == first:  # a band begins inside a frame: its upper neighbour is computed again
            _mixed_row(
                day[day_t], night[t], importance[t], mask, larger_where_zero, gain, floor, extra, span,
                y - 1, work, gained, mixed,
            )  # fmt: skip
            above[:] = mixed[1]
        _mixed_row(
            day[day_t], night[t], importance[t], mask, larger_where_zero, gain, floor, extra, span, y,
            work, gained, mixed,
        )  # fmt: skip
        for c in range(channels):
            _divergence_row(mixed[0, c], mixed[1, c], above[c], rhs[t, c, y])
        if data_weight > numpy.float32(0.0):
            _pull(day[day_t], night[t], target_share[t], y, data_weight, rhs[t])
        above[:] = mixed[1]
