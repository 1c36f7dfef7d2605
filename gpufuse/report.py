"""Comparison sheets, pictures side by side, and figures against a known truth.

All arrays here are NumPy arrays on the host: copy results with `gpufuse.to_host` first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy
from numpy.typing import NDArray

from gpufuse.arrays import Array, array_module, image_format, to_levels

__all__ = ["TruthFigures", "sheet", "side_by_side", "truth_figures"]

Bytes: TypeAlias = NDArray[numpy.uint8]
Floats: TypeAlias = NDArray[numpy.float32]

PAPER, INK = 24, 232
"""Grey levels of a sheet's background and of its labels."""

HEAT = numpy.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (170, 50, 95), (225, 95, 50), (250, 160, 30), (252, 240, 170)],
    numpy.float32,
)
"""Colours of importance from 0 to 1, of steadily growing lightness."""


# Pictures


def sheet(
    panels: Sequence[tuple[str, Array]],
    *,
    columns: int = 3,
    scale: float = 1.0,
    colours: Literal["heat", "grey"] = "heat",
) -> Bytes:
    """Draw pictures in rows, each under its label.

    Parameters
    ----------
    panels : sequence of (str, ndarray)
        Label and picture: shape (H, W) or (H, W, 3), ``uint8``, ``uint16`` or float in [0, 1]. A float or
        ``bool`` picture without channels is taken for an importance map.
    columns : int
        Panels in a row, 1 or more.
    scale : float
        Size of a panel relative to the first picture, above 0; all panels get the same size.
    colours : {"heat", "grey"}
        How importance maps are shown.

    Returns
    -------
    ndarray, shape (H', W', 3), uint8

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or out of range.

    Examples
    --------
    >>> picture = numpy.zeros((40, 60), numpy.uint8)
    >>> sheet([("day", picture), ("night", picture)], columns=2).shape
    (72, 144, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    if not panels:
        raise ValueError("panels: expected at least one, got none; pass (label, picture) pairs")
    if columns < 1:
        raise ValueError(f"columns: expected 1 or more, got {columns}; choose a larger number")
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale: expected a factor above 0, got {scale!r}; 1 keeps the size")
    if colours not in ("heat", "grey"):
        raise ValueError(f"colours: expected 'heat' or 'grey', got {colours!r}; choose one of them")
    pictures = [_show(picture, label, heat=colours == "heat") for label, picture in panels]
    height, width = (max(1, round(size * scale)) for size in pictures[0].shape[:2])
    text = max(11, round(height / 18))
    gap, strip = 8, text + 5
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = (gap + columns * (width + gap), gap + rows * (strip + height + gap))
    canvas = Image.new("RGB", size, (PAPER,) * 3)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=text)
    for index, ((label, _), picture) in enumerate(zip(panels, pictures, strict=True)):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (strip + height + gap)
        draw.text((left, top), _shorten(label, width, font), fill=(INK,) * 3, font=font)
        image = Image.fromarray(picture)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(image, (left, top + strip))
    return numpy.array(canvas)


def _shorten(label: str, width: int, font: Any) -> str:
    """Cut a label that is wider than its panel."""
    while label and font.getlength(label) > width:
        label = label[:-1]
    return label


def _show(picture: Array, name: str, *, heat: bool) -> Bytes:
    """Return a picture as colour bytes (H, W, 3)."""
    picture = _unmasked(picture, name)
    levels = to_levels(picture, name=name)
    if heat and levels.shape[0] == 1 and picture.dtype.kind == "f":
        levels = _heat(levels[0])
    shown = numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8)
    return numpy.ascontiguousarray(numpy.moveaxis(numpy.broadcast_to(shown, (3, *shown.shape[1:])), 0, -1))


def _heat(levels: Floats) -> Floats:
    """Map levels (H, W) to planar colours (3, H, W) along `HEAT`."""
    steps = numpy.linspace(0, 255, len(HEAT))
    return numpy.stack([numpy.interp(levels, steps, HEAT[:, channel]) for channel in range(3)]).astype(
        numpy.float32
    )


def _unmasked(picture: Array, name: str) -> Array:
    """Return a mask as an importance map of zeros and ones, and anything else as it is."""
    _on_host(picture, name)
    return picture.astype(numpy.float32) if picture.dtype.kind == "b" else picture


def _on_host(array: Array, name: str) -> Array:
    """Refuse what is no NumPy array."""
    if array_module(array) is not numpy:
        raise TypeError(f"{name}: expected a NumPy array, got CuPy; copy it with gpufuse.to_host")
    return array


def side_by_side(
    day: Array,
    night: Array,
    importance: Array,
    result: Array,
    *,
    layout: Literal["row", "square"] = "row",
) -> Bytes:
    """Put day, night, importance and result into one video frame.

    Parameters
    ----------
    day, night, result : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1]. Day and night of another size are brought to the size
        of the result by repeating or dropping pixels.
    importance : ndarray, shape (H, W), float in [0, 1] or bool
        Shown in grey.
    layout : {"row", "square"}
        Four in a row, or two above two.

    Returns
    -------
    ndarray, shape (H', 4 W', 3) or (2 H', 2 W', 3), uint8
        H' and W' are H and W, made even by repeating the last row or column, as video codecs demand.

    Raises
    ------
    TypeError, ValueError
        For something that is no picture, or an unknown layout.

    Examples
    --------
    >>> grey = numpy.zeros((3, 5), numpy.uint8)
    >>> side_by_side(grey, grey, numpy.zeros((3, 5)), grey).shape
    (4, 24, 3)
    """
    if layout not in ("row", "square"):
        raise ValueError(f"layout: expected 'row' or 'square', got {layout!r}; choose one of them")
    named = (("day", day), ("night", night), ("importance", importance), ("result", result))
    pictures = [_quick_bytes(picture, name) for name, picture in named]
    height, width = pictures[-1].shape[:2]
    tall, wide = height + height % 2, width + width % 2
    frame = numpy.empty((tall, 4 * wide, 3) if layout == "row" else (2 * tall, 2 * wide, 3), numpy.uint8)
    for index, picture in enumerate(pictures):
        row, column = (0, index) if layout == "row" else divmod(index, 2)
        place = frame[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
        place[:height, :width] = _repeat_to(picture, height, width)
        place[height:, :width] = place[height - 1 : height, :width]
        place[:, width:] = place[:, width - 1 : width]
    return frame


def _quick_bytes(picture: Array, name: str) -> Bytes:
    """Return a picture as bytes (H, W, 1) or (H, W, 3); bytes pass as they are."""
    picture = _unmasked(picture, name)
    if image_format(picture, name=name).dtype == numpy.uint8:
        shown: Bytes = picture
    else:
        levels = to_levels(picture, name=name)
        shown = numpy.moveaxis(numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8), 0, -1)
    return shown if shown.ndim == 3 else shown[..., None]


def _repeat_to(picture: Bytes, height: int, width: int) -> Bytes:
    """Bring a picture to a size by nearest neighbours."""
    if picture.shape[:2] == (height, width):
        return picture
    rows = (2 * numpy.arange(height) + 1) * picture.shape[0] // (2 * height)
    columns = (2 * numpy.arange(width) + 1) * picture.shape[1] // (2 * width)
    nearest: Bytes = picture[rows[:, None], columns]
    return nearest


# Figures


@dataclass(frozen=True)
class TruthFigures:
    """How well a result keeps what moves by night and what stands by day; see `truth_figures`.

    A figure without a single pixel or gradient to judge is nan.

    Attributes
    ----------
    frames : int
        Frames judged.
    moving_found : float
        Share of the moving pixels with importance above 0.1; best 1.
    still_free : float
        Share of the still pixels with importance exactly 0; best 1.
    night_kept : float
        Share of the night's gradient energy kept in moving pixels; best 1.
    day_kept : float
        Share of the day's gradient energy kept in still pixels; best 1.
    still_change : float
        Mean absolute difference of still pixels from the day, in grey levels; best 0.
    flicker : float
        Mean absolute change of still pixels from frame to frame, in grey levels; best 0.
    """

    frames: int
    moving_found: float
    still_free: float
    night_kept: float
    day_kept: float
    still_change: float
    flicker: float

    def lines(self) -> list[str]:
        """Return a table, a figure a line, with units."""
        rows = (
            ("frames", f"{self.frames:8d}  "),
            ("moving pixels with importance > 0.1", _percent(self.moving_found)),
            ("still pixels with importance 0", _percent(self.still_free)),
            ("night gradients kept, moving pixels", _percent(self.night_kept)),
            ("day gradients kept, still pixels", _percent(self.day_kept)),
            ("still pixels: change from the day", _grey_levels(self.still_change)),
            ("still pixels: change frame to frame", _grey_levels(self.flicker)),
        )
        return [f"{name:<36}{value}".rstrip() for name, value in rows]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _percent(share: float) -> str:
    return f"{'n/a':>8}" if math.isnan(share) else f"{100 * share:8.2f} %"


def _grey_levels(value: float) -> str:
    return f"{'n/a':>8}" if math.isnan(value) else f"{value:8.3f} levels"


class _Mean:
    """A mean gathered piece by piece; nan without pieces."""

    def __init__(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def add(self, total: Any, weight: Any) -> None:
        self.total += float(total)
        self.weight += float(weight)

    def value(self) -> float:
        return self.total / self.weight if self.weight > 0 else math.nan


def truth_figures(
    result: Array,
    day: Array,
    night: Array,
    moving: Array,
    importance: Array,
    *,
    ignore: Array | None = None,
) -> TruthFigures:
    """Judge a result for which the moving pixels are known.

    Parameters
    ----------
    result, night : ndarray, shape (H, W), (H, W, 3), or with a leading time axis
        ``uint8``, ``uint16`` or float in [0, 1]; the night best without its noise.
    day : ndarray, shape (H, W) or (H, W, 3)
        The day's picture.
    moving : ndarray, shape (H, W) or (T, H, W), bool
        The truth.
    importance : ndarray, shape (H, W) or (T, H, W), float in [0, 1]
        W of the fusion; one map serves all frames.
    ignore : ndarray, shape (H, W) or (T, H, W), bool, optional
        Pixels that count neither as moving nor as still, for example the light that vehicles throw.

    Returns
    -------
    TruthFigures

    Raises
    ------
    TypeError, ValueError
        For arrays of the wrong kind, or that do not belong together.

    Notes
    -----
    With R, D, N the result, day and night in grey levels, M the moving pixels, S the still ones, #X the
    number of pixels of X, sums over all frames, and grad by forward differences over all channels:

    - moving_found = #{p in M : W(p) > 0.1} / #M
    - still_free = #{p in S : W(p) = 0} / #S
    - night_kept = sum over M of clip(grad R . grad N, 0, |grad N|^2) / sum over M of |grad N|^2
    - day_kept = the same for D over S
    - still_change = mean over S and channels of |R - D|
    - flicker = mean over pixels still in both frames, and channels, of |R_t - R_(t-1)|

    Frames are judged one by one, so that a clip needs little more memory than a frame. Synchronises: no.

    Examples
    --------
    >>> street = numpy.tile(numpy.arange(8, dtype=numpy.uint8), (4, 1))
    >>> nothing = numpy.zeros((4, 8), bool)
    >>> figures = truth_figures(street, street, street, nothing, nothing.astype(float))
    >>> figures.still_free, figures.day_kept, figures.still_change
    (1.0, 1.0, 0.0)
    """
    plate, frames = _belong_together(result, day, night, moving, importance, ignore)
    found, free, night_kept, day_kept, change, flicker = (_Mean() for _ in range(6))
    day_gradient = _gradient(plate)
    before: tuple[Floats, Any] | None = None
    count = 0
    for shown, dark, mask, weight, other in frames:
        still = ~(mask | other)
        mask = mask & ~other
        found.add((weight[mask] > 0.1).sum(), mask.sum())
        free.add((weight[still] == 0).sum(), still.sum())
        gradient = _gradient(shown)
        night_kept.add(*_kept(gradient, _gradient(dark), mask))
        day_kept.add(*_kept(gradient, day_gradient, still))
        change.add(numpy.abs(shown - plate)[:, still].sum(dtype=numpy.float64), still.sum() * len(shown))
        if before is not None:
            both = still & before[1]
            moved = numpy.abs(shown - before[0])[:, both]
            flicker.add(moved.sum(dtype=numpy.float64), both.sum() * len(shown))
        before = shown, still
        count += 1
    means = (found, free, night_kept, day_kept, change, flicker)
    return TruthFigures(count, *(mean.value() for mean in means))


def _belong_together(
    result: Array, day: Array, night: Array, moving: Array, importance: Array, ignore: Array | None
) -> tuple[Floats, Iterable[tuple[Any, ...]]]:
    """Check all arrays; return the day's levels and the frames, one by one."""
    plate = to_levels(_on_host(day, "day"), name="day")
    height, width = plate.shape[1:]
    leading = result.ndim - day.ndim
    if leading not in (0, 1):
        raise ValueError(
            f"result: expected the axes of the day, or these behind time, got shape {result.shape} for a "
            f"day of {day.shape}; give both the same channels"
        )
    count = len(result) if leading else 1
    for name, picture in (("result", result), ("night", night)):
        _on_host(picture, name)
        expected = (count, *day.shape) if leading else day.shape
        if picture.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {picture.shape}; crop or resample it")
    nothing = numpy.zeros((height, width), bool)
    masks = (
        ("moving", moving),
        ("importance", importance),
        ("ignore", nothing if ignore is None else ignore),
    )
    for name, mask in masks:
        _on_host(mask, name)
        if mask.shape not in ((height, width), (count, height, width)):
            raise ValueError(
                f"{name}: expected shape {(height, width)} or {(count, height, width)}, got {mask.shape}; "
                "give one value per pixel"
            )
        if name != "importance" and mask.dtype != bool:
            raise TypeError(f"{name}: expected bool, got {mask.dtype}; compare it with a threshold")
    stacked = [numpy.broadcast_to(mask, (count, height, width)) for _, mask in masks]
    nights, results = (picture if leading else picture[None] for picture in (night, result))
    frames = (
        (
            to_levels(results[index], name="result"),
            to_levels(nights[index], name="night"),
            stacked[0][index],
            stacked[1][index],
            stacked[2][index],
        )
        for index in range(count)
    )
    return plate, frames


def _gradient(levels: Floats) -> tuple[Floats, Floats]:
    """Return forward differences along x and y, 0 at the last column and row."""
    along_x, along_y = numpy.zeros_like(levels), numpy.zeros_like(levels)
    numpy.subtract(levels[..., 1:], levels[..., :-1], out=along_x[..., :-1])
    numpy.subtract(levels[..., 1:, :], levels[..., :-1, :], out=along_y[..., :-1, :])
    return along_x, along_y


def _kept(
    gradient: tuple[Floats, Floats], wanted: tuple[Floats, Floats], where: NDArray[numpy.bool_]
) -> tuple[float, float]:
    """Return the energy of the wanted gradients kept at some pixels, and all of it."""
    energy = sum((part * part).sum(axis=0)[where] for part in wanted)
    shared = sum((a * b).sum(axis=0)[where] for a, b in zip(gradient, wanted, strict=True))
    kept = numpy.clip(shared, 0, energy)
    return float(kept.sum(dtype=numpy.float64)), float(numpy.sum(energy, dtype=numpy.float64))
