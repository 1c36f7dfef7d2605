"""Directions of edges as a field of numbers, and how well two such fields lie on each other.

An edge of angle a becomes the complex number ``w exp(2 i a)``: a half turn changes nothing, so that an edge counts
the same whichever of its sides is the brighter one. The weight w is near 1 for every edge that stands out of the
noise, however strong, so that lamps count no more than kerbs.

Planes are ``(H, W) float32`` in grey levels on the host; displacements are whole pixels of the planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy

__all__ = [
    "Correlation",
    "OrientationField",
    "Tiles",
    "clear_edges",
    "correlation",
    "noise_level",
    "orientation_field",
    "products_by_tile",
    "tile_products",
    "tile_share",
    "transform",
    "transform_shape",
]

SIGMA = 1.5
"""Gaussian smoothing before the gradient, pixels."""

NOISE_FACTOR = 3.0
"""Gradients below this many standard deviations of the noise hardly vote."""

LEAST_GRADIENT = 0.1
"""Nor do those below this many grey levels per pixel, where a codec left no noise to measure."""

CLEAR_GRADIENT, CLEAR_NOISE_FACTOR, CLEAR_WINDOW = 2.5, 5.0, 9
"""An edge beyond doubt: its gradient differs by so much, in grey levels per pixel and in standard deviations of the
noise, from the mean over a window of so many pixels. The glow of a lamp, however bright, differs by less."""

BORDER = 2
"""Rows and columns at the rim that do not vote: scaling and codecs leave false edges there."""

TILES = (6, 8)
"""Rows and columns of tiles that vote separately."""

FULL_VOTE = 0.05
"""Mean product of squared weights at which a tile has its full vote."""

MOST_OF_A_TILE = 0.3
"""Agreement above which a tile gains no more: a logo burnt into both pictures agrees completely."""

Plane: TypeAlias = "numpy.ndarray"
Lag: TypeAlias = "tuple[int, int]"


@dataclass(frozen=True)
class OrientationField:
    """Edges of a picture by their direction.

    Attributes
    ----------
    values : ndarray, shape (H, W), complex64
        ``w exp(2 i angle)`` with w in [0, 1], less its mean over a sixth of the picture: a street in which
        everything is upright says nothing about where it is.
    """

    values: numpy.ndarray


def orientation_field(plane: Plane) -> OrientationField:
    """Find the directions of the edges of a picture.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32, grey levels
        At least 8 pixels wide and high.

    Returns
    -------
    OrientationField

    Examples
    --------
    >>> ramp = numpy.tile(numpy.arange(64, dtype=numpy.float32), (48, 1))
    >>> bool(abs(orientation_field(ramp).values[20, 30]) < 0.01)  # the same everywhere
    True
    """
    from scipy import ndimage

    gx, gy, noise = _derivatives(plane)
    square = gx * gx + gy * gy
    threshold = numpy.float32((NOISE_FACTOR * noise) ** 2 + LEAST_GRADIENT**2)
    factor = square / (square + threshold) ** 2
    values = numpy.empty(plane.shape, numpy.complex64)
    values.real = factor * (gx * gx - gy * gy)
    values.imag = factor * (2.0 * gx * gy)
    local = max(3, min(plane.shape) // 6)
    values.real -= ndimage.uniform_filter(values.real, local, mode="nearest")
    values.imag -= ndimage.uniform_filter(values.imag, local, mode="nearest")
    for rim in (slice(None, BORDER), slice(-BORDER, None)):
        values[rim] = 0
        values[:, rim] = 0
    return OrientationField(values)


def clear_edges(plane: Plane) -> numpy.ndarray:
    """Find the edges that are beyond all doubt.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32, grey levels

    Returns
    -------
    ndarray, shape (H, W), bool

    Examples
    --------
    >>> step = numpy.where(numpy.arange(64) < 32, 20, 60).astype(numpy.float32)
    >>> numpy.flatnonzero(clear_edges(numpy.tile(step, (48, 1)))[20])
    array([31, 32])
    """
    from scipy import ndimage

    gx, gy, noise = _derivatives(plane)
    for part in (gx, gy):
        part -= ndimage.uniform_filter(part, CLEAR_WINDOW, mode="nearest")
    found: numpy.ndarray = gx * gx + gy * gy > max(CLEAR_GRADIENT, CLEAR_NOISE_FACTOR * noise) ** 2
    return found


def _derivatives(plane: Plane) -> tuple[Plane, Plane, float]:
    """Derivatives of the smoothed picture, and the standard deviation of what noise adds to each."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(plane, SIGMA, mode="nearest", truncate=3.0)
    gx, gy = numpy.zeros_like(smooth), numpy.zeros_like(smooth)
    gx[:, 1:-1] = 0.5 * (smooth[:, 2:] - smooth[:, :-2])
    gy[1:-1] = 0.5 * (smooth[2:] - smooth[:-2])
    gx[:, 0], gx[:, -1] = gx[:, 1], gx[:, -2]
    gy[0], gy[-1] = gy[1], gy[-2]
    return gx, gy, noise_level(plane) / (numpy.sqrt(8.0 * numpy.pi) * SIGMA**2)


def noise_level(plane: Plane) -> float:
    """Estimate the standard deviation of the noise.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32, grey levels

    Returns
    -------
    float
        Grey levels; from the median of second differences in both directions, which edges hardly touch.

    Examples
    --------
    >>> rng = numpy.random.default_rng(3)
    >>> bool(abs(noise_level(rng.normal(90, 8, (200, 300)).astype("f")) - 8) < 0.5)
    True
    """
    rows = plane[:-2] - 2.0 * plane[1:-1] + plane[2:]
    both = rows[::2, :-2] - 2.0 * rows[::2, 1:-1] + rows[::2, 2:]
    return float(numpy.median(numpy.abs(both))) / (0.6745 * 6.0)


@dataclass(frozen=True)
class Correlation:
    """How well two fields agree at every displacement.

    Attributes
    ----------
    surface : ndarray, shape (2 Ry + 1, 2 Rx + 1), float32
        In standard deviations of the whole surface from its mean.
    reach : tuple of int
        (Ry, Rx), the largest displacement that was tried.
    """

    surface: numpy.ndarray
    reach: tuple[int, int]

    def peaks(self, count: int, share: float) -> list[tuple[Lag, float]]:
        """Find the largest local maxima.

        Parameters
        ----------
        count : int
            At most so many.
        share : float
            Only those of at least this share of the largest.

        Returns
        -------
        list of ((dx, dy), height)
            The largest first.
        """
        from scipy import ndimage

        largest = float(self.surface.max())
        low = share * largest
        found = numpy.argwhere(
            (self.surface == ndimage.maximum_filter(self.surface, 7)) & (self.surface >= low)
        )
        heights = self.surface[tuple(found.T)]
        order = numpy.argsort(-heights, kind="stable")[:count]
        return [
            ((int(found[k][1]) - self.reach[1], int(found[k][0]) - self.reach[0]), float(heights[k]))
            for k in order
        ]


def transform_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Find the size of the transforms of a field: a quarter more on each side, so that nothing wraps round.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the field.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> transform_shape((240, 320))
    (300, 400)
    """
    from scipy import fft

    rows, columns = (fft.next_fast_len(length + length // 4) for length in shape)
    return rows, columns


def transform(field: OrientationField) -> numpy.ndarray:
    """Transform a field for `correlation`.

    Parameters
    ----------
    field : OrientationField

    Returns
    -------
    ndarray, complex64
    """
    from scipy import fft

    spectrum: numpy.ndarray = fft.fft2(field.values, transform_shape(field.values.shape), overwrite_x=False)
    return spectrum


def correlation(night: numpy.ndarray, day: numpy.ndarray, shape: tuple[int, int]) -> Correlation:
    """Correlate two fields at all displacements up to a quarter of the picture.

    Parameters
    ----------
    night, day : ndarray, complex64
        Their transforms.
    shape : tuple of int
        (H, W) of the fields.

    Returns
    -------
    Correlation
        Largest at the (dx, dy) by which things of the night lie further right and down in the day.
    """
    from scipy import fft

    products = fft.ifft2(night.conj() * day, overwrite_x=True).real
    rows, columns = shape[0] // 4, shape[1] // 4
    vertical, horizontal = numpy.arange(-rows, rows + 1), numpy.arange(-columns, columns + 1)
    surface = products[vertical[:, None], horizontal]  # negative displacements stand at the end
    spread = float(surface.std())
    if spread > 0:
        surface = (surface - surface.mean()) / spread
    return Correlation(surface.astype(numpy.float32), (rows, columns))


@dataclass(frozen=True)
class Tiles:
    """Agreement of two fields at one displacement, tile by tile.

    Attributes
    ----------
    products : ndarray, shape `TILES`, float32
        Sum of the products of the fields.
    energies : ndarray, shape `TILES`, float32
        What the products would be if the fields agreed completely.
    area : float
        Pixels of a tile.
    """

    products: numpy.ndarray
    energies: numpy.ndarray
    area: float

    @property
    def agreement(self) -> numpy.ndarray:
        """Correlation of each tile, in [-1, 1]; 0 where there is nothing to compare."""
        found: numpy.ndarray = self.products / (self.energies + 1e-3 * self.area)
        return found

    @property
    def votes(self) -> numpy.ndarray:
        """Weight of each tile, in [0, 1], by how much there is to compare."""
        found: numpy.ndarray = numpy.minimum(self.energies / (FULL_VOTE * self.area), 1.0)
        return found

    @property
    def weights(self) -> numpy.ndarray:
        """What to multiply products at neighbouring displacements with: the tiles that agree, none too much."""
        agreement = numpy.maximum(self.agreement, 0.0)
        limited = numpy.minimum(agreement, MOST_OF_A_TILE)
        most = numpy.maximum(agreement / MOST_OF_A_TILE, 1.0)
        found: numpy.ndarray = self.votes * limited / (most * (self.energies + 1e-3 * self.area))
        return found

    @property
    def support(self) -> float:
        """Mean agreement of the tiles, none of which can gain more than `MOST_OF_A_TILE`."""
        votes = self.votes
        limited = numpy.clip(self.agreement, -MOST_OF_A_TILE, MOST_OF_A_TILE)
        return float((votes * limited).sum() / (votes.sum() + 1e-6))


def tile_products(night: OrientationField, day: OrientationField, lag: Lag) -> Tiles:
    """Compare two fields at one displacement.

    Parameters
    ----------
    night, day : OrientationField
        Of one size.
    lag : tuple of int
        (dx, dy) as `correlation` gives it.

    Returns
    -------
    Tiles
        Of the night; where the day shows nothing of a tile, it does not count.
    """
    there, here = _overlap(night.values.shape, lag)
    one, other = night.values[there], day.values[here]
    squares = [_tile_sums(part.real**2 + part.imag**2, there, night.values.shape) for part in (one, other)]
    return Tiles(products_by_tile(night, day, lag), numpy.sqrt(squares[0] * squares[1]), _area(night))


def products_by_tile(night: OrientationField, day: OrientationField, lag: Lag) -> numpy.ndarray:
    """Compute the products of `tile_products` alone.

    Parameters
    ----------
    night, day : OrientationField
    lag : tuple of int

    Returns
    -------
    ndarray, shape `TILES`, float32
    """
    there, here = _overlap(night.values.shape, lag)
    one, other = night.values[there], day.values[here]
    return _tile_sums(one.real * other.real + one.imag * other.imag, there, night.values.shape)


def _area(field: OrientationField) -> float:
    return field.values.size / (TILES[0] * TILES[1])


def tile_share(mask: numpy.ndarray, least: float) -> float:
    """Find the share of the tiles of which at least a share is set.

    Parameters
    ----------
    mask : ndarray, shape (H, W), bool
    least : float
        In [0, 1].

    Returns
    -------
    float
    """
    whole = slice(0, mask.shape[0]), slice(0, mask.shape[1])
    area = mask.size / (TILES[0] * TILES[1])
    return float((_tile_sums(mask.astype(numpy.float32), whole, mask.shape) >= least * area).mean())


def _overlap(shape: tuple[int, ...], lag: Lag) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The pixels of the night that the day shows too, and where it shows them."""
    spans = []
    for length, step in zip(shape, reversed(lag), strict=True):
        begin, end = max(0, -step), min(length, length - step)
        spans.append((slice(begin, end), slice(begin + step, end + step)))
    (rows, day_rows), (columns, day_columns) = spans
    return (rows, columns), (day_rows, day_columns)


def _tile_sums(part: numpy.ndarray, where: tuple[slice, slice], shape: tuple[int, ...]) -> numpy.ndarray:
    """Sums over the tiles of a whole picture of which only a part is given."""
    for axis in (0, 1):
        edges = numpy.arange(TILES[axis] + 1) * shape[axis] // TILES[axis] - where[axis].start
        cuts = numpy.clip(edges, 0, part.shape[axis])
        filled = numpy.diff(cuts) > 0
        sums = numpy.zeros([TILES[k] if k == axis else part.shape[k] for k in (0, 1)], numpy.float32)
        index = (filled, slice(None)) if axis == 0 else (slice(None), filled)
        sums[index] = numpy.add.reduceat(part, cuts[:-1][filled], axis=axis)
        part = sums
    return part
