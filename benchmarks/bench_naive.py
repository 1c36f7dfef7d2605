"""The whole method on frames in memory, against the same in plain NumPy and SciPy (`naive`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import naive
import numpy
import pytest

import gpufuse
from gpufuse.scene import render_scene

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"
WIDTH, HEIGHT = (47, 33) if SMOKE else (320, 240)

PAPER = gpufuse.Settings.paper(**asdict(naive.Parameters()))


# 16 frames of float64 are just small enough for the allocator to use memory again. A longer clip, as a real one
# is, costs the plain version twice as much a frame, for every temporary is new memory.
@pytest.fixture(params=[3] if SMOKE else [16, 32], ids=lambda count: f"{count} frames")
def scene(request: pytest.FixtureRequest) -> Any:
    return render_scene(width=WIDTH, height=HEIGHT, frames=request.param)


def whole_clip(scene: Any) -> list[numpy.ndarray]:
    return list(gpufuse.fuse_video(scene.day, scene.night, settings=PAPER))


def bench_fuse_video(measure: Callable[..., Any], scene: Any) -> None:
    frames = len(scene.night)
    measure(lambda: whole_clip(scene), frames=frames, group=f"whole method, {frames} frames")


def bench_naive(measure: Callable[..., Any], scene: Any) -> None:
    frames = len(scene.night)
    apart = abs(naive.fuse_video(scene.day, scene.night).astype(int) - whole_clip(scene))
    assert apart.max() <= 2
    equal = float((apart == 0).mean())
    assert equal > 0.99
    measure(
        lambda: naive.fuse_video(scene.day, scene.night),
        frames=frames,
        group=f"whole method, {frames} frames",
        equal=equal,
    )
