"""The pipeline of one clip or of a stretch of one: reading ahead, computing, writing behind, each in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy

from gpufuse.areas import Area, AreaMasks
from gpufuse.arrays import Array, ImageFormat, free_memory, from_levels, to_levels, with_channels
from gpufuse.camerawatch import CameraWatch
from gpufuse.damage import FrameTimes
from gpufuse.delivery import CodesDelivery, Delivery, LevelsDelivery, SurfacesDelivery
from gpufuse.device import Device
from gpufuse.errors import DeviceError
from gpufuse.fusedchunk import FusedChunk
from gpufuse.fusion import chunk_length, fuse_stream
from gpufuse.hardware import nvenc_obstacle
from gpufuse.jobfiles import JobFiles
from gpufuse.look import Look
from gpufuse.overlap import BackgroundWriter, prefetch
from gpufuse.report import side_by_side
from gpufuse.settings import Settings
from gpufuse.transfers import Download, Downloads, on_default_stream
from gpufuse.video import Chunk, ClipWriter, Source

__all__ = ["ClipJob", "FrameSource", "JobOrder", "Outcome", "Progress", "Stretch", "room_for", "sign_of_life"]

Progress = Callable[[int, int | None], None]
"""Called with the frames done and the frames expected."""

_COLOUR_BYTES = ImageFormat(numpy.dtype(numpy.uint8), True)
_QUEUED = 2


class FrameSource(Protocol):
    """What a job needs of a clip; every `gpufuse.video.ClipReader` is one."""

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    sample_aspect: Fraction
    frame_count_hint: int | None

    def chunks(self, count: Callable[[], int], /) -> Iterator[Chunk]:
        """As `gpufuse.video.ClipReader.chunks`."""


@dataclass(frozen=True)
class JobOrder:
    """What is to be made of a clip, whichever stretch of it.

    Attributes
    ----------
    files : JobFiles
    device : Device
    areas : list of Area
    settings : Settings
    chunk : int, optional
        Frames that are worked on together; the result does not depend on it.
    threads : int, optional
        Of the encoder.
    """

    files: JobFiles
    device: Device
    areas: list[Area]
    settings: Settings
    chunk: int | None = None
    threads: int | None = None

    @property
    def module(self) -> Any:
        """The module whose arrays live on the device."""
        if self.device.name == "cpu":
            return numpy
        import cupy

        return cupy

    def default_stream(self) -> contextlib.AbstractContextManager[None]:
        """All threads work on the default stream, in the order in which they hand work over."""
        if self.device.name == "cpu":
            return contextlib.nullcontext()
        return on_default_stream(self.module)


@dataclass(frozen=True)
class Stretch:
    """Which frames of a clip a job reads and writes; by default all of them.

    Attributes
    ----------
    first : int
        Index in the clip of the first frame that is read.
    written : range, optional
        Indices of the frames that are written; the others that are read are halo.
    origin : int, optional
        Time of the clip's first frame, from which seconds are counted; that of the first frame read otherwise.
    shift : int, optional
        Added to all times, so that none is negative; found from the first frame written otherwise.
    look : Look, optional
        What was measured at the head of the clip; measured in the first frames read otherwise.
    night_size : tuple of int, optional
        Height and width in whose pixels the areas are given; those of the frames otherwise.
    """

    first: int = 0
    written: range | None = None
    origin: int | None = None
    shift: int | None = None
    look: Look | None = None
    night_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    frames : int
        Written.
    solver_error : float, or ndarray of shape () on a GPU
        Largest distance from the direct solution on the first frame read, grey levels.
    first_pts, last_pts : int or None
        Times in the clip of the first and the last frame written.
    digests : bytes
        Eight for each frame written, of what the encoder was given; see `gpufuse.writer.ClipWriter`.
    video_size : tuple of int
        Width and height of the result.
    gaps : tuple of (int, int)
        Times in the clip between which frames seem to be missing; only told where times are regular.
    """

    frames: int
    solver_error: Array | float
    first_pts: int | None
    last_pts: int | None
    digests: bytes
    video_size: tuple[int, int]
    gaps: tuple[tuple[int, int], ...] = ()


def sign_of_life(progress: Progress | None, expected: int | None) -> Callable[[], None]:
    """Have progress called at 0 frames, for work that comes before the first one.

    Parameters
    ----------
    progress : callable or None
    expected : int or None
        Frames expected.

    Returns
    -------
    callable
        To be called now and then.

    Examples
    --------
    >>> tell = sign_of_life(print, 25)
    >>> tell()
    0 25
    """
    if progress is None:
        return lambda: None
    return lambda: progress(0, expected)


@contextlib.contextmanager
def room_for(device: Device, shape: tuple[int, ...]) -> Iterator[None]:
    """Say in one line that the GPU's memory does not suffice, where not even one frame fits.

    Parameters
    ----------
    device : Device
    shape : tuple of int
        Of a picture, height and width first.

    Yields
    ------
    None

    Raises
    ------
    DeviceError
        In place of a `MemoryError` of a GPU.
    """
    try:
        yield
    except MemoryError as error:
        if device.name == "cpu":
            raise
        raise DeviceError(
            f"memory: expected room for one frame of {shape[1]}x{shape[0]} on the GPU, found too little; "
            "close other programs on it, or use --device cpu"
        ) from error


class _ChunkLength:
    """Frames that are read together: fewer once memory has not sufficed."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def shorten(self, count: int) -> None:
        """Take half of what there was no room for."""
        self.frames = min(self.frames, max(1, count // 2))


class ClipJob:
    """One run over the frames of a clip, or of a stretch of it.

    Parameters
    ----------
    clip : FrameSource
        Gives the frames of the stretch, no others.
    plate : ndarray, shape (H, W) or (H, W, 3), uint8 or uint16
        The day, on the host.
    order : JobOrder
    naming : ExitStack
        Where it closes without an error, the files take their names, the result last.
    stretch : Stretch
        The whole clip unless given.
    watch : CameraWatch, optional
        Sees all frames that are read.

    Raises
    ------
    DeviceError
        If a GPU has no room for the plate.
    ConfigError
        If a mask of the areas cannot be read or has another size than the clip.
    """

    def __init__(
        self,
        clip: FrameSource,
        plate: numpy.ndarray,
        order: JobOrder,
        naming: contextlib.ExitStack,
        stretch: Stretch | None = None,
        watch: CameraWatch | None = None,
    ) -> None:
        xp = order.module
        self._clip = clip
        self._plate = plate
        self._order = order
        self._naming = naming
        self._stretch = stretch or Stretch()
        self._watch = watch
        with room_for(order.device, plate.shape):
            self._day = with_channels(to_levels(xp.asarray(plate), name="day"), 3)
        self._files = order.files
        size = (self._day.shape[-2], self._day.shape[-1])
        self._areas = AreaMasks(order.areas, self._stretch.night_size or (clip.height, clip.width), size, xp)
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

    def run(self, progress: Progress | None) -> Outcome:
        """Read, compute and write the whole stretch.

        Parameters
        ----------
        progress : callable, optional
            Called with the frames written and those expected.

        Returns
        -------
        Outcome

        Raises
        ------
        GpufuseError
            Of reading, computing or writing; `naming` has to be closed with it.
        """
        solver_error: Array | float = numpy.nan
        writers = _Writers(
            self._naming, self._order, self._clip, self._day.shape, self._delivery, self._stretch
        )
        expected = len(self._stretch.written) if self._stretch.written else self._clip.frame_count_hint
        with contextlib.ExitStack() as stack:
            behind = stack.enter_context(BackgroundWriter(self._on_device(writers.write), _QUEUED))
            ahead = stack.enter_context(contextlib.closing(prefetch(self._chunks(), _QUEUED)))
            stack.enter_context(room_for(self._order.device, self._plate.shape))
            fused_chunks = fuse_stream(
                self._day,
                self._stream(ahead),
                settings=self._order.settings,
                areas=self._areas,
                measure_solver=True,
                on_shortage=self._length.shorten,
                look=self._stretch.look,
                first=self._stretch.first,
            )
            done = 0
            for fused in fused_chunks:
                if fused.first == self._stretch.first:
                    solver_error = fused.solver_error
                finished = self._finished(fused)
                if finished is not None:
                    behind.put(finished)
                    done += len(finished.pts)
                if progress is not None:
                    progress(done, expected)
        return writers.outcome(solver_error)

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
            origin = self._stretch.origin
            for chunk in self._clip.chunks(lambda: self._length.frames):
                origin = chunk.pts[0] if origin is None else origin
                if self._watch is not None:
                    for levels, pts in zip(chunk.levels, chunk.pts, strict=True):
                        self._watch.see(levels, float((pts - origin) * self._clip.time_base))
                yield chunk

    def _stream(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Array, Array]]:
        origin = self._stretch.origin
        for chunk in chunks:
            origin = chunk.pts[0] if origin is None else origin
            seconds = numpy.array([float((pts - origin) * self._clip.time_base) for pts in chunk.pts])
            keeps_frames = self._files.comparison is not None
            # A copy of nothing: a view would keep the memory of the whole chunk.
            self._reading.append(chunk if keeps_frames else Chunk(chunk.levels[:0].copy(), chunk.pts))
            yield chunk.levels, seconds

    def _finished(self, fused: FusedChunk) -> _Finished | None:
        """Join those fused frames that are written with their times, and with what a comparison needs."""
        pts, nights = self._read_with(fused)
        written = self._stretch.written
        if written is not None:
            start, stop = (
                min(max(edge - fused.first, 0), len(fused)) for edge in (written.start, written.stop)
            )
            if start == stop:
                return None
            if stop - start < len(fused):
                fused, pts = fused.part(start, stop), pts[start:stop]
                nights = _cut(nights, start, stop)
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

    def _read_with(self, fused: FusedChunk) -> tuple[list[int], list[Array]]:
        """Times of fused frames; and the frames they were made of, where these are kept."""
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
        return pts, nights


def _cut(parts: list[Array], start: int, stop: int) -> list[Array]:
    """Views of the frames start .. stop - 1, counted through all parts."""
    kept = []
    first = 0
    for part in parts:
        inside = part[max(start - first, 0) : max(stop - first, 0)]
        if len(inside):
            kept.append(inside)
        first += len(part)
    return kept


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
        order: JobOrder,
        clip: FrameSource,
        shape: tuple[int, ...],
        delivery: Delivery,
        stretch: Stretch,
    ) -> None:
        _, height, width = shape
        files = order.files

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
                shift=stretch.shift,
                threads=order.threads,
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
        self._times = FrameTimes(clip.time_base)

    def write(self, finished: _Finished) -> None:
        for pts in finished.pts:
            self._times.add(pts)
        self._delivery.write(self._result, finished.prepared, finished.pts)
        if finished.weights is None:
            return
        weights = finished.weights.result()
        if self._importance is not None:
            grey = numpy.repeat(weights[:, None] * numpy.float32(255.0), 3, axis=1)
            self._importance.write_chunk(grey, finished.pts)
        if self._comparison is not None and finished.panels is not None:
            self._comparison.write_chunk(_compared(finished.panels, weights), finished.pts)

    def outcome(self, solver_error: Array | float) -> Outcome:
        """Tell what was written; all of it has been."""
        result, times = self._result, self._times
        return Outcome(
            result.frames_written,
            solver_error,
            times.first,
            times.last,
            result.digests,
            (result.width, result.height),
            tuple(times.gaps()) if times.regular else (),
        )


def _compared(panels: _Panels, weights: numpy.ndarray) -> numpy.ndarray:
    nights = [night for part in panels.nights for night in part.result()]
    pictures = [
        side_by_side(panels.plate, night, share, result)
        for night, share, result in zip(nights, weights, panels.results.result(), strict=True)
    ]
    levels: numpy.ndarray = to_levels(numpy.stack(pictures), leading=1)
    return levels
