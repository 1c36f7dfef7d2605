"""Measures of a fused picture: pure functions of arrays, each with its equation and source.

Pictures are ``(H, W, 3)`` or ``(T, H, W, 3)`` ``uint8``; "luma" is that of ITU-R BT.601, in grey levels
0..255; masks are ``bool`` without a channel axis. A measure without a single pixel to judge is nan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray
from scipy import ndimage

from gpufuse.arrays import LUMA

Floats = NDArray[numpy.float32]
Mask = NDArray[numpy.bool_]


def luma(picture: Any) -> Floats:
    """Luma of a colour picture, (..., H, W, 3) to (..., H, W)."""
    found: Floats = numpy.asarray(picture, numpy.float32) @ numpy.array(LUMA, numpy.float32)
    return found


def mean_where(values: Any, where: Any = None) -> float:
    """Mean of some values; nan without any."""
    chosen = numpy.asarray(values if where is None else values[where])
    return float(chosen.mean(dtype=numpy.float64)) if chosen.size else math.nan


# ------------------------------------------------------------------------- preservation of edges


@dataclass(frozen=True)
class Edges:
    """Strength and orientation of edges, shape (H, W)."""

    strength: Floats
    angle: Floats


def edges_of(grey: Floats) -> Edges:
    """Sobel edges: strength ``hypot(s_x, s_y)``, orientation ``atan(s_y / s_x)`` modulo pi."""
    along_x, along_y = (ndimage.sobel(grey, axis, mode="nearest") for axis in (1, 0))
    return Edges(numpy.hypot(along_x, along_y), numpy.arctan2(along_y, along_x))


GAMMA_G, KAPPA_G, SIGMA_G = 0.9994, -15.0, 0.5
GAMMA_A, KAPPA_A, SIGMA_A = 0.9879, -22.0, 0.8

BEST_PRESERVATION = (
    GAMMA_G / (1 + math.exp(KAPPA_G * (1 - SIGMA_G))) * GAMMA_A / (1 + math.exp(KAPPA_A * (1 - SIGMA_A)))
)
"""Q of an edge that is the same in both pictures: 0.975, the largest there is."""


def edge_preservation(source: Edges, result: Edges) -> Floats:
    """How well each edge of a source survives in a result, 0..0.975, shape (H, W).

    ``G = min(g_A, g_F) / max(g_A, g_F)``, ``A = |1 - 2 |a_A - a_F| / pi|`` for orientations a,
    ``Q = Gamma_g / (1 + exp(kappa_g (G - sigma_g))) * Gamma_a / (1 + exp(kappa_a (A - sigma_a)))``, with the
    constants of the paper. Without an edge in either picture G is 1: nothing is lost.

    References
    ----------
    C. S. Xydeas, V. Petrovic: Objective image fusion performance measure. Electronics Letters 36(4), 2000.
    """
    weaker = numpy.minimum(source.strength, result.strength)
    stronger = numpy.maximum(source.strength, result.strength)
    ratio = numpy.divide(weaker, stronger, out=numpy.ones_like(weaker), where=stronger > 0)
    turned = numpy.mod(numpy.abs(source.angle - result.angle), numpy.pi)
    aligned = numpy.abs(1 - 2 * turned / numpy.pi)
    aligned = numpy.where(weaker > 0, aligned, 1.0)
    strength = GAMMA_G / (1 + numpy.exp(KAPPA_G * (ratio - SIGMA_G)))
    orientation = GAMMA_A / (1 + numpy.exp(KAPPA_A * (aligned - SIGMA_A)))
    kept: Floats = (strength * orientation).astype(numpy.float32)
    return kept


@dataclass(frozen=True)
class Preservation:
    """Edge preservation Q weighted by edge strength; best 0.975.

    Attributes
    ----------
    whole : float
        Q^AB/F of the paper: day and night, everywhere.
    foreground : float
        Of the night inside the foreground.
    background : float
        Of the day outside.
    invented : float
        N^AB/F: edges of the result stronger than in day and night, and unlike theirs; best 0.
    """

    whole: float
    foreground: float
    background: float
    invented: float

    @property
    def both(self) -> float:
        """Harmonic mean of foreground and background."""
        total = self.foreground + self.background
        return 2 * self.foreground * self.background / total if total > 0 else math.nan


def preservation(result: Any, day: Any, night: Any, foreground: Mask, background: Mask) -> Preservation:
    """Gradient preservation Q^AB/F of Xydeas and Petrovic, with weights ``g^L``, L = 1, on luma.

    ``Q^AB/F = sum (Q^DF g_D + Q^NF g_N) / sum (g_D + g_N)`` over the picture; the foreground's figure is
    ``sum Q^NF g_N / sum g_N`` over the foreground, the background's ``sum Q^DF g_D / sum g_D`` over the
    background. ``N^AB/F = sum m ((1 - Q^DF) g_D + (1 - Q^NF) g_N) / sum (g_D + g_N)`` with m = 1 where
    ``g_F`` exceeds both.

    Parameters
    ----------
    result, day, night : ndarray, shape (H, W, 3), uint8
    foreground, background : ndarray, shape (H, W), bool

    References
    ----------
    C. S. Xydeas, V. Petrovic: Objective image fusion performance measure. Electronics Letters 36(4), 2000.
    V. Petrovic, C. S. Xydeas: Objective image fusion performance characterisation. ICCV 2005.
    """
    by_day, by_night, fused = (edges_of(luma(picture)) for picture in (day, night, result))
    of_day, of_night = edge_preservation(by_day, fused), edge_preservation(by_night, fused)

    def share(kept: float, wanted: float) -> float:
        return float(kept / wanted) if wanted > 0 else math.nan

    def weighted(kept: Floats, edges: Edges, where: Mask) -> float:
        strength = edges.strength[where].astype(numpy.float64)
        return share((kept[where] * strength).sum(), strength.sum())

    both = (of_day * by_day.strength + of_night * by_night.strength).sum(dtype=numpy.float64)
    wanted = (by_day.strength + by_night.strength).sum(dtype=numpy.float64)
    louder = fused.strength > numpy.maximum(by_day.strength, by_night.strength)
    lost = (1 - of_day) * by_day.strength + (1 - of_night) * by_night.strength
    return Preservation(
        share(both, wanted),
        weighted(of_night, by_night, foreground),
        weighted(of_day, by_day, background),
        share(lost[louder].sum(dtype=numpy.float64), wanted),
    )


def contrast(result: Any, night: Any, where: Mask) -> float:
    """Contrast of a result in terms of the night's: ``sum grad R . grad N / sum |grad N|^2``, on luma.

    1 where the night is shown as it is, 2 where its contrast is doubled, 0 where nothing of it is left;
    noise and the day's gradients, which know nothing of the night's, count for nothing.
    """
    fused, wanted = (numpy.stack(numpy.gradient(luma(picture))) for picture in (result, night))
    energy = float((wanted**2)[:, where].sum(dtype=numpy.float64))
    shared = float((fused * wanted)[:, where].sum(dtype=numpy.float64))
    return shared / energy if energy > 0 else math.nan


def grown(mask: Mask, pixels: int) -> Mask:
    """A mask and all that is within some pixels (city blocks) of it."""
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask


# -------------------------------------------------------------------------------------------- halo


HALO_SIGMA = 8.0
"""Gaussian low-pass, pixels of a picture 480 wide."""

RING = (2.0, 16.0)
"""Nearest and farthest pixel of the ring around moving things, pixels of a picture 480 wide."""


def halo(result: Any, day: Any, foreground: Mask, ignore: Mask | None = None) -> float:
    """Change of low frequencies around moving things, against the day, in grey levels; best 0.

    The result is first brought to the day's brightness and contrast, by the least-squares ``a R + b`` over
    still pixels beyond the ring, so that a change of the whole picture is no halo. Then ``d = a R + b - D`` on
    luma, its Gaussian low-pass over still pixels from the ring outwards alone (so that the things themselves
    do not leak into it), and the mean of ``|d|`` over still pixels in the ring around the things. Radii grow
    with the width of the picture. Where less than 5 % of the picture is still beyond the ring, the ring
    serves the fit as well.

    Parameters
    ----------
    result, day : ndarray, shape (H, W, 3), uint8
    foreground : ndarray, shape (H, W), bool
    ignore : ndarray, shape (H, W), bool, optional
        Neither moving nor still.
    """
    unit = foreground.shape[1] / 480
    still = ~foreground if ignore is None else ~(foreground | ignore)
    if not foreground.any() or not still.any():
        return math.nan
    distance = ndimage.distance_transform_edt(~foreground)
    beyond = still & (distance >= RING[0] * unit)
    ring = beyond & (distance <= RING[1] * unit)
    far = beyond & ~ring
    if far.sum() < 0.05 * far.size:
        far = beyond
    plate = luma(day)
    difference = brought_to(luma(result), plate, far) - plate
    return mean_where(numpy.abs(low_pass(difference, beyond, HALO_SIGMA * unit)), ring)


def brought_to(picture: Floats, wanted: Floats, where: Mask) -> Floats:
    """Return ``a * picture + b``, nearest to another picture by least squares over some pixels."""
    values, targets = (grey[where].astype(numpy.float64) for grey in (picture, wanted))
    if not values.size:
        return picture
    spread = values.var()
    a = ((values - values.mean()) * (targets - targets.mean())).mean() / spread if spread > 0 else 0.0
    b = targets.mean() - a * values.mean()
    return (a * picture + b).astype(numpy.float32)


def low_pass(grey: Floats, where: Mask, sigma: float) -> Floats:
    """Gaussian mean over some pixels alone: ``(g * (v w)) / (g * w)``."""
    weight = where.astype(numpy.float32)
    known = ndimage.gaussian_filter(weight, sigma)
    total = ndimage.gaussian_filter(grey * weight, sigma)
    smooth: Floats = numpy.divide(total, known, out=numpy.zeros_like(total), where=known > 1e-6)
    return smooth


# -------------------------------------------------------------------------------------- colour


def colour_difference(first: Any, second: Any) -> Floats:
    """CIEDE2000 of each pixel of two sRGB pictures (..., 3) uint8; 1 is just noticeable (scikit-image)."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    difference: Floats = deltaE_ciede2000(rgb2lab(first), rgb2lab(second)).astype(numpy.float32)
    return difference


def colour_shift(result: Any, wanted: Any, where: Mask) -> float:
    """Mean CIEDE2000 over some pixels; best 0."""
    if not where.any():
        return math.nan
    return mean_where(colour_difference(result[where][None], wanted[where][None]))


def blend_target(day: Any, night: Any, foreground: Mask) -> Any:
    """Night inside the foreground, day elsewhere: ``W N + (1 - W) D`` with the true W."""
    return numpy.where(foreground[..., None], night, day)


# ------------------------------------------------------------------------------- flicker and noise


def flicker(frames: Any, still: Mask) -> float:
    """Mean ``|F_t - F_(t-1)|`` over channels and pixels still in both frames, in grey levels; best 0.

    Parameters
    ----------
    frames : ndarray, shape (T, H, W, 3), uint8
    still : ndarray, shape (T, H, W), bool
    """
    total, count = 0.0, 0
    for index in range(1, len(frames)):
        both = still[index] & still[index - 1]
        change = numpy.abs(frames[index].astype(numpy.int16) - frames[index - 1])
        total += float(change.sum(axis=-1)[both].sum())
        count += int(both.sum()) * change.shape[-1]
    return total / count if count else math.nan


def temporal_noise(frames: Any, still: Mask) -> float:
    """Standard deviation over time of pixels that are always still, on luma, root mean square; best 0."""
    always = still.all(axis=0)
    if len(frames) < 2 or not always.any():
        return math.nan
    values = luma(numpy.asarray(frames)[:, always])
    return float(numpy.sqrt(values.var(axis=0, dtype=numpy.float64).mean()))


def fine_noise(frames: Any, still: Mask) -> float:
    """Standard deviation of the finest detail that is not in the mean over time, grey levels; best 0.

    Luma of each frame less its mean over time, through the diagonal Haar wavelet
    ``(v00 - v01 - v10 + v11) / 2``, which keeps the standard deviation of white noise; root mean square over
    2x2 pixels that are still, scaled by ``T / (T - 1)`` in variance for the mean that is taken off.
    """
    always = still.all(axis=0)
    blocks = always[1:, 1:] & always[1:, :-1] & always[:-1, 1:] & always[:-1, :-1]
    if len(frames) < 2 or not blocks.any():
        return math.nan
    grey = luma(frames)
    rest = grey - grey.mean(axis=0)
    detail = diagonal_detail(rest)[:, blocks].astype(numpy.float64)
    return float(numpy.sqrt((detail**2).mean() * len(grey) / (len(grey) - 1)))


def diagonal_detail(grey: Floats) -> Floats:
    """Diagonal Haar detail of the last two axes, of one row and column less."""
    above, below = grey[..., :-1, :], grey[..., 1:, :]
    rise = above[..., :-1] - above[..., 1:] - below[..., :-1] + below[..., 1:]
    return rise / numpy.float32(2)


def still_noise(result: Any, day: Any, where: Mask) -> float:
    """Noise of one picture in places that should look like the day, in grey levels; best 0.

    1.4826 times the median absolute diagonal Haar detail of ``R - (c1 D + c2)``, with ``c1, c2`` by least
    squares over these places, on luma: the estimator of Donoho and Johnstone (1994), as in
    `skimage.restoration.estimate_sigma`, which takes no mask.
    """
    blocks = where[1:, 1:] & where[1:, :-1] & where[:-1, 1:] & where[:-1, :-1]
    if not blocks.any():
        return math.nan
    grey = luma(result)
    rest = grey - brought_to(luma(day), grey, where)
    detail = diagonal_detail(rest)[blocks]
    return float(1.4826 * numpy.median(numpy.abs(detail)))
