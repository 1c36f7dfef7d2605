"""Names of outputs in the folder of a batch: made from the clips' paths, or given by a list."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from gpufuse.errors import ConfigError

__all__ = ["LONGEST_NAME", "OUTPUT_SUFFIXES", "check_distinct", "checked_output", "natural_order", "output_name",
           "shown"]  # fmt: skip

LONGEST_NAME = 200
"""Bytes of the longest name of an output; file systems allow 255, and what lies beside it has longer names."""

OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""How an output may end."""

_LONGEST_FOLDER = 255  # bytes
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]')
_ENCODED = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def shown(name: str) -> str:
    r"""Return a name as it can be printed: on one line, in any encoding of Unicode.

    Examples
    --------
    >>> print(shown("cam 1/a\nb.mp4"))
    cam 1/a\nb.mp4
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)


def natural_order(name: str) -> tuple[list[list[tuple[int, int, str]]], str]:
    """Sort key of a path by which ``10`` comes after ``9``, folder by folder.

    Examples
    --------
    >>> sorted(["cam10/a.mp4", "cam9/b10.mp4", "cam9/b9.mp4"], key=natural_order)
    ['cam9/b9.mp4', 'cam9/b10.mp4', 'cam10/a.mp4']
    """
    key = [
        [
            (0, int(part), "") if index % 2 else (1, 0, part.lower())
            for index, part in enumerate(re.split("([0-9]+)", component))
            if part
        ]
        for component in name.split("/")
    ]
    return key, name


def output_name(relative: str, *, stem: str | None = None) -> str:
    r"""Return the name of the output of a clip.

    Parameters
    ----------
    relative : str
        Path of the clip, relative to the source's root, with forward slashes.
    stem : str, optional
        What to take for the name of the clip without its suffix; by default, just that.

    Returns
    -------
    str
        ``<folders>/<stem>-enhanced.mp4``. Signs that some file systems or terminals cannot bear are written as
        ``%`` and two digits, and what is too long is cut and told apart by a check sum.

    Examples
    --------
    >>> output_name("cam1/0001.avi")
    'cam1/0001-enhanced.mp4'
    >>> output_name("cam1/a\n.avi"), len(output_name("x" * 250 + ".mp4"))
    ('cam1/a%0A-enhanced.mp4', 200)
    """
    path = PurePosixPath(relative)
    folders = [_fitting(folder, "", _LONGEST_FOLDER) for folder in path.parts[:-1]]
    return "/".join([*folders, _fitting(path.stem if stem is None else stem, "-enhanced.mp4", LONGEST_NAME)])


def _fitting(text: str, ending: str, longest: int) -> str:
    encoded = _ENCODED.sub(_percent, text)
    if len((encoded + ending).encode()) <= longest:
        return encoded + ending
    ending = f"~{hashlib.blake2b(os.fsencode(text), digest_size=4).hexdigest()}{ending}"
    room = longest - len(ending)
    return encoded.encode()[:room].decode(errors="ignore") + ending


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def checked_output(text: str) -> str:
    """Check the name of an output that a list gives.

    Parameters
    ----------
    text : str
        A relative path with forward slashes.

    Returns
    -------
    str
        The same, without needless dots and slashes.

    Raises
    ------
    ConfigError
        If it does not lie within the batch's folder, or is no name for a clip on every system.

    Examples
    --------
    >>> checked_output("./night/cam1.mkv")
    'night/cam1.mkv'
    """
    problem = _problem_of(text)
    if problem:
        raise ConfigError(
            f"output: expected a relative path in the batch's folder, found {shown(text)!r}, {problem}; "
            "give a name like 'cam1/0001.mp4'"
        )
    return PurePosixPath(text).as_posix()


def _problem_of(text: str) -> str:
    if forbidden := _FORBIDDEN.search(text):
        return f"which has {forbidden[0]!a} in it"
    if text.startswith("/"):
        return "which is absolute"
    if not text or text.endswith("/"):
        return "which names no file"
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "which leads upwards"
    for part in parts:
        if part.startswith("."):
            return f"of which {part!r} begins with a dot"
        if part != part.rstrip(" .") or part != part.lstrip():
            return f"of which {part!r} begins or ends with a space or a dot"
        if _RESERVED.match(part):
            return f"of which {part!r} is a device on some systems"
        if len(part.encode()) > LONGEST_NAME:
            return f"of which a part is longer than {LONGEST_NAME} bytes"
    if not parts or PurePosixPath(parts[-1]).suffix.lower() not in OUTPUT_SUFFIXES:
        return f"which does not end in {', '.join(OUTPUT_SUFFIXES)}"
    return ""


def check_distinct(names: Iterable[tuple[str, str]]) -> None:
    """Check that no two clips have one output, on any file system.

    Parameters
    ----------
    names : iterable of (str, str)
        For each clip the name of its output, and how to call the clip.

    Raises
    ------
    ConfigError
        If two names are equal but for case, or one lies inside another; names the two clips.

    Examples
    --------
    >>> check_distinct([("a-enhanced.mp4", "a.avi"), ("b-enhanced.mp4", "b.avi")])
    """
    clips: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name, clip in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        above = [key[: found.start()] for found in re.finditer("/", key)]
        other = clips.get(key) or folders.get(key) or next((clips[f] for f in above if f in clips), None)
        if other is not None:
            raise ConfigError(
                f"output: expected a name of its own for each clip, found {shown(name)!r} for {shown(other)} and for "
                f"{shown(clip)}; give a list with a column 'output'"
            )
        clips[key] = clip
        for folder in above:
            folders.setdefault(folder, clip)
