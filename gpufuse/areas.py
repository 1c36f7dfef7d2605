"""User areas: places filled from the day or kept from the night, whatever the importance says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy

from gpufuse.arrays import Array, array_module, to_host, to_share
from gpufuse.errors import ConfigError, GpufuseError
from gpufuse.resampling import enlarged

__all__ = ["Area", "AreaMasks", "load_areas"]

_KEYS = {"fill", "polygon", "mask", "frames", "seconds"}


@dataclass(frozen=True, eq=False)
class Area:
    """One area of the picture and the frames it holds for.

    Attributes
    ----------
    fill : {"day", "night"}
        ``day``: importance 0, and the day's gradient even where the night's is larger.
        ``night``: importance 1.
    polygon : sequence of (x, y), optional
        Corners in pixels of the night frame.
    mask : ndarray, shape (H, W), or path, optional
        Instead of a polygon: a grey picture of the night frame's size, 0..255 (or float 0..1).
    frames : (first, last), optional
        Frames the area holds for, both included, from 0.
    seconds : (first, last), optional
        The same in seconds of the clip.

    Raises
    ------
    ConfigError
        For a wrong or missing value.

    Examples
    --------
    >>> Area(fill="day", polygon=[(10, 20), (90, 20), (90, 80)], frames=(0, 250)).fill
    'day'
    """

    fill: Literal["day", "night"]
    polygon: Sequence[Sequence[float]] | None = None
    mask: Array | str | Path | None = None
    frames: Sequence[int] | None = None
    seconds: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.fill not in ("day", "night"):
            raise ConfigError(f"area: expected fill = 'day' or 'night', got {self.fill!r}; choose one")
        if not (self.mask is None or isinstance(self.mask, str | Path) or hasattr(self.mask, "shape")):
            raise ConfigError(
                f"area: expected mask = a file or an array, got {self.mask!r}; name a grey picture"
            )
        if (self.polygon is None) == (self.mask is None):
            raise ConfigError("area: expected either polygon or mask, got both or neither; give one of them")
        if self.polygon is not None:
            _check_polygon(self.polygon)
        if self.frames is not None and self.seconds is not None:
            raise ConfigError("area: expected frames or seconds, got both; give one of them")
        for name, span in (("frames", self.frames), ("seconds", self.seconds)):
            if span is not None:
                _check_span(name, span)

    def holds(self, frame: int, seconds: float) -> bool:
        """Tell whether the area holds for a frame.

        Parameters
        ----------
        frame : int
            From 0.
        seconds : float
            Its time in the clip.
        """
        if self.frames is not None:
            return self.frames[0] <= frame <= self.frames[1]
        if self.seconds is not None:
            return self.seconds[0] <= seconds <= self.seconds[1]
        return True


def _check_polygon(polygon: Sequence[Sequence[float]]) -> None:
    try:
        corners = numpy.asarray(polygon, dtype=float)
    except (TypeError, ValueError):
        corners = numpy.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not numpy.isfinite(corners).all():
        raise ConfigError(
            f"area: expected a polygon of at least 3 corners [x, y], got {polygon!r}; "
            "for example [[10, 20], [90, 20], [90, 80]]"
        )


def _check_span(name: str, span: Any) -> None:
    numbers = isinstance(span, Sequence) and all(
        isinstance(end, Real) and not isinstance(end, bool) for end in span
    )
    if not numbers or len(span) != 2 or not 0 <= span[0] <= span[1]:
        raise ConfigError(
            f"area: expected {name} = [first, last] with 0 <= first <= last, got {span!r}; mend it"
        )


def load_areas(source: str | Path | Iterable[Area | Mapping[str, Any]]) -> list[Area]:
    """Read areas from a TOML file, or take them as objects.

    Parameters
    ----------
    source : path, or iterable of Area or dict
        A file with ``[[area]]`` tables; a mask's path in it is relative to the file.

    Returns
    -------
    list of Area
        In order; later areas have the last word.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no TOML, or an area is wrong.

    Examples
    --------
    >>> load_areas([{"fill": "night", "polygon": [[0, 0], [9, 0], [9, 9]]}])[0].fill
    'night'
    """
    folder = None
    if isinstance(source, str | Path):
        folder = Path(source).parent
        source = _tables(Path(source))
    elif isinstance(source, Area | Mapping):
        source = [source]
    areas = []
    for entry in source:
        if isinstance(entry, Area):
            areas.append(entry)
            continue
        if not isinstance(entry, Mapping) or "fill" not in entry or not set(entry) <= _KEYS:
            raise ConfigError(
                f"area: expected fill and polygon or mask, frames or seconds; got {entry!r}; check the names"
            )
        values = dict(entry)
        if folder is not None and isinstance(values.get("mask"), str):
            values["mask"] = folder / values["mask"]
        areas.append(Area(**values))
    return areas


def _tables(path: Path) -> list[Mapping[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: expected TOML, found a mistake ({error}); write [[area]] tables"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no text, or no file name
        raise ConfigError(
            f"{path}: expected a readable areas file, found none ({error}); check the path"
        ) from error
    tables = document.get("area")
    if set(document) != {"area"} or not isinstance(tables, list):
        raise ConfigError(
            f"{path}: expected [[area]] tables, got {', '.join(document) or 'nothing'}; see the README"
        )
    return tables


class AreaMasks:
    """Areas painted at the size of the pictures that are fused.

    Parameters
    ----------
    areas : sequence of Area
    night_size, size : tuple of int
        Height and width of the night frames, in whose pixels the areas are given, and of the result.
    module : module
        `numpy` or `cupy`: where the masks are needed.

    Raises
    ------
    ConfigError
        If a mask cannot be read or has another size than the night frames.
    """

    def __init__(
        self, areas: Sequence[Area], night_size: tuple[int, int], size: tuple[int, int], module: Any = numpy
    ) -> None:
        self._areas = [(area, module.asarray(enlarged(_painted(area, night_size), size))) for area in areas]

    @property
    def timed(self) -> bool:
        """Whether an area needs frame times."""
        return any(area.seconds is not None for area, _ in self._areas)

    def apply(self, importance: Array, first: int, seconds: Array) -> tuple[Array, Array | None]:
        """Give the areas the last word on the importance of some frames.

        Parameters
        ----------
        importance : ndarray, shape (T, H, W), float32 in [0, 1]
            Not changed.
        first : int
            Index in the clip of the first of them.
        seconds : ndarray, shape (T,)
            Their times; on the host.

        Returns
        -------
        importance : ndarray, shape (T, H, W), float32 in [0, 1]
        day_only : ndarray, shape (T, H, W), bool, or None
            Where the day's gradient is taken even if the night's is larger.
        """
        if not self._areas:
            return importance, None
        xp = array_module(importance)
        result = importance.copy()
        day_only = xp.zeros(importance.shape, bool)
        for k in range(len(importance)):
            for area, mask in self._areas:
                if not area.holds(first + k, float(seconds[k])):
                    continue
                if area.fill == "day":
                    result[k] *= xp.float32(1.0) - mask
                    day_only[k] |= mask >= 0.5
                else:
                    result[k] += mask * (xp.float32(1.0) - result[k])
                    day_only[k] &= mask < 0.5
        return result, day_only


def _painted(area: Area, size: tuple[int, int]) -> numpy.ndarray:
    """Mask of an area, float32 in [0, 1], at the size of the night frames."""
    if area.polygon is not None:
        from PIL import Image, ImageDraw

        canvas = Image.new("L", (size[1], size[0]))
        ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in area.polygon], fill=255)
        return numpy.asarray(canvas, dtype=numpy.float32) / numpy.float32(255.0)
    mask = _read_mask(area.mask) if isinstance(area.mask, str | Path) else area.mask
    try:
        share: numpy.ndarray = to_host(to_share(mask, name="area mask"))
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if share.shape != size:
        raise ConfigError(
            f"area mask: expected {size[1]}x{size[0]} like the night, "
            f"got {share.shape[1]}x{share.shape[0]}; paint it over a night frame"
        )
    return share


def _read_mask(path: str | Path) -> numpy.ndarray:
    from gpufuse.stills import read_still

    try:
        return read_still(path)
    except GpufuseError as error:
        raise ConfigError(f"area mask: {error}") from error
