"""Light by day and by night: sun, sky, moon, street lamps and the air that scatters them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from gpufuse.scene.camera import Camera
from gpufuse.scene.noise import Noise
from gpufuse.scene.planes import Floats, as_column, as_single, dot, inner, ramp

SUN = numpy.array([-0.36, 0.80, -0.48], numpy.float32)  # length 1
"""Unit vector towards the sun: behind the camera and to its left."""

SUNLIGHT = numpy.array([2.75, 2.48, 2.05], numpy.float32)
SKYLIGHT = numpy.array([0.60, 0.74, 0.98], numpy.float32)
BOUNCE = numpy.array([0.36, 0.32, 0.27], numpy.float32)
HAZE = numpy.array([0.85, 1.00, 1.18], numpy.float32)
MOONLIGHT = numpy.array([0.0045, 0.0075, 0.018], numpy.float32)
LAMPLIGHT = numpy.array([1.0, 0.58, 0.22], numpy.float32)


def sunshine(normal: Floats) -> Floats:
    """Return direct sunlight on surfaces that the sun reaches, (3, ...)."""
    return as_column(SUNLIGHT, normal.ndim) * numpy.maximum(dot(SUN, normal), 0)


def skyshine(normal: Floats, height: Floats) -> Floats:
    """Return the light of the sky, and of the ground below it, in a street that hides half of it."""
    openness = (0.5 + 0.5 * normal[1]) * (0.75 + 0.25 * ramp(height, 0, 6))
    sky, ground = as_column(SKYLIGHT, normal.ndim), as_column(BOUNCE, normal.ndim)
    return as_single(sky * openness + ground * (1 - 0.5 * normal[1]))


def moonshine(normal: Floats) -> Floats:
    """Return the faint light of the moon, more of it on what looks up."""
    return as_single(as_column(MOONLIGHT, normal.ndim) * (0.65 + 0.35 * normal[1]))


def lampshine(point: Floats, normal: Floats, places: Sequence[Floats]) -> Floats:
    """Return the light of street lamps, which throw it down in a wide cone."""
    total = numpy.zeros(point.shape[1:], numpy.float32)
    for place in places:
        towards = as_column(place, point.ndim) - point
        square = inner(towards, towards) + 0.6
        distance = numpy.sqrt(square)
        facing = numpy.maximum(inner(towards, normal) / distance, 0)
        cone = ramp(towards[1] / distance, 0.25, 0.95)
        total += facing * cone / square
    return as_column(36.0 * LAMPLIGHT, point.ndim) * total


def air_light(camera: Camera, depth: Floats, places: Sequence[Floats]) -> Floats:
    """Return the halos of street lamps: light scattered by the air between camera and surface.

    Along a ray that passes a lamp at distance d, the scattered light is the integral of 1 / (d^2 + s^2),
    (arctan(s1 / d) - arctan(s0 / d)) / d.
    """
    rays = camera.rays((slice(0, camera.height), slice(0, camera.width)))
    length = numpy.sqrt((rays * rays).sum(axis=0))
    end = numpy.minimum(depth, 400) * length
    total = numpy.zeros(depth.shape, numpy.float32)
    for place in places:
        towards = place - camera.position
        along = dot(towards, rays) / length
        distance = numpy.sqrt(numpy.maximum(towards @ towards - along * along, 0) + 0.08)
        total += (numpy.arctan((end - along) / distance) + numpy.arctan(along / distance)) / distance
    return as_column(0.012 * LAMPLIGHT, 3) * total


def day_sky(rays: Floats, noise: Noise) -> Floats:
    """Return a sky that pales towards the horizon, with clouds drawn out by perspective."""
    rise = numpy.maximum(rays[1] / numpy.sqrt((rays * rays).sum(axis=0)), 0.0)
    blue, pale = as_column((0.17, 0.36, 0.80), 3), as_column((0.70, 0.83, 0.98), 3)
    sky = pale + (blue - pale) * ramp(rise, -0.05, 0.40)
    flat = 1 / (rise + 0.10)
    clouds = noise.fractal(rays[0] * flat * 1.1 + 3, rays[2] * flat * 0.75, 5)
    cover = ramp(clouds, 0.47, 0.72) * (0.35 + 0.65 * ramp(rise, 0.0, 0.12))
    bright = as_column((1.35, 1.33, 1.30), 3) - 0.45 * ramp(clouds, 0.60, 0.9) * as_column((1, 0.95, 0.85), 3)
    return as_single(sky + (bright - sky) * (0.9 * cover))


def night_sky(rays: Floats) -> Floats:
    """Return a dark sky with the glow of the town over the horizon."""
    rise = numpy.maximum(rays[1] / numpy.sqrt((rays * rays).sum(axis=0)), 0.0)
    high, low = as_column((0.0018, 0.0030, 0.0080), 3), as_column((0.012, 0.010, 0.011), 3)
    return as_single(high + (low - high) * numpy.exp(-rise / 0.10))
