"""Tables of figures, as text to read and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from quality.judge import MEASURES, Judgement, Measure, first, place


def shown_measures(judgement: Judgement) -> list[Measure]:
    """Measures with at least one figure on a scene."""
    return [
        measure
        for measure in MEASURES
        if any(not math.isnan(row.figures[measure.key]) for row in judgement.rows)
    ]


def scene_table(judgement: Judgement) -> str:
    """One scene in Markdown: a row for each method, a column for each measure, the best in bold."""
    shown = shown_measures(judgement)
    titles = [f"{measure.title} {'↑' if measure.better == 'higher' else '↓'}" for measure in shown]
    rows = []
    for row in judgement.rows:
        cells = [row.method]
        for measure in shown:
            text = measure.shown(row.figures[measure.key])
            cells.append(f"**{text}**" if row.method in first(judgement.rows, measure) else text)
        rows.append(cells)
    if judgement.ideal is not None:
        rows.append(["*ideal*", *(_italic(measure.shown(judgement.ideal[measure.key])) for measure in shown)])
    return markdown(["method", *titles], rows)


def _italic(text: str) -> str:
    return f"*{text}*" if text else ""


def text_table(judgement: Judgement) -> str:
    """The same for a terminal: + and - say what is better, a star marks the best."""
    shown = shown_measures(judgement)
    titles = [measure.title + ("+" if measure.better == "higher" else "-") for measure in shown]
    lines = [["", *(f"{title} " for title in titles)]]
    for row in judgement.rows:
        cells = [row.method]
        for measure in shown:
            star = "*" if row.method in first(judgement.rows, measure) else " "
            cells.append(measure.shown(row.figures[measure.key]) + star)
        lines.append(cells)
    if judgement.ideal is not None:
        lines.append(["(ideal)", *(measure.shown(judgement.ideal[measure.key]) + " " for measure in shown)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}"
        + "".join(f" {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def places_table(judgements: Sequence[Judgement]) -> str:
    """Our figure and place in each measure that is a goal, a row for each scene."""
    goals = [measure for measure in MEASURES if measure.goal]
    rows = []
    for judgement in judgements:
        ours = judgement.rows[0]
        cells = [judgement.scene.name]
        for measure in goals:
            found = place(ours, judgement.rows, measure)
            cells.append("" if found is None else f"{measure.shown(ours.figures[measure.key])} ({found})")
        rows.append(cells)
    return markdown(["scene", *(measure.title for measure in goals)], rows)


def changes_table(judgements: Sequence[Judgement], before: int, after: int) -> str:
    """Two of our rows against each other: means over the scenes, and how many became better or worse."""
    rows = []
    for measure in MEASURES:
        pairs = [
            (judgement.rows[before].figures[measure.key], judgement.rows[after].figures[measure.key])
            for judgement in judgements
        ]
        pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
        if not pairs:
            continue
        changed = [pair for pair in pairs if measure.shown(pair[0]) != measure.shown(pair[1])]
        better = sum(measure.ahead(new, old) for old, new in changed)
        means = [math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True)]
        direction = "↑" if measure.better == "higher" else "↓"
        rows.append(
            [
                f"{measure.title} {direction}",
                *map(measure.shown, means),
                str(better),
                str(len(changed) - better),
            ]
        )
    names = [judgements[0].rows[index].method for index in (before, after)]
    return markdown(["mean over scenes", *names, "scenes better", "scenes worse"], rows)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def not_first(judgements: Sequence[Judgement]) -> list[str]:
    """A line for each measure of a scene in which none of our rows is best; goals first, in bold."""
    goals, others = [], []
    for judgement in judgements:
        ours = [row for row in judgement.rows if row.ours]
        if len(ours) == len(judgement.rows):
            continue
        for measure in shown_measures(judgement):
            ahead = first(judgement.rows, measure)
            if any(row.method in ahead for row in ours):
                continue
            best = measure.best([row.figures[measure.key] for row in judgement.rows])
            own = measure.shown(ours[0].figures[measure.key]) or "none"
            what = f"{judgement.scene.name}, {measure.title}"
            rest = f"{own}, {' and '.join(ahead)} {best} (`{picture_of(judgement)}`)"
            (goals if measure.goal else others).append(
                f"**{what}**: {rest}" if measure.goal else f"{what}: {rest}"
            )
    return goals + others


def picture_of(judgement: Judgement) -> str:
    """File name of a scene's sheet: a small one beside the page where it may be published."""
    return f"quality-{judgement.scene.name}.{'jpg' if judgement.scene.public else 'png'}"


def as_data(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """All figures, for JSON; a figure that does not exist is null."""
    return [
        {
            "scene": judgement.scene.name,
            "kind": judgement.scene.kind,
            "size": list(judgement.scene.day.shape[1::-1]),
            "frames": len(judgement.scene.night),
            "foreground": judgement.scene.foreground_is,
            "methods": {row.method: _rounded(row.figures) for row in judgement.rows},
            "ideal": None if judgement.ideal is None else _rounded(judgement.ideal),
        }
        for judgement in judgements
    ]


def _rounded(figures: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(value, 5) for key, value in figures.items()}
