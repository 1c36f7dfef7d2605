"""Who does the tasks: what a batch needs of an engine, and the engine of this machine."""

from __future__ import annotations

import dataclasses
import os
import selectors
import time
from collections.abc import Sequence
from typing import Protocol

from gpufuse.batch.children import Child
from gpufuse.batch.tasks import Ended, Event, Outcome, Started, Task
from gpufuse.errors import ConfigError, LimitError

__all__ = ["LocalWorkers", "Workers", "cores", "default_workers", "wait_readable"]

_CORES_PER_WORKER = 2


class Workers(Protocol):
    """An engine: takes tasks, and tells what becomes of them."""

    def describe(self) -> str:
        """Say who works: ``2 processes on cpu``."""

    def room(self) -> int:
        """Return how many more tasks it would begin at once."""

    def submit(self, task: Task) -> None:
        """Take a task."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, waiting until something does, but not longer than this."""

    def stop(self) -> None:
        """End all tasks, and clear up; safe to call again."""


def default_workers(cores: int, gpus: int) -> int:
    """Processes where nothing is said: one for each GPU, or one for each two cores.

    Examples
    --------
    >>> default_workers(cores=16, gpus=0), default_workers(cores=16, gpus=4), default_workers(cores=1, gpus=0)
    (8, 4, 1)
    """
    return gpus or max(1, cores // _CORES_PER_WORKER)


class LocalWorkers:
    """Processes on this machine, a new one for each task.

    Parameters
    ----------
    count : int
        Processes at one time.
    gpus : sequence of str
        What `CUDA_VISIBLE_DEVICES` is to be for each GPU, in turn; empty on the CPU.
    held : sequence of int
        Descriptors that every process holds while it lives.

    Attributes
    ----------
    count : int
    """

    def __init__(self, count: int, gpus: Sequence[str] = (), held: Sequence[int] = ()) -> None:
        if count < 1:
            raise ConfigError(f"workers: expected at least 1, got {count}; leave it out for the default")
        self._gpus = tuple(gpus)
        self._held = tuple(held)
        self._free = [f"{number}" for number in range(count, 0, -1)]
        self.count = count
        self._children: list[Child] = []
        self._begun: list[Event] = []

    @property
    def threads(self) -> int:
        """CPU threads for each process, so that together they use the cores."""
        return max(1, cores() // self.count)

    def describe(self) -> str:
        """Say who works."""
        where = f"{len(self._gpus)} GPU{'s' * (len(self._gpus) != 1)}" if self._gpus else "cpu"
        return f"{self.count} process{'es' * (self.count != 1)} on {where}"

    def room(self) -> int:
        """Return how many more tasks would begin at once."""
        return len(self._free)

    def submit(self, task: Task) -> None:
        """Start a process for a task; there has to be room."""
        worker = self._free.pop()
        task = dataclasses.replace(task, threads=self.threads)
        try:
            self._children.append(Child(task, worker, self._environment(worker), self._held))
        except OSError as error:  # too many files or processes, or no room for temporary files
            self._free.append(worker)
            line = (
                f"{task.subject}: expected to start a process, found {error.strerror!r}; use fewer --workers, or raise "
                "the limits of the system"
            )
            outcome = Outcome("failed", {}, line, LimitError.__name__, LimitError.exit_code)
            self._begun.append(Ended(task.id, worker, outcome))
            return
        self._begun.append(Started(task.id, worker))

    def _environment(self, worker: str) -> dict[str, str]:
        if not self._gpus:
            return {}
        return {"CUDA_VISIBLE_DEVICES": self._gpus[(int(worker) - 1) % len(self._gpus)]}

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened."""
        until = time.monotonic() + seconds
        events, self._begun = self._begun, []
        while not events:
            left = until - time.monotonic()
            if left <= 0:
                break
            if not self._children:
                time.sleep(left)
                break
            wait_readable([child.output for child in self._children], min(left, 1.0))
            events += self._listen()
        return events

    def _listen(self) -> list[Event]:
        events: list[Event] = []
        for child in list(self._children):  # the silent ones as well: they may have stalled
            told = child.listen()
            events += told
            if told and isinstance(told[-1], Ended):
                self._children.remove(child)
                self._free.append(child.worker)
        return events

    def stop(self) -> None:
        """End all processes."""
        for child in self._children:
            child.end()
        self._children = []


def wait_readable(descriptors: Sequence[int], seconds: float) -> None:
    """Wait until there is something to read from one of these, but not longer than this."""
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        selector.select(seconds)


def cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
