"""The tools on the device, and the ceilings of the chip: measured, or assumed for a prediction."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from gpu.timing import DeviceClock, Effort, measure

HERE = Path(__file__).resolve().parent
COMMON = HERE.parents[1] / "kernels" / "common.cuh"

CHAINS, STEPS = 8, 16
"""Independent chains of a thread, and steps of a turn, in the kernels that only compute."""


@dataclass(frozen=True)
class Ceilings:
    """What the chip can do at most."""

    bandwidth: float
    """Bytes a second, read and written together, of a copy that is far larger than the L2 cache."""
    fma: float
    """Multiply-adds in float32 a second: also the rate at which instructions are issued."""
    special: float
    """Results of the special-function unit a second."""
    l2_bandwidth: float | None = None
    """Bytes a second of a copy that stays in the L2 cache."""
    launch_seconds: float | None = None
    """From one launch to the next, on the device."""
    launch_host_seconds: float | None = None
    """That a launch takes the host."""
    clock: float | None = None
    """Clock in Hz that follows from `fma`."""


PROCESSORS, LANES, UNITS, CLOCK = 132, 128, 16, 1.755e9
H200 = Ceilings(
    bandwidth=4.3e12,
    fma=PROCESSORS * LANES * CLOCK,
    special=PROCESSORS * UNITS * CLOCK,
    launch_seconds=2e-6,
    clock=CLOCK,
)
"""For predictions: 132 multiprocessors at 1.755 GHz, copying at 4.3 TB/s; 2 us from launch to launch."""


class Tools:
    """The kernels of ``tools.cu`` on the current device."""

    def __init__(self, cupy: Any, *, emulated: bool) -> None:
        self.cupy, self.emulated = cupy, emulated
        self._module = cupy.RawModule(
            code="\n".join(file.read_text(encoding="utf-8") for file in (COMMON, HERE / "tools.cu")),
            options=("-std=c++17",),
        )
        self._sink = cupy.zeros(1, numpy.float32)
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.processors = int(properties["multiProcessorCount"])
        self.l2_bytes = int(properties.get("l2CacheSize") or 50e6)

    @functools.cached_property
    def clock(self) -> DeviceClock:
        return DeviceClock(self.cupy, self.hold)

    def kernel(self, name: str) -> Any:
        return self._module.get_function(name)

    def hold(self, seconds: float) -> None:
        """Keep the device busy for about so long: a multiply-add that waits for another takes four cycles."""
        turns = 1 if self.emulated else int(seconds * CLOCK / (4 * STEPS))
        if turns:
            self.kernel("hold")((1,), (1,), (self._sink, numpy.int32(turns)))

    def scene(self, height: int, width: int, count: int, seed: int = 1) -> Any:
        """Night frames (count, 3, H, W), or with a count of 0 the day (1, 3, H, W); float32 whole levels."""
        frames = self.cupy.empty((max(count, 1), 3, height, width), numpy.float32)
        self.kernel("scene")(
            (-(-height * width // 256), 3 * len(frames)),
            (256,),
            (frames, *(numpy.int32(n) for n in (height, width, count, seed))),
        )
        return frames

    def copy(self, source: Any, target: Any) -> None:
        count = source.nbytes // 16
        self.kernel("copy16")((-(-count // 256),), (256,), (source, target, numpy.int32(count)))

    def compute(self, name: str, turns: int, *more: Any) -> float:
        """Launch one of the kernels that only compute; return the number of operations."""
        blocks = self.processors * (1 if self.emulated else 32)
        self.kernel(name)((blocks,), (256,), (self._sink, numpy.int32(turns), *more))
        return float(blocks) * 256 * turns * STEPS * CHAINS

    def multiply_adds(self, turns: int) -> float:
        return self.compute("multiply_adds", turns, numpy.float32(0.999), numpy.float32(0.001))

    def powers_of_two(self, turns: int) -> float:
        return self.compute("powers_of_two", turns)


def measured(tools: Tools, effort: Effort) -> Ceilings:
    """Measure them all."""
    turns = 1 if tools.emulated else 1000
    fma = _rate(tools, effort, lambda: tools.multiply_adds(turns))
    special = _rate(tools, effort, lambda: tools.powers_of_two(max(1, turns // 8)))
    large = 1 << 16 if tools.emulated else min(8 * tools.l2_bytes, 1 << 30)
    launch = measure([lambda: tools.kernel("nothing")((1,), (32,), (tools._sink,))], tools.clock, effort)
    return Ceilings(
        bandwidth=_copy_rate(tools, effort, large, sets=3),
        fma=fma,
        special=special,
        l2_bandwidth=_copy_rate(tools, effort, min(large, tools.l2_bytes // 8), sets=1),
        launch_seconds=launch.seconds,
        launch_host_seconds=launch.host_seconds,
        clock=fma / (tools.processors * LANES),
    )


def _rate(tools: Tools, effort: Effort, work: Any) -> float:
    return work() / measure([work], tools.clock, effort).seconds


def _copy_rate(tools: Tools, effort: Effort, size: int, sets: int) -> float:
    """Bytes a second, read and written, of the better of two ways to copy random data."""
    cupy = tools.cupy
    pixels = max(256, size // 12)
    width = 256
    pairs = []
    for k in range(sets):
        source = tools.scene(pixels // width, width, 1, seed=k)
        pairs.append((source, cupy.empty_like(source)))
    by_kernel = [functools.partial(tools.copy, *pair) for pair in pairs]
    by_driver = [functools.partial(cupy.copyto, target, source) for source, target in pairs]
    seconds = min(measure(calls, tools.clock, effort).seconds for calls in (by_kernel, by_driver))
    return 2 * pairs[0][0].nbytes / seconds if seconds else math.inf
