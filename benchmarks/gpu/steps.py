"""The steps of the chain as calls on data that is ready: on a GPU or, with NumPy arrays, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from gpu.chip import Tools
from gpu.costs import REACH
from gpufuse import Settings, background, colour, denoise, importance, mixing, normalise, poisson, to_host
from gpufuse.arrays import ImageFormat

HALO = denoise.TEMPORAL_HALO
EIGHT_BITS = ImageFormat(numpy.dtype(numpy.uint8), True)
SETTINGS = Settings()
LAMP_THRESHOLD = 150.0
"""Grey levels."""
DATA_WEIGHT = 0.001
"""Per pixel^2; near what the chain takes for a frame of 1080p."""


@dataclass(frozen=True)
class Data:
    """Inputs of every step for some frames of one size."""

    frames: int
    day: Any
    """(3, H, W), levels."""
    padded: Any
    """(frames + 2 HALO, 3, H, W), levels: night frames with a halo in time."""
    other: Any
    """(frames, 3, H, W), levels: stands for a reconstruction."""
    threshold: Any
    """Of motion, grey levels; on the device of the frames."""
    masks: Any
    """(frames + 2 REACH, H, W), bool."""
    weights: Any
    target_share: Any
    """(frames, H, W)."""
    lift: Any
    """Factor on the contrast of what is dark; on the device of the frames."""
    rhs: Any
    """(frames, 3, H, W)."""
    moments: Any
    """(frames + 2 REACH, 3, 4), float64."""
    scale: Any
    shift: Any
    """(frames, 3), float64."""
    nv12: Any
    """(frames, 3 H / 2, W), codes."""
    codes: Any
    """(frames, 3, H, W), 8-bit levels."""

    @property
    def night(self) -> Any:
        return self.padded[HALO : HALO + self.frames]

    def on_host(self) -> Data:
        moved = {
            name: value if isinstance(value, int) else to_host(value) for name, value in vars(self).items()
        }
        return Data(**moved | {name: float(moved[name]) for name in ("threshold", "lift")})


def data(tools: Tools, size: tuple[int, int], frames: int, seed: int) -> Data:
    """Make data on the device."""
    cupy = tools.cupy
    day = tools.scene(*size, 0)[0]
    padded = tools.scene(*size, frames + 2 * HALO, seed)
    night = padded[HALO : HALO + frames]
    other = tools.scene(*size, frames, seed + 1000)
    threshold, lift = cupy.full((), 8.0, numpy.float32), cupy.full((), 2.0, numpy.float32)
    masks = importance.cleaned_motion(padded, 0, len(padded), threshold)
    masks = cupy.concatenate([masks] * (2 * REACH // len(masks) + 2))[: frames + 2 * REACH]
    weights = importance.temporal_mean(masks, REACH, REACH, REACH + frames)
    _, target_share = importance.keep_lamps(weights, night, threshold=LAMP_THRESHOLD)
    rhs = mixing.mixed_divergence(day, night, weights, larger_where_zero=True, check_values=False)
    own = normalise.blend_moments(other, day, night, weights)
    moments = cupy.concatenate([own] * (2 * REACH // frames + 2))[: frames + 2 * REACH]
    scale, shift = normalise.shared_fits(moments, REACH, REACH + frames, REACH, REACH, size[0] * size[1])
    return Data(
        frames, day, padded, other, threshold, masks, weights, target_share, lift, rhs, moments, scale, shift,
        nv12=colour.levels_to_nv12(night, "bt709"),
        codes=night.astype(numpy.uint8),
    )  # fmt: skip


def bytes_of_data(size: tuple[int, int], frames: int) -> int:
    """Device memory that `data` takes, about, with what steps add to it."""
    return size[0] * size[1] * (64 * frames + 12 * (2 * HALO + 1) + 2 * REACH)


STEPS: Mapping[str, Callable[[Data], Any]] = {
    "yuv to levels": lambda d: colour.nv12_to_levels(d.nv12, colour.Colour("bt709")),
    "susan": lambda d: denoise.susan3d_pass(
        d.padded, HALO, HALO + d.frames, sigma=SETTINGS.sigma, threshold=SETTINGS.brightness_threshold
    ),
    "motion masks": lambda d: importance.cleaned_motion(d.padded, HALO, HALO + d.frames, d.threshold),
    "temporal mean": lambda d: importance.temporal_mean(d.masks, REACH, REACH, REACH + d.frames),
    "lamps": lambda d: importance.keep_lamps(d.weights, d.night, threshold=LAMP_THRESHOLD),
    "mix and divergence": lambda d: mixing.mixed_divergence(
        d.day,
        d.night,
        d.weights,
        larger_where_zero=True,
        lift=d.lift,
        target_share=d.target_share,
        data_weight=DATA_WEIGHT,
        check_values=False,
    ),
    "poisson": lambda d: poisson.solve(d.rhs, data_weight=DATA_WEIGHT, check_values=False),
    "sums of the fit": lambda d: normalise.blend_moments(d.other, d.day, d.night, d.weights),
    "fit": lambda d: normalise.shared_fits(d.moments, REACH, REACH + d.frames, REACH, REACH, d.day[0].size),
    "apply the fit": lambda d: normalise.apply_affine(d.other, d.scale, d.shift),
    "8-bit pixels": lambda d: normalise.affine_pixels(d.other, d.scale, d.shift, EIGHT_BITS),
    "levels to nv12": lambda d: colour.levels_to_nv12(d.other, "bt709", scale=d.scale, shift=d.shift),
    "8-bit median": lambda d: background.median_plate(d.codes),
}
"""One call works on all frames of its data; of the median, a frame is one of the stack."""
