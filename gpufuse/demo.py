"""The demonstration: a rendered street by day and night, enhanced and judged against the known truth."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy

from gpufuse import baselines
from gpufuse.arrays import ImageFormat, from_levels, to_levels
from gpufuse.errors import GpufuseError, OutputError
from gpufuse.fusion import chunk_length, fuse_stream
from gpufuse.report import TruthFigures, sheet, truth_figures
from gpufuse.scene import Scene, render_scene
from gpufuse.settings import Settings
from gpufuse.video import ClipWriter, write_still

__all__ = ["DemoReport", "run_demo"]

_BYTES = ImageFormat(numpy.dtype(numpy.uint8), True)
_NAMES = ("day.png", "night.mp4", "enhanced.mp4", "sheet.png", "figures.txt")


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration made.

    Attributes
    ----------
    folder : Path
        Holds ``day.png``, ``night.mp4``, ``enhanced.mp4``, ``sheet.png`` and ``figures.txt``.
    figures : TruthFigures
    seconds : float
        Wall-clock time.
    """

    folder: Path
    figures: TruthFigures
    seconds: float


def run_demo(
    folder: str | Path,
    *,
    settings: Settings | None = None,
    width: int = 640,
    height: int = 360,
    frames: int = 96,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> DemoReport:
    """Render a street by day and night, enhance the night, and write clip, sheet and figures.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    settings : Settings, optional
    width, height, frames : int
        Size of the scene in pixels and frames.
    overwrite : bool
        Whether files of an earlier run may be replaced.
    tell : callable
        Called with a line on what happens next.

    Returns
    -------
    DemoReport

    Raises
    ------
    OutputError
        If a file exists already, or cannot be written.
    """
    started = time.monotonic()
    settings = settings or Settings()
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            _check_free(folder / name, overwrite)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            figures = _make(Path(part), settings, (width, height, frames), tell)
            for name in _NAMES:
                os.replace(Path(part, name), folder / name)
    except OSError as error:
        if isinstance(error, GpufuseError):
            raise
        raise OutputError(
            f"{folder}: expected a folder to write to, found {error.strerror!r}; choose another with -o"
        ) from error
    return DemoReport(folder, figures, time.monotonic() - started)


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path.parent}: expected a new folder, found {path.name} in it; "
            "choose another with -o, or use --overwrite"
        )


def _make(
    folder: Path, settings: Settings, size: tuple[int, int, int], tell: Callable[[str], None]
) -> TruthFigures:
    """Write all files into an empty folder."""
    width, height, frames = size
    tell("rendering a street by day and by night")
    scene = render_scene(width=width, height=height, frames=frames)
    write_still(folder / "day.png", scene.day)
    _write_clip(folder / "night.mp4", scene.night, scene.rate)
    tell("enhancing the night clip")
    result, importance = _fused(scene, settings)
    _write_clip(folder / "enhanced.mp4", result, scene.rate)
    tell("judging the result against the truth")
    figures = truth_figures(result, scene.day, scene.clean_night, scene.moving, importance, ignore=scene.glow)
    (folder / "figures.txt").write_text(f"{figures}\n", encoding="utf-8")
    write_still(folder / "sheet.png", _sheet(scene, result, importance))
    return figures


def _write_clip(path: Path, frames: numpy.ndarray, rate: Fraction) -> None:
    count, height, width, _ = frames.shape
    with ClipWriter(path, width, height, 1 / rate, rate, crf=12) as clip:
        for index in range(count):
            clip.write_chunk(to_levels(frames[index : index + 1], leading=1), [index])


def _fused(scene: Scene, settings: Settings) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fused frames and importance, from the scene itself: no codec stands between figures and truth."""
    result = numpy.empty_like(scene.night)
    importance = numpy.empty(scene.night.shape[:3], numpy.float32)
    day = to_levels(scene.day)
    length = chunk_length(day.shape)
    stream = (
        (to_levels(chunk, leading=1), numpy.zeros(len(chunk)))
        for chunk in (scene.night[start : start + length] for start in range(0, len(scene.night), length))
    )
    for fused in fuse_stream(day, stream, settings=settings):
        frames = slice(fused.first, fused.first + len(fused.levels))
        result[frames] = from_levels(fused.levels, _BYTES)
        importance[frames] = fused.importance
    return result, importance


def _sheet(scene: Scene, result: numpy.ndarray, importance: numpy.ndarray) -> numpy.ndarray:
    """Day, night, importance, average, blend and result, at the frame with most in motion."""
    index = int(scene.moving.sum(axis=(1, 2)).argmax())
    day, night = to_levels(scene.day), to_levels(scene.night[index])
    weights = importance[index]
    average = from_levels(baselines.average(day, night), _BYTES)
    blend = from_levels(baselines.blend(day, night, weights), _BYTES)
    return sheet(
        [
            ("day", scene.day),
            ("night", scene.night[index]),
            ("importance of the night", weights),
            ("average", average),
            ("blend of pixels", blend),
            ("gpufuse", result[index]),
        ]
    )
