"""The whole job, decode to encode, and where its time goes.

As a program it prints the shares: ``python benchmarks/bench_pipeline.py NIGHT DAY``.
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


def shares(night: Path, day: Path) -> list[tuple[str, float]]:
    """Milliseconds per frame of each step, each run alone on all threads."""
    settings = gpufuse.Settings()
    plate = to_levels(day_plate(day).pixels)
    with open_clip(night) as clip:
        started = time.perf_counter()
        chunks = list(clip.chunks(16))[:6]
        decoded = sum(map(len, chunks))
        rows = [("decode and convert", (time.perf_counter() - started) / clip.frames_read)]
        rate, time_base = clip.rate, clip.time_base
    levels = numpy.concatenate([chunk.levels for chunk in chunks])
    pts = [time for chunk in chunks for time in chunk.pts]
    work: dict[str, Any] = {}

    def step(name: str, function: Callable[[], Any]) -> Any:
        function()
        best = min(_timed(function) for _ in range(3))
        rows.append((name, best / decoded))
        return function()

    if settings.passes:
        work["smooth"] = step(
            f"denoise ({settings.passes} pass)",
            lambda: gpufuse.denoise.susan3d(levels, passes=settings.passes),
        )
    else:
        work["smooth"] = levels
    smooth = work["smooth"]
    masks = step("motion masks", lambda: importance.motion_masks(smooth))
    weights = step("temporal mean", lambda: importance.temporal_mean(masks, settings.c))
    rhs = step(
        "mix and divergence", lambda: mixing.mixed_divergence(plate, smooth, weights, larger_where_zero=True)
    )
    u = step("multigrid", lambda: poisson.solve(rhs))
    moments = step("sums of the fit", lambda: normalise.blend_moments(u, plate, smooth, weights))
    c1, c2 = normalise.affine_from_moments(moments, u.shape[-2] * u.shape[-1])
    fused = step("apply the fit", lambda: normalise.apply_affine(u, c1, c2))
    with tempfile.TemporaryDirectory() as folder:
        height, width = fused.shape[-2:]
        started = time.perf_counter()
        with ClipWriter(Path(folder, "out.mp4"), width, height, time_base, rate) as writer:
            writer.write_chunk(fused, pts)
        rows.append(("convert and encode", (time.perf_counter() - started) / decoded))
    return [(name, 1000 * seconds) for name, seconds in rows]


def _timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    table = shares(Path(sys.argv[1]), Path(sys.argv[2]))
    total = sum(milliseconds for _, milliseconds in table)
    for name, milliseconds in table:
        print(f"{name:<22}{milliseconds:8.2f} ms/frame {100 * milliseconds / total:5.1f} %")
    print(f"{'sum, not overlapped':<22}{total:8.2f} ms/frame")
