"""The comparison: all competitors on the same inputs, in turn, in one run."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpufuse.bench.inputs import TINY, Lengths, Pictures
from gpufuse.bench.kinds import KINDS
from gpufuse.bench.machine import machine_facts
from gpufuse.bench.process import Process
from gpufuse.bench.records import Competitor, Row, Size, State
from gpufuse.threads import get_threads

__all__ = ["Comparison", "Plan", "compare"]

_START = _JUDGE = 120.0
_LOADING = 4.0
"""Seconds that a kind and size takes before and after what is timed."""

_LEAST = 3.0
"""Seconds for a kind and size even where no time is left: the table is whole."""

_CHEAP = 1.5
"""A run of fewer seconds is repeated even where no time is left: the first one only warms up."""

_GRACE = 20.0
"""Seconds more than allowed before a process that does not answer is ended."""

_TURNS_SHARE = 0.45
"""Of the time for a kind and size, for what is counted."""

_LARGEST_SHARE = 0.5
"""Of the same, that one run may take."""


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes
    ----------
    sizes : sequence of Size
    kinds : sequence of str
    seconds : float
        For all of it; what finds no time is named.
    widest : int
        Pictures up to this width are rendered, wider ones enlarged.
    short : bool
        Shorter clips.
    threads : int or None
        For each competitor; None: those of this process.
    runs : int
        Most turns that each may have; the first run only warms up where there is another.
    """

    sizes: Sequence[Size]
    kinds: Sequence[str] = tuple(KINDS)
    seconds: float = 480.0
    widest: int = 1280
    short: bool = False
    threads: int | None = None
    runs: int = 7


@dataclass
class Comparison:
    """What came of it.

    Attributes
    ----------
    facts : dict of str to str
        Of the machine.
    rows : list of Row
    notes : list of str
        On the inputs.
    seconds : float
    """

    facts: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def compare(
    plan: Plan,
    *,
    tell: Callable[[str], None] = lambda line: None,
    update: Callable[[Comparison], None] = lambda comparison: None,
) -> Comparison:
    """Run all competitors and collect a row for each.

    Parameters
    ----------
    plan : Plan
    tell : callable
        Called with a line on what happens next.
    update : callable
        Called after each kind and size with what is known so far.

    Returns
    -------
    Comparison
        With a row for each competitor, kind and size, whether it could be measured or not.

    Notes
    -----
    Each competitor runs in a process of its own, held to the same number of cores. It first works on a tiny picture,
    which loads and compiles; then it is tuned; then the competitors take turns, a run each, so that a machine whose
    speed drifts is the same for all. Loading inputs, converting them to the form a library takes, and set-up that
    is needed only once for a size are not in the times.
    """
    started = time.monotonic()
    threads = plan.threads or get_threads()
    comparison = Comparison(machine_facts(threads))
    ends = started + plan.seconds
    pictures = Pictures(plan.widest)
    cells = [(size, kind) for size in sorted(set(plan.sizes)) for kind in dict.fromkeys(plan.kinds)]
    with tempfile.TemporaryDirectory(prefix="gpufuse-bench-") as folder:
        tiny = Path(folder, "tiny")
        pictures.write(tiny, TINY, set(plan.kinds), Lengths.of(TINY, short=True))
        history: dict[tuple[str, str], Row] = {}
        tuned: dict[tuple[str, str], dict[str, Any]] = {}
        for index, (size, kind) in enumerate(cells):
            inputs = Path(folder, str(size))
            if not inputs.exists():
                tell(f"making pictures of {size}")
                lengths = Lengths.of(size, short=plan.short)
                pictures.write(inputs, size, set(plan.kinds), lengths)
                comparison.notes += _note(size, pictures.rendered_size(size), lengths)
            weights = [KINDS[name].share * (1 + (where == cells[-1][0])) for where, name in cells[index:]]
            left = ends - time.monotonic() - _LOADING * len(weights)
            seconds = max(_LEAST, left * weights[0] / sum(weights))
            cell = _Cell(kind, size, inputs, tiny, threads, seconds, plan.runs, short=plan.short)
            tell(f"{KINDS[kind].title}, {size}: about {seconds + _LOADING:.0f} s")
            comparison.rows += cell.measured(history, tuned)
            comparison.seconds = time.monotonic() - started
            update(comparison)
            if all(other != size for other, _ in cells[index + 1 :]):
                shutil.rmtree(inputs)  # large ones need much room
    return comparison


def _note(size: Size, base: Size, lengths: Lengths) -> list[str]:
    origin = "rendered" if base == size else f"rendered at {base} and enlarged, with noise at full size"
    return [
        f"{size}: {origin}; {lengths.denoise} frames to denoise, {lengths.plate} for the plate, "
        f"{lengths.job} for the whole job"
    ]


@dataclass
class _Entry:
    """A competitor that is still in the race."""

    row: Row
    process: Process
    times: list[float] = field(default_factory=list)


class _Cell:
    """One kind of work at one size."""

    def __init__(
        self,
        kind: str,
        size: Size,
        inputs: Path,
        tiny: Path,
        threads: int,
        seconds: float,
        runs: int = 7,
        *,
        short: bool = False,
    ) -> None:
        self._kind, self._size = kind, size
        self._inputs, self._tiny, self._threads = inputs, tiny, threads
        self.seconds = seconds
        self._runs = runs
        self._short = short
        self._ends = 0.0

    def measured(
        self, history: dict[tuple[str, str], Row], tuned: dict[tuple[str, str], dict[str, Any]]
    ) -> list[Row]:
        competitors = KINDS[self._kind].competitors
        rows = [self._row(competitor) for competitor in competitors]
        with contextlib.ExitStack() as stack:
            entries = []
            for number, (competitor, row) in enumerate(zip(competitors, rows, strict=True)):
                reason = _not_installed(competitor) or self._hopeless(
                    history.get((self._kind, row.name)), row
                )
                if reason:
                    row.without_figures("skipped", reason)
                    continue
                known = tuned.get((self._kind, row.name), {})
                process = Process(self._kind, number, self._inputs, self._tiny, self._threads, known)
                entries.append(_Entry(row, stack.enter_context(process)))
            entries = [entry for entry in entries if self._loaded(entry)]
            self._ends = time.monotonic() + self.seconds
            entries = [
                entry for left, entry in enumerate(entries) if self._tuned(entry, len(entries) - left, tuned)
            ]
            self._take_turns(entries)
            for entry in entries:
                self._judge(entry)
        for row in rows:
            history[self._kind, row.name] = row
        return rows

    def _row(self, competitor: Competitor) -> Row:
        threads = 1 if competitor.threads == "one" else self._threads
        return Row(self._kind, str(self._size), competitor.name, competitor.ours, threads, competitor.problem)

    def _hopeless(self, before: Row | None, row: Row) -> str | None:
        """Why it is not even tried: it was too slow, or failed, at a smaller size."""
        if before is None:
            return None
        if before.state == "stopped":
            return f"too slow: it was stopped at {before.size} already"
        if before.state == "failed":
            return f"failed at {before.size} already"
        if before.state == "skipped" and before.reason.startswith(("too slow", "failed")):
            return before.reason
        if before.seconds is not None and not before.ours:
            growth = self._work(self._size) / self._work(Size.of(before.size))
            expected = (before.seconds * before.units + (before.setup_seconds or 0.0)) * growth
            if expected > _LARGEST_SHARE * self.seconds:
                return (
                    f"too slow: a run of about {expected:.0f} s at {self._size}, expected from {before.size}"
                )
        return None

    def _work(self, size: Size) -> int:
        """Pixels of a run."""
        return size.pixels * Lengths.of(size, short=self._short).of_kind(self._kind)

    def _told(self, entry: _Entry, order: str, seconds: float) -> dict[str, Any] | None:
        """The answer to an order; None where the competitor drops out."""
        told = entry.process.ask(order, seconds)
        states: tuple[State, ...] = ("failed", "stopped")
        for state in states:
            if state in told:
                entry.row.without_figures(state, told[state])
                return None
        entry.row.settings = told.get("settings", entry.row.settings)
        return told

    def _loaded(self, entry: _Entry) -> bool:
        told = self._told(entry, "", _START)
        if told is not None:
            entry.row.units = told["units"]
        return told is not None

    def _tuned(self, entry: _Entry, waiting: int, tuned: dict[tuple[str, str], dict[str, Any]]) -> bool:
        """Tune a competitor and let it run once, uncounted unless that takes all its time."""
        left = self._ends - _TURNS_SHARE * self.seconds - time.monotonic()
        allowed = max(1.0, 2.0 * left / (waiting + 1))
        # What all are compared with is waited for.
        limit = _START if entry.row.ours else 2 * allowed + _GRACE
        told = self._told(entry, f"tune {allowed}", limit)
        if told is None:
            return False
        tuned[self._kind, entry.row.name] = told["tuned"]
        return self._run(entry, limit)

    def _run(self, entry: _Entry, seconds: float) -> bool:
        told = self._told(entry, "run", seconds)
        if told is None:
            return False
        entry.times.append(told["seconds"])
        row = entry.row
        row.setup_seconds = told["setup"]
        if told["memory"] is not None:
            row.memory_bytes = max(told["memory"], row.memory_bytes or 0)
        return True

    def _take_turns(self, entries: list[_Entry]) -> None:
        """A run each, again and again, while there is time; the slow drop out first."""
        entries = sorted(entries, key=_cost)
        for turn in range(1, self._runs + 1):
            for entry in entries:
                cost = _cost(entry)
                affordable = time.monotonic() + cost < self._ends or (turn < 4 and cost < _CHEAP)
                if len(entry.times) == turn and entry.row.state == "measured" and affordable:
                    self._run(entry, 10 * cost + _GRACE)
        for entry in entries:
            if len(entry.times) > 1:
                del entry.times[0]  # it only warmed up

    def _judge(self, entry: _Entry) -> None:
        row = entry.row
        if row.state != "measured":
            return
        told = self._told(entry, "judge", _JUDGE)
        if told is None:
            return
        row.figures = told["figures"]
        times = sorted(seconds / row.units for seconds in entry.times)
        row.runs = len(times)
        row.seconds, row.low, row.high = statistics.median(times), times[0], times[-1]
        row.figures["rate"] = 1 / row.seconds


def _cost(entry: _Entry) -> float:
    return entry.times[-1] + (entry.row.setup_seconds or 0.0)


def _not_installed(competitor: Competitor) -> str | None:
    if competitor.library is None:
        return None
    with contextlib.suppress(ValueError):  # a module that has no origin
        if importlib.util.find_spec(competitor.library) is not None:
            return None
    return f"not installed: {competitor.library}; pip install 'gpufuse[bench]'"
