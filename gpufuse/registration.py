"""How far a day picture lies beside a night picture of the same view, and moving it into place.

Edges are compared by their direction alone (`gpufuse.orientation`), which by night and by day is the same even
where dark and bright have changed places. Everything here works on the host: a caller whose pictures live on a
GPU downloads one of each.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy

from gpufuse.arrays import Array, image_format
from gpufuse.errors import ConfigError, LimitError
from gpufuse.greyplane import grey_plane, of_size, picture_size, reduced, reduction
from gpufuse.orientation import (
    Correlation,
    OrientationField,
    clear_edges,
    correlation,
    orientation_field,
    products_by_tile,
    tile_products,
    tile_share,
    transform,
)
from gpufuse.similarity import (
    LARGEST_ANGLE,
    LARGEST_STRETCH,
    NEIGHBOURS,
    Placement,
    affine,
    moved,
    paraboloid,
    refined,
    sought,
)

__all__ = ["LEAST_SIDE", "Shift", "Verdict", "View", "compare", "estimate_shift", "register", "warp"]

Verdict = Literal["measured", "unrelated", "unknown"]

LEAST_SIDE = 48
"""Pixels of the shorter side below which nothing is said about a pair."""

LEAST_PEAK = 7.5
"""Standard deviations by which the correlation must rise above its mean, for two pictures to be of one view.

Pictures of different scenes reach 6, or more where one logo is burnt into both; those of one view 10 to 32.
"""

LEAST_EVIDENCE = 0.6
"""Least product of peak and support: a peak that comes from one corner, as that of a burnt-in logo, has no support.

Nights that show their scene reach 0.79 or more, different scenes with a caption in common 0.45. Captions that fill
a tenth of the picture or more are beyond this: they make any two pictures one view.
"""

CLEAR_SHARE, CLEAR_TILES = 0.03, 0.35
"""A picture may be called unrelated if at least so much of so many of its tiles are edges beyond doubt.

Nights in which a scene can be seen reach 0.38 to 1 of the tiles; a dark one with eight lamps 0.3.
"""

COARSE, FINE, ROUGH = 512, 1024, 256
"""Longest side, in pixels, of the pictures in which a shift is found, measured, and turned pictures are sought."""

LEAST_GAIN = 0.01
"""Agreement that rotation and scale must add, or they are taken for chance."""

_PEAKS, _CLIMB = 6, 8
_CV2_LONGEST = 32766

Lag: TypeAlias = "tuple[int, int]"


@dataclass(frozen=True)
class Shift:
    """Where things of the night picture lie in the day picture, and how sure that is.

    A thing at (x, y) of the night lies at ``c + (dx, dy) + scale R(angle) ((x, y) - c)`` of the day, c being the
    centre of the picture; without rotation and scale simply at (x + dx, y + dy).

    Attributes
    ----------
    dx, dy : float
        Pixels of the night picture, to the right and down; also where the day picture is larger.
    angle : float
        Degrees by which the day is turned clockwise, as seen on a screen.
    scale : float
        Size of things in the day over their size in the night.
    verdict : {"measured", "unrelated", "unknown"}
        ``unrelated``: both pictures have structure, and nowhere does it agree. ``unknown``: too dark, empty
        or small to tell. The numbers mean something only where ``measured``.
    confidence : float
        Height of the correlation's peak, in standard deviations of its surface over displacements up to a
        quarter of the picture. Different scenes stay below 6, see `LEAST_PEAK`.
    support : float
        Agreement of the edges at the peak, averaged over the picture, at most 0.3.
    structure : float
        Share of the tiles in which edges stand beyond doubt, of the emptier picture; nan where `measured`.
    """

    dx: float
    dy: float
    angle: float = 0.0
    scale: float = 1.0
    verdict: Verdict = "measured"
    confidence: float = 0.0
    support: float = 0.0
    structure: float = math.nan

    @property
    def known(self) -> bool:
        """Whether the numbers mean something."""
        return self.verdict == "measured"

    @property
    def length(self) -> float:
        """Distance at the centre of the picture, pixels of the night.

        Examples
        --------
        >>> Shift(3.0, -4.0).length
        5.0
        """
        return math.hypot(self.dx, self.dy)

    @property
    def direction(self) -> str:
        """Where things of the night lie in the day, in words.

        Examples
        --------
        >>> Shift(3.02, -4.0).direction, Shift(0.01, 2.0).direction
        ('3.0 right, 4.0 up', '2.0 down')
        """
        sides = f"{abs(self.dx):.1f} {'right' if self.dx > 0 else 'left'}"
        heights = f"{abs(self.dy):.1f} {'down' if self.dy > 0 else 'up'}"
        told = [words for words in (sides, heights) if not words.startswith("0.0 ")]
        return ", ".join(told or ["in place"])

    @property
    def turned(self) -> bool:
        """Whether there is more than a translation."""
        return self.angle != 0.0 or self.scale != 1.0

    @property
    def placement(self) -> Placement:
        """The same as a map of points counted from the centre."""
        return Placement(complex(self.dx, self.dy), cmath.rect(self.scale, math.radians(self.angle)))

    def placed(self, placement: Placement) -> Shift:
        """The same with other numbers."""
        step, turn = placement.step, placement.turn
        angle = math.degrees(cmath.phase(turn))
        return replace(self, dx=step.real, dy=step.imag, angle=angle, scale=abs(turn))


class View:
    """A picture prepared to be compared with others of its size, so that the work on it is done once.

    Parameters
    ----------
    plane : ndarray, shape (H, W), float32, grey levels
    longest : int
        Longest side of the copy that is compared.
    """

    def __init__(self, plane: numpy.ndarray, longest: int = COARSE) -> None:
        self.factor = reduction(plane.shape, longest)
        self.plane = reduced(plane, self.factor)
        self.field = orientation_field(self.plane)
        self._spectrum: numpy.ndarray | None = None

    @property
    def spectrum(self) -> numpy.ndarray:
        """Transform of the field, made when it is first wanted."""
        if self._spectrum is None:
            self._spectrum = transform(self.field)
        return self._spectrum

    @property
    def structure(self) -> float:
        """Share of the tiles in which edges stand beyond doubt."""
        return tile_share(clear_edges(self.plane), CLEAR_SHARE)

    def surface(self, day: View) -> Correlation:
        """Correlation with another view of the same size."""
        return correlation(self.spectrum, day.spectrum, self.field.values.shape)


def estimate_shift(day: Array, night: Array, *, similarity: bool = False) -> Shift:
    """Measure how far the day picture lies beside the night picture.

    Parameters
    ----------
    day, night : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1], on the host; or planar ``float32`` grey levels (1, H, W) or
        (3, H, W) as the reader gives them. The day may be larger with the same aspect ratio (2 %).
    similarity : bool
        Also look for rotation (up to 2 degrees) and scale (up to 2 %).

    Returns
    -------
    Shift

    Raises
    ------
    PairError
        For sizes that do not belong together.
    TypeError, ValueError
        For something that is no picture.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> scene = gaussian_filter(numpy.random.default_rng(1).random((140, 180)), 3)
    >>> shift = estimate_shift(1 - scene[4:124, 7:167], scene[2:122, 2:162])
    >>> shift.verdict, round(shift.dx), round(shift.dy)
    ('measured', -5, -2)
    """
    dark = grey_plane(night)
    bright = of_size(grey_plane(day), picture_size(dark))
    if min(dark.shape) < LEAST_SIDE:
        return Shift(0.0, 0.0, verdict="unknown")
    return _of_planes(bright, dark, similarity)


def register(day: Array, night: Array, *, similarity: bool = True) -> tuple[numpy.ndarray, Shift]:
    """Move the day picture so that it lies on the night picture, whose pixels stay as they are.

    Parameters
    ----------
    day, night : ndarray
        As for `estimate_shift`; the day as pixels, not as planar levels.
    similarity : bool
        Correct small rotation and scale as well.

    Returns
    -------
    plate : ndarray, shape and dtype of `day`
        The day itself where the shift is not known.
    shift : Shift
        What was found, and taken away.

    Raises
    ------
    ConfigError
        If OpenCV is not installed.
    PairError, TypeError, ValueError
        As `estimate_shift`.
    """
    shift = estimate_shift(day, night, similarity=similarity)
    if not shift.known:
        return day, shift
    return warp(day, shift, picture_size(night)), shift


def warp(day: Array, shift: Shift, size: tuple[int, int] | None = None) -> numpy.ndarray:
    """Take a shift away from a day picture.

    Parameters
    ----------
    day : ndarray, shape (H, W) or (H, W, 3), ``uint8``, ``uint16`` or float
        On the host.
    shift : Shift
    size : tuple of int, optional
        Height and width of the night, in whose pixels the shift is told; by default those of the day.

    Returns
    -------
    ndarray, shape and dtype of `day`
        Resampled with a Lanczos window of 8 x 8 pixels, to a 32nd of a pixel; replicated beyond the rim.

    Raises
    ------
    ConfigError
        If OpenCV is not installed.
    LimitError
        For a side of more than 32,766 pixels, which OpenCV cannot warp.
    TypeError, ValueError
        For something that is no picture.

    Examples
    --------
    >>> day = numpy.tile(numpy.arange(0, 200, 2, dtype=numpy.uint8), (60, 1))
    >>> warp(day, Shift(3.0, 0.0))[30, 40:44]
    array([86, 88, 90, 92], dtype=uint8)
    """
    form = image_format(day, name="day")
    if max(day.shape[:2]) > _CV2_LONGEST:
        raise LimitError(
            f"day: expected at most {_CV2_LONGEST} pixels a side to move it, found {max(day.shape[:2])}; "
            "make it smaller"
        )
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            f"register: expected OpenCV, found none that can be imported ({error}); "
            "pip install 'gpufuse[register]', or leave out --register"
        ) from error
    height, width = day.shape[:2]
    rows, columns = size or (height, width)
    stretch = numpy.array([width / columns, height / rows])
    matrix, _ = affine(shift.placement, (rows, columns))
    matrix = stretch[:, None] * matrix / stretch
    centre = numpy.array([width - 1, height - 1]) / 2.0  # in every size the same place
    offset = centre + stretch * [shift.dx, shift.dy] - matrix @ centre
    work = numpy.ascontiguousarray(day, numpy.float32 if form.dtype == numpy.float16 else form.dtype)
    moved_day = cv2.warpAffine(
        work,
        numpy.column_stack([matrix, offset]),
        (width, height),
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    result: numpy.ndarray = moved_day.astype(form.dtype, copy=False)
    return result


def compare(night: View, day: View, *, still_is_enough: bool = False) -> Shift:
    """Find how far one view lies beside another, without rotation and scale.

    Parameters
    ----------
    night, day : View
        Of pictures of one size.
    still_is_enough : bool
        Save the search between the pixels where no whole pixel of the views has moved.

    Returns
    -------
    Shift
        In pixels of the pictures.
    """
    found = _found(night, day)
    if found.known and not (still_is_enough and found.length == 0):
        dx, dy = _between_pixels(night.field, day.field, (round(found.dx), round(found.dy)))
        found = replace(found, dx=dx, dy=dy)
    return _resized(found, night.factor)


def _of_planes(day: numpy.ndarray, night: numpy.ndarray, similarity: bool) -> Shift:
    """Shift of planes of one size, first in small pictures, then in larger ones."""
    fine = reduction(night.shape, FINE)
    night, day = reduced(night, fine), reduced(day, fine)
    dark, bright = View(night), View(day)
    found = compare(dark, bright)
    if found.known and dark.factor > 1:
        start = round(found.dx), round(found.dy)
        dx, dy = _between_pixels(orientation_field(night), orientation_field(day), start)
        found = replace(found, dx=dx, dy=dy)
    if similarity and found.verdict != "unknown":
        found = _turned(dark, night, day, found)
    return _resized(found, fine)


def _resized(shift: Shift, factor: float) -> Shift:
    return replace(shift, dx=shift.dx * factor, dy=shift.dy * factor)


def _found(night: View, day: View) -> Shift:
    """Find the displacement in whole pixels of the views, and judge it."""
    best = Shift(0.0, 0.0, support=-1.0)
    for (dx, dy), height in night.surface(day).peaks(_PEAKS, 0.5):
        support = tile_products(night.field, day.field, (dx, dy)).support
        if support > best.support:
            best = replace(best, dx=float(dx), dy=float(dy), confidence=height, support=support)
    if best.confidence >= LEAST_PEAK and best.confidence * best.support >= LEAST_EVIDENCE:
        return best
    structure = min(night.structure, day.structure)
    return replace(best, verdict="unrelated" if structure >= CLEAR_TILES else "unknown", structure=structure)


def _between_pixels(night: OrientationField, day: OrientationField, start: Lag) -> tuple[float, float]:
    """Climb to the peak next to a displacement, and find its top between the pixels."""
    heights: dict[Lag, float] = {}
    weights = tile_products(night, day, start).weights

    def height(lag: Lag) -> float:
        if lag not in heights:
            heights[lag] = float((weights * products_by_tile(night, day, lag)).sum())
        return heights[lag]

    here = start
    for _ in range(_CLIMB):
        best = max(((here[0] + dx, here[1] + dy) for dx, dy in NEIGHBOURS), key=height)
        if best == here:
            break
        here = best
    slope, curvature = paraboloid(
        numpy.array([height((here[0] + dx, here[1] + dy)) for dx, dy in NEIGHBOURS])
    )
    if curvature[0, 0] >= 0 or numpy.linalg.det(curvature) <= 0:
        return float(here[0]), float(here[1])
    dx, dy = numpy.clip(-numpy.linalg.solve(curvature, slope), -1.0, 1.0)
    return here[0] + float(dx), here[1] + float(dy)


def _turned(dark: View, night: numpy.ndarray, day: numpy.ndarray, plain: Shift) -> Shift:
    """Look for rotation and scale as well; the plain shift again where they explain nothing more.

    `dark` is the view of `night`; planes and shift are in fine pixels.
    """
    rough = reduction(night.shape, ROUGH)
    small = reduced(day, dark.factor)
    for start in sought(reduced(night, rough), reduced(day, rough)):
        start = refined(dark.field, small, start.resized(rough / dark.factor), 5)
        turned = _found(dark, View(moved(small, start)))
        if turned.known and turned.length < 2:
            break
    else:
        return plain
    straight = Placement(complex(plain.dx, plain.dy)).resized(1 / dark.factor)
    before = tile_products(dark.field, orientation_field(moved(small, straight)), (0, 0)).support
    if plain.known and turned.support - before < LEAST_GAIN:
        return plain
    found = refined(orientation_field(night), day, start.resized(dark.factor), 3)
    stretch, angle = abs(found.turn) - 1, math.degrees(cmath.phase(found.turn))
    within = abs(stretch) <= 1.25 * LARGEST_STRETCH and abs(angle) <= 1.25 * LARGEST_ANGLE
    return turned.placed(found) if within else plain
