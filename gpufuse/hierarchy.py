"""The levels of multigrid for the Poisson equation with Neumann border, screened or not, whatever the size.

Finite volumes on a tensor grid. All cells of a level are unit squares, except that the last row or
column may be narrower or wider (1/2 to 3/2): halving an odd number of cells leaves one over, which becomes
a half cell of its own or goes to its neighbour, whichever stays nearer to 1. (With narrower cells only, a
row of cells can grow thin from level to level, and convergence suffers.) So any size is solved on its own
domain. Per cell: sum over its faces of ``length / distance * (u_nb - u) = f``, where f is
the right-hand side integrated over the cell; in the interior that is the 5-point stencil. The screened
equation takes ``mass * u`` off the left side, the mass being the data weight times the cell's area in pixels.

The geometry and the step lengths are the same on the CPU and on a GPU.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy

__all__ = ["COARSEST_CELLS", "DOWN", "FIRST", "LAST", "MIDDLE", "NEST", "STEPS", "UP", "Plan", "plan"]

COARSEST_CELLS = 128
"""A grid of at most so many cells is solved exactly: one small product is cheaper than more levels."""

LEAST_MASS = 1e-5
"""With a smaller one on the coarsest level its solution leaves constants alone."""

FIRST, MIDDLE, LAST, NEST, DOWN, UP = range(6)
"""The kinds of pass. On the finest level: from the interpolated solution down; up and down again; up.

On the levels below: from the interpolated solution down; from zero down; up.
"""

STEPS = (
    numpy.array([0.503, 1.212], numpy.float32),
    numpy.array([0.551, 0.908, 1.701], numpy.float32),
    numpy.array([0.654, 2.619], numpy.float32),
    numpy.array([0.186, 0.948], numpy.float32),
    numpy.array([0.543, 1.037], numpy.float32),
    numpy.array([0.719, 3.959], numpy.float32),
)
"""Step lengths of the relaxations, by kind of pass.

``u + step / diagonal * (A u - f)`` multiplies an error of eigenvalue x, which lies in [0, 2], by 1 - step x.
Steps from Chebyshev polynomials on [1/2, 2], the waves shorter than 4 cells, damp these best; the steps
here began there and were then fitted together, to make the largest error after the default cycles
smallest on pictures of many sizes. That divides the error by several, on other sizes and pictures too,
and so saves relaxations.

With a mass the relaxation is ``u + step / (diagonal + step mass) * (A u - mass u - f)``. It multiplies the
same error by ``(1 - step x) * diagonal / (diagonal + step mass)``: never more than without a mass, whatever the
wave, so the steps serve for both.
"""


class Plan(NamedTuple):
    """Geometry of all levels for one size; level 0 is the finest."""

    shape: numpy.ndarray  # (levels, 2) int64: rows, columns
    last: numpy.ndarray  # (levels, 2) float64: height of the last row, width of the last column
    cells: numpy.ndarray  # (levels,) int64: where the level begins in the flat work arrays
    rows: numpy.ndarray  # (levels,) int64: where the level begins in the row tables
    columns: numpy.ndarray  # (levels,) int64: where the level begins in the column tables
    special: numpy.ndarray  # (levels,) bool: the last two columns need their own stencil
    row_face: numpy.ndarray  # (sum H, 4) float32: face to north, to south, height, diagonal share
    last_face: numpy.ndarray  # (levels, 2, 4) float32: the same for the last two columns: W, E, width, share
    row_from: numpy.ndarray  # (sum H, 2) int64: coarse rows a row is interpolated from
    row_weight: numpy.ndarray  # (sum H, 2) float32
    column_from: numpy.ndarray  # (sum W, 2) int64
    column_weight: numpy.ndarray  # (sum W, 2) float32
    row_measure: numpy.ndarray  # (sum H,) float64: fine cells a coarse row stands for, as interpolated
    column_measure: numpy.ndarray  # (sum W,) float64
    row_size: numpy.ndarray  # (sum H,) float32: finest rows in a row
    column_size: numpy.ndarray  # (sum W,) float32
    mass: numpy.ndarray  # (levels,) float32: data weight times the area of a whole cell in pixels
    inverse: numpy.ndarray  # (n, n) float64: (pseudo-)inverse on the coarsest level


def _faces(count: int, last: float) -> numpy.ndarray:
    """1/distance to the previous and the next centre, width, and share of the diagonal, per cell."""
    faces = numpy.ones((count, 4))
    faces[0, 0] = faces[-1, 1] = 0.0
    faces[-1, 2] = last
    if count > 1:
        faces[-2, 1] = faces[-1, 0] = 2.0 / (1.0 + last)
    faces[:, 3] = faces[:, 0] + faces[:, 1]
    if count > 1:
        faces[0, 3] += faces[0, 1]
        if last == 1.0:
            faces[-1, 3] += faces[-1, 0]
    return faces


def _interpolation(fine: int, fine_last: float, coarse: int, coarse_last: float) -> tuple[Any, Any]:
    """Indices and weights of linear interpolation between centres, constant beyond the last ones."""
    at = (numpy.arange(fine) + 0.5) / 2.0
    at[-1] = (fine - 1 + fine_last / 2.0) / 2.0
    centres = numpy.arange(coarse) + 0.5
    centres[-1] = coarse - 1 + coarse_last / 2.0
    left = numpy.clip(numpy.searchsorted(centres, at, side="right") - 1, 0, max(coarse - 2, 0))
    right = numpy.minimum(left + 1, coarse - 1)
    gap = numpy.where(right > left, centres[right] - centres[left], 1.0)
    weight = numpy.clip((at - centres[left]) / gap, 0.0, 1.0)
    weight[right == left] = 0.0
    return numpy.stack([left, right], -1), numpy.stack([1.0 - weight, weight], -1)


def _dense(faces: tuple[numpy.ndarray, numpy.ndarray], mass: float, constants: bool) -> numpy.ndarray:
    """Inverse of the operator of a small level, or its pseudo-inverse that makes 0 of constants."""
    stiffness = []
    for face in faces:
        along = numpy.diag(face[:-1, 1], 1) + numpy.diag(face[1:, 0], -1)
        stiffness.append(along - numpy.diag(along.sum(1)))
    operator = numpy.kron(stiffness[0], numpy.diag(faces[1][:, 2]))
    operator += numpy.kron(numpy.diag(faces[0][:, 2]), stiffness[1])
    count = len(operator)
    # Constants have an eigenvalue of 0 or near it: give them one near -1, invert, and take them out or put them right.
    area = numpy.kron(faces[0][:, 2], faces[1][:, 2]) if mass else numpy.ones(count)
    total = area.sum()
    operator -= numpy.diag(mass * area) + numpy.outer(area, area) / total
    inverse: numpy.ndarray = numpy.linalg.inv(operator) + 1.0 / (total + mass * total)
    if constants:
        inverse -= 1.0 / (mass * total)
    return inverse


def _halve(count: int, last: float) -> tuple[int, float]:
    """Number of cells and width of the last one on the next coarser level."""
    if count % 2 == 0:
        return count // 2, (1.0 + last) / 2.0
    if count == 1 or last >= 1.0:
        return (count + 1) // 2, last / 2.0
    return count // 2, 1.0 + last / 2.0


@functools.lru_cache(maxsize=8)
def plan(height: int, width: int, data_weight: float = 0.0) -> Plan:
    """Lay out the levels for one size.

    Parameters
    ----------
    height, width : int
        Of the picture, pixels.
    data_weight : float
        Of the screened equation, per square pixel; 0: not screened.

    Returns
    -------
    Plan
        Read-only; kept for the sizes used last.

    Examples
    --------
    >>> plan(48, 64).shape.tolist()
    [[48, 64], [24, 32], [12, 16], [6, 8]]
    """
    axes: list[list[tuple[int, float]]] = [[(height, 1.0)], [(width, 1.0)]]
    while axes[0][-1][0] * axes[1][-1][0] > COARSEST_CELLS:
        for levels in axes:
            count, last = levels[-1]
            levels.append(_halve(count, last))
    tables: list[dict[str, list[Any]]] = []
    for levels in axes:
        table: dict[str, list[Any]] = {"face": [], "from": [], "weight": [], "measure": [], "size": []}
        for depth, (count, last) in enumerate(levels):
            table["face"].append(_faces(count, last))
            coarse, coarse_last = levels[min(depth + 1, len(levels) - 1)]
            source, weight = _interpolation(count, last, coarse, coarse_last)
            table["from"].append(source)
            table["weight"].append(weight)
            size = numpy.ones(count)
            size[-1] = last
            table["size"].append(size * 2.0**depth)
            measure = numpy.zeros(count)
            if depth:
                numpy.add.at(measure, table["from"][depth - 1], table["weight"][depth - 1])
            table["measure"].append(measure)
        tables.append(table)
    shape = numpy.array([[y[0], x[0]] for y, x in zip(*axes, strict=True)], numpy.int64)

    def begins(counts: numpy.ndarray) -> numpy.ndarray:
        return numpy.concatenate([[0], numpy.cumsum(counts)]).astype(numpy.int64)

    cells = begins(shape[1:].prod(1)) if len(shape) > 1 else numpy.zeros(1, numpy.int64)
    last_face = numpy.zeros((len(shape), 2, 4), numpy.float32)
    for depth, face in enumerate(tables[1]["face"]):
        last_face[depth, -min(2, len(face)) :] = face[-2:]

    def flat(axis: int, name: str, dtype: Any) -> numpy.ndarray:
        return numpy.ascontiguousarray(numpy.concatenate(tables[axis][name]), dtype)

    mass = data_weight * 4.0 ** numpy.arange(len(shape))
    built = Plan(
        shape=shape,
        last=numpy.array([[y[1], x[1]] for y, x in zip(*axes, strict=True)]),
        cells=numpy.concatenate([[0], cells]).astype(numpy.int64),  # level 0 is kept elsewhere
        rows=begins(shape[:, 0]),
        columns=begins(shape[:, 1]),
        special=numpy.array([last != 1.0 or count == 1 for count, last in axes[1]]),
        row_face=flat(0, "face", numpy.float32),
        last_face=last_face,
        row_from=flat(0, "from", numpy.int64),
        row_weight=flat(0, "weight", numpy.float32),
        column_from=flat(1, "from", numpy.int64),
        column_weight=flat(1, "weight", numpy.float32),
        row_measure=flat(0, "measure", numpy.float64),
        column_measure=flat(1, "measure", numpy.float64),
        row_size=flat(0, "size", numpy.float32),
        column_size=flat(1, "size", numpy.float32),
        mass=mass.astype(numpy.float32),
        # What a tiny mass would magnify is what was rounded. Where there is no other level, the mean is put in
        # by those who know it better.
        inverse=_dense(
            (tables[0]["face"][-1], tables[1]["face"][-1]),
            float(mass[-1]),
            constants=bool(mass[-1] > LEAST_MASS and len(shape) > 1),
        ),
    )
    for array in built:
        array.setflags(write=False)
    return built
