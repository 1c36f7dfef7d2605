"""Finding clips in folders, by suffix or by a glob, without following links into loops or out of the folder."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gpufuse.batch.manifest import manifest_path, read_manifest
from gpufuse.batch.names import natural_order, shown
from gpufuse.errors import ConfigError, DamagedInputError, InputError
from gpufuse.stills import unreadable

__all__ = ["VIDEO_SUFFIXES", "Found", "find_in_folder", "find_matching", "first_few", "found_nothing"]

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv", ".wmv",
    ".asf", ".ogv", ".3gp", ".h264", ".hevc", ".mjpeg", ".mjpg",
)  # fmt: skip
"""How the name of a clip may end, in any case, for a folder to be searched."""

_OWN_OUTPUT = re.compile(r".+-enhanced(-compare)?\.(mp4|m4v|mov|mkv)", re.IGNORECASE)
_PART = re.compile(r".+\.part-[0-9a-f]{8}")


@dataclass(frozen=True)
class Found:
    """Clips of a folder.

    Attributes
    ----------
    root : str
        Absolute path of the folder.
    clips : tuple of str
        Paths relative to it, with forward slashes, in natural order.
    notes : tuple of str
        What was left out, and why.
    """

    root: str
    clips: tuple[str, ...]
    notes: tuple[str, ...]


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Return some names for a line to the user.

    Examples
    --------
    >>> first_few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    known = [shown(name) for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def find_in_folder(folder: str, *, leave_out: str) -> Found:
    """Find the clips in a folder and all folders in it.

    Parameters
    ----------
    folder : str
    leave_out : str
        The batch's own folder.

    Returns
    -------
    Found
        What ends in `VIDEO_SUFFIXES`. Left out are hidden files and folders and, with notes, our own outputs and links
        that lead out of the folder.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    walk = _Walk(os.path.abspath(folder), lambda relative: _is_video(relative), None, leave_out)
    return walk.found()


def find_matching(pattern: str, *, leave_out: str) -> Found:
    """Find the clips that a glob names.

    Parameters
    ----------
    pattern : str
        ``*``, ``?`` and ``[...]`` within a name, ``**`` for any folders. Where it ends in a suffix, files of just that
        suffix are taken, otherwise those of `VIDEO_SUFFIXES`.
    leave_out : str
        As of `find_in_folder`.

    Returns
    -------
    Found
        Relative to the part of the pattern that has no wildcards; empty where there is no such folder.

    Raises
    ------
    InputError
        If that folder cannot be read.
    """
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    patterns = parts[fixed:]
    suffix = os.path.splitext(patterns[-1])[1]
    states_suffix = bool(suffix) and not glob.has_magic(suffix)

    def wanted(relative: str) -> bool:
        return (states_suffix or _is_video(relative)) and _matches(tuple(relative.split("/")), patterns)

    root = os.path.abspath(os.path.join(*parts[:fixed], ""))
    if not os.path.isdir(root):
        return Found(root, (), ())
    depth = None if "**" in patterns else len(patterns)
    return _Walk(root, wanted, depth, leave_out).found()


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        rest = patterns[1:]
        return not rest or any(_matches(parts[start:], rest) for start in range(len(parts)))
    return bool(parts) and fnmatch.fnmatch(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


@dataclass
class _Walk:
    """One search of a folder; real folders first, then what links add to them."""

    root: str
    wanted: Callable[[str], bool]
    depth: int | None
    leave_out: str
    clips: dict[str, str] = field(default_factory=dict)  # relative paths, by the real one
    visited: set[tuple[int, int]] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def found(self) -> Found:
        self._real_root = os.path.realpath(self.root)
        own = os.path.realpath(self.leave_out)
        if own == self._real_root:
            raise ConfigError(
                f"{shown(self.leave_out)}: expected a folder for the results other than that of the clips, found the "
                "same; give another, which may lie inside it"
            )
        self._own = own
        self._search("")
        while self.links:
            links, self.links = sorted(self.links, key=natural_order), []
            for link in links:
                self._follow(link)
        notes = [f"{reason}: {first_few(names)}" for reason, names in self.left_out.items()]
        return Found(self.root, tuple(sorted(self.clips.values(), key=natural_order)), tuple(notes))

    def _search(self, start: str) -> None:
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            for entry in self._entries(folder):
                relative = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    self.links.append(relative)
                elif entry.is_dir():
                    waiting.append(relative)
                elif self.wanted(relative):
                    self._take(relative, entry.path)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        path = os.path.join(self.root, folder) if folder else self.root
        if self.depth is not None and folder.count("/") + bool(folder) >= self.depth:
            return []
        try:
            facts = os.stat(path)
            if (facts.st_dev, facts.st_ino) in self.visited or os.path.realpath(path) == self._own:
                return []
            self.visited.add((facts.st_dev, facts.st_ino))
            with os.scandir(path) as entries:
                return list(entries)
        except (OSError, ValueError) as error:
            if not folder:
                raise unreadable(path, error) from error
            self._leave_out("folders that cannot be read are left out", folder)
            return []

    def _follow(self, link: str) -> None:
        path = os.path.join(self.root, link)
        try:
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode
        except OSError:  # it leads nowhere, or to itself
            if _is_video(link):
                self._leave_out("links that lead nowhere are left out", link)
            return
        if not stat.S_ISDIR(mode) and not self.wanted(link):
            return
        if real != self._real_root and not real.startswith(os.path.join(self._real_root, "")):
            self._leave_out("links that lead out of the folder are left out", link)
        elif stat.S_ISDIR(mode):
            self._search(link)
        elif real in self.clips:
            self._leave_out("links to clips that are listed anyway are left out", link)
        else:
            self._take(link, path)

    def _take(self, relative: str, path: str) -> None:
        if not os.path.isfile(path):
            self._leave_out("pipes and devices are left out", relative)
        elif _PART.fullmatch(relative):
            self._leave_out("unfinished outputs are left out", relative)
        elif _is_own_output(path):
            self._leave_out("outputs of gpufuse are left out (name them in a list to work on them)", relative)
        else:
            self.clips[os.path.realpath(path)] = relative

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)


def _is_own_output(path: str) -> bool:
    if _OWN_OUTPUT.fullmatch(os.path.basename(path)):
        return True
    try:
        return manifest_path(path).is_file() and read_manifest(path) is not None
    except (DamagedInputError, OSError):
        return False  # some other program's notes on the clip


def found_nothing(what: str) -> InputError:
    """Return the error for a source without any clip."""
    return InputError(
        f"{shown(what)}: expected clips ({', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES)}), found none; "
        "check the path, or name other files in a list"
    )
