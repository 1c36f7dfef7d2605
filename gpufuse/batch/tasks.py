"""Tasks: the pieces of work of a batch, each done by one process, and what becomes of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from gpufuse.batch.orders import Item, Options

__all__ = ["Advance", "Advanced", "Ended", "Event", "Outcome", "Started", "Task", "Work"]

Work = Literal["plate", "clip", "survey", "segment", "join", "probe", "device"]
"""What a task does; see `gpufuse.batch.work`."""

Advance = Callable[[int, int | None], None]
"""Called with the frames done and the frames expected; as a sign of life with 0 and None."""


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    id : str
        Its own within the batch.
    work : str
    folder : str
        The batch's.
    item : Item or None
        The clip it is about.
    options : Options
    size : float
        Bytes of clip that are worked on, for the estimate of the time left; 0 for what hardly counts.
    details : dict
        What the kind of work needs besides, for JSON.
    threads : int
        CPU threads to use; 0: as many as the process may.
    """

    id: str
    work: Work
    folder: str
    item: Item | None = None
    options: Options = field(default_factory=Options)
    size: float = 0
    details: dict[str, Any] = field(default_factory=dict)
    threads: int = 0

    @property
    def label(self) -> str:
        """What it does, for the user."""
        if self.work != "segment":
            return self.work
        return f"segment {self.details['segment']['index'] + 1} of {self.details['segments']}"

    @property
    def subject(self) -> str:
        """Name of the file it is about, for the user."""
        if self.item is None:
            return self.work
        return os.path.basename(self.item.day if self.work == "plate" else self.item.clip)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "id": self.id,
            "work": self.work,
            "folder": self.folder,
            "item": None if self.item is None else self.item.to_json(),
            "options": self.options.to_json(),
            "size": self.size,
            "details": self.details,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Task:
        """Return the task that `to_json` described."""
        item = record["item"]
        made = {
            "item": None if item is None else Item.from_json(item),
            "options": Options(**record["options"]),
        }
        return cls(**(record | made))


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    state : {"done", "failed", "died", "stalled"}
        Died: its process was ended by something else than itself. Stalled: it was ended, for there was no progress.
    value : dict
        What it found, where it is done.
    error : str
        The line for the user.
    kind : str
        Class of the error.
    exit_code : int
        Of the error.
    killed : bool
        Whether it died of what may hit any process (SIGKILL, a lost machine), rather than of a crash.
    """

    state: Literal["done", "failed", "died", "stalled"]
    value: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    kind: str = ""
    exit_code: int = 0
    killed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what `Outcome` takes as keywords."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Started:
    """A worker has begun with a task."""

    task: str
    worker: str


@dataclass(frozen=True)
class Advanced:
    """A task has come so far, in frames; `expected` where that is known."""

    task: str
    worker: str
    done: int
    expected: int | None


@dataclass(frozen=True)
class Ended:
    """A task has ended."""

    task: str
    worker: str
    outcome: Outcome


Event = Started | Advanced | Ended
