"""Cost and memory per pixel against size, one picture per kind of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpufuse.bench.kinds import KINDS
from gpufuse.bench.records import Row, Size

__all__ = ["write_charts"]

_INK = "#767676"
"""Legible on white and on black alike."""

_OURS, _OTHERS = (
    "#d1601f",
    ("#3b7fc4", "#2f8f6b", "#8a63c9", "#b0487e", "#7d7a2c", "#4a90a4", "#a06a50", "#767676"),
)


def write_charts(rows: Sequence[Row], folder: Path) -> list[str]:
    """Draw time and memory per pixel against the number of pixels.

    Parameters
    ----------
    rows : sequence of Row
    folder : Path

    Returns
    -------
    list of str
        Names of the files written, ``peers-KIND.svg``; none where nothing was measured.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    names = []
    for kind in KINDS:
        measured = [row for row in rows if row.kind == kind and row.state == "measured"]
        if measured:
            names.append(f"peers-{kind}.svg")
            _write_chart(kind, measured, folder / names[-1])
    return names


def _write_chart(kind: str, rows: list[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.2), layout="constrained")
    figure.patch.set_alpha(0)
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{KINDS[kind].title}: one {KINDS[kind].unit}", color=_INK)
    _draw(left, rows, "nanoseconds per pixel", lambda row: row.seconds and 1e9 * row.seconds)
    _draw(
        right, rows, "bytes of memory of a whole run per pixel of one picture", lambda row: row.memory_bytes
    )
    figure.savefig(path, metadata={"Date": None})


def _draw(axes: Any, rows: list[Row], heading: str, value_of: Any) -> None:
    """Lines with their names at their ends."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.patch.set_alpha(0)
    axes.set_title(heading, color=_INK, fontsize=10)
    sizes = sorted({Size.of(row.size) for row in rows}, key=lambda size: size.pixels)
    axes.set_xticks([size.pixels for size in sizes], [str(size) for size in sizes], rotation=20, ha="right")
    axes.minorticks_off()
    axes.grid(color=_INK, alpha=0.25, linewidth=0.5)
    axes.tick_params(colors=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    ends = []
    names = list(dict.fromkeys(row.name for row in rows))
    others = iter(_OTHERS * len(names))
    for name in names:
        own = [row for row in rows if row.name == name and value_of(row)]
        if not own:
            continue
        colour = _OURS if own[0].ours else next(others)
        x = [Size.of(row.size).pixels for row in own]
        y = [value_of(row) / pixels for row, pixels in zip(own, x, strict=True)]
        width = 2.2 if own[0].ours else 1.2
        axes.plot(x, y, color=colour, marker="o", markersize=4, linewidth=width)
        ends.append((y[-1], x[-1], name, colour))
    smallest, largest = sizes[0].pixels, sizes[-1].pixels
    span = max(largest / smallest, 2.0)
    axes.set_xlim(smallest / span**0.06, largest * span**0.62)
    _name_lines(axes, ends, largest)


def _name_lines(axes: Any, ends: list[tuple[float, int, str, str]], right: int) -> None:
    """Write names beside the last points, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    step = (high / low) ** (1 / 22)
    free = 0.0
    for value, x, name, colour in sorted(ends):
        place = max(value, free)
        free = place * step
        axes.annotate(
            name,
            (x, value),
            (right * 1.12, place),
            color=colour,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.4, "linewidth": 0.6},
        )
    axes.set_ylim(low, max(high, free))
