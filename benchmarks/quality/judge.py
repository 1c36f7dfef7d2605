"""Scenes, methods and measures put together: one row of figures for each scene and method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy

from gpufuse import Settings
from gpufuse.report import truth_figures
from quality import measures
from quality.methods import Fused, Inputs, by_other_method, fused
from quality.scenes import Bytes, Scene

JUDGED_FRAMES = 8
"""Frames of a clip, evenly spaced, on which pictures are judged; what changes in time is judged on all."""

LAMP_EDGE = 3
"""Pixels around a lamp that do not count as a dark body."""


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes
    ----------
    key, title : str
    better : {"higher", "lower"}
    digits : int
        Decimals shown; values that look the same are a tie.
    sentence : str
        What it is.
    goal : bool
        Whether we mean to be first in it.
    """

    key: str
    title: str
    better: Literal["higher", "lower"]
    digits: int
    sentence: str
    goal: bool = False

    def shown(self, value: float) -> str:
        return "" if math.isnan(value) else f"{value:.{self.digits}f}"

    def ahead(self, value: float, other: float) -> bool:
        """Whether a figure is better than another."""
        return value > other if self.better == "higher" else value < other

    def best(self, values: Sequence[float]) -> str:
        """The best of some values as it is shown; empty if there is none."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return ""
        return self.shown(max(known) if self.better == "higher" else min(known))


MEASURES = (
    Measure(
        "q_whole", "Q^AB/F", "higher", 3,
        "gradient preservation of Xydeas and Petrovic (2000), day and night, everywhere; at most 0.975",
    ),
    Measure(
        "q_foreground", "Q fore", "higher", 3,
        "the same for the night's edges inside the foreground, weighted by their strength", goal=True,
    ),
    Measure(
        "q_background", "Q back", "higher", 3,
        "the same for the day's edges outside", goal=True,
    ),
    Measure(
        "q_both", "Q both", "higher", 3,
        "harmonic mean of these two: a method that shows only one of the pictures gains nothing",
        goal=True,
    ),
    Measure(
        "invented", "invented", "lower", 3,
        "edges stronger than those of day and night, such as seams, or contrast that was lifted: N^AB/F of "
        "Petrovic and Xydeas (2005)",
    ),
    Measure(
        "night_kept", "night kept %", "higher", 1,
        "share of the night's gradient energy kept inside the foreground (gpufuse.report.truth_figures)",
    ),
    Measure(
        "day_kept", "day kept %", "higher", 1,
        "share of the day's gradient energy kept outside",
    ),
    Measure(
        "halo", "halo", "lower", 2,
        "mean change of low frequencies (Gaussian, 8 px at a width of 480) against the day in a ring of 2 to "
        "16 px around the foreground, once the result has the day's brightness and contrast; grey levels",
        goal=True,
    ),
    Measure(
        "colour", "colour", "lower", 2,
        "mean CIEDE2000 against the blend target: night inside the foreground, day outside",
    ),
    Measure(
        "lamps", "lamps", "lower", 2,
        "mean CIEDE2000 of lamps, standing and moving, against the night",
    ),
    Measure(
        "bodies", "bodies", "lower", 2,
        "mean CIEDE2000 of the rest of the foreground against the night",
    ),
    Measure(
        "body_contrast", "bodies' contrast", "higher", 2,
        "contrast of the night's dark things in the foreground: projection of the result's gradients on the "
        "night's, away from lamps; 1 is as in the night, outlines against a bright day make it more",
    ),
    Measure(
        "flicker", "flicker", "lower", 3,
        "mean change of still pixels from frame to frame, grey levels", goal=True,
    ),
    Measure(
        "flicker_share", "of input", "lower", 3,
        "the same over that of the noisy night",
    ),
    Measure(
        "noise", "noise", "lower", 3,
        "finest spatial detail of still pixels that does not last (diagonal Haar wavelet), over that of the "
        "night; for a single picture: detail of the background that is not the day's, over that of the night",
    ),
    Measure(
        "noise_in_time", "in time", "lower", 3,
        "standard deviation over time of still pixels, over that of the night",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Figures and frames of one method on one scene."""

    method: str
    ours: bool
    figures: dict[str, float]
    frames: Bytes


@dataclass(frozen=True)
class Judgement:
    """All rows of a scene, our importance with the first settings, and what no method can know.

    `ideal` are the figures of the true foreground of the noiseless night, pasted into the day, where that
    is known.
    """

    scene: Scene
    rows: list[Row]
    importance: Any
    ideal: dict[str, float] | None = None


def judged_scene(scene: Scene, others: Sequence[str], variants: Sequence[tuple[str, Settings]]) -> Judgement:
    """Fuse and judge a scene by our method with some settings and by other methods.

    The first of the variants gives the others their importance and denoising.
    """
    judge = SceneJudge(scene)
    base = fused(scene, variants[0][1])
    rows = []
    for index, (label, settings) in enumerate(variants):
        found: Fused = base if index == 0 else fused(scene, settings)
        rows.append(Row(label, True, judge.figures(found.frames), found.frames))
    inputs = Inputs(scene, base.importance, variants[0][1])
    for name in others:
        frames = by_other_method(name, inputs)
        rows.append(Row(name, False, judge.figures(frames), frames))
    ideal = None
    if scene.clean_night is not None:
        ideal = judge.figures(measures.blend_target(scene.day, scene.clean_night, scene.foreground))
    return Judgement(scene, rows, base.importance, ideal)


class SceneJudge:
    """Finds the figures of any frames that are said to be a fusion of a scene.

    Parameters
    ----------
    scene : Scene
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.still = ~(scene.foreground | scene.ignore)

    def figures(self, frames: Bytes) -> dict[str, float]:
        """All figures of frames ``(T, H, W, 3)`` ``uint8``, by the keys of `MEASURES`; nan where none."""
        if frames.shape != self.scene.night.shape or frames.dtype != numpy.uint8:
            raise ValueError(
                f"frames: expected {self.scene.night.shape} uint8, got {frames.shape} {frames.dtype}; "
                "bring them to the size of the scene"
            )
        count = len(frames)
        chosen = sorted({round(index) for index in numpy.linspace(0, count - 1, min(count, JUDGED_FRAMES))})
        each = [_picture_figures(self.scene, frames[index], index) for index in chosen]
        found = {key: _mean_known([one[key] for one in each]) for key in each[0]}
        return found | self._kept(frames, chosen) | self._noise(frames)

    def _kept(self, frames: Bytes, chosen: list[int]) -> dict[str, float]:
        """Shares of gradient energy; the importance, which other methods do not have, plays no part."""
        scene = self.scene
        unused = numpy.zeros(scene.day.shape[:2], numpy.float32)
        kept = truth_figures(
            frames[chosen],
            scene.day,
            scene.judged_night[chosen],
            scene.foreground[chosen],
            unused,
            ignore=scene.ignore[chosen],
        )
        return {"night_kept": 100 * kept.night_kept, "day_kept": 100 * kept.day_kept}

    def _noise(self, frames: Bytes) -> dict[str, float]:
        found, of_night = self._changes(frames), self._night_changes
        return {
            "flicker": found["flicker"],
            "flicker_share": _ratio(found["flicker"], of_night["flicker"]),
            "noise": _ratio(found["noise"], of_night["noise"]),
            "noise_in_time": _ratio(found["noise_in_time"], of_night["noise_in_time"]),
        }

    @cached_property
    def _night_changes(self) -> dict[str, float]:
        return self._changes(self.scene.night)

    def _changes(self, frames: Bytes) -> dict[str, float]:
        """Flicker and noise in grey levels."""
        if self.scene.kind != "video":
            noise = measures.still_noise(frames[0], self.scene.day, self.still[0])
            return {"flicker": math.nan, "noise": noise, "noise_in_time": math.nan}
        return {
            "flicker": measures.flicker(frames, self.still),
            "noise": measures.fine_noise(frames, self.still),
            "noise_in_time": measures.temporal_noise(frames, self.still),
        }


def _picture_figures(scene: Scene, frame: Bytes, index: int) -> dict[str, float]:
    day, night = scene.day, scene.judged_night[index]
    foreground, ignore, lamps = scene.foreground[index], scene.ignore[index], scene.lamps[index]
    still = ~(foreground | ignore)
    kept = measures.preservation(frame, day, night, foreground & ~ignore, still)
    target = measures.blend_target(day, night, foreground)
    dark = foreground & ~lamps & ~ignore
    shift = measures.colour_difference(frame, target)
    return {
        "q_whole": kept.whole,
        "q_foreground": kept.foreground,
        "q_background": kept.background,
        "q_both": kept.both,
        "invented": kept.invented,
        "halo": measures.halo(frame, day, foreground, ignore),
        "colour": measures.mean_where(shift, ~ignore),
        "lamps": measures.colour_shift(frame, night, lamps),
        "bodies": measures.mean_where(shift, dark),
        "body_contrast": measures.contrast(frame, night, dark & ~measures.grown(lamps, LAMP_EDGE)),
    }


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else math.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def first(rows: Sequence[Row], measure: Measure) -> list[str]:
    """Names of the methods that are best in a measure; several where they look the same."""
    best = measure.best([row.figures[measure.key] for row in rows])
    return [row.method for row in rows if best and measure.shown(row.figures[measure.key]) == best]


def place(row: Row, rows: Sequence[Row], measure: Measure) -> int | None:
    """Place of a row among others, 1 for the best; those that look the same share one."""
    value = row.figures[measure.key]
    if math.isnan(value):
        return None
    mine = measure.shown(value)
    others = [other.figures[measure.key] for other in rows if not math.isnan(other.figures[measure.key])]
    ahead = [other for other in others if measure.shown(other) != mine and measure.ahead(other, value)]
    return 1 + len(ahead)
