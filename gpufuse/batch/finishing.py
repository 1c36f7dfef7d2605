"""What every finished clip needs: its inputs recorded, its thumbnails, its manifest."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse._version import __version__
from gpufuse.batch.commit import output_names
from gpufuse.batch.manifest import FileRecord, Manifest, recorded, same_file
from gpufuse.batch.orders import Item
from gpufuse.batch.plates import KeptPlate, input_files
from gpufuse.batch.sheet import thumbnail_sheet
from gpufuse.batch.workspace import Workspace, safely, write_record
from gpufuse.enhance import EnhanceReport
from gpufuse.errors import DamagedInputError

__all__ = ["begin_work", "check_inputs", "manifest_of", "record_inputs", "write_sheet"]


def record_inputs(source: str, tell: Callable[[], None]) -> tuple[FileRecord, ...]:
    """Record the files of a clip."""
    return tuple(recorded(path, tell=tell) for path in input_files(source))


def check_inputs(inputs: Sequence[FileRecord]) -> None:
    """See that the clip is what it was when its hash was taken.

    Raises
    ------
    DamagedInputError
    """
    for record in inputs:
        if not same_file(record, record.path):
            raise DamagedInputError(
                f"{Path(record.path).name}: expected it to stay as it was, found that it changed while it was read; "
                "wait until it is complete, and run the batch again"
            )


def begin_work(workspace: Workspace, item: Item, order: dict[str, Any]) -> None:
    """Make the folder for the unfinished work of a clip, and say what it is for."""
    work = workspace.work(item)
    with safely(work):
        files.make_folder(work)
    if not (work / "order.json").exists():
        write_record(work / "order.json", {"order": order})


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
) -> Manifest:
    """Describe what was made."""
    names = output_names(item.name, len(parts))
    return Manifest(
        name=item.name,
        outputs=tuple(recorded(part, name=name) for part, name in zip(parts, names, strict=True)),
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
