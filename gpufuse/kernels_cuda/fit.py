"""CUDA twin of the sums of the colour fit, and kernels that solve it and apply it."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = ["CHANNELS", "FILE", "VARIANTS", "affine_pixels", "apply_affine", "blend_moments", "shared_fits"]

FILE = "fit"

CHANNELS = (1, 3)
"""Numbers of channels that the sums are compiled for."""

_PIXELS = {"uint8": "unsigned char", "uint16": "unsigned short", "float32": "float"}

VARIANTS = (
    *(f"blend_moments<{channels}>" for channels in CHANNELS),
    *(f"affine_pixels<{pixel}>" for pixel in _PIXELS.values()),
)

_MOMENTS_THREADS = 128
_MOMENTS_CHUNK = 4096
_FITS_THREADS = 64
_AFFINE_THREADS = 256
_AFFINE_CHUNK = 1024


def blend_moments(image: Any, day: Any, night: Any, importance: Any) -> Any:
    """Sums of u, u^2, v, u v per plane, with v = W F + (1 - W) D.

    Parameters
    ----------
    image, night : cupy.ndarray, shape (T, C, H, W), float32
        C is one of `CHANNELS`.
    day : cupy.ndarray, shape (T or 1, C, H, W), float32
    importance : cupy.ndarray, shape (T, H, W), float32

    Returns
    -------
    cupy.ndarray, shape (T, C, 4), float64
        Summed in an order that depends on the size of a plane alone.
    """
    import cupy

    frames, channels, height, width = image.shape
    moments = cupy.empty((frames, channels, 4), numpy.float64)
    if moments.size == 0:
        return moments
    chunks = -(-height * width // _MOMENTS_CHUNK)
    partials = cupy.empty((frames, channels, 4, chunks), numpy.float64)
    kernel(FILE, f"blend_moments<{channels}>", VARIANTS)(
        (frames * chunks,),
        (_MOMENTS_THREADS,),
        (
            image,
            day,
            night,
            importance,
            partials,
            numpy.int32(frames),
            numpy.int32(day.shape[0]),
            numpy.int32(height * width),
            numpy.int32(chunks),
        ),
    )
    kernel(FILE, "sum_moments", VARIANTS)(
        (frames * channels,), (_MOMENTS_THREADS,), (partials, moments, numpy.int32(chunks))
    )
    return moments


def shared_fits(moments: Any, start: int, stop: int, before: int, after: int, count: int) -> tuple[Any, Any]:
    """Fits of frames `start` to `stop`, each shared with its neighbours in time.

    Parameters
    ----------
    moments : cupy.ndarray, shape (T, C, 4), float64
    start, stop, before, after, count
        As in `gpufuse.normalise.shared_fits`.

    Returns
    -------
    c1, c2 : cupy.ndarray, shape (stop - start, C), float64
    """
    import cupy

    frames, channels, _ = moments.shape
    c1 = cupy.empty((stop - start, channels), numpy.float64)
    c2 = cupy.empty((stop - start, channels), numpy.float64)
    if c1.size:
        kernel(FILE, "shared_fits", VARIANTS)(
            (-(-c1.size // _FITS_THREADS),),
            (_FITS_THREADS,),
            (
                moments,
                c1,
                c2,
                numpy.int32(frames),
                numpy.int32(channels),
                numpy.int32(start),
                numpy.int32(stop - start),
                numpy.int32(before),
                numpy.int32(after),
                numpy.float64(count),
            ),
        )
    return c1, c2


def apply_affine(image: Any, c1: Any, c2: Any) -> Any:
    """Return ``c1 image + c2``, each plane with its own pair.

    Parameters
    ----------
    image : cupy.ndarray, shape (..., H, W), float32
    c1, c2 : cupy.ndarray, shape (...), float64

    Returns
    -------
    cupy.ndarray, shape (..., H, W), float32
    """
    import cupy

    out = cupy.empty(image.shape, numpy.float32)
    if out.size == 0:
        return out
    samples = image.shape[-2] * image.shape[-1]
    chunks = -(-samples // _AFFINE_CHUNK)
    kernel(FILE, "apply_affine", VARIANTS)(
        (out.size // samples * chunks,),
        (_AFFINE_THREADS,),
        (image, c1, c2, out, numpy.int32(samples), numpy.int32(chunks)),
    )
    return out


def affine_pixels(image: Any, c1: Any, c2: Any, dtype: numpy.dtype[Any]) -> Any:
    """Finished pixels of ``c1 image + c2``: clipped, rounded, interleaved.

    Parameters
    ----------
    image : cupy.ndarray, shape (T, C, H, W), float32
        C is 1 or 3.
    c1, c2 : cupy.ndarray, shape (T, C), float64
    dtype : numpy.dtype
        ``uint8``, ``uint16`` or ``float32``.

    Returns
    -------
    cupy.ndarray, shape (T, H, W, C), of that dtype
    """
    import cupy

    frames, channels, height, width = image.shape
    pixels = cupy.empty((frames, height, width, channels), dtype)
    if pixels.size == 0:
        return pixels
    samples = height * width
    chunks = -(-samples // _AFFINE_CHUNK)
    kernel(FILE, f"affine_pixels<{_PIXELS[dtype.name]}>", VARIANTS)(
        (frames * chunks,),
        (_AFFINE_THREADS,),
        (
            image,
            c1,
            c2,
            pixels,
            numpy.int32(channels),
            numpy.int32(samples),
            numpy.int32(chunks),
            numpy.int32(samples * channels * dtype.itemsize % 4 == 0),
        ),
    )
    return pixels
