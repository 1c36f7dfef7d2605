"""From linear light to grey levels: the tone curve, the noise of the sensor, rounding to an image."""

from __future__ import annotations

import numpy

from gpufuse.scene.planes import Bytes, Floats, as_column

READ_NOISE, SHOT_NOISE = (2.0, 1.7, 2.6), (0.055, 0.045, 0.075)
"""Noise per channel: levels in the dark, and variance added per level of brightness."""


def grey_levels(light: Floats) -> Floats:
    """Compress linear light (3, H, W) to grey levels: a soft shoulder, then gamma 2."""
    levels = numpy.negative(light)
    numpy.expm1(levels, out=levels)
    numpy.negative(levels, out=levels)
    numpy.sqrt(levels, out=levels)
    levels *= numpy.float32(255)
    return levels


def interleave(levels: Floats) -> Bytes:
    """Round planar levels to an image (H, W, 3)."""
    rounded = numpy.rint(levels)
    numpy.clip(rounded, 0, 255, out=rounded)
    image = numpy.empty((*levels.shape[1:], 3), numpy.uint8)
    for index, plane in enumerate(rounded):
        image[..., index] = plane
    return image


def develop(light: Floats) -> Bytes:
    """Turn linear light into an image (H, W, 3)."""
    return interleave(grey_levels(light))


def expose(levels: Floats, sensor: numpy.random.Generator, strength: float = 1.0) -> Floats:
    """Add sensor noise to planar levels, stronger where it is brighter and in blue."""
    read, shot = (as_column(pair, levels.ndim) for pair in (READ_NOISE, SHOT_NOISE))
    deviation = shot * levels
    deviation += read * read
    numpy.sqrt(deviation, out=deviation)
    deviation *= numpy.float32(strength)
    deviation *= sensor.standard_normal(levels.shape, dtype=numpy.float32)
    deviation += levels
    return deviation
