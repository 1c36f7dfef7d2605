"""The daytime plate: exact counting against a sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from gpufuse.background import median_plate


def _stack(clip: Any) -> numpy.ndarray:
    rng = numpy.random.default_rng(375)
    return rng.integers(0, 256, (31, *clip.day.shape), dtype=numpy.uint8)


def bench_median_plate(measure: Callable[..., Any], clip: Any) -> None:
    stack = _stack(clip)
    measure(lambda: median_plate(stack), frames=len(stack), group="median of 31")


def bench_numpy_median(measure: Callable[..., Any], clip: Any) -> None:
    stack = _stack(clip)
    expected = numpy.rint(numpy.median(stack, axis=0))
    assert (median_plate(stack) == expected).all()
    measure(lambda: numpy.median(stack, axis=0), frames=len(stack), group="median of 31")
