"""Timing of work that a GPU, or the CPU, does; and how much time is left for it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How carefully to time."""

    samples: int = 7
    """Samples whose median counts."""
    seconds: float = 0.004
    """Least length of a sample on a GPU."""
    most_calls: int = 400
    """In one sample: what a GPU can hold in its queue."""


QUICK = Effort(samples=3, seconds=0.0, most_calls=1)


@dataclass(frozen=True)
class Timing:
    """Seconds that one call takes."""

    seconds: float
    """Median of the samples."""
    low: float
    high: float
    host_seconds: float
    """Median of what the host takes to hand a call over; for the CPU, the same as `seconds`."""
    samples: int
    calls: int
    """In each sample."""


class Clock(Protocol):
    def time(self, work: Call, expected: float) -> tuple[float, float]:
        """Seconds that `work` takes, and the seconds until the host came back; it expects so many of these."""


class HostClock:
    """For work that is done when it returns."""

    def time(self, work: Call, expected: float = 0.0) -> tuple[float, float]:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        return seconds, seconds


class DeviceClock:
    """CUDA events. The GPU is kept busy until the host has handed over all the work, where that is quick: so the
    gaps between launches, which a stream of real work hides, are not counted.
    """

    LONGEST_HOLD = 0.03

    def __init__(self, cupy: Any, hold: Callable[[float], None]) -> None:
        self._cupy, self._hold = cupy, hold

    def time(self, work: Call, expected: float = 0.0) -> tuple[float, float]:
        start, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        self._cupy.cuda.Device().synchronize()
        self._hold(min(1.5 * expected, self.LONGEST_HOLD))
        started = time.perf_counter()
        start.record()
        work()
        end.record()
        host = time.perf_counter() - started
        end.synchronize()
        return self._cupy.cuda.get_elapsed_time(start, end) / 1e3, host


def measure(calls: Sequence[Call], clock: Clock, effort: Effort) -> Timing:
    """Time a call that comes in several variants with data of their own, used in turn.

    So no call finds its input in the cache just because it was the last to use it.
    """
    for _ in range(3):  # compiles; then records what is replayed later; then replays it
        for call in calls:
            call()
    first, first_host = clock.time(calls[0], 0.0)
    wanted = math.ceil(effort.seconds / max(first, 1e-7))
    count = max(1, min(effort.most_calls, wanted))
    if effort.most_calls > 1:
        count = -(-count // len(calls)) * len(calls)  # every variant equally often

    def sample() -> None:
        for k in range(count):
            calls[k % len(calls)]()

    pairs = [clock.time(sample, count * first_host) for _ in range(effort.samples)]
    seconds = sorted(pair[0] / count for pair in pairs)
    return Timing(
        seconds=statistics.median(seconds),
        low=seconds[0],
        high=seconds[-1],
        host_seconds=statistics.median(pair[1] / count for pair in pairs),
        samples=len(seconds),
        calls=count,
    )


class Budget:
    """Seconds that a run may take in all."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._started, self.seconds = now, now(), seconds

    def spent(self) -> float:
        return self._now() - self._started

    def left(self) -> float:
        return self.seconds - self.spent()


def duration(seconds: float) -> str:
    """Write a short time for a reader.

    >>> duration(0.00012), duration(0.25)
    ('120 us', '250 ms')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
