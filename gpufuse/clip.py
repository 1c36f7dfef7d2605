"""What every clip offers, whatever it is stored as: size, times, frames in chunks."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.damage import DamageRecord, OnDamage
from gpufuse.errors import LimitError
from gpufuse.stills import MAX_PIXELS

__all__ = ["Chunk", "ClipReader", "Frame", "Limits"]


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


class ClipReader(ABC):
    """A clip that is read frame by frame; made by `open_clip`.

    A context manager, and an iterable of `Frame`; every frame is read once. Use it from one
    thread at a time.

    Attributes
    ----------
    name : str
        The file's or folder's name.
    width, height : int
        Of the upright picture.
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

    def __init__(self, name: str, on_damage: OnDamage, limits: Limits, module: Any = numpy) -> None:
        self.name = name
        self._module = module
        self._device = None if module is numpy else module.cuda.Device().id
        self.notes: list[str] = []
        self.frames_read = 0
        self._limits = limits
        self._record = DamageRecord(name, on_damage)

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
            Fewer frames only at the end of the clip, and none after it.

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
                pts.append(self._take(out[len(pts)]))
                self.frames_read += 1
            if out is None:
                out = self._module.empty((0, *picture), numpy.float32)
        return Chunk(out[: len(pts)], pts)

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

    def close(self) -> None:  # noqa: B027
        """Release the file; safe to call again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
