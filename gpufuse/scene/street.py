"""What stands still in the street, and where: houses, lamp posts, trees, parked cars, small things."""

from __future__ import annotations

import numpy

from gpufuse.scene.planes import Floats, Triple, as_single
from gpufuse.scene.solids import Ball, Solid, Thing, box, extrude, ordered
from gpufuse.scene.vehicles import PAINTWORK, car

ROAD, PAVEMENT, FACADES = 8.6, 12.0, 260.0
"""Half width of the road, distance of the house fronts from its middle, length of the street (metres)."""

WALLS: tuple[Triple, ...] = (
    (0.34, 0.14, 0.10),
    (0.58, 0.47, 0.30),
    (0.56, 0.34, 0.15),
    (0.36, 0.36, 0.36),
    (0.24, 0.33, 0.40),
    (0.60, 0.56, 0.50),
    (0.42, 0.19, 0.14),
    (0.34, 0.40, 0.27),
    (0.55, 0.30, 0.24),
)

ACCENTS: tuple[Triple, ...] = ((0.5, 0.07, 0.05), (0.06, 0.25, 0.17), (0.07, 0.14, 0.36), (0.5, 0.33, 0.05))

LAMP_POSTS: tuple[tuple[int, float], ...] = tuple(
    (side, first + 26.0 * step) for side, first in ((1, 24.0), (-1, 37.0)) for step in range(7)
)
TREES = ((1, 33.0), (-1, 24.0), (1, 56.0), (-1, 47.0), (1, 82.0), (-1, 72.0), (-1, 96.0), (1, 106.0))
PARKED = ((1, 28.5), (1, 41), (1, 47.3), (1, 62), (-1, 31), (-1, 37), (-1, 55), (-1, 66), (1, 90))
"""Side of the street and depth of all street lamps, trees and parked cars."""


def street_things(rng: numpy.random.Generator) -> list[Thing]:
    """Return all that stands still."""
    up = numpy.array([[0, 1, 0]], numpy.float32)
    far = numpy.array([[0, 0, -1e3], [0, 0, 1e3]], numpy.float32)
    things: list[Thing] = [Solid(up, numpy.zeros(1, numpy.float32), far, "road", (0.12, 0.12, 0.125))]
    for side in (-1, 1):
        span = ordered(side * ROAD, side * 40.0)
        things.append(box(span, (0, 0.15), (-20, FACADES), "pavement", (0.36, 0.345, 0.32)))
        things += _terrace(side, rng)
    things += _far_end(rng)
    for side, depth in LAMP_POSTS:
        things += _lamp_post(side, depth)
    for side, depth in TREES:
        things += _tree(side * 9.9, depth, rng)
    for side, depth in PARKED:
        shape = car(PAINTWORK[int(rng.integers(len(PAINTWORK)))], side, van=bool(rng.random() < 0.2))
        place = numpy.array([side * 7.55, 0, depth], numpy.float32)
        things += [part.moved(place) for part in shape]
    things += _furniture()
    return things


def _terrace(side: int, rng: numpy.random.Generator) -> list[Thing]:
    """Line one side of the street with houses, leaving a gap where a side street comes in."""
    things: list[Thing] = []
    depth, tag = 4.0, 10 * (side + 1)
    colours = rng.permutation(len(WALLS))
    while depth < FACADES - 20:
        length = float(rng.uniform(9.5, 16))
        height = 3.8 + 3.1 * int(rng.integers(2, 5)) + 0.9
        colour = WALLS[int(colours[tag % len(WALLS)])]
        things += _house(side, depth, length, height, colour, tag, pitched=bool(rng.random() < 0.6))
        depth += length
        tag += 1
        if tag % 10 == (5 if side > 0 else 4):
            depth += 11.0
    return things


def _house(
    side: int, depth: float, length: float, height: float, colour: Triple, tag: int, *, pitched: bool
) -> list[Thing]:
    """Build a house: walls, cornice, roof, chimney, and a sign or an awning."""
    front, back = side * PAVEMENT, side * (PAVEMENT + 12.0)
    ends = (depth, depth + length)
    things: list[Thing] = [box(ordered(front, back), (0, height), ends, "facade", colour, tag)]
    pale = (0.6, 0.57, 0.5)
    eaves = ordered(front - side * 0.35, back)
    things.append(box(eaves, (height, height + 0.3), ends, "plain", pale))
    if pitched:
        ridge = [(eaves[0], height + 0.3), (eaves[1], height + 0.3), (front + side * 5.5, height + 4.2)]
        tiles = ((0.30, 0.13, 0.09), (0.16, 0.165, 0.18))[tag % 2]
        things.append(extrude(ridge, "z", (ends[0] + 0.05, ends[1] - 0.05), "roof", tiles, tag))
    chimney = ordered(front + side * 3.2, front + side * 4.3)
    place = (depth + 0.3 * length, depth + 0.3 * length + 1.4)
    things.append(box(chimney, (height, height + 4.6), place, "plain", (0.3, 0.17, 0.13)))
    accent = ACCENTS[tag % len(ACCENTS)]
    middle = depth + (0.35 + 0.1 * (tag % 4)) * length
    if tag % 2:
        out = ordered(front, front - side * 1.3)
        things.append(box(out, (3.9, 5.9), (middle, middle + 0.25), "sign", accent, tag))
    else:
        slope = [(front, 2.75), (front, 3.5), (front - side * 1.5, 2.75)]
        things.append(extrude(slope, "z", (middle, middle + 4.5), "awning", accent, tag))
    return things


def _far_end(rng: numpy.random.Generator) -> list[Thing]:
    """Close the street with a row of houses across it and a church behind them."""
    things: list[Thing] = []
    for index, left in enumerate(range(-70, 71, 14)):
        height = 3.8 + 3.1 * int(rng.integers(2, 6))
        colour = WALLS[int(rng.integers(len(WALLS)))]
        extent, deep = (float(left), left + 14.0), (FACADES + 25, FACADES + 40)
        things.append(box(extent, (0, height), deep, "facade", colour, 50 + index))
        ridge = [(deep[0], height), (deep[1], height), (sum(deep) / 2, height + 5)]
        things.append(extrude(ridge, "x", extent, "roof", (0.24, 0.12, 0.09), index))
    stone = (0.40, 0.30, 0.22)
    things.append(box((2, 10), (0, 34), (320, 328), "plain", stone))
    things.append(extrude([(1.5, 34), (10.5, 34), (6, 56)], "z", (320, 328), "plain", (0.16, 0.30, 0.25)))
    return things


def _lamp_post(side: int, depth: float) -> list[Thing]:
    """Raise a post at the kerb with an arm over the road."""
    grey = (0.14, 0.15, 0.15)
    post, tip = side * (ROAD + 0.5), side * 6.9
    return [
        box((post - 0.08, post + 0.08), (0, 7.9), (depth - 0.08, depth + 0.08), "plain", grey),
        box(ordered(post, tip), (7.8, 7.9), (depth - 0.05, depth + 0.05), "plain", grey),
        box((tip - 0.45, tip + 0.45), (7.62, 7.82), (depth - 0.16, depth + 0.16), "lamp", (0.5, 0.5, 0.48)),
    ]


def lamp_place(side: int, depth: float) -> Floats:
    """Return where the lamp of a post hangs."""
    return numpy.array([side * 6.9, 7.55, depth], numpy.float32)


def _tree(x: float, depth: float, rng: numpy.random.Generator) -> list[Thing]:
    """Grow a tree: a trunk, and a crown of balls."""
    size = float(rng.uniform(0.85, 1.15))
    bark = (0.13, 0.10, 0.075)
    things: list[Thing] = [
        box((x - 0.14, x + 0.14), (0, 4 * size), (depth - 0.14, depth + 0.14), "plain", bark),
        box((x - 0.7, x + 0.7), (0, 0.22), (depth - 0.7, depth + 0.7), "plain", (0.12, 0.10, 0.08)),
    ]
    for index in range(9):
        angle = 2.4 * index
        radius = 0.42 * numpy.sqrt(index) * size
        centre = [
            x + radius * numpy.cos(angle),
            (4.1 + 0.55 * (index % 4)) * size,
            depth + radius * numpy.sin(angle),
        ]
        green = float(rng.uniform(0.8, 1.2))
        colour = (0.115 * green, 0.185 * green, 0.05 * green)
        ball = Ball(as_single(centre), 1.05 * size, "leaves", colour, int(rng.integers(200)))
        things.append(ball)
    return things


def _furniture() -> list[Thing]:
    """Set out small things: a bench, litter bins, a kiosk, a letter box, a traffic sign."""
    wood, green, red = (0.28, 0.18, 0.1), (0.08, 0.17, 0.12), (0.45, 0.06, 0.05)
    return [
        box((-11.6, -11.0), (0.55, 0.65), (27, 29), "plain", wood),
        box((-11.6, -11.5), (0.65, 1.15), (27, 29), "plain", wood),
        box((-9.4, -8.9), (0.15, 1.1), (29.6, 30.1), "plain", green),
        box((9.1, 9.6), (0.15, 1.1), (44, 44.5), "plain", green),
        box((10.9, 11.7), (0.15, 1.6), (38, 38.6), "plain", red),
        box((-11.6, -9.6), (0.15, 2.7), (40.5, 43.5), "sign", (0.07, 0.14, 0.36), 4),
        box((9.06, 9.14), (0, 3.1), (30.6, 30.68), "plain", (0.3, 0.3, 0.3)),
        box((8.75, 9.45), (2.4, 3.1), (30.5, 30.6), "plain", (0.10, 0.22, 0.55)),
    ]
