"""Edge-preserving smoothing in space and time: the 3D SUSAN filter."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.arrays import Array, array_module, check_levels

__all__ = ["TEMPORAL_HALO", "susan3d", "susan3d_pass"]

TEMPORAL_HALO = 2
"""Frames on either side that one pass needs."""


def susan3d(frames: Array, *, sigma: float = 15.0, threshold: float = 20.0, passes: int = 1) -> Array:
    """Smooth a video in space and time without crossing edges.

    Each sample becomes the mean of its 44 neighbours in 3x3 pixels and 5 frames, weighted by
    closeness and by similarity in brightness. It removes sensor noise before frames are compared; it does
    not sharpen, and what is fainter than the threshold is smoothed away.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, grey levels
        NumPy or CuPy; each channel is filtered by itself.
    sigma : float
        Standard deviation of the spatial and temporal Gaussian, in pixels and frames alike.
    threshold : float
        Brightness threshold t in grey levels: the difference at which the weight falls to 1/e. Above
        the noise, below the contrast of edges to keep; `math.inf` leaves the Gaussian alone.
    passes : int
        How often the filter is applied; 0 returns a copy.

    Returns
    -------
    ndarray, shape (T, C, H, W), float32
        New array on the same device; every value lies between the minimum and the maximum of its
        neighbourhood.

    Raises
    ------
    TypeError
        If `frames` is no array of numbers.
    ValueError
        For a wrong shape, values that are not finite, or parameters out of range.

    See Also
    --------
    susan3d_pass : one pass over part of a clip, for streaming.

    Notes
    -----
    ``out(p) = sum_q w(p,q) v(q) / sum_q w(p,q)`` with
    ``w = exp(-|q-p|^2 / (2 sigma^2) - ((v(q) - v(p)) / t)^2)`` and ``q != p`` [1]_. Borders in space and at
    both ends of the video are replicated. Where the weights sum to less than 1e-6 the sample becomes the
    median of its 8 spatial neighbours. The CPU twin computes the exponential by a polynomial, within 0.001
    grey level of the exact result; the CUDA twin by the special-function unit, within 0.001. Cost 44 weights
    a sample and pass. Synchronises: once, to see that `frames` is finite.

    References
    ----------
    .. [1] S. M. Smith and J. M. Brady, SUSAN: a new approach to low level image processing,
       International Journal of Computer Vision 23(1), 1997.

    Examples
    --------
    >>> import numpy
    >>> frames = numpy.full((1, 1, 3, 3), 50.0, numpy.float32)
    >>> frames[0, 0, 1, 1] = 54.0
    >>> susan3d(frames)[0, 0, 1, 1].round(2)
    np.float32(50.38)
    """
    _check_parameters(sigma, threshold)
    if not (passes >= 0 and float(passes).is_integer()):
        raise ValueError(f"passes: expected a whole number from 0, got {passes}; use 1 to 3")
    smoothed = check_levels(frames, axes="(T, C, H, W)")
    for _ in range(int(passes)):
        smoothed = susan3d_pass(smoothed, 0, len(smoothed), sigma=sigma, threshold=threshold)
    return smoothed.copy() if passes == 0 else smoothed


def susan3d_pass(
    frames: Array | list[Array], start: int, stop: int, *, sigma: float, threshold: float
) -> Array:
    """Filter frames ``start .. stop - 1`` once, with the rest of `frames` as temporal halo.

    Parameters
    ----------
    frames : ndarray, shape (T, C, H, W), float32, contiguous, grey levels
        A piece of a clip; on the host also a list of frames. An end that is not an end of the clip needs
        `TEMPORAL_HALO` frames before `start` or after `stop`; at the true ends frames are replicated.
    start, stop : int
        The frames to filter.
    sigma, threshold : float
        As in `susan3d`.

    Returns
    -------
    ndarray, shape (stop - start, C, H, W), float32
        New array on the same device. Each frame depends on its neighbours alone, so pieces of any
        length give equal bits.

    Notes
    -----
    Synchronises: no.
    """
    xp = array_module(*frames) if isinstance(frames, list) else array_module(frames)
    picture = frames[0].shape if isinstance(frames, list) else frames.shape[1:]
    out = xp.empty((stop - start, *picture), numpy.float32)
    if out.size:
        _twin(xp).susan3d_pass(frames, out, start, sigma, threshold)
    return out


def _twin(xp: Any) -> Any:
    if xp is numpy:
        from gpufuse.kernels_cpu import susan as cpu

        return cpu
    from gpufuse.kernels_cuda import susan as cuda

    return cuda


def _check_parameters(sigma: float, threshold: float) -> None:
    if not sigma >= 0.01:
        raise ValueError(f"sigma: expected a number of pixels from 0.01, got {sigma}; the default is 15")
    if not threshold >= 0.001:
        raise ValueError(
            f"threshold: expected a number of grey levels from 0.001, got {threshold}; the default is 20"
        )
