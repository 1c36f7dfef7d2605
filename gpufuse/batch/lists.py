"""Lists of clips that users write: CSV files with a header line, and TOML files with ``[[clip]]`` tables."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufuse.batch.names import shown
from gpufuse.errors import ConfigError
from gpufuse.settings import Settings

__all__ = ["COLUMNS", "LIST_SUFFIXES", "ClipList", "Row", "at", "changed_settings", "read_list"]

COLUMNS = ("clip", "day", "settings", "areas", "output", "camera")
"""What a list may say of a clip."""

LIST_SUFFIXES = (".csv", ".toml")
"""How the name of a list ends."""

_DEFAULTS = ("day", "settings", "areas", "camera")


@dataclass(frozen=True)
class Row:
    """What a list says of one clip, or of all that say nothing else; empty where it says nothing.

    Attributes
    ----------
    where : str
        File and line, to name in errors.
    clip, day, areas, output, camera : str
    settings : str or dict
        Words ``name=value``, the path of a TOML file, or a table.
    """

    where: str
    clip: str = ""
    day: str = ""
    settings: str | Mapping[str, Any] = ""
    areas: str = ""
    output: str = ""
    camera: str = ""


@dataclass(frozen=True)
class ClipList:
    """A list.

    Attributes
    ----------
    folder : str
        Absolute path of the folder that its paths are relative to.
    defaults : Row
    rows : tuple of Row
        At least one.
    """

    folder: str
    defaults: Row
    rows: tuple[Row, ...]


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """Name the place in a list in front of a mistake."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def read_list(path: str | Path) -> ClipList:
    """Read a list of clips.

    Parameters
    ----------
    path : path
        ``.csv``: UTF-8, with commas, a header line with `COLUMNS` of which all but ``clip`` may be left out; empty
        lines and those that begin with # are passed over. ``.toml``: ``[[clip]]`` tables of the same names, and above
        them day, settings, areas and camera for all clips. A camera is a pattern (`gpufuse.batch.cameras`) or, without
        fields and wildcards, a name.

    Returns
    -------
    ClipList

    Raises
    ------
    ConfigError
        For every mistake, with file and line or number of the clip.
    """
    path = Path(path)
    name = shown(path.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{name} line {line}: expected UTF-8, found other bytes; save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{name}: expected a readable list, found {error.strerror!r}; check path and permissions"
        ) from error
    read = _toml if path.suffix.lower() == ".toml" else _csv
    defaults, rows = read(name, text)
    if not rows:
        raise ConfigError(f"{name}: expected at least one clip, found none; write a line for each clip")
    for row in (defaults, *rows):
        _check(row)
    return ClipList(os.path.dirname(os.path.abspath(path)), defaults, tuple(rows))


def _check(row: Row) -> None:
    for column in COLUMNS:
        if isinstance(text := getattr(row, column), str) and "\0" in text:
            raise ConfigError(
                f"{row.where}: expected text in {column!r}, found a null character; mend the line"
            )


# --------------------------------------------------------------------------------------------- CSV


class _Lines:
    """Lines for the reader of CSV, without comments and empty lines between rows; knows where a row began."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")  # which splits at line ends alone
        self._number = 0
        self.start = 0
        self.between_rows = True

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self._number += 1
            if not self.between_rows:
                return line
            if line.strip() and not line.lstrip().startswith("#"):
                self.start, self.between_rows = self._number, False
                return line
        raise StopIteration


def _csv(name: str, text: str) -> tuple[Row, list[Row]]:
    rows = _csv_rows(name, text)
    where, header = next(rows, (name, []))
    columns = [cell.strip() for cell in header]
    _check_columns(where, columns)
    found = []
    for where, cells in rows:
        if len(cells) != len(columns):
            raise ConfigError(
                f"{where}: expected {len(columns)} cells ({', '.join(columns)}), found {len(cells)}; put commas "
                'between them, and quotes around one that has commas: "a,b.mp4"'
            )
        row = Row(where, **dict(zip(columns, (cell.strip() for cell in cells), strict=True)))
        if not row.clip:
            raise ConfigError(
                f"{where}: expected a clip, found an empty cell; name a file, or delete the line"
            )
        found.append(row)
    return Row(name), found


def _csv_rows(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    while True:
        lines.between_rows = True
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError(
                f"{name} line {lines.start}: expected cells with commas between them, found a mistake ({error}); "
                "check the quotes"
            ) from error
        if any(cell.strip() for cell in cells):
            yield f"{name} line {lines.start}", cells


def _check_columns(where: str, columns: list[str]) -> None:
    wanted = f"expected a header line of {', '.join(COLUMNS)} with at least clip"
    for column in columns:
        if column not in COLUMNS:
            raise ConfigError(
                f"{where}: {wanted}, found {shown(column)!r}; check its spelling and the commas"
            )
        if columns.count(column) > 1:
            raise ConfigError(f"{where}: {wanted}, found {column!r} twice; leave one out")
    if "clip" not in columns:
        raise ConfigError(f"{where}: {wanted}, found none; write a first line like clip,day")


# -------------------------------------------------------------------------------------------- TOML


def _toml(name: str, text: str) -> tuple[Row, list[Row]]:
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{name}: expected TOML, found a mistake ({error}); write [[clip]] and lines like clip = 'a.mp4' below it"
        ) from error
    clips = tables.pop("clip", [])
    if not isinstance(clips, list) or not all(isinstance(clip, dict) for clip in clips):
        raise ConfigError(
            f"{name}: expected [[clip]] tables, found another 'clip'; write [[clip]] above each clip"
        )
    defaults = _toml_row(name, tables, _DEFAULTS)
    rows = [_toml_row(f"{name} clip {number}", clip, COLUMNS) for number, clip in enumerate(clips, start=1)]
    for row in rows:
        if not row.clip:
            raise ConfigError(f"{row.where}: expected a clip, found none; write clip = 'a.mp4'")
    return defaults, rows


def _toml_row(where: str, table: dict[str, Any], keys: tuple[str, ...]) -> Row:
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(
                f"{where}: expected {', '.join(keys)}; found {shown(key)!r}; check its spelling"
                + (", and write it below [[clip]]" if key in COLUMNS else "")
            )
        if not isinstance(value, str) and not (key == "settings" and isinstance(value, dict)):
            kind = "text or a table" if key == "settings" else "text"
            raise ConfigError(f"{where}: expected {key} to be {kind}, found {value!r}; put it in quotes")
    return Row(where, **table)


# ---------------------------------------------------------------------------------------- settings


def changed_settings(settings: Settings, given: str | Mapping[str, Any], folder: str) -> Settings:
    """Return settings with what a row of a list says.

    Parameters
    ----------
    settings : Settings
        What holds where the row says nothing.
    given : str or mapping
        Words ``name=value``, the path of a TOML file, or a table.
    folder : str
        What the path is relative to.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> changed_settings(Settings(c=3), "passes=1 night_gain=auto", ".").passes
    1
    """
    if not given:
        return settings
    if isinstance(given, str) and not given.lower().endswith(".toml"):
        if wrong := [word for word in given.split() if "=" not in word]:
            raise ConfigError(
                f"settings: expected words like passes=1, or a .toml file, found {shown(wrong[0])!r}; mend it"
            )
        return settings.with_words(given.split())
    if isinstance(given, str):
        path = os.path.join(folder, given)
        Settings.from_toml(path)  # says what is wrong with it
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    return settings.replace(**{name: None if value == "auto" else value for name, value in given.items()})
