"""Fusion of pictures: Algorithm 1, and the dynamic scene with a night reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from gpufuse import importance, mixing, normalise
from gpufuse.arrays import (
    Array,
    array_module,
    from_levels,
    image_format,
    to_levels,
    to_share,
    with_channels,
)
from gpufuse.errors import PairError
from gpufuse.imagepair import AreasLike, ImagePair
from gpufuse.reconstruction import Mix, data_weight, fit_moments, reconstructed
from gpufuse.resampling import enlarged
from gpufuse.settings import Settings

__all__ = ["FusedPair", "fuse", "fuse_dynamic", "fused_pair", "pair_importance"]


def fuse(
    day: Array,
    night: Array,
    *,
    importance: Array | None = None,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> Array:
    """Fuse a day and a night picture of one view (Algorithm 1).

    Parameters
    ----------
    day, night : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1]; NumPy or CuPy. `day` may be larger by any factor of the same
        aspect ratio (2 %); the night is then resampled to its size.
    importance : ndarray, shape (H, W), optional
        How much of the night is kept, 0..255 (``uint8``), 0..65535 or 0..1; of the night's size or of
        the day's. By default `gpufuse.importance.static_importance`.
    areas : path or list, optional
        User areas, in pixels of the night.
    settings : Settings, optional

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype, on the night's device.

    Raises
    ------
    PairError
        If the sizes do not belong together.
    ConfigError
        For wrong areas.
    TypeError, ValueError
        For arrays that are no images, or not finite.

    See Also
    --------
    fuse_dynamic : for moving things, with a night reference.
    fuse_video : for clips.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))
    >>> bool((fuse(day, numpy.zeros_like(day)) == day).all())     # a black night adds nothing
    True
    """
    return fused_pair(day, night, importance=importance, areas=areas, settings=settings).pixels


def fuse_dynamic(
    day: Array,
    night: Array,
    reference: Array,
    *,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> Array:
    """Fuse a night picture with moving things into the day, given a night picture without them.

    Parameters
    ----------
    day, night : ndarray, shape (H, W) or (H, W, 3)
        As in `fuse`.
    reference : ndarray
        The same view at night without the moving things, of the night's form.
    areas : path or list, optional
        User areas, in pixels of the night.
    settings : Settings, optional

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype, on the night's device.

    Raises
    ------
    PairError
        If the sizes do not belong together.
    ConfigError
        For wrong areas.
    TypeError, ValueError
        For arrays that are no images, or not finite.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))
    >>> dark = numpy.zeros_like(day)
    >>> bool((fuse_dynamic(day, dark, dark) == day).all())     # nothing has moved
    True
    """
    image_format(reference, name="reference")
    return fused_pair(day, night, reference=reference, areas=areas, settings=settings).pixels


@dataclass(frozen=True)
class FusedPair:
    """A fused picture and what it was made with.

    Attributes
    ----------
    pixels : ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype.
    importance : ndarray, shape (H, W), float32 in [0, 1]
        After user areas.
    """

    pixels: Array
    importance: Array


def fused_pair(
    day: Array,
    night: Array,
    *,
    reference: Array | None = None,
    importance: Array | None = None,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> FusedPair:
    """Fuse as `fuse` does, or with a reference as `fuse_dynamic` does; return the importance as well.

    Parameters
    ----------
    day, night, reference, importance, areas, settings
        As in `fuse` and `fuse_dynamic`.

    Returns
    -------
    FusedPair

    Raises
    ------
    PairError, ConfigError, TypeError, ValueError
        As `fuse`.
    """
    settings = settings or Settings()
    pair = ImagePair.of(day, night)
    weights = _weights(pair, reference, importance, settings)
    larger = settings.larger_where_zero and reference is not None
    return _fused_picture(pair, weights, areas, settings, larger_where_zero=larger)


def pair_importance(
    day: Array,
    night: Array,
    *,
    reference: Array | None = None,
    importance: Array | None = None,
    settings: Settings | None = None,
) -> Array:
    """Importance that `fuse` (or `fuse_dynamic`, with a reference) uses, before user areas.

    Parameters
    ----------
    day, night, reference, importance, settings
        As in `fuse` and `fuse_dynamic`.

    Returns
    -------
    ndarray, shape (H, W) of the day, float32 in [0, 1]

    Raises
    ------
    PairError, TypeError, ValueError
        As `fuse`.
    """
    settings = settings or Settings()
    return _weights(ImagePair.of(day, night), reference, importance, settings)


def _weights(pair: ImagePair, reference: Array | None, given: Array | None, settings: Settings) -> Array:
    """Importance at the day's size: the one given, or by reference, or of the static pair."""
    if given is not None:
        return _given_importance(given, pair)
    if reference is not None:
        return _dynamic_weights(reference, pair, settings)
    return _static_weights(pair, settings)


def _static_weights(pair: ImagePair, settings: Settings) -> Array:
    return importance.static_importance(
        pair.day,
        enlarged(pair.night, pair.size),
        gradient_threshold=settings.gradient_threshold,
        intensity_threshold=settings.intensity_threshold,
        feather=settings.feather,
    )


def _dynamic_weights(reference: Array, pair: ImagePair, settings: Settings) -> Array:
    image_format(reference, name="reference")
    array_module(reference, pair.night)
    if tuple(reference.shape[:2]) != pair.night_size:
        raise PairError(
            f"reference: expected {pair.night_size[1]}x{pair.night_size[0]} like the night, "
            f"got {reference.shape[1]}x{reference.shape[0]}; crop or resize it"
        )
    levels = with_channels(to_levels(reference, name="reference"), pair.night.shape[-3])
    weights = importance.dynamic_importance(
        pair.night,
        levels,
        threshold=settings.difference_threshold,
        span=settings.difference_span,
        smoothing=settings.difference_smoothing,
        feather=settings.feather,
    )
    return enlarged(weights, pair.size)


def _given_importance(given: Array, pair: ImagePair) -> Array:
    array_module(given, pair.night)
    share = to_share(given, name="importance")
    size = tuple(share.shape)
    if size not in (pair.night_size, pair.size):
        raise PairError(
            f"importance: expected {pair.night_size[1]}x{pair.night_size[0]} like the night, "
            f"got {size[1]}x{size[0]}; resize it"
        )
    return enlarged(share, pair.size)


def _fused_picture(
    pair: ImagePair, weights: Array, areas: AreasLike, settings: Settings, *, larger_where_zero: bool
) -> FusedPair:
    masks = pair.area_masks(areas)
    weights, day_only = masks.apply(weights[None], 0, numpy.zeros(1))
    night = enlarged(pair.night, pair.size)[None]
    floor = settings.larger_threshold
    if floor is None:
        floor = mixing.night_floor(night) if larger_where_zero else 0.0
    mix = Mix(weights, weights, day_only, larger_where_zero, 1.0, floor)
    u, _ = reconstructed(pair.day, night, mix, settings)
    if not data_weight(settings, pair.size):
        moments = fit_moments(u, pair.day, night, weights, settings)
        u = normalise.apply_affine(u, *normalise.affine_from_moments(moments, u.shape[-2] * u.shape[-1]))
    return FusedPair(from_levels(u[0], pair.form), weights[0])
