"""Small archives for the tests of batches, and ways to run, kill and compare them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

from gpufuse.batch import read_manifest
from gpufuse.video import ClipWriter, open_clip, write_still

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH = 36, 48


def day_picture(height: int = HEIGHT, width: int = WIDTH) -> numpy.ndarray:
    y, x = numpy.mgrid[0:height, 0:width]
    return numpy.stack([60 + x % 120, 80 + y % 90, 90 + (x + y) % 60], axis=-1).astype(numpy.uint8)


def write_night(path: Path, frames: int = 9, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """A dark clip in which a lamp crosses, another one for each seed."""
    rng = numpy.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ClipWriter(path, width, height, Fraction(1, 25), 25) as clip:
        for k in range(frames):
            frame = rng.normal(12, 3, (1, 3, height, width)).astype(numpy.float32)
            left = (3 * k + 5 * seed) % (width - 8)
            frame[..., height // 3 : height // 2, left : left + 8] = 230
            clip.write_chunk(frame, [k])
    return path


def make_archive(folder: Path, *, cameras: int = 2, clips: int = 3, frames: int = 9) -> Path:
    """``nights/cam0/0.mp4`` and so on, and ``days/cam0.png``."""
    for camera in range(cameras):
        (folder / "days").mkdir(parents=True, exist_ok=True)
        write_still(folder / "days" / f"cam{camera}.png", day_picture() + numpy.uint8(camera))
        for number in range(clips):
            seed = camera * clips + number
            write_night(folder / "nights" / f"cam{camera}" / f"{number}.mp4", frames, seed)
    return folder


def archive_from_footage(data: Path, folder: Path, *, count: int = 60, frames: int = 10) -> Path:
    """Short clips cut out of real footage, each camera with its day: ``nights/<camera>/<number>.mp4``."""
    sources = {
        "relit": ("relit_highway/night.mp4", "relit_highway/day.png"),
        "marsh": ("caltrans/n101_marsh_dim_a.mp4", "caltrans/n101_marsh_dim_b.mp4"),
        "indiana": ("caltrans/n280_indiana_cloudy_a.mp4", "caltrans/n280_indiana_sunny.mp4"),
        "piccadilly": (
            "tfl_clips/piccadilly7450_dim_dec29_1301.mp4",
            "tfl_clips/piccadilly7450_day_aug10_1041.mp4",
        ),
    }
    (folder / "days").mkdir(parents=True)
    share = -(-count // len(sources))
    for camera, (night, day) in sources.items():
        day_path = data / day
        (folder / "days" / f"{camera}{day_path.suffix}").symlink_to(day_path)
        place = folder / "nights" / camera
        place.mkdir(parents=True)
        with open_clip(data / night) as clip:
            for number, chunk in zip(range(share), clip.chunks(frames), strict=False):
                _write_piece(place / f"{number:03}.mp4", clip, chunk.levels, chunk.pts)
    clips = sorted((folder / "nights").rglob("*.mp4"))
    for extra in clips[count:]:
        extra.unlink()
    return folder


def _write_piece(path: Path, clip, levels: numpy.ndarray, pts: list[int]) -> None:
    _, _, height, width = levels.shape
    with ClipWriter(path, width, height, clip.time_base, clip.rate, crf=12) as piece:
        piece.write_chunk(levels, [time - pts[0] for time in pts])


def batch_words(archive: Path, output: Path, *more: str) -> list[str]:
    return [
        "batch",
        str(archive / "nights"),
        "--camera",
        "{camera}/...",
        "--day",
        str(archive / "days" / "{camera}.*"),
        "-o",
        str(output),
        "--device",
        "cpu",
        *more,
    ]


def environment(**changes: str) -> dict[str, str]:
    paths = [changes.pop("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)} | changes


def start_batch(words: list[str], **changes: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpufuse", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    )


def run_batch(words: list[str], *, timeout: float = 600, **changes: str) -> tuple[int, str, str]:
    with start_batch(words, **changes) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def digests(output: Path) -> dict[str, str]:
    """For each output that is done, the digest of its frames before encoding."""
    found = {}
    for path in sorted(output.rglob("*.mp4.json")):
        if ".gpufuse" in path.parts:
            continue
        manifest = read_manifest(path.with_suffix(""))
        assert manifest is not None
        assert manifest.digest
        found[manifest.name] = manifest.digest
    return found


def parts_left(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if ".part-" in path.name]


def children_of(pid: int) -> list[int]:
    """Processes that do tasks for a batch, by what Linux tells."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if b"gpufuse.batch.child" in words and parent == pid:
            found.append(int(path.name))
    return found


def kill_and_restart(words: list[str], seconds, kills: int, **changes: str) -> list[int]:
    """Kill a batch at given times until it was killed so often, then let it finish; its exit codes."""
    codes = []
    for _ in range(kills):
        process = start_batch(words, **changes)
        try:
            process.communicate(timeout=next(seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        codes.append(process.returncode)
    codes.append(run_batch(words, **changes)[0])
    return codes


def wait_until(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail("what was waited for did not happen")
        time.sleep(0.02)


def told_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int = 2):
    """A scheduler and its workers, started as one would by hand; yields its address and the processes."""
    dask = [sys.executable, "-m", "dask"]
    told = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment(), "cwd": folder}
    words = [
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(told),
    ]
    processes = [subprocess.Popen([*dask, *words], **quiet)]
    try:
        wait_until(lambda: told.exists() and told.stat().st_size > 0)
        address = told_json(told)["address"]
        for number in range(workers):
            words = ["worker", address, "--nthreads", "1", "--name", f"hand{number}", "--no-dashboard"]
            processes.append(subprocess.Popen([*dask, *words], **quiet))
        yield address, processes
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
