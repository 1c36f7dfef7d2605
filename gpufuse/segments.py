"""A long clip in segments that are worked on anywhere and joined: frame for frame what the undivided job gives.

Survey the clip (`gpufuse.survey`), take the first look at its head, enhance each segment, join them. Only frames,
marks and a few numbers pass from one to the other, so each step may be a process or a machine of its own, and one
that was interrupted is done again alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from gpufuse.areas import Area, load_areas
from gpufuse.arrays import Array, to_levels, with_channels
from gpufuse.clipjob import ClipJob, JobOrder, Outcome, Progress, Stretch, room_for, sign_of_life
from gpufuse.damage import OnDamage
from gpufuse.device import Device, DeviceName, select_device
from gpufuse.digests import frames_digest
from gpufuse.enhance import EnhanceReport
from gpufuse.errors import DamagedInputError, InputError
from gpufuse.fusion import chunk_length, look_frames, measured_look, temporal_reach
from gpufuse.imagepair import AreasLike
from gpufuse.jobfiles import JobFiles
from gpufuse.joining import join_clips
from gpufuse.look import Look
from gpufuse.plate import Plate
from gpufuse.resampling import check_pair
from gpufuse.settings import Settings
from gpufuse.survey import MARK, Segment, Survey, plan_segments, read_marks, survey
from gpufuse.video import Chunk, ClipReader, Limits, open_clip

__all__ = [
    "MARK",
    "Segment",
    "SegmentReport",
    "Survey",
    "enhance_segment",
    "first_look",
    "join_segments",
    "plan_segments",
    "read_marks",
    "survey",
    "temporal_reach",
]


@dataclass(frozen=True)
class SegmentReport:
    """What was made of a segment.

    Attributes
    ----------
    index : int
        The segment's.
    output : Path
    comparison, importance : Path or None
        What else was wanted.
    frames : int
    digests : bytes
        Of its frames before they were encoded, eight for each; none where the GPU encodes.
    solver_error : float
        As of `gpufuse.enhance.EnhanceReport`, measured on the first frame that was read.
    seconds : float
        Wall-clock time.
    device : Device
    video_size : tuple of int
        Width and height of the result.
    encoder : str
        Who encoded, and why.
    notes : tuple of str
        What a user should know.
    """

    index: int
    output: Path
    comparison: Path | None
    importance: Path | None
    frames: int
    digests: bytes
    solver_error: float
    seconds: float
    device: Device
    video_size: tuple[int, int]
    encoder: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Examples
        --------
        >>> report = SegmentReport(0, Path("0.mp4"), None, None, 1, b"12345678", 0.1, 2.0, Device("cpu", ""), (4, 2))
        >>> SegmentReport.from_json(report.to_json()) == report
        True
        """
        values = dataclasses.asdict(self)
        for name in ("output", "comparison", "importance"):
            values[name] = None if values[name] is None else str(values[name])
        return values | {"digests": self.digests.hex()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SegmentReport:
        """Make a report of what `to_json` gave."""
        made = dict(values)
        for name in ("output", "comparison", "importance"):
            made[name] = None if made[name] is None else Path(made[name])
        made["digests"] = bytes.fromhex(made["digests"])
        made["device"] = Device(**made["device"])
        made["video_size"], made["notes"] = tuple(made["video_size"]), tuple(made["notes"])
        return cls(**made)


def first_look(
    night: str | Path,
    plate: Plate,
    *,
    settings: Settings | None = None,
    device: DeviceName = "auto",
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    tell: Callable[[], None] = lambda: None,
) -> Look:
    """Measure at the head of a clip what holds for all of it.

    Parameters
    ----------
    night : str or Path
    plate : Plate
    settings : Settings, optional
    device : {"auto", "cpu", "cuda"}
        As the segments will be given: a CPU and a GPU differ in the last digits.
    on_damage : {"fail", "salvage"}
    limits : Limits, optional
    tell : callable, optional
        Called now and then, as a sign of life: after each few frames.

    Returns
    -------
    Look

    Raises
    ------
    GpufuseError
        As `gpufuse.enhance.enhance`.
    """
    settings = settings or Settings()
    chosen = select_device(device)
    order = JobOrder(JobFiles(Path(), None, None, False), chosen, [], settings)
    xp = order.module
    with order.default_stream(), room_for(chosen, plate.pixels.shape):
        day = with_channels(to_levels(xp.asarray(plate.pixels), name="day"), 3)
        if look_frames(settings) == 0:
            return measured_look(day, [], settings=settings)
        with open_clip(night, on_damage=on_damage, limits=limits, module=xp) as clip:
            check_pair(plate.pixels.shape[:2], (clip.height, clip.width))
            chunks = clip.chunks(chunk_length(day.shape))
            return measured_look(day, _timeless(chunks, tell), settings=settings)


def _timeless(chunks: Iterator[Chunk], tell: Callable[[], None]) -> Iterator[tuple[Array, Array]]:
    """Frames as the fusion takes them, all at 0 s: areas are no matter of the look."""
    for chunk in chunks:
        tell()
        yield chunk.levels, numpy.zeros(len(chunk))


def enhance_segment(
    night: str | Path,
    plate: Plate,
    surveyed: Survey,
    segment: Segment,
    output: str | Path,
    *,
    look: Look,
    device: DeviceName = "auto",
    areas: AreasLike = None,
    settings: Settings | None = None,
    compare: bool = False,
    write_importance: str | Path | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    chunk: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SegmentReport:
    """Enhance one segment of a clip.

    Parameters
    ----------
    night : str or Path
        The clip that was surveyed.
    plate : Plate
        Of `gpufuse.plate.day_plate`.
    surveyed : Survey
    segment : Segment
        Of that survey, planned with a reach of at least `gpufuse.fusion.temporal_reach`.
    output : str or Path
        With the suffix that the joined clip is to have.
    look : Look
        Of `first_look`.
    device, areas, settings, compare, write_importance, overwrite, chunk, threads
        As of `gpufuse.enhance.enhance`; the same for all segments.
    limits : Limits, optional
        Of pixels; a clip's length is a matter of the survey.
    progress : callable, optional
        Called with the frames done and the frames of the segment; with 0 frames done on the way to its first one.

    Returns
    -------
    SegmentReport

    Raises
    ------
    DamagedInputError
        If the frames are not those that were surveyed.
    GpufuseError
        As `gpufuse.enhance.enhance`. Nothing is left under a final name.

    Notes
    -----
    The clip is decoded by software: checksums are of what that gives. Where the container's index leads to other
    frames than those that were surveyed, the clip is read from its start.
    """
    started = time.monotonic()
    files = JobFiles.planned(
        output,
        compare=compare,
        importance=write_importance,
        inputs=(night,),
        overwrite=overwrite,
        still=False,
    )
    loaded: list[Area] = [] if areas is None else load_areas(areas)
    order = JobOrder(files, select_device(device), loaded, settings or Settings(), chunk, threads)
    work = _SegmentWork(night, plate, surveyed, segment, look, order, limits, progress)
    notes: tuple[str, ...] = ()
    with files.all_or_none(), order.default_stream():
        try:
            outcome, encoder = work.done(segment.jump_pts)
        except DamagedInputError:
            if segment.jump_pts is None:
                raise
            outcome, encoder = work.done(None)
            notes = (
                f"{surveyed.name}: its index leads to other frames than reading it from the start; "
                f"segment {segment.index} was read from the start",
            )
    return SegmentReport(
        segment.index,
        files.result,
        files.comparison,
        files.importance,
        outcome.frames,
        outcome.digests,
        float(outcome.solver_error),
        time.monotonic() - started,
        order.device,
        outcome.video_size,
        encoder,
        notes,
    )


@dataclass(frozen=True)
class _SegmentWork:
    """One segment, to be done by jumping to it or from the start."""

    night: str | Path
    plate: Plate
    surveyed: Survey
    segment: Segment
    look: Look
    order: JobOrder
    limits: Limits | None
    progress: Progress | None

    def done(self, jump_pts: int | None) -> tuple[Outcome, str]:
        surveyed, segment = self.surveyed, self.segment
        stretch = Stretch(
            first=segment.halo_first,
            written=range(segment.first, segment.stop),
            origin=surveyed.first_pts,
            shift=surveyed.shift,
            look=self.look,
        )
        with self._opened() as clip, contextlib.ExitStack() as naming:
            frames = SurveyedFrames(clip, surveyed, segment)
            frames.go_to_start(jump_pts, tell=sign_of_life(self.progress, len(segment)))
            check_pair(self.plate.pixels.shape[:2], (clip.height, clip.width))
            job = ClipJob(frames, self.plate.pixels, self.order, naming, stretch)
            return job.run(self.progress), job.encoder

    def _opened(self) -> ClipReader:
        limits = self.limits or Limits()
        # All damage is known from the survey; whether the frames are the same is told by their checksums.
        return open_clip(
            self.night,
            on_damage="salvage",
            limits=Limits(limits.max_pixels),
            module=self.order.module,
            checksums=True,
        )


class SurveyedFrames:
    """The frames of one segment, each compared with what was surveyed.

    Parameters
    ----------
    clip : ClipReader
        Opened with ``checksums=True``; nothing has been read of it.
    surveyed : Survey
    segment : Segment

    Attributes
    ----------
    width, height, rate, time_base, sample_aspect
        As of the whole clip.
    frame_count_hint : int
        Frames that will be read.

    Raises
    ------
    DamagedInputError
        If the clip is another one.
    """

    def __init__(self, clip: ClipReader, surveyed: Survey, segment: Segment) -> None:
        self._clip, self._surveyed, self._segment = clip, surveyed, segment
        self._marks = read_marks(surveyed.marks)
        if len(self._marks) != surveyed.frames:
            raise InputError(
                f"{surveyed.marks.name}: expected {surveyed.frames} marks, found {len(self._marks)}; "
                "survey the clip again"
            )
        self.width, self.height = surveyed.width, surveyed.height
        self.rate, self.time_base = surveyed.rate, surveyed.time_base
        self.sample_aspect = surveyed.sample_aspect
        self.frame_count_hint: int | None = segment.halo_stop - segment.halo_first
        if (clip.width, clip.height, clip.time_base) != (self.width, self.height, self.time_base):
            raise self._changed(0)

    def go_to_start(self, jump_pts: int | None, *, tell: Callable[[], None] = lambda: None) -> None:
        """Have the first frame of the segment's halo come next.

        Parameters
        ----------
        jump_pts : int or None
            Where to jump to first.
        tell : callable, optional
            Called now and then, as a sign of life: after each frame that is passed.

        Raises
        ------
        DamagedInputError
            If it is not there.
        """
        passed, wanted = 0, self._segment.halo_first
        if jump_pts is not None and wanted and self._clip.jump(jump_pts):
            mark = self._clip.mark_next()
            found = wanted if mark is None else int(numpy.searchsorted(self._marks["pts"], mark.pts))
            if found >= wanted:
                raise self._changed(wanted)
            passed = found + 1
        if self._clip.skip(wanted - passed, tell=tell) < wanted - passed:
            raise self._changed(wanted)

    def chunks(self, count: Callable[[], int], /) -> Iterator[Chunk]:
        """Read the segment with its halo.

        Parameters
        ----------
        count : callable
            Tells how many frames the next chunk should have.

        Yields
        ------
        Chunk

        Raises
        ------
        DamagedInputError
            At the first frame that is not the one that was surveyed.
        """
        at, stop = self._segment.halo_first, self._segment.halo_stop
        while at < stop:
            chunk = self._clip.read_chunk(min(count(), stop - at))
            checksums = self._clip.take_checksums()
            expected = self._marks[at : at + max(1, len(chunk))]
            if chunk.pts != expected["pts"].tolist() or checksums != expected["checksum"].tolist():
                raise self._changed(at)
            yield chunk
            at += len(chunk)

    def _changed(self, frame: int) -> DamagedInputError:
        seconds = float(int(self._marks["pts"][frame]) * self.time_base)
        return DamagedInputError(
            f"{self._surveyed.name}: expected the frames that were found in it before, found others at "
            f"{seconds:.2f} s: it has changed since it was surveyed; leave it as it is and run again"
        )


def join_segments(
    surveyed: Survey,
    reports: Sequence[SegmentReport],
    output: str | Path,
    *,
    write_importance: str | Path | None = None,
    overwrite: bool = False,
    plate: Plate | None = None,
    tell: Callable[[], None] = lambda: None,
) -> EnhanceReport:
    """Join the segments of a clip.

    Parameters
    ----------
    surveyed : Survey
    reports : sequence of SegmentReport
        Of all its segments, in any order.
    output : str or Path
        With the suffix of the segments.
    write_importance : str or Path, optional
        The importance, where the segments have it.
    overwrite : bool
        Whether files that exist may be replaced.
    plate : Plate, optional
        What the segments were made with, for its notes.
    tell : callable, optional
        Called now and then, as a sign of life: after each packet.

    Returns
    -------
    EnhanceReport
        As of the undivided clip; its `seconds` are those of all segments.

    Raises
    ------
    InputError
        If a segment is missing or is not as its report says, or as `gpufuse.joining.join_clips`.
    OutputError
        If a file exists or cannot be written. Nothing is left under a final name.
    """
    started = time.monotonic()
    ordered = sorted(reports, key=lambda report: report.index)
    expected = [(segment.index, len(segment)) for segment in surveyed.segments]
    if [(report.index, report.frames) for report in ordered] != expected:
        raise InputError(
            f"{surveyed.name}: expected {len(expected)} segments of {surveyed.frames} frames, found "
            f"{len(ordered)} of {sum(report.frames for report in ordered)}; make what is missing"
        )
    compared = all(report.comparison is not None for report in ordered)
    files = JobFiles.planned(
        output, compare=compared, importance=write_importance, overwrite=overwrite, still=False
    )

    def joined(parts: list[Path | None], path: Path | None) -> None:
        if path is not None:
            join_clips(
                [part for part in parts if part is not None],
                path,
                time_base=surveyed.time_base,
                rate=surveyed.rate,
                frames=[report.frames for report in ordered],
                overwrite=overwrite,
                tell=tell,
            )

    with files.all_or_none():
        joined([report.comparison for report in ordered], files.comparison)
        joined([report.importance for report in ordered], files.importance)
        joined([report.output for report in ordered], files.result)
    digests = b"".join(report.digests for report in ordered)
    notes = (plate.notes if plate else ()) + surveyed.notes
    notes += tuple(note for report in ordered for note in report.notes)
    if surveyed.has_audio:
        notes += (f"{surveyed.name}: its sound is left out",)
    first = ordered[0]
    coders = f"decoded by software, which tells damage, encoded by {first.encoder}"
    return EnhanceReport(
        files.result,
        surveyed.frames,
        sum(report.seconds for report in ordered) + time.monotonic() - started,
        first.device,
        first.solver_error,
        files.extras,
        (plate.damage if plate else ()) + surveyed.damage,
        notes,
        coders if first.device.name == "cuda" else "",
        frames_in=surveyed.frames,
        first_time=float(surveyed.first_pts * surveyed.time_base),
        last_time=float(surveyed.last_pts * surveyed.time_base),
        gaps=surveyed.gaps,
        digest=frames_digest(digests) if digests else "",
        video_size=first.video_size,
        shift=plate.shift if plate else None,
    )
