"""What is ordered: the clips of a batch, and what holds for all of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpufuse._version import __version__
from gpufuse.alignment import Alignment
from gpufuse.areas import load_areas
from gpufuse.clip import Limits
from gpufuse.errors import ConfigError
from gpufuse.settings import Settings

__all__ = ["SEGMENT_SECONDS", "STALL_SECONDS", "Item", "Options", "fingerprint"]

SEGMENT_SECONDS = 600.0
"""Length of the segments that long clips are worked on in."""

STALL_SECONDS = 300.0
"""Time without any progress after which the process of a clip is ended."""


@dataclass(frozen=True)
class Item:
    """One clip of a batch.

    Attributes
    ----------
    name : str
        The output's name relative to the batch's folder, with forward slashes: ``cam1/0001-enhanced.mp4``.
    clip : str
        Absolute path of the night clip.
    day : str
        Absolute path of its day: a picture, a clip, or a folder or glob of stills.
    settings : Settings
    areas : str or None
        Absolute path of a file of user areas.
    camera : str
        For the user: where the clip comes from, as the camera pattern tells; may be empty.
    """

    name: str
    clip: str
    day: str
    settings: Settings = field(default_factory=Settings)
    areas: str | None = None
    camera: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Item:
        """Return the item that `to_json` described."""
        return cls(**(record | {"settings": Settings(**record["settings"])}))


@dataclass(frozen=True)
class Options:
    """What holds for every clip of a batch.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}
    decoder : {"software", "nvdec"}
    on_damage : {"fail", "salvage"}
    on_resize : {"fail", "split", "scale"}
        What to do with a clip whose pictures change their size.
    max_pixels : int
    max_frames : int or None
    max_seconds : float or None
        Limits on each clip.
    max_shift : float or None
        Pixels by which day and night may be apart; None: not looked at.
    register : bool
        Whether to move the day onto the night.
    segment : float or None
        Seconds of the segments of long clips; None: every clip in one piece.
    plate_seconds : float
        Seconds of a day clip that make its plate.
    stall : float
        Seconds without progress after which a clip is given up.
    overwrite : bool
        Whether outputs that were made otherwise, or by others, may be replaced.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    decoder: Literal["software", "nvdec"] = "software"
    on_damage: Literal["fail", "salvage"] = "fail"
    on_resize: Literal["fail", "split", "scale"] = "fail"
    max_pixels: int = Limits().max_pixels
    max_frames: int | None = None
    max_seconds: float | None = None
    max_shift: float | None = 8.0
    register: bool = False
    segment: float | None = SEGMENT_SECONDS
    plate_seconds: float = 15.0
    stall: float = STALL_SECONDS
    overwrite: bool = False

    def __post_init__(self) -> None:
        words = {
            "device": ("auto", "cpu", "cuda"),
            "decoder": ("software", "nvdec"),
            "on_damage": ("fail", "salvage"),
            "on_resize": ("fail", "split", "scale"),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name}: expected {', '.join(allowed)}, got {getattr(self, name)!r}; choose one"
                )
        for name in (
            "max_pixels",
            "max_frames",
            "max_seconds",
            "max_shift",
            "segment",
            "plate_seconds",
            "stall",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected more than 0, got {value!r}; give a larger number")

    @property
    def limits(self) -> Limits:
        """The limits as readers take them."""
        return Limits(self.max_pixels, self.max_frames, self.max_seconds)

    @property
    def alignment(self) -> Alignment:
        """What to do about a day that does not lie on the night."""
        return Alignment(self.max_shift, self.register)

    def to_json(self) -> dict[str, Any]:
        """Return what `Options` takes as keywords."""
        return dataclasses.asdict(self)


def fingerprint(item: Item, options: Options) -> dict[str, Any]:
    """Everything besides the inputs that the pictures of an output depend on.

    Parameters
    ----------
    item : Item
    options : Options

    Returns
    -------
    dict
        For JSON. Neither the device, nor segments, threads or limits are in it: the frames do not depend on them.

    Raises
    ------
    ConfigError
        If the areas cannot be read.

    Examples
    --------
    >>> order = fingerprint(Item("a.mp4", "/a.mp4", "/day.png"), Options())
    >>> order["settings"]["passes"], order["on_damage"]
    (2, 'fail')
    """
    return {
        "gpufuse": __version__,
        "settings": dataclasses.asdict(item.settings),
        "areas": _content_of_areas(item.areas),
        "on_damage": options.on_damage,
        "on_resize": options.on_resize,
        "register": options.register,
        "plate_seconds": options.plate_seconds,
    }


def _content_of_areas(path: str | None) -> str | None:
    if path is None:
        return None
    content = hashlib.blake2b(digest_size=16)
    for area in load_areas(path):  # refuses what is no file of areas
        content.update(json.dumps([area.fill, area.polygon, area.frames, area.seconds]).encode())
        if isinstance(area.mask, str | Path):
            content.update(Path(area.mask).read_bytes())
    return content.hexdigest()
