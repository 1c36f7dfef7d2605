"""The page: what was judged, how, and with what outcome."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy

from gpufuse import Settings
from quality.judge import MEASURES, Judgement, Row
from quality.tables import as_data, changes_table, not_first, picture_of, places_table, scene_table

Variants = Sequence[tuple[str, Settings]]

OPENING = """\
`python benchmarks/quality_report.py --publish` wrote this page; no figure on it is typed. gpufuse stands
beside what could be taken instead: average and maximum of day and night, the blend of pixels by the
importance that gpufuse finds (after the same denoising) and their substitution where it is at least one
half, exposure fusion of Mertens, Kautz and van Reeth (OpenCV), and `cv2.seamlessClone` of the night into
the day where the importance is above 0, with the night's gradients and with the larger ones ("mixed").
Average, maximum and exposure fusion know no importance and take the night as it is, with its noise; all
others have ours, which may not be the best for them.
"""

READING = """\
No single figure says which picture is better; read them together, and look.

- The **maximum** leaves every pixel that is darker at night as it is by day. So it is first, or near it, in
  what judges the background (halo, flicker, colour), and shows no dark thing that moves: see the contrast of
  bodies.
- **Blend and substitution** put the night's own pixels where the importance is high, so edges and colours
  there, lamps too, are right by construction. Their dark patches and seams count in "invented" and, where the
  importance reaches beyond the foreground, in the halo.
- In a **static pair** nothing is known to have moved. Its foreground is what is lit at night, which the
  maximum shows by definition; what only the night has and is dark counts as background there.
- The foreground of **pictures** is no truth but a rule, and it is much like the rule of our importance: bright
  pixels of a pair, the difference to a reference. This favours all who are given that importance, most of
  all the substitution, whose pixels are nearly the foreground itself. Where the foreground is said to be
  true, in the two clips, nobody has this advantage.
- The **ideal** is no method: the true foreground of the night without noise, pasted into the day. It shows
  what a figure can reach; edges where night meets day keep it below the best.
- **Lit windows and signs** that stand still count as background. To keep them, as gpufuse and the maximum do,
  costs in all that compares the background with the day.
- Halo and colour of a **gradient method** are hardly ever 0: what its equation changes at a lamp it spreads,
  which is also why it leaves no seams.
"""

PLACES = "Our figure and, in brackets, our place among the methods, in what we mean to be first in."

NOT_FIRST = (
    "Goals come first, in bold. Each line: our figure, who is first and with what, the sheet to look at."
)

CLOSING = """\
Clips are judged on 8 frames, evenly spaced; flicker and noise on all. Edges and colours of the night are
taken from the night without its noise where that is known; near the lamps of the relit clip a median over
3x3 pixels stands for it. Sheets of real footage are written by the
command and not kept here.
"""


def light(judgement: Judgement) -> Judgement:
    """The same without the frames of the methods, which take much memory."""
    rows = [Row(row.method, row.ours, row.figures, numpy.empty(0, numpy.uint8)) for row in judgement.rows]
    return Judgement(judgement.scene, rows, None, judgement.ideal)


def data(judgements: Sequence[Judgement], variants: Variants, left_out: Sequence[str]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "settings": {
            name: {key: _finite(value) for key, value in changed_settings(settings).items()}
            for name, settings in variants
        },
        "measures": {
            measure.key: {"title": measure.title, "better": measure.better, "is": measure.sentence}
            for measure in MEASURES
        },
        "scenes": as_data(judgements),
        "not_first": not_first(judgements),
        "left_out": list(left_out),
    }


def _finite(value: Any) -> Any:
    """A value as JSON knows it, which has no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def changed_settings(settings: Settings) -> dict[str, Any]:
    """Settings that are not the defaults."""
    usual = dataclasses.asdict(Settings())
    return {name: value for name, value in dataclasses.asdict(settings).items() if value != usual[name]}


def page(judgements: Sequence[Judgement], variants: Variants, left_out: Sequence[str]) -> str:
    """Everything, in Markdown."""
    peers = any(not row.ours for judgement in judgements for row in judgement.rows)
    parts = ["# Quality", OPENING if peers else "", _settings(variants)]
    for index in range(1, len(variants)):
        parts += [f"## {variants[0][0]} and {variants[index][0]}", changes_table(judgements, 0, index)]
    if peers:
        parts += ["## Places", PLACES, places_table(judgements)]
    for judgement in judgements:
        parts += _scene(judgement)
    if peers:
        missed = [f"- {line}" for line in not_first(judgements)] or ["Nowhere."]
        parts += ["## Where gpufuse is not first", NOT_FIRST, "\n".join(missed)]
        parts += ["## How to read it", READING]
    parts += ["## Measures", "\n".join(f"- **{measure.title}**: {measure.sentence}." for measure in MEASURES)]
    parts.append(CLOSING)
    if left_out:
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _settings(variants: Variants) -> str:
    lines = []
    for name, settings in variants:
        changed = changed_settings(settings)
        words = ", ".join(f"`{key}={value}`" for key, value in changed.items())
        lines.append(f"{name}: {words or 'default settings'}.")
    return " ".join(lines)


def _scene(judgement: Judgement) -> list[str]:
    scene = judgement.scene
    height, width = scene.day.shape[:2]
    frames = f", {len(scene.night)} frames" if scene.kind == "video" else ""
    about = f"{scene.kind.capitalize()}, {width}x{height}{frames}. Foreground: {scene.foreground_is}."
    picture = f"![{scene.name}: all methods]({picture_of(judgement)})" if scene.public else ""
    return [f"## {scene.name}", about, picture, scene_table(judgement)]
