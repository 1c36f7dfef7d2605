"""Normalisation: scale and shift of the reconstructed picture, by least squares per channel."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.arrays import Array, array_module, check_levels

__all__ = ["affine_from_moments", "apply_affine", "blend_moments", "fit_affine"]

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
    in float64. Synchronises: no.

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
        their joint fit.
    """
    xp = array_module(image, day, night, importance)
    if xp is numpy:
        from gpufuse.kernels_cpu import fit as twin

        return twin.blend_moments(image, day[None], night, importance)
    share = importance[..., None, :, :]
    u = image.astype(numpy.float64)
    v = (share * night + (numpy.float32(1.0) - share) * day).astype(numpy.float64)
    return xp.stack([term.sum(axis=(-2, -1)) for term in (u, u * u, v, u * v)], axis=-1)


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

    Examples
    --------
    >>> import numpy
    >>> apply_affine(numpy.ones((1, 2), numpy.float32), numpy.float64(2.0), numpy.float64(3.0))
    array([[5., 5.]], dtype=float32)
    """
    xp = array_module(image)
    scale = xp.asarray(c1, dtype=numpy.float32)[..., None, None]
    shift = xp.asarray(c2, dtype=numpy.float32)[..., None, None]
    result = image * scale
    result += shift
    return result
