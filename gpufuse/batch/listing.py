"""From what the user names to the clips of a batch, each with its day, its settings and the name of its output."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpufuse.areas import load_areas
from gpufuse.batch.cameras import DEFAULT_PATTERN, CameraPattern, fields_of, filled
from gpufuse.batch.lists import LIST_SUFFIXES, ClipList, Row, at, changed_settings, read_list
from gpufuse.batch.names import check_distinct, checked_output, output_name, shown
from gpufuse.batch.orders import Item
from gpufuse.batch.sources import Found, find_in_folder, find_matching, first_few, found_nothing
from gpufuse.errors import ConfigError, InputError
from gpufuse.settings import Settings
from gpufuse.stills import is_still, unreadable

__all__ = ["Listing", "list_items"]


@dataclass(frozen=True)
class Listing:
    """The clips of a batch.

    Attributes
    ----------
    items : tuple of Item
        At least one; in natural order of their paths, or in the order of the list.
    notes : tuple of str
        What was left out, and why.
    root : str
        Absolute path that camera patterns and names of outputs count from: the folder, the part of a glob without
        wildcards, or the folder of a list or of one clip.
    """

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    root: str


def list_items(
    source: str | Path,
    day: str | Path | None,
    *,
    camera: str | None = None,
    settings: Settings | None = None,
    areas: str | Path | None = None,
    folder: str | Path,
) -> Listing:
    """List the clips of a batch.

    Parameters
    ----------
    source : path
        A folder, searched with all its folders for `gpufuse.batch.sources.VIDEO_SUFFIXES`; a glob of clips in which
        ``**`` stands for any folders; one clip; or a list (`gpufuse.batch.lists.read_list`). Stills (a folder, a glob
        or a single one) are a clip only where a row of a list names them.
    day : path, optional
        Picture, clip, folder or glob of stills; with fields like ``{camera}``, the values of which the camera pattern
        finds. May be left out where a list has it for every clip.
    camera : str, optional
        Pattern over a clip's path relative to the root, see `gpufuse.batch.cameras`. By default ``{camera}/...`` where
        a day has fields, and none otherwise.
    settings : Settings, optional
        For all clips, but for what a list says.
    areas : path, optional
        File of user areas, for clips of which a list names no other.
    folder : path
        The batch's own folder, where outputs will be.

    Returns
    -------
    Listing
        A missing clip of a list is listed: it fails by itself. A day of any clip is itself not a clip. Clips of a list
        that lie outside the list's folder count from the root of the file system.

    Raises
    ------
    InputError
        If the source is missing or has no clips, or a day is missing.
    ConfigError
        For a mistake in a list or pattern, or where two clips would have one output.
    """
    text, own = os.fspath(source), os.fspath(folder)
    base = os.getcwd()
    common = Row(
        "",
        day="" if day is None else os.fspath(day),
        areas="" if areas is None else os.fspath(areas),
        camera=camera or "",
    )
    planner = _Planner(common, base, settings or Settings())
    kind = _kind_of(text)
    if kind == "list":
        listed = read_list(text)
        return _finished(planner.of_list(listed), (), listed.folder, own)
    if kind == "clip":
        path = os.path.abspath(text)
        if is_still(path):
            raise InputError(
                f"{shown(os.path.basename(path))}: expected a clip, a folder, a glob or a list, found a picture; "
                "name pictures in a list, or use gpufuse enhance"
            )
        found = Found(os.path.dirname(path), (os.path.basename(path),), ())
    else:
        search = find_in_folder if kind == "folder" else find_matching
        found = search(text, leave_out=own)
    if not found.clips:
        raise found_nothing(text)
    items, notes = planner.of_found(found)
    if not items:
        raise InputError(f"{shown(text)}: expected clips besides the day, found none; check the path")
    return _finished(items, found.notes + notes, found.root, own)


def _kind_of(source: str) -> str:
    try:
        if os.path.isdir(source):
            return "folder"
        if os.path.isfile(source):
            return "list" if source.lower().endswith(LIST_SUFFIXES) else "clip"
        missing = not os.path.lexists(source)
    except (OSError, ValueError) as error:
        raise unreadable(source, error) from error
    if missing and "\0" not in source and glob.has_magic(source):
        return "glob"
    found = "none" if missing else "a pipe or device"
    raise InputError(
        f"{shown(source)!r}: expected a folder, a glob, a clip or a list, found {found}; check the path"
    )


def _finished(items: list[tuple[Item, str]], notes: tuple[str, ...], root: str, folder: str) -> Listing:
    check_distinct((item.name, where) for item, where in items)
    inputs = {path for item, _ in items for path in (item.clip, item.day)}
    for item, where in items:
        if os.path.abspath(os.path.join(folder, item.name)) in inputs:
            raise ConfigError(
                f"{shown(where)}: expected an output of its own, found {shown(item.name)!r}, which is an input; choose "
                "another folder or name"
            )
    return Listing(tuple(item for item, _ in items), notes, root)


class _Planner:
    """Finds the day, the settings and the output of each clip."""

    def __init__(self, common: Row, base: str, settings: Settings) -> None:
        self._common, self._base, self._settings = common, base, settings
        self._days: dict[tuple[str, str], _Place] = {}
        self._areas: dict[str, str] = {}

    # -- folders, globs, single clips ----------------------------------------------------------------

    def of_found(self, found: Found) -> tuple[list[tuple[Item, str]], tuple[str, ...]]:
        """Items of clips that were found, and notes on those that are days."""
        day, base = self._common.day, self._base
        if not day:
            raise ConfigError("day: expected the day of the clips, found none; give --day")
        pattern = self._pattern(self._common.camera, day)
        values = [{} if pattern is None else pattern.match(clip) for clip in found.clips]
        days = self._taken_by_days(day, [known for known in values if known is not None])
        kept, are_days = [], []
        for clip, known in zip(found.clips, values, strict=True):
            if os.path.realpath(os.path.join(found.root, clip)) in days:
                are_days.append(clip)
            else:
                kept.append((clip, known))
        if pattern is not None and (wrong := [clip for clip, known in kept if known is None]):
            raise _unmatched(pattern, wrong)
        known_values = [(clip, known or {}) for clip, known in kept]
        self._check_days((clip, self._day(day, known, base)) for clip, known in known_values)
        areas = self._checked_areas(self._common.areas, base)
        items = []
        for clip, known in known_values:
            path = os.path.abspath(os.path.join(found.root, clip))
            place = self._day(day, known, base)
            item = Item(output_name(clip), path, place.path, self._settings, areas, _camera_of(known))
            items.append((item, clip))
        notes = (f"days are not clips, and left out: {first_few(are_days)}",) if are_days else ()
        return items, notes

    def _taken_by_days(self, day: str, values: list[dict[str, str]]) -> set[str]:
        """Real paths of days: of these clips, and whatever else the pattern of the days names."""
        places = [self._day(day, known, self._base) for known in values]
        paths = [place.path for place in places if place.exists]
        if names := fields_of(day):
            every = day
            for name in names:
                every = every.replace(f"{{{name}}}", "*")
            paths += glob.glob(os.path.join(glob.escape(self._base), every))
        return {os.path.realpath(path) for path in paths if os.path.isfile(path)}

    # -- lists ---------------------------------------------------------------------------------------

    def of_list(self, listed: ClipList) -> list[tuple[Item, str]]:
        """Items of the rows of a list."""
        with at(listed.defaults.where):
            settings = changed_settings(self._settings, listed.defaults.settings, listed.folder)
        planned = [(row, *self._of_row(row, listed, settings)) for row in listed.rows]
        self._check_days((row.where, place) for row, _, place in planned)
        return [(item, row.where) for row, item, _ in planned]

    def _of_row(self, row: Row, listed: ClipList, settings: Settings) -> tuple[Item, _Place]:
        with at(row.where):
            clip = _place(row.clip, row.clip, listed.folder)
            if clip.problem:
                raise ConfigError(
                    f"clip: expected one clip, or stills, found {clip.problem}; write a line for each"
                )
            if os.path.isfile(clip.path) and is_still(clip.path):
                raise ConfigError(
                    "clip: expected a clip, or a folder or pattern of stills, found one still; use gpufuse enhance"
                )
            relative, stem = _clip_name(row.clip, clip, listed.folder)
            day, base = (row.day or listed.defaults.day), listed.folder
            if not day:
                day, base = self._common.day, self._base
            if not day:
                raise ConfigError(
                    "day: expected the day of the clip, found none; fill the column, or give --day"
                )
            known = self._values(row, listed, day, relative)
            place = self._day(day, known, base)
            areas, areas_base = (row.areas or listed.defaults.areas), listed.folder
            if not areas:
                areas, areas_base = self._common.areas, self._base
            item = Item(
                checked_output(row.output) if row.output else output_name(relative, stem=stem),
                clip.path,
                place.path,
                changed_settings(settings, row.settings, listed.folder),
                self._checked_areas(areas, areas_base),
                _camera_of(known),
            )
            if not row.output:
                _check_visible(item.name)
        return item, place

    def _values(self, row: Row, listed: ClipList, day: str, relative: str) -> dict[str, str]:
        """Values of the fields: a row has a camera by name or by pattern."""
        given = row.camera or listed.defaults.camera
        named = bool(given) and not CameraPattern(given).has_wildcards
        pattern = self._pattern(self._common.camera if named else given or self._common.camera, day)
        found = {} if pattern is None else pattern.match(relative)
        if named:
            return (found or {}) | {"camera": given}
        if found is None:
            assert pattern is not None
            raise _unmatched(pattern, [relative])
        return found

    # -- both ----------------------------------------------------------------------------------------

    @staticmethod
    def _pattern(camera: str, day: str) -> CameraPattern | None:
        if camera:
            return CameraPattern(camera)
        return CameraPattern(DEFAULT_PATTERN) if fields_of(day) else None

    def _day(self, day: str, values: Mapping[str, str], base: str) -> _Place:
        literal = filled(day, values)
        if (base, literal) not in self._days:
            pattern = filled(day, {name: glob.escape(value) for name, value in values.items()})
            self._days[base, literal] = _place(literal, pattern, base)
        return self._days[base, literal]

    @staticmethod
    def _check_days(days: Iterable[tuple[str, _Place]]) -> None:
        """Refuse a batch without a single day; where some are missing, their clips fail by themselves."""
        missing: dict[str, str] = {}
        found = False
        for clip, place in days:
            found |= place.exists
            if place.problem:
                raise ConfigError(
                    f"{shown(clip)}: expected one day, or stills, found {place.problem}; name one of them"
                )
            if not place.exists:
                missing.setdefault(place.path, clip)
        if missing and not found:
            looked_for = [f"{path} for {clip}" for path, clip in missing.items()]
            raise InputError(f"day: expected {first_few(looked_for)}; found none; check --day and --camera")

    def _checked_areas(self, areas: str, base: str) -> str | None:
        if not areas:
            return None
        path = os.path.abspath(os.path.join(base, areas))
        if path not in self._areas:
            load_areas(path)  # refuses what is no file of areas
            self._areas[path] = path
        return path


def _unmatched(pattern: CameraPattern, clips: list[str]) -> ConfigError:
    return ConfigError(
        f"camera: expected paths like {pattern.text!r}, found {first_few(clips)}; give --camera another pattern, or "
        "name a folder without them"
    )


def _camera_of(values: Mapping[str, str]) -> str:
    return values.get("camera") or "/".join(values.values())


@dataclass(frozen=True)
class _Place:
    """A file, a folder, or a glob of stills.

    Attributes
    ----------
    path : str
        Absolute.
    exists : bool
    problem : str
        What is wrong with the files that a glob names.
    """

    path: str
    exists: bool
    problem: str = ""


def _place(literal: str, pattern: str, base: str) -> _Place:
    """What a path names; `pattern` is the same with what must not act as a wildcard escaped."""
    path = os.path.abspath(os.path.join(base, literal))
    if os.path.isfile(path) or os.path.isdir(path):
        return _Place(path, True)
    if not glob.has_magic(pattern):
        return _Place(path, False)
    whole = pattern if os.path.isabs(pattern) else os.path.join(glob.escape(base), pattern)
    matches = sorted(glob.glob(whole))
    if len(matches) == 1:
        return _Place(os.path.abspath(matches[0]), True)
    wrong = [os.path.basename(match) for match in matches if not os.path.isfile(match) or not is_still(match)]
    problem = f"{len(matches)} files, among them {first_few(wrong)}" if wrong else ""
    return _Place(os.path.abspath(whole), bool(matches), problem)


def _clip_name(text: str, clip: _Place, folder: str) -> tuple[str, str | None]:
    """Path of a row's clip relative to the root, and the stem of its output where it has no suffix."""
    path, stem = clip.path, None
    if os.path.isdir(path):
        stem = os.path.basename(path)
    elif not os.path.isfile(path) and glob.has_magic(text):  # stills: named after their folder
        plain = os.path.join(folder, text)
        while glob.has_magic(plain) and not os.path.isdir(plain):
            plain = os.path.dirname(plain)
        path = os.path.join(os.path.abspath(plain), os.path.basename(os.path.abspath(plain)))
        stem = os.path.basename(path)
    relative = os.path.relpath(path, folder) if _same_drive(path, folder) else ".."
    parts = Path(relative).parts
    if not parts:  # the list's own folder
        return os.path.basename(path), stem
    if parts[0] == "..":  # outside: a name that no other row can change
        parts = Path(path).parts[1:]
    return "/".join(parts), stem


def _same_drive(path: str, folder: str) -> bool:
    return os.path.splitdrive(path)[0].lower() == os.path.splitdrive(folder)[0].lower()


def _check_visible(name: str) -> None:
    if any(part.startswith(".") for part in name.split("/")):
        raise ConfigError(
            f"output: expected a name that does not begin with a dot, found {shown(name)!r}; fill the column 'output'"
        )
