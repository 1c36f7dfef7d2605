"""The process that does one task: ``python -m gpufuse.batch.child``.

It takes the task as a line of JSON on its standard input, which stays open while its parent lives, and tells on its
standard output, a line of JSON each, how far it is and how it ended. What libraries print goes to standard error.
A crash in a codec or a driver ends this process and costs one task.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, TextIO

from gpufuse.batch.tasks import Outcome, Task
from gpufuse.errors import GpufuseError, LimitError, OutputError

__all__ = ["ORPHANED", "main"]

ORPHANED = 125
"""Exit code of a process whose parent has gone."""

_EVERY = 0.2  # seconds between two words on progress
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Do the task that stands on standard input.

    Returns
    -------
    int
        0 if the outcome was told, whatever it is.
    """
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _die_with_parent()
    line = _first_line()
    if not line:
        return ORPHANED
    threading.Thread(target=_watch_parent, daemon=True).start()
    task = Task.from_json(json.loads(line))
    reporter = _Reporter(told)
    outcome = _outcome_of(task, reporter)
    reporter.tell({"ended": outcome.to_json()})
    told.close()
    sys.stderr.flush()
    os._exit(0)  # nothing that happens in the clearing up of libraries can change the outcome any more


class _Reporter:
    """Tells progress, and not too often."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def tell(self, record: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the watcher ends this process
            print(json.dumps(record), file=self._stream, flush=True)

    def advance(self, done: int, expected: int | None = None) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY or done == expected:
            self._last = now
            self.tell({"done": done, "expected": expected})


def _outcome_of(task: Task, reporter: _Reporter) -> Outcome:
    try:
        if task.threads:
            from gpufuse.threads import set_threads

            set_threads(task.threads)
        from gpufuse.batch.work import perform

        return Outcome("done", perform(task, reporter.advance))
    except GpufuseError as error:
        return Outcome("failed", {}, " ".join(str(error).split()), type(error).__name__, error.exit_code)
    except MemoryError:
        line = f"{task.subject}: expected enough memory, found too little; use fewer --workers"
        return Outcome("failed", {}, line, "LimitError", LimitError.exit_code)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        line = f"{task.subject}: expected to read and write its files, found {reason!r}; check the disk"
        return Outcome("failed", {}, line, "OutputError", OutputError.exit_code)
    except Exception as error:  # a mistake of ours
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)} line {last.lineno}"
        line = (
            f"{task.subject}: expected a result, found a mistake in gpufuse ({type(error).__name__}: "
            f"{' '.join(str(error).split())} in {where}); please report it"
        )
        return Outcome("failed", {}, line, type(error).__name__, GpufuseError.exit_code)


def _die_with_parent() -> None:
    """Ask Linux to end this process with its parent; elsewhere the watcher does."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _first_line() -> bytes:
    line = b""
    while b"\n" not in line:
        block = os.read(0, 1 << 16)
        if not block:
            return b""
        line += block
    return line.partition(b"\n")[0]


def _watch_parent() -> None:
    """End this process when its standard input is closed: the parent has gone, or wants it so."""
    with contextlib.suppress(OSError):
        while os.read(0, 1 << 12):
            pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
