"""CPU twin of the importance of moving lamps: one pass over each row."""

from __future__ import annotations

import numpy

from gpufuse.kernels_cpu._compile import kernel
from gpufuse.threads import for_bands

__all__ = ["keep_lamps"]


def keep_lamps(
    weights: numpy.ndarray, frames: numpy.ndarray, threshold: float, gain: float
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Raise the importance of moving lamps, and find the share of the night that they are to keep.

    Parameters
    ----------
    weights : ndarray, shape (T, H, W), float32
    frames : ndarray, shape (T, C, H, W), float32, grey levels
        At least one channel.
    threshold : float
        Grey levels, above 0; may be infinite.
    gain : float
        Factor on the weights, which end at 1.

    Returns
    -------
    kept, target_share : ndarray, shape (T, H, W), float32
    """
    kept, share = numpy.empty_like(weights), numpy.empty_like(weights)
    count = weights.shape[0] * weights.shape[1]
    half = numpy.float32(threshold / 2)
    for_bands(_keep_lamps_rows, count, weights, frames, half, numpy.float32(gain), kept, share, minimum=32)
    return kept, share


@kernel
def _brightest_row(frame, y, brightest):  # type: ignore[no-untyped-def]
    channels, _, width = frame.shape
    for i in range(width):
        brightest[i] = frame[0, y, i]
    for c in range(1, channels):
        for i in range(width):
            level = frame[c, y, i]
            brightest[i] = level if level > brightest[i] else brightest[i]


@kernel
def _keep_lamps_row(weights, half, gain, kept, share):  # type: ignore[no-untyped-def]
    """One row; `share` holds the brightest channel before."""
    none, whole = numpy.float32(0.0), numpy.float32(1.0)
    for i in range(weights.size):
        lamp = share[i] / half - whole
        lamp = lamp if lamp > none else none
        lamp = lamp if lamp < whole else whole
        w = gain * weights[i]
        w = w if w < whole else whole
        raised = lamp if lamp > w else w
        w = raised if w > none else w
        kept[i] = w
        share[i] = w * lamp


@kernel
def _keep_lamps_rows(first, last, weights, frames, half, gain, kept, share):  # type: ignore[no-untyped-def]
    height = weights.shape[1]
    for item in range(first, last):
        t = item // height
        y = item % height
        _brightest_row(frames[t], y, share[t, y])
        _keep_lamps_row(weights[t, y], half, gain, kept[t, y], share[t, y])
