"""CPU twin of the motion masks: change, threshold and two majority passes on rows that stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from gpufuse.kernels_cpu._compile import kernel
from gpufuse.threads import for_bands

__all__ = ["motion_masks"]

_ENOUGH = numpy.uint8(4)  # of 3x3 pixels
_FEWEST_ROWS = 32  # worth a thread: of each band two more rows on either side have to be compared


def motion_masks(frames: Sequence[numpy.ndarray], masks: numpy.ndarray, threshold: float) -> None:
    """Compute cleaned motion masks between neighbouring frames.

    Parameters
    ----------
    frames : sequence of ndarray, shape (C, H, W), float32, contiguous, grey levels
        T of them, at least two.
    masks : ndarray, shape (T - 1, H, W) or (T, H, W), bool, contiguous
        Written: mask k compares the frames k and k + 1. If there are T, the first is there twice.
    threshold : float
        Grey levels.
    """
    count = len(frames) - 1
    if not masks.size or count < 1:
        return
    computed = masks[len(masks) - count :].view(numpy.uint8)
    plain = [numpy.require(frame, numpy.float32, ["C", "W"]) for frame in frames]
    rows = count * masks.shape[1]
    for_bands(_motion_bands, rows, plain, computed, numpy.float32(threshold), minimum=_FEWEST_ROWS)
    if len(masks) > count:
        masks[0] = masks[1]


def _motion_bands(
    first: int, last: int, frames: list[numpy.ndarray], masks: numpy.ndarray, threshold: numpy.float32
) -> None:
    """Rows first .. last - 1, counted through all masks."""
    height = masks.shape[1]
    while first < last:
        k, top = divmod(first, height)
        bottom = min(height, top + last - first)
        _motion_rows(top, bottom, frames[k], frames[k + 1], threshold, masks[k])
        first += bottom - top


@kernel
def _changed_row(older, newer, y, threshold, change, changed):  # type: ignore[no-untyped-def]
    """Where the largest change over the channels is above the threshold; `changed` has a border on either side."""
    channels, _, width = newer.shape
    for c in range(channels):
        here, before = newer[c, y], older[c, y]
        if c == 0:
            for x in range(width):
                change[x] = abs(here[x] - before[x])
        else:
            for x in range(width):
                found = abs(here[x] - before[x])
                change[x] = found if found > change[x] else change[x]
    inner = changed[1:]
    for x in range(width):
        inner[x] = numpy.uint8(1) if change[x] > threshold else numpy.uint8(0)
    changed[0] = changed[1]
    changed[width + 1] = changed[width]


@kernel
def _majority_row(above, here, below, counts, row):  # type: ignore[no-untyped-def]
    """Where at least 4 of 3x3 pixels are set; the rows read have a border on either side."""
    for x in range(counts.size):
        counts[x] = numpy.uint8(numpy.uint8(above[x] + here[x]) + below[x])
    left, middle, right = counts[:-2], counts[1:-1], counts[2:]
    for x in range(row.size):
        total = numpy.uint8(numpy.uint8(left[x] + middle[x]) + right[x])
        row[x] = numpy.uint8(1) if total >= _ENOUGH else numpy.uint8(0)


@kernel
def _motion_rows(top, bottom, older, newer, threshold, mask):  # type: ignore[no-untyped-def]
    """Rows top .. bottom - 1 of one mask; each pass replicates the border of the mask it reads."""
    _, height, width = newer.shape
    change = numpy.empty(width, numpy.float32)
    counts = numpy.empty(width + 2, numpy.uint8)
    changed = numpy.empty((3, width + 2), numpy.uint8)  # row y lies at y % 3
    once = numpy.empty((3, width + 2), numpy.uint8)
    compared, cleaned = max(top - 2, 0), max(top - 1, 0)  # the next rows to do
    for y in range(top, bottom):
        while cleaned <= min(y + 1, height - 1):
            while compared <= min(cleaned + 1, height - 1):
                _changed_row(older, newer, compared, threshold, change, changed[compared % 3])
                compared += 1
            row = once[cleaned % 3]
            above, below = max(cleaned - 1, 0) % 3, min(cleaned + 1, height - 1) % 3
            _majority_row(changed[above], changed[cleaned % 3], changed[below], counts, row[1:-1])
            row[0] = row[1]
            row[width + 1] = row[width]
            cleaned += 1
        above, below = max(y - 1, 0) % 3, min(y + 1, height - 1) % 3
        _majority_row(once[above], once[y % 3], once[below], counts, mask[y])
