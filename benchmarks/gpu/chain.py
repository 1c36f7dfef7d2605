"""The whole chain between decoder and encoder, on frames that stay where they are: a GPU, or the CPU."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from gpu.chip import Tools
from gpu.steps import SETTINGS
from gpufuse import colour, to_host
from gpufuse.arrays import array_module
from gpufuse.fusion import fuse_stream

MATRIX = "bt709"

CHUNKS = {"tiny": (3,), "320x240": (128, 512, 32), "720p": (36, 8, 64), "1080p": (16, 4, 32), "4K": (4, 2, 8)}
"""Frames of a chunk to try; the first is the default length where memory allows."""


@dataclass(frozen=True)
class Footage:
    """A day, and night frames that come again and again."""

    day: Any
    """(3, H, W), levels."""
    nv12: Any
    """(frames, 3 H / 2, W), codes."""

    def on_host(self) -> Footage:
        return Footage(to_host(self.day), to_host(self.nv12))


def footage(tools: Tools, size: tuple[int, int], frames: int) -> Footage:
    night = tools.scene(*size, frames, seed=7)
    return Footage(tools.scene(*size, 0)[0], colour.levels_to_nv12(night, MATRIX))


def fused(material: Footage, chunk: int, count: int) -> Iterator[Any]:
    """Fuse `count` chunks of `chunk` frames, NV12 in and NV12 out."""
    xp = array_module(material.day)
    form = colour.Colour(MATRIX)

    def stream() -> Iterator[tuple[Any, Any]]:
        for k in range(count):
            wanted = [(k * chunk + t) % len(material.nv12) for t in range(chunk)]
            codes = material.nv12[xp.asarray(wanted)]
            levels = colour.nv12_to_levels(codes, form)
            yield levels, numpy.full(chunk, numpy.nan)

    for done in fuse_stream(material.day, stream(), settings=SETTINGS):
        yield colour.levels_to_nv12(done.image, MATRIX, scale=done.scale, shift=done.shift)


def run(material: Footage, chunk: int, count: int) -> int:
    """Fuse, keep nothing, and return the number of frames."""
    return sum(len(frames) for frames in fused(material, chunk, count))


def timed(
    material: Footage, chunk: int, *, wait: Callable[[], None], seconds: float, runs: int, fewest: int = 6
) -> dict[str, Any]:
    """Seconds per frame of runs that last `seconds` or `fewest` chunks, the start of a clip included."""
    run(material, chunk, fewest)
    wait()
    started = time.perf_counter()
    run(material, chunk, fewest)
    wait()
    once = (time.perf_counter() - started) / fewest
    count = max(fewest, min(400, int(seconds / max(once, 1e-6))))
    samples = []
    for _ in range(runs):
        started = time.perf_counter()
        frames = run(material, chunk, count)
        handed_over = time.perf_counter() - started
        wait()
        samples.append(((time.perf_counter() - started) / frames, handed_over / count))
    per_frame = sorted(sample[0] for sample in samples)
    middle = statistics.median(per_frame)
    return {
        "chunk": chunk,
        "frames": chunk * count,
        "seconds_per_frame": middle,
        "lowest_seconds_per_frame": per_frame[0],
        "highest_seconds_per_frame": per_frame[-1],
        "frames_per_second": 1.0 / middle,
        "host_seconds_per_chunk": statistics.median(sample[1] for sample in samples),
    }


@contextlib.contextmanager
def counted_launches() -> Iterator[Counter[str]]:
    """Count the launches of our kernels that the host makes; those that a CUDA graph replays are not among them."""
    from gpufuse.kernels_cuda import _compile

    counts: Counter[str] = Counter()
    original = _compile._kernel

    def counting(cupy: Any, device: int, file: str, name: str, variants: tuple[str, ...]) -> Any:
        return _Counting(original(cupy, device, file, name, variants), name, counts)

    _compile._kernel = counting
    try:
        yield counts
    finally:
        _compile._kernel = original


class _Counting:
    """A kernel that counts; what is set on it is set on the kernel."""

    def __init__(self, kernel: Any, name: str, counts: Counter[str]) -> None:
        vars(self).update(kernel=kernel, name=name, counts=counts)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.kernel, name, value)

    def __call__(self, *arguments: Any, **options: Any) -> None:
        self.counts[self.name] += 1
        self.kernel(*arguments, **options)


def launches_per_chunk(material: Footage, chunk: int) -> float:
    """Launches of our kernels by the host for one more chunk, once graphs have been recorded."""
    totals = []
    for count in (6, 8):
        with counted_launches() as counts:
            run(material, chunk, count)
        totals.append(counts.total())
    return (totals[1] - totals[0]) / 2
