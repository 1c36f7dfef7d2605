"""The report of a batch for programs, and what the page says in the same way."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, Literal, TypeAlias

from gpufuse._version import __version__
from gpufuse.batch.manifest import Manifest
from gpufuse.batch.results import BatchReport, ClipResult

__all__ = [
    "State",
    "clip_speed",
    "path_bytes",
    "printable_command",
    "report_json",
    "shift_pixels",
    "state_of",
]

FORMAT = 1
"""Of `report_json`; grows when a name changes its meaning or goes."""

State: TypeAlias = Literal["failed", "salvaged", "waiting", "done"]


def state_of(result: ClipResult) -> State:
    """Tell the states of the page: what was made of a damaged clip is one of its own."""
    if result.state in ("done", "skipped"):
        return "salvaged" if result.manifest and result.manifest.damage else "done"
    return "failed" if result.state == "failed" else "waiting"


def shift_pixels(manifest: Manifest) -> float | None:
    """How far day and night were apart, if that was measured."""
    shift = manifest.shift or {}
    if shift.get("verdict", "measured") != "measured" or not {"dx", "dy"} <= set(shift):
        return None
    pixels = math.hypot(shift["dx"], shift["dy"])
    return pixels if math.isfinite(pixels) else None


def clip_speed(manifest: Manifest) -> float | None:
    """Frames made in a second of work."""
    return manifest.frames_out / manifest.seconds if manifest.seconds > 0 else None


def report_json(report: BatchReport) -> dict[str, Any]:
    r"""Return all that a batch tells, for programs.

    Parameters
    ----------
    report : BatchReport

    Returns
    -------
    dict
        Ready for `json.dumps`, every text valid Unicode:

        - ``format`` (1), ``gpufuse`` (version), ``folder``, ``workers``, ``notes`` (list of str);
        - ``frames`` and ``seconds`` of this run, ``frames_per_second``; ``exit_code`` of `gpufuse batch`;
        - ``counts``: ``clips``, ``done`` (``salvaged`` and ``skipped`` among them), ``salvaged``, ``skipped`` (made
          by earlier runs), ``failed``, ``waiting``;
        - ``clips``: for each, in the order of the source, ``name`` (of the output, relative to the folder),
          ``clip``, ``day``, ``areas`` (paths), ``camera``, ``settings``, ``state`` (``done``, ``skipped``, ``failed``,
          ``waiting``), ``salvaged`` (bool), ``error``, ``kind``, ``exit_code``, ``attempts``, ``command``,
          ``shift_pixels`` and ``frames_per_second`` (numbers or null), ``manifest`` (as in the file beside the
          output, without its check sum; null where nothing was made), and ``bytes``: of paths that are no UTF-8
          their bytes in hexadecimal, by name; such bytes stand as ``\udcff`` in the texts.

    Examples
    --------
    >>> record = report_json(BatchReport("out", (), 120, 4.0, "2 processes on cpu"))
    >>> record["frames_per_second"], record["counts"]["clips"]
    (30.0, 0)
    """
    record = {
        "format": FORMAT,
        "gpufuse": __version__,
        "folder": report.folder,
        "workers": report.workers,
        "frames": report.frames,
        "seconds": report.seconds,
        "frames_per_second": report.frames / report.seconds if report.seconds > 0 else 0.0,
        "exit_code": report.exit_code,
        "counts": {
            "clips": len(report.results),
            "done": report.count("done", "skipped"),
            "salvaged": sum(state_of(result) == "salvaged" for result in report.results),
            "skipped": report.count("skipped"),
            "failed": report.count("failed"),
            "waiting": report.count("waiting"),
        },
        "notes": list(report.notes),
        "clips": [_clip_record(result) for result in report.results],
    }
    valid: dict[str, Any] = _valid(record)
    return valid


def _clip_record(result: ClipResult) -> dict[str, Any]:
    item, manifest = result.item, result.manifest
    paths = {"name": item.name, "clip": item.clip, "day": item.day, "areas": item.areas}
    return {
        **paths,
        "bytes": {
            name: path_bytes(path).hex() for name, path in paths.items() if path and not _is_valid(path)
        },
        "camera": item.camera,
        "settings": dataclasses.asdict(item.settings),
        "state": result.state,
        "salvaged": state_of(result) == "salvaged",
        "error": result.error,
        "kind": result.kind,
        "exit_code": result.exit_code,
        "attempts": result.attempts,
        "command": printable_command(result.command),
        "shift_pixels": shift_pixels(manifest) if manifest else None,
        "frames_per_second": clip_speed(manifest) if manifest else None,
        "manifest": dataclasses.asdict(manifest) if manifest else None,
    }


def _valid(value: Any) -> Any:
    """Return the same with lists for tuples, null for numbers that are none, and every text valid."""
    if isinstance(value, str):
        return value if _is_valid(value) else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_valid(str(key)): _valid(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_command(command: str) -> str:
    r"""Return a command for a POSIX shell that can be shown, copied and run.

    Parameters
    ----------
    command : str
        As `shlex.join` quotes: whatever is unusual stands between single quotes.

    Returns
    -------
    str
        One line of valid Unicode; bash, zsh and ksh read the same words from it.

    Examples
    --------
    >>> print(printable_command("gpufuse enhance 'a\nb.mp4'"))
    gpufuse enhance 'a'$'\x0a''b.mp4'
    """
    return "".join(sign if sign.isprintable() else f"'$'{_escaped(sign)}''" for sign in command)


def _escaped(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in path_bytes(sign))


def path_bytes(path: str) -> bytes:
    r"""Return the bytes of a path, whatever it holds.

    Examples
    --------
    >>> path_bytes("a\udcff"), path_bytes("a\ud800")
    (b'a\xff', b'a\xed\xa0\x80')
    """
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # of a list, or of Windows
        return path.encode("utf-8", "surrogatepass")
