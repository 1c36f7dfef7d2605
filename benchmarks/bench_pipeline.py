"""The whole job, decode to encode, and where its time goes.

As a program it prints the shares: ``python benchmarks/bench_pipeline.py NIGHT DAY [FRAMES]``, wall-clock time on all
threads and processor time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest

import gpufuse
from gpufuse import importance, mixing, normalise, poisson
from gpufuse.arrays import to_levels
from gpufuse.enhance import day_plate, enhance
from gpufuse.fusion import chunk_length
from gpufuse.video import ClipWriter, open_clip

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"
DATA = Path(os.environ.get("GPUFUSE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _rendered(folder: Path) -> tuple[Path, Path]:
    from gpufuse.scene import render_scene
    from gpufuse.video import write_still

    scene = render_scene(width=64, height=36, frames=4)
    night, day = folder / "night.mp4", folder / "day.png"
    with ClipWriter(night, 64, 36, Fraction(1) / scene.rate, scene.rate) as clip:
        clip.write_chunk(to_levels(scene.night, leading=1), list(range(4)))
    write_still(day, scene.day)
    return night, day


def bench_enhance(measure: Callable[..., Any], tmp_path: Path) -> None:
    if SMOKE:
        night, day = _rendered(tmp_path)
    else:
        night, day = DATA / "relit_highway" / "night.mp4", DATA / "relit_highway" / "day.png"
        if not night.exists():
            pytest.skip("the folder of real footage is absent; GPUFUSE_DATA names it")
    output = tmp_path / "out.mp4"
    report = measure(lambda: enhance(night, day, output, overwrite=True), group="enhance")
    assert report.frames > 0


class _Steps:
    """Times of steps, each run alone on all threads."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.rows: list[tuple[str, float, float]] = []

    def take(self, name: str, function: Callable[[], Any], *, runs: int = 3) -> Any:
        """Call `function` once more than `runs` times; keep the shortest of the last ones."""
        result = function()
        wall, cpu = (min(times) for times in zip(*(_timed(function) for _ in range(runs)), strict=True))
        self.rows.append((name, 1000 * wall / self.frames, 1000 * cpu / self.frames))
        return result


def shares(night: Path, day: Path, frames: int = 96) -> list[tuple[str, float, float]]:
    """Wall-clock and processor milliseconds per frame of each step.

    Steps that hold a thread of their own in a job, reading and writing, are timed with all that they start. What
    options add to the method is left out.
    """
    settings = gpufuse.Settings()
    plate = to_levels(day_plate(day).pixels)
    length = chunk_length(plate.shape)
    with open_clip(night) as clip:
        chunks = [chunk for chunk, _ in zip(clip.chunks(length), range(-(-frames // length)), strict=False)]
        rate, time_base = clip.rate, clip.time_base
    levels = numpy.concatenate([chunk.levels for chunk in chunks])
    pts = [time for chunk in chunks for time in chunk.pts]
    steps = _Steps(len(levels))

    def read() -> None:
        with open_clip(night) as clip:
            for _ in zip(clip.chunks(length), chunks, strict=False):
                pass

    steps.take("decode and convert", read)
    smooth = steps.take(
        f"denoise, {settings.passes} passes", lambda: gpufuse.denoise.susan3d(levels, passes=settings.passes)
    )
    threshold = importance.motion_threshold(importance.motion_changes(smooth[:9]))
    masks = steps.take("motion masks", lambda: importance.cleaned_motion(smooth, 0, len(smooth), threshold))
    weights = steps.take("temporal mean", lambda: importance.temporal_mean(masks, settings.c))
    rhs = steps.take(
        "mix and divergence",
        lambda: mixing.mixed_divergence(plate, smooth, weights, larger_where_zero=True, check_values=False),
    )
    u = steps.take("multigrid", lambda: poisson.solve(rhs, check_values=False))
    moments = steps.take("sums of the fit", lambda: normalise.blend_moments(u, plate, smooth, weights))
    c1, c2 = normalise.affine_from_moments(moments, u.shape[-2] * u.shape[-1])
    fused = steps.take("apply the fit", lambda: normalise.apply_affine(u, c1, c2))

    def write() -> None:
        height, width = fused.shape[-2:]
        with (
            tempfile.TemporaryDirectory() as folder,
            ClipWriter(Path(folder, "out.mp4"), width, height, time_base, rate) as writer,
        ):
            writer.write_chunk(fused, pts)

    steps.take("convert and encode", write)
    return steps.rows


def _timed(function: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    table = shares(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
    wall, cpu = (sum(row[k] for row in table) for k in (1, 2))
    print(f"{'milliseconds a frame':<24}{'wall':>8}{'share':>8}{'cpu':>8}{'share':>8}")
    for name, one, other in table:
        print(f"{name:<24}{one:8.2f}{100 * one / wall:7.1f}%{other:8.2f}{100 * other / cpu:7.1f}%")
    print(f"{'sum, not overlapped':<24}{wall:8.2f}{'':8}{cpu:8.2f}")
