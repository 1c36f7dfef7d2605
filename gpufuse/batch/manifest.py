"""The manifest of an output: what it was made from, how, and what came out; the mark that it is done.

It lies beside the output as ``<output>.json`` and is written last, by rename.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufuse.errors import DamagedInputError, InputError

__all__ = [
    "FileRecord",
    "Manifest",
    "manifest_path",
    "read_manifest",
    "recorded",
    "same_file",
    "same_inputs",
    "same_order",
]

FORMAT = 1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """A file as it was.

    Attributes
    ----------
    path : str
        Absolute for inputs; relative to the batch's folder for outputs.
    size : int
        Bytes.
    mtime_ns : int
        Time of its last change, nanoseconds since 1970.
    hash : str
        BLAKE2b of its content, 16 bytes in hexadecimal.
    """

    path: str
    size: int
    mtime_ns: int
    hash: str


@dataclass(frozen=True)
class Manifest:
    """What an output was made from, how, and what came out.

    Attributes
    ----------
    name : str
        Of the output, relative to the batch's folder.
    outputs : tuple of FileRecord
        The output; more than one where the clip was split at a change of size.
    clip : tuple of FileRecord
        The night clip; of a folder or glob of stills each still.
    day : tuple of FileRecord
    order : dict
        As of `gpufuse.batch.orders.fingerprint`.
    versions : dict of str to str
    device, coders : str
    frames_in, frames_out : int
    first_time, last_time : float or None
        Of the clip's frames, seconds.
    size : tuple of int
        Width and height of the output, pixels.
    digest : str
        Of the frames before encoding: equal for equal frames, whatever the machine, segments or threads. Empty where
        a GPU encoded.
    damage, notes : tuple of str
    gaps : tuple of (float, float)
        Seconds between which the clip has no frames.
    shift : dict or None
        How far the day was found from the night.
    segments : int
        Pieces the clip was worked on in.
    seconds : float
        Of work, all pieces together.
    finished : str
        When, in UTC.
    format : int
    """

    name: str
    outputs: tuple[FileRecord, ...]
    clip: tuple[FileRecord, ...]
    day: tuple[FileRecord, ...]
    order: dict[str, Any]
    versions: dict[str, str]
    device: str
    coders: str
    frames_in: int
    frames_out: int
    first_time: float | None
    last_time: float | None
    size: tuple[int, int]
    digest: str
    damage: tuple[str, ...]
    notes: tuple[str, ...]
    gaps: tuple[tuple[float, float], ...]
    shift: dict[str, Any] | None
    segments: int
    seconds: float
    finished: str
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Return the content of its file: JSON, with its own check sum."""
        record = dataclasses.asdict(self)
        record["check"] = _check_sum(record)
        return (json.dumps(record, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If it is no manifest, of a later form, or was changed.
        """
        record = json.loads(content)
        if not isinstance(record, dict) or "check" not in record:
            raise ValueError("no manifest")
        if record.get("format") != FORMAT:
            raise ValueError(f"a manifest of form {record.get('format')}")
        if record.pop("check") != _check_sum(record):
            raise ValueError("a manifest that was changed")
        for name in ("outputs", "clip", "day"):
            record[name] = tuple(FileRecord(**file) for file in record[name])
        for name in ("damage", "notes", "size"):
            record[name] = tuple(record[name])
        record["gaps"] = tuple((start, stop) for start, stop in record["gaps"])
        return cls(**record)


def _check_sum(record: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=8).hexdigest()


def manifest_path(output: str | Path) -> Path:
    """Return where the manifest of an output lies.

    Examples
    --------
    >>> manifest_path("cam1/a-enhanced.mp4").name
    'a-enhanced.mp4.json'
    """
    path = Path(output)
    return path.with_name(path.name + ".json")


def read_manifest(output: str | Path) -> Manifest | None:
    """Read the manifest of an output.

    Parameters
    ----------
    output : path
        The output, not the manifest.

    Returns
    -------
    Manifest or None
        None if there is none.

    Raises
    ------
    DamagedInputError
        If it is damaged, or cannot be read.
    """
    path = manifest_path(output)
    try:
        content = path.read_bytes()
        # Without hard links a name is reserved first: whoever did that was killed.
        return Manifest.from_bytes(content) if content else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedInputError(
            f"{path.name}: expected a manifest, found {str(error) or type(error).__name__!r}; "
            "delete it and its output, and run the batch again"
        ) from error


def recorded(
    path: str | Path, *, name: str | None = None, tell: Callable[[], None] = lambda: None
) -> FileRecord:
    """Record a file: size, time and the hash of its content.

    Parameters
    ----------
    path : path
    name : str, optional
        The path to record; by default the absolute path.
    tell : callable
        Called now and then.

    Returns
    -------
    FileRecord

    Raises
    ------
    InputError
        If it cannot be read.
    """
    content = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                content.update(block)
                tell()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"{Path(path).name}: expected a readable file, found {reason!r}; check path and permissions"
        ) from error
    stated = os.path.abspath(path) if name is None else name
    return FileRecord(stated, facts.st_size, facts.st_mtime_ns, content.hexdigest())


def same_file(
    record: FileRecord,
    path: str | Path,
    *,
    thorough: bool = False,
    known: dict[tuple[str, int, int], str] | None = None,
    tell: Callable[[], None] = lambda: None,
) -> bool:
    """Tell whether a file is what was recorded.

    Parameters
    ----------
    record : FileRecord
    path : path
    thorough : bool
        Whether to read it all. Otherwise it is read only where its time has changed and its size has not.
    known : dict, optional
        Hashes by path, size and time, for files that are asked about again and again; is added to.
    tell : callable
        Called now and then.

    Returns
    -------
    bool
        False as well where the file is missing or cannot be read.
    """
    try:
        facts = os.stat(path)
        if facts.st_size != record.size:
            return False
        if facts.st_mtime_ns == record.mtime_ns and not thorough:
            return True
        key = (os.fspath(path), facts.st_size, facts.st_mtime_ns)
        if known is None or key not in known:
            found = recorded(path, tell=tell).hash
            if known is None:
                return found == record.hash
            known[key] = found
        return known[key] == record.hash
    except OSError:  # InputError is one
        return False


def same_inputs(
    manifest: Manifest, clip: str, day: str, known: dict[tuple[str, int, int], str] | None = None
) -> bool:
    """Tell whether the clip and the day of an output are what they were.

    Parameters
    ----------
    manifest : Manifest
    clip, day : str
        Where they are now; files may have moved since.
    known : dict, optional
        As of `same_file`.

    Returns
    -------
    bool
        What cannot be looked at any more is taken to be the same.
    """
    return all(
        _same_source(records, source, known)
        for records, source in ((manifest.clip, clip), (manifest.day, day))
    )


def same_order(manifest: Manifest, order: dict[str, Any]) -> bool:
    """Tell whether an output is what an order asks for.

    Parameters
    ----------
    manifest : Manifest
    order : dict
        As of `gpufuse.batch.orders.fingerprint`.

    Returns
    -------
    bool
        What is to be done about damage does not matter where there was none; nor what is to be done about pictures
        that change their size, where that would have been a failure.
    """
    wanted = json.loads(json.dumps(order))
    if not manifest.damage:
        wanted["on_damage"] = manifest.order.get("on_damage")
    if manifest.order.get("on_resize") == "fail":
        wanted["on_resize"] = "fail"
    return bool(manifest.order == wanted)


def _same_source(
    records: tuple[FileRecord, ...], source: str, known: dict[tuple[str, int, int], str] | None
) -> bool:
    if os.path.isfile(source):
        return len(records) == 1 and same_file(records[0], source, known=known)
    present = [record for record in records if os.path.exists(record.path)]
    return all(same_file(record, record.path, known=known) for record in present)
