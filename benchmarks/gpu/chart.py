"""A chart of a report as a PNG picture, drawn with NumPy alone: a bare machine has nothing else."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy

from gpu.costs import GOALS, SIZES
from gpu.timing import duration

WIDTH, HEIGHT = 1500, 760
INK, GREY, PALE = (30, 30, 30), (120, 120, 120), (225, 225, 225)
COLOURS = {"memory": (58, 117, 175), "issue": (221, 132, 59), "special": (91, 153, 84), "latency": GREY}

# The usual dot-matrix characters of 5 x 7 points, from the space on: a byte is a column, its lowest bit on top.
_POINTS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300 001c224100 0041221c00"
    "2a1c7f1c2a 08083e0808 0080703000 0808080808 0000606000 2010080402 3e5149453e 00427f4000 7249494946 2141494d33"
    "1814127f10 2745454539 3c4a494931 4121110907 3649494936 464949291e 0000140000 0040340000 0008142241 1414141414"
    "0041221408 0201590906 3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e41415173"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f021c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e"
    "7f09192946 2649494932 03017f0103 3f4040403f 1f2040201f 3f4038403f 6314081463 0304780403 6159494d43 007f414141"
    "0204081020 004141417f 0402010204 4040404040 0003070800 2054547840 7f28444438 3844444428 384444287f 3854545418"
    "00087e0902 18a4a49c78 7f08040478 00447d4000 2040403d00 7f10284400 00417f4000 7c04780478 7c08040478 3844444438"
    "fc18242418 18242418fc 7c08040408 4854545424 04043f4424 3c4040207c 1c2040201c 3c4030403c 4428102844 4c9090907c"
    "4464544c44 0008364100 0000770000 0041360800 0201020402"
)


class Canvas:
    """A picture with rectangles and letters."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = numpy.full((height, width, 3), 255, numpy.uint8)

    def box(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        rows, columns = (
            slice(round(top), max(round(bottom), round(top) + 1)),
            slice(round(left), round(right)),
        )
        self.pixels[rows, columns] = colour

    def text(
        self,
        x: float,
        y: float,
        words: str,
        colour: tuple[int, int, int] = INK,
        *,
        scale: int = 2,
        align: float = 0.0,
    ) -> None:
        """Write with the top left corner at (x, y); an `align` of 1 puts the right one there."""
        left = round(x - align * (6 * scale * len(words) - scale))
        for k, letter in enumerate(words):
            code = ord(letter) - 32 if " " <= letter <= "~" else ord("?") - 32
            columns = numpy.frombuffer(_POINTS[5 * code : 5 * code + 5], numpy.uint8)
            points = (columns[None, :] >> numpy.arange(8)[:, None]) & 1
            big = numpy.kron(points, numpy.ones((scale, scale), numpy.uint8)).astype(bool)
            start = left + 6 * scale * k
            area = self.pixels[round(y) : round(y) + 8 * scale, max(start, 0) : start + 5 * scale]
            area[big[: area.shape[0], : area.shape[1]]] = colour

    def png(self) -> bytes:
        height, width = self.pixels.shape[:2]
        rows = numpy.concatenate(
            [numpy.zeros((height, 1), numpy.uint8), self.pixels.reshape(height, -1)], axis=1
        )
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows.tobytes(), 9)),
            (b"IEND", b""),
        ]
        chunks = [
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in parts
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chart(data: Mapping[str, Any]) -> bytes:
    """Share of the ceiling of each kernel, and frames a second of the chain against the size."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text(40, 24, f"gpufuse on {data['device']}", scale=3)
    canvas.text(40, 60, f"{data['facts']['date']}, gpufuse {data['facts']['gpufuse']}", GREY)
    _shares(canvas, data.get("kernels", []))
    _speeds(canvas, data.get("chain", []))
    return canvas.png()


def _shares(canvas: Canvas, kernels: list[dict[str, Any]]) -> None:
    sizes = [size for size in ("1080p", *SIZES) if any(entry["size"] == size for entry in kernels)]
    if not sizes:
        return
    best: dict[str, dict[str, Any]] = {}
    for entry in kernels:
        known = best.get(entry["work"])
        if entry["size"] == sizes[0] and (
            known is None or entry["seconds_per_frame"] < known["seconds_per_frame"]
        ):
            best[entry["work"]] = entry
    left, top, step, length = 280, 140, 42, 380
    canvas.text(40, 104, f"Share of the ceiling at {sizes[0]}, best batch")
    for percent in (0, 25, 50, 75, 100):
        x = left + length * percent / 100
        canvas.box(x, top, x + 1, top + step * len(best), PALE)
        canvas.text(x, top + step * len(best) + 8, f"{percent} %", GREY, align=0.5)
    for row, (work, entry) in enumerate(best.items()):
        y = top + step * row + 8
        share = min(entry["share_of_ceiling"], 1.1)
        canvas.text(left - 12, y + 5, work, align=1.0)
        canvas.box(left, y, left + length * share, y + 26, COLOURS[entry["limit"]])
        canvas.text(left + length * share + 8, y + 5, duration(entry["seconds_per_frame"]), GREY)
    x = left
    for limit in ("memory", "issue", "special"):
        canvas.box(x, top + step * len(best) + 44, x + 18, top + step * len(best) + 60, COLOURS[limit])
        canvas.text(x + 26, top + step * len(best) + 45, limit)
        x += 140


def _speeds(canvas: Canvas, chain: list[dict[str, Any]]) -> None:
    left, top, width, height = 880, 140, 560, 500
    canvas.text(left - 60, 104, "Whole chain without codecs, frames a second")
    fastest = {
        size: max(entry["frames_per_second"] for entry in chain if entry["size"] == size)
        for size in SIZES
        if any(entry["size"] == size for entry in chain)
    }
    goals = {goal.size: goal.limit for goal in GOALS if goal.what == "frames_per_second"}
    if not fastest:
        return
    values = [*fastest.values(), *(goals[size] for size in fastest if size in goals)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def level(value: float) -> float:
        return top + height * (high - math.log10(value)) / (high - low)

    for power in range(low, high + 1):
        canvas.box(left, level(10**power), left + width, level(10**power) + 1, PALE)
        canvas.text(left - 10, level(10**power) - 7, f"{10**power:,.{max(0, -power)}f}", GREY, align=1.0)
    for k, (size, value) in enumerate(fastest.items()):
        x = left + width * (k + 0.5) / len(fastest)
        canvas.box(x - 40, level(value), x + 40, top + height, COLOURS["memory"])
        canvas.text(x, level(value) - 20, f"{value:,.0f}", align=0.5)
        canvas.text(x, top + height + 10, size, align=0.5)
        if size in goals:
            canvas.box(x - 56, level(goals[size]), x + 56, level(goals[size]) + 4, COLOURS["issue"])
    canvas.box(left, top + height + 44, left + 18, top + height + 48, COLOURS["issue"])
    canvas.text(left + 26, top + height + 39, "goal")
