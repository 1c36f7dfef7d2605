"""What is fused: a rendered street, a highway with known moving pixels, and real pictures of fixed cameras.

Real footage is read from the folder that ``GPUFUSE_DATA`` names; a scene whose files are absent is left out
with a word.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy
from numpy.typing import NDArray
from scipy import ndimage

from gpufuse import scene as rendered_street
from gpufuse.stills import read_still
from gpufuse.video import open_clip
from quality.measures import luma

Bytes = NDArray[numpy.uint8]
Mask = NDArray[numpy.bool_]

ROOT = Path(__file__).resolve().parents[2]

BRIGHT = 200
"""Grey level of the brightest channel from which a pixel of the night is a lamp."""


@dataclass(frozen=True)
class Scene:
    """A day picture, night frames, and what is known about them.

    Attributes
    ----------
    name : str
    kind : {"video", "dynamic", "static"}
        Which algorithm of the paper is for it: a clip; one night picture with a night reference; one pair.
    day : ndarray, shape (H, W, 3), uint8
    night : ndarray, shape (T, H, W, 3), uint8
        One frame unless a video.
    foreground : ndarray, shape (T, H, W), bool
        What the night has to say: the truth, or what `foreground_is` says.
    foreground_is : str
        How the foreground is known.
    ignore : ndarray, shape (T, H, W), bool
        Neither foreground nor background: light that vehicles throw, where it is known.
    lamps : ndarray, shape (T, H, W), bool
        Light sources, standing or moving: bright in the night, and known as such where there is a truth.
    clean_night : ndarray, shape (T, H, W, 3), uint8, or None
        The night without noise.
    reference : ndarray, shape (H, W, 3), uint8, or None
        Dynamic scene: the night without its moving things.
    shown : int
        The frame to look at.
    public : bool
        Whether its pictures may be published.
    """

    name: str
    kind: Literal["video", "dynamic", "static"]
    day: Bytes
    night: Bytes
    foreground: Mask
    foreground_is: str
    ignore: Mask
    lamps: Mask
    clean_night: Bytes | None = None
    reference: Bytes | None = None
    shown: int = 0
    public: bool = False

    @property
    def judged_night(self) -> Bytes:
        """The night whose edges and colours are wanted: without noise where that is known."""
        return self.night if self.clean_night is None else self.clean_night


class MissingFootageError(Exception):
    """The files of a scene are absent; says which."""


def data_folder() -> Path:
    return Path(os.environ.get("GPUFUSE_DATA", ROOT.parent / "shared" / "data"))


# ------------------------------------------------------------------------------------------- scenes


def rendered(*, width: int = 480, height: int = 270, frames: int = 48) -> Scene:
    """Render the street; all its truth is known."""
    street = rendered_street.render_scene(width=width, height=height, frames=frames)
    bright = street.clean_night.max(axis=-1) >= BRIGHT
    return Scene(
        name="rendered",
        kind="video",
        day=street.day,
        night=street.night,
        foreground=street.moving,
        foreground_is="true moving pixels",
        ignore=street.glow,
        lamps=bright & (street.lamps | street.moving),
        clean_night=street.clean_night,
        shown=int(street.moving.sum(axis=(1, 2)).argmax()),
        public=True,
    )


RELIT_START = 60
"""Frame of the day clip that the first frame of the relit night was made from."""

RELIT_EXPOSURE = 0.05

_RELIT_FRAMES = slice(85, 165)


def relit() -> Scene:
    """Real traffic by day, darkened, with lamps and noise added; moving pixels are known.

    The night without noise is the darkened day, and where lamps were added the night itself, after a
    median over 3x3 pixels.
    """
    folder = _folder("relit_highway")
    packed = numpy.load(folder / "moving.npz")
    count = int(numpy.prod(packed["shape"]))
    moving = numpy.unpackbits(packed["bits"])[:count].reshape(packed["shape"]).astype(bool)[_RELIT_FRAMES]
    night = _clip(folder / "night.mp4", _RELIT_FRAMES)
    made_from = slice(_RELIT_FRAMES.start + RELIT_START, _RELIT_FRAMES.stop + RELIT_START)
    dark = darkened(_clip(_folder("bgslibrary") / "highway_video02.avi", made_from), RELIT_EXPOSURE)
    lit = night.max(axis=-1).astype(numpy.float32) - dark.max(axis=-1)
    lit = ndimage.gaussian_filter(lit, (0, 1, 1))
    smooth = ndimage.median_filter(night, (1, 3, 3, 1))
    clean = numpy.where((lit > 8)[..., None], smooth, dark)
    return Scene(
        name="relit",
        kind="video",
        day=read_still(folder / "day.png"),
        night=night,
        foreground=moving,
        foreground_is="true moving pixels",
        ignore=(lit > 8) & ~moving,
        lamps=moving & (clean.max(axis=-1) >= BRIGHT),
        clean_night=clean,
        shown=int(moving.sum(axis=(1, 2)).argmax()),
    )


def darkened(frames: Bytes, exposure: float) -> Bytes:
    """Take frames at a share of their exposure, with a display gamma of 2.2."""
    table = 255 * ((numpy.arange(256) / 255) ** 2.2 * exposure) ** (1 / 2.2)
    return numpy.rint(table).astype(numpy.uint8)[frames]


def amos_pair(camera: str) -> Scene:
    """Aligned day and night stills of a webcam."""
    folder = _folder("amos")
    place = next(iter(sorted(folder.glob(f"{camera}_*"))), None)
    if place is None:
        raise MissingFootageError(f"{folder / camera}_*: absent")
    day, night = (read_still(place / f"pair_{name}.jpg") for name in ("day", "night"))
    return _still_scene(f"amos{camera}", day, night)


def amos_roundabout() -> Scene:
    """The roundabout at night, with a nearly empty night as reference."""
    folder = _folder("amos/07_roundabout")
    day = _median(sorted(folder.glob("day_*.jpg")))
    night = read_still(folder / "night_20151108_192613.jpg")
    return _still_scene("amos07-dynamic", day, night, read_still(folder / "night_20151102_012545.jpg"))


LTA_NIGHTS = (
    "night_04-29-36",
    "night_04-47-03",
    "night_05-26-35",
    "night_05-47-06",
    "night_06-30-39",
    "night_06-49-36",
)


def lta(*, with_reference: bool) -> Scene:
    """A traffic camera in the morning, at half size; the reference is the median of six nights."""
    folder = _folder("lta/cam4713")
    day = _halved(read_still(folder / "day_07-23-22.jpg"))
    night = _halved(read_still(folder / "night_06-30-39.jpg"))
    if not with_reference:
        return _still_scene("lta", day, night)
    reference = _halved(_median([folder / f"{name}.jpg" for name in LTA_NIGHTS]))
    return _still_scene("lta-dynamic", day, night, reference)


def oxford_street() -> Scene:
    """A street camera at 00:40, with the dawn for a day."""
    folder = _folder("tfl_oxford_st")
    return _still_scene("oxford", read_still(folder / "day_0530.jpg"), read_still(folder / "night_0040.jpg"))


SCENES: dict[str, Callable[[], Scene]] = {
    "rendered": rendered,
    "relit": relit,
    "amos03": lambda: amos_pair("03"),
    "amos04": lambda: amos_pair("04"),
    "amos07": lambda: amos_pair("07"),
    "amos07-dynamic": amos_roundabout,
    "amos10": lambda: amos_pair("10"),
    "amos13": lambda: amos_pair("13"),
    "lta": lambda: lta(with_reference=False),
    "lta-dynamic": lambda: lta(with_reference=True),
    "oxford": oxford_street,
}


# ------------------------------------------------------------------------------------------ helpers


DIFFERENT = 24
"""Grey levels (largest channel, after a light Gaussian) by which moving things differ from the reference."""

BRIGHTER = 24
"""Grey levels (luma, after a light Gaussian) by which lit things of a night outshine the day."""


def _still_scene(name: str, day: Bytes, night: Bytes, reference: Bytes | None = None) -> Scene:
    bright = night.max(axis=-1) >= BRIGHT
    if reference is not None:
        foreground = differs(night, reference)
        known = f"night differs from its reference by more than {DIFFERENT} levels"
    else:
        foreground = bright | outshines(night, day)
        known = f"night of level {BRIGHT} or more, or brighter than the day by more than {BRIGHTER}"
    return Scene(
        name=name,
        kind="static" if reference is None else "dynamic",
        day=day,
        night=night[None],
        foreground=foreground[None],
        foreground_is=known,
        ignore=numpy.zeros((1, *foreground.shape), bool),
        lamps=bright[None],
        reference=reference,
    )


def differs(night: Bytes, reference: Bytes) -> Mask:
    """Where the largest channel of a difference, smoothed by 1.5 pixels, exceeds `DIFFERENT`."""
    change = numpy.abs(night.astype(numpy.float32) - reference).max(axis=-1)
    return _without_specks(ndimage.gaussian_filter(change, 1.5) > DIFFERENT)


def outshines(night: Bytes, day: Bytes) -> Mask:
    """Where the luma of the night, smoothed by 1.5 pixels, exceeds that of the day by `BRIGHTER`."""
    more = ndimage.gaussian_filter(luma(night) - luma(day), 1.5)
    return _without_specks(more > BRIGHTER)


def _without_specks(mask: Mask) -> Mask:
    return ndimage.binary_opening(mask, numpy.ones((3, 3), bool))


def _folder(name: str) -> Path:
    folder = data_folder() / name
    if not folder.is_dir():
        raise MissingFootageError(f"{name}: no such folder of real footage; GPUFUSE_DATA names where it lies")
    return folder


def _clip(path: Path, part: slice) -> Bytes:
    """Read some frames of a clip; what comes after them is not decoded."""
    with open_clip(path) as clip:
        levels = [frame.levels for frame in itertools.islice(clip, part.start, part.stop)]
    return numpy.rint(numpy.moveaxis(numpy.stack(levels), 1, -1)).astype(numpy.uint8)


def _median(paths: Sequence[Path]) -> Bytes:
    pictures = [read_still(path) for path in paths]
    smallest = min(picture.shape for picture in pictures)
    same = [picture for picture in pictures if picture.shape == smallest]
    return numpy.rint(numpy.median(same, axis=0)).astype(numpy.uint8)


def _halved(picture: Bytes) -> Bytes:
    height, width = (size // 2 * 2 for size in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return numpy.rint(blocks.mean(axis=(1, 3))).astype(numpy.uint8)
