"""Small rotations and changes of scale between two grey planes of one view.

Points are complex numbers x + i y, counted from the centre of the picture, so that rotation and scale are one
multiplication. Planes are ``(H, W) float32`` in grey levels on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from gpufuse.orientation import (
    TILES,
    OrientationField,
    correlation,
    orientation_field,
    products_by_tile,
    tile_products,
    transform,
)

__all__ = [
    "LARGEST_ANGLE",
    "LARGEST_STRETCH",
    "Placement",
    "affine",
    "moved",
    "paraboloid",
    "refined",
    "sought",
]

LARGEST_ANGLE, LARGEST_STRETCH = 2.0, 0.02
"""Rotation in degrees and change of scale that are looked for."""

NEIGHBOURS = [(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
"""Displacements from which the top between the pixels is found."""

_LONGEST_STEP = 1.5
"""Pixels that a corner may move in one step of the refinement: tiles know no more than their surroundings."""


@dataclass(frozen=True)
class Placement:
    """Where the point z of the night lies in the day: at ``step + turn * z``.

    Attributes
    ----------
    step : complex
        Pixels.
    turn : complex
        Its absolute value is the scale, its phase the rotation, clockwise on a screen.
    """

    step: complex = 0j
    turn: complex = 1 + 0j

    def after(self, first: Placement) -> Placement:
        """Apply this to the result of another.

        Examples
        --------
        >>> Placement(1j, 2).after(Placement(3, 1))
        Placement(step=(6+1j), turn=2)
        """
        return Placement(self.step + self.turn * first.step, self.turn * first.turn)

    def resized(self, factor: float) -> Placement:
        """The same in a picture that is larger by a factor."""
        return Placement(self.step * factor, self.turn)


def affine(placement: Placement, shape: tuple[int, ...]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Write a placement as an affine map of pixels (x, y) of the night to those of the day.

    Parameters
    ----------
    placement : Placement
    shape : tuple of int
        Height and width, whose middle is the centre.

    Returns
    -------
    matrix, offset : ndarray, shapes (2, 2) and (2,)

    Examples
    --------
    >>> affine(Placement(3 + 1j), (5, 5))[1].tolist()
    [3.0, 1.0]
    """
    turn = placement.turn
    matrix = numpy.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    centre = numpy.array([shape[1] - 1, shape[0] - 1]) / 2.0
    step = numpy.array([placement.step.real, placement.step.imag])
    return matrix, centre + step - matrix @ centre


def moved(plane: numpy.ndarray, placement: Placement) -> numpy.ndarray:
    """Move a day plane onto its night, bilinearly: good enough to measure, not to show.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32
    placement : Placement

    Returns
    -------
    ndarray, shape (H, W), float32
        Replicated beyond the rim.
    """
    from scipy import ndimage

    matrix, offset = affine(placement, plane.shape)
    result: numpy.ndarray = ndimage.affine_transform(
        plane, matrix[::-1, ::-1], offset[::-1], order=1, mode="nearest"
    )
    return result


def sought(night: numpy.ndarray, day: numpy.ndarray, count: int = 3) -> list[Placement]:
    """Find rotation and scale to half a degree and half a per cent, by trying.

    Parameters
    ----------
    night, day : ndarray, shape (H, W), float32, grey levels
        Of one size; some 250 pixels wide suffice.
    count : int
        How many candidates are wanted.

    Returns
    -------
    list of Placement
        Those of the highest peaks of the correlation, the highest first.
    """
    spectrum = transform(orientation_field(night))
    tried = []
    for angle in numpy.linspace(-LARGEST_ANGLE, LARGEST_ANGLE, 5):
        for stretch in numpy.linspace(-LARGEST_STRETCH, LARGEST_STRETCH, 5):
            turn = Placement(turn=complex((1.0 + stretch) * numpy.exp(1j * numpy.deg2rad(angle))))
            there = transform(orientation_field(moved(day, turn)))
            ((dx, dy), height), *_ = correlation(spectrum, there, night.shape).peaks(1, 1.0)
            tried.append((height, turn.after(Placement(complex(dx, dy)))))
    tried.sort(key=lambda pair: -pair[0])
    return [placement for _, placement in tried[:count]]


def refined(night: OrientationField, day: numpy.ndarray, start: Placement, times: int) -> Placement:
    """Improve a placement until every tile lies as well as can be.

    Parameters
    ----------
    night : OrientationField
    day : ndarray, shape (H, W), float32, grey levels
    start : Placement
        Within some two pixels of the truth everywhere.
    times : int
        Steps.

    Returns
    -------
    Placement
    """
    for _ in range(times):
        start = start.after(_better(night, orientation_field(moved(day, start))))
    return start


def _better(night: OrientationField, day: OrientationField) -> Placement:
    """One step of Newton on the agreement of all tiles, in translation, stretch and angle together."""
    weights = tile_products(night, day, (0, 0)).weights
    heights = numpy.array([weights * products_by_tile(night, day, lag) for lag in NEIGHBOURS])
    slope, curvature = paraboloid(heights)
    values, vectors = numpy.linalg.eigh(curvature)
    values = numpy.minimum(values, 0.0)  # a tile without a top has a slope but no say on where to stop
    curvature = (vectors * values[..., None, :]) @ numpy.swapaxes(vectors, -1, -2)
    rows, columns = night.values.shape
    x = (numpy.arange(TILES[1]) + 0.5 - TILES[1] / 2) * columns / TILES[1]
    y = (numpy.arange(TILES[0]) + 0.5 - TILES[0] / 2) * rows / TILES[0]
    y, x = numpy.meshgrid(y, x, indexing="ij")
    one, zero = numpy.ones_like(x), numpy.zeros_like(x)
    # How far a tile moves, in x and in y, for each of: right, down, stretch, angle.
    lever = numpy.stack([numpy.stack([one, zero, x, -y], -1), numpy.stack([zero, one, y, x], -1)], -2)
    hessian = numpy.einsum("abip,abij,abjq->pq", lever, curvature, lever)
    gradient = numpy.einsum("abip,abi->p", lever, slope)
    if numpy.linalg.matrix_rank(hessian) < 4:
        return Placement()
    right, down, stretch, angle = -numpy.linalg.solve(hessian, gradient)
    corner = numpy.hypot(right, down) + numpy.hypot(stretch, angle) * numpy.hypot(rows, columns) / 2
    part = min(1.0, _LONGEST_STEP / max(corner, 1e-9))
    return Placement(complex(right, down) * part, 1 + complex(stretch, angle) * part)


def paraboloid(heights: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fit a paraboloid to the values around a pixel by least squares.

    Parameters
    ----------
    heights : ndarray, shape (9, ...)
        At the displacements of `NEIGHBOURS`.

    Returns
    -------
    slope, curvature : ndarray, shapes (..., 2) and (..., 2, 2)
        At the pixel itself, x before y.

    Examples
    --------
    >>> slope, curvature = paraboloid(numpy.array([3.0 * dx - dy * dy for dx, dy in NEIGHBOURS]))
    >>> slope.tolist(), curvature.tolist()
    ([3.0, 0.0], [[0.0, 0.0], [0.0, -2.0]])
    """
    grid = heights.reshape(3, 3, *heights.shape[1:])
    rows, columns = grid.sum(axis=1), grid.sum(axis=0)
    slope = numpy.stack([columns[2] - columns[0], rows[2] - rows[0]], axis=-1) / 6.0
    across = (columns[0] - 2.0 * columns[1] + columns[2]) / 3.0
    down = (rows[0] - 2.0 * rows[1] + rows[2]) / 3.0
    mixed = (grid[2, 2] + grid[0, 0] - grid[2, 0] - grid[0, 2]) / 4.0
    lines = [numpy.stack([across, mixed], axis=-1), numpy.stack([mixed, down], axis=-1)]
    return slope, numpy.stack(lines, axis=-2)
