"""Stills that are read as a clip."""

from __future__ import annotations

import re
import zlib
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy

from gpufuse.arrays import Array, to_levels
from gpufuse.clip import ClipReader, FrameMark, Limits, OnResize
from gpufuse.damage import RESIZED, FileState, OnDamage
from gpufuse.decoded import scaled_frame
from gpufuse.errors import DamagedInputError, InputError
from gpufuse.stills import read_still, unreadable

__all__ = ["StillsReader"]


class StillsReader(ClipReader):
    """Stills as a clip; the time of still k is k / rate.

    Parameters
    ----------
    name : str
        What they are called together.
    paths : list of Path
        In order.
    rate : Fraction
        Stills per second.
    on_damage, limits, module, on_resize, checksums
        As in `gpufuse.video.open_clip`.

    Raises
    ------
    GpufuseError
        As `gpufuse.video.open_clip`.
    """

    def __init__(
        self,
        name: str,
        paths: list[Path],
        rate: Fraction,
        on_damage: OnDamage,
        limits: Limits,
        module: Any,
        *,
        on_resize: OnResize = "fail",
        checksums: bool = False,
    ) -> None:
        super().__init__(name, on_damage, limits, module, on_resize=on_resize, checksums=checksums)
        self.rate = rate
        self.time_base = 1 / rate
        self.frame_count_hint = len(paths)
        self._check_limits(len(paths), len(paths) / rate)
        self._paths = deque(enumerate(paths))
        self._single = len(paths) == 1
        self._ready: tuple[int, numpy.ndarray] | None = None
        self.width = self.height = 0
        if not self._fill():
            raise InputError(
                f"{name}: expected at least one readable picture, found none; repair or fetch them again"
            )

    def _advance(self) -> bool:
        return self._fill() and self._size_of_ready() == (self.width, self.height)

    def _size_of_ready(self) -> tuple[int, int]:
        assert self._ready is not None
        height, width = self._ready[1].shape[:2]
        return width, height

    def _fill(self) -> bool:
        while self._ready is None and self._paths:
            index, path = self._paths.popleft()
            image = self._read(path)
            if image is None:
                continue
            size = image.shape[1], image.shape[0]
            if not self.width:
                self.width, self.height = size
            if size != (self.width, self.height):
                if self._on_resize == "fail":
                    self._record.report(
                        f"pictures of one size, {self.width}x{self.height}",
                        f"the size changed to {size[0]}x{size[1]}", at=path.name, remedy=RESIZED,
                    )  # fmt: skip
                    continue
                if self._on_resize == "scale":
                    image = _scaled(image, (self.width, self.height))
                    self._note_scaled(size, path.name)
            self._ready = (index, image)
        return self._ready is not None

    def _read(self, path: Path) -> numpy.ndarray | None:
        try:
            state = FileState.of(path)
            image = read_still(path, max_pixels=self._limits.max_pixels)
        except (DamagedInputError, OSError) as error:
            wrong = error if isinstance(error, DamagedInputError | InputError) else unreadable(path, error)
            if self._single and isinstance(wrong, InputError):
                raise wrong from error
            found = re.sub(f"^{re.escape(path.name)}: expected [^,]*, found |; [^;]*$", "", str(wrong))
            self._record.report("whole pictures", f"{path.name}: {found}", cause=wrong)
            return None
        if change := state.change(path):
            self._record.report("files that stay as they are", change, at=path.name)
        return image

    def _next_part(self) -> bool:
        if self._ready is None:
            return False
        self.width, self.height = self._size_of_ready()
        return True

    def _mark(self) -> FrameMark:
        assert self._ready is not None
        pts, image = self._ready
        return FrameMark(pts, True, zlib.crc32(numpy.ascontiguousarray(image).data))

    def _drop(self) -> None:
        self._ready = None

    def _jump(self, pts: int) -> bool:
        if self._ready is None or self._ready[0] < pts:
            self._ready = None
            while self._paths and self._paths[0][0] < pts:
                self._paths.popleft()
        return True

    def _take(self, out: Array) -> int:
        assert self._ready is not None
        (pts, image), self._ready = self._ready, None
        out[...] = to_levels(self._module.asarray(image))  # grey becomes three equal channels
        return pts


def _scaled(image: numpy.ndarray, size: tuple[int, int]) -> numpy.ndarray:
    """Bring a still to another size, (width, height), as the frames of a clip are."""
    import av

    deep = image.dtype == numpy.uint16
    name = ("gray16le" if deep else "gray") if image.ndim == 2 else ("rgb48le" if deep else "rgb24")
    frame = av.VideoFrame.from_ndarray(numpy.ascontiguousarray(image), format=name)
    frame.color_range = 2  # all codes are used
    scaled: numpy.ndarray = scaled_frame(frame, size).to_ndarray()
    return scaled
