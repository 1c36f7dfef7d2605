"""A long clip in pieces: surveyed once, its segments made anywhere and in any order, joined when all are there.

What lies in the clip's work folder is what a later run goes on with: ``survey.json``, and ``segment-00003.json`` for
each segment that is done, each written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse.batch.commit import commit, finish_pending, new_token
from gpufuse.batch.finishing import (
    begin_work,
    manifest_of,
    plate_of,
    record_inputs,
    result_file,
    write_sheet,
)
from gpufuse.batch.manifest import FileRecord, same_file
from gpufuse.batch.orders import Item, Options, fingerprint
from gpufuse.batch.plates import KeptPlate, check_inputs
from gpufuse.batch.tasks import Advance, Task
from gpufuse.batch.workspace import Workspace, read_record, safely, write_record
from gpufuse.errors import InputError
from gpufuse.fusion import temporal_reach
from gpufuse.look import Look
from gpufuse.plate import Plate, aligned_plate
from gpufuse.registration import Shift
from gpufuse.segments import SegmentReport, enhance_segment, first_look, join_segments
from gpufuse.stills import read_still, write_still
from gpufuse.survey import Segment, Survey, survey

__all__ = ["join", "make_segment", "survey_clip"]


@dataclass(frozen=True)
class _Surveyed:
    """What is known of a clip once it was surveyed: all that a segment needs.

    The key stands for everything that the frames of a segment depend on: order, clip, day and lengths of segments.
    Segments of another key are not used.
    """

    key: str
    inputs: tuple[FileRecord, ...]
    survey: Survey
    look: Look
    picture: str  # path of the plate, which lies on the night
    damage: tuple[str, ...]  # of the day
    notes: tuple[str, ...]  # on the day
    shift: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "inputs": [dataclasses.asdict(record) for record in self.inputs],
            "survey": self.survey.to_json(),
            "look": dataclasses.asdict(self.look),
            "picture": self.picture,
            "damage": list(self.damage),
            "notes": list(self.notes),
            "shift": self.shift,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> _Surveyed:
        return cls(
            record["key"],
            tuple(FileRecord(**file) for file in record["inputs"]),
            Survey.from_json(record["survey"]),
            Look(**record["look"]),
            record["picture"],
            tuple(record["damage"]),
            tuple(record["notes"]),
            record["shift"],
        )

    def plate(self, options: Options) -> Plate:
        """Read the plate."""
        shift = None if self.shift is None else Shift(**self.shift)
        return Plate(read_still(self.picture, max_pixels=options.max_pixels), self.damage, self.notes, shift)


def survey_clip(task: Task, advance: Advance) -> dict[str, Any]:
    """Survey a clip, unless an earlier run has: find its damage, plan its segments, take the first look.

    Parameters
    ----------
    task : Task
    advance : callable

    Returns
    -------
    dict
        ``segments``, ``frames`` and the numbers of the segments that are ``done``; or ``whole`` where the clip is not
        to be split; or ``finished`` where only names were left to give.

    Raises
    ------
    GpufuseError
    """
    assert task.item is not None
    item, options = task.item, task.options
    workspace = Workspace(Path(task.folder))
    order = fingerprint(item, options)
    if finish_pending(workspace, item, order, overwrite=options.overwrite) is not None:
        return {"finished": True}
    kept = plate_of(task, workspace)
    known = _known(workspace, item, options, order, kept)
    if known is None:
        known = _survey(task, workspace, order, kept, advance)
    if len(known.survey.segments) == 1:
        return {"whole": True, "notes": list(known.survey.notes)}
    segments = known.survey.segments
    done = [segment.index for segment in segments if _made(workspace, item, known, segment) is not None]
    return {
        "segments": [segment.to_json() for segment in segments],
        "frames": known.survey.frames,
        "done": done,
    }


def _known(
    workspace: Workspace, item: Item, options: Options, order: dict[str, Any], kept: KeptPlate
) -> _Surveyed | None:
    """What an earlier run has found, if nothing has changed that a segment depends on."""
    record = read_record(workspace.work(item) / "survey.json")
    if record is None:
        return None
    try:
        known = _Surveyed.from_json(record)
    except (KeyError, TypeError, ValueError):  # of another version
        return None
    if known.key != _key(order, known.inputs, kept, options):
        return None
    present = all(same_file(file, file.path) for file in known.inputs)
    return known if present and known.survey.marks.exists() and Path(known.picture).exists() else None


def _key(order: dict[str, Any], inputs: Sequence[FileRecord], kept: KeptPlate, options: Options) -> str:
    facts = [
        order,
        [record.hash for record in inputs],
        [record.hash for record in kept.inputs],
        options.segment,
        options.device,
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _survey(
    task: Task, workspace: Workspace, order: dict[str, Any], kept: KeptPlate, advance: Advance
) -> _Surveyed:
    assert task.item is not None
    item, options = task.item, task.options

    def tell() -> None:
        advance(0, None)

    inputs = record_inputs(item.clip, tell)
    begin_work(workspace, item, order)
    work = workspace.work(item)
    plate = aligned_plate(kept.load(options), item.clip, options.alignment, limits=options.limits, tell=tell)
    picture = kept.picture
    if options.register:
        picture = str(work / "plate.png")
        write_still(picture, plate.pixels, overwrite=True)
    height, width = plate.pixels.shape[:2]
    found = survey(
        item.clip,
        work / "marks",
        seconds=options.segment,
        reach=temporal_reach(item.settings, (height, width)),
        on_damage=options.on_damage,
        may_resize=options.on_resize == "scale",
        limits=options.limits,
        progress=advance,
    )
    look = first_look(
        item.clip,
        plate,
        settings=item.settings,
        device=options.device,
        on_damage=options.on_damage,
        limits=options.limits,
        tell=tell,
    )
    shift = None if plate.shift is None else dataclasses.asdict(plate.shift)
    key = _key(order, inputs, kept, options)
    known = _Surveyed(key, inputs, found, look, picture, plate.damage, plate.notes, shift)
    check_inputs(inputs)
    check_inputs(kept.inputs)
    write_record(work / "survey.json", known.to_json())
    return known


def _segment_record(workspace: Workspace, item: Item, known: _Surveyed, segment: Segment) -> Path:
    """Where a segment that is done is described."""
    return workspace.work(item) / f"segment-{segment.index:05}-{known.key}.json"


def _made(workspace: Workspace, item: Item, known: _Surveyed, segment: Segment) -> SegmentReport | None:
    """The report of a segment that is done."""
    record = read_record(_segment_record(workspace, item, known, segment))
    if record is None:
        return None
    size = record.pop("size", None)
    report = SegmentReport.from_json(record)
    try:
        return report if report.output.stat().st_size == size else None
    except OSError:
        return None


def _surveyed(task: Task, workspace: Workspace, order: dict[str, Any], kept: KeptPlate) -> _Surveyed:
    assert task.item is not None
    known = _known(workspace, task.item, task.options, order, kept)
    if known is None:
        raise InputError(
            f"{task.subject}: expected clip, day and unfinished work as they were when it was surveyed, found "
            "something changed; run the batch again"
        )
    return known


def make_segment(task: Task, advance: Advance) -> dict[str, Any]:
    """Make one segment.

    Parameters
    ----------
    task : Task
        With ``segment`` among its details.
    advance : callable

    Returns
    -------
    dict
        ``frames``.

    Raises
    ------
    GpufuseError
    """
    assert task.item is not None
    item, options = task.item, task.options
    workspace = Workspace(Path(task.folder))
    segment = Segment.from_json(task.details["segment"])
    kept = plate_of(task, workspace)
    known = _surveyed(task, workspace, fingerprint(item, options), kept)
    made = _made(workspace, item, known, segment)
    if made is not None:
        return {"frames": made.frames}
    record = _segment_record(workspace, item, known, segment)
    report = enhance_segment(
        item.clip,
        known.plate(options),
        known.survey,
        segment,
        record.with_name(f"{record.stem}-{new_token()}{Path(item.name).suffix}"),
        look=known.look,
        device=options.device,
        areas=item.areas,
        settings=item.settings,
        limits=options.limits,
        threads=task.threads or None,
        progress=advance,
    )
    write_record(record, report.to_json() | {"size": report.output.stat().st_size})
    return {"frames": report.frames}


def join(task: Task, advance: Advance) -> dict[str, Any]:
    """Join the segments of a clip, and commit it.

    Parameters
    ----------
    task : Task
    advance : callable

    Returns
    -------
    dict
        ``frames``; or ``again`` where the segments do not fit each other, and were given up.

    Raises
    ------
    GpufuseError
    """
    assert task.item is not None
    item, options = task.item, task.options
    workspace = Workspace(Path(task.folder))
    order = fingerprint(item, options)
    if finish_pending(workspace, item, order, overwrite=options.overwrite) is not None:
        return {"finished": True}
    kept = plate_of(task, workspace)
    known = _surveyed(task, workspace, order, kept)
    plate = known.plate(options)
    found = [_made(workspace, item, known, segment) for segment in known.survey.segments]
    reports = [report for report in found if report is not None]
    if len(reports) < len(found):  # the rest is kept
        return {"again": True}

    def tell() -> None:
        advance(0, None)

    with result_file(workspace, item) as result:
        try:
            joined = join_segments(known.survey, reports, result, plate=plate, tell=tell)
        except InputError:
            # One is damaged, or of another encoder than the rest: all of them are made again.
            for segment in known.survey.segments:
                path = _segment_record(workspace, item, known, segment)
                with safely(path):
                    files.remove(path)
            return {"again": True}
        check_inputs(known.inputs)
        check_inputs(kept.inputs)
        count = len(known.survey.segments)
        manifest = manifest_of(item, [result], known.inputs, kept, order, joined, segments=count, tell=tell)
        write_sheet(workspace, item, plate.pixels, result, options.limits)
        commit(workspace, item, [result], manifest, overwrite=options.overwrite)
    return {"frames": joined.frames}
