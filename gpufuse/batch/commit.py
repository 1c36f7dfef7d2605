"""Giving finished work its final names: outputs first, the manifest last, and going on where a kill came between.

What is to be renamed is written down first, as ``pending-<token>.json`` in the clip's work folder. So whoever comes
next can finish it, and two processes that made the same clip cannot mix their files: each has names of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse.batch.manifest import Manifest, manifest_path, read_manifest, same_file
from gpufuse.batch.orders import Item
from gpufuse.batch.workspace import Workspace, read_record, safely, write_record
from gpufuse.errors import DamagedInputError, OutputError

__all__ = ["commit", "finish_pending", "new_token", "output_names"]


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
    """Give the outputs of a clip their names, then write its manifest, then forget its work.

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
        As of `gpufuse.batch.orders.fingerprint`; work for another order is not finished.
    overwrite : bool

    Returns
    -------
    Manifest or None
        None if there is nothing to finish.

    Raises
    ------
    OutputError
    """
    for pending in sorted(workspace.work(item).glob("pending-*.json")):
        found = _finish(workspace, item, pending, overwrite=overwrite, order=order)
        if found is not None:
            return found
        with safely(pending):
            files.remove(pending)
    return None


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
    if order is not None and json.loads(json.dumps(order)) != manifest.order:
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


def _rename(part: Path, final: Path, output: Any, *, overwrite: bool) -> None:
    if part.exists():
        if overwrite:
            files.replace(part, final)
        else:
            try:
                files.rename_new(part, final)
            except FileExistsError:
                if not same_file(output, final, thorough=True):
                    raise
                files.remove(part)
    files.flush_folder(final.parent)


def _put_manifest(written: Path, output: Path, manifest: Manifest) -> Manifest:
    """The last step: from here on the clip is done."""
    final = manifest_path(output)
    with safely(final):
        try:
            files.rename_new(written, final)
        except FileExistsError:
            other = read_manifest(output)
            if other is None or other.order != manifest.order:
                raise
            manifest = other
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
