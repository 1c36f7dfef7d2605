"""A rendered street, by day and by night, whose moving things are known exactly.

One fixed camera on a mast looks down a street. A small ray caster finds what every pixel sees (depth,
normal, colour); the same surfaces are then lit twice, by sun and sky for the day and by street lamps for
the night. Traffic is drawn over these static layers, frame by frame, and its pixels are the known truth.

World coordinates are metres: x to the right, y up, z down the street; the camera stands above the origin.
Pictures inside are planar, linear light, ``(3, H, W) float32``; only `sensor` makes grey levels of them.

The files, each of which imports only from those before it: `planes`, `noise`, `sensor`, `camera`, `light`,
`solids`, `vehicles`, `street`, `traffic`, `casting`, `paint`, `layers`, `frames`, `render`.
"""

from __future__ import annotations

from gpufuse.scene.render import RATE, Scene, day_frames, day_picture, render_scene

__all__ = ["RATE", "Scene", "day_frames", "day_picture", "render_scene"]
