"""What every clip offers, whatever it is stored as: size, times, frames in chunks."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.damage import DamageRecord, FileState, OnDamage
from gpufuse.errors import LimitError
from gpufuse.stills import MAX_PIXELS

__all__ = ["Chunk", "ClipReader", "Frame", "FrameMark", "Limits", "OnResize"]

OnResize: TypeAlias = Literal["fail", "split", "scale"]
"""Where the size of the pictures changes: take it for damage, end the clip there and go on with
`ClipReader.next_part`, or bring the pictures to the first size."""


@dataclass(frozen=True)
class Limits:
    """How large a clip may be; a larger one raises `LimitError`.

    Attributes
    ----------
    max_pixels : int
        Pixels of one picture.
    max_frames : int or None
        Frames of the clip; None: any.
    max_seconds : float or None
        Length of the clip; None: any.
    """

    max_pixels: int = MAX_PIXELS
    max_frames: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes
    ----------
    levels : ndarray, shape (3, H, W), float32, grey levels 0..255
        On the reader's device.
    pts : int
        Presentation time in units of `time_base` seconds.
    time_base : Fraction
    """

    levels: Array
    pts: int
    time_base: Fraction

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exactly."""
        return self.pts * self.time_base


@dataclass(frozen=True)
class Chunk:
    """Successive frames.

    Attributes
    ----------
    levels : ndarray, shape (T, 3, H, W), float32, grey levels 0..255, contiguous
        On the reader's device.
    pts : list of int
        Presentation times in units of the reader's `time_base`.
    """

    levels: Array
    pts: list[int]

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True)
class FrameMark:
    """What tells a frame from others, without its levels.

    Attributes
    ----------
    pts : int
        Presentation time in units of the reader's `time_base`.
    key : bool
        Whether decoding may start here.
    checksum : int
        CRC-32 of the decoded picture, as it is stored: before it is turned upright and converted.
    """

    pts: int
    key: bool
    checksum: int


@dataclass
class _Scaled:
    """Pictures of one size that were brought to another: where their note is, where they began, how many."""

    note: int
    at: str
    count: int = 0


class ClipReader(ABC):
    """A clip that is read frame by frame; made by `open_clip`.

    A context manager, and an iterable of `Frame`; every frame is read once. Use it from one
    thread at a time.

    Attributes
    ----------
    name : str
        The file's or folder's name.
    width, height : int
        Of the upright picture; of another one after `next_part`.
    rate : Fraction
        Frames per second, a guess where times are irregular.
    time_base : Fraction
        Unit of `pts` in seconds.
    frame_count_hint : int or None
        How many frames to expect, for a progress bar.
    has_audio : bool
        Whether there is sound, which is left out.
    sample_aspect : Fraction
        Width of a pixel over its height.
    damage : list of str
        With ``on_damage="salvage"``, one line per kind of damage found so far.
    notes : list of str
        What a user should know and what is no damage.
    frames_read : int
    decoder : str
        What decodes the frames, and why.
    """

    name: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frame_count_hint: int | None
    has_audio: bool = False
    sample_aspect: Fraction = Fraction(1)
    decoder: str = "software"

    def __init__(
        self,
        name: str,
        on_damage: OnDamage,
        limits: Limits,
        module: Any = numpy,
        *,
        on_resize: OnResize = "fail",
        checksums: bool = False,
    ) -> None:
        self.name = name
        self._module = module
        self._device = None if module is numpy else module.cuda.Device().id
        self.notes: list[str] = []
        self.frames_read = 0
        self._limits = limits
        self._record = DamageRecord(name, on_damage)
        self._on_resize = on_resize
        self._keeps_checksums = checksums
        self._checksums: list[int] = []
        self._watched: list[tuple[Path, FileState]] = []
        self._scaled: dict[tuple[int, int], _Scaled] = {}

    @property
    def damage(self) -> list[str]:
        """What is wrong with the clip; see the class."""
        return self._record.damage

    def read_chunk(self, count: int, *, out: Array | None = None) -> Chunk:
        """Read the next frames.

        Parameters
        ----------
        count : int
            Frames wanted, at least 1.
        out : ndarray, shape (at least count, 3, H, W), float32, C-contiguous, optional
            Memory for the frames, on the reader's device; the chunk is a view of it. New memory otherwise, for
            fewer frames where there is no room for all.

        Returns
        -------
        Chunk
            Fewer frames only at the end of the clip, and none after it. With ``on_resize="split"`` the clip ends
            where the size changes.

        Raises
        ------
        DamagedInputError
            If the clip turns out to be damaged or cut short; not with ``on_damage="salvage"``.
        LimitError
            If it exceeds the limits.
        """
        if count < 1:
            raise ValueError(f"count: expected at least 1 frame, got {count}; give a positive number")
        picture = (3, self.height, self.width)
        if out is not None and (
            array_module(out) is not self._module
            or len(out) < count
            or out.shape[1:] != picture
            or out.dtype != numpy.float32
            or not out.flags.c_contiguous
        ):
            raise ValueError(
                f"out: expected contiguous float32 of shape {(count, *picture)}, "
                f"got {out.dtype} {out.shape}; make it anew"
            )
        pts: list[int] = []
        with self._on_device():
            while len(pts) < count and self._advance():
                if out is None:
                    out = self._room(count, picture)
                    count = len(out)
                if self._keeps_checksums:
                    self._checksums.append(self._mark().checksum)
                pts.append(self._take(out[len(pts)]))
                self.frames_read += 1
            if out is None:
                out = self._module.empty((0, *picture), numpy.float32)
        return Chunk(out[: len(pts)], pts)

    def take_checksums(self) -> list[int]:
        """Return the checksums (see `FrameMark`) of the frames that `read_chunk` gave since the last call.

        Returns
        -------
        list of int
            Empty unless the clip was opened with ``checksums=True``.
        """
        taken, self._checksums = self._checksums, []
        return taken

    def mark_next(self) -> FrameMark | None:
        """Pass the next frame without converting it; it counts as read.

        Returns
        -------
        FrameMark or None
            None at the end of the clip.

        Raises
        ------
        DamagedInputError, LimitError
            As `read_chunk`.
        """
        with self._on_device():
            if not self._advance():
                return None
            mark = self._mark()
            self._drop()
        self.frames_read += 1
        return mark

    def skip(self, count: int, *, tell: Callable[[], None] = lambda: None) -> int:
        """Pass frames without converting them; they count as read.

        Parameters
        ----------
        count : int
            How many, at least 0.
        tell : callable, optional
            Called now and then, as a sign of life: after each frame.

        Returns
        -------
        int
            How many there were: fewer only at the end of the clip.

        Raises
        ------
        DamagedInputError, LimitError
            As `read_chunk`.
        """
        passed = 0
        with self._on_device():
            while passed < count and self._advance():
                self._drop()
                self.frames_read += 1
                passed += 1
                tell()
        return passed

    def jump(self, pts: int) -> bool:
        """Go on at a key frame at or before a time, by means of the container's index; only before any frame is read.

        The first frames may then differ from those of reading from the start, where the container's index is
        wrong: compare checksums. Of what is checked at the end, only what concerns single packets and pictures
        still is: counts, length, and gaps need the whole clip.

        Parameters
        ----------
        pts : int
            The time of a frame, in units of `time_base`.

        Returns
        -------
        bool
            False if the clip cannot be entered there; nothing has changed then.

        Raises
        ------
        ValueError
            If frames were read already.
        """
        if self.frames_read:
            raise ValueError(
                f"{self.name}: expected a jump before the first frame, got one after {self.frames_read}; open anew"
            )
        with self._on_device():
            return self._jump(pts)

    def next_part(self) -> bool:
        """With ``on_resize="split"``, go on after the clip ended at a change of size.

        Returns
        -------
        bool
            True if there are frames of another size, and `width` and `height` tell it; False at the end.

        Raises
        ------
        ValueError
            If there are frames left to read before.
        DamagedInputError, LimitError
            As `read_chunk`.
        """
        with self._on_device():
            if self._advance():
                raise ValueError(f"{self.name}: expected all frames of this size to be read; read them first")
            return self._next_part()

    def check_unchanged(self) -> None:
        """Check that the clip is still the file that was opened; done at its end anyway.

        Raises
        ------
        DamagedInputError
            If it was written to, replaced or removed; with ``on_damage="salvage"`` that is listed.
        """
        for path, state in self._watched:
            if change := state.change(path):
                self._record.report("a file that stays as it is", change)

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        """The GPU on which the clip was opened: which one is current is a matter of each thread."""
        if self._device is None:
            return contextlib.nullcontext()
        return self._module.cuda.Device(self._device)  # type: ignore[no-any-return]

    def _room(self, count: int, picture: tuple[int, ...]) -> Array:
        while True:
            try:
                return self._module.empty((count, *picture), numpy.float32)
            except MemoryError:
                if count == 1:
                    raise
            count //= 2

    def chunks(self, count: int | Callable[[], int]) -> Iterator[Chunk]:
        """Iterate over chunks of frames; none is empty.

        Parameters
        ----------
        count : int or callable
            Frames of each chunk, or what tells how many the next should have. Shorter are the last, and those for
            which memory does not suffice.

        Yields
        ------
        Chunk
        """
        while len(chunk := self.read_chunk(count() if callable(count) else count)):
            yield chunk

    def __iter__(self) -> Iterator[Frame]:
        for chunk in self.chunks(1):
            yield Frame(chunk.levels[0], chunk.pts[0], self.time_base)

    def _note_scaled(self, size: tuple[int, int], at: str) -> None:
        """Keep one note for each size that was brought to the first."""
        if size not in self._scaled:
            self._scaled[size] = _Scaled(len(self.notes), at)
            self.notes.append("")
        found = self._scaled[size]
        found.count += 1
        self.notes[found.note] = (
            f"{self.name}: {found.count} frame{'s' * (found.count > 1)} of {size[0]}x{size[1]}, the first at "
            f"{found.at}, {'were' if found.count > 1 else 'was'} scaled to the first size"
        )

    def _forget_scaled(self) -> None:
        """Take back the notes about frames that were never given."""
        notes = {found.note for found in self._scaled.values()}
        self.notes[:] = [note for number, note in enumerate(self.notes) if number not in notes]
        self._scaled.clear()

    def _check_limits(self, frames: int | None, seconds: Fraction | None) -> None:
        limits = self._limits
        if limits.max_frames is not None and frames is not None and frames > limits.max_frames:
            raise LimitError(
                f"{self.name}: expected at most {limits.max_frames} frames, found more; "
                "cut the clip or raise the limit"
            )
        if limits.max_seconds is not None and seconds is not None and seconds > limits.max_seconds:
            raise LimitError(
                f"{self.name}: expected at most {limits.max_seconds:g} s, found more; "
                "cut the clip or raise the limit"
            )

    @abstractmethod
    def _advance(self) -> bool:
        """Have a next frame ready; False at the end of the clip, after the books are checked."""

    @abstractmethod
    def _take(self, out: Array) -> int:
        """Write the levels of the frame that is ready into `out` (3, H, W); return its time."""

    @abstractmethod
    def _next_part(self) -> bool:
        """At the end of a part, take on the size of the next one; False if there is none."""

    @abstractmethod
    def _mark(self) -> FrameMark:
        """Describe the frame that is ready."""

    @abstractmethod
    def _drop(self) -> None:
        """Give up the frame that is ready."""

    @abstractmethod
    def _jump(self, pts: int) -> bool:
        """Do as `jump` says."""

    def close(self) -> None:  # noqa: B027
        """Release the file; safe to call again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
