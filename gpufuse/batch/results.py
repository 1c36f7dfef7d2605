"""What a batch tells: how far it is, and what became of each clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpufuse.batch.manifest import Manifest
from gpufuse.batch.orders import Item
from gpufuse.errors import BatchError

__all__ = ["BatchReport", "ClipResult", "OnProgress", "Progress", "WorkerState"]


@dataclass(frozen=True)
class WorkerState:
    """What one worker is doing.

    Attributes
    ----------
    worker : str
    clip : str
        Name of the output it works for.
    work : str
        ``plate``, ``clip``, ``survey``, ``segment 3 of 7`` or ``join``.
    frames : int
        Done of this piece.
    expected : int or None
        Frames of this piece.
    """

    worker: str
    clip: str
    work: str
    frames: int
    expected: int | None


@dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes
    ----------
    files_done, files_failed, files_total : int
        Done includes what earlier runs did.
    frames : int
        Made in this run.
    frames_per_second : float
        Over this run, start-up included.
    seconds_left : float or None
        Estimated from the bytes of the clips; None while nothing is known.
    workers : tuple of WorkerState
        Those that are at work.
    """

    files_done: int
    files_failed: int
    files_total: int
    frames: int
    frames_per_second: float
    seconds_left: float | None
    workers: tuple[WorkerState, ...] = ()


OnProgress = Callable[[Progress], None]
"""Called about twice a second and whenever a clip is finished, always from the thread that runs the batch."""


@dataclass(frozen=True)
class ClipResult:
    """What became of one clip.

    Attributes
    ----------
    item : Item
    state : {"done", "skipped", "failed", "waiting"}
        Skipped: an earlier run has made it. Waiting: not begun, or not finished when the batch was interrupted.
    manifest : Manifest or None
        Of what is done or skipped.
    error : str
        The line on what failed.
    kind : str
        Class of the error, such as ``DamagedInputError``.
    exit_code : int
        What `gpufuse enhance` would have ended with; 0 where nothing failed.
    attempts : int
        How often a process was started for it in this run.
    command : str
        Repeats this clip alone.
    """

    item: Item
    state: Literal["done", "skipped", "failed", "waiting"]
    manifest: Manifest | None = None
    error: str = ""
    kind: str = ""
    exit_code: int = 0
    attempts: int = 0
    command: str = ""


@dataclass(frozen=True)
class BatchReport:
    """What a batch did.

    Attributes
    ----------
    folder : str
    results : tuple of ClipResult
        One for each clip, in the order of the source.
    frames : int
        Made in this run.
    seconds : float
        Wall-clock time of this run.
    workers : str
        Who worked: ``2 processes on cpu``.
    notes : tuple of str
        On the source: what was left out, and why.
    """

    folder: str
    results: tuple[ClipResult, ...]
    frames: int
    seconds: float
    workers: str
    notes: tuple[str, ...] = ()

    def count(self, *states: str) -> int:
        """Return how many clips are in these states."""
        return sum(result.state in states for result in self.results)

    @property
    def failed(self) -> tuple[ClipResult, ...]:
        """Clips that could not be made."""
        return tuple(result for result in self.results if result.state == "failed")

    @property
    def damaged(self) -> tuple[ClipResult, ...]:
        """Clips of which only the readable part could be made."""
        return tuple(result for result in self.results if result.manifest and result.manifest.damage)

    @property
    def exit_code(self) -> int:
        """What `gpufuse batch` ends with: 0, or 1 where a clip was salvaged, or 11 where one failed."""
        if self.failed:
            return BatchError.exit_code
        return int(bool(self.damaged))

    def raise_for_failures(self) -> None:
        """Raise where clips have failed.

        Raises
        ------
        BatchError
        """
        if self.failed:
            first = self.failed[0]
            raise BatchError(
                f"{self.folder}: expected all {len(self.results)} clips to be made, found {len(self.failed)} that "
                f"could not ({first.error}); see its index.html"
            )

    def summary(self) -> str:
        """Return one line for the user.

        Examples
        --------
        >>> BatchReport("out", (), 0, 0.0, "2 processes on cpu").summary()
        'out: 0 of 0 clips done (0 in this run), 0 failed; 0 frames, 0.0 frames/s with 2 processes on cpu'
        """
        done = self.count("done", "skipped")
        speed = self.frames / self.seconds if self.seconds > 0 else 0.0
        waiting = self.count("waiting")
        left = f", {waiting} not finished" if waiting else ""
        return (
            f"{self.folder}: {done} of {len(self.results)} clips done ({self.count('done')} in this run), "
            f"{len(self.failed)} failed{left}; {self.frames} frames, {speed:.1f} frames/s with {self.workers}"
        )
