"""What a job does about a day that does not lie on its night: measure, tell, move or refuse."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy

from gpufuse.arrays import Array, array_module, to_host, to_levels
from gpufuse.camerawatch import CameraWatch
from gpufuse.errors import ConfigError, PairError
from gpufuse.greyplane import picture_size
from gpufuse.registration import Shift, estimate_shift, warp

__all__ = ["MAX_SHIFT", "Aligned", "Alignment", "CameraWatch", "check_alignment", "night_view"]

MAX_SHIFT = 8.0
"""Pixels of the night beyond which a day is refused."""

_NOT_WORTH_MOVING = 0.1
"""Pixels: about the error of the estimate; resampling would cost more sharpness than it brings."""


@dataclass(frozen=True)
class Alignment:
    """What to do about a day that lies beside its night.

    Attributes
    ----------
    max_shift : float or None
        Pixels of the night, at the picture's centre, beyond which the pair is refused; None refuses nothing.
    register : bool
        Whether to move the day onto the night, small rotation and scale included.
    warn_above : float
        Pixels beyond which a note is made.

    Raises
    ------
    ConfigError
        For a negative number.
    """

    max_shift: float | None = MAX_SHIFT
    register: bool = False
    warn_above: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("max_shift", self.max_shift), ("warn_above", self.warn_above)):
            if value is not None and not value >= 0:
                raise ConfigError(f"{name}: expected 0 or more pixels, got {value}; give another number")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.register or self.max_shift is not None


@dataclass(frozen=True)
class Aligned:
    """A day that may be used.

    Attributes
    ----------
    plate : ndarray, shape (H, W) or (H, W, 3)
        The day picture, moved where that was wanted.
    shift : Shift or None
        How the day lay before it was moved; None where nobody looked.
    notes : tuple of str
        What the user should know.
    """

    plate: numpy.ndarray
    shift: Shift | None = None
    notes: tuple[str, ...] = ()


def check_alignment(
    plate: numpy.ndarray, night: Array, policy: Alignment | None = None, *, name: str = "day"
) -> Aligned:
    """Check that a day lies on its night, and move it there if that is wanted.

    Parameters
    ----------
    plate : ndarray, shape (H, W) or (H, W, 3), ``uint8``, ``uint16`` or float in [0, 1]
        The day, on the host; not changed.
    night : ndarray
        Of the size of the day or smaller with the same aspect ratio: pixels like the day's, or planar levels
        (3, H, W) as of `night_view`; on the host.
    policy : Alignment, optional
    name : str
        What the lines for the user begin with: the night's or the day's name.

    Returns
    -------
    Aligned

    Raises
    ------
    PairError
        If the day lies too far beside the night, or shows something else.
    ConfigError
        If the day is to be moved and OpenCV is not installed.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> scene = gaussian_filter(numpy.random.default_rng(1).random((140, 180)), 3)
    >>> day, night = scene[4:124, 7:167], scene[4:124, 4:164] / 5
    >>> check_alignment(day, night, name="night.mp4").notes[0]
    'night.mp4: the day lies 3.0 pixels beside the night (3.0 left); --register moves it into place'
    """
    policy = policy or Alignment()
    if not policy.wanted:
        return Aligned(plate)
    shift = estimate_shift(plate, night, similarity=policy.register)
    if shift.verdict != "unknown":
        _refuse(shift, policy, plate, night, name)
    if not policy.register:
        far = shift.known and shift.length > policy.warn_above
        note = f"{name}: the day lies {_where(shift)}; --register moves it into place"
        return Aligned(plate, shift, (note,) if far else ())
    if not shift.known:
        why = "too dark, empty or small" if shift.verdict == "unknown" else "with too few edges in common"
        note = f"{name}: {why} to tell where the day lies; it was left where it is"
        return Aligned(plate, shift, (note,))
    if shift.length <= _NOT_WORTH_MOVING and not shift.turned:
        return Aligned(plate, shift)
    moved = warp(plate, shift, picture_size(night))
    return Aligned(moved, shift, (f"{name}: the day lay {_where(shift)} and was moved into place",))


def _refuse(shift: Shift, policy: Alignment, plate: numpy.ndarray, night: Array, name: str) -> None:
    if policy.max_shift is None:
        return
    within = f"expected the day within {policy.max_shift:g} pixels of the night"
    if shift.known:
        if shift.length > policy.max_shift:
            raise PairError(
                f"{name}: {within}, found it {_where(shift)}; "
                "take a day of the same position of the camera, or raise --max-shift"
            )
        return
    turned = shift if policy.register else estimate_shift(plate, night, similarity=True)
    if turned.known and turned.length <= policy.max_shift:
        raise PairError(f"{name}: {within}, found it {_where(turned)}; take another day, or use --register")
    raise PairError(
        f"{name}: expected a day of the night's view, found two pictures with hardly an edge in common; "
        "take another day, or use --max-shift none if they belong together all the same"
    )


def _where(shift: Shift) -> str:
    """Say in words how the day lies."""
    words = f"{shift.length:.1f} pixels beside the night ({shift.direction})"
    if shift.turned:
        words += f", turned by {shift.angle:.2f} degrees and scaled by {shift.scale:.4f}"
    return words


def night_view(frames: Iterable[Array], count: int = 8) -> numpy.ndarray:
    """Average the first frames of a night, so that noise hides no edge.

    Parameters
    ----------
    frames : iterable of ndarray
        Planar levels (3, H, W) float32 as a reader gives them, or pixels (H, W) or (H, W, 3); NumPy or CuPy.
        No more of them are taken than are needed.
    count : int
        How many to average, if there are so many.

    Returns
    -------
    ndarray, shape (C, H, W), float32, grey levels
        On the host.

    Raises
    ------
    ValueError
        If there is not one frame.

    Examples
    --------
    >>> night_view(numpy.full((1, 2), value, numpy.uint8) for value in (10, 20, 30, 200))[0].round(3)
    array([[65., 65.]], dtype=float32)
    """
    total: Array = None
    taken = 0
    for frame in itertools.islice(frames, count):
        planar = frame.ndim == 3 and frame.shape[-1] != 3 and numpy.dtype(frame.dtype).kind == "f"
        levels = frame if planar else to_levels(frame)
        total = levels.astype(array_module(levels).float32) if total is None else total + levels
        taken += 1
    if total is None:
        raise ValueError("frames: expected at least one, got none; see that the clip is not empty")
    mean: numpy.ndarray = to_host(total) / numpy.float32(taken)
    return mean
