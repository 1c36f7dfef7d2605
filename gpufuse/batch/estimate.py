"""What a batch would take: counts read from headers, and a guess at time and disk space from a short measurement."""

from __future__ import annotations

import glob
import os
import shutil
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufuse.batch.names import natural_order, shown
from gpufuse.batch.orders import Item
from gpufuse.batch.speed import Rate
from gpufuse.clip import Limits
from gpufuse.errors import GpufuseError
from gpufuse.threads import get_threads

__all__ = ["Estimate", "Guess", "Probe", "common_size", "estimate", "plan_lines", "probe"]

_SIZE_RATIO = (0.7, 1.6, 4.6)
"""Bytes of the output for one of the input: lowest (0.75), median and highest (4.53) of ten clips of real cameras."""

_MOST_BITS = 0.45
"""Bits for each pixel of the output: the highest of the same clips. Input that has more is of a poorer codec."""

_TIME_RATIO = (0.6, 1.0, 1.9)
"""How far the work on real footage may be from the measurement: less noise or more, other programs, the disk."""


@dataclass(frozen=True)
class Probe:
    """What the header of a clip says.

    Attributes
    ----------
    frames : int or None
        None where it says nothing.
    width, height : int
        Pixels; 0 where the clip cannot be read.
    seconds : float or None
    size_bytes : int
        Of the file, or of all the stills.
    problem : str
        Why it cannot be read; empty where it can.
    """

    frames: int | None
    width: int
    height: int
    seconds: float | None
    size_bytes: int
    problem: str = ""

    @property
    def pixels(self) -> int:
        """Of one frame."""
        return self.width * self.height


def probe(path: str | Path, limits: Limits | None = None) -> Probe:
    """Read the header and the first frame of a clip or a day.

    Parameters
    ----------
    path : path
        Clip, picture, or folder or glob of stills.
    limits : Limits, optional

    Returns
    -------
    Probe
        Problems are text in it, and no exceptions.

    Examples
    --------
    >>> probe("missing.mp4").problem
    "missing.mp4: expected a file, found none at 'missing.mp4'; check the path"
    """
    from gpufuse.video import open_clip

    try:
        size = _size_of(os.fspath(path))
        with open_clip(path, on_damage="salvage", limits=limits) as clip:
            frames = clip.frame_count_hint
            seconds = None if frames is None else float(frames / clip.rate)
            return Probe(frames, clip.width, clip.height, seconds, size)
    except GpufuseError as error:
        return Probe(None, 0, 0, None, 0, " ".join(str(error).split()))
    except Exception as error:  # nothing that a file holds may end a dry run
        name = shown(os.path.basename(path))
        return Probe(
            None, 0, 0, None, 0, f"{name}: expected a readable clip, found {error!r}; look at the file"
        )


def _size_of(path: str) -> int:
    if os.path.isdir(path):
        files: Iterable[str] = (entry.path for entry in os.scandir(path))
    else:
        files = [path] if os.path.exists(path) else glob.glob(path)
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file))


@dataclass(frozen=True)
class Guess:
    """A figure that is not known: lowest, most likely and highest value."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a batch would take.

    Attributes
    ----------
    clips, done, unreadable : int
        All; those made by an earlier run; those of the rest that cannot be read.
    to_do : int
        The rest.
    frames : int
        Of the clips to do, as far as their headers say.
    uncounted : int
        Clips to do of which the header does not say how many frames they have; time and space for them are guessed
        from their bytes.
    footage : float
        Seconds, as far as known.
    input_bytes : int
        Of the clips to do.
    output_bytes : Guess
    work_seconds : Guess or None
        None where no rate was measured.
    free_bytes : int
        Of the disk that the batch's folder is on.
    workers : int
    rate : Rate or None
    problems : tuple of str
        Why clips cannot be read.
    """

    clips: int
    done: int
    unreadable: int
    to_do: int
    frames: int
    uncounted: int
    footage: float
    input_bytes: int
    output_bytes: Guess
    work_seconds: Guess | None
    free_bytes: int
    workers: int
    rate: Rate | None
    problems: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the highest guess."""
        return self.output_bytes.high <= self.free_bytes

    def lines(self) -> list[str]:
        """Return what to tell the user, one figure a line."""
        space = self.output_bytes
        told = [
            f"clips: {self.clips}",
            f"done already: {self.done}",
            f"cannot be read: {self.unreadable}",
            f"to do: {self.to_do}",
            f"frames to do: {self.frames}{self._uncounted()}",
            f"footage to do: {_duration(self.footage)}{self._uncounted()}",
            f"input to do: {_bytes(self.input_bytes)}",
            f"output, guessed: {_bytes(space.middle)} ({_bytes(space.low)} to {_bytes(space.high)}); it depends on "
            "the footage",
            f"free on the disk: {_bytes(self.free_bytes)}"
            + ("" if self.fits else ", which may not be enough"),
        ]
        if self.work_seconds is not None and self.rate is not None:
            work, rate = self.work_seconds, self.rate
            told.append(
                f"time, guessed: {_duration(work.middle)} ({_duration(work.low)} to {_duration(work.high)}) with "
                f"{self.workers} worker{'s' * (self.workers != 1)}; measured here on made-up footage of "
                f"{rate.width}x{rate.height}, {rate.nanoseconds:.0f} ns a pixel and {rate.start:.1f} s a clip"
            )
        return told + [f"cannot be read: {problem}" for problem in self.problems]

    def _uncounted(self) -> str:
        return f", and {self.uncounted} clips that do not say" if self.uncounted else ""


def common_size(items: Sequence[Item], probes: Mapping[str, Probe]) -> tuple[int, int] | None:
    """Return the width and height that most of the work is of; None if nothing can be read.

    Parameters
    ----------
    items : sequence of Item
    probes : mapping of str to Probe
        As of `estimate`.
    """
    shares: dict[tuple[int, int], int] = {}
    for item in items:
        clip = probes.get(item.clip)
        if clip is not None and clip.pixels:
            result = _result(item, probes)
            shares[result] = shares.get(result, 0) + (clip.frames or 1) * result[0] * result[1]
    return max(shares, key=lambda size: shares[size]) if shares else None


def _result(item: Item, probes: Mapping[str, Probe]) -> tuple[int, int]:
    """Size of the output: that of the day, where it is larger."""
    clip, day = probes[item.clip], probes.get(item.day)
    larger = clip if day is None or day.pixels <= clip.pixels else day
    return larger.width, larger.height


def estimate(
    items: Sequence[Item],
    probes: Mapping[str, Probe],
    *,
    folder: str | Path,
    done: Collection[str] = (),
    workers: int = 1,
    rate: Rate | None = None,
    cores: int | None = None,
) -> Estimate:
    """Estimate what a batch takes.

    Parameters
    ----------
    items : sequence of Item
    probes : mapping of str to Probe
        By the paths of clips; those of the days too, where the day may be larger than the night. A clip to do that is
        not in it counts as one that cannot be read.
    folder : path
        The batch's own folder, which need not exist.
    done : collection of str
        Names of the outputs that an earlier run has made.
    workers : int
    rate : Rate, optional
        As `gpufuse.batch.speed.measured_rate` gives; no time is told without.
    cores : int, optional
        Cores that the workers share; by default those of this process.

    Returns
    -------
    Estimate
    """
    finished = set(done)
    waiting = [item for item in items if item.name not in finished]
    none = Probe(None, 0, 0, None, 0, "not looked at")
    problems = [
        problem if (problem := probes.get(item.clip, none).problem) else ""
        for item in waiting
        if not probes.get(item.clip, none).pixels
    ]
    known = [item for item in waiting if probes.get(item.clip, none).pixels]
    clips = [probes[item.clip] for item in known]
    counts = _frame_counts(clips)
    work = 0.0  # pixels of output
    space = [0.0, 0.0, 0.0]
    for item, clip, count in zip(known, clips, counts, strict=True):
        width, height = _result(item, probes)
        pixels = width * height * count
        work += pixels
        larger = width * height / clip.pixels
        for index, ratio in enumerate(_SIZE_RATIO):
            size = clip.size_bytes * ratio * larger
            space[index] += min(size, pixels * _MOST_BITS / 8) if pixels else size
    return Estimate(
        clips=len(items),
        done=len(items) - len(waiting),
        unreadable=len(problems),
        to_do=len(known),
        frames=sum(clip.frames or 0 for clip in clips),
        uncounted=sum(clip.frames is None for clip in clips),
        footage=sum(clip.seconds or 0.0 for clip in clips),
        input_bytes=sum(clip.size_bytes for clip in clips),
        output_bytes=Guess(*space),
        work_seconds=None if rate is None else _time(rate, work, len(known), workers, cores or get_threads()),
        free_bytes=_free(Path(folder)),
        workers=workers,
        rate=rate,
        problems=tuple(problems),
    )


def _frame_counts(clips: Sequence[Probe]) -> list[float]:
    """Frames of each clip; where a header does not say, as many as its bytes make in the other clips."""
    counted = [clip for clip in clips if clip.frames]
    density = [clip.size_bytes / (clip.pixels * clip.frames) for clip in counted if clip.frames]
    usual = statistics.median(density) if density else 0.0
    guessed = [clip.size_bytes / (clip.pixels * usual) if usual else 0.0 for clip in clips]
    return [float(clip.frames or guess) for clip, guess in zip(clips, guessed, strict=True)]


def _time(rate: Rate, pixels: float, clips: int, workers: int, cores: int) -> Guess:
    """Workers work side by side until the cores are all busy."""
    busy = min(workers, max(1, clips))
    wall = (pixels * rate.nanoseconds * 1e-9 + clips * rate.start) / busy
    processor = (pixels * rate.processor_nanoseconds * 1e-9 + clips * rate.processor_start) / cores
    middle = max(wall, processor)
    low, _, high = _TIME_RATIO
    return Guess(low * middle, middle, high * middle)


def _free(folder: Path) -> int:
    for path in (folder.absolute(), *folder.absolute().parents):
        if path.is_dir():
            return shutil.disk_usage(path).free
    return 0


def plan_lines(items: Sequence[Item], probes: Mapping[str, Probe], done: Collection[str] = ()) -> list[str]:
    """Return a table of what would be done: a line for each camera and day.

    Parameters
    ----------
    items : sequence of Item
    probes : mapping of str to Probe
    done : collection of str
        As of `estimate`.

    Returns
    -------
    list of str
        The heading first.

    Examples
    --------
    >>> item = Item("cam1/a-enhanced.mp4", "/cam1/a.mp4", "/days/cam1.png", camera="cam1")
    >>> for line in plan_lines([item], {"/cam1/a.mp4": Probe(250, 320, 240, 10.0, 1000)}):
    ...     print(line)
    camera  clips  done  frames  size     day
    cam1        1     0     250  320x240  /days/cam1.png
    """
    finished = set(done)
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.camera, item.day), []).append(item)
    rows = [("camera", "clips", "done", "frames", "size", "day")]
    for (camera, day), group in sorted(groups.items(), key=lambda each: natural_order("/".join(each[0]))):
        known = [probes[item.clip] for item in group if item.clip in probes and probes[item.clip].pixels]
        sizes = sorted({(clip.width, clip.height) for clip in known})
        frames = sum(clip.frames or 0 for clip in known)
        exact = len(known) == len(group) and all(clip.frames for clip in known)
        rows.append(
            (
                shown(camera) or "-",
                str(len(group)),
                str(sum(item.name in finished for item in group)),
                f"{frames}{'' if exact else '+'}",
                ", ".join(f"{width}x{height}" for width, height in sizes) or "?",
                shown(day),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if column in (1, 2, 3) else cell.ljust(width)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.4g} TB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
