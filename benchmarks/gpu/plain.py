"""The same steps as array expressions: what one would write with CuPy alone, for comparison."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from gpu.costs import REACH
from gpu.steps import DATA_WEIGHT, HALO, LAMP_THRESHOLD, SETTINGS, Data
from gpufuse import importance, normalise, poisson
from gpufuse.arrays import array_module
from gpufuse.colour import MATRICES
from gpufuse.gradients import divergence, gradient, squared_magnitude
from gpufuse.mixing import LIFT_SPAN

ONE = numpy.float32(1.0)


def susan(d: Data) -> Any:
    xp = array_module(d.padded)
    height, width = d.padded.shape[-2:]
    around = xp.pad(d.padded, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    centre = d.night
    total, weights = xp.zeros_like(centre), xp.zeros_like(centre)
    for dt, dy, dx in itertools.product(range(-HALO, HALO + 1), (-1, 0, 1), (-1, 0, 1)):
        if not (dt or dy or dx):
            continue
        closeness = numpy.float32((dt * dt + dy * dy + dx * dx) / (2 * SETTINGS.sigma**2))
        first = HALO + dt
        other = around[first : first + d.frames, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        difference = (other - centre) * numpy.float32(1 / SETTINGS.brightness_threshold)
        weight = xp.exp(-closeness - difference * difference)
        total += weight * other
        weights += weight
    ring = [
        around[HALO : HALO + d.frames, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        for dy, dx in itertools.product((-1, 0, 1), (-1, 0, 1))
        if dy or dx
    ]
    median = xp.sort(xp.stack(ring), axis=0)[3:5].mean(axis=0)
    lonely = weights < 1e-6
    return xp.where(lonely, median, total / xp.where(lonely, ONE, weights))


def motion_masks(d: Data) -> Any:
    frames = d.padded[HALO - 1 : HALO + d.frames]
    changes = abs(frames[1:] - frames[:-1]).max(axis=1)
    return importance.clean_masks(changes > d.threshold)


def temporal_mean(d: Data) -> Any:
    total = sum(d.masks[k : k + d.frames].astype(numpy.float32) for k in range(2 * REACH + 1))
    return total / numpy.float32(2 * REACH + 1)


def lamps(d: Data) -> Any:
    xp = array_module(d.night)
    lamp = (d.night.max(axis=1) * numpy.float32(2 / LAMP_THRESHOLD) - ONE).clip(0, 1)
    kept = xp.where(d.weights > 0, xp.maximum(d.weights, lamp), d.weights)
    return kept, kept * lamp


def mix_and_divergence(d: Data) -> Any:
    xp = array_module(d.night)
    day_gx, day_gy = gradient(d.day)
    night_gx, night_gy = gradient(d.night)
    larger = squared_magnitude(night_gx, night_gy) > squared_magnitude(day_gx, day_gy)
    brightest = d.night.max(axis=1, keepdims=True).clip(0)
    gained = (d.lift - ONE) * brightest / (ONE + brightest / numpy.float32(LIFT_SPAN))
    lifted_gx, lifted_gy = gradient(d.night + gained)
    still = d.weights[:, None] == 0
    share = xp.where(d.weights == 0, larger.astype(numpy.float32), d.weights)[:, None]
    gx = share * xp.where(still, night_gx, lifted_gx) + (ONE - share) * day_gx
    gy = share * xp.where(still, night_gy, lifted_gy) + (ONE - share) * day_gy
    target = d.day + d.target_share[:, None] * (d.night - d.day)
    return divergence(gx, gy) - numpy.float32(DATA_WEIGHT) * target


def solve(d: Data) -> Any:
    return poisson.solve(d.rhs, method="dct", data_weight=DATA_WEIGHT, check_values=False)


def sums_of_the_fit(d: Data) -> Any:
    xp = array_module(d.other)
    share = d.weights[:, None]
    u = d.other.astype(numpy.float64)
    v = (share * d.night + (ONE - share) * d.day).astype(numpy.float64)
    return xp.stack([term.sum(axis=(-2, -1)) for term in (u, u * u, v, u * v)], axis=-1)


def apply_the_fit(d: Data) -> Any:
    scale, shift = (pair.astype(numpy.float32)[..., None, None] for pair in (d.scale, d.shift))
    return d.other * scale + shift


def pixels(d: Data) -> Any:
    xp = array_module(d.other)
    rounded = xp.rint(xp.clip(apply_the_fit(d), 0, 255)).astype(numpy.uint8)
    return xp.ascontiguousarray(xp.moveaxis(rounded, -3, -1))


def levels_to_nv12(d: Data) -> Any:
    xp = array_module(d.other)
    red, green, blue = xp.moveaxis(xp.rint(xp.clip(apply_the_fit(d), 0, 255)), 1, 0)
    kr, kb = (numpy.float32(k) for k in MATRICES["bt709"])
    luma = kr * red + (ONE - kr - kb) * green + kb * blue
    height, width = luma.shape[1:]
    out = xp.empty((d.frames, height * 3 // 2, width), numpy.uint8)
    out[:, :height] = xp.rint(luma * numpy.float32(219 / 255) + 16)
    for first, channel, weight in ((0, blue, kb), (1, red, kr)):
        difference = (channel - luma) * numpy.float32(112 / 255 / (1 - weight))
        rows = 0.5 * (difference[:, 0::2] + difference[:, 1::2])
        left = xp.concatenate([rows[..., :1], rows[..., 1:-1:2]], axis=-1)
        mean = 0.25 * left + 0.5 * rows[..., 0::2] + 0.25 * rows[..., 1::2]
        out[:, height:, first::2] = xp.rint(mean + 128)
    return out


def yuv_to_levels(d: Data) -> Any:
    xp = array_module(d.nv12)
    height, width = d.nv12.shape[1] * 2 // 3, d.nv12.shape[2]
    levels = xp.empty((len(d.nv12), 3, height, width), numpy.float32)
    luma = (d.nv12[:, :height].astype(numpy.float32) - 16) * numpy.float32(255 / 219)
    blue, red = (_upsampled(d.nv12[:, height:, first::2].astype(numpy.float32) - 128) for first in (0, 1))
    kr, kb = MATRICES["bt709"]
    kg = 1 - kr - kb
    gain = 255 / 224
    to_red, to_blue = 2 * (1 - kr) * gain, 2 * (1 - kb) * gain
    levels[:, 0] = luma + numpy.float32(to_red) * red
    levels[:, 1] = luma - numpy.float32(to_blue * kb / kg) * blue - numpy.float32(to_red * kr / kg) * red
    levels[:, 2] = luma + numpy.float32(to_blue) * blue
    return xp.clip(levels, 0, 255, out=levels)


def _upsampled(chroma: Any) -> Any:
    """Chroma on the even columns and between two rows, to full size."""
    xp = array_module(chroma)
    frames, height, width = chroma.shape
    padded = xp.pad(chroma, ((0, 0), (1, 1), (0, 0)), mode="edge")
    rows = xp.empty((frames, 2 * height, width), numpy.float32)
    rows[:, 0::2] = 0.75 * chroma + 0.25 * padded[:, :-2]
    rows[:, 1::2] = 0.75 * chroma + 0.25 * padded[:, 2:]
    full = xp.empty((frames, 2 * height, 2 * width), numpy.float32)
    full[..., 0::2] = rows
    full[..., 1:-1:2] = 0.5 * (rows[..., :-1] + rows[..., 1:])
    full[..., -1] = rows[..., -1]
    return full


def median(d: Data) -> Any:
    xp = array_module(d.codes)
    return xp.rint(xp.median(d.codes, axis=0)).astype(numpy.uint8)


def fit(d: Data) -> Any:
    xp = array_module(d.moments)
    count = d.day[0].size
    fits = [
        normalise.affine_from_moments(window.sum(axis=0), len(window) * count)
        for window in (d.moments[k : k + 2 * REACH + 1] for k in range(d.frames))
    ]
    return tuple(xp.stack([pair[k] for pair in fits]) for k in (0, 1))


PLAIN: Mapping[str, Callable[[Data], Any]] = {
    "yuv to levels": yuv_to_levels,
    "susan": susan,
    "motion masks": motion_masks,
    "temporal mean": temporal_mean,
    "lamps": lamps,
    "mix and divergence": mix_and_divergence,
    "poisson": solve,
    "sums of the fit": sums_of_the_fit,
    "fit": fit,
    "apply the fit": apply_the_fit,
    "8-bit pixels": pixels,
    "levels to nv12": levels_to_nv12,
    "8-bit median": median,
}
"""By the names of `gpu.steps.STEPS`; Poisson's is the cosine transform of `cupyx.scipy.fft`."""
