"""Random texture: smooth noise over the plane, for paint, leaves and clouds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from gpufuse.scene.planes import Floats, as_single


@dataclass(frozen=True)
class Noise:
    """Smooth random texture of the plane, from a periodic table of 256 x 256 numbers in [0, 1)."""

    table: Floats

    def cell(self, column: Any, row: Any, salt: int = 0) -> Floats:
        """Return the random number of an integer cell."""
        column = numpy.asarray(column).astype(numpy.int32) + 37 * salt
        row = numpy.asarray(row).astype(numpy.int32) + 101 * salt
        found: Floats = self.table[column & 255, row & 255]
        return found

    def smooth(self, u: Floats, v: Floats) -> Floats:
        """Interpolate the cells around (u, v)."""
        column, row = numpy.floor(u), numpy.floor(v)
        fu, fv = u - column, v - row
        fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
        left, above = column.astype(numpy.int32) & 255, row.astype(numpy.int32) & 255
        right, below = (left + 1) & 255, (above + 1) & 255
        upper = self.table[left, above] * (1 - fu) + self.table[right, above] * fu
        lower = self.table[left, below] * (1 - fu) + self.table[right, below] * fu
        return as_single(upper * (1 - fv) + lower * fv)

    def fractal(self, u: Floats, v: Floats, octaves: int) -> Floats:
        """Sum octaves, each of double frequency and half the weight; about [0, 1], mean 0.5."""
        total = numpy.zeros(u.shape, numpy.float32)
        for octave in range(octaves):
            scale = 2**octave
            total += self.smooth(u * scale + 17 * octave, v * scale + 31 * octave) / scale
        return total / numpy.float32(2 - 2 ** (1 - octaves))
