"""Ways to fuse day and night: ours, and what a user could pick instead. Each returns bytes for each frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
from numpy.typing import NDArray

from gpufuse import Settings, baselines
from gpufuse.arrays import ImageFormat, from_levels, to_levels
from gpufuse.denoise import susan3d
from gpufuse.fusion import fuse_stream, fused_pair
from quality.scenes import Bytes, Scene

OURS = "gpufuse"

_BYTES = ImageFormat(numpy.dtype(numpy.uint8), True)
_CHUNK = 8


@dataclass(frozen=True)
class Fused:
    """Result and importance of our method."""

    frames: Bytes
    importance: NDArray[numpy.float32]


def fused(scene: Scene, settings: Settings) -> Fused:
    """Fuse a scene by gpufuse: Algorithm 1, the dynamic scene or Algorithm 2, by the kind of the scene."""
    if scene.kind != "video":
        pair = fused_pair(scene.day, scene.night[0], reference=scene.reference, settings=settings)
        return Fused(pair.pixels[None], pair.importance[None])
    night = scene.night
    stream = (
        (to_levels(night[start : start + _CHUNK], leading=1), numpy.zeros(len(night[start : start + _CHUNK])))
        for start in range(0, len(night), _CHUNK)
    )
    chunks = list(fuse_stream(to_levels(scene.day), stream, settings=settings))
    return Fused(
        numpy.concatenate([chunk.pixels(_BYTES) for chunk in chunks]),
        numpy.concatenate([chunk.importance for chunk in chunks]),
    )


@dataclass(frozen=True)
class Inputs:
    """What the other methods are given: the scene, and the importance and denoising that ours uses.

    Average, maximum and Mertens know no importance and take the night as it is.
    """

    scene: Scene
    importance: NDArray[numpy.float32]
    settings: Settings

    @cached_property
    def day_levels(self) -> Any:
        return to_levels(self.scene.day)

    @cached_property
    def night_levels(self) -> Any:
        return to_levels(self.scene.night, leading=1)

    @cached_property
    def denoised(self) -> Any:
        """Night levels after the same denoising as ours; pictures of static and dynamic scenes have none."""
        if self.scene.kind != "video":
            return self.night_levels
        return susan3d(
            self.night_levels,
            sigma=self.settings.sigma,
            threshold=self.settings.brightness_threshold,
            passes=self.settings.passes,
        )


def _average(inputs: Inputs) -> Any:
    return baselines.average(inputs.day_levels, inputs.night_levels)


def _maximum(inputs: Inputs) -> Any:
    return baselines.maximum(inputs.day_levels, inputs.night_levels)


def _blend(inputs: Inputs) -> Any:
    return baselines.blend(inputs.day_levels, inputs.denoised, inputs.importance)


def _substitution(inputs: Inputs) -> Any:
    return baselines.substitute(inputs.day_levels, inputs.denoised, inputs.importance)


def _mertens(inputs: Inputs) -> Any:
    """Exposure fusion of Mertens, Kautz and van Reeth (2007), in OpenCV with its default weights."""
    import cv2

    merge = cv2.createMergeMertens()
    day = inputs.scene.day
    return [255 * _planar(merge.process([day, night])) for night in inputs.scene.night]


def _seamless(inputs: Inputs) -> Any:
    """Poisson cloning of Perez, Gangnet and Blake (2003) in OpenCV: the night where importance is above 0."""
    import cv2

    return [_cloned(inputs, index, cv2.NORMAL_CLONE) for index in range(len(inputs.scene.night))]


def _seamless_mixed(inputs: Inputs) -> Any:
    """The same with the larger of the two gradients."""
    import cv2

    return [_cloned(inputs, index, cv2.MIXED_CLONE) for index in range(len(inputs.scene.night))]


def _cloned(inputs: Inputs, index: int, flags: int) -> Any:
    night = from_levels(inputs.denoised[index], _BYTES)
    return _planar(seamless_clone(inputs.scene.day, night, inputs.importance[index] > 0, flags))


def seamless_clone(day: Bytes, night: Bytes, mask: NDArray[numpy.bool_], flags: int) -> Bytes:
    """Clone the masked night into the day, in place; OpenCV needs a border of two pixels that stays day."""
    import cv2

    inner = numpy.zeros(mask.shape, numpy.uint8)
    inner[2:-2, 2:-2] = 255 * mask[2:-2, 2:-2]
    if not inner.any():
        return day
    left, top, width, height = cv2.boundingRect(inner)
    centre = (left + width // 2, top + height // 2)
    return cv2.seamlessClone(numpy.ascontiguousarray(night), day, inner, centre, flags)


def _planar(picture: Any) -> NDArray[numpy.float32]:
    return numpy.moveaxis(numpy.asarray(picture, numpy.float32), -1, 0)


OTHERS: dict[str, Callable[[Inputs], Any]] = {
    "average": _average,
    "maximum": _maximum,
    "blend": _blend,
    "substitution": _substitution,
    "Mertens": _mertens,
    "seamlessClone": _seamless,
    "seamlessClone mixed": _seamless_mixed,
}
"""Methods to compare with, by name."""

BY_OPENCV = ("Mertens", "seamlessClone", "seamlessClone mixed")


def by_other_method(name: str, inputs: Inputs) -> Bytes:
    """Return the frames of a method of `OTHERS`, shape (T, H, W, 3), uint8."""
    frames = numpy.asarray(OTHERS[name](inputs), numpy.float32)
    return numpy.stack([from_levels(frame, _BYTES) for frame in frames])
