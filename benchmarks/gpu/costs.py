"""What each step has to move and to compute, as the headers of the kernels state it, and the goals.

Times follow from a cost and the ceilings of a chip; no measurement is in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu.chip import Ceilings
from gpu.timing import duration

SIZES = {
    "tiny": (32, 48),
    "320x240": (240, 320),
    "720p": (720, 1280),
    "1080p": (1080, 1920),
    "4K": (2160, 3840),
}
"""Height and width; ``tiny`` proves that the script runs, and no more."""

REACH = 5
"""Frames before and after that a motion mask counts for (`Settings.c`)."""


@dataclass(frozen=True)
class Cost:
    """Of one pixel of one frame, all three channels."""

    bytes: float
    """Read from the device's memory and written to it."""
    instructions: float = 0.0
    """Issued by a thread."""
    special: float = 0.0
    """Results of the special-function unit, or of what shares its rate (conversions)."""

    def seconds(self, chip: Ceilings) -> dict[str, float]:
        """Least time that each limit allows."""
        return {
            "memory": self.bytes / chip.bandwidth,
            "issue": self.instructions / chip.fma,
            "special": self.special / chip.special,
        }

    def floor(self, chip: Ceilings) -> tuple[float, str]:
        """The longest of them, and its name."""
        times = self.seconds(chip)
        limit = max(times, key=lambda name: times[name])
        return times[limit], limit


COSTS: Mapping[str, Callable[[int], Cost]] = {
    # Of each: (frames together) -> cost; the file is where the header says so.
    "yuv to levels": lambda t: Cost(1.5 + 12, 75),  # kernels/colour.cu, yuv_to_levels
    "susan": lambda t: Cost(
        3 * (4 * 1.3 + 8), 3 * 250, 3 * (35.5 + 12 / t)
    ),  # kernels/susan3d.cu, length = t
    "motion masks": lambda t: Cost(12 * (t + 1) / t + 1, 72),  # kernels/motion.cu, motion_masks
    "temporal mean": lambda t: Cost((t + 2 * REACH) / t + 4, 25),  # kernels/motion.cu, temporal_mean
    "lamps": lambda t: Cost(24, 36),  # kernels/lamps.cu, keep_lamps
    # kernels/mixing.cu, mixed_divergence with lift and pull: 177 instructions of a warp for 30 pixels
    "mix and divergence": lambda t: Cost(28 + 4 + 12 / t, 177 * 32 / 30),
    "poisson": lambda t: Cost(3 * 89, 3 * 1100 * 32 / 120),  # kernels/multigrid.cu, two cycles
    "sums of the fit": lambda t: Cost(28 + 12 / t, 0, 6),  # kernels/fit.cu, blend_moments
    "fit": lambda t: Cost(0),  # kernels/fit.cu, shared_fits: latency alone
    "apply the fit": lambda t: Cost(3 * 8, 3 * 2),  # kernels/fit.cu, apply_affine
    "8-bit pixels": lambda t: Cost(12 + 3, 30),  # kernels/fit.cu, affine_pixels
    "levels to nv12": lambda t: Cost(12 + 1.5, 75, 6),  # kernels/colour.cu, levels_to_420
    # kernels/median.cu: 6 accesses of shared memory a sample, each at a quarter of the rate of issue
    "8-bit median": lambda t: Cost(3 * 2 + 3 / t, 3 * 6 * 4),
}

JOINS = 3
"""Stages of the stream that put frames of two chunks into one array: a copy of the levels each."""

CHAIN = {
    "yuv to levels": 1, "susan": 2, "motion masks": 1, "temporal mean": 1, "lamps": 1,
    "mix and divergence": 1, "poisson": 1, "levels to nv12": 1,
}  # fmt: skip
"""How often a frame meets each step between decoder and encoder, with default settings: there is no colour fit."""

JOIN = Cost(JOINS * 3 * 8)


def predicted(step: str, frames: int, pixels: int, chip: Ceilings) -> dict[str, Any]:
    """Least seconds of a step for one frame, among `frames` worked on together, and what limits it."""
    cost = COSTS[step](frames)
    seconds, limit = cost.floor(chip)
    return {
        "bytes_per_frame": cost.bytes * pixels,
        "instructions_per_frame": cost.instructions * pixels,
        "special_per_frame": cost.special * pixels,
        "floor_seconds_per_frame": seconds * pixels,
        "limit": limit if seconds else "latency",
    }


def compared(prediction: Mapping[str, Any], seconds_per_frame: float, chip: Ceilings) -> dict[str, float]:
    """Rates that a measured time stands for, and their shares of the chip's ceilings."""
    bytes_rate = prediction["bytes_per_frame"] / seconds_per_frame
    shares = {
        "share_of_memory": bytes_rate / chip.bandwidth,
        "share_of_issue": prediction["instructions_per_frame"] / seconds_per_frame / chip.fma,
        "share_of_special": prediction["special_per_frame"] / seconds_per_frame / chip.special,
    }
    return {
        "achieved_gb_per_s": bytes_rate / 1e9,
        **shares,
        "share_of_ceiling": max(shares.values()),
        "times_its_bytes": seconds_per_frame * chip.bandwidth / prediction["bytes_per_frame"]
        if prediction["bytes_per_frame"]
        else 0.0,
    }


def predicted_chain(size: str, frames: int, chip: Ceilings) -> dict[str, float]:
    """Least seconds that each part of the chain takes for one frame, and ``together``."""
    height, width = SIZES[size]
    pixels = height * width
    parts = {
        step: count * COSTS[step](frames).floor(chip)[0] * pixels for step, count in CHAIN.items()
    }  # fmt: skip
    parts["joining of chunks"] = JOIN.floor(chip)[0] * pixels
    return parts | {"together": sum(parts.values())}


# ------------------------------------------------------------------------------------------------ goals


@dataclass(frozen=True)
class Goal:
    """A figure to reach; the best number of frames together counts."""

    work: str
    size: str
    what: str
    """Field of the record that is compared."""
    limit: float
    at_least: bool
    unit: str

    def judged(self, value: float | None) -> dict[str, Any]:
        met = None if value is None else (value >= self.limit if self.at_least else value <= self.limit)
        return {
            "work": self.work,
            "size": self.size,
            "goal": f"{'>=' if self.at_least else '<='} {self.shown(self.limit)}",
            "value": value,
            "unit": self.unit,
            "shown": "" if value is None else self.shown(value),
            "met": met,
        }

    def shown(self, value: float) -> str:
        if self.unit == "s":
            return f"{duration(value)} a frame"
        return f"{value:,.0f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"


def _goals() -> tuple[Goal, ...]:
    bound = [
        Goal(step, "1080p", "times_its_bytes", 1.6, False, "times its bytes")
        for step in (
            "mix and divergence",
            "sums of the fit",
            "apply the fit",
            "yuv to levels",
            "levels to nv12",
        )
    ]
    return (
        Goal("poisson", "1080p", "seconds_per_frame", 0.30e-3, False, "s"),
        Goal("poisson", "1080p", "multigrid_error_levels", 0.25, False, "grey level"),
        Goal("susan", "1080p", "seconds_per_frame", 0.30e-3, False, "s"),
        *bound,
        Goal("chain", "1080p", "frames_per_second", 1000, True, "frames/s"),
        Goal("chain", "4K", "frames_per_second", 250, True, "frames/s"),
        Goal("chain", "320x240", "frames_per_second", 20000, True, "frames/s"),
        Goal("chain", "1080p", "times_cpu", 50, True, "times the CPU"),
    )


GOALS = _goals()


def judged(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every goal against what a report has measured so far."""
    return [goal.judged(_best(goal, data)) for goal in GOALS]


def breakdown(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of the chain at their fastest, and what the fastest chain takes besides."""
    parts = []
    for size in SIZES:
        whole = _fastest(data, "chain", "chain", size)
        steps = {step: _fastest(data, "kernels", step, size) for step in CHAIN}
        if whole is None or None in steps.values():
            continue
        times = {step: count * (steps[step] or 0.0) for step, count in CHAIN.items()}
        times["the rest"] = whole - sum(times.values())
        times["together"] = whole
        parts += [{"size": size, "part": part, "seconds_per_frame": each} for part, each in times.items()]
    return parts


def _fastest(data: Mapping[str, Any], section: str, work: str, size: str) -> float | None:
    return min(
        (
            float(entry["seconds_per_frame"])
            for entry in data.get(section, [])
            if entry["work"] == work and entry["size"] == size
        ),
        default=None,
    )


def _best(goal: Goal, data: Mapping[str, Any]) -> float | None:
    if goal.what == "multigrid_error_levels":
        records = data.get("accuracy", [])
    elif goal.what == "times_cpu":
        records = [entry for entry in data.get("against_cpu", []) if entry["work"] == goal.work]
    elif goal.work == "chain":
        records = data.get("chain", [])
    else:
        records = [entry for entry in data.get("kernels", []) if entry["work"] == goal.work]
    values = [entry[goal.what] for entry in records if entry["size"] == goal.size and entry.get(goal.what)]
    if not values:
        return None
    return max(values) if goal.at_least else min(values)
