"""Paint: from a point of a surface to its colour, and to the light it gives at night."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy

from gpufuse.scene.casting import Hits
from gpufuse.scene.light import LAMPLIGHT
from gpufuse.scene.noise import Noise
from gpufuse.scene.planes import Bools, Floats, as_column, ramp
from gpufuse.scene.solids import Thing
from gpufuse.scene.street import ACCENTS, FACADES, ROAD

Spots: TypeAlias = tuple[Floats, Floats]
"""Scattered share and own light, both (3, n)."""


def paint_hits(hits: Hits, things: Sequence[Thing], noise: Noise) -> Spots:
    """Return the colour and the own light of all pixels, (3, h, w) each."""
    colour = numpy.zeros(hits.point.shape, numpy.float32)
    light = numpy.zeros(hits.point.shape, numpy.float32)
    spread, own = colour.reshape(3, -1), light.reshape(3, -1)
    points, normals = hits.point.reshape(3, -1), hits.normal.reshape(3, -1)
    # Sorted by thing, the pixels of each one lie together.
    order = numpy.argsort(hits.which, axis=None, kind="stable")
    bounds = numpy.searchsorted(hits.which.ravel()[order], numpy.arange(len(things) + 1))
    for thing, start, stop in zip(things, bounds, bounds[1:], strict=False):
        if start < stop:
            seen = order[start:stop]
            brush = PAINTS[thing.paint]
            spread[:, seen], own[:, seen] = brush(thing, points[:, seen], normals[:, seen], noise)
    return colour, light


def _flat(thing: Thing, points: Floats) -> Spots:
    colour = numpy.repeat(as_column(thing.colour, 2), points.shape[1], axis=1)
    return colour, numpy.zeros_like(colour)


def _lay(base: Floats, where: Bools, colour: Any) -> None:
    """Paint over, in place."""
    numpy.copyto(base, as_column(colour, base.ndim), where=where)


def _paint_plain(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    colour *= 0.85 + 0.3 * noise.smooth(points[0] * 3 + points[2] * 3, points[1] * 3)
    return colour, light


def _paint_glossy(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    """Lacquer and glass: faces that look up mirror some of the sky."""
    colour, light = _flat(thing, points)
    return colour + 0.10 * numpy.maximum(normals[1], 0) ** 2, light


def _paint_leaves(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    u, v = points[0] * 4 + points[2] * 3.1, points[1] * 4.3 + points[2]
    return colour * (0.25 + 1.5 * noise.fractal(u, v, 3) ** 1.5 * 1.4), light


def _paint_road(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    x, z = points[0], points[2]
    grain = noise.fractal(x * 5, z * 5, 3) - 0.5
    stain = noise.fractal(x * 0.6, z * 0.12, 3) - 0.5
    tracks = numpy.cos(2 * numpy.pi * (numpy.abs(x) - 0.2) / 1.6)
    colour *= 1 + 0.55 * grain * ramp(-z, -70, -15) + 0.55 * stain - 0.07 * tracks
    patch = (numpy.abs(x - 4.9) < 1.1) & (numpy.abs(z - 39) < 4.5) | (numpy.abs(x + 2.3) < 0.9) & (z > 60) & (
        z < 84
    )
    colour *= 1 - 0.28 * patch
    wear = 0.75 + 0.35 * noise.fractal(x * 2.5, z * 2.5, 2)
    paint = as_column((0.62, 0.62, 0.58), 2) * wear
    numpy.copyto(colour, paint, where=_road_marks(x, z))
    cover = ((x + 3.6) ** 2 + (z - 26) ** 2 < 0.16) | ((x - 2.6) ** 2 + (z - 49) ** 2 < 0.16)
    _lay(colour, cover, (0.05, 0.05, 0.05))
    return colour, light


def _road_marks(x: Floats, z: Floats) -> Bools:
    """Tell where the road is painted: centre lines, lanes, parking bays, a zebra crossing."""
    side = numpy.abs(x)
    centre = (side > 0.10) & (side < 0.24)
    dashes = (numpy.abs(side - 3.3) < 0.08) & (z % 7.5 < 3.2)
    bays = (numpy.abs(side - 6.45) < 0.06) | (side > 6.45) & ((z + 1.0) % 6.2 < 0.12)
    crossing = (z > 19.2) & (z < 22.8)
    zebra = crossing & ((x + 0.25) % 1.0 < 0.52) & (side < 8.3)
    stop = (numpy.abs(z - 24.2) < 0.2) & (x < -0.3) & (x > -6.4) | (numpy.abs(z - 17.8) < 0.2) & (x > 0.3) & (
        x < 6.4
    )
    clear = (z > 17.4) & (z < 24.6)
    marks: Bools = (((centre | dashes | bays) & ~clear) | zebra | stop) & (z < FACADES + 10)
    return marks


def _paint_pavement(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    x, z = points[0], points[2]
    stone = noise.cell(numpy.floor(x / 0.9), numpy.floor(z / 0.9))
    colour *= 0.86 + 0.16 * stone + 0.35 * (noise.fractal(x * 1.5, z * 0.8, 3) - 0.5)
    joints = ((x % 0.9 < 0.05) | (z % 0.9 < 0.06)) & (z < 60)
    colour *= 1 - 0.25 * joints
    kerb = numpy.abs(x) < ROAD + 0.28
    _lay(colour, kerb, (0.46, 0.45, 0.43))
    colour *= 1 - 0.35 * (kerb & (z % 1.2 < 0.06) & (z < 60))
    return colour, light


def _paint_roof(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    course = points[1] % 0.35 < 0.1
    colour *= 0.8 + 0.4 * noise.fractal(points[2] * 1.2 + points[0], points[1] * 3, 2) - 0.14 * course
    return colour, light


def _paint_awning(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    colour, light = _flat(thing, points)
    _lay(colour, points[2] % 0.9 < 0.45, (0.62, 0.6, 0.54))
    return colour, light


def _paint_sign(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    """A board with a border and rows of something like writing; every other one is lit."""
    colour, light = _flat(thing, points)
    along, y = points[0] + points[2], points[1]
    row, column = numpy.floor(y / 0.36), numpy.floor(along / 0.11)
    ink = (noise.cell(column, row, thing.tag) < 0.6) & (y % 0.36 < 0.18)
    _lay(colour, ink, (0.75, 0.72, 0.62))
    if thing.tag % 4 != 1:
        glow = 0.55 * as_column(thing.colour, 2) + 0.02
        light += numpy.where(ink, as_column((0.7, 0.62, 0.45), 2), glow)
    return colour, light


def _paint_lamp(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    """Only the underside and the rim of a street lamp are bright."""
    colour, light = _flat(thing, points)
    light += 7.0 * as_column(LAMPLIGHT * [1, 1.15, 1.5], 2)
    light *= numpy.where(points[1] < 7.74, 1.0, 0.05)
    return colour, light


def _paint_facade(thing: Thing, points: Floats, normals: Floats, noise: Noise) -> Spots:
    """Walls with a shop floor below and rows of windows above."""
    colour, light = _flat(thing, points)
    along = numpy.where(numpy.abs(normals[0]) > 0.5, points[2], points[0])
    height = points[1]
    brick = noise.cell(numpy.floor(along / 0.5), numpy.floor(height / 0.22), thing.tag)
    colour *= 0.84 + 0.2 * brick + 0.4 * (noise.fractal(along * 0.5, height * 0.25, 3) - 0.5)
    colour *= 1 - 0.12 * ((height % 0.44 < 0.09) & (height > 3.8))
    colour *= 0.7 + 0.3 * ramp(height, -1, 3)
    _paint_windows(colour, light, along, height, thing, noise)
    _paint_shops(colour, light, along, height, thing, noise)
    _lay(colour, numpy.abs(height - 3.7) < 0.12, (0.56, 0.53, 0.47))
    return colour, light


def _paint_windows(
    colour: Floats, light: Floats, along: Floats, height: Floats, thing: Thing, noise: Noise
) -> None:
    """Paint the windows of the upper floors in place."""
    bay_width = 2.3 + 0.25 * (thing.tag % 3)
    bay, floor = numpy.floor(along / bay_width), numpy.floor((height - 3.8) / 3.1)
    u, v = along / bay_width - bay, (height - 3.8) / 3.1 - floor
    top = float(thing.corners[:, 1].max())
    upper = (height > 3.8) & (floor * 3.1 + 6.8 < top + 0.1)
    surround = upper & (numpy.abs(u - 0.5) < 0.27) & (v > 0.20) & (v < 0.88)
    sill = upper & (numpy.abs(u - 0.5) < 0.31) & (v > 0.15) & (v < 0.21)
    opening = upper & (numpy.abs(u - 0.5) < 0.215) & (v > 0.22) & (v < 0.83)
    bars = (numpy.abs(u - 0.5) < 0.02) | (numpy.abs(v - 0.60) < 0.02)
    _lay(colour, surround | sill, (0.60, 0.57, 0.52))
    dice = noise.cell(bay, floor, thing.tag)
    mirrored = 0.05 + 0.34 * ramp(v + 0.6 * dice, 0.3, 1.15)
    shade = 1 - 0.6 * (v > 0.78)
    glass = as_column((0.75, 0.92, 1.15), 2) * mirrored * shade
    numpy.copyto(colour, glass, where=opening & ~bars)
    _lay(colour, opening & bars, (0.55, 0.53, 0.5))
    curtain = opening & ~bars & (dice > 0.45) & (numpy.abs(u - 0.5) > 0.13)
    _lay(colour, curtain, (0.5, 0.48, 0.44))
    lit = opening & ~bars & (dice < 0.13)
    warmth = noise.cell(bay, floor, thing.tag + 3)
    tint = numpy.stack([0.9 + 0 * warmth, 0.50 + 0.25 * warmth, 0.18 + 0.4 * warmth**2])
    strength = (0.30 + 0.5 * warmth) * (0.65 + 0.5 * v) * (1 - 0.35 * (numpy.abs(u - 0.5) > 0.13))
    numpy.copyto(light, tint * strength, where=lit)


def _paint_shops(
    colour: Floats, light: Floats, along: Floats, height: Floats, thing: Thing, noise: Noise
) -> None:
    """Paint the shop windows and the boards above them in place."""
    bay = numpy.floor(along / 4.2)
    u = along / 4.2 - bay
    dice = noise.cell(bay, bay * 0 + 7, thing.tag)
    board = (height > 2.85) & (height < 3.5) & (u > 0.05) & (u < 0.95)
    _lay(colour, board, ACCENTS[(thing.tag + 1) % len(ACCENTS)])
    letters = board & (numpy.abs(height - 3.17) < 0.15) & (numpy.abs(u - 0.5) < 0.3)
    letters &= noise.cell(numpy.floor(along / 0.22), bay, thing.tag) < 0.65
    _lay(colour, letters, (0.75, 0.72, 0.62))
    pane = (height > 0.6) & (height < 2.7) & (u > 0.08) & (u < 0.92) & (numpy.abs(u - 0.62) > 0.025)
    door = (height > 0.15) & (height < 2.7) & (u > 0.66) & (u < 0.9)
    glass = as_column((0.16, 0.19, 0.22), 2) * (0.5 + 0.9 * ramp(height + dice, 1, 3.2))
    goods = noise.cell(numpy.floor(along / 0.35), numpy.floor(height / 0.5), thing.tag)
    numpy.copyto(colour, glass * (0.7 + 0.6 * goods), where=pane | door)
    lit = (pane | door) & (dice < 0.24)
    strength = 0.10 + 0.35 * goods * (height < 1.55) + 0.28 * ramp(height, 1.4, 2.8)
    numpy.copyto(light, as_column((0.90, 0.46, 0.15), 2) * strength, where=lit)


PAINTS: dict[str, Callable[[Thing, Floats, Floats, Noise], Spots]] = {
    "awning": _paint_awning,
    "bodywork": _paint_glossy,
    "facade": _paint_facade,
    "glass": _paint_glossy,
    "lamp": _paint_lamp,
    "leaves": _paint_leaves,
    "pavement": _paint_pavement,
    "plain": _paint_plain,
    "road": _paint_road,
    "roof": _paint_roof,
    "sign": _paint_sign,
}
