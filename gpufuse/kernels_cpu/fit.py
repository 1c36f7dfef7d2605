"""CPU twin of the sums of the colour fit, with the blend target never stored."""

from __future__ import annotations

import numpy

from gpufuse.kernels_cpu._compile import kernel
from gpufuse.threads import for_bands

__all__ = ["blend_moments"]


def blend_moments(
    image: numpy.ndarray, day: numpy.ndarray, night: numpy.ndarray, importance: numpy.ndarray
) -> numpy.ndarray:
    """Sums of u, u^2, v, u v per plane, with v = W F + (1 - W) D.

    Parameters
    ----------
    image, night : ndarray, shape (T, C, H, W), float32
    day : ndarray, shape (T or 1, C, H, W), float32
    importance : ndarray, shape (T, H, W), float32

    Returns
    -------
    ndarray, shape (T, C, 4), float64
        Summed in an order that depends on the plane alone.
    """
    frames, channels = image.shape[:2]
    moments = numpy.empty((frames, channels, 4))
    for_bands(_blend_moments_planes, frames * channels, image, day, night, importance, moments)
    return moments


@kernel
def _add_row(u, day, night, importance, sums):  # type: ignore[no-untyped-def]
    """Add one row to column sums: independent columns vectorise, one running sum would not."""
    su, suu, sv, suv = sums[0], sums[1], sums[2], sums[3]
    for i in range(u.size):
        w = importance[i]
        a = numpy.float64(u[i])
        v = numpy.float64(w * night[i] + (numpy.float32(1.0) - w) * day[i])
        su[i] += a
        suu[i] += a * a
        sv[i] += v
        suv[i] += a * v


@kernel
def _blend_moments_planes(first, last, image, day, night, importance, moments):  # type: ignore[no-untyped-def]
    _, channels, height, width = image.shape
    sums = numpy.empty((4, width))
    for plane in range(first, last):
        t = plane // channels
        c = plane % channels
        day_t = t if day.shape[0] > 1 else 0
        sums[:] = 0.0
        for y in range(height):
            _add_row(image[t, c, y], day[day_t, c, y], night[t, c, y], importance[t, y], sums)
        for k in range(4):
            moments[t, c, k] = sums[k].sum()
