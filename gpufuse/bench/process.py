"""The process of a competitor, seen from outside: started, asked, and ended when its time is over."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gpufuse

__all__ = ["Process"]

_POOLS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "TI_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class Process:
    """A competitor in a process of its own.

    Parameters
    ----------
    kind : str
    number : int
        Its place among the competitors of that kind.
    folder, tiny : Path
        Inputs, and tiny ones to warm up with.
    threads : int
    tuned : dict
        What was tuned at a smaller size.
    """

    def __init__(
        self, kind: str, number: int, folder: Path, tiny: Path, threads: int, tuned: dict[str, Any]
    ) -> None:
        words = [kind, str(number), str(folder), str(tiny), str(threads), json.dumps(tuned)]
        package = str(Path(gpufuse.__file__).resolve().parents[1])
        paths = [path for path in (os.environ.get("PYTHONPATH"), package) if path]
        environment = os.environ | dict.fromkeys(_POOLS, str(threads))
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "ENABLE_TAICHI_HEADER_PRINT": "0"}
        # Closed when the process has ended.
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpufuse.bench.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, order: str, seconds: float) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Parameters
        ----------
        order : str
            ``tune SECONDS``, ``run`` or ``judge``; empty: wait until it is loaded.
        seconds : float
            Time allowed; the process is ended when that is over.

        Returns
        -------
        dict
            With ``failed`` or ``stopped`` in it where that was the end.
        """
        assert self._process.stdin is not None
        try:
            if order:
                print(order, file=self._process.stdin, flush=True)
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            what = {"": "loading", "run": "one run", "judge": "judging"}.get(order, "tuning")
            return {"stopped": f"{what} was not over after {seconds:.0f} s"}
        except OSError:
            line = ""
        if line:
            told: dict[str, Any] = json.loads(line)
            return told
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self._process.kill()
            self._process.wait()
        return {"failed": f"its process ended with code {self._process.returncode}{self._last_complaint()}"}

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = [line.strip() for line in self._complaints if line.strip()]
        return f": {lines[-1][:160]}" if lines else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what it did not read any more
                pipe.close()
        self._complaints.close()
