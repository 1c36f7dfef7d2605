"""The Poisson solver: how many planes to solve together, and how exact it is."""

from __future__ import annotations

import functools
from typing import Any

import numpy

from gpu.chip import Tools
from gpu.steps import Data
from gpu.timing import Effort, measure
from gpufuse import poisson, to_host

GROUPS = (3, 6, 12, 24, 48, 1)
"""Planes solved together."""

SETS = 6
"""Right-hand sides in turn: fewer than the graphs that the solver keeps."""


def grouped(tools: Tools, d: Data, group: int, effort: Effort) -> dict[str, Any]:
    """Time for three planes, a frame, when `group` planes are solved together."""
    planes = d.rhs.reshape(-1, *d.rhs.shape[-2:])
    starts = range(0, min(len(planes) - group + 1, SETS * group), group)
    calls = [
        functools.partial(poisson.solve, planes[first : first + group], check_values=False)
        for first in starts
    ]
    timing = measure(calls, tools.clock, effort)
    return {
        "planes_together": group,
        "bytes_in_flight": 8 * group * planes[0].size,
        "seconds_per_frame": 3 * timing.seconds / group,
        "lowest_seconds_per_frame": 3 * timing.low / group,
        "highest_seconds_per_frame": 3 * timing.high / group,
    }


def errors(d: Data) -> dict[str, float]:
    """Largest distances in grey levels from the direct solution in float64, of one frame, means removed."""
    rhs = d.rhs[:1]
    exact = _direct(to_host(rhs).astype(numpy.float64))
    found = {
        "multigrid_error_levels": poisson.solve(rhs, check_values=False),
        "cupy_dct_error_levels": poisson.solve(rhs, method="dct", check_values=False),
    }
    return {name: _distance(to_host(solution), exact) for name, solution in found.items()}


def _distance(solution: numpy.ndarray, exact: numpy.ndarray) -> float:
    difference = solution - exact
    return float(abs(difference - difference.mean(axis=(-2, -1), keepdims=True)).max())


def _direct(rhs: numpy.ndarray) -> numpy.ndarray:
    """By cosine transforms in float64 on the host."""
    from scipy import fft

    options: dict[str, Any] = {"type": 2, "norm": "ortho", "axes": (-2, -1), "workers": -1}
    lines = [2.0 * numpy.cos(numpy.pi * numpy.arange(n) / n) - 2.0 for n in rhs.shape[-2:]]
    table = lines[0][:, None] + lines[1]
    table[0, 0] = numpy.inf  # the mean becomes 0
    return fft.idctn(fft.dctn(rhs, **options) / table, **options)
