"""Things that rays can hit: convex solids and balls, and the makers of boxes and extrusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy

from gpufuse.scene.light import SUN
from gpufuse.scene.noise import Noise
from gpufuse.scene.planes import Bools, Floats, Triple, as_column, as_single, dot


@dataclass(frozen=True)
class Solid:
    """A convex solid: all points p with ``normals @ p <= offsets``.

    Attributes
    ----------
    normals, offsets : ndarray, shape (K, 3) and (K,)
        Outward unit normals and distances of its faces.
    corners : ndarray, shape (N, 3)
        Points whose hull holds it.
    paint : str
        What it is made of, a key of `PAINTS`.
    colour : tuple of float
        Share of red, green and blue light that it scatters back.
    tag : int
        Tells things of one paint apart.
    """

    normals: Floats
    offsets: Floats
    corners: Floats
    paint: str
    colour: Triple
    tag: int = 0

    def moved(self, by: Floats) -> Solid:
        """Return the solid at another place."""
        return replace(self, offsets=self.offsets + self.normals @ by, corners=self.corners + by)

    def hit(self, origin: Floats, rays: Floats, noise: Noise) -> tuple[Floats, Floats]:
        """Return depth (h, w), inf where missed, and normal (3, h, w) where rays enter."""
        enter = numpy.full(rays.shape[1:], -numpy.inf, numpy.float32)
        leave = numpy.full(rays.shape[1:], numpy.inf, numpy.float32)
        face = numpy.zeros(rays.shape[1:], numpy.intp)
        for index, (normal, offset) in enumerate(zip(self.normals, self.offsets, strict=True)):
            along = dot(normal, rays)
            room = offset - normal @ origin
            reach = room / along
            if room < 0:
                # Rays come in through a face only from its outer side; those that turn away miss.
                later = (along < 0) & (reach > enter)
                numpy.copyto(enter, reach, where=later)
                numpy.copyto(face, index, where=later)
                numpy.copyto(leave, -numpy.inf, where=along > 0)
            else:
                numpy.copyto(leave, numpy.minimum(leave, reach), where=along > 0)
        missed = (enter > leave) | (enter < 0.1)
        enter[missed] = numpy.inf
        return enter, self.normals.T.take(face, axis=1)

    def shades(self, points: Floats) -> Bools:
        """Tell which points (3, n) it keeps from the sun."""
        enter = numpy.full(points.shape[1:], -numpy.inf, numpy.float32)
        leave = numpy.full(points.shape[1:], numpy.inf, numpy.float32)
        for normal, offset in zip(self.normals, self.offsets, strict=True):
            along = float(normal @ SUN)
            room = offset - dot(normal, points)
            if abs(along) < 1e-6:
                enter[room < 0] = numpy.inf
            elif along < 0:
                numpy.maximum(enter, room / along, out=enter)
            else:
                numpy.minimum(leave, room / along, out=leave)
        return (enter < leave) & (leave > 0.03)


@dataclass(frozen=True)
class Ball:
    """A ball of leaves with a ragged edge; attributes as for `Solid`."""

    centre: Floats
    radius: float
    paint: str
    colour: Triple
    tag: int = 0

    @property
    def corners(self) -> Floats:
        """The corners of the cube around it, shape (8, 3)."""
        signs = numpy.stack(numpy.meshgrid(*[[-1, 1]] * 3), axis=-1).reshape(-1, 3)
        return as_single(self.centre + signs * self.radius)

    def moved(self, by: Floats) -> Ball:
        """Return the ball at another place."""
        return replace(self, centre=self.centre + by)

    def hit(self, origin: Floats, rays: Floats, noise: Noise) -> tuple[Floats, Floats]:
        """Return depth (h, w), inf where missed, and normal (3, h, w) where rays enter."""
        towards = self.centre - origin
        square = (rays * rays).sum(axis=0)
        middle = dot(towards, rays)
        root = middle * middle - square * (towards @ towards - self.radius**2)
        depth = (middle - numpy.sqrt(numpy.maximum(root, 0))) / square
        normal = (depth * rays - towards[:, None, None]) / numpy.float32(self.radius)
        missed = (root <= 0) | (depth < 0.1)
        if self.paint == "leaves":
            facing = -(normal * rays).sum(axis=0) / numpy.sqrt(square)
            holes = noise.fractal(normal[0] * 5 + self.tag, (normal[1] + normal[2]) * 5, 2)
            missed |= facing < 1.5 * holes - 0.35
        depth[missed] = numpy.inf
        return depth, normal

    def shades(self, points: Floats) -> Bools:
        """Tell which points (3, n) it keeps from the sun."""
        towards = as_column(self.centre, points.ndim) - points
        along = dot(SUN, towards)
        shade: Bools = ((towards * towards).sum(axis=0) - along * along < (0.85 * self.radius) ** 2) & (
            along > 0.3
        )
        return shade


Thing: TypeAlias = Solid | Ball


def extrude(
    outline: Sequence[tuple[float, float]],
    axis: str,
    ends: tuple[float, float],
    paint: str,
    colour: Triple,
    tag: int = 0,
) -> Solid:
    """Push a convex outline along an axis.

    The outline is given in (z, y) for axis "x", in (x, y) for "z" and in (x, z) for "y".
    """
    along = "xyz".index(axis)
    first, second = {"x": (2, 1), "z": (0, 1), "y": (0, 2)}[axis]
    flat = numpy.asarray(outline, numpy.float64)
    edges = numpy.roll(flat, -1, axis=0) - flat
    outward = numpy.stack([edges[:, 1], -edges[:, 0]], axis=1) / numpy.hypot(*edges.T)[:, None]
    sign = numpy.sign(((flat - flat.mean(axis=0)) * outward).sum())
    normals = numpy.zeros((len(flat) + 2, 3))
    normals[:-2, [first, second]] = sign * outward
    normals[-2, along], normals[-1, along] = -1, 1
    offsets = numpy.concatenate([(sign * outward * flat).sum(axis=1), [-ends[0], ends[1]]])
    corners = numpy.empty((2, len(flat), 3))
    corners[:, :, first], corners[:, :, second] = flat[:, 0], flat[:, 1]
    corners[0, :, along], corners[1, :, along] = ends
    single = [as_single(array) for array in (normals, offsets, corners.reshape(-1, 3))]
    return Solid(single[0], single[1], single[2], paint, colour, tag)


def box(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    paint: str,
    colour: Triple,
    tag: int = 0,
) -> Solid:
    """Make a box from its extent along each axis."""
    outline = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    return extrude(outline, "z", z, paint, colour, tag)


def ordered(a: float, b: float) -> tuple[float, float]:
    """Return two numbers with the smaller one first: an extent."""
    return (a, b) if a < b else (b, a)
