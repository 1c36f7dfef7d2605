"""The first look at a clip: what is measured once, in its first frames, and holds for all of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy

from gpufuse import importance, mixing
from gpufuse.arrays import Array, array_module
from gpufuse.resampling import enlarged
from gpufuse.settings import Settings
from gpufuse.streaming import Window

__all__ = ["MOTION_HALO", "NOISE_FRAMES", "FirstLook", "Look"]

NOISE_FRAMES = 9
"""Frames at the start of a clip from which its noise is measured."""

_LOOK_EVERY = 4
"""Of those, every n-th tells contrast: neighbours tell the same."""

MOTION_HALO = (1, 1)
"""Frames that motion is compared with; the one after by the first frame of a clip alone."""


@dataclass(frozen=True)
class Look:
    """What is measured once, in the first frames of a clip, and holds for all of it.

    Attributes
    ----------
    threshold : float
        Change between frames that counts as motion, grey levels.
    lift : float
        Gain on what is dark.
    floor : float
        Least gradient of the night that is taken where nothing is important, grey levels per pixel.

    Examples
    --------
    >>> import dataclasses, json
    >>> look = Look(threshold=1.5, lift=2.1, floor=8.0)
    >>> Look(**json.loads(json.dumps(dataclasses.asdict(look)))) == look     # to the bit
    True
    """

    threshold: float
    lift: float
    floor: float


class FirstLook:
    """A `Look` in the making: what the settings say, what is known, and what is still to be measured.

    Parameters
    ----------
    settings : Settings
    known : Look, optional
        Stands in for what the settings do not say.
    module : module
        `numpy` or `cupy`: of the clip's arrays.

    Attributes
    ----------
    threshold, lift, floor : float, or ndarray of shape (), or None
        As of `Look`; None until measured.
    """

    def __init__(self, settings: Settings, known: Look | None = None, module: Any = numpy) -> None:
        self.threshold: float | Array | None = settings.motion_threshold
        self.lift: float | Array | None = None if settings.night_gain is None else 1.0
        self.floor: float | Array | None = settings.larger_threshold if settings.larger_where_zero else 0.0
        if known is not None:
            for name, value in dataclasses.asdict(known).items():
                if getattr(self, name) is None:  # as it would have been measured: on a GPU it stays there
                    setattr(self, name, value if module is numpy else module.full((), value, numpy.float32))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be measured."""
        return self.threshold is not None and self.lift is not None and self.floor is not None

    def measure(self, day: Array, held: list[Window], settings: Settings) -> None:
        """Look at the first frames of the clip.

        Parameters
        ----------
        day : ndarray, shape (C, H, W), float32, grey levels
        held : list of Window
            Denoised frames from the first of the clip on, with `MOTION_HALO` around them.
        settings : Settings
        """
        if self.threshold is None:
            self.threshold = _noise_threshold(held, settings)
        if self.lift is None or self.floor is None:
            size = tuple(day.shape[-2:])
            known = [frame for window in held for frame in window.pieces[0].core][:NOISE_FRAMES:_LOOK_EVERY]
            frames = [enlarged(frame, size) for frame in known]
            self.lift = mixing.contrast_lift(day, frames) if self.lift is None else self.lift
            self.floor = mixing.night_floor(frames) if self.floor is None else self.floor

    def taken(self) -> Look:
        """Bring what was measured to the host.

        Returns
        -------
        Look
        """
        assert self.threshold is not None
        assert self.lift is not None
        assert self.floor is not None
        return Look(float(self.threshold), float(self.lift), float(self.floor))


def _noise_threshold(held: list[Window], settings: Settings) -> float | Array:
    changes = []
    for window in held:
        levels = window.pieces[0]
        # Only the first frame looks ahead: it takes the change of the second.
        known = levels.frames[: max(levels.stop, 2)]
        found = importance.motion_changes(known, levels.start, motion_from=settings.motion_from)
        changes.append(found[: len(window)])
    return importance.motion_threshold(array_module(*changes).concatenate(changes)[:NOISE_FRAMES])
