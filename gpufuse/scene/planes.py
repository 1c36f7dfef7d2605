"""Planar pictures, ``(3, H, W) float32``: their types and the arithmetic that every other file shares."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[numpy.float32]
Bools: TypeAlias = NDArray[numpy.bool_]
Bytes: TypeAlias = NDArray[numpy.uint8]
Triple: TypeAlias = tuple[float, float, float]


def as_single(values: Any) -> Floats:
    """Return single precision, copying only what has another type."""
    return numpy.asarray(values, numpy.float32)


def as_column(triple: Any, ndim: int) -> Floats:
    """Shape three numbers so that they multiply a planar array."""
    return as_single(triple).reshape((3,) + (1,) * (ndim - 1))


def dot(vector: Floats, planes: Floats) -> Floats:
    """Multiply a vector with a planar field of vectors; axis-aligned vectors cost one product."""
    products = [value * plane for value, plane in zip(vector, planes, strict=True) if value != 0]
    total = products[0] if products else numpy.zeros(planes.shape[1:])
    for product in products[1:]:
        total += product
    return as_single(total)


def inner(first: Floats, second: Floats) -> Floats:
    """Multiply two planar fields of vectors, point by point."""
    total: Floats = first[0] * second[0]
    total += first[1] * second[1]
    total += first[2] * second[2]
    return total


def ramp(values: Any, low: float, high: float) -> Floats:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    share = numpy.minimum(numpy.maximum((values - low) / (high - low), 0), 1)
    return as_single(share * share * (3 - 2 * share))


def shrink(fine: Floats, factor: int) -> Floats:
    """Average blocks of factor x factor samples."""
    total = numpy.zeros_like(fine[..., ::factor, ::factor])
    for row in range(factor):
        for column in range(factor):
            total += fine[..., row::factor, column::factor]
    return total / numpy.float32(factor * factor)
