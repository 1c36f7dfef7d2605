"""Poisson's equation: how long until every pixel is within a quarter of a grey level."""

from __future__ import annotations

import abc
import math
import time
from typing import Any

import numpy

from gpufuse import poisson
from gpufuse.bench.records import Competitor
from gpufuse.bench.work import Task, TooSlowError, Work, library

__all__ = ["COMPETITORS", "LEVELS", "exact_solution"]

LEVELS = 0.25
"""Largest error allowed at any pixel, grey levels."""

_MOST_ITERATIONS = 10**6


def exact_solution(rhs: numpy.ndarray) -> numpy.ndarray:
    """Solve by cosine transforms in float64, to rounding.

    Parameters
    ----------
    rhs : ndarray, shape (C, H, W)

    Returns
    -------
    ndarray, shape (C, H, W), float32
        Each plane has mean 0.
    """
    return _by_cosines(rhs.astype(numpy.float64), None).astype(numpy.float32)


def _by_cosines(rhs: numpy.ndarray, threads: int | None) -> numpy.ndarray:
    from scipy import fft

    height, width = rhs.shape[-2:]
    rows = 2 * numpy.cos(numpy.pi * numpy.arange(height) / height) - 2
    columns = 2 * numpy.cos(numpy.pi * numpy.arange(width) / width) - 2
    eigenvalues = (rows[:, None] + columns).astype(rhs.dtype)
    eigenvalues[0, 0] = 1
    spectrum = fft.dctn(rhs, axes=(-2, -1), norm="ortho", workers=threads)
    spectrum /= eigenvalues
    spectrum[..., 0, 0] = 0
    solution: numpy.ndarray = fft.idctn(
        spectrum, axes=(-2, -1), norm="ortho", workers=threads, overwrite_x=True
    )
    return solution


def _error(found: numpy.ndarray, exact: numpy.ndarray) -> float:
    """Largest distance at any pixel, without the means of the planes, which are free."""
    worst = 0.0
    for plane, truth in zip(found.reshape(-1, *exact.shape[-2:]), exact, strict=True):
        distance = plane - truth
        distance -= distance.mean(dtype=numpy.float64)
        worst = max(worst, float(abs(distance).max()))
    return worst


def _mean_residual(found: numpy.ndarray, rhs: numpy.ndarray) -> float:
    return float(abs(poisson.residual(found, rhs)).mean(dtype=numpy.float64))


class _Neumann(Work):
    """The problem of this package: the border is free."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.rhs: Any = task.array("rhs")

    def judge(self, result: Any) -> dict[str, float]:
        return {
            "error": _error(result, self.task.array("exact")),
            "residual": _mean_residual(numpy.asarray(result, numpy.float32), self.rhs),
        }


class _Multigrid(_Neumann):
    """Ours, with as few cycles as do."""

    cycles = poisson.CYCLES
    settings = f"{poisson.CYCLES} cycles, the default"

    def run(self) -> Any:
        return poisson.solve(self.rhs, cycles=self.cycles)


class _CheapestMultigrid(_Multigrid):
    settings = ""

    def tune(self, seconds: float) -> dict[str, Any]:
        self.cycles = _cheapest_cycles(self.rhs, self.task.array("exact"))
        self.settings = f"{self.cycles} cycle{'s' * (self.cycles != 1)}"
        return {}


def _cheapest_cycles(rhs: numpy.ndarray, exact: numpy.ndarray) -> int:
    for cycles in range(10):
        if _error(poisson.solve(rhs, cycles=cycles), exact) <= LEVELS:
            return cycles
    raise TooSlowError(f"10 cycles did not reach {LEVELS} level")


class _Dct(_Neumann):
    def run(self) -> Any:
        return poisson.solve(self.rhs, method="dct")


class _PlainDct(_Neumann):
    settings = "float32"

    def run(self) -> Any:
        return _by_cosines(self.rhs, self.task.threads)


def _matrix(height: int, width: int) -> Any:
    """The negative Laplacian with Neumann border, as a sparse matrix."""
    sparse = library("scipy.sparse")

    def along(count: int) -> Any:
        diagonal = numpy.full(count, 2.0)
        diagonal[[0, -1]] = 1.0
        beside = numpy.full(count - 1, -1.0)
        return sparse.diags([beside, diagonal, beside], [-1, 0, 1], format="csr")

    return (
        sparse.kron(along(height), sparse.identity(width))
        + sparse.kron(sparse.identity(height), along(width))
    ).tocsr()


class _ReachedError(Exception):
    """The demanded error is reached."""


class _SparseMatrix(_Neumann):
    """Solvers for any sparse matrix, which take a plane after the other."""

    check_every = 1
    iterations = 1
    unit = "iterations"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        # The matrix is singular: what has a mean has no solution.
        self.planes = [-(plane - plane.mean(dtype=numpy.float64)).ravel() for plane in self.rhs]

    def set_up(self) -> Any:
        return _matrix(*self.rhs.shape[1:])

    @abc.abstractmethod
    def solve_plane(self, solver: Any, plane: numpy.ndarray, iterations: int, each: Any = None) -> Any:
        """Solve one plane in so many iterations; `each` sees the solution after every one of them."""

    def tune(self, seconds: float) -> dict[str, Any]:
        ends = time.monotonic() + seconds
        solver, exact = self.set_up(), self.task.array("exact")
        most = 1
        for plane, truth in zip(self.planes, exact, strict=True):
            most = max(most, self._iterations(solver, plane, truth[None], ends, seconds))
        self.iterations = most
        self.settings = f"{most} {self.unit}, float64"
        return {}

    def _iterations(
        self, solver: Any, plane: numpy.ndarray, truth: numpy.ndarray, ends: float, seconds: float
    ) -> int:
        done, error = 0, math.inf

        def each(found: numpy.ndarray) -> None:
            nonlocal done, error
            done += 1
            if done % self.check_every and time.monotonic() < ends:
                return
            error = _error(found, truth)
            if error <= LEVELS:
                raise _ReachedError
            if time.monotonic() > ends:
                raise TooSlowError(
                    f"not within {LEVELS} level after {seconds:.0f} s: {done} {self.unit}, {error:.2g}"
                )

        try:
            self.solve_plane(solver, plane, _MOST_ITERATIONS, each)
        except _ReachedError:
            return done
        raise TooSlowError(f"it ended after {done} {self.unit}, {error:.2g} levels from the solution")

    def run(self) -> Any:
        started = time.perf_counter()
        solver = self.set_up()
        self.setup_seconds = time.perf_counter() - started
        found = [self.solve_plane(solver, plane, self.iterations) for plane in self.planes]
        return numpy.stack(found).reshape(self.rhs.shape)


class _Amg(_SparseMatrix):
    unit = "V-cycles"

    def set_up(self) -> Any:
        return library("pyamg").ruge_stuben_solver(super().set_up(), coarse_solver="pinv")

    def solve_plane(self, solver: Any, plane: numpy.ndarray, iterations: int, each: Any = None) -> Any:
        return solver.solve(plane, tol=1e-300, maxiter=iterations, callback=each)


class _ConjugateGradients(_SparseMatrix):
    check_every = 5

    def solve_plane(self, solver: Any, plane: numpy.ndarray, iterations: int, each: Any = None) -> Any:
        cg = library("scipy.sparse.linalg").cg
        return cg(solver, plane, rtol=0.0, atol=0.0, maxiter=iterations, callback=each)[0]


class _Pictures(Work):
    """Programs that clone one picture into another, whose border stays as it is."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.day, self.night = task.array("day"), task.array("night")
        self.mask = numpy.full(self.day.shape[:2], 255, numpy.uint8)
        self.mask[[0, -1]] = self.mask[:, [0, -1]] = 0


class _SeamlessClone(_Pictures):
    settings = "NORMAL_CLONE; direct, gradients included, bytes in and out: its error is not told"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.cv2 = library("cv2")
        self.cv2.setNumThreads(task.threads)

    def run(self) -> Any:
        height, width = self.mask.shape
        middle = (width // 2, height // 2)
        return self.cv2.seamlessClone(self.day, self.night, self.mask, middle, self.cv2.NORMAL_CLONE)


class _Fpie(_Pictures):
    """Iterated until the mean residual is that of ours, which is far easier than the error of ours."""

    backend = "numba"
    iterations = 5

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        grid = library("fpie.process").GridProcessor
        self.processor = grid("max", self.backend, task.threads)

    def _begin(self) -> None:
        # It changes its arguments.
        self.processor.reset(self.day.copy(), self.mask, self.night.copy(), (0, 0), (0, 0))

    def _residual(self, error: Any) -> float:
        inner: int = (self.mask.shape[0] - 2) * (self.mask.shape[1] - 2)
        return float(numpy.sum(error)) / (3 * inner)

    def tune(self, seconds: float) -> dict[str, Any]:
        rhs = self.task.array("rhs")
        ours = poisson.solve(rhs, cycles=_cheapest_cycles(rhs, self.task.array("exact")))
        wanted = _mean_residual(ours, rhs)
        del rhs, ours
        self._begin()
        self.processor.step(1)  # taichi compiles for each size
        self._begin()
        started = time.monotonic()
        done, batch = 0, 10
        while True:
            _, error = self.processor.step(batch)
            done += batch
            reached, spent = self._residual(error), time.monotonic() - started
            if reached <= wanted:
                break
            if spent > seconds:
                distance = _error(self._levels(), self._exact())
                raise TooSlowError(
                    f"residual {wanted:.2g} not reached: {done} iterations, residual {reached:.2g}, "
                    f"{distance:.2g} levels from its solution, {spent:.1f} s"
                )
            batch = max(10, min(1000, done // 10))
        self.iterations = done
        self.settings = f"{done} iterations to the residual of ours"
        return {}

    def run(self) -> Any:
        started = time.perf_counter()
        self._begin()
        self.setup_seconds = time.perf_counter() - started  # the others are handed their right-hand side
        return self.processor.step(self.iterations)

    def judge(self, result: Any) -> dict[str, float]:
        return {"error": _error(self._levels(), self._exact()), "residual": self._residual(result[1])}

    def _levels(self) -> numpy.ndarray:
        """What it found, before it is cut to 0 .. 255, (C, H - 2, W - 2)."""
        return _planar(self.processor.core.tgt)

    def _rhs(self) -> numpy.ndarray:
        return _planar(self.processor.core.grad).astype(numpy.float64)

    def _exact(self) -> numpy.ndarray:
        """The solution of its own problem by sine transforms: the border is that of the night."""
        from scipy import fft

        rhs, border = self._rhs(), numpy.moveaxis(self.night, -1, 0).astype(numpy.float64)
        rhs[:, 0] += border[:, 0, 1:-1]
        rhs[:, -1] += border[:, -1, 1:-1]
        rhs[:, :, 0] += border[:, 1:-1, 0]
        rhs[:, :, -1] += border[:, 1:-1, -1]
        rows, columns = (
            2 - 2 * numpy.cos(numpy.pi * numpy.arange(1, count + 1) / (count + 1)) for count in rhs.shape[1:]
        )
        spectrum = fft.dstn(rhs, type=1, axes=(1, 2)) / (rows[:, None] + columns)
        solution: numpy.ndarray = fft.idstn(spectrum, type=1, axes=(1, 2))
        return solution


def _planar(picture: Any) -> numpy.ndarray:
    return numpy.moveaxis(numpy.asarray(picture), -1, 0)[:, 1:-1, 1:-1]


class _FpieTaichi(_Fpie):
    backend = "taichi-cpu"

    def _levels(self) -> numpy.ndarray:
        return self._cropped(self.processor.core.ttgt)

    def _rhs(self) -> numpy.ndarray:
        return self._cropped(self.processor.core.tgrad).astype(numpy.float64)

    def _cropped(self, field: Any) -> numpy.ndarray:
        height, width = self.mask.shape
        return _planar(field.to_numpy()[:height, :width])


_NEUMANN = "Neumann border, gradients of the fusion"
_LARGER = "border of the night, larger gradient per channel"

COMPETITORS = (
    Competitor("gpufuse multigrid", _CheapestMultigrid, problem=_NEUMANN),
    Competitor("gpufuse multigrid, as it comes", _Multigrid, problem=_NEUMANN),
    Competitor("gpufuse dct", _Dct, problem=_NEUMANN),
    Competitor("scipy.fft dct", _PlainDct, "scipy", problem=_NEUMANN),
    Competitor("pyamg Ruge-Stüben", _Amg, "pyamg", "one", problem=_NEUMANN),
    Competitor("scipy.sparse cg", _ConjugateGradients, "scipy", "one", problem=_NEUMANN),
    Competitor(
        "cv2.seamlessClone", _SeamlessClone, "cv2", problem="border of the night, gradients of the day"
    ),
    Competitor("fpie numba", _Fpie, "fpie", "one", problem=_LARGER),
    Competitor("fpie taichi", _FpieTaichi, "fpie", problem=_LARGER),
)
