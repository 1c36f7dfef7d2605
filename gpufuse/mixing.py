"""Mixed gradients: the night's where the night is important, the day's elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module, check_levels
from gpufuse.gradients import divergence, gradient, squared_magnitude

__all__ = ["mix_gradients", "mixed_divergence"]


def mix_gradients(
    day: Array,
    night: Array,
    importance: Array,
    *,
    larger_where_zero: bool = False,
    night_gain: float = 1.0,
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
    day_only : ndarray, shape (..., H, W), bool, optional
        Pixels that take the day's gradient even where the night's is larger.

    Returns
    -------
    gx, gy : ndarray, shape of `night`, float32
        On the same device, grey levels per pixel.

    Raises
    ------
    TypeError
        If the arrays are not on one device.
    ValueError
        If shapes do not fit, or values are not finite.

    See Also
    --------
    mixed_divergence : the same, straight to the right-hand side of the Poisson equation.

    Notes
    -----
    ``G = W G_N + (1 - W) G_D``, Algorithms 1 and 2 of Ilie, Raskar and Yu (2004). Synchronises: yes, to look
    at the values.

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
    gx, gy = _mixed(day, night, importance, larger_where_zero, night_gain, day_only)
    return (gx[..., 0, :, :], gy[..., 0, :, :]) if flat else (gx, gy)


def mixed_divergence(
    day: Array,
    night: Array,
    importance: Array,
    *,
    larger_where_zero: bool = False,
    night_gain: float = 1.0,
    day_only: Array | None = None,
    check_values: bool = True,
) -> Array:
    """Divergence of `mix_gradients`, without storing the gradients.

    Parameters
    ----------
    day, night, importance, larger_where_zero, night_gain, day_only
        As in `mix_gradients`.
    check_values : bool
        False: shapes and types are checked, but not that values are finite, which needs a look at all of
        them and, on a GPU, waits for it.

    Returns
    -------
    ndarray, shape of `night`, float32
        Right-hand side of the Poisson equation on the same device; each plane sums to 0 up to rounding.

    Raises
    ------
    TypeError, ValueError
        As `mix_gradients`.

    Notes
    -----
    Synchronises: no, but for the look at the values.

    Examples
    --------
    >>> import numpy
    >>> picture = numpy.array([[0.0, 2.0, 4.0]], numpy.float32)
    >>> mixed_divergence(picture, picture, numpy.zeros((1, 3), numpy.float32))
    array([[ 2.,  0., -2.]], dtype=float32)
    """
    day, night, importance, day_only, flat = _check(day, night, importance, day_only, check_values)
    rhs = _divergence_of_frames(day, night, importance, day_only, larger_where_zero, night_gain)
    return rhs[..., 0, :, :] if flat else rhs


def _divergence_of_frames(
    day: Array,
    night: Array,
    importance: Array,
    day_only: Array | None,
    larger_where_zero: bool,
    night_gain: float,
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
            return divergence(*_mixed(day, night, importance, larger_where_zero, night_gain, day_only))
    days = frames if day.ndim > 3 and frames > 1 else 1
    none = xp.empty((0, 0, 0), bool)
    return twin.mixed_divergence(
        day.reshape(days, channels, height, width),
        night.reshape(frames, channels, height, width),
        importance.reshape(frames, height, width),
        none if day_only is None else day_only.reshape(frames, height, width),
        bool(larger_where_zero),
        float(night_gain),
    ).reshape(night.shape)


def _mixed(
    day: Array,
    night: Array,
    importance: Array,
    larger_where_zero: bool,
    night_gain: float,
    day_only: Array | None,
) -> tuple[Array, Array]:
    """Array form of the mix, for checked arrays with a channel axis."""
    xp = array_module(night)
    day_gx, day_gy = gradient(day)
    night_gx, night_gy = gradient(night)
    gain = numpy.float32(night_gain)
    share = importance
    if larger_where_zero:
        night_energy = squared_magnitude(night_gx, night_gy) * (gain * gain)
        larger = (night_energy > squared_magnitude(day_gx, day_gy)).astype(numpy.float32)
        share = xp.where(share == 0, larger, share)
    if day_only is not None:
        share = xp.where(day_only, numpy.float32(0.0), share)
    share = share[..., None, :, :]
    rest = numpy.float32(1.0) - share
    return (
        share * (gain * night_gx) + rest * day_gx,
        share * (gain * night_gy) + rest * day_gy,
    )


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
