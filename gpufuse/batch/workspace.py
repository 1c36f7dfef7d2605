"""The folder of a batch: where outputs, manifests, plates and unfinished work lie, and who may use it.

::

    DIR/cam1/0001-enhanced.mp4          an output
    DIR/cam1/0001-enhanced.mp4.json     its manifest: the mark that it is done
    DIR/index.html                      the report
    DIR/.gpufuse/lock                   held by the one batch that runs here
    DIR/.gpufuse/plates/                plates of the days, one for each day
    DIR/.gpufuse/sheets/                thumbnails for the report
    DIR/.gpufuse/failures/              what failed, and why
    DIR/.gpufuse/work/<clip>/           segments and other unfinished work; gone when the clip is done
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse.batch.orders import Item
from gpufuse.errors import OutputError
from gpufuse.output import output_error

__all__ = ["PRIVATE", "REPORT", "Workspace", "read_record", "safely", "write_record"]

PRIVATE = ".gpufuse"
"""Name of the folder for all that is not an output."""

REPORT = "index.html"
"""Name of the report."""

_LOCK_WAIT = 10.0  # seconds that orphans of a killed run may need to end
_PART = re.compile(r".+\.part-[0-9a-f]{8}")


@contextlib.contextmanager
def safely(path: str | Path) -> Iterator[None]:
    """Turn an error of the system into one that says what to do.

    Parameters
    ----------
    path : path
        What was to be written.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a small file of JSON, whole or not at all.

    Raises
    ------
    OutputError
    """
    with safely(path):
        files.write_whole(path, (json.dumps(record) + "\n").encode(), overwrite=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read what `write_record` wrote; None if it is missing or damaged, for it can be made anew."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True)
class Workspace:
    """Paths in the folder of a batch.

    Attributes
    ----------
    root : Path
        Absolute.
    """

    root: Path

    @property
    def private(self) -> Path:
        """Folder for all that is not an output."""
        return self.root / PRIVATE

    def output(self, item: Item) -> Path:
        """Where an output goes; its manifest lies beside it."""
        return self.root / item.name

    def work(self, item: Item) -> Path:
        """Folder for the unfinished work of a clip."""
        return self.private / "work" / _key(item.name)

    def sheet(self, name: str) -> Path:
        """Thumbnails of an output."""
        return self.private / "sheets" / f"{_key(name)}.webp"

    def failure(self, item: Item) -> Path:
        """What failed, and why."""
        return self.private / "failures" / f"{_key(item.name)}.json"

    def plate(self, key: str) -> Path:
        """Record of a plate, written last; the picture lies beside it."""
        return self.private / "plates" / f"{key}.json"

    def running(self, token: str) -> Path:
        """A file that is there while a batch wants results from a cluster."""
        return self.private / f"running-{token}"

    def prepare(self) -> None:
        """Make the folders that every batch has.

        Raises
        ------
        OutputError
        """
        for folder in ("plates", "sheets", "failures", "work"):
            with safely(self.private / folder):
                files.make_folder(self.private / folder)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[files.Lock]:
        """Claim the folder while the body runs.

        Yields
        ------
        Lock
            Processes that inherit its descriptor hold the folder too, until they end.

        Raises
        ------
        OutputError
            If another batch runs here, or the folder cannot be written.
        """
        path = self.private / "lock"
        with safely(self.private):
            files.make_folder(self.private)
        lock = self._lock(path)
        try:
            yield lock
        finally:
            with safely(path):
                lock.close()

    def _lock(self, path: Path) -> files.Lock:
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                return files.lock(path, owner)
            except BlockingIOError as error:
                holder = read_record(path) or {}
                if time.monotonic() < until and _is_dead(holder):
                    time.sleep(0.1)  # children of a run that was killed are about to notice
                    continue
                raise OutputError(
                    f"{self.root.name}: expected no other batch in this folder, found one (process "
                    f"{holder.get('pid', '?')} on {holder.get('host', '?')}); wait for it, or use another folder"
                ) from error
            except OSError as error:
                raise output_error(path, error) from error

    def sweep(self) -> None:
        """Remove files in the making that a killed run has left; only while the folder is claimed.

        Raises
        ------
        OutputError
        """
        for stale in self.private.glob("running-*"):  # tells workers of a cluster that nobody waits for them
            with safely(stale):
                files.remove(stale)
        for part in (*_parts_in(self.root), *_parts_below(self.private)):
            if part.parent == self.root and not part.name.startswith(f"{REPORT}.part-"):
                continue  # not ours
            with safely(part):
                files.remove(part)


def _key(name: str) -> str:
    """A file name for something about an output: readable, short, and its own."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[-60:].lstrip(".")
    return f"{readable}-{hashlib.blake2b(os.fsencode(name), digest_size=6).hexdigest()}"


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the process that claimed the folder has ended, as far as can be told."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _parts_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if _PART.fullmatch(path.name) and not path.is_dir()]
    except OSError:
        return []


def _parts_below(folder: Path) -> list[Path]:
    return [path for above, _, _ in os.walk(folder) for path in _parts_in(Path(above))]
