"""Normalisation: scale and shift of the reconstructed picture, by least squares per channel."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.arrays import Array, ImageFormat, array_module, check_levels, from_levels

__all__ = [
    "affine_from_moments",
    "affine_pixels",
    "apply_affine",
    "blend_moments",
    "fit_affine",
    "luminance_moments",
    "shared_fits",
]

# A variance this small against the mean square is rounding of float32 input.
_CONSTANT = 1e-12


def fit_affine(image: Array, target: Array) -> tuple[Any, Any]:
    """Fit ``c1 image + c2`` to `target`, each channel by itself.

    Parameters
    ----------
    image, target : ndarray, shape (..., H, W), grey levels
        NumPy or CuPy, of one shape.

    Returns
    -------
    c1, c2 : ndarray, shape (...), float64
        On the same device (float64 scalars for a single plane). A constant image gives ``c1 = 1``.

    Raises
    ------
    TypeError
        If the arrays are not on one device.
    ValueError
        If shapes differ or values are not finite.

    Notes
    -----
    Minimises ``sum (c1 u + c2 - v)^2`` in closed form (Ilie, Raskar and Yu (2004), section 2.2), accumulated
    in float64. Synchronises: yes, to look at the values.

    Examples
    --------
    >>> import numpy
    >>> u = numpy.array([[0.0, 1.0, 2.0]], numpy.float32)
    >>> c1, c2 = fit_affine(u, 3 * u + 5)
    >>> round(float(c1), 6), round(float(c2), 6)
    (3.0, 5.0)
    """
    xp = array_module(image, target)
    u = check_levels(image, name="image", axes="(..., H, W)").astype(numpy.float64)
    v = check_levels(target, name="target", axes="(..., H, W)").astype(numpy.float64)
    if u.shape != v.shape:
        raise ValueError(
            f"image, target: expected equal shapes, got {tuple(u.shape)} and {tuple(v.shape)}; crop or resize"
        )
    moments = xp.stack([(term).sum(axis=(-2, -1)) for term in (u, u * u, v, u * v)], axis=-1)
    c1, c2 = affine_from_moments(moments, u.shape[-2] * u.shape[-1])
    return c1[()], c2[()]


def blend_moments(image: Array, day: Array, night: Array, importance: Array) -> Array:
    """Sums that the fit to the blend ``v = W F + (1 - W) D`` needs.

    Parameters
    ----------
    image, night : ndarray, shape (T, C, H, W), float32, grey levels
        Reconstruction u and night frames F; NumPy or CuPy.
    day : ndarray, shape (C, H, W), float32, grey levels
    importance : ndarray, shape (T, H, W), float32 in [0, 1]

    Returns
    -------
    ndarray, shape (T, C, 4), float64
        Sums of u, u^2, v and u v over each plane. Sums of several frames add up to the moments of
        their joint fit. Those of a frame do not depend on the other frames, to the last bit.

    Notes
    -----
    Synchronises: no.
    """
    xp = array_module(image, day, night, importance)
    twin: Any
    if xp is numpy:
        from gpufuse.kernels_cpu import fit as twin
    else:
        from gpufuse.kernels_cuda import fit as twin

        image, day, night, importance = (_plain(array) for array in (image, day, night, importance))
    if xp is numpy or image.shape[1] in twin.CHANNELS:
        return twin.blend_moments(image, day[None], night, importance)
    # Numbers of channels that no image has.
    share = importance[..., None, :, :]
    u = image.astype(numpy.float64)
    v = (share * night + (numpy.float32(1.0) - share) * day).astype(numpy.float64)
    return xp.stack([term.sum(axis=(-2, -1)) for term in (u, u * u, v, u * v)], axis=-1)


def luminance_moments(image: Array, day: Array, night: Array, importance: Array) -> Array:
    """Sums of a fit with one scale for all channels, found on the luminance, and a shift for each.

    Parameters
    ----------
    image, day, night, importance
        As in `blend_moments`.

    Returns
    -------
    ndarray, shape (T, C, 4), float64
        To be used as those of `blend_moments`: the means are the channel's own, variance and covariance those of
        the luminance, ``0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601). Channels that are scaled alike keep
        their hue where each would find a scale of its own.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> u = numpy.array([-1.0, 0.0, 1.0], numpy.float32) * numpy.ones((1, 3, 1, 1), numpy.float32)
    >>> day = 5 + u[0] * numpy.array([2.0, 1.0, 1.0], numpy.float32)[:, None, None]
    >>> sums = luminance_moments(u, day, u, numpy.zeros((1, 1, 3), numpy.float32))
    >>> scale, shift = affine_from_moments(sums, 3)
    >>> scale.round(3).tolist(), shift.round(3).tolist()
    ([[1.299, 1.299, 1.299]], [[5.0, 5.0, 5.0]])
    """
    moments = blend_moments(image, day, night, importance)
    if image.shape[1] != 3:
        return moments
    luma = blend_moments(_luminance(image), _luminance(day), _luminance(night), importance)
    count = image.shape[-2] * image.shape[-1]
    sum_u, _, sum_v, _ = (moments[..., k] for k in range(4))
    luma_u, luma_uu, luma_v, luma_uv = (luma[..., k] for k in range(4))
    result = moments.copy()
    result[..., 1] = luma_uu - (luma_u * luma_u - sum_u * sum_u) / count
    result[..., 3] = luma_uv - (luma_u * luma_v - sum_u * sum_v) / count
    return result


def _luminance(picture: Array) -> Array:
    """One channel of a colour picture, on an axis of its own."""
    xp = array_module(picture)
    red, green, blue = (picture[..., k : k + 1, :, :] for k in range(3))
    luma = numpy.float32(0.299) * red + numpy.float32(0.587) * green + numpy.float32(0.114) * blue
    return xp.ascontiguousarray(luma, dtype=numpy.float32)


def affine_from_moments(moments: Array, count: int) -> tuple[Array, Array]:
    """Solve the normal equations of the fit.

    Parameters
    ----------
    moments : ndarray, shape (..., 4), float64
        Sums of u, u^2, v, u v.
    count : int
        Number of samples in the sums.

    Returns
    -------
    c1, c2 : ndarray, shape (...), float64

    Examples
    --------
    >>> import numpy
    >>> u, v = numpy.array([0.0, 1.0, 2.0]), numpy.array([5.0, 8.0, 11.0])
    >>> c1, c2 = affine_from_moments(numpy.array([u.sum(), u @ u, v.sum(), u @ v]), 3)
    >>> round(float(c1), 6), round(float(c2), 6)
    (3.0, 5.0)
    """
    xp = array_module(moments)
    mean_u, mean_uu, mean_v, mean_uv = (moments[..., k] / count for k in range(4))
    variance = mean_uu - mean_u * mean_u
    covariance = mean_uv - mean_u * mean_v
    varies = variance > _CONSTANT * mean_uu
    c1 = xp.where(varies, covariance / xp.where(varies, variance, 1.0), 1.0)
    return c1, mean_v - c1 * mean_u


def shared_fits(
    moments: Array, start: int, stop: int, before: int, after: int, count: int
) -> tuple[Array, Array]:
    """Fit each frame together with its neighbours in time.

    Parameters
    ----------
    moments : ndarray, shape (T, C, 4), float64
        Sums of each frame, as `blend_moments` gives them; NumPy or CuPy.
    start, stop : int
        The frames that are wanted, `stop` not included.
    before, after : int
        Frame k shares one fit with frames ``k - before`` to ``k + after``, as far as they exist.
    count : int
        Number of samples of one plane.

    Returns
    -------
    c1, c2 : ndarray, shape (stop - start, C), float64
        On the same device.

    See Also
    --------
    affine_from_moments : one fit.

    Notes
    -----
    The same brightness for neighbours keeps a video from flickering. Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> moments = numpy.array([[[3.0, 5.0, 24.0, 30.0]], [[3.0, 5.0, 30.0, 36.0]]])
    >>> c1, c2 = shared_fits(moments, 0, 2, 0, 1, 3)
    >>> c1.round(6).tolist(), c2.round(6).tolist()
    ([[3.0], [3.0]], [[6.0], [7.0]])
    """
    xp = array_module(moments)
    if xp is not numpy:
        from gpufuse.kernels_cuda import fit as twin

        sums = xp.ascontiguousarray(moments, dtype=numpy.float64)
        return twin.shared_fits(sums, start, stop, before, after, count)
    c1, c2 = numpy.empty((2, stop - start, moments.shape[1]))
    for k in range(start, stop):
        shared = moments[max(0, k - before) : k + after + 1]
        c1[k - start], c2[k - start] = affine_from_moments(shared.sum(axis=0), len(shared) * count)
    return c1, c2


def apply_affine(image: Array, c1: Array, c2: Array) -> Array:
    """Return ``c1 image + c2``, each plane with its own pair.

    Parameters
    ----------
    image : ndarray, shape (..., H, W), float32, grey levels
    c1, c2 : ndarray, shape (...), float64

    Returns
    -------
    ndarray, shape (..., H, W), float32
        New array, not clipped.

    See Also
    --------
    affine_pixels : the same, up to the finished image.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> apply_affine(numpy.ones((1, 2), numpy.float32), numpy.float64(2.0), numpy.float64(3.0))
    array([[5., 5.]], dtype=float32)
    """
    if array_module(image) is not numpy:
        from gpufuse.kernels_cuda import fit as twin

        return twin.apply_affine(_plain(image), *_pairs(image, c1, c2))
    scale = numpy.asarray(c1, dtype=numpy.float32)[..., None, None]
    shift = numpy.asarray(c2, dtype=numpy.float32)[..., None, None]
    result = image * scale
    result += shift
    return result


def affine_pixels(image: Array, c1: Array, c2: Array, form: ImageFormat) -> Array:
    """Return ``c1 image + c2`` as finished images.

    Parameters
    ----------
    image : ndarray, shape (T, C, H, W), float32, grey levels
        NumPy or CuPy.
    c1, c2 : ndarray, shape (T, C), float64
    form : ImageFormat
        The wanted dtype, and whether there are colours: then C is 3.

    Returns
    -------
    ndarray, shape (T, H, W) or (T, H, W, 3)
        New array on the same device: clipped to [0, 255] levels, integers rounded half to even.

    See Also
    --------
    gpufuse.arrays.from_levels : the second half, alone.

    Notes
    -----
    The bits of ``from_levels(apply_affine(image, c1, c2), form)`` on either device. Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> image, one = numpy.array([[[[0.5, 1.5, 300.0]]]], numpy.float32), numpy.ones((1, 1))
    >>> affine_pixels(image, one, 0 * one, ImageFormat(numpy.dtype("uint8"), False))
    array([[[  0,   2, 255]]], dtype=uint8)
    """
    xp = array_module(image)
    if xp is numpy or image.shape[1] != (3 if form.colour else 1):
        return from_levels(apply_affine(image, c1, c2), form)
    from gpufuse.kernels_cuda import fit as twin

    # Other floats are rounded from float32, as on the CPU.
    dtype = form.dtype if form.dtype.kind == "u" else numpy.dtype(numpy.float32)
    pixels = twin.affine_pixels(_plain(image), *_pairs(image, c1, c2), dtype)
    if not form.colour:
        pixels = pixels[..., 0]
    return pixels.astype(form.dtype, copy=False)


def _plain(array: Array) -> Array:
    """As kernels on a GPU want it: contiguous, float32."""
    return array_module(array).ascontiguousarray(array, dtype=numpy.float32)


def _pairs(image: Array, c1: Array, c2: Array) -> tuple[Array, Array]:
    """Scale and shift of every plane of `image`, on its device."""
    xp = array_module(image)
    planes = image.shape[:-2]
    scale, shift = (
        xp.ascontiguousarray(xp.broadcast_to(xp.asarray(factor, dtype=numpy.float64), planes))
        for factor in (c1, c2)
    )
    return scale, shift
