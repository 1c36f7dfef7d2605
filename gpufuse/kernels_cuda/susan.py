"""CUDA twin of the 3D SUSAN filter: one pass over frames with a temporal halo."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.kernels_cuda._compile import kernel

__all__ = ["FILE", "susan3d_pass"]

FILE = "susan3d"

# As in the kernel.
_THREADS = (32, 4)
_TILE_WIDTH, _TILE_HEIGHT = 64, 8

_BLOCKS_PER_PROCESSOR = 10  # twice what is resident at once
_SHORTEST = 4  # a segment reads four frames and computes a third of a frame more than it writes

_LOG2_E = math.log2(math.e)


def susan3d_pass(frames: Array, out: Array, start: int, sigma: float, threshold: float) -> None:
    """Filter frames ``start .. start + len(out) - 1`` of `frames` into `out`.

    Parameters
    ----------
    frames : cupy.ndarray, shape (T, C, H, W), float32, contiguous, grey levels
        With the temporal halo that exists; beyond its two ends frames are replicated. H * W < 2**31.
    out : cupy.ndarray, shape (t, C, H, W), float32, contiguous
        Written.
    start : int
        Index in `frames` of the first filtered frame.
    sigma, threshold : float
        As in `gpufuse.denoise.susan3d`.
    """
    if not out.size:
        return
    count, channels, height, width = frames.shape
    filtered = len(out)
    tiles_x, tiles_y = -(-width // _TILE_WIDTH), -(-height // _TILE_HEIGHT)
    tiles = tiles_x * tiles_y * channels
    length = _segment(filtered, tiles, _processors(array_module(frames)))
    closeness = [-_LOG2_E * squared / (2.0 * sigma * sigma) for squared in range(1, 7)]
    # An infinite threshold leaves differences of 1e-9, not 0: the mean of differences must survive.
    scale = max(math.sqrt(_LOG2_E) / threshold, 1e-9)
    kernel(FILE, "susan3d")(
        (tiles * -(-filtered // length),),
        _THREADS,
        (
            frames, out,
            *(numpy.int32(n) for n in (count, channels, height, width)),
            *(numpy.int32(n) for n in (start, filtered, length, tiles_x, tiles_y)),
            *(numpy.float32(k) for k in closeness),
            numpy.float32(scale), numpy.float32(1.0 / scale),
        ),
    )  # fmt: skip


def _segment(filtered: int, tiles: int, processors: int) -> int:
    """Frames that a block filters: all, unless it takes shorter segments to employ the chip."""
    segments = -(-_BLOCKS_PER_PROCESSOR * processors // tiles)
    return min(filtered, max(_SHORTEST, -(-filtered // segments)))


def _processors(cupy: Any) -> int:
    return _processors_of(cupy, cupy.cuda.Device().id)


@functools.cache
def _processors_of(cupy: Any, device: int) -> int:
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])
