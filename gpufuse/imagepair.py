"""A day and a night picture that belong together, as levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gpufuse.areas import Area, AreaMasks, load_areas
from gpufuse.arrays import Array, ImageFormat, array_module, image_format, to_levels, with_channels
from gpufuse.resampling import check_pair

__all__ = ["AreasLike", "ImagePair"]

AreasLike: TypeAlias = str | Path | Iterable[Area | Mapping[str, Any]] | None
"""A TOML file, or areas as objects or dictionaries."""


@dataclass(frozen=True)
class ImagePair:
    """A checked pair of pictures as levels, with equal channels.

    Attributes
    ----------
    day, night : ndarray, shape (C, H, W) and (C, h, w), float32, grey levels
        Each of its own size, on one device.
    form : ImageFormat
        Dtype and channels of the night as it was given.
    """

    day: Array
    night: Array
    form: ImageFormat

    @classmethod
    def of(cls, day: Array, night: Array) -> ImagePair:
        """Check a day and a night picture, and take their levels.

        Parameters
        ----------
        day, night : ndarray, shape (H, W) or (H, W, 3)
            As in `gpufuse.fuse`.

        Returns
        -------
        ImagePair

        Raises
        ------
        PairError
            If the sizes do not belong together.
        TypeError, ValueError
            For arrays that are no images, or not finite.
        """
        array_module(day, night)
        form = image_format(night, name="night")
        image_format(day, name="day")
        check_pair(tuple(day.shape[:2]), tuple(night.shape[:2]))
        night_levels = to_levels(night, name="night")
        day_levels = with_channels(to_levels(day, name="day"), night_levels.shape[0])
        return cls(day_levels, night_levels, form)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the day, and so of the result."""
        return tuple(self.day.shape[-2:])

    @property
    def night_size(self) -> tuple[int, int]:
        """Height and width of the night."""
        return tuple(self.night.shape[-2:])

    def area_masks(self, areas: AreasLike) -> AreaMasks:
        """Paint user areas at the day's size.

        Parameters
        ----------
        areas : path or list, optional
            In pixels of the night.

        Returns
        -------
        AreaMasks

        Raises
        ------
        ConfigError
            For wrong areas.
        """
        loaded = [] if areas is None else load_areas(areas)
        return AreaMasks(loaded, self.night_size, self.size, array_module(self.day))
