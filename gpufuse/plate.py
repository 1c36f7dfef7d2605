"""The day of a job: a still, or the picture that a day clip leaves when its traffic is taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from gpufuse.alignment import Alignment, check_alignment, night_view
from gpufuse.arrays import Array, to_host
from gpufuse.background import daytime_background
from gpufuse.colour import levels_to_pixels
from gpufuse.damage import OnDamage
from gpufuse.registration import Shift
from gpufuse.resampling import check_pair
from gpufuse.video import ClipReader, Limits, is_still, open_clip, read_still

__all__ = ["FEWEST_SECONDS", "FEWEST_STILLS", "PLATE_SECONDS", "Plate", "aligned_plate", "day_plate"]

PLATE_SECONDS = 15.0
"""Seconds of a day clip that make the plate."""

FEWEST_STILLS, FEWEST_SECONDS = 15, 8.0
"""Day pictures, or seconds of a day clip, below which a plate may keep traffic.

On a road of which cars cover a tenth, 3 pictures leave 2.6 % of the plate wrong, 9 leave 0.6 % and 15 leave 0.1 %;
3 s of a clip leave 2.2 % and 8 s leave 0.6 %.
"""


@dataclass(frozen=True)
class Plate:
    """A day picture, or the plate of a day clip.

    Attributes
    ----------
    pixels : ndarray, shape (H, W) or (H, W, 3), uint8 or uint16
    damage : tuple of str
        What was wrong with the clip, where it was salvaged.
    notes : tuple of str
        What the user should know: that there were too few frames to tell traffic from street, or that the day lies
        beside the night.
    shift : Shift or None
        How the day lay on the night; None where nobody has looked.
    """

    pixels: numpy.ndarray
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shift: Shift | None = None


def day_plate(
    day: str | Path,
    *,
    seconds: float = PLATE_SECONDS,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    module: Any = numpy,
    tell: Callable[[], None] = lambda: None,
) -> Plate:
    """Read a day picture, or make the plate of a day clip.

    Parameters
    ----------
    day : str or Path
        A still, a clip, or a folder or glob of stills.
    seconds : float
        How much of a clip to use; all stills of a folder are used.
    on_damage : {"fail", "salvage"}
    limits : Limits, optional
    module : module
        `numpy`, or `cupy` for the median of a clip on the GPU.
    tell : callable, optional
        Called now and then, as a sign of life: after each frame or still.

    Returns
    -------
    Plate
        On the host. Of 8 bits, but for a still of 16 bits.

    Raises
    ------
    InputError, DamagedInputError, LimitError
        As `gpufuse.video.open_clip`.
    """
    path = Path(day)
    if path.is_file() and is_still(path):
        return Plate(read_still(path, max_pixels=(limits or Limits()).max_pixels))
    with open_clip(day, on_damage=on_damage, limits=limits, module=module) as clip:
        stills = path.is_dir() or not path.is_file()
        look = _DayFrames(clip, None if stills else seconds, tell)
        pixels = daytime_background(look)
        few = look.count < FEWEST_STILLS if stills else look.seconds < FEWEST_SECONDS
        notes = (look.few(clip.name, stills),) if few else ()
        return Plate(to_host(pixels), tuple(clip.damage), notes)


def aligned_plate(
    plate: Plate,
    night: str | Path,
    policy: Alignment | None = None,
    *,
    limits: Limits | None = None,
    tell: Callable[[], None] = lambda: None,
) -> Plate:
    """Check that a day lies on a night clip or still, and move it there if that is wanted.

    Parameters
    ----------
    plate : Plate
        Returned as it is where it was looked at before.
    night : str or Path
        Its first frames are read; damage is no matter of these.
    policy : Alignment, optional
    limits : Limits, optional
    tell : callable, optional
        Called now and then, as a sign of life: after each frame that is read.

    Returns
    -------
    Plate
        With its shift, and notes on it.

    Raises
    ------
    PairError
        If the sizes do not belong together, the day lies too far beside the night, or shows something else.
    GpufuseError
        As `gpufuse.video.open_clip`, and as `gpufuse.alignment.check_alignment`.
    """
    policy = policy or Alignment()
    if plate.shift is not None or not policy.wanted:
        return plate
    with open_clip(night, on_damage="salvage", limits=limits) as clip:
        check_pair(plate.pixels.shape[:2], (clip.height, clip.width))
        view = night_view(_levels_of(clip, tell))
        aligned = check_alignment(plate.pixels, view, policy, name=clip.name)
    return replace(plate, pixels=aligned.plate, notes=plate.notes + aligned.notes, shift=aligned.shift)


def _levels_of(clip: ClipReader, tell: Callable[[], None]) -> Iterator[Array]:
    for frame in clip:
        tell()
        yield frame.levels


class _DayFrames:
    """The first seconds of a clip, or all of it, as bytes; counts what it gives."""

    def __init__(self, clip: ClipReader, limit: float | None, tell: Callable[[], None]) -> None:
        self._clip, self._limit, self._tell = clip, limit, tell
        self.count = 0
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Array]:
        first: int | None = None
        for frame in self._clip:
            self._tell()
            first = frame.pts if first is None else first
            self.seconds = float((frame.pts - first) * frame.time_base)
            if self._limit is not None and self.seconds >= self._limit:
                return
            self.count += 1
            yield levels_to_pixels(frame.levels)

    def few(self, name: str, stills: bool) -> str:
        """Say that traffic may have stayed."""
        found = f"{self.count} day pictures" if stills else f"{self.seconds:.1f} s of day"
        wanted = f"{FEWEST_STILLS} pictures" if stills else f"{FEWEST_SECONDS:g} s"
        return (
            f"{name}: expected at least {wanted} to tell traffic from street, found {found}; "
            "look for cars in the day, or give more of it"
        )
