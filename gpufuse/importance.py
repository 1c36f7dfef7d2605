"""Importance W in [0, 1]: how much of the night is kept at each pixel.

For a static pair, for a dynamic scene with a night reference, and for video by motion masks and their
temporal mean. Masks and importance have no channel axis.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy

from gpufuse.arrays import Array, array_module, check_levels
from gpufuse.gradients import gradient, squared_magnitude

__all__ = [
    "clean_masks",
    "cleaned_motion",
    "dynamic_importance",
    "keep_lamps",
    "motion_changes",
    "motion_masks",
    "motion_noise",
    "motion_threshold",
    "smoothed",
    "static_importance",
    "temporal_mean",
]

_UNCHANGED = 0.05
"""Grey levels: smaller changes are blocks that a codec copied, and say nothing about noise."""

_FEWEST_TOGETHER = 3
"""Important edge pixels among 3x3 under which one is noise."""

_LOWEST_GRADIENT = 50.0
_NOISE_FACTOR = 4.0
_LOWEST_THRESHOLD = 1.5


def static_importance(
    day: Array,
    night: Array,
    *,
    gradient_threshold: float | None = None,
    intensity_threshold: float = 200.0,
    feather: float = 1.5,
) -> Array:
    """Importance of a static pair (Algorithm 1).

    A pixel of the night is important where its gradient is strong and stronger than the day's, or
    where it is bright: lamps, windows, signs.

    Parameters
    ----------
    day, night : ndarray, shape (C, H, W), float32, grey levels
        NumPy or CuPy; leading axes in front are allowed.
    gradient_threshold : float, optional
        Least joint gradient magnitude, grey levels per pixel. By default it follows the noise:
        4 times the median magnitude of the night's gradients, at least 50.
    intensity_threshold : float
        Least brightness of the brightest channel, grey levels.
    feather : float
        Standard deviation in pixels of the Gaussian that lets W fall smoothly; 0 for a hard edge.

    Returns
    -------
    ndarray, shape (H, W), float32 in [0, 1]
        On the same device. 1 on the important pixels, exactly 0 farther than about 4 `feather` from them.

    Raises
    ------
    TypeError, ValueError
        For arrays that are no levels of one shape, or parameters out of range.

    Notes
    -----
    ``|G_N| >= gradient_threshold and |G_N| > |G_D|``, or ``max_c N >= intensity_threshold``. Edges with fewer
    than 3 important pixels among 3x3 are noise and left out. The mask is grown
    by one `feather` before the Gaussian, so that a line one pixel wide keeps its full
    importance. Synchronises: yes, for the check of its input.

    Examples
    --------
    >>> import numpy
    >>> night = numpy.zeros((1, 1, 5), numpy.float32)
    >>> night[0, 0, 4] = 250
    >>> static_importance(night * 0, night, feather=0)
    array([[0., 0., 0., 1., 1.]], dtype=float32)
    """
    xp = array_module(day, night)
    day = check_levels(day, name="day", axes="(..., C, H, W)")
    night = check_levels(night, name="night", axes="(..., C, H, W)")
    _check_same_size(day, night, "night")
    _check_not_negative("feather", feather)
    night_energy = squared_magnitude(*gradient(night))
    if gradient_threshold is None:
        gradient_threshold = _gradient_threshold(night_energy)
    edges = (night_energy >= gradient_threshold**2) & (night_energy > squared_magnitude(*gradient(day)))
    bright = night.max(axis=-3) >= intensity_threshold
    edges &= _neighbours_set(edges) >= _FEWEST_TOGETHER
    return _feathered((edges | bright).astype(xp.float32), feather)


def _gradient_threshold(energy: Array) -> float:
    """Threshold that sensor noise does not reach: most of a night picture has no strong edge."""
    typical = math.sqrt(float(array_module(energy).median(energy)))
    return max(_LOWEST_GRADIENT, _NOISE_FACTOR * typical)


def dynamic_importance(
    night: Array,
    reference: Array,
    *,
    threshold: float = 12.0,
    span: float = 24.0,
    smoothing: float = 1.5,
    feather: float = 1.5,
) -> Array:
    """Importance of a dynamic scene, from a night picture of the same view without the moving things.

    Parameters
    ----------
    night, reference : ndarray, shape (C, H, W), float32, grey levels
        NumPy or CuPy; leading axes in front are allowed.
    threshold : float
        Difference in grey levels at which importance begins.
    span : float
        Grey levels above `threshold` at which it reaches 1.
    smoothing : float
        Standard deviation in pixels of the Gaussian over the difference; 0 for none.
    feather : float
        Standard deviation in pixels of the Gaussian at the border of the important areas; 0 for none.

    Returns
    -------
    ndarray, shape (H, W), float32 in [0, 1]
        On the same device; exactly 0 away from the changes.

    Raises
    ------
    TypeError, ValueError
        For arrays that are no levels of one shape, or parameters out of range.

    Notes
    -----
    ``M = max_c |N - R|``, smoothed, ``clip((M - threshold) / span, 0, 1)``, specks removed and small holes closed
    (section 3 of Ilie, Raskar and Yu (2004)); all weights of the night itself are 1. Synchronises: yes, for the
    check of its input.

    Examples
    --------
    >>> import numpy
    >>> reference = numpy.zeros((1, 9, 9), numpy.float32)
    >>> night = reference.copy()
    >>> night[:, 3:, 3:] = 60
    >>> w = dynamic_importance(night, reference, smoothing=0, feather=0)
    >>> float(w[0, 0]), float(w[6, 6])
    (0.0, 1.0)
    """
    xp = array_module(night, reference)
    night = check_levels(night, name="night", axes="(..., C, H, W)")
    reference = check_levels(reference, name="reference", axes="(..., C, H, W)")
    _check_same_size(night, reference, "reference")
    _check_not_negative("smoothing", smoothing)
    _check_not_negative("feather", feather)
    if not span > 0:
        raise ValueError(f"span: expected a positive number of grey levels, got {span}; the default is 24")
    difference = smoothed(xp.abs(night - reference).max(axis=-3), smoothing)
    level = xp.clip((difference - threshold) / span, 0.0, 1.0).astype(xp.float32)
    mask = level > 0
    cleaned = clean_masks(mask)
    opened = xp.where(cleaned, xp.maximum(level, xp.float32(0.5) * (cleaned & ~mask)), xp.float32(0.0))
    return _feathered(opened, feather)


def motion_changes(
    frames: Array, start: int = 0, *, motion_from: Literal["intensity", "gradient"] = "intensity"
) -> Array:
    """Change of each frame against the one before it, the largest over the channels.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, grey levels
        Denoised frames, NumPy or CuPy.
    start : int
        First frame of interest; the one before it must be in `frames` unless it is the first of the clip.
    motion_from : {"intensity", "gradient"}
        Compare brightness, or gradients (blind to slow changes of light).

    Returns
    -------
    ndarray, shape (T - start, H, W), float32, grey levels
        The first frame of a clip takes the change of the second; a clip of one frame has none.
    """
    xp = array_module(frames)
    if len(frames) == 1:
        return xp.zeros((1 - start, *frames.shape[-2:]), xp.float32)
    known = frames[max(start - 1, 0) :]
    if motion_from == "gradient":
        gx, gy = gradient(known)
        changes = xp.maximum(_largest_change(gx), _largest_change(gy))
    else:
        changes = _largest_change(known)
    return xp.concatenate([changes[:1], changes]) if start == 0 else changes


def _largest_change(frames: Array) -> Array:
    """Largest absolute difference over the channels, channel by channel to spare temporaries."""
    xp = array_module(frames)
    largest = xp.abs(frames[1:, 0] - frames[:-1, 0])
    for channel in range(1, frames.shape[1]):
        change = frames[1:, channel] - frames[:-1, channel]
        xp.maximum(largest, xp.abs(change, out=change), out=largest)
    return largest


def motion_masks(
    frames: Array,
    *,
    threshold: float | None = None,
    motion_from: Literal["intensity", "gradient"] = "intensity",
    clean: bool = True,
) -> Array:
    """Binary motion masks of a clip.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, grey levels
        Denoised frames, NumPy or CuPy.
    threshold : float, optional
        Grey levels; a change above it is motion. By default it follows the noise: `motion_threshold`.
    motion_from : {"intensity", "gradient"}
        Compare brightness, or gradients.
    clean : bool
        Remove specks and close small holes.

    Returns
    -------
    ndarray, shape (T, H, W), bool
        On the same device; the first mask is that of the second frame.

    Raises
    ------
    TypeError, ValueError
        For arrays that are no frames, or unknown `motion_from`.

    Notes
    -----
    ``M_i = 1`` where ``max_c |F_i - F_{i-1}| > threshold`` (Algorithm 2 of Ilie, Raskar and Yu (2004)).
    Synchronises: yes, for the check of its input.

    Examples
    --------
    >>> import numpy
    >>> frames = numpy.zeros((3, 1, 5, 5), numpy.float32)
    >>> frames[2, 0, 1:4, 1:4] = 100
    >>> motion_masks(frames, threshold=5).sum(axis=(1, 2))
    array([0, 0, 9])
    """
    if motion_from not in ("intensity", "gradient"):
        raise ValueError(f"motion_from: expected 'intensity' or 'gradient', got {motion_from!r}; choose one")
    frames = check_levels(frames, axes="(T, C, H, W)")
    if threshold is not None and clean:
        return cleaned_motion(frames, 0, len(frames), threshold, motion_from=motion_from)
    changes = motion_changes(frames, motion_from=motion_from)
    masks = changes > (motion_threshold(changes) if threshold is None else threshold)
    return clean_masks(masks) if clean else masks


def cleaned_motion(
    frames: Array | list[Array],
    start: int,
    stop: int,
    threshold: float | Array,
    *,
    motion_from: Literal["intensity", "gradient"] = "intensity",
) -> Array:
    """Clean motion masks of the frames ``start .. stop - 1`` of a piece of a clip.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, contiguous, grey levels
        On the host also a list of frames. The frame before `start` must be among them unless `start` is 0, the
        first frame of the clip; that one needs the second, of which it takes the change, and has no motion if it is
        alone.
    start, stop : int
        The frames to compute.
    threshold : float, or ndarray of one float32 on the frames' GPU, grey levels
        A change above it is motion.
    motion_from : {"intensity", "gradient"}
        As in `motion_masks`.

    Returns
    -------
    ndarray, shape (stop - start, H, W), bool
        On the same device. Each mask depends on its frame and the one before alone, so pieces of any length
        give equal masks.

    See Also
    --------
    motion_masks : for a whole clip; measures the threshold and checks its input.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> frames = numpy.zeros((3, 1, 5, 5), numpy.float32)
    >>> frames[2, 0, 1:4, 1:4] = 100
    >>> cleaned_motion(frames, 2, 3, 5.0).sum(axis=(1, 2))
    array([9])
    """
    xp = array_module(*frames) if isinstance(frames, list) else array_module(frames)
    known = frames[max(start - 1, 0) : max(stop, 2)]  # the first frame looks ahead
    if motion_from == "gradient" or len(known) < 2 or (xp is not numpy and known[0].shape[0] not in (1, 3)):
        together = xp.stack(known) if isinstance(known, list) else known
        changes = motion_changes(together, min(start, 1), motion_from=motion_from)
        return clean_masks(changes[: stop - start] > threshold)
    masks = xp.empty((stop - start, *known[0].shape[-2:]), bool)
    if xp is numpy:
        from gpufuse.kernels_cpu import motion as cpu

        cpu.motion_masks(known, masks, float(threshold))
        return masks
    from gpufuse.kernels_cuda import motion as cuda

    if not isinstance(threshold, xp.ndarray):
        threshold = xp.full((), threshold)
    cuda.motion_masks(known, masks, threshold.astype(numpy.float32))
    return masks


def motion_noise(changes: Array) -> float | Array:
    """Robust estimate of the noise in frame-to-frame changes.

    Parameters
    ----------
    changes : ndarray, shape (T, H, W), float32, grey levels
        From `motion_changes`.

    Returns
    -------
    float, or ndarray of shape (), float32, on a GPU
        Median in grey levels of the changes above 0.05 level: moving things cover less than half of a
        view, and a codec repeats blocks that carry no noise at all. 0 if nothing changes.

    Notes
    -----
    Synchronises: no; on a GPU the result stays there, for to read it would wait.

    Examples
    --------
    >>> import numpy
    >>> motion_noise(numpy.array([[[0.0, 0.2, 0.3, 90.0, 0.1]]], numpy.float32))
    0.25
    """
    xp = array_module(changes)
    if xp is numpy:
        noisy = changes[changes > _UNCHANGED]
        return round(float(numpy.median(noisy)), 6) if noisy.size else 0.0
    if not changes.size:
        return xp.zeros((), numpy.float32)
    # As above in shapes that do not depend on values: what does not change is sorted behind the noise.
    noisy = changes > _UNCHANGED
    count = noisy.sum()
    ranked = xp.sort(xp.where(noisy, changes, xp.float32(numpy.inf)).ravel())
    middle = xp.maximum(xp.stack([(count - 1) // 2, count // 2]), 0)
    low, high = xp.take(ranked, middle)
    # The product is exact in float64, so this is the decimal number nearest to the median.
    median = xp.rint(((low + high) / 2).astype(numpy.float64) * 1e6) / 1e6
    return xp.where(count > 0, median, 0.0).astype(numpy.float32)


def motion_threshold(changes: Array) -> float | Array:
    """Motion threshold that the noise does not reach.

    Parameters
    ----------
    changes : ndarray, shape (T, H, W), float32, grey levels
        Of the first frames of a clip, from `motion_changes`.

    Returns
    -------
    float, or ndarray of shape (), float32, on a GPU
        4 times `motion_noise`, at least 1.5 grey levels.
    """
    xp = array_module(changes)
    larger = max if xp is numpy else xp.maximum
    return larger(_NOISE_FACTOR * motion_noise(changes), _LOWEST_THRESHOLD)


def clean_masks(masks: Array) -> Array:
    """Remove specks and close small holes.

    Parameters
    ----------
    masks : ndarray, shape (..., H, W), bool
        NumPy or CuPy.

    Returns
    -------
    ndarray, shape (..., H, W), bool
        Set where at least 4 of the 3x3 pixels around are set, twice: what is smaller than 2x2
        pixels vanishes, holes and gaps of one or two pixels close. Borders are replicated.

    Examples
    --------
    >>> import numpy
    >>> mask = numpy.zeros((4, 8), bool)
    >>> mask[1, 1] = True                     # a speck
    >>> mask[:, 4:] = True
    >>> mask[2, 6] = False                    # a hole
    >>> clean_masks(mask).astype(int)
    array([[0, 0, 0, 0, 1, 1, 1, 1],
           [0, 0, 0, 0, 1, 1, 1, 1],
           [0, 0, 0, 0, 1, 1, 1, 1],
           [0, 0, 0, 0, 1, 1, 1, 1]])
    """
    for _ in range(2):
        masks = _neighbours_set(masks) >= 4
    return masks


def _neighbours_set(masks: Array) -> Array:
    """How many of the 3x3 pixels around each are set."""
    xp = array_module(masks)
    return _three_in_line(_three_in_line(masks.astype(xp.uint8)), across=True)


def _three_in_line(counts: Array, *, across: bool = False) -> Array:
    """Sum of each pixel and its two neighbours along one axis, the border replicated."""
    xp = array_module(counts)
    lines = xp.swapaxes(counts, -2, -1) if across else counts
    total = counts.copy()
    sums = xp.swapaxes(total, -2, -1) if across else total
    sums[..., 1:, :] += lines[..., :-1, :]
    sums[..., :-1, :] += lines[..., 1:, :]
    sums[..., 0, :] += lines[..., 0, :]
    sums[..., -1, :] += lines[..., -1, :]
    return total


def temporal_mean(masks: Array | list[Array], c: int = 5, start: int = 0, stop: int | None = None) -> Array:
    """Mean of the masks from c frames before to c frames after each frame.

    This is the temporal hysteresis that keeps the body of a car important between its head-lights and its
    tail-lights.

    Parameters
    ----------
    masks : ndarray, shape (T, H, W), bool
        NumPy or CuPy; on the host also a list of masks.
    c : int
        Extent of influence in frames, either way.
    start, stop : int
        The frames to compute; all by default. What is farther than `c` from them is not used.

    Returns
    -------
    ndarray, shape (stop - start, H, W), float32 in [0, 1]
        On the same device; the mean over the frames that exist.

    Raises
    ------
    ValueError
        If `c` is negative.

    Notes
    -----
    ``W'_i = mean of M_k, k = i-c..i+c``. Counted in whole numbers, so exact. Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> masks = numpy.array([0, 1, 0, 0], bool).reshape(4, 1, 1)
    >>> temporal_mean(masks, 1).ravel()
    array([0.5       , 0.33333334, 0.33333334, 0.        ], dtype=float32)
    """
    xp = array_module(*masks) if isinstance(masks, list) else array_module(masks)
    if not (c >= 0 and float(c).is_integer()):
        raise ValueError(f"c: expected a whole number of frames from 0, got {c}; the default is 5")
    stop = len(masks) if stop is None else stop
    size = masks[0].shape if isinstance(masks, list) else masks.shape[1:]
    result = xp.empty((stop - start, *size), xp.float32)
    if xp is not numpy:
        from gpufuse.kernels_cuda import motion as kernels

        kernels.temporal_mean(xp.ascontiguousarray(masks, dtype=bool), result, int(c), start)
        return result
    first = last = max(0, start - c)
    window = xp.zeros(size, xp.float32)  # small whole numbers: exact
    for i in range(start, stop):
        while last < min(len(masks), i + c + 1):
            window += masks[last]
            last += 1
        while first < i - c:
            window -= masks[first]
            first += 1
        xp.divide(window, xp.float32(last - first), out=result[i - start])
    return result


def keep_lamps(
    weights: Array, frames: Array, *, threshold: float = 150.0, gain: float = 1.0
) -> tuple[Array, Array]:
    """Give moving lamps their full importance, and say where the night's own brightness is to be kept.

    A lamp that moves fast is at a pixel in few frames, so the mean over time gives it little importance: it
    would come out dim and washed out.

    Parameters
    ----------
    weights : ndarray, shape (..., H, W), float in [0, 1]
        Importance, NumPy or CuPy.
    frames : ndarray, shape (..., C, H, W), float, grey levels
        The night frames that it belongs to.
    threshold : float
        Grey levels of the brightest channel, above 0, from which a moving thing is wholly a lamp; from half
        of them on it is one in part. ``inf``: nothing is a lamp.
    gain : float
        Factor on the importance, from 0; what it raises above 1 is 1.

    Returns
    -------
    weights : ndarray, shape (..., H, W), float32 in [0, 1]
        New array on the same device: raised where lamps move; where it was 0 it is 0.
    target_share : ndarray, shape (..., H, W), float32 in [0, 1]
        On the same device: share of the night in the picture that the reconstruction is pulled to, see
        `gpufuse.mixing.mixed_divergence`; 0 where there is no moving lamp.

    Raises
    ------
    TypeError
        If the arrays are not on one device, or are no real numbers.
    ValueError
        If shapes do not fit, `threshold` is not above 0, or `gain` is negative or not finite.

    Notes
    -----
    ``s = clip(2 m / threshold - 1, 0, 1)`` with ``m = max_c N``, ``V = min(gain W, 1)``. ``W' = max(V, s)`` where
    ``V > 0``, else V; the target share is ``W' s``. Synchronises: no; values are not looked at.

    Examples
    --------
    >>> import numpy
    >>> night = numpy.array([[[250.0, 150.0, 90.0, 250.0]]], numpy.float32)
    >>> weights = numpy.array([[0.25, 0.25, 0.25, 0.0]], numpy.float32)
    >>> keep_lamps(weights, night, threshold=200)
    (array([[1.  , 0.5 , 0.25, 0.  ]], dtype=float32), array([[1.  , 0.25, 0.  , 0.  ]], dtype=float32))
    """
    xp = array_module(weights, frames)
    weights = check_levels(weights, name="weights", axes="(..., H, W)", check_values=False)
    frames = check_levels(frames, name="frames", axes="(..., H, W)", check_values=False)
    if frames.ndim < 3 or frames.shape[:-3] + frames.shape[-2:] != weights.shape or not frames.shape[-3]:
        raise ValueError(
            "weights, frames: expected shapes (..., H, W) and (..., C, H, W), "
            f"got {tuple(weights.shape)} and {tuple(frames.shape)}; give the frames that the weights belong to"
        )
    if not threshold > 0:
        raise ValueError(
            f"threshold: expected a number of grey levels above 0, got {threshold}; inf switches it off"
        )
    if not 0 <= gain < math.inf:
        raise ValueError(f"gain: expected a finite number from 0, got {gain}; 1 changes nothing")
    twin: Any
    if xp is numpy:
        from gpufuse.kernels_cpu import lamps as twin
    else:
        from gpufuse.kernels_cuda import lamps as twin
    count = math.prod(weights.shape[:-2])
    kept, share = twin.keep_lamps(
        weights.reshape(count, *weights.shape[-2:]),
        frames.reshape(count, *frames.shape[-3:]),
        float(threshold),
        float(gain),
    )
    return kept.reshape(weights.shape), share.reshape(weights.shape)


def smoothed(image: Array, sigma: float) -> Array:
    """Gaussian over the last two axes, exactly 0 where nothing is within 4 sigma.

    Parameters
    ----------
    image : ndarray, shape (..., H, W), float32
        NumPy or CuPy.
    sigma : float
        Pixels; 0 returns the image itself.

    Returns
    -------
    ndarray, shape (..., H, W), float32
        On the same device; borders are replicated.
    """
    if sigma == 0:
        return image
    sigmas = (0.0,) * (image.ndim - 2) + (sigma, sigma)
    return _ndimage(image).gaussian_filter(image, sigmas, mode="nearest", truncate=4.0)


def _feathered(weights: Array, sigma: float) -> Array:
    """Let weights fall smoothly to 0 outside their areas, without lowering them inside."""
    if sigma == 0:
        return weights
    xp = array_module(weights)
    reach = 2 * int(numpy.ceil(sigma)) + 1
    size = (1,) * (weights.ndim - 2) + (reach, reach)
    grown = _ndimage(weights).maximum_filter(weights, size=size, mode="nearest")
    return xp.clip(xp.maximum(weights, smoothed(grown, sigma)), 0.0, 1.0)


def _ndimage(array: Array) -> Any:
    """The `ndimage` module that works on this array."""
    if array_module(array) is numpy:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    return ndimage


def _check_same_size(first: Array, second: Array, name: str) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"{name}: expected shape {tuple(first.shape)}, got {tuple(second.shape)}; "
            "bring both pictures to one size first"
        )


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name}: expected a number of pixels from 0, got {value}; 0 switches it off")
