"""Simple ways to combine day and night, to compare with: they ghost, jump and drown details."""

from __future__ import annotations

import numpy

from gpufuse.arrays import Array, array_module, check_levels

__all__ = ["average", "blend", "maximum", "substitute"]


def average(day: Array, night: Array) -> Array:
    """Mean of day and night.

    Parameters
    ----------
    day, night : ndarray, shape (..., C, H, W), float, grey levels
        NumPy or CuPy; leading axes broadcast.

    Returns
    -------
    ndarray, float32, grey levels
        On the same device.

    Examples
    --------
    >>> import numpy
    >>> average(numpy.array([[[100.0]]]), numpy.array([[[20.0]]]))
    array([[[60.]]], dtype=float32)
    """
    day, night = _check(day, night)
    return (day + night) * numpy.float32(0.5)


def maximum(day: Array, night: Array) -> Array:
    """Brighter of day and night, channel by channel.

    Parameters
    ----------
    day, night : ndarray, shape (..., C, H, W), float, grey levels
        NumPy or CuPy; leading axes broadcast.

    Returns
    -------
    ndarray, float32, grey levels
        On the same device.

    Examples
    --------
    >>> import numpy
    >>> maximum(numpy.array([[[100.0]]]), numpy.array([[[20.0]]]))
    array([[[100.]]], dtype=float32)
    """
    day, night = _check(day, night)
    return array_module(day).maximum(day, night)


def blend(day: Array, night: Array, importance: Array) -> Array:
    """Blend of pixels by importance, ``W N + (1 - W) D``: what the gradient method is fitted to.

    Parameters
    ----------
    day, night : ndarray, shape (..., C, H, W), float, grey levels
        NumPy or CuPy; leading axes broadcast.
    importance : ndarray, shape (..., H, W), float in [0, 1]

    Returns
    -------
    ndarray, float32, grey levels
        On the same device.

    Examples
    --------
    >>> import numpy
    >>> blend(numpy.array([[[100.0]]]), numpy.array([[[20.0]]]), numpy.array([[0.25]]))
    array([[[80.]]], dtype=float32)
    """
    day, night = _check(day, night)
    share = check_levels(importance, name="importance", axes="(..., H, W)")[..., None, :, :]
    return share * night + (numpy.float32(1.0) - share) * day


def substitute(day: Array, night: Array, importance: Array) -> Array:
    """Night pixels where the importance is at least one half, day pixels elsewhere.

    Parameters
    ----------
    day, night : ndarray, shape (..., C, H, W), float, grey levels
        NumPy or CuPy; leading axes broadcast.
    importance : ndarray, shape (..., H, W), float in [0, 1]

    Returns
    -------
    ndarray, float32, grey levels
        On the same device.

    Examples
    --------
    >>> import numpy
    >>> substitute(numpy.array([[[100.0]]]), numpy.array([[[20.0]]]), numpy.array([[0.6]]))
    array([[[20.]]], dtype=float32)
    """
    day, night = _check(day, night)
    share = check_levels(importance, name="importance", axes="(..., H, W)")[..., None, :, :]
    return array_module(day).where(share >= 0.5, night, day)


def _check(day: Array, night: Array) -> tuple[Array, Array]:
    array_module(day, night)
    day = check_levels(day, name="day", axes="(..., C, H, W)")
    night = check_levels(night, name="night", axes="(..., C, H, W)")
    if day.shape[-3:] != night.shape[-3:]:
        raise ValueError(
            f"day, night: expected equal (C, H, W), got {tuple(day.shape)} and {tuple(night.shape)}; "
            "bring both pictures to one size first"
        )
    return day, night
