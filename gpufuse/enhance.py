"""One job from files to files: a night clip, still or folder of stills and its day to the enhanced clip.

Reading, computing and writing overlap in three threads; what is made appears under its name only when
all of it is complete.
"""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from gpufuse.areas import Area, AreaMasks, load_areas
from gpufuse.arrays import Array, ImageFormat, free_memory, from_levels, to_host, to_levels, with_channels
from gpufuse.background import daytime_background
from gpufuse.colour import levels_to_pixels
from gpufuse.damage import OnDamage
from gpufuse.delivery import CodesDelivery, Delivery, LevelsDelivery, SurfacesDelivery
from gpufuse.device import Device, DeviceName, select_device
from gpufuse.errors import ConfigError, DeviceError
from gpufuse.fusion import AreasLike, FusedChunk, chunk_length, fuse_stream, fused_pair
from gpufuse.hardware import nvdec_obstacle, nvenc_obstacle
from gpufuse.jobfiles import JobFiles
from gpufuse.overlap import BackgroundWriter, prefetch
from gpufuse.report import side_by_side
from gpufuse.resampling import check_pair
from gpufuse.settings import Settings
from gpufuse.transfers import Download, Downloads, on_default_stream
from gpufuse.video import (
    Chunk,
    ClipReader,
    ClipWriter,
    Decoder,
    Limits,
    Source,
    is_still,
    open_clip,
    read_still,
    write_still,
)

__all__ = [
    "FEWEST_SECONDS",
    "FEWEST_STILLS",
    "PLATE_SECONDS",
    "EnhanceReport",
    "Plate",
    "day_plate",
    "default_output",
    "enhance",
]

PLATE_SECONDS = 15.0
"""Seconds of a day clip that make the plate."""

FEWEST_STILLS, FEWEST_SECONDS = 15, 8.0
"""Day pictures, or seconds of a day clip, below which a plate may keep traffic.

On a road of which cars cover a tenth, 3 pictures leave 2.6 % of the plate wrong, 9 leave 0.6 % and 15 leave 0.1 %;
3 s of a clip leave 2.2 % and 8 s leave 0.6 %.
"""

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
    coders : str
        Where a GPU computes: what decoded and what encoded, and why.
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
    notes: tuple[str, ...] = ()
    coders: str = ""

    def summary(self) -> str:
        """Return one line for the user.

        Examples
        --------
        >>> EnhanceReport(Path("out.mp4"), 250, 5.0, Device("cpu", ""), 0.04).summary()
        'out.mp4: 250 frames, 50.0 frames/s on cpu, solver within 0.04 level, no damage'
        """
        coders = f" ({self.coders})" if self.coders else ""
        speed = self.frames / self.seconds if self.seconds > 0 else 0.0
        solver = "" if numpy.isnan(self.solver_error) else f"solver within {self.solver_error:.2f} level, "
        kinds = f"{len(self.damage)} kind{'s' * (len(self.damage) != 1)} of damage"
        damage = kinds if self.damage else "no damage"
        return (
            f"{self.output}: {self.frames} frame{'s' * (self.frames != 1)}, {speed:.1f} frames/s "
            f"on {self.device.name}{coders}, {solver}{damage}"
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
    if path.is_dir():
        path = path.resolve()  # or ".." would have no name
        return path.with_name(f"{path.name}-enhanced.mp4")
    if not path.exists() and glob.has_magic(str(path)):
        while glob.has_magic(str(path)):
            path = path.parent
        return path / f"{path.resolve().name}-enhanced.mp4"
    suffix = ".png" if path.is_file() and is_still(path) else ".mp4"
    return path.with_name(f"{path.stem}-enhanced{suffix}")


@dataclass(frozen=True)
class Plate:
    """A day picture, or the plate of a day clip.

    Attributes
    ----------
    pixels : ndarray, shape (H, W) or (H, W, 3), uint8 or uint16
    damage : tuple of str
        What was wrong with the clip, where it was salvaged.
    notes : tuple of str
        What the user should know: that there were too few frames to tell traffic from street.
    """

    pixels: numpy.ndarray
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def day_plate(
    day: str | Path,
    *,
    seconds: float = PLATE_SECONDS,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    module: Any = numpy,
) -> Plate:
    """Read a day picture, or make the plate of a day clip.

    Parameters
    ----------
    day : str or Path
        A still, a clip, or a folder or glob of stills.
    seconds : float
        How much of a clip to use; all stills of a folder are used.
    on_damage : {"fail", "salvage"}
    limits : Limits, optional
    module : module
        `numpy`, or `cupy` for the median of a clip on the GPU.

    Returns
    -------
    Plate
        On the host. Of 8 bits, but for a still of 16 bits.

    Raises
    ------
    InputError, DamagedInputError, LimitError
        As `gpufuse.video.open_clip`.
    """
    path = Path(day)
    if path.is_file() and is_still(path):
        return Plate(read_still(path, max_pixels=(limits or Limits()).max_pixels))
    with open_clip(day, on_damage=on_damage, limits=limits, module=module) as clip:
        stills = path.is_dir() or not path.is_file()
        look = _DayFrames(clip, None if stills else seconds)
        pixels = daytime_background(look)
        few = look.count < FEWEST_STILLS if stills else look.seconds < FEWEST_SECONDS
        notes = (look.few(clip.name, stills),) if few else ()
        return Plate(to_host(pixels), tuple(clip.damage), notes)


class _DayFrames:
    """The first seconds of a clip, or all of it, as bytes; counts what it gives."""

    def __init__(self, clip: ClipReader, limit: float | None) -> None:
        self._clip, self._limit = clip, limit
        self.count = 0
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Array]:
        first: int | None = None
        for frame in self._clip:
            first = frame.pts if first is None else first
            self.seconds = float((frame.pts - first) * frame.time_base)
            if self._limit is not None and self.seconds >= self._limit:
                return
            self.count += 1
            yield levels_to_pixels(frame.levels)

    def few(self, name: str, stills: bool) -> str:
        """Say that traffic may have stayed."""
        found = f"{self.count} day pictures" if stills else f"{self.seconds:.1f} s of day"
        wanted = f"{FEWEST_STILLS} pictures" if stills else f"{FEWEST_SECONDS:g} s"
        return (
            f"{name}: expected at least {wanted} to tell traffic from street, found {found}; "
            "look for cars in the day, or give more of it"
        )


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
    decoder: Decoder = "software",
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
        By default `default_output`. A clip ends in .mp4, .m4v, .mov or .mkv, a still in .png, .jpg or .tif.
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
    decoder : {"software", "nvdec"}
        ``nvdec`` lets the GPU that computes decode the night clip into its own memory, where it can. That
        spares the CPU, but damage inside pictures goes unnoticed: NVDEC does not tell of it.
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
    if chunk is not None and chunk < 1:
        raise ConfigError(f"chunk: expected at least 1 frame, got {chunk}; leave it out for the default")
    if decoder not in ("software", "nvdec"):
        raise ConfigError(f"decoder: expected software or nvdec, got {decoder!r}; choose one")
    chosen = select_device(device)
    if decoder == "nvdec":
        _check_nvdec(chosen)
    still = Path(night).is_file() and is_still(night)
    files = JobFiles.planned(
        default_output(night) if output is None else output,
        compare=compare,
        importance=write_importance,
        inputs=(night, day),
        overwrite=overwrite,
        still=still,
    )
    loaded = [] if areas is None else load_areas(areas)
    job = _enhance_still if still else _enhance_clip
    order = _Order(night, day, files, chosen, loaded, settings, on_damage, limits, chunk, decoder, started)
    with files.all_or_none(), order.default_stream():
        return job(order, progress, tell)


def _check_nvdec(device: Device) -> None:
    obstacle = "computing on the CPU" if device.name == "cpu" else nvdec_obstacle()
    if obstacle is not None:
        raise DeviceError(f"decoder: expected a usable NVDEC, found {obstacle}; leave out --decoder nvdec")


@dataclass(frozen=True)
class _Order:
    """What `enhance` was asked for, checked as far as possible without reading pictures."""

    night: str | Path
    day: str | Path
    files: JobFiles
    device: Device
    areas: list[Area]
    settings: Settings
    on_damage: OnDamage
    limits: Limits | None
    chunk: int | None
    decoder: Decoder
    started: float

    def default_stream(self) -> contextlib.AbstractContextManager[None]:
        """All threads work on the default stream, in the order in which they hand work over."""
        if self.device.name == "cpu":
            return contextlib.nullcontext()
        return on_default_stream(self.module)

    @property
    def module(self) -> Any:
        """The module whose arrays live on the device."""
        if self.device.name == "cpu":
            return numpy
        import cupy

        return cupy

    def plate(self) -> Plate:
        return day_plate(self.day, on_damage=self.on_damage, limits=self.limits, module=self.module)

    def report(
        self,
        frames: int,
        solver_error: float = numpy.nan,
        damage: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        coders: str = "",
    ) -> EnhanceReport:
        seconds = time.monotonic() - self.started
        files = self.files
        return EnhanceReport(
            files.result, frames, seconds, self.device, solver_error, files.extras, damage, notes, coders
        )


def _enhance_clip(order: _Order, progress: Progress | None, tell: Callable[[str], None]) -> EnhanceReport:
    with open_clip(
        order.night,
        on_damage=order.on_damage,
        limits=order.limits,
        module=order.module,
        decoder=order.decoder,
    ) as clip:
        plate = order.plate()
        check_pair(plate.pixels.shape[:2], (clip.height, clip.width))
        job = _ClipJob(clip, plate.pixels, order)
        tell(_device_line(order.device))
        frames, error = job.run(progress)
        notes = tuple(clip.notes)
        if clip.has_audio:
            notes += (f"{clip.name}: its sound is left out",)
        coders = ""
        if order.device.name == "cuda":
            why = ", which tells damage" if clip.decoder == "software" else ""
            coders = f"decoded by {clip.decoder}{why}, encoded by {job.encoder}"
        if clip.decoder == "NVDEC":
            notes += (f"{clip.name}: decoded by NVDEC, where damage inside pictures goes unnoticed",)
        damage = plate.damage + tuple(clip.damage)
        return order.report(frames, float(error), damage, plate.notes + notes, coders)


def _enhance_still(order: _Order, progress: Progress | None, tell: Callable[[str], None]) -> EnhanceReport:
    dark = read_still(order.night, max_pixels=(order.limits or Limits()).max_pixels)
    plate = order.plate()
    check_pair(plate.pixels.shape[:2], dark.shape[:2])
    tell(_device_line(order.device))
    xp = order.module
    with _room_for(order, plate.pixels.shape):
        fused = fused_pair(
            xp.asarray(plate.pixels), xp.asarray(dark), areas=order.areas, settings=order.settings
        )
    pixels, weights = to_host(fused.pixels), to_host(fused.importance)
    files = order.files
    if files.importance is not None:
        write_still(files.importance, weights, overwrite=files.overwrite)
    if files.comparison is not None:
        panels = side_by_side(plate.pixels, dark, weights, pixels)
        write_still(files.comparison, panels, overwrite=files.overwrite)
    write_still(files.result, pixels, overwrite=files.overwrite)
    if progress is not None:
        progress(1, 1)
    return order.report(1, damage=plate.damage, notes=plate.notes)


@contextlib.contextmanager
def _room_for(order: _Order, shape: tuple[int, ...]) -> Iterator[None]:
    """Say in one line that the GPU's memory does not suffice, where not even one frame fits."""
    try:
        yield
    except MemoryError as error:
        if order.device.name == "cpu":
            raise
        raise DeviceError(
            f"memory: expected room for one frame of {shape[1]}x{shape[0]} on the GPU, found too little; "
            "close other programs on it, or use --device cpu"
        ) from error


def _device_line(device: Device) -> str:
    return f"computing on {device.name} ({device.reason})"


class _ChunkLength:
    """Frames that are read together: fewer once memory has not sufficed."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def shorten(self, count: int) -> None:
        """Take half of what there was no room for."""
        self.frames = min(self.frames, max(1, count // 2))


class _ClipJob:
    """Reading ahead, computing, and writing behind, for one clip."""

    def __init__(self, clip: ClipReader, plate: numpy.ndarray, order: _Order) -> None:
        xp = order.module
        self._clip = clip
        self._plate = plate
        self._order = order
        with _room_for(order, plate.shape):
            self._day = with_channels(to_levels(xp.asarray(plate), name="day"), 3)
        self._files = order.files
        size = (self._day.shape[-2], self._day.shape[-1])
        self._areas = AreaMasks(order.areas, (clip.height, clip.width), size, xp)
        free = free_memory(self._day)
        self._length = _ChunkLength(order.chunk or chunk_length(self._day.shape, free_memory=free))
        self._number = None if xp is numpy else int(xp.cuda.Device().id)
        self._downloads = Downloads(xp)
        self._delivery = self._chosen_delivery(size)
        self._reading: list[Chunk] = []  # times, and frames for a comparison, until they are fused

    def _chosen_delivery(self, size: tuple[int, int]) -> Delivery:
        if self._order.device.name == "cpu":
            return LevelsDelivery()
        height, width = size
        reason = "it needs even sides" if height % 2 or width % 2 else nvenc_obstacle(width, height)
        return SurfacesDelivery() if reason is None else CodesDelivery(self._downloads, reason)

    @property
    def encoder(self) -> str:
        """Who encodes, and why."""
        return self._delivery.encoder

    def run(self, progress: Progress | None) -> tuple[int, Array | float]:
        """Return the number of frames and the error of the solver, which on a GPU stays there."""
        done = 0
        solver_error: Array | float = numpy.nan
        with contextlib.ExitStack() as stack:
            writers = _Writers(stack, self._files, self._clip, self._day.shape, self._delivery)
            behind = stack.enter_context(BackgroundWriter(self._on_device(writers.write), _QUEUED))
            ahead = stack.enter_context(contextlib.closing(prefetch(self._chunks(), _QUEUED)))
            stack.enter_context(_room_for(self._order, self._plate.shape))
            fused_chunks = fuse_stream(
                self._day,
                self._stream(ahead),
                settings=self._order.settings,
                areas=self._areas,
                measure_solver=True,
                on_shortage=self._length.shorten,
            )
            for fused in fused_chunks:
                if fused.first == 0:
                    solver_error = fused.solver_error
                behind.put(self._finished(fused))
                done += len(fused)
                if progress is not None:
                    progress(done, self._clip.frame_count_hint)
        return done, solver_error

    def _device(self) -> contextlib.AbstractContextManager[Any]:
        """The GPU of the thread that computes, which another thread has to be told."""
        if self._number is None:
            return contextlib.nullcontext()
        device: contextlib.AbstractContextManager[Any] = self._order.module.cuda.Device(self._number)
        return device

    def _on_device(self, write: Callable[[_Finished], None]) -> Callable[[_Finished], None]:
        def write_there(finished: _Finished) -> None:
            with self._device():
                write(finished)

        return write_there

    def _chunks(self) -> Iterator[Chunk]:
        with self._device():
            yield from self._clip.chunks(lambda: self._length.frames)

    def _stream(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Array, Array]]:
        first: int | None = None
        for chunk in chunks:
            first = chunk.pts[0] if first is None else first
            seconds = numpy.array([float((pts - first) * self._clip.time_base) for pts in chunk.pts])
            keeps_frames = self._files.comparison is not None
            # A copy of nothing: a view would keep the memory of the whole chunk.
            self._reading.append(chunk if keeps_frames else Chunk(chunk.levels[:0].copy(), chunk.pts))
            yield chunk.levels, seconds

    def _finished(self, fused: FusedChunk) -> _Finished:
        """Join fused frames with their times, and with the day and night frames for a comparison."""
        wanted = len(fused)
        pts: list[int] = []
        nights: list[Array] = []
        while len(pts) < wanted:
            chunk = self._reading[0]
            share = min(wanted - len(pts), len(chunk.pts))
            pts += chunk.pts[:share]
            nights.append(chunk.levels[:share])
            self._reading[0] = Chunk(chunk.levels[share:], chunk.pts[share:])
            if not self._reading[0].pts:
                self._reading.pop(0)
        weights = comparison = None
        if self._files.importance is not None or self._files.comparison is not None:
            weights = self._downloads.start(fused.importance)
        if self._files.comparison is not None:
            comparison = _Panels(
                self._plate,
                [self._downloads.start(from_levels(night, _COLOUR_BYTES)) for night in nights],
                self._downloads.start(fused.pixels(_COLOUR_BYTES)),
            )
        return _Finished(pts, self._delivery.prepare(fused), weights, comparison)


@dataclass(frozen=True)
class _Panels:
    """Pictures to set beside each other."""

    plate: numpy.ndarray
    nights: list[Download]
    results: Download


@dataclass(frozen=True)
class _Finished:
    """Fused frames with all that the writers need, some of it on its way from the device."""

    pts: list[int]
    prepared: Any
    weights: Download | None
    panels: _Panels | None


class _Writers:
    """The clips that a job writes; each takes its name when the stack closes without an error."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        files: JobFiles,
        clip: ClipReader,
        shape: tuple[int, ...],
        delivery: Delivery,
    ) -> None:
        _, height, width = shape

        def writer(
            path: Path, size: tuple[int, int] = (width, height), source: Source = "levels"
        ) -> ClipWriter:
            made = ClipWriter(
                path,
                *size,
                clip.time_base,
                clip.rate,
                overwrite=files.overwrite,
                sample_aspect=clip.sample_aspect,
                source=source,
            )
            return stack.enter_context(made)

        # The stack closes the first one last: the result takes its name when all else is complete.
        self._result = writer(files.result, source=delivery.source)
        self._delivery = delivery
        self._comparison = self._importance = None
        if files.comparison is not None:
            self._comparison = writer(files.comparison, (4 * (width + width % 2), height + height % 2))
        if files.importance is not None:
            self._importance = writer(files.importance)

    def write(self, finished: _Finished) -> None:
        self._delivery.write(self._result, finished.prepared, finished.pts)
        if finished.weights is None:
            return
        weights = finished.weights.result()
        if self._importance is not None:
            grey = numpy.repeat(weights[:, None] * numpy.float32(255.0), 3, axis=1)
            self._importance.write_chunk(grey, finished.pts)
        if self._comparison is not None and finished.panels is not None:
            self._comparison.write_chunk(_compared(finished.panels, weights), finished.pts)


def _compared(panels: _Panels, weights: numpy.ndarray) -> numpy.ndarray:
    nights = [night for part in panels.nights for night in part.result()]
    pictures = [
        side_by_side(panels.plate, night, share, result)
        for night, share, result in zip(nights, weights, panels.results.result(), strict=True)
    ]
    levels: numpy.ndarray = to_levels(numpy.stack(pictures), leading=1)
    return levels
