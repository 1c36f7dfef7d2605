"""Static layers: the empty street as the camera sees it, by day and by night."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from gpufuse.scene.camera import Camera, mast_camera
from gpufuse.scene.casting import cast, sunlit
from gpufuse.scene.light import HAZE, air_light, day_sky, lampshine, moonshine, night_sky, skyshine, sunshine
from gpufuse.scene.noise import Noise
from gpufuse.scene.paint import paint_hits
from gpufuse.scene.planes import Bools, Floats, as_column, shrink
from gpufuse.scene.street import LAMP_POSTS, lamp_place, street_things

SUPERSAMPLING = 2
"""Rays per pixel, in each direction."""


@dataclass(frozen=True)
class Street:
    """The empty street, as seen by the camera; all planar.

    Attributes
    ----------
    camera : Camera
    noise : Noise
    depth : ndarray, shape (H, W)
        Metres; inf for the sky.
    point, normal, colour : ndarray, shape (3, H, W)
        Place, direction and scattered share of the surfaces.
    sun : ndarray, shape (3, H, W)
        The part of the day that a shadow takes away.
    day, night : ndarray, shape (3, H, W)
        Linear light.
    lamps : ndarray, shape (H, W), bool
        Static light sources.
    """

    camera: Camera
    noise: Noise
    depth: Floats
    point: Floats
    normal: Floats
    colour: Floats
    sun: Floats
    day: Floats
    night: Floats
    lamps: Bools


def build_street(width: int, height: int, seed: int) -> Street:
    """Render what stands still, with several rays per pixel."""
    rng = numpy.random.default_rng([seed, 1])
    noise = Noise(rng.random((256, 256), dtype=numpy.float32))
    things = street_things(rng)
    camera = mast_camera(width, height)
    fine = camera.finer(SUPERSAMPLING)
    whole = (slice(0, fine.height), slice(0, fine.width))
    hits = cast(fine, whole, things, noise)
    colour, own = paint_hits(hits, things, noise)
    sky = hits.which < 0
    rays = fine.rays(whole)
    clear = numpy.exp(-numpy.where(sky, 0, hits.depth) / numpy.float32(620))
    sun = colour * sunshine(hits.normal) * sunlit(hits, things) * clear
    shade = colour * skyshine(hits.normal, hits.point[1]) * clear + as_column(HAZE, 3) * (1 - clear)
    places = [lamp_place(*post) for post in LAMP_POSTS]
    night = colour * (moonshine(hits.normal) + lampshine(hits.point, hits.normal, places)) + own
    day = numpy.where(sky, day_sky(rays, noise), sun + shade)
    night = numpy.where(sky, night_sky(rays), night)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    depth = hits.depth[middle, middle]
    return Street(
        camera=camera,
        noise=noise,
        depth=depth,
        point=hits.point[:, middle, middle],
        normal=hits.normal[:, middle, middle],
        colour=shrink(colour, SUPERSAMPLING),
        sun=shrink(sun, SUPERSAMPLING),
        day=shrink(day, SUPERSAMPLING),
        night=shrink(night, SUPERSAMPLING) + air_light(camera, depth, places),
        lamps=shrink(own, SUPERSAMPLING).max(axis=0) > 0.1,
    )
