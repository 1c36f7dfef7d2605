"""Print the figures on importance and memory that the README states.

    python benchmarks/figures.py FOLDER

FOLDER holds ``night.mp4``, ``day.mp4`` and ``moving.npz``, the true moving pixels of the night clip: ``bits``, packed
booleans, and ``shape``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy

from gpufuse import Settings
from gpufuse.arrays import to_levels
from gpufuse.enhance import day_plate
from gpufuse.fusion import fuse_stream
from gpufuse.video import ClipWriter, open_clip

PEAK = """
import resource, sys
from gpufuse.enhance import enhance
enhance(*sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def importance_shares(folder: Path) -> tuple[float, float]:
    """Share of moving pixels with W > 0.1, and of still pixels with W = 0, with default settings."""
    packed = numpy.load(folder / "moving.npz")
    count = int(numpy.prod(packed["shape"]))
    moving = numpy.unpackbits(packed["bits"])[:count].reshape(packed["shape"]).astype(bool)
    day = to_levels(day_plate(folder / "day.mp4").pixels)
    with open_clip(folder / "night.mp4") as clip:
        stream = ((chunk.levels, numpy.zeros(len(chunk))) for chunk in clip.chunks(8))
        fused = fuse_stream(day, stream, settings=Settings())
        importance = numpy.concatenate([chunk.importance for chunk in fused])
    return float((importance[moving] > 0.1).mean()), float((importance[~moving] == 0).mean())


def peak_memory(folder: Path, frames: int) -> float:
    """Peak of `enhance` in MB, for the night clip repeated to a number of frames."""
    with tempfile.TemporaryDirectory() as work:
        night = Path(work, "night.mp4")
        with open_clip(folder / "night.mp4") as clip:
            size = (clip.width, clip.height)
        with ClipWriter(night, *size, Fraction(1, 25), 25) as writer:
            while writer.frames_written < frames:
                with open_clip(folder / "night.mp4") as clip:
                    for frame in clip:
                        if writer.frames_written < frames:
                            writer.write_chunk(frame.levels[None], [writer.frames_written])
        command = [sys.executable, "-c", PEAK, night, folder / "day.mp4", Path(work, "out.mp4")]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        return float(done.stdout)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    found, free = importance_shares(source)
    print(f"moving pixels with importance > 0.1: {100 * found:.1f} %")
    print(f"still pixels with importance 0:      {100 * free:.1f} %")
    for length in (200, 2000):
        print(f"peak memory for {length} frames: {peak_memory(source, length):.0f} MB")
