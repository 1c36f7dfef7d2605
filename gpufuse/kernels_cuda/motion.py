"""Motion masks and their mean over time, for `gpufuse.importance`."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = ["FILE", "VARIANTS", "motion_masks", "temporal_mean"]

FILE = "motion"
VARIANTS: tuple[str, ...] = (
    "motion_masks<1>",
    "motion_masks<3>",
    "temporal_mean<One>",
    "temporal_mean<Four>",
)

_TILE_WIDTH, _TILE_HEIGHT = 60, 28
_ENOUGH_BLOCKS = 264
"""Two for each multiprocessor of a large chip: with fewer tiles the frames are shared out as well."""


def motion_masks(frames: Any, masks: Any, threshold: Any) -> None:
    """Compute cleaned motion masks between neighbouring frames.

    Parameters
    ----------
    frames : cupy.ndarray, shape (T, C, H, W), float32, contiguous, grey levels
        At least two frames; C is 1 or 3.
    masks : cupy.ndarray, shape (T - 1, H, W) or (T, H, W), bool, contiguous
        Written: mask k compares the frames k and k + 1. If there are T, the first is there twice.
    threshold : cupy.ndarray, one element, float32, grey levels
    """
    channels, height, width = frames.shape[1:]
    count = len(frames) - 1
    if not masks.size or count < 1:
        return
    computed = masks[len(masks) - count :]
    tiles = -(-width // _TILE_WIDTH), -(-height // _TILE_HEIGHT)
    segments = min(count, -(-_ENOUGH_BLOCKS // (tiles[0] * tiles[1])))
    segment = -(-count // segments)  # each reads one frame twice
    kernel(FILE, f"motion_masks<{channels}>", VARIANTS)(
        (*tiles, -(-count // segment)),
        (32, 16),
        (
            frames, threshold, computed.view(numpy.uint8),
            numpy.int32(height), numpy.int32(width), numpy.int32(count), numpy.int32(segment),
        ),
    )  # fmt: skip
    if len(masks) > count:
        masks[0] = computed[0]


def temporal_mean(masks: Any, means: Any, c: int, start: int) -> None:
    """Average masks over `c` frames either way, where these exist.

    Parameters
    ----------
    masks : cupy.ndarray, shape (T, H, W), bool, contiguous
    means : cupy.ndarray, shape (count, H, W), float32, contiguous
        Written: the means at the frames from `start`.
    c, start : int
    """
    if not means.size:
        return
    pixels = means[0].size
    counts = 1 if pixels % 4 else 4
    kernel(FILE, "temporal_mean<One>" if counts == 1 else "temporal_mean<Four>", VARIANTS)(
        (-(-(pixels // counts) // 256),),
        (256,),
        (
            masks.view(numpy.uint8), means,
            numpy.int32(len(masks)), numpy.int32(pixels // counts), numpy.int32(len(means)),
            numpy.int32(min(int(c), len(masks))), numpy.int32(start),
        ),
    )  # fmt: skip
