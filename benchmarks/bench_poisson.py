"""Poisson reconstruction: multigrid, the direct cosine transform, and OpenCV's seamless cloning.

Run with ``pytest benchmarks -o python_files='bench_*.py' -o python_functions='bench_*'``; the environment
variable ``GPUFUSE_BENCH_SMOKE=1`` takes one tiny size and one round, to see that everything runs.
"""

from __future__ import annotations

import os

import numpy
import pytest
import scipy.fft

from gpufuse import poisson, threads

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"
ROUNDS = 1 if SMOKE else 15
SIZES = {"smoke": (1, 3, 32, 48)}
if not SMOKE:
    SIZES = {
        "qvga_16_frames": (16, 3, 240, 320),
        "qvga": (1, 3, 240, 320),
        "webcam_odd": (1, 3, 593, 801),
        "hd1080": (1, 3, 1080, 1920),
        "hd1080_grey": (1, 1, 1080, 1920),
        "uhd4k": (1, 3, 2160, 3840),
    }


def pictures(shape):
    """Day and night of one scene, and where the night is kept; levels 0..255."""
    rng = numpy.random.default_rng(0)
    height, width = shape[-2:]
    y, x = numpy.mgrid[:height, :width]
    day = 120 + 60 * numpy.sin(x / 97) + 40 * numpy.cos(y / 61)
    night = 10 + 20 * x / width
    importance = numpy.zeros((height, width))
    for k in range(30):
        top, left = rng.integers(0, height), rng.integers(0, width)
        area = numpy.s_[top : top + height // 5 + 1, left : left + width // 5 + 1]
        day[area] += rng.uniform(-60, 60)
        if k % 3 == 0:
            night[area] += rng.uniform(20, 120)
            importance[area] = 1.0
    day = numpy.clip(day + rng.normal(0, 3, shape), 0, 255)
    night = numpy.clip(night + rng.normal(0, 6, shape), 0, 255)
    return day.astype(numpy.float32), night.astype(numpy.float32), importance.astype(numpy.float32)


def right_hand_side(shape):
    """Divergence of the gradients of day and night, mixed."""
    day, night, importance = pictures(shape)
    mixed = numpy.zeros(shape, numpy.float32)
    for axis in (-1, -2):
        steps = importance * numpy.diff(night, axis=axis, append=numpy.take(night, [-1], axis))
        steps += (1 - importance) * numpy.diff(day, axis=axis, append=numpy.take(day, [-1], axis))
        mixed += steps
        inner = [slice(None)] * len(shape)
        before = list(inner)
        inner[axis], before[axis] = slice(1, None), slice(None, -1)
        mixed[tuple(inner)] -= steps[tuple(before)]
    return mixed


def exact(rhs):
    """Direct solution in float64."""
    spectrum = scipy.fft.dctn(rhs.astype(numpy.float64), axes=(-2, -1), workers=threads.get_threads())
    rows, columns = (2 * numpy.cos(numpy.pi * numpy.arange(n) / n) - 2 for n in rhs.shape[-2:])
    eigenvalues = rows[:, None] + columns
    eigenvalues[0, 0] = numpy.inf
    spectrum /= eigenvalues
    return scipy.fft.idctn(spectrum, axes=(-2, -1), overwrite_x=True, workers=threads.get_threads())


def describe(benchmark, size, rhs):
    benchmark.group = f"poisson {size} {rhs.shape}"
    benchmark.extra_info.update(shape=rhs.shape, dtype=str(rhs.dtype), threads=threads.get_threads())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cycles", [1, poisson.CYCLES])
def bench_multigrid(benchmark, size, cycles):
    rhs = right_hand_side(SIZES[size])
    describe(benchmark, size, rhs)
    u = poisson.solve(rhs, cycles=cycles)
    benchmark.extra_info["cycles"] = cycles
    benchmark.extra_info["error_levels"] = float(abs(u - exact(rhs)).max())
    benchmark.extra_info["residual_levels"] = float(poisson.residual_norm(u, rhs).max())
    benchmark.pedantic(poisson.solve, (rhs,), {"cycles": cycles}, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("size", SIZES)
def bench_dct(benchmark, size):
    rhs = right_hand_side(SIZES[size])
    describe(benchmark, size, rhs)
    u = poisson.solve(rhs, method="dct")
    benchmark.extra_info["error_levels"] = float(abs(u - exact(rhs)).max())
    benchmark.extra_info["residual_levels"] = float(poisson.residual_norm(u, rhs).max())
    benchmark.pedantic(poisson.solve, (rhs,), {"method": "dct"}, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("size", [name for name, shape in SIZES.items() if shape[:2] == (1, 3)])
def bench_seamless_clone(benchmark, size):
    """Another answer (fixed border, gradients of its own choice) to a picture of the same size."""
    cv2 = pytest.importorskip("cv2")
    rhs = right_hand_side(SIZES[size])
    describe(benchmark, size, rhs)
    cv2.setNumThreads(threads.get_threads())
    day, night, _ = pictures(SIZES[size])
    day, night = (numpy.ascontiguousarray(k[0].transpose(1, 2, 0).astype(numpy.uint8)) for k in (day, night))
    mask = numpy.full(day.shape[:2], 255, numpy.uint8)
    centre = (day.shape[1] // 2, day.shape[0] // 2)
    arguments = (night, day, mask, centre, cv2.MIXED_CLONE)
    benchmark.pedantic(cv2.seamlessClone, arguments, rounds=min(ROUNDS, 3), warmup_rounds=0 if SMOKE else 1)
