"""What earlier runs have left of a clip: done, to do, in the way, or made with other settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpufuse.batch.manifest import Manifest, manifest_path, read_manifest, same_file, same_inputs, same_order
from gpufuse.batch.orders import Item
from gpufuse.batch.workspace import Workspace, read_record
from gpufuse.errors import DamagedInputError, OutputError

__all__ = ["ClipState", "found_state"]


@dataclass(frozen=True)
class ClipState:
    """What was found.

    Attributes
    ----------
    state : {"done", "to do", "blocked", "other order"}
    manifest : Manifest or None
        Of what is done.
    error : OutputError or DamagedInputError or None
        Why it is blocked.
    difference : str
        Where the order differs: ``passes 1, not 2``.
    outdated : tuple of Path
        Files and folders of ours to be removed before it is made.
    """

    state: Literal["done", "to do", "blocked", "other order"]
    manifest: Manifest | None = None
    error: OutputError | DamagedInputError | None = None
    difference: str = ""
    outdated: tuple[Path, ...] = ()


def found_state(
    workspace: Workspace,
    item: Item,
    order: dict[str, Any],
    *,
    overwrite: bool,
    known: dict[tuple[str, int, int], str] | None = None,
) -> ClipState:
    """Find out what is left to do for a clip.

    Parameters
    ----------
    workspace : Workspace
    item : Item
    order : dict
        As of `gpufuse.batch.orders.fingerprint`.
    overwrite : bool
        Whether what was made otherwise is to be made again.
    known : dict, optional
        As of `gpufuse.batch.manifest.same_file`.

    Returns
    -------
    ClipState
        Nothing is changed by asking.
    """
    order = json.loads(json.dumps(order))
    output = workspace.output(item)
    try:
        manifest = read_manifest(output)
    except DamagedInputError as error:
        if not overwrite:
            return ClipState("blocked", error=error)
        return _begun(workspace, item, order, overwrite=True) or ClipState("to do")
    if manifest is None:
        return _without_manifest(workspace, item, order, output, overwrite=overwrite)
    if overwrite:
        same = same_order(manifest, order) and same_inputs(manifest, item.clip, item.day, known)
        if same and _outputs_are_there(workspace, manifest, known):
            return ClipState("done", manifest)
        return _begun(workspace, item, order, overwrite=True) or ClipState("to do")
    if not same_order(manifest, order):
        return ClipState("other order", difference=_difference(manifest.order, order))
    if not same_inputs(manifest, item.clip, item.day, known):
        outdated = OutputError(
            f"{item.name}: expected to be made from the clip and the day that are there now, found that they have "
            "changed since; use --overwrite, or put the old ones back"
        )
        return ClipState("blocked", error=outdated)
    present = [workspace.root / record.path for record in manifest.outputs]
    present = [path for path in present if path.exists()]
    if len(present) < len(manifest.outputs):  # removed by the user: to be made again
        return ClipState("to do", outdated=(manifest_path(output), *present))
    if not _outputs_are_there(workspace, manifest, known):
        changed = OutputError(
            f"{item.name}: expected the file that its manifest describes, found another; use --overwrite, or "
            "delete both"
        )
        return ClipState("blocked", error=changed)
    return ClipState("done", manifest)


def _without_manifest(
    workspace: Workspace, item: Item, order: dict[str, Any], output: Path, *, overwrite: bool
) -> ClipState:
    begun = _begun(workspace, item, order, overwrite=overwrite)
    if begun is not None:
        return begun
    work = workspace.work(item)
    if output.exists() and not overwrite and not any(work.glob("pending-*.json")):
        error = OutputError(
            f"{item.name}: expected a new name, found a file that this batch has not made; use another folder, "
            "or --overwrite"
        )
        return ClipState("blocked", error=error)
    return ClipState("to do")


def _begun(workspace: Workspace, item: Item, order: dict[str, Any], *, overwrite: bool) -> ClipState | None:
    """What follows from unfinished work for another order; None where there is none."""
    work = workspace.work(item)
    begun = read_record(work / "order.json")
    if begun is None or begun.get("order") == order:
        return None
    if overwrite:
        return ClipState("to do", outdated=(work,))
    return ClipState("other order", difference=_difference(begun.get("order") or {}, order))


def _outputs_are_there(
    workspace: Workspace, manifest: Manifest, known: dict[tuple[str, int, int], str] | None
) -> bool:
    return all(same_file(record, workspace.root / record.path, known=known) for record in manifest.outputs)


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name the first thing in which two orders differ."""
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            return _difference(before, now)
        return f"{name} {before}, not {now}"
    return ""
