"""The process in which one competitor runs: alone with its library, its threads and its memory.

It reads a command a line and answers with a line of JSON. What a library prints goes to the
standard error stream.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from gpufuse.bench import memory
from gpufuse.bench.records import Competitor
from gpufuse.bench.work import Task, TooSlowError, Work
from gpufuse.threads import set_threads

__all__ = ["main"]


def main(words: list[str]) -> None:
    """Serve one competitor until the standard input ends.

    Parameters
    ----------
    words : list of str
        Kind, number of the competitor, folder of the inputs, folder of tiny inputs, threads, and what was
        tuned before as JSON.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = _Server(answers)
    kind, number, folder, tiny, threads, tuned = words
    if not server.answer(lambda: server.load(kind, int(number), folder, tiny, int(threads), tuned)):
        return
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "tune":
            server.answer(lambda seconds=float(argument): server.tune(seconds))
        elif order == "run":
            server.answer(server.run)
        else:
            server.answer(server.judge)


class _Server:
    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._work: Work
        self._held: int | None = None
        self._result: Any = None

    def answer(self, order: Any) -> bool:
        """Carry out an order and say what came of it, on one line."""
        try:
            told = order()
        except TooSlowError as slow:
            told = {"stopped": str(slow)}
        except Exception as error:
            told = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=self._answers, flush=True)
        return "failed" not in told

    def load(
        self, kind: str, number: int, folder: str, tiny: str, threads: int, tuned: str
    ) -> dict[str, Any]:
        _limit(threads)
        competitor = _competitor(kind, number)
        # Loads libraries and compiles: what is timed later is neither.
        warm = competitor.make(Task(Path(tiny), threads))
        warm.judge(warm.run())
        del warm
        self._work = competitor.make(Task(Path(folder), threads, json.loads(tuned)))
        if memory.forget_peak():
            self._held = memory.held()
        return {"units": self._work.units}

    def tune(self, seconds: float) -> dict[str, Any]:
        tuned = self._work.tune(seconds)
        return {"tuned": tuned, "settings": self._work.settings}

    def run(self) -> dict[str, Any]:
        self._result = None
        memory.forget_peak()
        started = time.perf_counter()
        self._result = self._work.run()
        seconds = time.perf_counter() - started
        top = memory.peak()
        setup = self._work.setup_seconds
        return {
            "seconds": seconds - (setup or 0.0),
            "setup": setup,
            "memory": None if top is None or self._held is None else max(0, top - self._held),
            "settings": self._work.settings,
        }

    def judge(self) -> dict[str, Any]:
        figures = self._work.judge(self._result)
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        return {"figures": finite, "settings": self._work.settings}


def _limit(threads: int) -> None:
    """Hold this process to as many cores as it may have threads."""
    set_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _competitor(kind: str, number: int) -> Competitor:
    from gpufuse.bench.kinds import KINDS

    return KINDS[kind].competitors[number]


if __name__ == "__main__":
    main(sys.argv[1:])
