"""Patterns over the paths of clips: which camera made a clip, and where its day lies.

A pattern is a path in which ``{name}`` stands for part of a folder's or file's name, ``*`` for anything within a name,
and ``...`` or ``**`` for anything. The rest is taken as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gpufuse.batch.names import shown
from gpufuse.errors import ConfigError

__all__ = ["DEFAULT_PATTERN", "CameraPattern", "fields_of", "filled"]

DEFAULT_PATTERN = "{camera}/..."
"""The first folder is the camera."""

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WILDCARD = re.compile(r"\*\*+|\.\.\.|\*")


def fields_of(text: str) -> tuple[str, ...]:
    """Return the names of the fields in a pattern, in order.

    Examples
    --------
    >>> fields_of("days/{camera}/{month}.png")
    ('camera', 'month')
    """
    return tuple(dict.fromkeys(_FIELD.findall(text)))


@dataclass(frozen=True)
class CameraPattern:
    """A pattern over the path of a clip.

    Attributes
    ----------
    text : str
        Matches a whole path, or one up to a slash. A field is as short as can be, and the same wherever it is repeated.

    Examples
    --------
    >>> CameraPattern("{site}/cam{camera}_*").match("north/cam07_2024/0001.mp4")
    {'site': 'north', 'camera': '07'}
    """

    text: str

    def match(self, relative: str) -> dict[str, str] | None:
        """Return the values of the fields.

        Parameters
        ----------
        relative : str
            Path relative to the source's root, with forward slashes.

        Returns
        -------
        dict or None
            None if the path does not match.
        """
        found = self._expression().fullmatch(relative)
        return None if found is None else found.groupdict()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return fields_of(self.text)

    @property
    def has_wildcards(self) -> bool:
        """Whether it is more than a name."""
        return bool(self.fields or _WILDCARD.search(self.text))

    def _expression(self) -> re.Pattern[str]:
        text = self.text.replace(os.sep, "/").removeprefix("./").rstrip("/")
        known: set[str] = set()
        parts = _FIELD.split(text)  # literal, field, literal, ...
        expression = ""
        for index, part in enumerate(parts):
            if index % 2 == 0:
                expression += _wildcards(part)
            elif part in known:
                expression += f"(?P={part})"
            else:
                known.add(part)
                expression += f"(?P<{part}>[^/]+?)"
        return re.compile(f"{expression}(?:/.*)?", re.DOTALL)


def _wildcards(text: str) -> str:
    expression, end = "", 0
    for found in _WILDCARD.finditer(text):
        expression += re.escape(text[end : found.start()]) + ("[^/]*" if found[0] == "*" else ".*")
        end = found.end()
    return expression + re.escape(text[end:])


def filled(pattern: str, values: Mapping[str, str]) -> str:
    """Put values into a pattern; a value never becomes more than a part of one name.

    Parameters
    ----------
    pattern : str
        Path with fields.
    values : mapping of str to str

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        For a field without a value, and for a value that would lead to another folder.

    Examples
    --------
    >>> filled("days/{camera}.png", {"camera": "cam1"})
    'days/cam1.png'
    """
    missing = [name for name in fields_of(pattern) if name not in values]
    if missing:
        known = ", ".join(f"{{{name}}}" for name in values) or "none"
        raise ConfigError(
            f"day: expected fields that the camera pattern has ({known}), found {{{missing[0]}}}; "
            "name it in --camera, like '{camera}/{night}/...'"
        )
    parts = []
    for part in re.split(r"([/\\])" if os.sep == "\\" else "(/)", pattern):
        text = _FIELD.sub(lambda found: _component(values[found[1]]), part)
        if text != part and text in (".", ".."):
            raise ConfigError(
                f"day: expected a name, found {text!r} where {part!r} was filled in; rename the folder, or "
                "give a list with a column 'day'"
            )
        parts.append(text)
    return "".join(parts)


def _component(value: str) -> str:
    forbidden = {"/", "\0", os.sep, os.altsep or "/", *(":" if os.name == "nt" else "")}
    if forbidden & set(value):
        raise ConfigError(
            f"camera: expected one part of a path, found {shown(value)!r}; give a name without slashes"
        )
    return value
