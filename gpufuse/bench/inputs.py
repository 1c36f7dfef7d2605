"""Inputs of every size: the rendered street, whose truth is known; the same arguments give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy

from gpufuse.arrays import to_levels
from gpufuse.bench.poisson import exact_solution
from gpufuse.bench.records import Size
from gpufuse.mixing import mixed_divergence
from gpufuse.scene import Scene, day_frames, render_scene
from gpufuse.scene.sensor import expose, interleave
from gpufuse.video import ClipWriter, write_still

__all__ = ["TINY", "Lengths", "Pictures"]

TINY = Size(64, 48)
"""What competitors warm up with."""


@dataclass(frozen=True)
class Lengths:
    """Frames of the clips: to denoise, for the plate, for the whole job."""

    denoise: int
    plate: int
    job: int

    @classmethod
    def of(cls, size: Size, *, short: bool) -> Lengths:
        """Fewer for larger pictures, so that all sizes take their turn.

        Examples
        --------
        >>> Lengths.of(Size(320, 240), short=False)
        Lengths(denoise=8, plate=31, job=72)
        """
        if size == TINY:
            return cls(5, 5, 6)
        room = 72 * 320 * 240 // size.pixels
        job = max(8, min(72, 4 * room))
        return cls(
            8 if size.pixels < 500_000 and not short else 5,
            31 if size.pixels < 4_000_000 else 15,
            job if not short else min(job, 24),
        )

    def of_kind(self, kind: str) -> int:
        """Frames that a run of some kind of work takes; a picture is one."""
        return {"denoise": self.denoise, "plate": self.plate, "job": self.job}.get(kind, 1)


class Pictures:
    """Writes inputs of any size; renders up to a width, and enlarges what is wider.

    Parameters
    ----------
    widest : int
        Rendering takes time in proportion to the pixels; what is wider than this is enlarged from a rendering
        of this width, and given the noise of the sensor at its own size.
    """

    def __init__(self, widest: int) -> None:
        self._widest = widest
        self._scenes: dict[Size, Scene] = {}
        self._days: dict[Size, numpy.ndarray] = {}

    def rendered_size(self, size: Size) -> Size:
        """Size at which the street is rendered for pictures of some size."""
        if size.width <= self._widest:
            return size
        return Size(self._widest, max(1, round(self._widest * size.height / size.width)))

    def write(self, folder: Path, size: Size, kinds: set[str], lengths: Lengths) -> None:
        """Write the inputs of some kinds of work into a new folder."""
        folder.mkdir(parents=True)
        noise = numpy.random.default_rng([2004, size.width, size.height])
        base = self.rendered_size(size)
        if kinds - {"plate"}:
            scene = self._scene(base, max(lengths.job if "job" in kinds else 1, lengths.denoise))
            night = scene.night if base == size else None
            day = _enlarged(scene.day, size)
            numpy.save(folder / "day.npy", day)
        if "poisson" in kinds:
            frame = night[0] if night is not None else _noisy(_enlarged(scene.clean_night[0], size), noise)
            self._write_poisson(folder, day, frame, scene)
        if "denoise" in kinds:
            clean = numpy.stack([_enlarged(frame, size) for frame in scene.clean_night[: lengths.denoise]])
            noisy = (
                night[: lengths.denoise]
                if night is not None
                else numpy.stack([_noisy(frame, noise) for frame in clean])
            )
            numpy.save(folder / "clean.npy", clean)
            numpy.save(folder / "noisy.npy", noisy)
        if "plate" in kinds:
            self._write_plate(folder, size, lengths.plate, noise)
        if "job" in kinds:
            self._write_job(folder, size, day, scene, lengths.job, noise)

    def _scene(self, base: Size, frames: int) -> Scene:
        known = self._scenes.get(base)
        if known is None or len(known.night) < frames:
            known = render_scene(width=base.width, height=base.height, frames=frames)
            self._scenes[base] = known
        return known

    def _write_poisson(self, folder: Path, day: numpy.ndarray, night: numpy.ndarray, scene: Scene) -> None:
        """The right-hand side that fusion has to solve."""
        lights = (scene.moving | scene.glow).mean(axis=0, dtype=numpy.float32)
        weights = _enlarged(
            (255 * lights).astype(numpy.uint8), Size(day.shape[1], day.shape[0])
        ) / numpy.float32(255)
        rhs = mixed_divergence(to_levels(day), to_levels(night), weights, larger_where_zero=True)
        numpy.save(folder / "night.npy", night)
        numpy.save(folder / "rhs.npy", rhs)
        numpy.save(folder / "exact.npy", exact_solution(rhs))

    def _write_plate(self, folder: Path, size: Size, count: int, noise: numpy.random.Generator) -> None:
        base = self.rendered_size(size)
        known = self._days.get(base)
        if known is None or len(known) < count:
            known = numpy.stack(list(day_frames(count, width=base.width, height=base.height)))
            self._days[base] = known
        frames = known[:count]
        if base != size:
            frames = numpy.stack([_noisy(_enlarged(frame, size), noise, 0.5) for frame in frames])
        numpy.save(folder / "day_frames.npy", frames)
        empty = self._scene(base, 1) if not (folder / "day.npy").exists() else None
        plate = _enlarged(empty.day, size) if empty is not None else numpy.load(folder / "day.npy")
        numpy.save(folder / "plate.npy", plate)

    def _write_job(
        self,
        folder: Path,
        size: Size,
        day: numpy.ndarray,
        scene: Scene,
        count: int,
        noise: numpy.random.Generator,
    ) -> None:
        write_still(folder / "day.png", day)
        with ClipWriter(
            folder / "night.mp4", size.width, size.height, Fraction(1) / scene.rate, scene.rate, crf=12
        ) as clip:
            for index in range(count):
                frame = scene.night[index]
                if self.rendered_size(size) != size:
                    frame = _noisy(_enlarged(scene.clean_night[index], size), noise)
                clip.write_chunk(to_levels(frame[None], leading=1), [index])
        known = self.rendered_size(size) == size
        moving = scene.moving[:count] if known else numpy.zeros((count, 1, 1), bool)
        numpy.save(folder / "moving.npy", moving)
        if known:
            numpy.save(folder / "glow.npy", scene.glow[:count])
            numpy.save(folder / "job_clean.npy", scene.clean_night[:count])


def _enlarged(picture: numpy.ndarray, size: Size) -> numpy.ndarray:
    if picture.shape[:2] == (size.height, size.width):
        return picture
    from PIL import Image

    return numpy.asarray(Image.fromarray(picture).resize((size.width, size.height), Image.Resampling.BICUBIC))


def _noisy(picture: numpy.ndarray, noise: numpy.random.Generator, strength: float = 1.0) -> numpy.ndarray:
    planar = numpy.moveaxis(picture, -1, 0).astype(numpy.float32)
    return interleave(expose(planar, noise, strength=strength))
