"""Every parameter of the method, as one frozen record; from TOML files and ``name=value`` words."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from gpufuse.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Parameters of the fusion.

    Thresholds are in grey levels (255 = white) for every input depth, lengths in pixels or frames. The defaults are
    the paper's, except where figures and pictures spoke for another: `paper` puts those back.

    Attributes
    ----------
    sigma : float
        SUSAN: standard deviation of the spatial and temporal Gaussian, pixels and frames.
    brightness_threshold : float
        SUSAN: difference in grey levels at which a neighbour's weight falls to 1/e.
    passes : int
        SUSAN: how often the filter is applied to a clip; 0 switches it off.
    gradient_threshold : float or None
        Static pair: least gradient of the night that counts as important, grey levels per pixel; None
        (``auto``): follows the noise of the picture.
    intensity_threshold : float
        Static pair: least brightness of the night that counts as important, grey levels.
    feather : float
        Static pair and dynamic scene: width of the soft border of important areas, pixels.
    difference_threshold : float
        Dynamic scene: difference to the reference at which importance begins, grey levels.
    difference_span : float
        Dynamic scene: grey levels above `difference_threshold` at which importance reaches 1.
    difference_smoothing : float
        Dynamic scene: Gaussian over the difference, pixels.
    motion_threshold : float or None
        Video: change between frames that counts as motion, grey levels; None (``auto``): follows the
        noise measured in the first frames of the clip.
    motion_from : {"intensity", "gradient"}
        Video: what is compared between frames.
    c : int
        Video: extent of influence of a motion mask, frames either way.
    importance_gain : float
        Video: factor on the temporal mean before it is cut at 1 (the paper: 1). What moves fast is at a place for few
        frames, and its mean is small.
    lamp_threshold : float
        Video: brightness at which a light that moves keeps its full importance, and draws the
        reconstruction to its own colour, grey levels; ``inf`` (the paper): there are no lamps.
    night_gain : float or None
        Factor on the night's gradients (the paper: 1); None (``auto``): 1 for pictures, and for video a gain on
        what is dark, measured from the contrast of night and day (`gpufuse.mixing.contrast_lift`), in
        grey, and only where something is important.
    larger_where_zero : bool
        Video and dynamic scene: where the importance is 0, take the larger gradient.
    larger_threshold : float or None
        Least gradient of the night that is taken there, grey levels per pixel; None (``auto``): follows the noise
        of the first frames (`gpufuse.mixing.night_floor`); 0: the paper.
    method : {"multigrid", "dct"}
        Solver of the Poisson equation.
    cycles : int
        Multigrid: V-cycles after the nested iteration.
    data_weight : float or None
        How strongly the reconstruction is pulled towards day and night themselves, per square pixel: shapes
        up to ``1 / sqrt(data_weight)`` pixels keep their gradients, larger ones keep the day's brightness. None
        (``auto``): 2500 over the number of pixels, at most 0.05. 0 (the paper): not at all.
    padding : {"none", "square"}
        ``square``: pad to the next power-of-two square before gradients are taken, as in the paper.
    fit : {"channels", "luminance"}
        What the colour fit looks at: each channel by itself (the paper), or one scale for all, by luminance. Used
        where `data_weight` is 0: a picture that was pulled is in grey levels already.
    fit_window : int or None
        Video: frames that share one colour fit; None: 2c + 1; 1: frame by frame.

    Raises
    ------
    ConfigError
        If a value is of the wrong kind or out of range.

    Examples
    --------
    >>> Settings().c
    5
    >>> Settings().replace(passes=1).passes
    1
    """

    sigma: float = 15.0
    brightness_threshold: float = 20.0
    passes: int = 2
    gradient_threshold: float | None = None
    intensity_threshold: float = 200.0
    feather: float = 1.5
    difference_threshold: float = 12.0
    difference_span: float = 24.0
    difference_smoothing: float = 1.5
    motion_threshold: float | None = None
    motion_from: Literal["intensity", "gradient"] = "intensity"
    c: int = 5
    importance_gain: float = 2.0
    lamp_threshold: float = 150.0
    night_gain: float | None = None
    larger_where_zero: bool = True
    larger_threshold: float | None = None
    method: Literal["multigrid", "dct"] = "multigrid"
    cycles: int = 2
    data_weight: float | None = None
    padding: Literal["none", "square"] = "none"
    fit: Literal["channels", "luminance"] = "channels"
    fit_window: int | None = None

    def __post_init__(self) -> None:
        for field, kind in _kinds().items():
            object.__setattr__(self, field, _checked(field, getattr(self, field), kind))

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some values changed.

        Parameters
        ----------
        **changes
            Field names and their new values.

        Raises
        ------
        ConfigError
            For an unknown name or a bad value.
        """
        _check_names(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def paper(cls, **changes: Any) -> Settings:
        """Return the paper's values of what differs from it by default, with some values changed.

        Left as they are: `fit_window` (1 in the paper) and `padding` (square in the paper).

        Parameters
        ----------
        **changes
            As of `replace`.

        Raises
        ------
        ConfigError
            For an unknown name or a bad value.

        Examples
        --------
        >>> Settings.paper().data_weight
        0.0
        """
        values: dict[str, Any] = {"importance_gain": 1.0, "night_gain": 1.0}
        values |= {"lamp_threshold": math.inf, "larger_threshold": 0.0, "data_weight": 0.0}
        return cls().replace(**(values | changes))

    @classmethod
    def from_toml(cls, path: str | Path) -> Settings:
        """Read settings from a TOML file with ``name = value`` lines.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        ConfigError
            If the file cannot be read, is no TOML, or names unknown or bad values.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"{path}: expected TOML, found a mistake ({error}); write lines like passes = 1"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: no text, or no file name
            raise ConfigError(
                f"{path}: expected a readable settings file, found none ({error}); check the path"
            ) from error
        _check_names(table)
        return cls().replace(**{name: _none_if_auto(value) for name, value in table.items()})

    def with_words(self, words: Iterable[str]) -> Settings:
        """Return a copy changed by words ``name=value``, as on the command line.

        Parameters
        ----------
        words : iterable of str

        Raises
        ------
        ConfigError
            For a word of another form, an unknown name or a bad value.

        Examples
        --------
        >>> Settings().with_words(["night_gain=2", "motion_threshold=auto"]).night_gain
        2.0
        """
        changes: dict[str, Any] = {}
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                raise ConfigError(f"--set: expected name=value, got {word!r}; for example --set passes=1")
            changes[name.strip()] = text.strip()
        _check_names(changes)
        kinds = _kinds()
        return self.replace(**{name: _parsed(name, text, kinds[name]) for name, text in changes.items()})


_AT_LEAST = {
    "fit_window": 1, "sigma": 0.01, "brightness_threshold": 0.001, "difference_span": 0.001,
    "lamp_threshold": 1,
}  # fmt: skip
_AT_MOST = {
    "importance_gain": 1e6, "night_gain": 1e6, "feather": 1000, "difference_smoothing": 1000,
    "gradient_threshold": 1e6, "larger_threshold": 1e6, "intensity_threshold": 1e6, "motion_threshold": 1e6,
    "difference_threshold": 1e6, "difference_span": 1e6, "passes": 100, "cycles": 100,
    "c": 10000, "fit_window": 20001, "data_weight": 1e6,
}  # fmt: skip


def _kinds() -> dict[str, Any]:
    return typing.get_type_hints(Settings)


def _check_names(changes: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(Settings)]
    for name in changes:
        if name not in known:
            raise ConfigError(
                f"settings: expected one of {', '.join(known)}; got {name!r}; check its spelling"
            )


def _none_if_auto(value: Any) -> Any:
    return None if value == "auto" else value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types a field may have, or the words it may be."""
    return typing.get_args(kind) or (kind,)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Check one value, and give whole numbers the field's type."""
    allowed = _alternatives(kind)
    if value is None and type(None) in allowed:
        return None
    if typing.get_origin(kind) is Literal:
        if value not in allowed:
            words = " or ".join(repr(word) for word in allowed)
            raise ConfigError(f"{name}: expected {words}, got {value!r}; choose one")
        return value
    if bool in allowed:
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: expected true or false, got {value!r}; choose one")
        return value
    return _checked_number(name, value, int if int in allowed else float)


def _checked_number(name: str, value: Any, kind: type) -> Any:
    noun = "a whole number" if kind is int else "a number"
    if isinstance(value, bool):
        raise ConfigError(f"{name}: expected {noun}, got {value!r}; see the table of settings")
    try:
        number = float(value)
        if math.isnan(number) or (kind is int and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: expected {noun}, got {value!r}; see the table of settings") from None
    least = _AT_LEAST.get(name, 0)
    most = _AT_MOST.get(name, math.inf)
    if not least <= number <= most:
        bounds = f"from {least:g}" + (f" to {most:g}" if most < math.inf else "")
        raise ConfigError(f"{name}: expected {noun} {bounds}, got {value!r}; see the table of settings")
    return kind(number)


def _parsed(name: str, text: str, kind: Any) -> Any:
    """Turn the text of ``name=text`` into a value of the field's kind."""
    allowed = _alternatives(kind)
    if type(None) in allowed and text.lower() in ("auto", "none"):
        return None
    if bool in allowed:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
    return text
