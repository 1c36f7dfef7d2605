"""Decode to encode, where this machine can."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from gpu.chip import Tools
from gpufuse import hardware, to_host


def obstacle() -> str | None:
    """What is missing for clips."""
    if importlib.util.find_spec("av") is None:
        return "PyAV, which reads and writes clips, is not installed"
    return None


def end_to_end(tools: Tools, size: tuple[int, int], frames: int) -> dict[str, Any]:
    """Enhance a clip that is made for it, twice by each decoder: the first time loads and compiles."""
    from gpufuse.enhance import enhance
    from gpufuse.video import ClipWriter

    height, width = size
    nvdec = hardware.nvdec_obstacle()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        night, day = Path(folder, "night.mp4"), Path(folder, "day.mp4")
        for path, count in ((night, frames), (day, 1)):
            with ClipWriter(path, width, height, Fraction(1, 25), 25) as writer:
                for first in range(0, count, 16):
                    piece = min(16, count - first)
                    levels = tools.scene(height, width, piece if path == night else 0, seed=first)
                    writer.write_chunk(to_host(levels), list(range(first, first + piece)))
        told: list[str] = []
        for decoder in ("software", "nvdec") if nvdec is None else ("software",):
            for _ in range(2):
                started = time.perf_counter()
                report = enhance(
                    night, day, Path(folder, "out.mp4"), device="cuda", decoder=decoder, overwrite=True
                )
                seconds[decoder] = time.perf_counter() - started
            told.append(report.summary())
    best = min(seconds.values())
    return {
        "size": f"{width}x{height}",
        "frames": report.frames,
        "seconds": best,
        "frames_per_second": report.frames / best,
        "frames_per_second_by_decoder": {name: report.frames / time for name, time in seconds.items()},
        "nvdec": nvdec or "found",
        "told": " / ".join(told),
    }
