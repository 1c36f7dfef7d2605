"""What the process of a task does: a plate, a clip, or a piece of a clip, and committing what is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gpufuse.batch.commit import commit, finish_pending
from gpufuse.batch.finishing import (
    begin_work,
    manifest_of,
    plate_of,
    record_inputs,
    result_file,
    write_sheet,
)
from gpufuse.batch.orders import Item, fingerprint
from gpufuse.batch.pieces import join, make_segment, survey_clip
from gpufuse.batch.plates import check_inputs, keep_plate
from gpufuse.batch.tasks import Advance, Task
from gpufuse.batch.workspace import Workspace
from gpufuse.device import select_device
from gpufuse.enhance import enhance
from gpufuse.video import is_still, open_clip

__all__ = ["perform"]

_LONG = 1.5
"""Segments; clips that are longer are split."""


def perform(task: Task, advance: Advance) -> dict[str, Any]:
    """Do a task.

    Parameters
    ----------
    task : Task
    advance : callable

    Returns
    -------
    dict
        For JSON; what it holds depends on the kind of work.

    Raises
    ------
    GpufuseError
    """
    works: dict[str, Callable[[Task, Advance], dict[str, Any]]] = {
        "plate": _make_plate,
        "clip": _make_clip,
        "survey": survey_clip,
        "segment": make_segment,
        "join": join,
        "device": _find_devices,
        "probe": _probe,
    }
    return works[task.work](task, advance)


def _item(task: Task) -> Item:
    assert task.item is not None
    return task.item


def _make_plate(task: Task, advance: Advance) -> dict[str, Any]:
    module = _module(task)
    workspace = Workspace(Path(task.folder))
    keep_plate(workspace, _item(task).day, task.options, lambda: advance(0, None), module)
    return {}


def _module(task: Task) -> Any:
    import numpy

    if select_device(task.options.device).name == "cpu":
        return numpy
    import cupy

    return cupy


def _find_devices(task: Task, advance: Advance) -> dict[str, Any]:
    """Which device computes, and how many there are: asked in a process of its own, for the parent stays off GPUs."""
    device = select_device(task.options.device)
    count = 0
    if device.name == "cuda":
        import cupy

        count = int(cupy.cuda.runtime.getDeviceCount())
    return {"name": device.name, "reason": device.reason, "count": count}


def _probe(task: Task, advance: Advance) -> dict[str, Any]:
    """Read the headers of some clips."""
    from gpufuse.batch.estimate import probe

    found = []
    for number, path in enumerate(task.details["paths"], start=1):
        found.append(asdict(probe(path, task.options.limits)))
        advance(number, None)
    return {"probes": found}


def _make_clip(task: Task, advance: Advance) -> dict[str, Any]:
    """Make a whole clip, unless it is long: then it has to be surveyed."""
    item, options = _item(task), task.options
    workspace = Workspace(Path(task.folder))
    order = fingerprint(item, options)
    done = finish_pending(workspace, item, order, overwrite=options.overwrite)
    if done is not None:
        return {"finished": True}
    if not task.details.get("whole") and _is_long(task):
        return {"long": True}
    inputs = record_inputs(item.clip, lambda: advance(0, None))
    begin_work(workspace, item, order)
    kept = plate_of(task, workspace)
    plate = kept.load(options)
    with result_file(workspace, item) as result:
        report = enhance(
            item.clip,
            item.day,
            result,
            device=options.device,
            areas=item.areas,
            settings=item.settings,
            overwrite=True,
            on_damage=options.on_damage,
            on_resize=options.on_resize,
            limits=options.limits,
            decoder=options.decoder,
            plate=plate,
            threads=task.threads or None,
            alignment=options.alignment,
            progress=advance,
        )
        check_inputs(inputs)
        check_inputs(kept.inputs)
        # Why it was not split, where it is long.
        more = tuple(note for note in task.details.get("notes", ()) if note not in report.notes)
        report = replace(report, notes=report.notes + more)
        parts = [result, *report.extras]
        manifest = manifest_of(item, parts, inputs, kept, order, report, tell=lambda: advance(0, None))
        write_sheet(workspace, item, plate.pixels, result, options.limits)
        commit(workspace, item, parts, manifest, overwrite=options.overwrite)
    return {"frames": report.frames}


def _is_long(task: Task) -> bool:
    item, options = _item(task), task.options
    path = Path(item.clip)
    # Stills have no length of their own; and what is split by size is not split by time.
    if options.segment is None or options.on_resize == "split" or not path.is_file() or is_still(path):
        return False
    with open_clip(path, on_damage="salvage", limits=options.limits, on_resize=options.on_resize) as clip:
        return bool(clip.frame_count_hint and clip.frame_count_hint / clip.rate > _LONG * options.segment)
