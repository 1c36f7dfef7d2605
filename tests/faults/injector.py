"""Lets the k-th operation of `gpufuse.files` fail, in this process or in children.

Every change of the disk goes through `gpufuse.files`, which asks the system through its ``os``. Here that ``os`` is
replaced by one that counts the calls, writes each down, and lets one of them fail::

    with faults() as found:                         # counts only
        enhance(...)
    found.operations                                # ["open night.mp4.part-1f...", "close ...", ...]
    with faults(at=7, code="ENOSPC", half=True):    # the 7th; a write leaves half of its data
        enhance(...)

For a child and its own children, give `child_environment` to the process; nothing else changes::

    environment = child_environment(trace, at=7, code="EIO")
    subprocess.run([sys.executable, "-m", "gpufuse", ...], env=environment)
    operations(trace)                               # of all processes, in the order of their calls

It makes the folder ``<trace>.site`` with a ``sitecustomize.py`` that wraps `gpufuse.files` when that is imported,
puts it in front of ``PYTHONPATH``, and sets

- ``GPUFUSE_FAULT_TRACE``: a file to which all processes append a record per operation, so that k counts the calls
  of all of them; it is removed first by `child_environment`;
- ``GPUFUSE_FAULT_AT``: k from 1 on, or 0 to count only;
- ``GPUFUSE_FAULT_CODE``: the name of an error number, such as ENOSPC, EIO or EROFS; or KILL, where the process that
  makes the call dies of SIGKILL instead, before the call (with half: in the middle of a write);
- ``GPUFUSE_FAULT_HALF``: 1 for a write that leaves half of its data;
- ``GPUFUSE_FAULT_STICKY``: 1 if all later calls fail as well that need space (all but removing, closing, seeking),
  as on a full disk.

A failing call does nothing but a close, which does close, and a write that leaves half.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPERATIONS = {
    "open", "write", "lseek", "close", "fsync", "link", "replace", "unlink", "mkdir", "rmdir", "ftruncate",
}  # fmt: skip
NEED_NO_SPACE = {"unlink", "rmdir", "close", "lseek"}
RECORD = 96  # bytes
TESTS = Path(__file__).resolve().parent.parent
SITE = """
import sys
sys.path.append({tests!r})
from faults import injector
sys.path.remove({tests!r})
injector.install()
"""


class Injector:
    """Counts operations and says which fails; the count is in memory, or in a file that processes share."""

    def __init__(
        self, at: int = 0, code: str = "EIO", *, half: bool = False, sticky: bool = False, trace: str = ""
    ) -> None:
        self.at, self.code, self.half, self.sticky = at, code, half, sticky
        self._trace = trace
        self._lock = threading.Lock()
        self.operations: list[str] = []
        self.failed = ""

    def number(self, words: str) -> int:
        """Write an operation down; return its number, from 1 on."""
        with self._lock:
            self.operations.append(words)
            if not self._trace:
                return len(self.operations)
            descriptor = os.open(self._trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                record = f"{os.getpid()} {words}".encode("ascii", "replace")[: RECORD - 1]
                os.write(descriptor, record.ljust(RECORD - 1) + b"\n")
                return os.lseek(descriptor, 0, os.SEEK_CUR) // RECORD
            finally:
                os.close(descriptor)

    def fails(self, name: str, words: str) -> bool:
        """Count an operation and tell whether it is to fail."""
        number = self.number(words)
        fails = number == self.at or (self.sticky and 0 < self.at < number and name not in NEED_NO_SPACE)
        if fails and not self.failed:
            self.failed = words
        return fails

    def fail(self) -> None:
        if self.code == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.code)
        raise OSError(number, os.strerror(number))


class FaultyOs:
    """Stands for the module `os` in `gpufuse.files`."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in OPERATIONS:
            return call

        def counted(target: Any, *arguments: Any, **keywords: Any) -> Any:
            file = self._names.get(target, "?") if isinstance(target, int) else os.path.basename(target)
            if self._injector.fails(name, f"{name} {file}"):
                if name == "close":
                    call(target)
                if name == "write" and self._injector.half:
                    call(target, arguments[0][: len(arguments[0]) // 2])
                self._injector.fail()
            result = call(target, *arguments, **keywords)
            if name == "open":
                self._names[result] = file
            return result

        return counted


@contextlib.contextmanager
def faults(at: int = 0, code: str = "EIO", *, half: bool = False, sticky: bool = False) -> Iterator[Injector]:
    """Count operations in this process, and let the one of number `at` fail; see the module."""
    from gpufuse import files

    injector = Injector(at, code, half=half, sticky=sticky)
    files.os = FaultyOs(injector)  # type: ignore[assignment]
    try:
        yield injector
    finally:
        files.os = os


def child_environment(
    trace: Path, at: int = 0, code: str = "EIO", *, half: bool = False, sticky: bool = False
) -> dict[str, str]:
    """Environment for a child in which, or in whose children, the operation of number `at` fails."""
    trace.unlink(missing_ok=True)
    site = trace.with_name(f"{trace.name}.site")
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE.format(tests=str(TESTS)))
    paths = [str(site), str(TESTS.parent)]
    if inherited := os.environ.get("PYTHONPATH"):
        paths.append(inherited)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "GPUFUSE_FAULT_TRACE": str(trace),
        "GPUFUSE_FAULT_AT": str(at),
        "GPUFUSE_FAULT_CODE": code,
        "GPUFUSE_FAULT_HALF": str(int(half)),
        "GPUFUSE_FAULT_STICKY": str(int(sticky)),
    }


def operations(trace: Path) -> list[str]:
    """What all processes did: "<process> <call> <file>" each."""
    if not trace.exists():
        return []
    return [line.rstrip() for line in trace.read_text("ascii").splitlines()]


class _Finder:
    """Wraps `gpufuse.files` as soon as it is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "gpufuse.files":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_wrap(module: Any) -> None:
            execute(module)
            module.os = FaultyOs(_from_environment())

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def _from_environment() -> Injector:
    value = os.environ.get
    return Injector(
        int(value("GPUFUSE_FAULT_AT", "0")),
        value("GPUFUSE_FAULT_CODE", "EIO"),
        half=value("GPUFUSE_FAULT_HALF") == "1",
        sticky=value("GPUFUSE_FAULT_STICKY") == "1",
        trace=os.environ["GPUFUSE_FAULT_TRACE"],
    )


def install() -> None:
    """Wrap `gpufuse.files` in this process once it is imported, as the environment says."""
    if "GPUFUSE_FAULT_TRACE" in os.environ:
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
