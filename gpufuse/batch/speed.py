"""How fast this machine works, measured on a short clip made for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy

import gpufuse
from gpufuse.device import DeviceName
from gpufuse.errors import DeviceError
from gpufuse.settings import Settings
from gpufuse.threads import get_threads, set_threads

__all__ = ["Rate", "measured_rate"]

_PIXELS = 40e6  # of all frames of the longer clip
_FEWEST, _MOST = 9, 48  # frames of it
_PATIENCE = 300  # seconds for a process to start and enhance three frames


@dataclass(frozen=True)
class Rate:
    """Speed of one worker that has the machine for itself.

    Attributes
    ----------
    nanoseconds : float
        Wall-clock time for each pixel of the output: decoding, computing and encoding, which overlap.
    processor_nanoseconds : float
        Time of all its threads.
    start, processor_start : float
        Seconds to start a process and do what every clip needs once.
    width, height : int
        Size it was measured at, pixels.
    threads : int
    """

    nanoseconds: float
    processor_nanoseconds: float
    start: float
    processor_start: float
    width: int
    height: int
    threads: int


def measured_rate(
    width: int,
    height: int,
    threads: int,
    *,
    settings: Settings | None = None,
    device: DeviceName = "cpu",
) -> Rate:
    """Measure how fast clips are enhanced here; takes some seconds.

    Parameters
    ----------
    width, height : int
        Pixels of the output.
    threads : int
        Of one worker.
    settings : Settings, optional
    device : {"auto", "cpu", "cuda"}

    Returns
    -------
    Rate

    Raises
    ------
    GpufuseError
        As `gpufuse.enhance.enhance`.

    Notes
    -----
    A noisy night with a moving light is written to a temporary folder and enhanced, once to load what is loaded once,
    and then a shorter and a longer piece, the difference of which is the rate.
    """
    from gpufuse.enhance import enhance

    settings = settings or Settings()
    frames = int(min(_MOST, max(_FEWEST, _PIXELS / (width * height))))
    before = get_threads()
    with tempfile.TemporaryDirectory(prefix="gpufuse-rate-") as name:
        folder = Path(name)
        day = _write_scene(folder, width, height, frames)

        def timed(piece: str) -> tuple[float, float]:
            started, used = time.perf_counter(), time.process_time()
            enhance(
                folder / f"{piece}.mp4",
                day,
                folder / "out.mp4",
                device=device,
                settings=settings,
                overwrite=True,
            )
            return time.perf_counter() - started, time.process_time() - used

        set_threads(threads)
        try:
            timed("short")
            short, long = timed("short"), timed("long")
        finally:
            set_threads(before)
        pixels = width * height * (frames - _short(frames))
        # Where other programs interfere, the difference may be anything, but not much less than the mean.
        wall, processor = (
            max(after - first, 0.5 * after * (frames - _short(frames)) / frames) / pixels * 1e9
            for first, after in zip(short, long, strict=True)
        )
        start = _measured_start(folder, day, device)
    return Rate(wall, processor, *start, width, height, threads)


def _short(frames: int) -> int:
    return frames // 3


def _write_scene(folder: Path, width: int, height: int, frames: int) -> Path:
    """A night that is as noisy as a street camera's, and its day."""
    from gpufuse.video import ClipWriter, write_still

    rng = numpy.random.default_rng(20040120)
    y, x = numpy.mgrid[:height, :width]
    walls = 90 + 50 * (x * 24 // width % 2) + 20 * (y * 18 // height % 2) + 10 * numpy.sin(x / 3 + y / 5)
    day = numpy.stack([walls, 0.9 * walls, 0.8 * walls])
    day += rng.normal(0, 4, day.shape)
    write_still(folder / "day.png", numpy.moveaxis(day.clip(0, 255), 0, -1).astype(numpy.uint8))
    dark = (day / 8).astype(numpy.float32)
    noise = rng.normal(0, 2.5, (3, height, 2 * width)).astype(numpy.float32)
    rate = Fraction(25)
    for piece, count in (("short", _short(frames)), ("long", frames), ("start", 3)):
        with ClipWriter(folder / f"{piece}.mp4", width, height, 1 / rate, rate) as clip:
            for index in range(count):
                shift = int(rng.integers(width + 1))  # noise that is new in every frame, at little cost
                levels = dark + noise[..., shift : shift + width]
                left = width * index // max(1, frames)
                levels[:, height // 2 : height // 2 + height // 12 + 1, left : left + width // 8 + 1] += 200
                clip.write_chunk(levels.clip(0, 255)[None].round(), [index])
    return folder / "day.png"


def _measured_start(folder: Path, day: Path, device: DeviceName) -> tuple[float, float]:
    """Wall-clock and processor seconds of a process that enhances three frames."""
    package = str(Path(gpufuse.__file__).resolve().parents[1])
    paths = [path for path in (os.environ.get("PYTHONPATH"), package) if path]
    words = [sys.executable, "-m", "gpufuse", "enhance", str(folder / "start.mp4"), "--day", str(day)]
    words += ["-o", str(folder / "started.mp4"), "--device", device]
    started, used = time.perf_counter(), os.times()
    try:
        ended = subprocess.run(
            words,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"rate: expected a process to enhance three frames within {_PATIENCE} s, found it at work still; "
            "look at what else runs here"
        ) from error
    if ended.returncode:
        line = ended.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing told"]
        raise DeviceError(
            f"rate: expected a process to enhance three frames, found {line[0]!r}; run gpufuse doctor"
        )
    now = os.times()
    processor = now.children_user - used.children_user + now.children_system - used.children_system
    return time.perf_counter() - started, processor
