"""Whole clips and pictures of the street, and the truth about what moves in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy

from gpufuse.scene.frames import day_frame, night_frame
from gpufuse.scene.layers import build_street
from gpufuse.scene.planes import Bools, Bytes
from gpufuse.scene.sensor import develop, expose, grey_levels, interleave
from gpufuse.scene.traffic import movers_during

RATE = Fraction(24)
"""Frames per second of a rendered clip."""


@dataclass(frozen=True)
class Scene:
    """A street by day and by night, and the truth about what moves in it.

    Attributes
    ----------
    day : ndarray, shape (H, W, 3), uint8
        The empty street by day, without noise.
    night : ndarray, shape (T, H, W, 3), uint8
        The clip as a sensor would deliver it, with noise.
    moving : ndarray, shape (T, H, W), bool
        Pixels mostly covered by a vehicle, a pedestrian or the disc of a vehicle's lamp.
    glow : ndarray, shape (T, H, W), bool
        Other pixels that differ from the empty night by more than 6 levels: halos, beams, reflections.
    clean_night : ndarray, shape (T, H, W, 3), uint8
        The clip without noise.
    empty_night : ndarray, shape (H, W, 3), uint8
        The night without traffic and without noise.
    lamps : ndarray, shape (H, W), bool
        Static light sources: street lamps, lit windows and signs.
    rate : fractions.Fraction
        Frames per second.
    """

    day: Bytes
    night: Bytes
    moving: Bools
    glow: Bools
    clean_night: Bytes
    empty_night: Bytes
    lamps: Bools
    rate: Fraction


def render_scene(*, width: int = 640, height: int = 360, frames: int = 96, seed: int = 2004) -> Scene:
    """Render the street by day and a clip of it by night.

    The same arguments give the same pixels; a shorter clip is the beginning of a longer one.

    Parameters
    ----------
    width, height : int
        Size of the pictures in pixels, 1 or more.
    frames : int
        Length of the clip, 0 or more, at `RATE`.
    seed : int
        Chooses houses, windows, traffic and noise; 0 or more.

    Returns
    -------
    Scene

    Raises
    ------
    TypeError, ValueError
        For an argument that is no integer, or one that is too small.

    Examples
    --------
    >>> scene = render_scene(width=32, height=18, frames=2)
    >>> scene.day.shape, scene.night.shape, scene.moving.shape
    ((18, 32, 3), (2, 18, 32, 3), (2, 18, 32))
    >>> bool(scene.day.mean() > 3 * scene.night.mean())
    True
    """
    _check(width=(width, 1), height=(height, 1), frames=(frames, 0), seed=(seed, 0))
    street = build_street(width, height, seed)
    empty = grey_levels(street.night)
    clean = numpy.empty((frames, height, width, 3), numpy.uint8)
    night = numpy.empty_like(clean)
    moving = numpy.zeros((frames, height, width), bool)
    glow = numpy.zeros_like(moving)
    sensor = numpy.random.default_rng([seed, 3])
    movers = movers_during(seed, frames / RATE)
    for index in range(frames):
        light, moving[index] = night_frame(street, movers, float(index / RATE))
        levels = grey_levels(light)
        clean[index] = interleave(levels)
        night[index] = interleave(expose(levels, sensor))
        levels -= empty
        red, green, blue = numpy.abs(levels, out=levels) > 6
        glow[index] = (red | green | blue) & ~moving[index]
    day = develop(street.day)
    return Scene(day, night, moving, glow, clean, interleave(empty), street.lamps, RATE)


def day_picture(*, width: int = 640, height: int = 360, seed: int = 2004) -> Bytes:
    """Render the empty street by day.

    Parameters
    ----------
    width, height, seed : int
        As for `render_scene`, whose ``day`` this is.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
    """
    _check(width=(width, 1), height=(height, 1), seed=(seed, 0))
    return develop(build_street(width, height, seed).day)


def day_frames(
    count: int, *, width: int = 640, height: int = 360, seed: int = 2004, step: float = 0.5
) -> Iterator[Bytes]:
    """Render a clip of the street by day, with traffic, from which a median makes the empty street.

    Parameters
    ----------
    count : int
        Number of frames, 0 or more.
    width, height, seed : int
        As for `render_scene`.
    step : float
        Seconds between frames, above 0. Half a second lets traffic move on, so that 30 frames suffice.

    Yields
    ------
    ndarray, shape (H, W, 3), uint8
        With a little sensor noise.

    Raises
    ------
    TypeError, ValueError
        For an argument that is no number of its kind, or one that is too small.
    """
    _check(count=(count, 0), width=(width, 1), height=(height, 1), seed=(seed, 0))
    if not 0 < step < numpy.inf:
        raise ValueError(f"step: expected seconds above 0, got {step!r}; try 0.5")
    return _day_clip(count, width, height, seed, step)


def _day_clip(count: int, width: int, height: int, seed: int, step: float) -> Iterator[Bytes]:
    street = build_street(width, height, seed)
    sensor = numpy.random.default_rng([seed, 4])
    movers = movers_during(seed + 1, count * step)
    for index in range(count):
        levels = grey_levels(day_frame(street, movers, index * step))
        yield interleave(expose(levels, sensor, strength=0.5))


def _check(**values: tuple[Any, int]) -> None:
    """Refuse what is no integer, or below its least value."""
    for name, (value, least) in values.items():
        if isinstance(value, bool) or not isinstance(value, int | numpy.integer):
            raise TypeError(f"{name}: expected an integer, got {type(value).__name__}; convert it with int")
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}; choose a larger number")
