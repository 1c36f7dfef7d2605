"""A small picture that shows what a clip was made from and what came out: for the report, for the eye alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

from gpufuse.arrays import to_levels
from gpufuse.clip import ClipReader, Limits
from gpufuse.video import open_clip

__all__ = ["MOST_BYTES", "thumbnail_sheet"]

Bytes: TypeAlias = NDArray[numpy.uint8]

MOST_BYTES = 7000
"""A sheet has no more: then a page of 5,000 stays below 60 MB."""

_PLACES = (0.1, 0.5, 0.9)
_NEAR = Fraction(1, 20)
"""Of the clip's length: so far before its place a frame may lie, where that saves decoding."""
_AREA = 128 * 72  # pixels of a tile
_GAP = 3
_PAPER, _INK = (38, 40, 44), (226, 228, 232)
_QUALITIES = (62, 50, 40, 30, 20, 10)
_MOST_PASSED = 600  # frames decoded on the way to a time
_START_SECONDS = 2  # what is taken of a clip that cannot be entered anywhere
_TOLERANCE = Fraction(3, 4000)  # seconds: Matroska rounds times to milliseconds


@dataclass(frozen=True)
class _Pair:
    """Night and result at one time, in seconds of the result."""

    time: Fraction | None = None
    night: Bytes | None = None
    result: Bytes | None = None


_NOTHING = [_Pair()] * len(_PLACES)


def thumbnail_sheet(
    clip: str | Path, plate: numpy.ndarray | None, output: str | Path, *, limits: Limits | None = None
) -> bytes:
    """Draw the day, and the night above the result at three times: about 10, 50 and 90 % of the clip.

    Parameters
    ----------
    clip : path
        The night clip, as `gpufuse.video.open_clip` takes it.
    plate : ndarray, shape (H, W) or (H, W, 3), uint8, uint16 or float in [0, 1], or None
        The day, on the host.
    output : path
        The finished result.
    limits : Limits, optional

    Returns
    -------
    bytes
        A WebP picture of at most `MOST_BYTES`; a JPEG where Pillow cannot write WebP. What could not be read is a
        plain tile. A night and a result of one column have the same presentation time.

    Notes
    -----
    Both clips are entered by their index, and no more than some hundred frames are decoded. A clip that cannot be
    entered is shown near its start. Raises nothing: a sheet is no reason for a job to fail.
    """
    try:
        pairs = _pairs(str(clip), str(output), limits or Limits())
    except Exception:
        pairs = _NOTHING
    try:
        return _draw(None if plate is None else _to_bytes(to_levels(_thinned(plate))), pairs)
    except Exception:  # the plate is no picture
        return _draw(None, pairs)


# Frames


def _pairs(clip: str, output: str, limits: Limits) -> list[_Pair]:
    """Night and result at three times, as far as they can be read."""
    whole = _pairs_within(clip, output, limits, None)
    if all(pair.night is not None for pair in whole):
        return whole
    start = _pairs_within(clip, output, limits, Fraction(_START_SECONDS))
    return max((whole, start), key=_readable)  # the whole, where both are alike


def _readable(pairs: Sequence[_Pair]) -> int:
    return sum((pair.night is not None) + (pair.result is not None) for pair in pairs)


def _pairs_within(clip: str, output: str, limits: Limits, seconds: Fraction | None) -> list[_Pair]:
    """Take the pairs from the beginning of the clip, or from all of it.

    The result is asked first: its index is sound, and all its frames are frames of the night.
    """
    try:
        start, length, interval = _extent(output)
    except Exception:
        return _nights_alone(clip, limits)
    if seconds is not None:
        length = min(length, seconds)
    moved = _moved(clip, limits)
    pairs = []
    for place in _PLACES:
        # One frame is left for after the place.
        wanted = start + Fraction(place) * max(Fraction(0), length - 2 * interval)
        try:
            time, before, result = _frame_after(output, wanted, Limits(1 << 29), length * _NEAR)
        except Exception:
            pairs.append(_Pair())
            continue
        pairs.append(_Pair(time, _night_at(clip, time - moved, before - moved, limits), result))
    return pairs


def _night_at(clip: str, time: Fraction, before: Fraction, limits: Limits) -> Bytes | None:
    """The night at a time, which is known to be the next after another."""
    try:
        found, _, night = _frame_after(clip, before, limits, Fraction(0))
    except Exception:
        return None
    return night if abs(found - time) <= _TOLERANCE else None


def _nights_alone(clip: str, limits: Limits) -> list[_Pair]:
    """Some of the night, where there is no result to be read."""
    try:
        start, length, _ = _extent(clip, limits)
        times = [start + Fraction(place) * length * Fraction(9, 10) for place in _PLACES]
        nights = [_frame_after(clip, time, limits, length * _NEAR) for time in times]
    except Exception:
        return _NOTHING
    return [_Pair(time, night) for time, _, night in nights]


def _open(source: str, limits: Limits) -> ClipReader:
    return open_clip(source, on_damage="salvage", limits=limits)


def _extent(source: str, limits: Limits | None = None) -> tuple[Fraction, Fraction, Fraction]:
    """First time, length, and usual interval of a clip, in seconds; guesses where it does not say."""
    with _open(source, limits or Limits(1 << 29)) as reader:
        interval = 1 / reader.rate
        mark = reader.mark_next()
        assert mark is not None
        return mark.pts * reader.time_base, (reader.frame_count_hint or 1) * interval, interval


def _moved(clip: str, limits: Limits) -> Fraction:
    """Seconds by which the result is later than the night: no container holds times before 0."""
    try:
        return max(Fraction(0), -_extent(clip, limits)[0])
    except Exception:
        return Fraction(0)


def _frame_after(
    source: str, wanted: Fraction, limits: Limits, near: Fraction
) -> tuple[Fraction, Fraction, Bytes]:
    """Read the frame after the first one at a time or up to `near` seconds before it.

    Returns its time, that of the frame before it, and its pixels. A clip of one frame gives just that.
    """
    with _open(source, limits) as reader:
        base = reader.time_base
        if reader.frame_count_hint == 1:
            single = reader.read_chunk(1)
            return single.pts[0] * base, single.pts[0] * base, _to_bytes(single.levels[0])
        reader.jump(int(wanted / base))
        for _ in range(_MOST_PASSED):
            mark = reader.mark_next()
            if mark is None:
                break
            before = mark.pts * base
            if before >= wanted - max(near, _TOLERANCE):
                chunk = reader.read_chunk(1)
                return chunk.pts[0] * base, before, _to_bytes(chunk.levels[0])
    raise LookupError("the clip ends, or goes on too long, before that time")


# Drawing


def _thinned(picture: numpy.ndarray) -> numpy.ndarray:
    """Leave out rows and columns of a large picture, which a thumbnail does not show."""
    step = max(1, min(picture.shape[:2]) // 720)
    return picture[::step, ::step]


def _to_bytes(levels: numpy.ndarray) -> Bytes:
    """Return levels (C, H, W) as pixels (H, W, 3), no larger than needed."""
    step = max(1, min(levels.shape[-2:]) // 360)
    small = numpy.clip(numpy.rint(levels[:, ::step, ::step]), 0, 255).astype(numpy.uint8)
    return numpy.ascontiguousarray(numpy.moveaxis(numpy.broadcast_to(small, (3, *small.shape[1:])), 0, -1))


def _draw(day: Bytes | None, pairs: Sequence[_Pair]) -> bytes:
    from PIL import Image

    pictures = [*(pair.result for pair in pairs), *(pair.night for pair in pairs), day]
    shape = next((picture.shape for picture in pictures if picture is not None), (72, 128, 3))
    aspect = min(max(shape[1] / shape[0], 0.5), 2.5)
    width, height = round((_AREA * aspect) ** 0.5), round((_AREA / aspect) ** 0.5)
    columns = 1 + len(pairs)
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, 2 * height + _GAP), _PAPER)
    _paste(sheet, day, 0, 0, width, height)
    for column, pair in enumerate(pairs, start=1):
        _paste(sheet, pair.night, column, 0, width, height)
        _paste(sheet, pair.result, column, 1, width, height)
    _caption(sheet, pairs, _GAP, height + _GAP, width)
    return _encoded(sheet)


def _paste(sheet: Any, picture: Bytes | None, column: int, row: int, width: int, height: int) -> None:
    """Put a picture into its tile, in the middle where its shape is another."""
    from PIL import Image

    if picture is None:
        _write(sheet, "not read", column * (width + _GAP) + _GAP, row * (height + _GAP) + _GAP, width)
        return
    tall, wide = picture.shape[:2]
    scale = min(width / wide, height / tall)
    size = (max(1, min(width, round(wide * scale))), max(1, min(height, round(tall * scale))))
    small = Image.fromarray(picture).resize(
        size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC
    )
    left = column * (width + _GAP) + (width - size[0]) // 2
    top = row * (height + _GAP) + (height - size[1]) // 2
    sheet.paste(small, (left, top))


def _caption(sheet: Any, pairs: Sequence[_Pair], left: int, top: int, width: int) -> None:
    """Write below the day what the tiles are."""
    times = [_clock(pair.time) for pair in pairs if pair.time is not None]
    _write(sheet, "\n".join(["top left: day", "top: night", "bottom: result", *times]), left, top, width)


def _write(sheet: Any, text: str, left: int, top: int, width: int) -> None:
    from PIL import ImageDraw, ImageFont

    try:
        font = ImageFont.load_default(size=max(8, min(11, width // 9)))
        ImageDraw.Draw(sheet).multiline_text((left, top), text, fill=_INK, font=font, spacing=1)
    except Exception:  # a Pillow that was built without fonts
        return


def _clock(time: Fraction) -> str:
    """Write a time; rounded down, as players do."""
    seconds = float(time)
    if seconds < 60:
        return f"{seconds:.2f} s"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _encoded(sheet: Any) -> bytes:
    from PIL import features

    kind = "WEBP" if features.check("webp") else "JPEG"
    content = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        sheet.save(stream, kind, quality=quality)
        content = stream.getvalue()
        if len(content) <= MOST_BYTES:
            return content
    return _encoded(sheet.resize((sheet.width // 2, sheet.height // 2)))
