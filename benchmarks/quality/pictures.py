"""Sheets to look at: day, night, importance and every method, whole and as a crop at twice the size."""

from __future__ import annotations

import io
from typing import Any

import numpy
from scipy import ndimage

from gpufuse.report import sheet
from quality.judge import Judgement
from quality.scenes import Bytes

CROP = 0.3
"""Sides of a crop, as a share of the picture's."""


def whole_sheet(judgement: Judgement, *, columns: int = 4, scale: float = 1.0) -> Bytes:
    return sheet(_panels(judgement), columns=columns, scale=scale)


def crop_sheet(judgement: Judgement, *, columns: int = 4) -> Bytes:
    """The part of the picture with most of the foreground, at twice the size."""
    rows, cut = _telling_part(judgement)
    panels = [(label, picture[rows, cut].repeat(2, 0).repeat(2, 1)) for label, picture in _panels(judgement)]
    return sheet(panels, columns=columns)


def _panels(judgement: Judgement) -> list[tuple[str, Any]]:
    scene, index = judgement.scene, judgement.scene.shown
    return [
        ("day", scene.day),
        ("night", scene.night[index]),
        ("importance", judgement.importance[index]),
        ("foreground (white), ignored (grey)", _truth(judgement)),
        *((row.method, row.frames[index]) for row in judgement.rows),
    ]


def _truth(judgement: Judgement) -> Bytes:
    scene, index = judgement.scene, judgement.scene.shown
    drawn = numpy.where(scene.foreground[index], 255, numpy.where(scene.ignore[index], 110, 0))
    return drawn.astype(numpy.uint8)


def _telling_part(judgement: Judgement) -> tuple[slice, slice]:
    foreground = judgement.scene.foreground[judgement.scene.shown]
    height, width = (max(1, round(CROP * size)) for size in foreground.shape)
    crowd = ndimage.uniform_filter(foreground.astype(numpy.float32), (height, width), mode="constant")
    crowd[: height // 2] = crowd[:, : width // 2] = -1
    crowd[foreground.shape[0] - height + height // 2 + 1 :] = -1
    crowd[:, foreground.shape[1] - width + width // 2 + 1 :] = -1
    row, column = numpy.unravel_index(crowd.argmax(), crowd.shape)
    top, left = row - height // 2, column - width // 2
    return slice(top, top + height), slice(left, left + width)


def as_jpeg(picture: Bytes, *, most_bytes: int | None = None) -> bytes:
    """Encode a JPEG, as coarsely as its size must be."""
    from PIL import Image

    for quality in (92, 88, 84, 80, 75, 70, 60, 50, 30, 10):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0 if quality > 85 else 2)
        if most_bytes is None or file.tell() <= most_bytes:
            break
    return file.getvalue()
