"""From the mix of two gradients to pixels: what a picture and the frames of a clip have in common."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gpufuse import mixing, normalise, poisson
from gpufuse.arrays import Array, array_module
from gpufuse.settings import Settings

__all__ = ["Mix", "data_weight", "fit_moments", "reconstructed", "solver_error"]

_DATA_WEIGHT_PIXELS = 2500.0
_LARGEST_DATA_WEIGHT = 0.05


@dataclass(frozen=True)
class Mix:
    """How night and day are mixed in some frames.

    Attributes
    ----------
    importance : ndarray, shape (T, H, W), float32 in [0, 1]
        How much of the night's gradients is kept.
    target_share : ndarray, shape (T, H, W), float32 in [0, 1]
        How far the picture is drawn to the night's own levels.
    day_only : ndarray, shape (T, H, W), bool, or None
        Where the day's gradient is taken even if the night's is larger.
    larger_where_zero : bool
        Where nothing is important: the larger of the two gradients instead of the day's.
    lift : float or ndarray of shape ()
        Gain on what is dark.
    floor : float or ndarray of shape ()
        Least gradient of the night that is taken where nothing is important, grey levels per pixel.
    """

    importance: Array
    target_share: Array
    day_only: Array | None
    larger_where_zero: bool
    lift: float | Array
    floor: float | Array


def reconstructed(day: Array, night: Array, mix: Mix, settings: Settings) -> tuple[Array, Array]:
    """Mix gradients and reconstruct pictures from them.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
    night : ndarray, shape (T, C, H, W), float32, grey levels
    mix : Mix
    settings : Settings

    Returns
    -------
    u : ndarray, shape (T, C, H, W), float32
        Without scale and shift.
    rhs : ndarray, shape (T, C, H', W'), float32
        Right-hand side that u solves; square where the settings pad to a square.
    """
    weight = data_weight(settings, tuple(day.shape[-2:]))
    crop: tuple[Any, ...] = (Ellipsis,)
    if settings.padding == "square":
        day, crop = poisson.pad_to_square(day)
        night, mix = poisson.pad_to_square(night)[0], _padded(mix)
    rhs = mixing.mixed_divergence(
        day,
        night,
        mix.importance,
        larger_where_zero=mix.larger_where_zero,
        night_gain=1.0 if settings.night_gain is None else settings.night_gain,
        lift=mix.lift,
        night_floor=mix.floor,
        day_only=mix.day_only,
        target_share=mix.target_share,
        data_weight=weight,
        check_values=False,
    )
    u = poisson.solve(
        rhs, method=settings.method, cycles=settings.cycles, data_weight=weight, check_values=False
    )
    return array_module(u).ascontiguousarray(u[crop]), rhs


def _padded(mix: Mix) -> Mix:
    importance, _ = poisson.pad_to_square(mix.importance)
    target_share, _ = poisson.pad_to_square(mix.target_share)
    day_only = None if mix.day_only is None else poisson.pad_to_square(mix.day_only)[0]
    return dataclasses.replace(mix, importance=importance, target_share=target_share, day_only=day_only)


def solver_error(rhs: Array, settings: Settings, size: tuple[int, int]) -> Array:
    """Measure the largest distance from the direct solution, in grey levels before normalisation.

    Parameters
    ----------
    rhs : ndarray, shape (C, H, W), float32
        Right-hand side, as of `reconstructed`; padded where the settings pad.
    settings : Settings
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    ndarray of shape ()
    """
    weight = data_weight(settings, size)
    options: dict[str, Any] = {"data_weight": weight, "check_values": False}
    found = poisson.solve(rhs, method=settings.method, cycles=settings.cycles, **options)
    return abs(found - poisson.solve(rhs, method="dct", **options)).max()


def data_weight(settings: Settings, size: tuple[int, int]) -> float:
    """Weight of the pull towards day and night; by default of a length that is one share of every picture.

    Parameters
    ----------
    settings : Settings
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    float
        0 for no pull: a colour fit is needed then.

    Examples
    --------
    >>> data_weight(Settings(), (480, 640)), data_weight(Settings.paper(), (480, 640))
    (0.008138020833333334, 0.0)
    """
    if settings.data_weight is not None:
        return settings.data_weight
    return min(_LARGEST_DATA_WEIGHT, _DATA_WEIGHT_PIXELS / (size[0] * size[1]))


def fit_moments(u: Array, day: Array, night: Array, weights: Array, settings: Settings) -> Array:
    """Sums of the colour fit to the blend of the pixels.

    Parameters
    ----------
    u : ndarray, shape (T, C, H, W), float32
        Of `reconstructed`.
    day : ndarray, shape (C, H, W), float32, grey levels
    night : ndarray, shape (T, C, H, W), float32, grey levels
    weights : ndarray, shape (T, H, W), float32 in [0, 1]
    settings : Settings

    Returns
    -------
    ndarray
        Moments as of `gpufuse.normalise.blend_moments` or `gpufuse.normalise.luminance_moments`.
    """
    if settings.fit == "luminance":
        return normalise.luminance_moments(u, day, night, weights)
    return normalise.blend_moments(u, day, night, weights)
