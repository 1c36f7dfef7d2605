"""The report of a batch for people: a page that opens from the disk, without a network."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from gpufuse._version import __version__
from gpufuse.batch.manifest import Manifest
from gpufuse.batch.names import shown
from gpufuse.batch.record import (
    State,
    clip_speed,
    path_bytes,
    printable_command,
    report_json,
    shift_pixels,
    state_of,
)
from gpufuse.batch.results import BatchReport, ClipResult

__all__ = ["report_json", "report_page"]

_STATES: dict[State, str] = {
    "failed": "Failed",
    "salvaged": "Salvaged",
    "waiting": "Not finished",
    "done": "Done",
}
"""In the order of the page, with their words."""

_COLUMNS = (
    ("", "Pictures", ""),
    ("Clip", "name", "text"),
    ("State", "state", "number"),
    ("In", "frames read", "number"),
    ("Out", "frames written", "number"),
    ("Damage", "kinds of damage", "number"),
    ("Notes", "notes", "number"),
    ("Gaps", "gaps in the frame times", "number"),
    ("Shift, px", "how far the day was found from the night", "number"),
    ("Frames/s", "speed", "number"),
    ("Segments", "segments it was worked on in", "number"),
    ("Device", "device", "text"),
    ("Finished", "time, UTC", "text"),
)
"""Heading, what it is in words, and how it sorts."""

_PICTURES = ((b"RIFF", "webp"), (b"\xff\xd8", "jpeg"), (b"\x89PNG", "png"))
_NOTICED_SHIFT = 0.5  # pixels


def report_page(report: BatchReport, sheets: Mapping[str, bytes], *, made: str | None = None) -> bytes:
    """Return the report as a page: one file that asks nothing of any other.

    Parameters
    ----------
    report : BatchReport
    sheets : mapping of str to bytes
        By the name of the output, the picture of `gpufuse.batch.sheet.thumbnail_sheet`; some may be missing.
    made : str, optional
        When the page was made; by default now.

    Returns
    -------
    bytes
        HTML in UTF-8, to lie in the folder of the batch: outputs are linked from there. It forbids itself by a
        Content-Security-Policy to load anything or to run any script but its own.
    """
    order = list(_STATES)
    results = sorted(report.results, key=lambda result: order.index(state_of(result)))  # stable
    made = made or datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    template = resources.files("gpufuse.batch").joinpath("template.html").read_text(encoding="utf-8")
    heading = shown(os.path.basename(os.path.abspath(report.folder)) or report.folder)
    parts = {
        "policy": _policy(template),
        "title": f"{_text(heading)}: gpufuse batch",
        "heading": _text(heading),
        "tiles": _tiles(report),
        "bar": _bar(report),
        "facts": _facts(report, made),
        "failures": _failures([result for result in results if result.state == "failed"]),
        "heads": "\n".join(_head(*column) for column in _COLUMNS),
        "rows": "\n".join(
            _row(result, sheets.get(result.item.name, b""), number)
            for number, result in enumerate(results, start=1)
        ),
        "footer": f"Made by gpufuse {_text(__version__)}, {_text(made)}. This page loads nothing.",
    }
    # In one pass: what is put in is never searched for marks.
    return re.sub(r"\{\{([a-z]+)\}\}", lambda mark: parts[mark[1]], template).encode()


def _policy(template: str) -> str:
    """Forbid everything but the page's own style and script, by their hashes, and pictures within the page."""
    sources = []
    for tag in ("style", "script"):
        content = template.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        sources.append(f"{tag}-src 'sha256-{digest}'")
    return "; ".join(
        ["default-src 'none'", *sources, "img-src data:", "base-uri 'none'", "form-action 'none'"]
    )


def _text(text: str) -> str:
    """Escape a text for the page; what cannot be seen is spelled out."""
    return html.escape(shown(text))


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h {minutes % 60:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{seconds:.1f}s"


def _tiles(report: BatchReport) -> str:
    counts = _counts(report)
    rate = report.frames / report.seconds if report.seconds > 0 else 0.0
    lines = [_tile("Clips", _count(len(report.results)))]
    for state in ("done", "salvaged", "failed", "waiting"):
        lines.append(_tile(_STATES[state], _count(counts[state]), state if counts[state] else "none", state))
    lines.append(_tile("Frames in this run", _count(report.frames)))
    lines.append(_tile("Frames/s", f"{rate:.1f}"))
    lines.append(_tile("Time", _duration(report.seconds)))
    return "\n".join(lines)


def _tile(word: str, number: str, look: str = "", state: str = "") -> str:
    mark = f' data-state="{state}"' if state else ""
    return f'<li><div class="tile card {look}"{mark}><b>{number}</b>{word}</div></li>'


def _counts(report: BatchReport) -> dict[State, int]:
    counts = dict.fromkeys(_STATES, 0)
    for result in report.results:
        counts[state_of(result)] += 1
    return counts


def _bar(report: BatchReport) -> str:
    """Draw the shares of the states; by attributes, for the policy forbids styles within elements."""
    counts, total, left = _counts(report), max(1, len(report.results)), 0.0
    parts = []
    for state in ("done", "salvaged", "failed", "waiting"):
        width = 1000 * counts[state] / total
        parts.append(f'<rect class="{state}" x="{left:.2f}" width="{width:.2f}" height="8"/>')
        left += width
    words = ", ".join(f"{counts[state]} {word.lower()}" for state, word in _STATES.items())
    return (
        f'<svg class="bar" viewBox="0 0 1000 8" preserveAspectRatio="none" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )


def _facts(report: BatchReport, made: str) -> str:
    manifests = [result.manifest for result in report.results if result.manifest]
    finished = sorted(manifest.finished for manifest in manifests)
    facts = [
        ("Folder", f'<span class="path">{_text(report.folder)}</span>'),
        ("Workers", _text(report.workers)),
    ]
    if finished:
        first, last = _moment(finished[0]), _moment(finished[-1])
        facts.append(("Outputs made", _text(first if first == last else f"{first} to {last}") + " UTC"))
    facts.append(("Report made", _text(made)))
    facts.append(("Versions", "<br>".join(_versions(manifests)) or f"gpufuse {_text(__version__)}"))
    if report.notes:
        facts.append(("Notes", _list(report.notes)))
    return "\n".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in facts)


def _versions(manifests: Iterable[Manifest]) -> list[str]:
    """Lines on what made the outputs: more than one where runs differed."""
    counts: dict[str, int] = {}
    for manifest in manifests:
        line = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        counts[line] = counts.get(line, 0) + 1
    if len(counts) == 1:
        return [_text(line) for line in counts]
    return [f"{_text(line)} ({count} clips)" for line, count in counts.items()]


def _moment(iso: str) -> str:
    """Shorten a time in ISO form: 2026-11-22 10:00."""
    return iso[:16].replace("T", " ")


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _failures(failed: Sequence[ClipResult]) -> str:
    if not failed:
        return ""
    cards = [
        f'<article class="failure card" id="failed-{number}"><h3>{_text(result.item.name)}</h3>'
        f'<p>{_text(result.error or "no reason known")} <span class="soft">({_how_it_failed(result)})</span></p>'
        f"{_repeat(result.command)}</article>"
        for number, result in enumerate(failed, start=1)
    ]
    title = f'<h2 id="failed">Failed: {_count(len(failed))}</h2>'
    return f'<section aria-labelledby="failed">\n{title}\n' + "\n".join(cards) + "\n</section>"


def _how_it_failed(result: ClipResult) -> str:
    parts = [_text(result.kind)] if result.kind else []
    parts.append(f"exit code {result.exit_code}")
    if result.attempts > 1:
        parts.append(f"{result.attempts} attempts")
    return ", ".join(parts)


def _repeat(command: str) -> str:
    if not command:
        return ""
    return f'<div class="repeat"><code>{html.escape(printable_command(command))}</code></div>'


# The table


def _head(heading: str, words: str, sort: str) -> str:
    attributes = f' data-sort="{sort}"' if sort else ""
    if sort == "number" and heading != "State":
        attributes += ' class="n"'
    return f'<th scope="col" title="{words}"{attributes}>{heading or words}</th>'


def _row(result: ClipResult, sheet: bytes, number: int) -> str:
    state = state_of(result)
    cells = [
        _picture(result, sheet),
        _clip(result),
        _state_cell(result, state, number),
        *_figures(result.manifest),
    ]
    return f'<tr data-state="{state}">{"".join(cells)}</tr>'


def _picture(result: ClipResult, sheet: bytes) -> str:
    kind = next((kind for start, kind in _PICTURES if sheet.startswith(start)), None)
    if kind is None:
        return '<td class="picture"></td>'
    data = base64.b64encode(sheet).decode()
    words = f"{_text(result.item.name)}: day, night and result"
    return (
        f'<td class="picture"><img loading="lazy" alt="{words}" src="data:image/{kind};base64,{data}"></td>'
    )


def _clip(result: ClipResult) -> str:
    item, manifest = result.item, result.manifest
    names = [record.path for record in manifest.outputs] if manifest else []
    links = "<br>".join(f'<a href="{_link(name)}">{_text(name)}</a>' for name in names)
    title = links or f"<strong>{_text(item.name)}</strong>"
    camera = f'<span class="camera">{_text(item.camera)}</span>' if item.camera else ""
    sort = html.escape(shown(item.name))
    return f'<td class="clip" data-s="{sort}">{title}{camera}{_details(result)}</td>'


def _link(name: str) -> str:
    """Write a relative link; never one to another scheme or host."""
    return "./" + urllib.parse.quote(path_bytes(name))


def _details(result: ClipResult) -> str:
    manifest, item = result.manifest, result.item
    parts, words = [], []
    if manifest:
        gaps = [f"{start:.2f} s to {stop:.2f} s" for start, stop in manifest.gaps]
        for title, noun, lines in (
            ("Damage", "kind of damage", manifest.damage),
            ("Notes", "note", manifest.notes),
            ("Gaps", "gap", gaps),
        ):
            if lines:
                parts.append(f"<h4>{title}</h4>{_list(lines)}")
                first, _, rest = noun.partition(" ")
                plural = f"{first}s {rest}".strip() if len(lines) > 1 else noun
                words.append(f"{len(lines)} {plural}")
        if shift := _shift_words(manifest):
            parts.append(f"<h4>Shift</h4>{_text(shift)}")
    if result.error:
        parts.append(f"<h4>Error</h4>{_text(result.error)}")
    files = [f"<h4>Night</h4><span class=path>{_text(item.clip)}</span>"]
    files.append(f"<h4>Day</h4><span class=path>{_text(item.day)}</span>")
    return f"<details><summary>{', '.join(words) or 'Details'}</summary>{''.join(parts + files)}</details>"


def _shift_words(manifest: Manifest) -> str:
    shift = manifest.shift
    if not shift:
        return ""
    if shift_pixels(manifest) is None:
        return f"not measured: {shift.get('verdict', 'unknown')}"
    words = f"{shift['dx']:+.2f} px to the right, {shift['dy']:+.2f} px down"
    if shift.get("angle") or shift.get("scale", 1.0) != 1.0:
        words += f", turned by {shift.get('angle', 0.0):.2f} degrees, scaled by {shift.get('scale', 1.0):.4f}"
    return words


def _state_cell(result: ClipResult, state: State, number: int) -> str:
    more = ""
    if state == "failed":  # failures come first, so rows and cards have the same numbers
        more = f'<br><a href="#failed-{number}">why?</a>'
    elif result.state == "skipped":
        more = '<br><span class="soft">earlier run</span>'
    rank = list(_STATES).index(state)
    return f'<td class="state" data-s="{rank}"><span class="badge {state}">{_STATES[state]}</span>{more}</td>'


def _figures(manifest: Manifest | None) -> list[str]:
    labels = [heading for heading, *_ in _COLUMNS[3:]]
    if manifest is None:
        return [f'<td data-l="{label}"></td>' for label in labels]
    lost = manifest.frames_in != manifest.frames_out
    shift, rate = shift_pixels(manifest), clip_speed(manifest)
    numbers = [
        (manifest.frames_in, _count(manifest.frames_in), False),
        (manifest.frames_out, _count(manifest.frames_out), lost),
        (len(manifest.damage), _count(len(manifest.damage)), bool(manifest.damage)),
        (len(manifest.notes), _count(len(manifest.notes)), False),
        (len(manifest.gaps), _count(len(manifest.gaps)), bool(manifest.gaps)),
        (shift, "" if shift is None else f"{shift:.2f}", shift is not None and shift > _NOTICED_SHIFT),
        (rate, "" if rate is None else f"{rate:.1f}", False),
        (manifest.segments, _count(manifest.segments), False),
    ]
    cells = [_number(label, *number) for label, number in zip(labels, numbers, strict=False)]
    device, finished = _text(manifest.device), _text(_moment(manifest.finished))
    cells.append(f'<td class="device" data-l="{labels[-2]}" data-s="{device}">{device}</td>')
    cells.append(
        f'<td class="finished" data-l="{labels[-1]}" data-s="{_text(manifest.finished)}">{finished}</td>'
    )
    return cells


def _number(label: str, value: float | None, text: str, noticed: bool) -> str:
    sort = "" if value is None else f' data-s="{value!r}"'
    return f'<td class="n{" warn" if noticed else ""}" data-l="{label}"{sort}>{text}</td>'
