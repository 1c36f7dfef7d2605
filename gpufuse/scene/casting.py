"""Casting rays: what each pixel sees, and whether the sun reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from gpufuse.scene.camera import Camera, Window, is_empty
from gpufuse.scene.light import SUN
from gpufuse.scene.noise import Noise
from gpufuse.scene.planes import Bools, Floats, as_single, dot
from gpufuse.scene.solids import Thing


@dataclass(frozen=True)
class Hits:
    """What the pixels of a window see.

    Attributes
    ----------
    depth : ndarray, shape (h, w), float32
        Metres along the camera's axis; inf for the sky.
    normal : ndarray, shape (3, h, w), float32
    which : ndarray, shape (h, w), int16
        Index of the thing, -1 for the sky.
    point : ndarray, shape (3, h, w), float32
        Metres; meaningless for the sky.
    """

    depth: Floats
    normal: Floats
    which: NDArray[numpy.int16]
    point: Floats


def cast(camera: Camera, window: Window, things: Sequence[Thing], noise: Noise) -> Hits:
    """Find the first thing that each pixel of a window sees."""
    rays = camera.rays(window)
    depth = numpy.full(rays.shape[1:], numpy.inf, numpy.float32)
    which = numpy.full(rays.shape[1:], -1, numpy.int16)
    normal = numpy.zeros(rays.shape, numpy.float32)
    rows, columns = slice(0, rays.shape[1]), slice(0, rays.shape[2])
    for index, thing in enumerate(things):
        # In a small window it costs more to ask where a thing is than to try all rays.
        if depth.size > 8192:
            own = camera.window(thing.corners)
            rows, columns = _within(own[0], window[0]), _within(own[1], window[1])
            if is_empty((rows, columns)):
                continue
        with numpy.errstate(divide="ignore", invalid="ignore"):
            reach, facing = thing.hit(camera.position, rays[:, rows, columns], noise)
        nearer = reach < depth[rows, columns]
        if not nearer.any():
            continue
        numpy.copyto(depth[rows, columns], reach, where=nearer)
        numpy.copyto(which[rows, columns], index, where=nearer)
        numpy.copyto(normal[:, rows, columns], facing, where=nearer)
    finite = numpy.where(which >= 0, depth, numpy.float32(1e4))
    return Hits(depth, normal, which, as_single(camera.position[:, None, None] + finite * rays))


def _within(inner: slice, outer: slice) -> slice:
    """Return the part of one range inside another, counted from the other's start."""
    start, stop = max(inner.start, outer.start), min(inner.stop, outer.stop)
    return slice(start - outer.start, max(start, stop) - outer.start)


def sunlit(hits: Hits, things: Sequence[Thing]) -> Bools:
    """Tell which pixels the sun reaches; things outside the cone of shade are skipped."""
    lit = (hits.which >= 0) & (dot(SUN, hits.normal) > 0)
    points = hits.point[:, lit]
    across = numpy.cross(SUN, [0, 1, 0]).astype(numpy.float32)
    across /= numpy.linalg.norm(across)
    axes = numpy.stack([across, numpy.cross(across, SUN)])
    u, v = axes @ points
    shaded = numpy.zeros(points.shape[1], bool)
    for thing in things:
        if len(thing.corners) < 4:
            continue
        low_u, low_v = (thing.corners @ axes.T).min(axis=0)
        high_u, high_v = (thing.corners @ axes.T).max(axis=0)
        near = numpy.flatnonzero((u > low_u) & (u < high_u) & (v > low_v) & (v < high_v) & ~shaded)
        shaded[near] = thing.shades(points[:, near])
    lit[lit] = ~shaded
    return lit
