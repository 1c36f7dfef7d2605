"""The camera: rays through pixels, points on pixels, and windows of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy

from gpufuse.scene.planes import Floats, as_single

Window: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes
    ----------
    width, height : int
        Pixels.
    focal : float
        Focal length in pixels.
    position : ndarray, shape (3,)
        Metres.
    axes : ndarray, shape (3, 3)
        Unit vectors right, down and forward, as rows.
    """

    width: int
    height: int
    focal: float
    position: Floats
    axes: Floats

    def finer(self, factor: int) -> Camera:
        """Return the same camera with more pixels."""
        return replace(
            self, width=self.width * factor, height=self.height * factor, focal=self.focal * factor
        )

    def rays(self, window: Window) -> Floats:
        """Return directions (3, h, w) of depth 1 through the centres of the pixels of a window."""
        rows, columns = window
        down = (numpy.arange(rows.start, rows.stop) + 0.5 - self.height / 2) / self.focal
        right = (numpy.arange(columns.start, columns.stop) + 0.5 - self.width / 2) / self.focal
        axes = self.axes[:, :, None, None]
        directions = axes[0] * right[None, None, :] + axes[1] * down[None, :, None] + axes[2]
        return as_single(directions)

    def project(self, points: Any) -> tuple[Any, Any, Any]:
        """Return column, row (pixels, may lie outside) and depth (metres) of points (..., 3)."""
        turned = (numpy.asarray(points) - self.position) @ self.axes.T
        right, down, depth = turned[..., 0], turned[..., 1], turned[..., 2]
        depth_or_near = numpy.maximum(depth, 1e-3)
        column = self.width / 2 + self.focal * right / depth_or_near
        return column, self.height / 2 + self.focal * down / depth_or_near, depth

    def window(self, corners: Any, align: int = 1) -> Window:
        """Return the pixels that may see something inside the hull of `corners` (N, 3)."""
        columns, rows, depth = self.project(corners)
        if depth.max() < 0.3:
            return slice(0, 0), slice(0, 0)
        if depth.min() < 0.3:
            return slice(0, self.height), slice(0, self.width)
        return pixel_span(rows, self.height, align), pixel_span(columns, self.width, align)


def pixel_span(values: Any, size: int, align: int) -> slice:
    """Return the aligned range of pixels that holds all values."""
    start = max(0, math.floor(values.min() / align) * align)
    stop = min(size, math.ceil(values.max() / align) * align)
    return slice(min(start, size), max(stop, min(start, size)))


def is_empty(window: Window) -> bool:
    """Tell whether a window holds no pixel."""
    rows, columns = window
    return bool(rows.start >= rows.stop or columns.start >= columns.stop)


def mast_camera(width: int, height: int) -> Camera:
    """Hang the camera over the street so that pictures of any shape show the middle of the view."""
    pitch, yaw = numpy.radians(9.0), numpy.radians(1.5)
    forward = [numpy.sin(yaw) * numpy.cos(pitch), -numpy.sin(pitch), numpy.cos(yaw) * numpy.cos(pitch)]
    right = [numpy.cos(yaw), 0.0, -numpy.sin(yaw)]
    axes = as_single([right, numpy.cross(right, forward), forward])
    position = as_single([-1.6, 8.2, 0.0])
    return Camera(width, height, 0.80 * max(width, height * 16 / 9), position, axes)
