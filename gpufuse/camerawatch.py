"""Noticing that a fixed camera has moved in the middle of a clip."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy

from gpufuse.arrays import Array, to_host
from gpufuse.greyplane import reduced, reduction
from gpufuse.registration import LEAST_SIDE, Shift, View, compare

__all__ = ["CameraWatch"]

_GREEN = 1
"""Channel that is looked at: grey enough to see edges, and cheaper than grey."""

_LONGEST_SMALL, _LONGEST_LARGE, _LARGE = 256, 512, 1024
"""Longest side of the copies that are compared, for pictures up to and above a longest side of `_LARGE`."""


class CameraWatch:
    """Compares a clip with its beginning about every other second, and says when the camera has moved.

    What it says depends on the frames and their times alone, not on how they came in chunks. It can be pickled
    and go on elsewhere.

    Parameters
    ----------
    name : str
        The clip's name, for notes.
    interval : float
        Seconds of footage between looks; a suspicion is looked into after a quarter of it.
    threshold : float
        Pixels by which the view has to move.
    frames : int
        Successive frames that are averaged for a look, against noise.
    reference : ndarray, shape (3, H, W), float32, grey levels, optional
        What to compare with, as `gpufuse.alignment.night_view` gives it; by default the first frames.

    Attributes
    ----------
    notes : list of str
        One line per movement found so far.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> scene = 200 * gaussian_filter(numpy.random.default_rng(1).random((140, 180)), 2).astype("f")
    >>> watch = CameraWatch("night.mp4", frames=1)
    >>> for second in range(20):
    ...     left = 4 if second < 9 else 12
    ...     watch.see(numpy.stack([scene[:120, left : left + 160]] * 3), float(second))
    >>> watch.notes[0]  # doctest: +ELLIPSIS
    'night.mp4: the camera moved, and the picture with it by 8.0 pixels (8.0 left) between 8 s and 10 s; ...
    """

    def __init__(
        self,
        name: str,
        *,
        interval: float = 2.0,
        threshold: float = 2.0,
        frames: int = 4,
        reference: Array | None = None,
    ) -> None:
        self.notes: list[str] = []
        self._name, self._interval, self._threshold, self._frames = name, interval, threshold, frames
        self._due = -math.inf
        self._sum: Array | None = None
        self._count, self._began = 0, 0.0
        self._reference: View | None = None
        self._calm = 0.0
        self._suspect: tuple[float, View] | None = None
        self._factor = 1
        if reference is not None:
            self._reference = View(to_host(self._small(reference)), _LONGEST_LARGE)

    def see(self, levels: Array, seconds: float) -> None:
        """Take notice of the next frame.

        Parameters
        ----------
        levels : ndarray, shape (3, H, W), float32, grey levels
            NumPy, or CuPy, of which a small copy is then downloaded when a look is due; not kept.
        seconds : float
            Its time; never less than that of the frame before.
        """
        if seconds < self._due or min(levels.shape[-2:]) < LEAST_SIDE:
            return
        if self._count == 0:
            self._began = seconds
        small = self._small(levels)
        self._sum = small.copy() if self._sum is None else self._sum + small
        self._count += 1
        if self._count < self._frames:
            return
        plane = to_host(self._sum) / numpy.float32(self._count)
        self._sum, self._count = None, 0
        self._due = self._began + self._interval
        self._look(View(plane, _LONGEST_LARGE))

    def _small(self, levels: Array) -> Array:
        longest = max(levels.shape[-2:])
        self._factor = reduction(levels.shape[-2:], _LONGEST_SMALL if longest <= _LARGE else _LONGEST_LARGE)
        return reduced(levels[_GREEN], self._factor)

    def _look(self, view: View) -> None:
        if self._reference is None:
            self._reference, self._calm = view, self._began
            return
        shift = self._shift(self._reference, view)
        if shift.known and shift.length <= self._threshold:
            self._suspect, self._calm = None, self._began
            return
        if shift.verdict == "unknown":  # dark, or covered
            self._suspect = None
            return
        if self._suspect is None or not self._stands_still(self._suspect[1], view):
            self._suspect = self._began, view
            self._due = self._began + self._interval / 4
            return
        self.notes.append(self._told(shift, self._suspect[0]))
        self._reference, self._suspect, self._calm = view, None, self._began

    def _shift(self, before: View, now: View) -> Shift:
        shift = compare(before, now, still_is_enough=True)
        return replace(shift, dx=shift.dx * self._factor, dy=shift.dy * self._factor)

    def _stands_still(self, before: View, now: View) -> bool:
        """Whether two looks at what may be a new view see the same: a hand before the lens does not keep still."""
        shift = self._shift(before, now)
        return shift.known and shift.length <= self._threshold / 2

    def _told(self, shift: Shift, seen: float) -> str:
        if shift.known:
            moved = (
                f"the camera moved, and the picture with it by {shift.length:.1f} pixels ({shift.direction})"
            )
        else:
            moved = "the camera turned to another view"
        return (
            f"{self._name}: {moved} between {self._calm:.4g} s and {seen:.4g} s; "
            "cut the clip there, and give each part its own day"
        )
