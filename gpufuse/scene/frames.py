"""Single frames: traffic with its shadows, beams and glare, drawn over the static layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy

from gpufuse.scene.camera import is_empty, pixel_span
from gpufuse.scene.casting import Hits, cast
from gpufuse.scene.layers import SUPERSAMPLING, Street
from gpufuse.scene.light import SUN, lampshine, moonshine, skyshine, sunshine
from gpufuse.scene.paint import paint_hits
from gpufuse.scene.planes import Bools, Floats, as_column, inner, ramp, shrink
from gpufuse.scene.street import FACADES, LAMP_POSTS, lamp_place
from gpufuse.scene.traffic import Mover


def night_frame(street: Street, movers: Sequence[Mover], time: float) -> tuple[Floats, Bools]:
    """Return the light of one night frame and its moving pixels."""
    light = street.night.copy()
    moving = numpy.zeros(street.depth.shape, bool)
    seen = _far_to_near(movers, time)
    for mover in seen:
        _add_beams(light, street, mover, time)
    for mover in seen:
        _draw_body(light, moving, street, mover, time, _night_body)
        _add_glare(light, moving, street, mover, time)
    return light, moving


def day_frame(street: Street, movers: Sequence[Mover], time: float) -> Floats:
    """Return the light of one day frame."""
    light = street.day.copy()
    moving = numpy.zeros(street.depth.shape, bool)
    seen = _far_to_near(movers, time)
    for mover in seen:
        _cast_shadow(light, street, mover, time)
    for mover in seen:
        _draw_body(light, moving, street, mover, time, _day_body)
    return light


def _far_to_near(movers: Sequence[Mover], time: float) -> list[Mover]:
    seen = [mover for mover in movers if 4.0 < mover.track(time) < FACADES]
    return sorted(seen, key=lambda mover: -mover.track(time))


def _night_body(hits: Hits, colour: Floats) -> Floats:
    """Light a vehicle by the moon and by the two nearest street lamps."""
    middle = float(hits.point[2][hits.which >= 0].mean())
    nearest = sorted(LAMP_POSTS, key=lambda post: abs(post[1] - middle))[:2]
    lamps = lampshine(hits.point, hits.normal, [lamp_place(*post) for post in nearest])
    return colour * (moonshine(hits.normal) + lamps)


def _day_body(hits: Hits, colour: Floats) -> Floats:
    # The left carriageway lies in the shade of the houses.
    sunny = ramp(hits.point[0] + 0.5 * hits.point[1], -3.5, -2.5)
    return colour * (sunshine(hits.normal) * sunny + skyshine(hits.normal, hits.point[1]))


def _draw_body(
    light: Floats,
    moving: Bools,
    street: Street,
    mover: Mover,
    time: float,
    illuminate: Callable[[Hits, Floats], Floats],
) -> None:
    """Draw the solids of a mover in place, with soft edges, behind whatever stands in front of it."""
    place = mover.place(time)
    parts = mover.parts(time)
    # Far away, wheels are smaller than a pixel.
    things = [part.moved(place) for part in (parts if place[2] < 80 else parts[:3])]
    fine = street.camera.finer(SUPERSAMPLING)
    window = fine.window(numpy.concatenate([thing.corners for thing in things]), SUPERSAMPLING)
    if is_empty(window):
        return
    hits = cast(fine, window, things, street.noise)
    rows, columns = (slice(s.start // SUPERSAMPLING, s.stop // SUPERSAMPLING) for s in window)
    behind = street.depth[rows, columns].repeat(SUPERSAMPLING, 0).repeat(SUPERSAMPLING, 1)
    visible = (hits.which >= 0) & (hits.depth < behind + 0.5)
    if not visible.any():
        return
    colour, _ = paint_hits(hits, things, street.noise)
    drawn = shrink(illuminate(hits, colour) * visible, SUPERSAMPLING)
    cover = shrink(visible.astype(numpy.float32), SUPERSAMPLING)
    light[:, rows, columns] *= 1 - cover
    light[:, rows, columns] += drawn
    moving[rows, columns] |= cover >= 0.5


def _cast_shadow(light: Floats, street: Street, mover: Mover, time: float) -> None:
    """Take the sun from the ground around a mover, in place."""
    place = mover.place(time)
    things = [part.moved(place) for part in mover.parts(time)]
    corners = numpy.concatenate([thing.corners for thing in things])
    rows, columns = street.camera.window(numpy.concatenate([corners, corners - 3 * SUN * [1, 0, 1]]))
    if is_empty((rows, columns)):
        return
    points = street.point[:, rows, columns]
    shaded = numpy.zeros(points.shape[1:], bool)
    for thing in things:
        shaded |= thing.shades(points)
    light[:, rows, columns] -= street.sun[:, rows, columns] * shaded


def _add_beams(light: Floats, street: Street, mover: Mover, time: float) -> None:
    """Light the surfaces in front of a vehicle's lamps, in place; both lamps of a pair as one."""
    brakes = 1 + 2 * mover.braking(time)
    for lamp in mover.lamps[:2]:
        tail = lamp.reach < 10
        place = mover.place(time) + lamp.place * numpy.array([0, 1, 1], numpy.float32)
        wide = 2.5 if tail else 5.0
        # Nothing nearer than 8 m is in the picture.
        ahead = numpy.maximum(place[2] + lamp.facing * numpy.array([0.0, lamp.reach]), 8.0)
        corners = [[x, y, z] for x in (place[0] - wide, place[0] + wide) for y in (0, 1) for z in ahead]
        rows, columns = street.camera.window(corners)
        if is_empty((rows, columns)) or (tail and place[2] > 90):
            continue
        away = street.point[:, rows, columns] - as_column(place, 3)
        forward = lamp.facing * away[2]
        square = inner(away, away) + 0.8
        facing = numpy.maximum(-inner(away, street.normal[:, rows, columns]) / numpy.sqrt(square), 0)
        spread = away[0] / (0.9 + (0.5 if tail else 0.14) * numpy.maximum(forward, 0))
        beam = numpy.exp(-spread * spread) * ramp(forward, 0.0, 1.2) * ramp(-forward, -lamp.reach, -1)
        # Dipped lights: little goes above the lamp itself.
        beam *= 1 if tail else 0.10 + 0.90 * ramp(-away[1] - 0.008 * forward, -0.1, 0.25)
        pool = beam * facing / square**0.4 * numpy.float32(0.22 * brakes if tail else 1.9)
        light[:, rows, columns] += street.colour[:, rows, columns] * pool * as_column(lamp.colour, 3)


def _add_glare(light: Floats, moving: Bools, street: Street, mover: Mover, time: float) -> None:
    """Draw the lamps that face the camera, their halos and their reflections on the road, in place."""
    camera = street.camera
    brakes = 1 + 2.5 * mover.braking(time)
    for lamp in mover.lamps:
        place = mover.place(time) + lamp.place
        column, row, depth = camera.project(place)
        inside = 0 <= column < camera.width and 0 <= row < camera.height and depth > 1
        if lamp.facing > 0 or not inside or street.depth[int(row), int(column)] < depth - 0.5:
            continue
        radius = max(0.45, camera.focal * lamp.radius / depth)
        strength = lamp.colour * numpy.float32(brakes if lamp.reach < 10 else 1.0)
        # A lamp smaller than a pixel fills it only in part.
        strength = strength * min(1.0, (camera.focal * lamp.radius / depth / 0.45) ** 2 + 0.15)
        disc = _spot(light, (row, column), (radius, radius), strength, halo=0.06)
        rows, columns, share = disc
        moving[rows, columns] |= share > 0.35
        below = camera.project(place * numpy.array([1, -0.6, 1], numpy.float32))
        _spot(
            light, (below[1], below[0]), (3.2 * radius, 1.1 * radius), strength * numpy.float32(0.02), halo=0
        )


def _spot(
    light: Floats, centre: tuple[float, float], radii: tuple[float, float], strength: Floats, halo: float
) -> tuple[slice, slice, Floats]:
    """Add a soft disc and its halo in place; return its window and the disc's share of each pixel."""
    height, width = light.shape[1:]
    reach = 3 + (14 if halo else 3) * max(radii)
    rows = pixel_span(numpy.array([centre[0] - reach, centre[0] + reach]), height, 1)
    columns = pixel_span(numpy.array([centre[1] - reach, centre[1] + reach]), width, 1)
    down = (numpy.arange(rows.start, rows.stop, dtype=numpy.float32) + 0.5 - centre[0]) / radii[0]
    right = (numpy.arange(columns.start, columns.stop, dtype=numpy.float32) + 0.5 - centre[1]) / radii[1]
    square = (down * down)[:, None] + (right * right)[None, :]
    disc = numpy.exp(-square)
    shine = disc
    if halo:
        fade = numpy.maximum(1 - numpy.sqrt(square) * max(radii) / reach, 0) ** 2
        shine = disc + halo * fade / (1 + 0.15 * square)
    light[:, rows, columns] += as_column(strength, 3) * shine
    return rows, columns, disc.astype(numpy.float32)
