"""What every competitor does, seen from the process in which it runs."""

from __future__ import annotations

import abc
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy

__all__ = ["Task", "TooSlowError", "Work", "best_of", "library"]

Choice = TypeVar("Choice")


class TooSlowError(Exception):
    """What is demanded was not reached in the time allowed; says how far it came."""


@dataclass(frozen=True)
class Task:
    """Where the inputs of one size lie, and how to work on them.

    Attributes
    ----------
    folder : Path
    threads : int
    tuned : dict
        What `Work.tune` found at a smaller size; empty at first.
    """

    folder: Path
    threads: int
    tuned: dict[str, Any] = field(default_factory=dict)

    def array(self, name: str, *, shared: bool = False) -> Any:
        """Load an input; shared: mapped, all competitors use the same memory."""
        path = self.folder / f"{name}.npy"
        if not shared:
            return numpy.load(path)
        mapped = numpy.load(path, mmap_mode="r")
        mapped.max()  # bring it into memory before anything is timed
        return mapped


class Work(abc.ABC):
    """One competitor with its inputs loaded, in the form it takes.

    Attributes
    ----------
    units : int
        Pictures or frames in a run.
    settings : str
        How it was tuned, in words.
    setup_seconds : float or None
        Share of the last run that is needed only once for a size.
    """

    units = 1
    settings = ""
    setup_seconds: float | None = None

    def __init__(self, task: Task) -> None:
        self.task = task

    def tune(self, seconds: float) -> dict[str, Any]:
        """Find the cheapest settings that do what is demanded; `TooSlowError` if that takes longer.

        The result goes to the next size as ``task.tuned``.
        """
        return {}

    @abc.abstractmethod
    def run(self) -> Any:
        """Do the work once: this is timed."""

    def judge(self, result: Any) -> dict[str, float]:
        """Measure how good the result of `run` is."""
        return {}


def library(name: str) -> Any:
    """Import what a competitor needs, when it is needed."""
    return importlib.import_module(name)


def best_of(
    choices: list[Choice], quality: Callable[[Choice], float], seconds: float
) -> tuple[Choice, float]:
    """Return the best of some choices and its quality; those for which no time is left are not tried."""
    ends = time.monotonic() + seconds
    found = [(quality(choices[0]), 0)]
    for index in range(1, len(choices)):
        if time.monotonic() > ends:
            break
        found.append((quality(choices[index]), index))
    best, index = max(found)
    return choices[index], best
