"""One job from files to files: a night clip, still or folder of stills and its day to the enhanced clip.

Reading, computing and writing overlap in three threads; what is made appears under its name only when
all of it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy

from gpufuse import files as disk
from gpufuse.alignment import Alignment, CameraWatch
from gpufuse.areas import load_areas
from gpufuse.arrays import to_host
from gpufuse.clip import OnResize
from gpufuse.clipjob import ClipJob, JobOrder, Outcome, Progress, Stretch, room_for, sign_of_life
from gpufuse.damage import OnDamage
from gpufuse.device import Device, DeviceName, select_device
from gpufuse.digests import frames_digest
from gpufuse.errors import ConfigError, DeviceError
from gpufuse.hardware import nvdec_obstacle
from gpufuse.imagepair import AreasLike
from gpufuse.jobfiles import JobFiles
from gpufuse.pictures import fused_pair
from gpufuse.plate import FEWEST_SECONDS, FEWEST_STILLS, PLATE_SECONDS, Plate, aligned_plate, day_plate
from gpufuse.registration import Shift
from gpufuse.report import side_by_side
from gpufuse.resampling import check_pair
from gpufuse.settings import Settings
from gpufuse.video import ClipReader, Decoder, Limits, is_still, open_clip, read_still, write_still

__all__ = [
    "FEWEST_SECONDS",
    "FEWEST_STILLS",
    "PLATE_SECONDS",
    "EnhanceReport",
    "OnResize",
    "Plate",
    "aligned_plate",
    "day_plate",
    "default_output",
    "enhance",
]


@dataclass(frozen=True)
class EnhanceReport:
    """What a job did.

    Attributes
    ----------
    output : Path
        The enhanced clip or still.
    extras : tuple of Path
        Comparison and importance, where wanted; and the clips of the parts after the first, where a clip was split.
    frames : int
        Written, in all parts.
    seconds : float
        Wall-clock time, reading and writing included.
    device : Device
    solver_error : float
        Largest distance from the direct solution on the first frame, grey levels; nan where not measured.
    coders : str
        Where a GPU computes: what decoded and what encoded, and why.
    damage : tuple of str
        What was wrong with the input, where it was salvaged.
    notes : tuple of str
        What a user should know.
    frames_in : int
        Read.
    first_time, last_time : float or None
        Of the first and the last frame, in seconds of the night clip; None for a still.
    gaps : tuple of (float, float)
        Times between which frames seem to be missing, in seconds of the clip: the hundred longest, where frames come
        at regular times.
    digest : str
        Of all frames before they were encoded (`gpufuse.digests.frames_digest`); empty where it is not known: for
        stills, and where the GPU encodes.
    video_size : tuple of int or None
        Width and height of the result.
    shift : Shift or None
        How the day lay on the night; None where nobody has looked.
    """

    output: Path
    frames: int
    seconds: float
    device: Device
    solver_error: float
    extras: tuple[Path, ...] = ()
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    coders: str = ""
    frames_in: int = 0
    first_time: float | None = None
    last_time: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    digest: str = ""
    video_size: tuple[int, int] | None = None
    shift: Shift | None = None

    def summary(self) -> str:
        """Return one line for the user.

        Examples
        --------
        >>> EnhanceReport(Path("out.mp4"), 250, 5.0, Device("cpu", ""), 0.04).summary()
        'out.mp4: 250 frames, 50.0 frames/s on cpu, solver within 0.04 level, no damage'
        """
        coders = f" ({self.coders})" if self.coders else ""
        speed = self.frames / self.seconds if self.seconds > 0 else 0.0
        solver = "" if numpy.isnan(self.solver_error) else f"solver within {self.solver_error:.2f} level, "
        kinds = f"{len(self.damage)} kind{'s' * (len(self.damage) != 1)} of damage"
        damage = kinds if self.damage else "no damage"
        return (
            f"{self.output}: {self.frames} frame{'s' * (self.frames != 1)}, {speed:.1f} frames/s "
            f"on {self.device.name}{coders}, {solver}{damage}"
        )


def default_output(night: str | Path) -> Path:
    """Name of the result where none is given: beside the input.

    Parameters
    ----------
    night : str or Path
        Clip, folder or glob of stills, or one still.

    Returns
    -------
    Path
        ``<stem>-enhanced.mp4``, or ``.png`` for one still.

    Examples
    --------
    >>> default_output("cams/night.mp4").as_posix()
    'cams/night-enhanced.mp4'
    """
    path = Path(night)
    if path.is_dir():
        path = path.resolve()  # or ".." would have no name
        return path.with_name(f"{path.name}-enhanced.mp4")
    if not path.exists() and glob.has_magic(str(path)):
        while glob.has_magic(str(path)):
            path = path.parent
        return path / f"{path.resolve().name}-enhanced.mp4"
    suffix = ".png" if path.is_file() and is_still(path) else ".mp4"
    return path.with_name(f"{path.stem}-enhanced{suffix}")


def enhance(
    night: str | Path,
    day: str | Path | None,
    output: str | Path | None = None,
    *,
    device: DeviceName = "auto",
    areas: AreasLike = None,
    settings: Settings | None = None,
    compare: bool = False,
    write_importance: str | Path | None = None,
    overwrite: bool = False,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    chunk: int | None = None,
    decoder: Decoder = "software",
    on_resize: OnResize = "fail",
    plate: Plate | None = None,
    alignment: Alignment | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> EnhanceReport:
    """Enhance a night clip, a folder or glob of night stills, or one night still.

    Parameters
    ----------
    night : str or Path
    day : str or Path or None
        Still or clip of the same view; None where a plate is given.
    output : str or Path, optional
        By default `default_output`. A clip ends in .mp4, .m4v, .mov or .mkv, a still in .png, .jpg or .tif.
    device : {"auto", "cpu", "cuda"}
    areas : path or list, optional
        User areas.
    settings : Settings, optional
    compare : bool
        Also write day, night, importance and result side by side, as ``<output stem>-compare``.
    write_importance : str or Path, optional
        Also write the importance: a picture for a still, a clip for a clip.
    overwrite : bool
        Whether files that exist may be replaced.
    on_damage : {"fail", "salvage"}
        ``salvage`` works on the readable part and lists the damage.
    limits : Limits, optional
    chunk : int, optional
        Frames that are worked on together; the result does not depend on it.
    decoder : {"software", "nvdec"}
        ``nvdec`` lets the GPU that computes decode the night clip into its own memory, where it can. That
        spares the CPU, but damage inside pictures goes unnoticed: NVDEC does not tell of it.
    on_resize : {"fail", "split", "scale"}
        Where the size of the pictures changes: raise; go on in a clip of its own, ``<output stem>-2`` and so on,
        whose noise is measured anew; or scale to the first size. Areas are in pixels of the first size.
    plate : Plate, optional
        What `day_plate` has made already, in place of `day`.
    alignment : Alignment, optional
        What to do about a day that lies beside the night. A plate that `gpufuse.plate.aligned_plate` made is not
        looked at again.
    threads : int, optional
        Of the encoder; by default as many as it finds useful.
    progress : callable, optional
        Called with the frames done and the frames expected; with 0 frames done while the day is made and looked at.
    tell : callable, optional
        Called with a line on the device, once the inputs are found good enough to begin.

    Returns
    -------
    EnhanceReport

    Raises
    ------
    GpufuseError
        One of its classes, each with a line that says what to do. Nothing is left under a final name.
    """
    started = time.monotonic()
    settings = settings or Settings()
    _check_choices(chunk, decoder, on_resize)
    if day is None and plate is None:
        raise ConfigError("day: expected a picture, a clip or a plate, got none; name one")
    chosen = select_device(device)
    if decoder == "nvdec":
        _check_nvdec(chosen)
    still = Path(night).is_file() and is_still(night)
    files = JobFiles.planned(
        default_output(night) if output is None else output,
        compare=compare,
        importance=write_importance,
        inputs=(night,) if day is None else (night, day),
        overwrite=overwrite,
        still=still,
    )
    order = JobOrder(files, chosen, [] if areas is None else load_areas(areas), settings, chunk, threads)
    task = _Task(night, day, plate, order, alignment, on_damage, on_resize, limits, decoder, started)
    made: list[Path] = []
    with files.all_or_none(), _removed_on_failure(made), order.default_stream():
        if still:
            return _enhance_still(task, progress, tell)
        return _enhance_clip(task, progress, tell, made)


def _check_choices(chunk: int | None, decoder: str, on_resize: str) -> None:
    if chunk is not None and chunk < 1:
        raise ConfigError(f"chunk: expected at least 1 frame, got {chunk}; leave it out for the default")
    if decoder not in ("software", "nvdec"):
        raise ConfigError(f"decoder: expected software or nvdec, got {decoder!r}; choose one")
    if on_resize not in get_args(OnResize):
        raise ConfigError(f"on_resize: expected fail, split or scale, got {on_resize!r}; choose one")


def _check_nvdec(device: Device) -> None:
    obstacle = "computing on the CPU" if device.name == "cpu" else nvdec_obstacle()
    if obstacle is not None:
        raise DeviceError(f"decoder: expected a usable NVDEC, found {obstacle}; leave out --decoder nvdec")


@contextlib.contextmanager
def _removed_on_failure(made: list[Path]) -> Iterator[None]:
    """Remove the files listed until then when the body fails."""
    try:
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                disk.remove(path)
        raise


@dataclass(frozen=True)
class _Task:
    """What `enhance` was asked for, checked as far as possible without reading pictures."""

    night: str | Path
    day: str | Path | None
    given_plate: Plate | None
    order: JobOrder
    alignment: Alignment | None
    on_damage: OnDamage
    on_resize: OnResize
    limits: Limits | None
    decoder: Decoder
    started: float

    def plate(self, size: tuple[int, int], tell: Callable[[], None]) -> Plate:
        """The day, where it belongs; `size` is the height and width of the night."""
        plate = self.given_plate
        if plate is None:
            assert self.day is not None
            plate = day_plate(
                self.day,
                on_damage=self.on_damage,
                limits=self.limits,
                module=self.order.module,
                tell=tell,
            )
        check_pair(plate.pixels.shape[:2], size)
        return aligned_plate(plate, self.night, self.alignment, limits=self.limits, tell=tell)

    def open_night(self) -> ClipReader:
        return open_clip(
            self.night,
            on_damage=self.on_damage,
            limits=self.limits,
            module=self.order.module,
            decoder=self.decoder,
            on_resize=self.on_resize,
        )


def _enhance_clip(
    task: _Task, progress: Progress | None, tell: Callable[[str], None], made: list[Path]
) -> EnhanceReport:
    with task.open_night() as clip:
        plate = task.plate((clip.height, clip.width), sign_of_life(progress, clip.frame_count_hint))
        with contextlib.ExitStack() as naming:
            parts = _Parts(clip, plate, task, naming, made)
            tell(_device_line(task.order.device))
            parts.run(progress)
        return _clip_report(clip, plate, task, parts)


class _Parts:
    """The pictures of one size after those of another; one part, unless a clip is to be split where that changes."""

    def __init__(
        self, clip: ClipReader, plate: Plate, task: _Task, naming: contextlib.ExitStack, made: list[Path]
    ) -> None:
        self._clip, self._plate, self._task = clip, plate, task
        self._naming, self._made = naming, made
        self._night_size = (clip.height, clip.width)
        self._watches = [CameraWatch(clip.name)]
        self._job = ClipJob(clip, plate.pixels, task.order, naming, watch=self._watches[0])
        self.outcomes: list[Outcome] = []
        self.extras: tuple[Path, ...] = ()

    @property
    def encoder(self) -> str:
        return self._job.encoder

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for watch in self._watches for note in watch.notes)

    @property
    def frames(self) -> int:
        return sum(outcome.frames for outcome in self.outcomes)

    def run(self, progress: Progress | None) -> None:
        self.outcomes.append(self._job.run(progress))
        while self._task.on_resize == "split" and self._clip.next_part():
            self._run_next(progress)

    def _run_next(self, progress: Progress | None) -> None:
        check_pair(self._plate.pixels.shape[:2], (self._clip.height, self._clip.width))
        files = _files_of_part(self._task.order.files, len(self.outcomes) + 1)
        paths = (files.result, *files.extras)
        self._made += [path for path in paths if not os.path.lexists(path)]
        self.extras += paths
        order = dataclasses.replace(self._task.order, files=files)
        done = self.frames
        stretch = Stretch(first=done, origin=self.outcomes[0].first_pts, night_size=self._night_size)
        self._watches.append(CameraWatch(self._clip.name))
        job = ClipJob(self._clip, self._plate.pixels, order, self._naming, stretch, self._watches[-1])
        later = None if progress is None else lambda count, expected: progress(done + count, expected)
        self.outcomes.append(job.run(later))


def _files_of_part(files: JobFiles, number: int) -> JobFiles:
    """Names of what a later part is written to."""

    def numbered(path: Path | None) -> Path | None:
        return None if path is None else path.with_name(f"{path.stem}-{number}{path.suffix}")

    result = files.result.with_name(f"{files.result.stem}-{number}{files.result.suffix}")
    return JobFiles(result, numbered(files.comparison), numbered(files.importance), files.overwrite)


def _clip_report(clip: ClipReader, plate: Plate, task: _Task, parts: _Parts) -> EnhanceReport:
    device, outcomes = task.order.device, parts.outcomes
    notes = tuple(clip.notes) + parts.notes
    if clip.has_audio:
        notes += (f"{clip.name}: its sound is left out",)
    coders = ""
    if device.name == "cuda":
        why = ", which tells damage" if clip.decoder == "software" else ""
        coders = f"decoded by {clip.decoder}{why}, encoded by {parts.encoder}"
    if clip.decoder == "NVDEC":
        notes += (f"{clip.name}: decoded by NVDEC, where damage inside pictures goes unnoticed",)
    digests = b"".join(outcome.digests for outcome in outcomes)
    return EnhanceReport(
        task.order.files.result,
        parts.frames,
        time.monotonic() - task.started,
        device,
        float(outcomes[0].solver_error),
        task.order.files.extras + parts.extras,
        plate.damage + tuple(clip.damage),
        plate.notes + notes,
        coders,
        frames_in=clip.frames_read,
        first_time=_seconds(outcomes[0].first_pts, clip),
        last_time=_seconds(outcomes[-1].last_pts, clip),
        gaps=tuple(
            (float(start * clip.time_base), float(stop * clip.time_base))
            for outcome in outcomes
            for start, stop in outcome.gaps
        ),
        digest=frames_digest(digests) if digests else "",
        video_size=outcomes[0].video_size,
        shift=plate.shift,
    )


def _seconds(pts: int | None, clip: ClipReader) -> float | None:
    return None if pts is None else float(pts * clip.time_base)


def _enhance_still(task: _Task, progress: Progress | None, tell: Callable[[str], None]) -> EnhanceReport:
    order = task.order
    dark = read_still(task.night, max_pixels=(task.limits or Limits()).max_pixels)
    plate = task.plate((dark.shape[0], dark.shape[1]), sign_of_life(progress, 1))
    tell(_device_line(order.device))
    xp = order.module
    with room_for(order.device, plate.pixels.shape):
        fused = fused_pair(
            xp.asarray(plate.pixels), xp.asarray(dark), areas=order.areas, settings=order.settings
        )
    pixels, weights = to_host(fused.pixels), to_host(fused.importance)
    files = order.files
    if files.importance is not None:
        write_still(files.importance, weights, overwrite=files.overwrite)
    if files.comparison is not None:
        panels = side_by_side(plate.pixels, dark, weights, pixels)
        write_still(files.comparison, panels, overwrite=files.overwrite)
    write_still(files.result, pixels, overwrite=files.overwrite)
    if progress is not None:
        progress(1, 1)
    return EnhanceReport(
        files.result,
        1,
        time.monotonic() - task.started,
        order.device,
        numpy.nan,
        files.extras,
        plate.damage,
        plate.notes,
        frames_in=1,
        video_size=(pixels.shape[1], pixels.shape[0]),
        shift=plate.shift,
    )


def _device_line(device: Device) -> str:
    return f"computing on {device.name} ({device.reason})"
