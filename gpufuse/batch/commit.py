"""Giving finished work its final names: outputs first, the manifest last, and going on where a kill came between.

What is to be renamed is written down first, as ``pending-<token>.json`` in the clip's work folder. So whoever comes
next can finish it, and two processes that made the same clip cannot mix their files: each has names of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse.batch.manifest import (
    FileRecord,
    Manifest,
    manifest_path,
    read_manifest,
    same_file,
    same_inputs,
    same_order,
)
from gpufuse.batch.orders import Item
from gpufuse.batch.workspace import Workspace, read_record, safely, write_record
from gpufuse.errors import DamagedInputError, OutputError

__all__ = ["commit", "finish_pending", "made_already", "new_token", "output_names"]

_PATIENCE = 60.0  # seconds for another process to finish giving names


def new_token() -> str:
    """Return what tells the files of one attempt from those of another."""
    return secrets.token_hex(4)


def output_names(name: str, count: int) -> list[str]:
    """Return the names of a clip's outputs: one, or more where it was split.

    Examples
    --------
    >>> output_names("cam/a-enhanced.mp4", 2)
    ['cam/a-enhanced.mp4', 'cam/a-enhanced-2.mp4']
    """
    stem, dot, suffix = name.rpartition(".")
    return [name, *(f"{stem}-{number}{dot}{suffix}" for number in range(2, count + 1))]


def commit(
    workspace: Workspace, item: Item, parts: Sequence[Path], manifest: Manifest, *, overwrite: bool
) -> Manifest:
    """Give the outputs of a clip their names, then write its manifest.

    Parameters
    ----------
    workspace : Workspace
    item : Item
    parts : sequence of Path
        Complete files in the clip's work folder, one for each of the manifest's outputs.
    manifest : Manifest
    overwrite : bool
        Whether outputs that exist may be replaced.

    Returns
    -------
    Manifest
        The one that lies beside the output; another's, if that was quicker with the same order.

    Raises
    ------
    OutputError
    """
    work, token = workspace.work(item), new_token()
    with _alone(workspace, item):
        made = made_already(workspace, item, manifest.order)
        if made is not None:
            return made
        written = work / f"manifest-{token}.json"
        with safely(written):
            files.write_whole(written, manifest.to_bytes())
        pending = work / f"pending-{token}.json"
        write_record(pending, {"manifest": written.name, "parts": [part.name for part in parts]})
        done = _finish(workspace, item, pending, overwrite=overwrite)
    if done is None:
        raise OutputError(
            f"{item.name}: expected its finished parts, found them gone; run the batch again, one at a time"
        )
    return done


def finish_pending(
    workspace: Workspace, item: Item, order: dict[str, Any], *, overwrite: bool
) -> Manifest | None:
    """Finish what a killed process was about to: rename outputs that are complete, and write their manifest.

    Parameters
    ----------
    workspace : Workspace
    item : Item
    order : dict
        As of `gpufuse.batch.orders.fingerprint`; work for another order, or from other inputs, is not finished.
    overwrite : bool

    Returns
    -------
    Manifest or None
        Also where another process has finished all of it. None if there is nothing to finish.

    Raises
    ------
    OutputError
    """
    made = made_already(workspace, item, order)
    if made is not None or not workspace.work(item).is_dir():
        return made
    with _alone(workspace, item):
        for pending in sorted(workspace.work(item).glob("pending-*.json")):
            found = _finish(workspace, item, pending, overwrite=overwrite, order=order)
            if found is not None:
                return found
            with safely(pending):
                files.remove(pending)
    return None


def made_already(workspace: Workspace, item: Item, order: dict[str, Any]) -> Manifest | None:
    """Return the manifest of an output that is there, of this order and of the inputs that are there now.

    Parameters
    ----------
    workspace : Workspace
    item : Item
    order : dict

    Returns
    -------
    Manifest or None
    """
    try:
        manifest = read_manifest(workspace.output(item))
    except DamagedInputError:
        return None
    if manifest is None or not same_order(manifest, order):
        return None
    there = all(same_file(output, workspace.root / output.path) for output in manifest.outputs)
    return manifest if there and same_inputs(manifest, item.clip, item.day) else None


@contextlib.contextmanager
def _alone(workspace: Workspace, item: Item) -> Iterator[None]:
    """Have one process at a time give names: on a cluster a task may run twice."""
    path = workspace.work(item) / "commit.lock"
    until = time.monotonic() + _PATIENCE
    with safely(path):
        files.make_folder(path.parent)
        while True:
            try:
                lock = files.lock(path)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        try:
            yield
        finally:
            lock.close()


def _finish(
    workspace: Workspace, item: Item, pending: Path, *, overwrite: bool, order: dict[str, Any] | None = None
) -> Manifest | None:
    """Rename, or tell by None that this cannot be finished."""
    record = read_record(pending)
    if record is None:
        return None
    work = workspace.work(item)
    written = work / record["manifest"]
    try:
        manifest = Manifest.from_bytes(written.read_bytes())
    except (OSError, ValueError):
        return None
    if order is not None and not (same_order(manifest, order) and same_inputs(manifest, item.clip, item.day)):
        return None
    finals = [workspace.root / output.path for output in manifest.outputs]
    parts = [work / name for name in record["parts"]]
    for part, final, output in zip(parts, finals, manifest.outputs, strict=True):
        if not part.exists() and not same_file(output, final, thorough=True):
            return None
    if overwrite:
        _forget_old(workspace, item, keep={output.path for output in manifest.outputs})
    for part, final, output in zip(parts, finals, manifest.outputs, strict=True):
        with safely(final):
            files.make_folder(final.parent)
            _rename(part, final, output, overwrite=overwrite)
    return _put_manifest(written, workspace.output(item), manifest)


def _rename(part: Path, final: Path, output: FileRecord, *, overwrite: bool) -> None:
    if part.exists():
        if overwrite or _is_reserved(final):
            files.replace(part, final)
        else:
            try:
                files.rename_new(part, final)
            except FileExistsError:
                if not same_file(output, final, thorough=True):
                    raise
                files.remove(part)
    files.flush_folder(final.parent)


def _is_reserved(final: Path) -> bool:
    """Whether a name is there and nothing more: without hard links it is reserved first, and then a kill came."""
    try:
        return final.stat().st_size == 0
    except OSError:
        return False


def _put_manifest(written: Path, output: Path, manifest: Manifest) -> Manifest:
    """The last step: from here on the clip is done."""
    final = manifest_path(output)
    with safely(final):
        if _is_reserved(final):
            files.replace(written, final)
        else:
            files.rename_new(written, final)
        files.flush_folder(final.parent)
    return manifest


def _forget_old(workspace: Workspace, item: Item, keep: set[str]) -> None:
    """Remove the manifest that will not hold any more, and outputs that the new one does not have."""
    output = workspace.output(item)
    try:
        old = read_manifest(output)
    except DamagedInputError:
        old = None
    with safely(output):
        files.remove(manifest_path(output))
        for record in () if old is None else old.outputs:
            if record.path not in keep:
                files.remove(workspace.root / record.path)
