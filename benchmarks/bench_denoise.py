"""3D SUSAN against the same filter in vectorised NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

from gpufuse.denoise import susan3d


def susan3d_numpy(frames: numpy.ndarray, sigma: float = 15.0, threshold: float = 20.0) -> numpy.ndarray:
    """The filter as whole-array expressions; the fallback for lonely samples is left out."""
    padded = numpy.pad(frames, ((2, 2), (0, 0), (1, 1), (1, 1)), mode="edge")
    length, _, height, width = frames.shape
    total = numpy.zeros_like(frames)
    weights = numpy.zeros_like(frames)
    for dt in range(-2, 3):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if dt == dy == dx == 0:
                    continue
                there = padded[2 + dt : 2 + dt + length, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
                closeness = (dt * dt + dy * dy + dx * dx) / (2 * sigma * sigma)
                weight = numpy.exp(-closeness - ((there - frames) / threshold) ** 2)
                total += weight * there
                weights += weight
    return total / numpy.maximum(weights, 1e-6)


def bench_susan3d(measure: Callable[..., Any], clip: Any) -> None:
    measure(lambda: susan3d(clip.night), frames=len(clip.night), group="susan")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def bench_susan3d_numpy(measure: Callable[..., Any], clip: Any, dtype: str) -> None:
    night = clip.night.astype(dtype)
    assert abs(susan3d_numpy(night) - susan3d(clip.night)).max() < 0.02
    measure(lambda: susan3d_numpy(night), frames=len(clip.night), group="susan")
