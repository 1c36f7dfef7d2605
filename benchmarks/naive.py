"""The whole method in plain NumPy and SciPy: what a careful reader of the paper would write first.

Float64, the whole clip in memory, one expression after the other; no compiled code of its own and none of the
package's. It is the other side of the benchmark, and the oracle of the whole pipeline with the paper's settings.
Levels are (T, C, H, W), masks and importance (T, H, W). User areas, the padded square and the gradient-difference
mask are left out, and so is what gpufuse adds to the paper: pull, lamps, lift and the floor for noise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy
import scipy.fft
from scipy import ndimage


@dataclass(frozen=True)
class Parameters:
    """The paper's settings; `gpufuse.Settings.paper()` has these names too and may be given instead."""

    sigma: float = 15.0
    brightness_threshold: float = 20.0
    passes: int = 2
    gradient_threshold: float | None = None
    intensity_threshold: float = 200.0
    feather: float = 1.5
    motion_threshold: float | None = None
    c: int = 5
    importance_gain: float = 1.0
    night_gain: float = 1.0
    larger_where_zero: bool = True
    fit_window: int | None = None


def levels(images):
    """Images (T, H, W) or (T, H, W, 3) as grey levels 0..255, planar."""
    white = numpy.iinfo(images.dtype).max if images.dtype.kind == "u" else 1.0
    return numpy.moveaxis(images.reshape(*images.shape[:3], -1) * (255.0 / white), -1, 1)


def images(planes, like):
    """Grey levels as images of the form of `like`."""
    white = numpy.iinfo(like.dtype).max if like.dtype.kind == "u" else 1.0
    values = numpy.moveaxis(numpy.clip(planes, 0, 255), 1, -1) * (white / 255.0)
    return (numpy.rint(values) if white > 1 else values).astype(like.dtype).reshape(len(values), *like.shape)


def enlarged(planes, size):
    factors = (1,) * (planes.ndim - 2) + (size[0] / planes.shape[-2], size[1] / planes.shape[-1])
    return (
        ndimage.zoom(planes, factors, order=1, mode="nearest", grid_mode=True) if max(factors) > 1 else planes
    )


def susan(frames, sigma, threshold):
    """3D SUSAN over 3x3 pixels and 5 frames, one shifted copy of the clip at a time."""
    count, _, height, width = frames.shape
    padded = numpy.pad(frames, ((2, 2), (0, 0), (1, 1), (1, 1)), mode="edge")

    def shifted(t, y, x):
        return padded[2 + t : 2 + t + count, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width]

    total, weights = numpy.zeros_like(frames), numpy.zeros_like(frames)
    for t, y, x in itertools.product((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1)):
        if (t, y, x) != (0, 0, 0):
            q = shifted(t, y, x)
            w = numpy.exp(-(t**2 + y**2 + x**2) / (2 * sigma**2) - ((q - frames) / threshold) ** 2)
            total += w * q
            weights += w
    alone = weights < 1e-6
    smooth = total / numpy.where(alone, 1, weights)
    if alone.any():
        ring = [(y, x) for y, x in itertools.product((-1, 0, 1), repeat=2) if (y, x) != (0, 0)]
        smooth[alone] = numpy.median([shifted(0, y, x)[alone] for y, x in ring], axis=0)
    return smooth


def set_around(masks):
    """How many of the 3x3 pixels around each are set."""
    return ndimage.convolve(masks.astype(numpy.uint8), numpy.ones((1, 3, 3), numpy.uint8), mode="nearest")


def motion_masks(frames, threshold):
    changes = numpy.abs(numpy.diff(frames, axis=0, prepend=frames[:1])).max(axis=1)
    changes[0] = changes[min(1, len(changes) - 1)]
    if threshold is None:  # four times the noise of the first frames; what a codec copied says nothing
        noisy = changes[:9][changes[:9] > 0.05]
        threshold = max(1.5, 4 * numpy.median(noisy)) if noisy.size else 1.5
    masks = changes > threshold
    for _ in range(2):
        masks = set_around(masks) >= 4
    return masks


def importance(masks, c, gain):
    means = [masks[max(0, i - c) : i + c + 1].mean(axis=0) for i in range(len(masks))]
    return numpy.clip(gain * numpy.array(means), 0, 1)


def static_importance(day, night, gradient_threshold, intensity_threshold, feather):
    """Importance of a pair: strong gradients of the night, and lamps."""
    night_energy, day_energy = (sum((g**2).sum(axis=1) for g in gradient(image)) for image in (night, day))
    if gradient_threshold is None:
        gradient_threshold = max(50, 4 * numpy.sqrt(numpy.median(night_energy)))
    edges = (night_energy >= gradient_threshold**2) & (night_energy > day_energy)
    found = ((edges & (set_around(edges) >= 3)) | (night.max(axis=1) >= intensity_threshold)).astype(float)
    reach = 2 * int(numpy.ceil(feather)) + 1
    grown = ndimage.maximum_filter(found, size=(1, reach, reach), mode="nearest")
    return numpy.maximum(found, ndimage.gaussian_filter(grown, (0, feather, feather), mode="nearest"))


def gradient(u):
    return numpy.diff(u, axis=-1, append=u[..., -1:]), numpy.diff(u, axis=-2, append=u[..., -1:, :])


def mix(day, night, weights, larger_where_zero, night_gain):
    """Gradients of the night where it is important, of the day elsewhere: (2, T, C, H, W)."""
    g_day, g_night = numpy.array(gradient(day)), night_gain * numpy.array(gradient(night))
    if larger_where_zero:
        larger = (g_night**2).sum(axis=(0, 2)) > (g_day**2).sum(axis=(0, 2))
        weights = numpy.where(weights == 0, larger, weights)
    return weights[:, None] * g_night + (1 - weights[:, None]) * g_day


def solve(g):
    """The picture with these gradients: Laplacian u = div G, Neumann border, mean 0.

    The cosine transform diagonalises this Laplacian, so a few lines of scipy.fft solve it exactly; a sparse solver
    would be as easy to write, but slower, and no fair opponent.
    """
    (gx, gy), (height, width) = g, g.shape[-2:]
    rhs = numpy.diff(gx, axis=-1, prepend=0) + numpy.diff(gy, axis=-2, prepend=0)
    y, x = numpy.arange(height)[:, None], numpy.arange(width)
    eigenvalues = 2 * numpy.cos(numpy.pi * y / height) + 2 * numpy.cos(numpy.pi * x / width) - 4
    eigenvalues[0, 0] = numpy.inf
    spectrum = scipy.fft.dctn(rhs, axes=(-2, -1), workers=-1)
    return scipy.fft.idctn(spectrum / eigenvalues, axes=(-2, -1), workers=-1)


def normalise(u, target, before, after):
    """Least squares of c1 u + c2 against the target, each frame together with its neighbours in time."""
    result = numpy.empty_like(u)
    moments = numpy.stack([m.mean(axis=(-2, -1)) for m in (u, u * u, target, u * target)])
    for i in range(len(u)):
        mean_u, mean_uu, mean_v, mean_uv = moments[:, max(0, i - before) : i + after + 1].mean(axis=1)
        variance, covariance = mean_uu - mean_u**2, mean_uv - mean_u * mean_v
        varies = variance > 1e-12 * mean_uu
        c1 = numpy.where(varies, covariance / numpy.where(varies, variance, 1), 1)
        result[i] = c1[:, None, None] * u[i] + (mean_v - c1 * mean_u)[:, None, None]
    return result


def fuse(day, night, settings=None):
    """Fuse a day and a night picture (Algorithm 1)."""
    s = settings or Parameters()
    day_levels, night_levels = levels(day[None]), enlarged(levels(night[None]), day.shape[:2])
    w = static_importance(day_levels, night_levels, s.gradient_threshold, s.intensity_threshold, s.feather)
    u = solve(mix(day_levels, night_levels, w, False, s.night_gain))
    target = w[:, None] * night_levels + (1 - w[:, None]) * day_levels
    return images(normalise(u, target, 0, 0), like=numpy.empty(day.shape, night.dtype))[0]


def fuse_video(day, frames, settings=None):
    """Fuse a day picture and the frames of a night clip (Algorithm 2); all of them at once."""
    s = settings or Parameters()
    night, day_levels = levels(numpy.asarray(frames)), levels(day[None])
    for _ in range(s.passes):
        night = susan(night, s.sigma, s.brightness_threshold)
    w = importance(motion_masks(night, s.motion_threshold), s.c, s.importance_gain)
    night, w = enlarged(night, day.shape[:2]), enlarged(w, day.shape[:2])
    u = solve(mix(day_levels, night, w, s.larger_where_zero, s.night_gain))
    target = w[:, None] * night + (1 - w[:, None]) * day_levels
    together = 2 * s.c + 1 if s.fit_window is None else s.fit_window
    fused = normalise(u, target, (together - 1) // 2, together // 2)
    return images(fused, like=numpy.empty(day.shape, frames[0].dtype))
