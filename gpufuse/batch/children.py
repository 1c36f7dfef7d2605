"""A child process that does one task, seen from its parent: started, listened to, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gpufuse
from gpufuse.batch.tasks import Advanced, Ended, Event, Outcome, Task
from gpufuse.errors import DamagedInputError, LimitError

__all__ = ["Child"]

_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_MOST_COMPLAINTS = 1 << 16
_PATIENCE = 10.0  # seconds for a process that was killed to be gone


class Child:
    """A process that does a task.

    Parameters
    ----------
    task : Task
    worker : str
        Name of the worker, for events.
    environment : mapping, optional
        Variables beside those of this process.
    held : sequence of int
        Descriptors that the child shall hold while it lives: the lock of the batch's folder.

    Attributes
    ----------
    task : Task
    worker : str
    """

    def __init__(
        self, task: Task, worker: str, environment: Mapping[str, str] | None = None, held: Sequence[int] = ()
    ) -> None:
        self.task, self.worker = task, worker
        package = str(Path(gpufuse.__file__).resolve().parents[1])
        paths = [path for path in (os.environ.get("PYTHONPATH"), package) if path]
        # Closed when the process has ended.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpufuse.batch.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment or {}),
            pass_fds=tuple(held),
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children itself
        )
        self._rest = b""
        self._outcome: Outcome | None = None
        self._heard = time.monotonic()
        os.set_blocking(self.output, False)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died already, which is found out soon
            self._process.stdin.write(json.dumps(task.to_json()).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def output(self) -> int:
        """Descriptor to wait for: readable when there is something to listen to."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def listen(self) -> list[Event]:
        """Return what the child has told since last asked; its end comes last, and then it is cleared away."""
        events: list[Event] = []
        closed = False
        with contextlib.suppress(BlockingIOError):
            while not closed:
                block = os.read(self.output, 1 << 16)
                closed = not block
                self._rest += block
                self._heard = time.monotonic()
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            record = _told(line)
            if "ended" in record:
                self._outcome = Outcome(**record["ended"])
            elif "done" in record:
                events.append(Advanced(self.task.id, self.worker, record["done"], record["expected"]))
        if closed:
            self._process.wait()
        elif self._outcome is None and time.monotonic() - self._heard > self.task.options.stall:
            self._outcome = self._stalled()
            closed = True
        if closed:
            outcome = self._outcome or self._died()
            self.end()
            events.append(Ended(self.task.id, self.worker, outcome))
        return events

    def _stalled(self) -> Outcome:
        line = (
            f"{self.task.subject}: expected some progress within {self.task.options.stall:g} s, found none; "
            "look at the clip, or raise --stall"
        )
        return Outcome("stalled", {}, line, LimitError.__name__, LimitError.exit_code)

    def _died(self) -> Outcome:
        code = self._process.returncode
        if code < 0:
            try:
                how = signal.Signals(-code).name
            except ValueError:
                how = f"signal {-code}"
        else:
            how = f"exit code {code}"
        complaint = self._last_complaint()
        line = (
            f"{self.task.subject}: expected its process to finish, found that it died ({how}{complaint}); "
            "the clip may be damaged in a way that crashes its decoder"
        )
        killed = -code in _KILLED
        if killed:
            line = (
                f"{self.task.subject}: expected its process to finish, found it killed ({how}{complaint}); "
                "look whether memory ran out"
            )
        return Outcome(
            "died", {}, line, DamagedInputError.__name__, DamagedInputError.exit_code, killed=killed
        )

    def _last_complaint(self) -> str:
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - _MOST_COMPLAINTS))
        lines = [line.strip() for line in self._complaints.read().decode(errors="replace").splitlines()]
        last = [line for line in lines if line]
        return f": {last[-1][:160]}" if last else ""

    def end(self) -> None:
        """End the process at once, if it has not ended, and clear it away; safe to call again."""
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that hangs may hold it for ever
                self._process.wait(_PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what it did not read any more
                pipe.close()
        self._complaints.close()


def _told(line: bytes) -> dict[str, Any]:
    """What a line of the child says; nothing, where something else has printed it."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
