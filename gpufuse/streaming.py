"""Streams of chunks with temporal halos: what makes a pass over a clip independent of its chunks.

A stream is an iterator of tuples of arrays, all with one number of frames along their first axis. A
temporal stage asks for `windows` of it: every frame is in the core of exactly one window, and each
window brings the frames around its core that exist. A stage that computes each frame from those
neighbours alone gives the same bits for every chunk length. Memory is bounded by the chunk and the halos; on the
host nothing is copied, for a window is a list of views.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy

from gpufuse.arrays import Array, array_module

__all__ = ["Piece", "Window", "chunks_of", "windows", "worked"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Piece:
    """One array of a window: its core frames and the halo that exists around them.

    Attributes
    ----------
    parts : tuple of ndarray, shape (T, ...)
        Halo before, core, halo after, in order: views of the chunks they came in.
    start, stop : int
        The core is ``frames[start:stop]``.
    halo : tuple of int
        Frames wanted before and after the core.
    """

    parts: tuple[Array, ...]
    start: int
    stop: int
    halo: tuple[int, int]

    @property
    def frames(self) -> Array:
        """Halo before, core, halo after in one array; a copy unless they lie in one chunk."""
        return _joined(self.parts)

    @property
    def stack(self) -> Array | list[Array]:
        """The same frames as kernels take them: on the host a list, for which nothing is copied."""
        if array_module(*self.parts) is not numpy:
            return self.frames
        return [frame for part in self.parts for frame in part]

    @property
    def core(self) -> Array:
        """The core frames; a view where they are one chunk, as in all windows that `windows` makes."""
        return _joined(_cut(self.parts, self.start, self.stop))

    def part(self, first: int, last: int) -> Piece:
        """Cut out some core frames with their halo.

        Parameters
        ----------
        first, last : int
            The frames ``first .. last - 1``, counted from the first of the core.

        Returns
        -------
        Piece
            Of views.
        """
        start, stop = self.start + first, self.start + last
        low, high = max(0, start - self.halo[0]), min(sum(map(len, self.parts)), stop + self.halo[1])
        return Piece(_cut(self.parts, low, high), start - low, stop - low, self.halo)


def _cut(parts: Iterable[Array], start: int, stop: int) -> tuple[Array, ...]:
    """Views of the frames start .. stop - 1, counted through all parts."""
    kept = []
    first = 0
    for part in parts:
        if first < stop and first + len(part) > start:
            kept.append(part[max(start - first, 0) : stop - first])
        first += len(part)
    return tuple(kept)


def _joined(parts: tuple[Array, ...]) -> Array:
    return parts[0] if len(parts) == 1 else array_module(*parts).concatenate(parts)


@dataclass(frozen=True)
class Window:
    """A run of frames of a stream.

    Attributes
    ----------
    first : int
        Index in the clip of the first core frame.
    pieces : tuple of Piece
        One for each array of the stream.
    """

    first: int
    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        """Return the number of core frames."""
        return self.pieces[0].stop - self.pieces[0].start

    def halves(self) -> tuple[Window, Window]:
        """Cut a window of two frames or more into two.

        Returns
        -------
        tuple of Window
            Each with the halos that the whole has for its frames.
        """
        count = len(self)
        middle = count // 2
        return (
            Window(self.first, tuple(piece.part(0, middle) for piece in self.pieces)),
            Window(self.first + middle, tuple(piece.part(middle, count) for piece in self.pieces)),
        )


class _Track:
    """Chunks of one array; the oldest are forgotten when told so."""

    def __init__(self) -> None:
        self._first = 0  # index in the clip of the first frame that is kept
        self._chunks: deque[Array] = deque()

    def append(self, frames: Array) -> None:
        self._chunks.append(frames)

    def take(self, start: int, stop: int) -> tuple[Array, ...]:
        """Views of the frames start .. stop - 1."""
        return _cut(self._chunks, start - self._first, stop - self._first)

    def forget(self, before: int) -> None:
        while self._chunks and self._first + len(self._chunks[0]) <= before:
            self._first += len(self._chunks.popleft())


def windows(stream: Iterable[tuple[Array, ...]], *halos: tuple[int, int], first: int = 0) -> Iterator[Window]:
    """Cut a stream into windows with halos.

    Parameters
    ----------
    stream : iterable of tuple of ndarray
        Chunks of any lengths; chunks without frames are passed over.
    *halos : tuple of int
        Frames before and after the core, for each array of the stream.
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    Window
        One for each chunk, which is its core, as soon as the halo after it is there; fewer halo frames at the two
        ends of the stream.

    Examples
    --------
    >>> import numpy
    >>> stream = [(numpy.arange(3),), (numpy.arange(3, 5),)]
    >>> [(w.first, w.pieces[0].frames.tolist(), w.pieces[0].core.tolist()) for w in windows(stream, (1, 1))]
    [(0, [0, 1, 2, 3], [0, 1, 2]), (3, [2, 3, 4], [3, 4])]
    """
    tracks = [_Track() for _ in halos]
    after = max(halo[1] for halo in halos)
    waiting: deque[int] = deque()  # ends of the chunks that have been in no core
    start = end = 0

    def cut(stop: int) -> Window:
        pieces = []
        for track, (ahead, behind) in zip(tracks, halos, strict=True):
            low, high = max(0, start - ahead), min(end, stop + behind)
            pieces.append(Piece(track.take(low, high), start - low, stop - low, (ahead, behind)))
        return Window(first + start, tuple(pieces))

    def ready(reach: int) -> Iterator[Window]:
        nonlocal start
        while waiting and waiting[0] <= reach:
            stop = waiting.popleft()
            yield cut(stop)
            start = stop
            for track, (ahead, _) in zip(tracks, halos, strict=True):
                track.forget(start - ahead)

    for chunk in stream:
        if not len(chunk[0]):
            continue
        for track, frames in zip(tracks, chunk, strict=True):
            track.append(frames)
        end += len(chunk[0])
        waiting.append(end)
        yield from ready(end - after)
    yield from ready(end)


def worked(
    stream: Iterable[Window], work: Callable[[Window], Result], on_shortage: Callable[[int], None]
) -> Iterator[Result]:
    """Do the work of a stage on each window; on its halves where memory does not suffice for the whole.

    Parameters
    ----------
    stream : iterable of Window
    work : callable
        Computes each frame of the core from its halo alone, so that halves give what the whole would have.
    on_shortage : callable
        Called with the frames of the window for which memory did not suffice, before it is tried again; to free
        what can be freed.

    Yields
    ------
    object
        What `work` returns, in order.

    Raises
    ------
    MemoryError
        If there is no room for a single frame.

    Examples
    --------
    >>> import numpy
    >>> def work(window):
    ...     if len(window) > 2:
    ...         raise MemoryError
    ...     return window.pieces[0].core.tolist()
    >>> list(worked(windows([(numpy.arange(5),)], (1, 1)), work, lambda count: None))
    [[0, 1], [2], [3, 4]]
    """
    for window in stream:
        yield from _worked(window, work, on_shortage)


def _worked(
    window: Window, work: Callable[[Window], Result], on_shortage: Callable[[int], None]
) -> Iterator[Result]:
    try:
        result = work(window)
    except MemoryError:
        if len(window) == 1:
            raise
    else:
        yield result
        return
    # Only now: until here the traceback keeps the arrays of the failed attempt.
    on_shortage(len(window))
    for half in window.halves():
        yield from _worked(half, work, on_shortage)


def chunks_of(frames: Iterable[Array], length: int) -> Iterator[list[Array]]:
    """Collect single frames into lists of a given length; the last may be shorter.

    Parameters
    ----------
    frames : iterable of ndarray
    length : int
        At least 1.

    Yields
    ------
    list of ndarray

    Examples
    --------
    >>> list(chunks_of("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1 frame, got {length}; give a positive number")
    chunk: list[Array] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
