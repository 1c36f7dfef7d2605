"""One job from files to files: a day and a night picture to a fused one, by gradients or to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy

from gpufuse import baselines
from gpufuse.arrays import from_levels, image_format, to_levels, with_channels
from gpufuse.enhance import day_plate
from gpufuse.errors import ConfigError
from gpufuse.imagepair import AreasLike
from gpufuse.jobfiles import JobFiles
from gpufuse.pictures import fused_pair, pair_importance
from gpufuse.resampling import enlarged
from gpufuse.settings import Settings
from gpufuse.video import read_still, write_still

__all__ = ["METHODS", "fuse_files"]

Method = Literal["gradient", "average", "maximum", "blend", "substitute"]
METHODS: tuple[Method, ...] = ("gradient", "average", "maximum", "blend", "substitute")


def fuse_files(
    day: str | Path,
    night: str | Path,
    output: str | Path,
    *,
    reference: str | Path | None = None,
    importance: str | Path | None = None,
    method: Method = "gradient",
    areas: AreasLike = None,
    settings: Settings | None = None,
    write_importance: str | Path | None = None,
    overwrite: bool = False,
) -> numpy.ndarray:
    """Fuse a day and a night picture, and write the result.

    Parameters
    ----------
    day : str or Path
        Picture, or clip to make the plate from.
    night : str or Path
        Picture.
    output : str or Path
        Ends in .png, .tif or .jpg.
    reference : str or Path, optional
        Night picture without the moving things.
    importance : str or Path, optional
        Grey picture, 255 keeps the night; not together with `reference`.
    method : {"gradient", "average", "maximum", "blend", "substitute"}
        The others than ``gradient`` are there to compare with.
    areas : path or list, optional
        User areas; with ``gradient`` only.
    settings : Settings, optional
    write_importance : str or Path, optional
        Also write the importance that was used.
    overwrite : bool
        Whether files that exist may be replaced.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        The picture that was written, in the night's dtype.

    Raises
    ------
    GpufuseError
        One of its classes, each with a line that says what to do. Nothing is left under a final name.
    """
    if method not in METHODS:
        raise ConfigError(f"method: expected one of {', '.join(METHODS)}, got {method!r}; choose one")
    if reference is not None and importance is not None:
        raise ConfigError("reference, importance: expected one of them, got both; leave one out")
    if areas is not None and method != "gradient":
        raise ConfigError(f"areas: expected method gradient, got {method}; leave the areas out")
    inputs = [path for path in (day, night, reference, importance) if path is not None]
    files = JobFiles.planned(
        output, importance=write_importance, inputs=inputs, overwrite=overwrite, still=True
    )
    dark = read_still(night)
    empty = None if reference is None else read_still(reference)
    given = None if importance is None else read_still(importance)
    plate = day_plate(day).pixels
    if method == "gradient":
        fused = fused_pair(plate, dark, reference=empty, importance=given, areas=areas, settings=settings)
        result: numpy.ndarray = fused.pixels
        weights = fused.importance
    else:
        weights = pair_importance(plate, dark, reference=empty, importance=given, settings=settings)
        result = _baseline(method, plate, dark, weights)
    with files.all_or_none():
        if files.importance is not None:
            write_still(files.importance, weights, overwrite=overwrite)
        write_still(files.result, result, overwrite=overwrite)
    return result


def _baseline(
    method: Method, day: numpy.ndarray, night: numpy.ndarray, weights: numpy.ndarray
) -> numpy.ndarray:
    form = image_format(night)
    dark = enlarged(to_levels(night), weights.shape)
    bright = with_channels(to_levels(day), dark.shape[-3])
    if method == "average":
        levels = baselines.average(bright, dark)
    elif method == "maximum":
        levels = baselines.maximum(bright, dark)
    elif method == "blend":
        levels = baselines.blend(bright, dark, weights)
    else:
        levels = baselines.substitute(bright, dark, weights)
    result: numpy.ndarray = from_levels(levels, form)
    return result
