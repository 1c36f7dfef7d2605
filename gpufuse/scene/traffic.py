"""What moves in the street: passing cars, one that stops, and a pedestrian, each as a function of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy

from gpufuse.scene.planes import Floats, Triple, ramp
from gpufuse.scene.solids import Ball, Thing, extrude, ordered
from gpufuse.scene.street import FACADES
from gpufuse.scene.vehicles import PAINTWORK, Lamp, car, car_lamps


@dataclass(frozen=True)
class Mover:
    """Something that moves along z.

    Attributes
    ----------
    x : float
        Its line, in metres.
    heading : int
        +1 away from the camera, -1 towards it.
    track : callable
        Centre z (metres) as a function of time (seconds).
    braking : callable
        Strength of the brake lights in [0, 1] as a function of time.
    parts : callable
        Its solids around the origin, as a function of time.
    lamps : tuple of Lamp
        Its lights; empty for a pedestrian.
    """

    x: float
    heading: int
    track: Callable[[float], float]
    parts: Callable[[float], Sequence[Thing]]
    lamps: tuple[Lamp, ...] = ()
    braking: Callable[[float], float] = field(default=lambda time: 0.0)

    def place(self, time: float) -> Floats:
        """Return its centre on the ground."""
        return numpy.array([self.x, 0.0, self.track(time)], numpy.float32)


LANES: tuple[tuple[float, int, float], ...] = (
    (1.75, 1, 13.5),
    (4.85, 1, 10.0),
    (-1.75, -1, 12.0),
    (-4.85, -1, 8.5),
)
"""Middle of each lane (metres), heading and speed (metres per second)."""


def movers_during(seed: int, seconds: float | Fraction) -> list[Mover]:
    """Return all that moves during a clip; more seconds only add to it."""
    movers = [_pedestrian(), _stopping_car()]
    for number, (x, heading, speed) in enumerate(LANES):
        rng = numpy.random.default_rng([seed, 10 + number])
        arrival = -FACADES / speed
        while arrival < seconds:
            colour = PAINTWORK[int(rng.integers(len(PAINTWORK)))]
            van = bool(rng.random() < 0.2)
            # One lane is left to the car that stops.
            if number != 1 or not -8 < arrival < 16:
                movers.append(_passing_car(x, heading, speed, arrival, colour, van))
            arrival += float(rng.uniform(3.8, 8.5))
    return movers


def _passing_car(x: float, heading: int, speed: float, arrival: float, colour: Triple, van: bool) -> Mover:
    entry = 6.0 if heading > 0 else FACADES
    parts = car(colour, heading, van=van)
    return Mover(
        x,
        heading,
        lambda t: entry + heading * speed * (t - arrival),
        lambda t: parts,
        car_lamps(heading, van),
    )


def _stopping_car() -> Mover:
    """Drive in, brake from 1 s to 3.5 s, wait until 7 s and set off again."""
    parts = car((0.05, 0.10, 0.28), 1, van=False)
    clock = numpy.linspace(-2, 40, 4201)
    speed = 9.0 * (1 - ramp(clock, 1.0, 3.5) + ramp(clock, 7.0, 11.0)).astype(numpy.float64)
    way = numpy.concatenate([[0.0], numpy.cumsum((speed[1:] + speed[:-1]) / 2) * 0.01]) - 3.0

    def track(time: float) -> float:
        return float(numpy.interp(time, clock, way)) + max(0.0, time - 40) * 9.0

    def braking(time: float) -> float:
        return float(ramp(time, 0.9, 1.2) * (1 - ramp(time, 7.0, 7.2)))

    return Mover(4.85, 1, track, lambda t: parts, car_lamps(1, van=False), braking)


def _pedestrian() -> Mover:
    """Send a person up and down the right pavement, past the first lamp."""

    def track(time: float) -> float:
        lap = (2.2 + 1.35 * time) % 20.0
        return 28.0 - (lap if lap < 10.0 else 20.0 - lap)

    def parts(time: float) -> Sequence[Thing]:
        coat, trousers = (0.30, 0.10, 0.08), (0.06, 0.07, 0.12)
        swing = 0.30 * float(numpy.sin(2 * numpy.pi * 0.95 * time))
        skin = Ball(numpy.array([0, 1.75, 0], numpy.float32), 0.13, "plain", (0.5, 0.34, 0.26))
        legs = [
            extrude(
                [(-0.09, 0.92), (0.09, 0.92), (sign * swing + 0.08, 0.15), (sign * swing - 0.08, 0.15)],
                "x", ordered(sign * 0.02, sign * 0.19), "plain", trousers,
            )
            for sign in (-1, 1)
        ]  # fmt: skip
        body = [(-0.22, 0.85), (0.22, 0.85), (0.27, 1.45), (0.12, 1.62), (-0.12, 1.62), (-0.27, 1.45)]
        return [extrude(body, "z", (-0.14, 0.14), "plain", coat), skin, *legs]

    return Mover(9.6, -1, track, parts)
