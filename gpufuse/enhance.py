"""One job from files to files: a night clip, still or folder of stills and its day to the enhanced clip.

Reading, computing and writing overlap in three threads; what is made appears under its name only when
all of it is complete.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from gpufuse.areas import AreaMasks, load_areas
from gpufuse.arrays import ImageFormat, from_levels, image_format, to_levels
from gpufuse.background import daytime_background
from gpufuse.damage import OnDamage
from gpufuse.device import Device, DeviceName, select_device
from gpufuse.errors import OutputError
from gpufuse.fusion import AreasLike, FusedChunk, chunk_length, fuse, fuse_stream, pair_importance
from gpufuse.output import check_output
from gpufuse.overlap import BackgroundWriter, prefetch
from gpufuse.report import side_by_side
from gpufuse.resampling import check_pair
from gpufuse.settings import Settings
from gpufuse.video import (
    Chunk,
    ClipReader,
    ClipWriter,
    Limits,
    is_still,
    open_clip,
    read_still,
    write_still,
)
from gpufuse.writer import check_clip_output

__all__ = ["EnhanceReport", "day_plate", "default_output", "enhance"]

PLATE_SECONDS = 15.0
"""Seconds of a day clip that make the plate."""

Progress = Callable[[int, int | None], None]
"""Called with the frames done and the frames expected."""

_COLOUR_BYTES = ImageFormat(numpy.dtype(numpy.uint8), True)
_QUEUED = 2


@dataclass(frozen=True)
class EnhanceReport:
    """What a job did.

    Attributes
    ----------
    output : Path
        The enhanced clip or still.
    extras : tuple of Path
        Comparison and importance, where wanted.
    frames : int
    seconds : float
        Wall-clock time, reading and writing included.
    device : Device
    solver_error : float
        Largest distance from the direct solution on the first frame, grey levels; nan where not measured.
    damage : tuple of str
        What was wrong with the input, where it was salvaged.
    notes : tuple of str
        What a user should know.
    """

    output: Path
    frames: int
    seconds: float
    device: Device
    solver_error: float
    extras: tuple[Path, ...] = ()
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def summary(self) -> str:
        """Return one line for the user.

        Examples
        --------
        >>> EnhanceReport(Path("out.mp4"), 250, 5.0, Device("cpu", ""), 0.04).summary()
        'out.mp4: 250 frames, 50.0 frames/s on cpu, solver within 0.04 level, no damage'
        """
        speed = self.frames / self.seconds if self.seconds > 0 else 0.0
        solver = "" if numpy.isnan(self.solver_error) else f"solver within {self.solver_error:.2f} level, "
        damage = f"{len(self.damage)} kinds of damage" if self.damage else "no damage"
        return (
            f"{self.output}: {self.frames} frame{'s' * (self.frames != 1)}, {speed:.1f} frames/s "
            f"on {self.device.name}, {solver}{damage}"
        )


def default_output(night: str | Path) -> Path:
    """Name of the result where none is given: beside the input.

    Parameters
    ----------
    night : str or Path
        Clip, folder or glob of stills, or one still.

    Returns
    -------
    Path
        ``<stem>-enhanced.mp4``, or ``.png`` for one still.

    Examples
    --------
    >>> default_output("cams/night.mp4").as_posix()
    'cams/night-enhanced.mp4'
    """
    path = Path(night)
    suffix = ".png" if path.is_file() and is_still(path) else ".mp4"
    if not path.exists() and any(sign in path.name for sign in "*?["):
        return path.parent / f"{path.parent.resolve().name}-enhanced{suffix}"
    stem = path.resolve().name if path.is_dir() else path.stem
    return path.parent / f"{stem}-enhanced{suffix}"


def day_plate(
    day: str | Path,
    *,
    seconds: float = PLATE_SECONDS,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
) -> numpy.ndarray:
    """Read a day picture, or make the plate of a day clip.

    Parameters
    ----------
    day : str or Path
        A still, a clip, or a folder or glob of stills.
    seconds : float
        How much of a clip to use; all stills of a folder are used.
    on_damage : {"fail", "salvage"}
    limits : Limits, optional

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3), uint8 or uint16

    Raises
    ------
    InputError, DamagedInputError, LimitError
        As `gpufuse.video.open_clip`.
    """
    path = Path(day)
    if path.is_file() and is_still(path):
        limits = limits or Limits()
        return read_still(path, max_pixels=limits.max_pixels)
    with open_clip(day, on_damage=on_damage, limits=limits) as clip:
        whole = path.is_dir() or not path.is_file()
        plate: numpy.ndarray = daytime_background(_first_seconds(clip, None if whole else seconds))
    return plate


def _first_seconds(clip: ClipReader, seconds: float | None) -> Iterator[numpy.ndarray]:
    first: int | None = None
    for frame in clip:
        first = frame.pts if first is None else first
        if seconds is not None and (frame.pts - first) * frame.time_base >= seconds:
            return
        yield from_levels(frame.levels, _COLOUR_BYTES)


def enhance(
    night: str | Path,
    day: str | Path,
    output: str | Path | None = None,
    *,
    device: DeviceName = "auto",
    areas: AreasLike = None,
    settings: Settings | None = None,
    compare: bool = False,
    write_importance: str | Path | None = None,
    overwrite: bool = False,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> EnhanceReport:
    """Enhance a night clip, a folder or glob of night stills, or one night still.

    Parameters
    ----------
    night : str or Path
    day : str or Path
        Still or clip of the same view.
    output : str or Path, optional
        By default `default_output`. A clip ends in .mp4, .mov or .mkv, a still in .png, .jpg or .tif.
    device : {"auto", "cpu", "cuda"}
    areas : path or list, optional
        User areas.
    settings : Settings, optional
    compare : bool
        Also write day, night, importance and result side by side, as ``<output stem>-compare``.
    write_importance : str or Path, optional
        Also write the importance: a picture for a still, a clip for a clip.
    overwrite : bool
        Whether files that exist may be replaced.
    on_damage : {"fail", "salvage"}
        ``salvage`` works on the readable part and lists the damage.
    limits : Limits, optional
    chunk : int, optional
        Frames that are worked on together; the result does not depend on it.
    progress : callable, optional
        Called with the frames done and the frames expected.
    tell : callable, optional
        Called with a line on the device, once the inputs are found good enough to begin.

    Returns
    -------
    EnhanceReport

    Raises
    ------
    GpufuseError
        One of its classes, each with a line that says what to do. Nothing is left under a final name.
    """
    started = time.monotonic()
    settings = settings or Settings()
    chosen = select_device(device)
    target = default_output(night) if output is None else Path(output)
    still = Path(night).is_file() and is_still(night)
    importance = None if write_importance is None else Path(write_importance)
    files = _Files.planned(target, compare, importance, overwrite, still=still)
    if still:
        return _enhance_still(night, day, files, chosen, areas, settings, limits, started, tell)
    plate = day_plate(day, on_damage=on_damage, limits=limits)
    with open_clip(night, on_damage=on_damage, limits=limits) as clip:
        check_pair(plate.shape[:2], (clip.height, clip.width))
        job = _ClipJob(clip, plate, areas, settings, files, chunk)
        tell(_device_line(chosen))
        frames, error = job.run(progress)
        notes = tuple(clip.notes)
        if clip.has_audio:
            notes += (f"{clip.name}: its sound is left out",)
        return EnhanceReport(
            target, frames, time.monotonic() - started, chosen, error, files.extras, tuple(clip.damage), notes
        )


@dataclass(frozen=True)
class _Files:
    """Names of what a job writes, checked before any work is done."""

    result: Path
    comparison: Path | None
    importance: Path | None
    overwrite: bool

    @classmethod
    def planned(
        cls, result: Path, compare: bool, importance: Path | None, overwrite: bool, *, still: bool
    ) -> _Files:
        comparison = result.with_name(f"{result.stem}-compare{result.suffix}") if compare else None
        wanted = [path for path in (result, comparison, importance) if path is not None]
        for path in wanted:
            if wanted.count(path) > 1:
                raise OutputError(f"{path.name}: expected a name for each output, found it twice; rename one")
            if still:
                check_output(path, overwrite=overwrite)
            else:
                check_clip_output(path, overwrite=overwrite)
        return cls(result, comparison, importance, overwrite)

    @property
    def extras(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.comparison, self.importance) if path is not None)


def _enhance_still(
    night: str | Path,
    day: str | Path,
    files: _Files,
    device: Device,
    areas: AreasLike,
    settings: Settings,
    limits: Limits | None,
    started: float,
    tell: Callable[[str], None],
) -> EnhanceReport:
    limits = limits or Limits()
    dark = read_still(night, max_pixels=limits.max_pixels)
    plate = day_plate(day, limits=limits)
    check_pair(plate.shape[:2], dark.shape[:2])
    tell(_device_line(device))
    result = fuse(plate, dark, areas=areas, settings=settings)
    write_still(files.result, result, overwrite=files.overwrite)
    if files.extras:
        weights = pair_importance(plate, dark, settings=settings)
        if files.importance is not None:
            write_still(files.importance, weights, overwrite=files.overwrite)
        if files.comparison is not None:
            panels = side_by_side(plate, dark, weights, result)
            write_still(files.comparison, panels, overwrite=files.overwrite)
    return EnhanceReport(files.result, 1, time.monotonic() - started, device, numpy.nan, files.extras)


def _device_line(device: Device) -> str:
    return f"computing on {device.name} ({device.reason})"


class _ClipJob:
    """Reading ahead, computing, and writing behind, for one clip."""

    def __init__(
        self,
        clip: ClipReader,
        plate: numpy.ndarray,
        areas: AreasLike,
        settings: Settings,
        files: _Files,
        chunk: int | None,
    ) -> None:
        self._clip = clip
        self._plate = plate
        self._day = _colour_levels(plate)
        self._settings = settings
        self._files = files
        size = (self._day.shape[-2], self._day.shape[-1])
        loaded = [] if areas is None else load_areas(areas)
        self._areas = AreaMasks(loaded, (clip.height, clip.width), size)
        self._chunk = chunk or chunk_length(self._day.shape)
        self._reading: list[Chunk] = []  # times, and frames for a comparison, until they are fused

    def run(self, progress: Progress | None) -> tuple[int, float]:
        """Return the number of frames and the error of the solver."""
        done, solver_error = 0, numpy.nan
        with contextlib.ExitStack() as stack:
            writers = _Writers(stack, self._files, self._clip, self._day.shape)
            behind = stack.enter_context(BackgroundWriter(writers.write, _QUEUED))
            ahead = stack.enter_context(contextlib.closing(prefetch(self._clip.chunks(self._chunk), _QUEUED)))
            fused_chunks = fuse_stream(
                self._day,
                self._stream(ahead),
                settings=self._settings,
                areas=self._areas,
                measure_solver=True,
            )
            for fused in fused_chunks:
                solver_error = numpy.fmax(solver_error, fused.solver_error)
                behind.put(self._finished(fused))
                done += len(fused.levels)
                if progress is not None:
                    progress(done, self._clip.frame_count_hint)
        return done, float(solver_error)

    def _stream(self, chunks: Iterator[Chunk]) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
        first: int | None = None
        for chunk in chunks:
            first = chunk.pts[0] if first is None else first
            seconds = numpy.array([float((pts - first) * self._clip.time_base) for pts in chunk.pts])
            keeps_frames = self._files.comparison is not None
            self._reading.append(chunk if keeps_frames else Chunk(chunk.levels[:0], chunk.pts))
            yield chunk.levels, seconds

    def _finished(self, fused: FusedChunk) -> _Finished:
        """Join fused frames with their times, and with the day and night frames for a comparison."""
        wanted = len(fused.levels)
        pts: list[int] = []
        nights: list[numpy.ndarray] = []
        while len(pts) < wanted:
            chunk = self._reading[0]
            share = min(wanted - len(pts), len(chunk.pts))
            pts += chunk.pts[:share]
            nights += list(chunk.levels[:share])
            self._reading[0] = Chunk(chunk.levels[share:], chunk.pts[share:])
            if not self._reading[0].pts:
                self._reading.pop(0)
        return _Finished(pts, fused, self._plate, nights)


@dataclass(frozen=True)
class _Finished:
    """Fused frames with all that the writers need."""

    pts: list[int]
    fused: FusedChunk
    plate: numpy.ndarray
    nights: list[numpy.ndarray]


class _Writers:
    """The clips that a job writes; each takes its name when the stack closes without an error."""

    def __init__(
        self, stack: contextlib.ExitStack, files: _Files, clip: ClipReader, shape: tuple[int, ...]
    ) -> None:
        _, height, width = shape

        def writer(path: Path | None, size: tuple[int, int] = (width, height)) -> ClipWriter | None:
            if path is None:
                return None
            made = ClipWriter(
                path,
                *size,
                clip.time_base,
                clip.rate,
                overwrite=files.overwrite,
                sample_aspect=clip.sample_aspect,
            )
            return stack.enter_context(made)

        self._result = writer(files.result)
        self._comparison = writer(files.comparison, (4 * width, height + height % 2))  # as `side_by_side`
        self._importance = writer(files.importance)

    def write(self, finished: _Finished) -> None:
        fused = finished.fused
        assert self._result is not None
        self._result.write_chunk(fused.levels, finished.pts)
        if self._importance is not None:
            grey = numpy.repeat(fused.importance[:, None] * numpy.float32(255.0), 3, axis=1)
            self._importance.write_chunk(grey, finished.pts)
        if self._comparison is not None:
            self._comparison.write_chunk(_compared(finished), finished.pts)


def _compared(finished: _Finished) -> numpy.ndarray:
    fused = finished.fused
    pictures = [
        side_by_side(finished.plate, from_levels(night, _COLOUR_BYTES), weights, result)
        for night, weights, result in zip(
            finished.nights, fused.importance, from_levels(fused.levels, _COLOUR_BYTES), strict=True
        )
    ]
    levels: numpy.ndarray = to_levels(numpy.stack(pictures), leading=1)
    return levels


def _colour_levels(plate: numpy.ndarray) -> numpy.ndarray:
    """Planar levels with three channels, as the frames of a clip have."""
    levels: Any = to_levels(plate, name="day")
    return levels if image_format(plate).colour else numpy.repeat(levels, 3, axis=0)
