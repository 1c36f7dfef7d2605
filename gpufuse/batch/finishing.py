"""What every finished clip needs: its inputs recorded, its thumbnails, its manifest."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse._version import __version__
from gpufuse.batch.commit import new_token, output_names
from gpufuse.batch.manifest import FileRecord, Manifest, recorded
from gpufuse.batch.orders import Item
from gpufuse.batch.plates import KeptPlate, input_files, recorded_plate
from gpufuse.batch.sheet import thumbnail_sheet
from gpufuse.batch.tasks import Task
from gpufuse.batch.workspace import Workspace, read_record, safely, write_record
from gpufuse.enhance import EnhanceReport
from gpufuse.errors import InputError

__all__ = ["begin_work", "manifest_of", "plate_of", "record_inputs", "result_file", "write_sheet"]


def record_inputs(source: str, tell: Callable[[], None]) -> tuple[FileRecord, ...]:
    """Record the files of a clip."""
    return tuple(recorded(path, tell=tell) for path in input_files(source))


def begin_work(workspace: Workspace, item: Item, order: dict[str, Any]) -> None:
    """Make the folder for the unfinished work of a clip, and say what it is for."""
    work = workspace.work(item)
    with safely(work):
        files.make_folder(work)
    begun = read_record(work / "order.json")
    if begun is None or begun.get("order") != json.loads(json.dumps(order)):
        write_record(work / "order.json", {"order": order})


def plate_of(task: Task, workspace: Workspace) -> KeptPlate:
    """Return the plate that a task is to use.

    Raises
    ------
    InputError
        If it is gone.
    """
    assert task.item is not None
    kept = recorded_plate(workspace, task.item.day, task.options)
    if kept is None:
        raise InputError(
            f"{Path(task.item.day).name}: expected its plate in the batch's folder, found none; run the batch again"
        )
    return kept


@contextlib.contextmanager
def result_file(workspace: Workspace, item: Item) -> Iterator[Path]:
    """Yield a name for a clip's result in its work folder; what is left of it after an error is removed."""
    path = workspace.work(item) / f"result-{new_token()}{Path(item.name).suffix}"
    try:
        yield path
    except BaseException:
        for part in path.parent.glob(f"{path.stem}*"):
            with contextlib.suppress(OSError):
                files.remove(part)
        raise


def write_sheet(workspace: Workspace, item: Item, plate: Any, result: Path, limits: Any) -> None:
    """Write the thumbnails of a clip."""
    path = workspace.sheet(item.name)
    with safely(path):
        files.write_whole(path, thumbnail_sheet(item.clip, plate, result, limits=limits), overwrite=True)


def manifest_of(
    item: Item,
    parts: Sequence[Path],
    inputs: tuple[FileRecord, ...],
    plate: KeptPlate,
    order: dict[str, Any],
    report: EnhanceReport,
    *,
    segments: int = 1,
    tell: Callable[[], None] = lambda: None,
) -> Manifest:
    """Describe what was made; `tell` is called now and then while it is hashed."""
    names = output_names(item.name, len(parts))
    return Manifest(
        name=item.name,
        outputs=tuple(recorded(part, name=name, tell=tell) for part, name in zip(parts, names, strict=True)),
        clip=inputs,
        day=plate.inputs,
        order=order,
        versions=_versions(),
        device=report.device.name,
        coders=report.coders,
        frames_in=report.frames_in,
        frames_out=report.frames,
        first_time=report.first_time,
        last_time=report.last_time,
        size=report.video_size or (0, 0),
        digest=report.digest,
        damage=report.damage,
        notes=report.notes,
        gaps=report.gaps,
        shift=None if report.shift is None else _without_nan(asdict(report.shift)),
        segments=segments,
        seconds=round(report.seconds, 3),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no nan."""
    return {name: None if value != value else value for name, value in record.items()}


def _versions() -> dict[str, str]:
    import av

    found = {"gpufuse": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "scipy", "av"):
        found[name] = metadata.version(name)
    found["libavcodec"] = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return found
