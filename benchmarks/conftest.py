"""Sizes and inputs of the benchmarks, and the facts of the machine that go with every figure.

    python -m pytest benchmarks -c benchmarks/pytest.ini

`GPUFUSE_BENCH_SMOKE=1` uses a tiny size and one round: it proves that the benchmarks run, nothing more.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import gpufuse

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"

SIZES = {"tiny": (33, 47)} if SMOKE else {"qvga": (240, 320), "hd1080": (1080, 1920)}


@dataclass(frozen=True)
class Clip:
    """Day, night frames and importance with the look of traffic: dark, noisy, a few bright things."""

    day: numpy.ndarray
    night: numpy.ndarray
    importance: numpy.ndarray


def make_clip(height: int, width: int, frames: int) -> Clip:
    rng = numpy.random.default_rng(20040101)
    y, x = numpy.mgrid[0:height, 0:width]
    blocks = (((x // 16) * 7 + (y // 12) * 13) % 29).astype(numpy.float32)
    day = numpy.stack([90 + 4 * blocks, 95 + 3.5 * blocks, 80 + 3 * blocks]).astype(numpy.float32)
    night = 0.08 * day + rng.normal(0, 3, (frames, 3, height, width))
    importance = numpy.zeros((frames, height, width))
    for t in range(frames):
        distance = numpy.hypot(x - (0.1 + 0.02 * t) * width, y - 0.6 * height)
        night[t] += 220 * numpy.exp(-((distance / (0.04 * height + 1)) ** 2))
        importance[t] = numpy.clip(1.5 - distance / (0.15 * height + 1), 0, 1)
    return Clip(day, numpy.clip(night, 0, 255).astype(numpy.float32), importance.astype(numpy.float32))


@pytest.fixture(params=list(SIZES))
def clip(request: pytest.FixtureRequest) -> Clip:
    height, width = SIZES[request.param]
    return make_clip(height, width, 3 if SMOKE else max(2, 16 * 240 * 320 // (height * width)))


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Time a call after warming it up, in one group per size, with facts beside the figure."""

    def run(function: Callable[[], Any], *, frames: int = 1, group: str = "", **facts: Any) -> Any:
        size = getattr(getattr(request.node, "callspec", None), "params", {}).get("clip", "")
        benchmark.group = " ".join(word for word in (group, size) if word)
        benchmark.extra_info.update(
            frames=frames,
            threads=gpufuse.get_threads(),
            machine=platform.processor() or platform.machine(),
            **facts,
        )
        rounds = 1 if SMOKE else 7
        return benchmark.pedantic(function, rounds=rounds, iterations=1, warmup_rounds=1)

    return run
