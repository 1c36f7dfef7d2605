"""What is compared and what came of it, as plain records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gpufuse.bench.work import Task, Work

__all__ = ["LARGEST", "Competitor", "Row", "Size", "State"]

State: TypeAlias = Literal["measured", "skipped", "stopped", "failed"]
"""Skipped: not tried. Stopped: tried, and out of time. Failed: the library raised an error or ended."""


LARGEST = 7680 * 4320
"""Pixels of the largest pictures to compare with."""


@dataclass(frozen=True, order=True)
class Size:
    """Width and height of pictures in pixels.

    Examples
    --------
    >>> str(Size(320, 240)), Size.of("1280x720").pixels
    ('320x240', 921600)
    """

    width: int
    height: int

    @classmethod
    def of(cls, word: str) -> Size:
        """Read ``WIDTHxHEIGHT``, even as video needs it, of `LARGEST` pixels at most; else a ValueError."""
        width, height = (int(part) for part in word.split("x"))
        if min(width, height) < 16 or width % 2 or height % 2 or width * height > LARGEST:
            raise ValueError(f"size: expected even numbers from at least 16x16 to 7680x4320, got {word}")
        return cls(width, height)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Competitor:
    """One way to do a kind of work.

    Attributes
    ----------
    name : str
    make : callable
        Makes its `Work` of a `Task`, in a process of its own.
    library : str or None
        What it imports; None for this package.
    threads : {"all", "one"}
        ``one``: it uses one thread by nature, however many there are.
    problem : str
        What it solves, where that is not what the others solve.
    """

    name: str
    make: Callable[[Task], Work]
    library: str | None = None
    threads: Literal["all", "one"] = "all"
    problem: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is of this package."""
        return self.library is None


@dataclass
class Row:
    """One competitor at one size.

    Attributes
    ----------
    kind, size, name, problem : str
    ours : bool
    threads : int
        Threads it could use.
    state : State
    reason : str
        Why there is no figure.
    settings : str
        How it was tuned.
    seconds, low, high : float or None
        Median, least and largest time of one unit of work; set-up not included.
    runs : int
    units : int
        Units of work in a run: pictures or frames.
    setup_seconds : float or None
        What is needed once for a size, where the library tells it apart.
    memory_bytes : int or None
        Growth of the peak memory of its process over what it held before its first run.
    figures : dict
        Measures of quality.
    """

    kind: str
    size: str
    name: str
    ours: bool
    threads: int
    problem: str = ""
    state: State = "measured"
    reason: str = ""
    settings: str = ""
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 0
    units: int = 1
    setup_seconds: float | None = None
    memory_bytes: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def without_figures(self, state: State, reason: str) -> Row:
        """Say why nothing was measured."""
        self.state, self.reason = state, " ".join(reason.split())
        return self
