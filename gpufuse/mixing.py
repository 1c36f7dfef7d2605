"""Mixed gradients: the night's where the night is important, the day's elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module, check_levels
from gpufuse.gradients import divergence, gradient, squared_magnitude

__all__ = [
    "DARK",
    "FLOOR_FACTOR",
    "LARGEST_LIFT",
    "LIFT_SPAN",
    "LOWEST_FLOOR",
    "contrast_lift",
    "mix_gradients",
    "mixed_divergence",
    "night_floor",
]

LIFT_SPAN = 30.0
"""Grey levels of the night's brightest channel at which half of `lift` is left; no pixel gains more than
``(lift - 1) LIFT_SPAN`` grey levels."""

DARK = 40.0
"""Grey levels of the night's brightest channel below which `contrast_lift` compares day and night."""

LARGEST_LIFT = 4.0
"""Most that `contrast_lift` gives: more shows the noise of sensor and codec."""

FLOOR_FACTOR = 4.0
"""`night_floor` over the night's median gradient magnitude: most of a night picture has no edge, so that the
median is that of the noise, and what denoising has left of it hardly ever reaches four times as much."""

LOWEST_FLOOR = 8.0
"""Least that `night_floor` gives, grey levels per pixel: for a night without any noise, or black all over."""


def contrast_lift(day: Array, frames: Sequence[Array]) -> float | Array:
    """Gain that brings what is dark by night to the contrast that the same places have by day.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
        NumPy or CuPy.
    frames : sequence of ndarray, shape (C, H, W), float32, grey levels
        First frames of the clip, denoised, on the same device.

    Returns
    -------
    float, or ndarray of shape (), float32, on a GPU
        Mean gradient magnitude of the day over that of the night, where the night's brightest channel is
        below `DARK`; from 1 to `LARGEST_LIFT`. 1 if nothing is dark or nothing has a gradient. Noise that the
        denoising has left counts as contrast of the night, so a noisy night is lifted less.

    Notes
    -----
    To be given to `mixed_divergence` as its `lift`. Synchronises: no; on a GPU the result stays there.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.arange(0, 90, 30, dtype=numpy.float32).reshape(1, 1, 3)
    >>> contrast_lift(day, [day / 10]), contrast_lift(day, [day / 2])
    (4.0, 2.0)
    """
    xp = array_module(day, *frames)
    by_day, by_night = xp.zeros((), numpy.float64), xp.zeros((), numpy.float64)
    energy = squared_magnitude(*gradient(day))
    for frame in frames:
        dark = frame.max(axis=-3) < DARK
        by_day = by_day + xp.sqrt(xp.where(dark, energy, 0)).sum(dtype=numpy.float64)
        night_energy = squared_magnitude(*gradient(frame))
        by_night = by_night + xp.sqrt(xp.where(dark, night_energy, 0)).sum(dtype=numpy.float64)
    ratio = xp.where(by_night > 0, by_day / xp.where(by_night > 0, by_night, 1), 1)
    lift = xp.clip(ratio, 1, LARGEST_LIFT).astype(numpy.float32)
    return float(lift) if xp is numpy else lift


def night_floor(frames: Sequence[Array]) -> float | Array:
    """Gradient magnitude that the noise of a night does not reach.

    Parameters
    ----------
    frames : sequence of ndarray, shape (C, H, W), float32, grey levels
        First frames of the clip, denoised; NumPy or CuPy. At least one.

    Returns
    -------
    float, or ndarray of shape (), float32, on a GPU
        `FLOOR_FACTOR` times the median of ``|G_N|`` over all pixels of all frames, the magnitude being one for
        all channels; at least `LOWEST_FLOOR`. Grey levels per pixel.

    Raises
    ------
    ValueError
        If there is no frame.

    Notes
    -----
    To be given to `mixed_divergence` as its `night_floor`. Synchronises: no; on a GPU the result stays there.

    Examples
    --------
    >>> import numpy
    >>> ramp = numpy.arange(0, 50, 5, dtype=numpy.float32).reshape(1, 1, 10)
    >>> night_floor([ramp]), night_floor([ramp / 10])
    (20.0, 8.0)
    """
    if not len(frames):
        raise ValueError("frames: expected at least one frame, got none; give the first of the clip")
    xp = array_module(*frames)
    strength = xp.stack([xp.sqrt(squared_magnitude(*gradient(frame))) for frame in frames])
    typical = xp.median(strength)
    floor = xp.maximum(typical * FLOOR_FACTOR, LOWEST_FLOOR).astype(numpy.float32)
    return float(floor) if xp is numpy else floor


def mix_gradients(
    day: Array,
    night: Array,
    importance: Array,
    *,
    larger_where_zero: bool = False,
    night_gain: float = 1.0,
    night_floor: float | Array = 0.0,
    lift: float | Array = 1.0,
    day_only: Array | None = None,
) -> tuple[Array, Array]:
    """Mix the gradients of day and night by importance.

    Parameters
    ----------
    day, night : ndarray, shape (..., C, H, W) or (H, W), float, grey levels
        NumPy or CuPy; `day` may lack leading axes that `night` has.
    importance : ndarray, shape (..., H, W), float in [0, 1]
        Share of the night at each pixel, the same for all channels.
    larger_where_zero : bool
        Where the importance is exactly 0, take the gradient of larger joint magnitude instead of
        the day's (the rule for video and dynamic scenes).
    night_gain : float
        Factor on the night's gradients; 1 in the paper.
    night_floor : float, or ndarray of shape () on the frames' GPU
        From 0, grey levels per pixel: with `larger_where_zero` a night whose joint gradient magnitude, times
        `night_gain`, is not above this is not taken, so that the noise of a flat sky stays out. 0 in the paper.
    lift : float, or ndarray of shape () on the frames' GPU
        From 1: factor on the contrast of what is black at night, in grey, where the importance is above 0;
        that of lamps hardly grows. 1 in the paper.
    day_only : ndarray, shape (..., H, W), bool, optional
        Pixels that take the day's gradient even where the night's is larger.

    Returns
    -------
    gx, gy : ndarray, shape of `night`, float32
        On the same device, grey levels per pixel.

    Raises
    ------
    TypeError
        If the arrays are not on one device, or `lift` or `night_floor` is no number.
    ValueError
        If shapes do not fit, values are not finite, `lift` is a number below 1 or `night_floor` one below 0.

    See Also
    --------
    mixed_divergence : the same, straight to the right-hand side of the Poisson equation.

    Notes
    -----
    ``G = W G_N' + (1 - W) G_D``, Algorithms 1 and 2 of Ilie, Raskar and Yu (2004). ``G_N'`` is the gradient,
    times `night_gain`, of the lifted night

    ``N' = N + a``,  ``a = (lift - 1) m / (1 + m / LIFT_SPAN)``,  ``m = max(0, max_c N)``,

    which is a picture, so that its gradients can be integrated. All channels of a pixel gain the same ``a``,
    less than ``(lift - 1) LIFT_SPAN`` however bright a lamp is: dark bodies gain contrast in grey. A factor on
    the levels would keep the hue of the lamplight that falls on them, which against the day's colours
    leaves blue and rainbow fringes. Where ``W = 0`` the night that is compared with the day, and may be taken,
    is not lifted: the noise of still places would be lifted with it. It is taken if
    ``|night_gain G_N|^2 > max(|G_D|^2, night_floor^2)``. It is `importance` at the pixel itself that decides,
    for both of its differences. Synchronises: yes, to look at the values.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.array([[0.0, 2.0, 4.0]], numpy.float32)
    >>> night = numpy.array([[0.0, 9.0, 9.0]], numpy.float32)
    >>> gx, gy = mix_gradients(day, night, numpy.array([[0.5, 0.0, 0.0]], numpy.float32))
    >>> gx
    array([[5.5, 2. , 0. ]], dtype=float32)
    """
    day, night, importance, day_only, flat = _check(day, night, importance, day_only)
    rule = _checked_rule(larger_where_zero, night_gain, night_floor, lift, night)
    gx, gy = _mixed(day, night, importance, day_only, rule)
    return (gx[..., 0, :, :], gy[..., 0, :, :]) if flat else (gx, gy)


def mixed_divergence(
    day: Array,
    night: Array,
    importance: Array,
    *,
    larger_where_zero: bool = False,
    night_gain: float = 1.0,
    night_floor: float | Array = 0.0,
    lift: float | Array = 1.0,
    day_only: Array | None = None,
    target_share: Array | None = None,
    data_weight: float = 0.0,
    check_values: bool = True,
) -> Array:
    """Divergence of `mix_gradients`, without storing the gradients; if wanted, pulled towards a picture.

    Parameters
    ----------
    day, night, importance, larger_where_zero, night_gain, night_floor, lift, day_only
        As in `mix_gradients`.
    target_share : ndarray, shape of `importance`, float in [0, 1], optional
        Share of the night in the picture that the result is pulled to; by default the importance.
    data_weight : float
        From 0, per pixel^2: how strongly it is pulled. 0 is the paper's method; `target_share` is not used.
    check_values : bool
        False: shapes and types are checked, but not that values are finite, which needs a look at all of
        them and, on a GPU, waits for it.

    Returns
    -------
    ndarray, shape of `night`, float32
        Right-hand side on the same device: of the Poisson equation, where each plane sums to 0 up to
        rounding, or with `data_weight` of the screened one.

    Raises
    ------
    TypeError, ValueError
        As `mix_gradients`; ``ValueError`` as well if `data_weight` is negative or not finite.

    Notes
    -----
    ``rhs = div G - data_weight (D + S (N - D))``, S the target share, N the night as it is, not lifted. The u
    of ``laplacian(u) - data_weight u = rhs`` minimises the sum over all pixels of
    ``|grad u - G|^2 + data_weight (u - (D + S (N - D)))^2``. Synchronises: no, but for the look at the
    values.

    Examples
    --------
    >>> import numpy
    >>> picture = numpy.array([[0.0, 2.0, 4.0]], numpy.float32)
    >>> mixed_divergence(picture, picture, numpy.zeros((1, 3), numpy.float32))
    array([[ 2.,  0., -2.]], dtype=float32)
    >>> mixed_divergence(picture, picture, numpy.zeros((1, 3), numpy.float32), data_weight=0.5)
    array([[ 2., -1., -4.]], dtype=float32)
    """
    day, night, importance, day_only, flat = _check(day, night, importance, day_only, check_values)
    rule = _checked_rule(larger_where_zero, night_gain, night_floor, lift, night)
    _check_data_weight(data_weight)
    share = _checked_target_share(target_share, importance, check_values)
    rhs = _divergence_of_frames(day, night, importance, day_only, rule, share, float(data_weight))
    return rhs[..., 0, :, :] if flat else rhs


@dataclass(frozen=True)
class _Rule:
    """How two gradients become one, checked: `night_floor` and `lift` are floats or lie on the frames' GPU."""

    larger_where_zero: bool
    night_gain: float
    night_floor: float | Array
    lift: float | Array


def _divergence_of_frames(
    day: Array,
    night: Array,
    importance: Array,
    day_only: Array | None,
    rule: _Rule,
    target_share: Array,
    data_weight: float,
) -> Array:
    """The compiled twins, for checked arrays with a channel axis; leading axes become one of frames."""
    xp = array_module(night)
    *leading, channels, height, width = night.shape
    frames = math.prod(leading)
    if frames == 0:
        return xp.empty_like(night)
    twin: Any
    if xp is numpy:
        from gpufuse.kernels_cpu import mixing as twin
    else:
        from gpufuse.kernels_cuda import mixing as twin

        if channels not in twin.CHANNELS:  # no image has so many
            rhs = divergence(*_mixed(day, night, importance, day_only, rule))
            return _pulled(rhs, day, night, target_share, data_weight) if data_weight else rhs
    days = frames if day.ndim > 3 and frames > 1 else 1
    none = xp.empty((0, 0, 0), bool)
    return twin.mixed_divergence(
        day.reshape(days, channels, height, width),
        night.reshape(frames, channels, height, width),
        importance.reshape(frames, height, width),
        none if day_only is None else day_only.reshape(frames, height, width),
        rule.larger_where_zero,
        rule.night_gain,
        rule.night_floor,
        rule.lift,
        LIFT_SPAN,
        target_share.reshape(frames, height, width),
        data_weight,
    ).reshape(night.shape)


def _mixed(
    day: Array, night: Array, importance: Array, day_only: Array | None, rule: _Rule
) -> tuple[Array, Array]:
    """Array form of the mix, for checked arrays with a channel axis."""
    xp = array_module(night)
    day_gx, day_gy = gradient(day)
    night_gx, night_gy = gradient(night)
    gain = numpy.float32(rule.night_gain)
    share = importance
    if rule.larger_where_zero:
        night_energy = squared_magnitude(night_gx, night_gy) * (gain * gain)
        floor = _float32(rule.night_floor)
        to_beat = xp.maximum(squared_magnitude(day_gx, day_gy), floor * floor)
        share = xp.where(share == 0, (night_energy > to_beat).astype(numpy.float32), share)
    if not _is_one(rule.lift):
        still = (importance == 0)[..., None, :, :]
        gained_gx, gained_gy = gradient(_gained(night, rule.lift))
        night_gx = night_gx + xp.where(still, numpy.float32(0.0), gained_gx)
        night_gy = night_gy + xp.where(still, numpy.float32(0.0), gained_gy)
    if day_only is not None:
        share = xp.where(day_only, numpy.float32(0.0), share)
    share = share[..., None, :, :]
    rest = numpy.float32(1.0) - share
    return (
        share * (gain * night_gx) + rest * day_gx,
        share * (gain * night_gy) + rest * day_gy,
    )


def _gained(night: Array, lift: float | Array) -> Array:
    """Grey levels that the lift adds to all channels of each pixel."""
    span, one = numpy.float32(LIFT_SPAN), numpy.float32(1.0)
    brightest = array_module(night).maximum(night.max(axis=-3, keepdims=True), numpy.float32(0.0))
    return (_float32(lift) - one) * span * (brightest / (span + brightest))


def _float32(value: float | Array) -> Any:
    """A number as float32; what lies on a GPU is so already."""
    return numpy.float32(value) if isinstance(value, float) else value


def _pulled(rhs: Array, day: Array, night: Array, target_share: Array, data_weight: float) -> Array:
    """Array form of the pull towards a picture."""
    target = day + target_share[..., None, :, :] * (night - day)
    return rhs - numpy.float32(data_weight) * target


def _is_one(lift: float | Array) -> bool:
    """Whether nothing is lifted; a value on a GPU is not looked at."""
    return isinstance(lift, float) and lift == 1.0


def _check(
    day: Array, night: Array, importance: Array, day_only: Array | None, check_values: bool = True
) -> tuple[Array, Array, Array, Array | None, bool]:
    """Validate, and give every image a channel axis; the last item says whether one was added."""
    array_module(day, night, importance)
    day = check_levels(day, name="day", axes="(..., H, W)", check_values=check_values)
    night = check_levels(night, name="night", axes="(..., H, W)", check_values=check_values)
    importance = check_levels(importance, name="importance", axes="(..., H, W)", check_values=check_values)
    flat = bool(night.ndim == importance.ndim)
    if flat:
        day, night = day[..., None, :, :], night[..., None, :, :]
    fits = (
        night.ndim == importance.ndim + 1
        and night.shape[:-3] + night.shape[-2:] == importance.shape
        and day.shape in (night.shape, night.shape[-3:])
    )
    if not fits:
        raise ValueError(
            "day, night, importance: expected shapes (C, H, W), (..., C, H, W) and (..., H, W), "
            f"got {tuple(day.shape)}, {tuple(night.shape)} and {tuple(importance.shape)}; "
            "bring them to one size first"
        )
    if day_only is not None:
        if tuple(day_only.shape) != tuple(importance.shape):
            raise ValueError(
                f"day_only: expected the shape of importance {tuple(importance.shape)}, "
                f"got {tuple(day_only.shape)}; give one value per pixel and frame"
            )
        day_only = array_module(day_only, importance).ascontiguousarray(day_only, dtype=bool)
    return day, night, importance, day_only, flat


def _checked_rule(
    larger_where_zero: bool,
    night_gain: float,
    night_floor: float | Array,
    lift: float | Array,
    night: Array,
) -> _Rule:
    floor, factor = _checked_scalar("night_floor", night_floor, night), _checked_scalar("lift", lift, night)
    if isinstance(floor, float) and not 0.0 <= floor < math.inf:
        raise ValueError(
            f"night_floor: expected finite grey levels from 0, got {night_floor}; 0 lets all nights in"
        )
    if isinstance(factor, float) and not 1.0 <= factor < math.inf:
        raise ValueError(f"lift: expected a finite factor from 1, got {lift}; 1 leaves the night as it is")
    return _Rule(bool(larger_where_zero), float(night_gain), floor, factor)


def _checked_scalar(name: str, value: float | Array, night: Array) -> float | Array:
    """A number as float; what lies on the night's GPU stays there, for to read it would wait."""
    xp = array_module(night)
    if xp is not numpy and isinstance(value, xp.ndarray):
        if value.shape != ():
            raise ValueError(
                f"{name}: expected one number or an array of shape (), got {tuple(value.shape)}; "
                "give one for all frames"
            )
        return value.astype(numpy.float32, copy=False)
    if not isinstance(value, Real):
        raise TypeError(
            f"{name}: expected a number, got {type(value).__name__}; "
            "an array of shape () is for frames on a GPU"
        )
    return float(value)


def _check_data_weight(data_weight: float) -> None:
    if not 0.0 <= data_weight < math.inf:
        raise ValueError(
            f"data_weight: expected a finite number from 0, got {data_weight}; 0 pulls to no picture"
        )


def _checked_target_share(target_share: Array | None, importance: Array, check_values: bool) -> Array:
    if target_share is None:
        return importance
    array_module(target_share, importance)
    if tuple(target_share.shape) != tuple(importance.shape):
        raise ValueError(
            f"target_share: expected the shape of importance {tuple(importance.shape)}, "
            f"got {tuple(target_share.shape)}; give one value per pixel and frame"
        )
    return check_levels(target_share, name="target_share", axes="(..., H, W)", check_values=check_values)
