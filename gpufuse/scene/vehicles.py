"""Cars and vans around the origin: bodies and lamps, whether parked or in traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from gpufuse.scene.planes import Floats, Triple
from gpufuse.scene.solids import Solid, extrude

PAINTWORK: tuple[Triple, ...] = (
    (0.40, 0.05, 0.04),
    (0.05, 0.10, 0.28),
    (0.55, 0.56, 0.58),
    (0.04, 0.04, 0.045),
    (0.62, 0.60, 0.55),
    (0.07, 0.17, 0.12),
    (0.20, 0.21, 0.23),
)

WHITE = numpy.array([1.0, 0.93, 0.80], numpy.float32)
RED = numpy.array([1.0, 0.06, 0.03], numpy.float32)


def car(colour: Triple, heading: int, *, van: bool) -> list[Solid]:
    """Build a car, or a van, around the origin, its nose towards `heading` (+1 or -1 along z)."""
    dark, glass = (0.02, 0.02, 0.02), (0.05, 0.06, 0.07)
    if van:
        body = [(-2.5, 0.35), (-2.5, 1.25), (1.9, 1.25), (2.45, 1.0), (2.5, 0.35)]
        cabin = [(-2.45, 1.25), (-2.35, 2.2), (1.0, 2.2), (1.95, 1.25)]
        roof = [(-2.4, 2.1), (-2.35, 2.3), (0.9, 2.3), (1.05, 2.1)]
        width, glazing, paint = 0.97, colour, "plain"
    else:
        body = [(-2.1, 0.3), (-2.15, 0.7), (-2.05, 0.95), (0.9, 0.95), (2.0, 0.75), (2.12, 0.3)]
        cabin = [(-1.95, 0.94), (-1.25, 1.43), (0.15, 1.43), (0.98, 0.94)]
        roof = [(-1.25, 1.38), (-1.2, 1.48), (0.1, 1.48), (0.22, 1.38)]
        width, glazing, paint = 0.88, glass, "glass"

    def part(outline: list[tuple[float, float]], half: float, material: str, tint: Triple) -> Solid:
        return extrude([(heading * z, y) for z, y in outline], "x", (-half, half), material, tint)

    parts = [
        part(body, width, "bodywork", colour),
        part(cabin, width - 0.12, paint, glazing),
        part(roof, width - 0.16, "bodywork", colour),
    ]
    if van:
        parts.append(part([(1.05, 1.35), (1.05, 2.05), (1.22, 2.05), (1.92, 1.35)], 0.8, "glass", glass))
    angles = numpy.radians(numpy.arange(0, 360, 45))
    for centre in (-1.35, 1.35):
        wheel = [(centre + 0.34 * float(numpy.cos(a)), 0.34 + 0.34 * float(numpy.sin(a))) for a in angles]
        parts.append(part(wheel, width + 0.02, "plain", dark))
    return parts


@dataclass(frozen=True)
class Lamp:
    """A lamp of a vehicle, relative to its centre."""

    place: Floats
    colour: Floats
    radius: float
    reach: float
    facing: int


def car_lamps(heading: int, van: bool) -> tuple[Lamp, ...]:
    """Return the head and tail lamps of a car, or a van, that heads +1 or -1 along z."""
    height, half = (0.85, 0.72) if van else (0.66, 0.64)
    front, rear = (2.5, -2.52) if van else (2.1, -2.16)
    lamps = []
    for x in (-half, half):
        head = numpy.array([x, height, heading * front], numpy.float32)
        tail = numpy.array([x, height + 0.12, heading * rear], numpy.float32)
        lamps += [Lamp(head, 9 * WHITE, 0.10, 22.0, heading), Lamp(tail, 2.2 * RED, 0.09, 5.0, -heading)]
    return tuple(lamps)
