"""What a night clip holds, found out before anything is computed; and how it is cut into segments.

A survey decodes the whole clip once. So all its damage is known first, and every frame has a mark: its time, whether
decoding may start there, and a checksum by which whoever reads a piece of the clip later knows that it is the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy

from gpufuse import files
from gpufuse.camerawatch import CameraWatch
from gpufuse.clip import OnResize
from gpufuse.damage import FrameTimes, OnDamage
from gpufuse.errors import ConfigError, DamagedInputError, InputError
from gpufuse.output import OutputFile
from gpufuse.video import ClipReader, Limits, open_clip

__all__ = ["MARK", "Segment", "Survey", "plan_segments", "read_marks", "survey"]

MARK = numpy.dtype([("pts", "<i8"), ("checksum", "<u4"), ("key", "u1")])
"""One frame in a file of marks."""

_WRITTEN_TOGETHER = 4096  # marks

# How often it is seen whether the camera has moved, and in how many frames.
_LOOK_SECONDS, _LOOK_FRAMES = 2.0, 4

_MOST_DECODED = 4  # times a clip, only to get to its segments

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Segment:
    """Some successive frames of a clip, and those around them that they depend on.

    Attributes
    ----------
    index : int
        Number of the segment, from 0.
    first, stop : int
        The frames ``first .. stop - 1`` are its own.
    halo_first, halo_stop : int
        The frames ``halo_first .. halo_stop - 1`` are read.
    jump_pts : int or None
        Time of a key frame from which to read; None: from the start of the clip. There is another key frame between
        it and `halo_first`: pictures right after a jump may build on what was jumped over.
    """

    index: int
    first: int
    stop: int
    halo_first: int
    halo_stop: int
    jump_pts: int | None

    def __len__(self) -> int:
        """Return the number of its own frames."""
        return self.stop - self.first

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Examples
        --------
        >>> segment = Segment(1, 100, 200, 90, 209, 51200)
        >>> Segment.from_json(segment.to_json()) == segment
        True
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Segment:
        """Make a segment of what `to_json` gave."""
        return cls(**values)


@dataclass(frozen=True)
class Survey:
    """What a clip holds.

    Attributes
    ----------
    name : str
        The clip's.
    marks : Path
        File of its marks, one `MARK` a frame; see `read_marks`.
    frames : int
        All that can be read.
    first_pts, last_pts : int
        Times of the first and the last frame, in units of `time_base`.
    time_base, rate, sample_aspect : Fraction
        As of `gpufuse.video.ClipReader`.
    width, height : int
        Of the upright pictures.
    has_audio : bool
    segments : tuple of Segment
        Only one where the clip should not be split; `notes` say why.
    damage : tuple of str
        With ``on_damage="salvage"``: what is wrong with the clip.
    notes : tuple of str
        What a user should know.
    gaps : tuple of (float, float)
        Times between which frames seem to be missing, in seconds; as of `gpufuse.enhance.EnhanceReport`.
    """

    name: str
    marks: Path
    frames: int
    first_pts: int
    last_pts: int
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction
    width: int
    height: int
    has_audio: bool
    segments: tuple[Segment, ...]
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()

    @property
    def shift(self) -> int:
        """What is added to all times of the result: no container holds times below 0."""
        return max(0, -self.first_pts)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; fractions as text."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in values.items():
            if isinstance(value, Fraction | Path):
                values[name] = str(value)
        values["segments"] = [segment.to_json() for segment in self.segments]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Survey:
        """Make a survey of what `to_json` gave, exactly."""
        made = dict(values)
        for name in ("time_base", "rate", "sample_aspect"):
            made[name] = Fraction(made[name])
        made["marks"] = Path(made["marks"])
        made["segments"] = tuple(Segment.from_json(segment) for segment in made["segments"])
        made["damage"], made["notes"] = tuple(made["damage"]), tuple(made["notes"])
        made["gaps"] = tuple((start, stop) for start, stop in made["gaps"])
        return cls(**made)


def survey(
    night: str | Path,
    marks: str | Path,
    *,
    seconds: float | None = None,
    reach: tuple[int, int] = (0, 0),
    on_damage: OnDamage = "fail",
    may_resize: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Decode a whole clip once, and compute nothing but whether the camera moves.

    Parameters
    ----------
    night : str or Path
    marks : str or Path
        File for the marks of all frames; it is replaced if it exists, and complete when it has its name.
    seconds : float, optional
        About how long a segment is to be; None: the clip is one segment. So is one whose index does not lead into it,
        or that has too few key frames: each segment would be decoded from the start.
    reach : (int, int)
        Frames before and after a frame that its result depends on: `gpufuse.fusion.temporal_reach`.
    on_damage : {"fail", "salvage"}
        A clip that is damaged is not split.
    may_resize : bool
        Whether the size of the pictures may change; such a clip is not split either.
    limits : Limits, optional
    progress : callable, optional
        Called with the frames done and the frames expected.

    Returns
    -------
    Survey

    Raises
    ------
    InputError, DamagedInputError, LimitError
        As `gpufuse.video.open_clip` and reading to the end.
    OutputError
        If the marks cannot be written.
    ConfigError
        If `seconds` is not positive.
    """
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"segment: expected more than 0 s, got {seconds:g}; give a longer one")
    on_resize: OnResize = "split" if may_resize else "fail"
    with open_clip(night, on_damage=on_damage, limits=limits, on_resize=on_resize, checksums=True) as clip:
        size = (clip.width, clip.height)
        resized = False
        with OutputFile(marks, overwrite=True) as output, files.written(output.part) as file:
            marking = _Marking(clip, file, progress)
            marking.run()
            moved, gaps = marking.notes, marking.gaps
            while may_resize and clip.next_part():
                resized = True
                _Marking(clip, file, progress).run()
    known = read_marks(marks)
    notes = list(clip.notes) + moved
    reason = "it is damaged" if clip.damage else ("the size of its pictures changes" if resized else "")
    if reason and seconds is not None:
        notes.append(f"{clip.name}: {reason}, so it is not split into segments")
    planned = plan_segments(known, clip.time_base, None if reason else seconds, reach)
    tell = (lambda: None) if progress is None else lambda: progress(len(known), None)
    if not (_are_near(planned, known) and _leads_to(planned[-1], night, known, limits, tell)):
        notes.append(f"{clip.name}: its index does not lead into the clip; it is worked on in one piece")
        planned = plan_segments(known, clip.time_base, None, reach)
    return Survey(
        clip.name,
        Path(marks),
        len(known),
        int(known["pts"][0]),
        int(known["pts"][-1]),
        clip.time_base,
        clip.rate,
        clip.sample_aspect,
        *size,
        clip.has_audio,
        tuple(planned),
        tuple(clip.damage),
        tuple(notes),
        gaps,
    )


def _are_near(planned: list[Segment], marks: numpy.ndarray) -> bool:
    """Whether few frames have to be decoded before those of the segments: else the work grows as its square."""
    passed = 0
    for segment in planned[1:]:
        if segment.jump_pts is None and segment.halo_first > planned[0].stop:
            return False
        jump = 0 if segment.jump_pts is None else int(numpy.searchsorted(marks["pts"], segment.jump_pts))
        passed += segment.halo_first - jump
    return passed <= _MOST_DECODED * len(marks)


def _leads_to(
    segment: Segment,
    night: str | Path,
    marks: numpy.ndarray,
    limits: Limits | None,
    tell: Callable[[], None],
) -> bool:
    """Whether a jump gets to the first frame that is read of a segment; true where none is needed."""
    if segment.jump_pts is None:
        return True
    wanted = marks[segment.halo_first]
    pixels = Limits((limits or Limits()).max_pixels)
    try:
        with open_clip(night, on_damage="salvage", limits=pixels) as clip:
            mark = clip.mark_next() if clip.jump(segment.jump_pts) else None
            if mark is None or mark.pts >= wanted["pts"]:  # too far on
                return False
            while mark is not None and mark.pts < wanted["pts"]:
                tell()
                mark = clip.mark_next()
    except DamagedInputError:
        return False
    return mark is not None and (mark.pts, mark.checksum) == (wanted["pts"], wanted["checksum"])


class _Marking:
    """Passes all frames of a clip and writes their marks; some are looked at, to see whether the camera moves."""

    def __init__(self, clip: ClipReader, file: files.WrittenFile, progress: Progress | None) -> None:
        self._clip, self._file, self._progress = clip, file, progress
        self._waiting: list[tuple[int, int, bool]] = []
        self._watch = CameraWatch(clip.name, interval=_LOOK_SECONDS, frames=_LOOK_FRAMES)
        self._looked = -math.inf  # time of the last look
        self._times = FrameTimes(clip.time_base)

    @property
    def notes(self) -> list[str]:
        return self._watch.notes

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """In seconds, where times are regular."""
        clock = self._clip.time_base
        found = self._times.gaps() if self._times.regular else []
        return tuple((float(start * clock), float(stop * clock)) for start, stop in found)

    def run(self) -> None:
        """Go to the end of the clip, or of its pictures of one size."""
        while (mark := self._clip.mark_next()) is not None:
            self._add(mark.pts, mark.checksum, mark.key)
            since = self._seconds(mark.pts) - self._looked
            # Right after a key frame: of a frame that is looked at, nobody tells whether it is one.
            if (mark.key and since >= _LOOK_SECONDS) or since >= 2 * _LOOK_SECONDS:
                self._look()
        self._write()

    def _look(self) -> None:
        for index in range(_LOOK_FRAMES):
            chunk = self._clip.read_chunk(1)
            if not len(chunk):
                return
            seconds = self._seconds(chunk.pts[0])
            self._looked = seconds if index == 0 else self._looked
            self._watch.see(chunk.levels[0], seconds)
            (checksum,) = self._clip.take_checksums()
            self._add(chunk.pts[0], checksum, False)

    def _seconds(self, pts: int) -> float:
        """Time since the first frame."""
        first = pts if self._times.first is None else self._times.first
        return float((pts - first) * self._clip.time_base)

    def _add(self, pts: int, checksum: int, key: bool) -> None:
        self._times.add(pts)
        self._waiting.append((pts, checksum, key))
        if len(self._waiting) == _WRITTEN_TOGETHER:
            self._write()
        if self._progress is not None:
            self._progress(self._clip.frames_read, self._clip.frame_count_hint)

    def _write(self) -> None:
        self._file.write(numpy.array(self._waiting, MARK).tobytes())
        self._waiting.clear()


def read_marks(path: str | Path) -> numpy.ndarray:
    """Open a file of marks.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ndarray, shape (T,), of dtype `MARK`
        On the disk: only what is looked at is read.

    Raises
    ------
    InputError
        If there is none, or it is no such file.
    """
    try:
        return numpy.memmap(path, MARK, "r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{Path(path).name}: expected marks of a survey, found '{reason}'; survey the clip again"
        ) from error


def plan_segments(
    marks: numpy.ndarray, time_base: Fraction, seconds: float | None, reach: tuple[int, int]
) -> list[Segment]:
    """Cut a clip by time.

    Parameters
    ----------
    marks : ndarray, shape (T,), of dtype `MARK`
        Of all frames of the clip.
    time_base : Fraction
        Unit of their times in seconds.
    seconds : float or None
        About how long a segment is to be; a last one of less than half of that joins the one before. None: all.
    reach : (int, int)
        As of `survey`.

    Returns
    -------
    list of Segment
        Together all frames, each once.

    Examples
    --------
    >>> marks = numpy.array([(40 * k, 0, k % 10 == 0) for k in range(60)], MARK)
    >>> for segment in plan_segments(marks, Fraction(1, 1000), 1.0, (4, 3)):
    ...     print(segment)
    Segment(index=0, first=0, stop=25, halo_first=0, halo_stop=28, jump_pts=None)
    Segment(index=1, first=25, stop=60, halo_first=21, halo_stop=60, jump_pts=400)
    """
    times, count = marks["pts"], len(marks)
    edges = [0, count]
    if seconds is not None:
        step = Fraction(seconds) / time_base
        pieces = int((int(times[-1]) - int(times[0])) / step) + 1
        wanted = [int(times[0]) + round(k * step) for k in range(1, pieces)]
        edges = sorted({0, *numpy.searchsorted(times, wanted).tolist(), count})
        if len(edges) > 2 and int(times[-1]) - int(times[edges[-2]]) < step / 2:
            del edges[-2]
    keys = numpy.flatnonzero(marks["key"])
    segments = []
    for index, (first, stop) in enumerate(itertools.pairwise(edges)):
        halo_first = max(0, first - reach[0])
        # The second last key frame: what follows the last one may be shown before it, and build on what precedes it.
        before = int(numpy.searchsorted(keys, halo_first, side="right")) - 2
        jump = int(times[keys[before]]) if before > 0 else None
        segments.append(Segment(index, first, stop, halo_first, min(count, stop + reach[1]), jump))
    return segments
