"""Print the speed of the whole `gpufuse enhance` command, and what a frame costs once it runs.

    python benchmarks/command_speed.py NIGHT DAY [--size WxH] [--frames SHORT LONG] [--runs 5]

It makes a short and a long clip from NIGHT (repeated where it is too short, brought to a size where one is given),
and runs the command on both in turn, in processes of their own. The long clip's median is the speed with
start-up; the difference of the medians, divided by the frames between them, is the cost of a frame once all
is loaded.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy
from PIL import Image

from gpufuse.enhance import day_plate
from gpufuse.video import ClipWriter, open_clip, write_still


def resized(pixels: numpy.ndarray, size: tuple[int, int] | None) -> numpy.ndarray:
    """A picture (H, W, 3) of bytes at another size."""
    return pixels if size is None else numpy.asarray(Image.fromarray(pixels).resize(size))


def night_frames(night: Path) -> Iterator[numpy.ndarray]:
    """The frames of a clip as bytes (H, W, 3), again and again."""
    while True:
        with open_clip(night) as clip:
            for frame in clip:
                yield numpy.rint(frame.levels).clip(0, 255).astype(numpy.uint8).transpose(1, 2, 0)


def write_clip(path: Path, night: Path, size: tuple[int, int] | None, count: int) -> int:
    """Write so many frames and return the pixels of one."""
    frames = night_frames(night)
    first = resized(next(frames), size)
    height, width = first.shape[:2]
    with ClipWriter(path, width, height, Fraction(1, 25), 25) as writer:
        for k in range(count):
            picture = first if k == 0 else resized(next(frames), size)
            writer.write_chunk(numpy.moveaxis(picture, -1, 0)[None].astype(numpy.float32), [k])
    return height * width


def command_seconds(night: Path, day: Path) -> tuple[float, float]:
    """Seconds of one whole command: by the wall clock, and of processors."""
    command = [sys.executable, "-m", "gpufuse", "enhance", night, "--day", day]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = night.with_name("out.mp4")
    subprocess.run(
        [str(word) for word in (*command, "-o", out, "--overwrite")], check=True, capture_output=True
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("night", type=Path)
    parser.add_argument("day", type=Path)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), metavar="WxH")
    parser.add_argument("--frames", type=int, nargs=2, default=(50, 250), metavar=("SHORT", "LONG"))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        day = options.day
        if options.size is not None:
            day = Path(work, "day.png")
            write_still(day, resized(day_plate(options.day).pixels, options.size))
        clips = {count: Path(work, f"{count}.mp4") for count in options.frames}
        for count, clip in clips.items():
            pixels = write_clip(clip, options.night, options.size, count)
        command_seconds(clips[min(clips)], day)  # compiles, if nothing is compiled yet
        found: dict[int, list[tuple[float, float]]] = {count: [] for count in clips}
        for _ in range(options.runs):
            for count, clip in clips.items():
                found[count].append(command_seconds(clip, day))
    short, long = options.frames
    (wall, cpu), (most_wall, most_cpu) = (
        [statistics.median(part) for part in zip(*found[count], strict=True)] for count in (short, long)
    )
    print(f"whole command, {long} frames: {most_wall:.2f} s, {long / most_wall:.1f} frames/s")
    frame_wall, frame_cpu = (most_wall - wall) / (long - short), (most_cpu - cpu) / (long - short)
    print(f"once it runs: {1e3 * frame_wall:.1f} ms a frame, {1 / frame_wall:.1f} frames/s")
    print(f"of a pixel: {1e9 * frame_wall / pixels:.0f} ns, {1e9 * frame_cpu / pixels:.0f} ns of processors")


if __name__ == "__main__":
    main()
