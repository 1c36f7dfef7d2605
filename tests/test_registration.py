"""How far a day lies beside its night: against known shifts, against reversed contrast, and on real pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from gpufuse.errors import ConfigError, LimitError, PairError
from gpufuse.greyplane import grey_plane, of_size, reduced
from gpufuse.orientation import clear_edges, correlation, orientation_field, tile_products, transform
from gpufuse.registration import Shift, View, compare, estimate_shift, register, warp
from gpufuse.scene import day_picture
from gpufuse.video import open_clip, read_still

Picture = NDArray[numpy.uint8]

MARGIN = 20
SIZE = (180, 240)


@pytest.fixture(scope="module")
def street() -> Picture:
    """A street by day, twice as fine as the pictures that are cut from it."""
    return day_picture(width=2 * (SIZE[1] + 2 * MARGIN), height=2 * (SIZE[0] + 2 * MARGIN))


def placed(scene: Picture, shift: Shift) -> numpy.ndarray:
    """The scene as a camera sees it that lies beside by a shift, at half the size and cropped; float levels."""
    turn, step = shift.placement.turn, 2 * shift.placement.step
    back = 1 / turn
    matrix = numpy.array([[back.real, back.imag], [-back.imag, back.real]])  # rows before columns
    centre = (numpy.array(scene.shape[:2]) - 1) / 2
    offset = centre - matrix @ (centre + numpy.array([step.imag, step.real]))
    planes = [
        ndimage.affine_transform(scene[..., k].astype(numpy.float32), matrix, offset, mode="nearest")
        for k in range(3)
    ]
    small = numpy.stack([reduced(plane, 2) for plane in planes], axis=-1)
    return small[MARGIN:-MARGIN, MARGIN:-MARGIN]


def to_pixels(levels: numpy.ndarray) -> Picture:
    return numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8)


def darkened(levels: numpy.ndarray, rng: numpy.random.Generator, noise: float = 8.0) -> Picture:
    """A night of it: a fifth as bright, in places with light and dark exchanged, with lamps and noise."""
    shape = levels.shape[:2]
    blobs = ndimage.gaussian_filter(rng.normal(size=shape), 25)
    night = numpy.where((blobs > numpy.quantile(blobs, 0.7))[..., None], 255 - levels, levels) * 0.2 + 4
    y, x = numpy.mgrid[: shape[0], : shape[1]]
    for _ in range(5):
        radius = rng.uniform(2, 6)
        distance = numpy.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1]))
        night += (60 * numpy.exp(-distance / (4 * radius)))[..., None]
        night[distance < radius] = 255
    return to_pixels(night + rng.normal(0, noise, night.shape))


def error(found: Shift, true: Shift) -> float:
    return float(numpy.hypot(found.dx - true.dx, found.dy - true.dy))


# Known shifts


def errors_of(scenes: list[Picture], count: int, reach: float) -> list[float]:
    rng = numpy.random.default_rng(5)
    found = []
    for k in range(count):
        angle, length = rng.uniform(0, 2 * numpy.pi), rng.uniform(0, reach)
        true = Shift(length * numpy.cos(angle), length * numpy.sin(angle))
        scene = scenes[k % len(scenes)]
        night = darkened(placed(scene, Shift(0.0, 0.0)), rng)
        shift = estimate_shift(to_pixels(placed(scene, true)), night)
        assert shift.known
        found.append(error(shift, true))
    return found


def test_shifts_of_a_dark_noisy_reversed_night(street: Picture) -> None:
    found = errors_of([street, street[:, ::-1]], 8, 12.0)
    assert max(found) <= 0.25
    assert numpy.median(found) <= 0.15


@pytest.mark.slow
def test_a_hundred_shifts(street: Picture) -> None:
    found = numpy.array(errors_of([street, street[:, ::-1], street[::-1]], 100, 12.0))
    assert (found <= 0.25).sum() >= 95


def false_warnings(scene: Picture, count: int) -> int:
    rng = numpy.random.default_rng(6)
    levels = placed(scene, Shift(0.0, 0.0))
    day = to_pixels(levels)
    shifts = [estimate_shift(day, darkened(levels, rng)) for _ in range(count)]
    return sum(not shift.known or shift.length > 0.5 for shift in shifts)


def test_pairs_in_place_give_no_warning(street: Picture) -> None:
    assert false_warnings(street, 5) == 0


@pytest.mark.slow
def test_fifty_pairs_in_place(street: Picture) -> None:
    assert false_warnings(street, 50) <= 1


def test_the_sign_of_a_shift(street: Picture) -> None:
    """What is at (x, y) by night is at (x + dx, y + dy) by day."""
    night, day = street[40:220, 40:280], street[37:217, 45:285]
    assert (night[10, 10] == day[13, 5]).all()
    shift = estimate_shift(day, night)
    assert (round(shift.dx, 1), round(shift.dy, 1)) == (-5.0, 3.0)
    assert shift.known
    assert shift.direction == "5.0 left, 3.0 down"
    assert abs(shift.length - 34**0.5) < 0.05


def test_reversed_contrast_changes_nothing(street: Picture) -> None:
    plane = grey_plane(street[:180, :240])
    one, other = orientation_field(plane).values, orientation_field(255 - plane).values
    numpy.testing.assert_allclose(one, other, atol=1e-4)
    day, night = street[:180, :240], 255 - street[2:182, 3:243]
    shift = estimate_shift(day, night)
    assert error(shift, Shift(3.0, 2.0)) < 0.05


def test_pictures_of_every_kind_give_one_shift(street: Picture) -> None:
    day, night = street[:180, :240], street[2:182, 3:243]
    expected = estimate_shift(day, night)
    kinds: list[Callable[[Picture], numpy.ndarray]] = [
        lambda picture: picture.astype(numpy.uint16) * 257,
        lambda picture: picture.astype(">u2") * 257,
        lambda picture: picture.astype(numpy.float32) / 255,
        lambda picture: picture.astype(numpy.float16) / 255,
        lambda picture: numpy.moveaxis(picture, -1, 0).astype(numpy.float32),
        lambda picture: numpy.asfortranarray(picture),
        lambda picture: picture[..., 1],
    ]
    for kind in kinds:
        given = kind(night)
        before = given.copy()
        assert error(estimate_shift(kind(day), given), expected) < 0.1
        assert (given == before).all()


@pytest.mark.parametrize("factor", [2, 1.5])
def test_a_larger_day_is_measured_in_pixels_of_the_night(street: Picture, factor: float) -> None:
    shape = int(180 * factor), int(240 * factor)
    day = street[: shape[0], : shape[1]]
    night = of_size(grey_plane(street[6 : 6 + shape[0], 12 : 12 + shape[1]]), (180, 240))[None]
    shift = estimate_shift(day, night)
    assert error(shift, Shift(12 / factor, 6 / factor)) < 0.1
    again = estimate_shift(warp(day, shift, (180, 240)), night)
    assert again.length < 0.1


def test_sizes_that_do_not_belong_together(street: Picture) -> None:
    with pytest.raises(PairError, match="day: expected 240x180 like the night"):
        estimate_shift(street[:100, :240], street[:180, :240])
    with pytest.raises(TypeError, match="expected uint8, uint16 or float"):
        estimate_shift(street[:180, :240].astype(numpy.int64), street[:180, :240])
    with pytest.raises(ValueError, match="expected finite values"):
        estimate_shift(numpy.full((180, 240), numpy.nan), street[:180, :240])


# Which pairs are of one view


def test_different_views_are_unrelated(street: Picture) -> None:
    day = street[::2, ::2]
    for other in (day[::-1], day[:, ::-1], day[::-1, ::-1]):
        shift = estimate_shift(day, (other * 0.3).astype(numpy.uint8))
        assert (shift.verdict, shift.known) == ("unrelated", False)


def test_a_common_logo_does_not_relate_two_views(street: Picture) -> None:
    day, night = street[::2, ::2].copy(), street[::-2, ::-2].copy()
    logo = numpy.random.default_rng(2).integers(0, 2, (6, 60)).repeat(4, 0).repeat(4, 1)[..., None] * 255
    for picture in (day, night):
        picture[:24, :240] = logo
    shift = estimate_shift(day, night)
    assert shift.verdict == "unrelated"
    assert shift.confidence > 8  # the logo alone would have made them one view


def test_a_logo_does_not_hold_the_view_in_place(street: Picture) -> None:
    day, night = street[:180, :240].copy(), street[4:184, 9:249].copy()
    logo = numpy.random.default_rng(2).integers(0, 2, (3, 40)).repeat(6, 0).repeat(6, 1)[..., None] * 255
    for picture in (day, night):
        picture[:18] = logo
    shift = estimate_shift(day, night)
    assert error(shift, Shift(9.0, 4.0)) < 0.3


def test_where_nothing_can_be_told(street: Picture) -> None:
    rng = numpy.random.default_rng(7)
    day = street[:180, :240]
    dark = {
        "black": numpy.zeros_like(day),
        "white": numpy.full_like(day, 255),
        "noise": to_pixels(rng.normal(12, 4, day.shape)),
        "lamps": darkened(numpy.full(day.shape, 127.5), rng, 3.0),
        "fog": to_pixels(ndimage.gaussian_filter(day.astype(numpy.float32), (15, 15, 0))),
    }
    for name, night in dark.items():
        assert estimate_shift(day, night).verdict == "unknown", name
        assert estimate_shift(night, day).verdict == "unknown", name
    for height, width in ((1, 1), (12, 16), (36, 64), (47, 300)):
        assert estimate_shift(street[:height, :width], street[5 : 5 + height, :width]).verdict == "unknown"


# Rotation and scale


@pytest.mark.parametrize("true", [Shift(2.0, -1.5, 1.3, 1.01), Shift(-1.0, 3.0, -0.7, 0.985)])
def test_rotation_and_scale(street: Picture, true: Shift) -> None:
    rng = numpy.random.default_rng(8)
    levels = placed(street, Shift(0.0, 0.0))
    day, night = to_pixels(placed(street, true)), darkened(levels, rng)
    found = estimate_shift(day, night, similarity=True)
    corner = complex(SIZE[1], SIZE[0]) / 2
    for point in (corner, -corner, corner.conjugate(), -corner.conjugate()):
        ways = [shift.placement.step + shift.placement.turn * point for shift in (found, true)]
        assert abs(ways[0] - ways[1]) < 0.4
    plate, shift = register(day, night)
    assert shift == found
    inner = numpy.s_[12:-12, 12:-12]
    before, after = (float(numpy.abs(picture - levels)[inner].mean()) for picture in (day, plate))
    assert after < 0.25 * before


def test_no_rotation_where_there_is_none(street: Picture) -> None:
    rng = numpy.random.default_rng(9)
    levels = placed(street, Shift(0.0, 0.0))
    day = to_pixels(placed(street, Shift(1.0, 2.0)))
    found = estimate_shift(day, darkened(levels, rng), similarity=True)
    assert not found.turned
    assert found == estimate_shift(day, darkened(levels, numpy.random.default_rng(9)))


# Moving a day


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "float16", ">u2"])
@pytest.mark.parametrize("colour", [True, False])
def test_warp_by_whole_pixels(street: Picture, dtype: str, colour: bool) -> None:
    day = street[:60, :80] if colour else street[:60, :80, 0]
    given = (day.astype(numpy.float64) / 255).astype(dtype) if "f" in dtype else day.astype(dtype)
    before = given.copy()
    moved = warp(given, Shift(5.0, -3.0))
    assert (moved.dtype, moved.shape) == (numpy.dtype(dtype).newbyteorder("="), given.shape)
    expected = ndimage.shift(given.astype(numpy.float64), (3, -5, 0)[: given.ndim], order=0, mode="nearest")
    numpy.testing.assert_allclose(moved.astype(numpy.float64), expected, atol=1e-3)
    assert (given == before).all()


def test_warp_between_pixels(street: Picture) -> None:
    true = Shift(0.5, -0.5)
    scene = to_pixels(ndimage.gaussian_filter(street.astype(numpy.float32), (2, 2, 0)))
    levels, beside = placed(scene, Shift(0.0, 0.0)), placed(scene, true)
    moved = warp(to_pixels(beside), true)
    inner = numpy.s_[5:-5, 5:-5]
    assert numpy.abs(moved - levels)[inner].mean() < 0.3 * numpy.abs(beside - levels)[inner].mean()


def test_warp_without_opencv(street: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"register: expected OpenCV, .*gpufuse\[register\]"):
        warp(street, Shift(1.0, 0.0))
    estimate_shift(street, street, similarity=True)  # measuring needs none


def test_warp_of_a_very_long_picture() -> None:
    with pytest.raises(LimitError, match="expected at most 32766 pixels a side to move it, found 40000"):
        warp(numpy.zeros((2, 40000), numpy.uint8), Shift(1.0, 0.0))


def test_register_leaves_alone_what_it_cannot_tell(street: Picture) -> None:
    day, night = street[:60, :80], numpy.zeros((60, 80), numpy.uint8)
    plate, shift = register(day, night)
    assert plate is day
    assert shift.verdict == "unknown"


# The parts


def test_correlation_and_tiles_against_plain_sums(rng: numpy.random.Generator) -> None:
    shape = (53, 67)
    night, day = (orientation_field(rng.normal(90, 40, shape).astype(numpy.float32)) for _ in range(2))
    surface = correlation(transform(night), transform(day), shape)
    sums = {}
    for dx, dy in ((0, 0), (3, -5), (-16, 13), (16, -13), (-7, 0)):
        pairs = [
            (night.values[y, x].conj() * day.values[y + dy, x + dx]).real
            for y in range(max(0, -dy), shape[0] - max(0, dy))
            for x in range(max(0, -dx), shape[1] - max(0, dx))
        ]
        sums[dx, dy] = sum(pairs)
        assert abs(tile_products(night, day, (dx, dy)).products.sum() - sums[dx, dy]) < 1e-3
    heights = [surface.surface[surface.reach[0] + dy, surface.reach[1] + dx] for dx, dy in sums]
    assert numpy.corrcoef(heights, list(sums.values()))[0, 1] > 0.9999
    assert surface.surface.shape == (2 * 13 + 1, 2 * 16 + 1)


def test_tiles_beyond_the_day_do_not_count(street: Picture) -> None:
    field = orientation_field(grey_plane(street[:120, :160]))
    tiles = tile_products(field, field, (40, -30))
    assert (tiles.votes[0] == 0).all()
    assert (tiles.votes[:, -2:] == 0).all()
    assert tiles.votes[3, 3] > 0
    still = tile_products(field, field, (0, 0))
    assert abs(still.support - 0.3) < 1e-3


def test_weights_of_edges(street: Picture) -> None:
    """A lamp counts no more than a kerb, and noise does not count."""
    steps = numpy.full((240, 320), 30, numpy.float32)
    steps[:, 100:] += 12
    steps[:, 220:] += 200
    strength = numpy.abs(orientation_field(steps).values)[120]
    assert strength[100] > 0.7
    assert 0.8 < strength[220] / strength[100] < 1.1
    noise = numpy.random.default_rng(1).normal(60, 8, (120, 160)).astype(numpy.float32)
    assert numpy.abs(orientation_field(noise).values).mean() < 0.1
    assert not clear_edges(noise).any()


def test_a_view_is_of_any_size(street: Picture) -> None:
    """Odd sizes are cut at the right and at the bottom only, so that nothing moves."""
    plane = grey_plane(street)
    one, other = (View(plane[y : y + 251, x : x + 333], 170) for y, x in ((0, 0), (4, 8)))
    assert one.factor == 2
    assert error(compare(other, one), Shift(8.0, 4.0)) < 0.3
    assert compare(one, one, still_is_enough=True).length == 0


@pytest.mark.parametrize("size", [(50, 70), (90, 125), (67, 94)])
def test_of_size(size: tuple[int, int]) -> None:
    """Means of equal areas: a ramp stays a ramp, to an eighth of a pixel, and its mean stays."""
    plane = numpy.add.outer(numpy.arange(100.0), 3 * numpy.arange(140.0)).astype(numpy.float32)
    y, x = ((numpy.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, plane.shape, strict=True))
    small = of_size(plane, size)
    numpy.testing.assert_allclose(small, numpy.add.outer(y, 3 * x), atol=4 / 8)
    assert abs(small.mean() - plane.mean()) < 1e-3


# Real pictures


def lta(data_folder: Path, name: str) -> numpy.ndarray:
    (path,) = (data_folder / "lta" / "cam4713").glob(f"{name}*")
    return read_still(path)


def start_of(path: Path, frames: int = 10) -> numpy.ndarray:
    with open_clip(path) as clip:
        mean: numpy.ndarray = clip.read_chunk(frames).levels.mean(axis=0)
    return mean


def test_drift_of_a_road_camera(data_folder: Path) -> None:
    night = lta(data_folder, "night_04-29")
    near, far = lta(data_folder, "day_07-43"), lta(data_folder, "day28_16-56")
    in_place, beside, between = (
        estimate_shift(near, night),
        estimate_shift(far, night),
        estimate_shift(far, near),
    )
    assert in_place.length < 0.3
    assert 3.2 < beside.dx < 3.9
    assert 3.2 < beside.dy < 3.9
    closure = numpy.hypot(beside.dx - in_place.dx - between.dx, beside.dy - in_place.dy - between.dy)
    assert closure < 0.5


@pytest.mark.parametrize(
    ("day", "night", "dx", "dy"),
    [("piccadilly7450_day_aug10_1041", "piccadilly7450_dim_dec29_1301", 7.15, 3.0)],
)
def test_city_camera_of_two_days(data_folder: Path, day: str, night: str, dx: float, dy: float) -> None:
    shift = estimate_shift(*(start_of(data_folder / "tfl_clips" / f"{name}.mp4") for name in (day, night)))
    assert abs(shift.dx - dx) < 0.7
    assert abs(shift.dy - dy) < 0.7


def test_highway_camera_of_two_days(data_folder: Path) -> None:
    clips = (data_folder / "caltrans" / f"n280_indiana_{name}.mp4" for name in ("sunny", "cloudy_a"))
    shift = estimate_shift(*(start_of(path) for path in clips), similarity=True)
    assert error(shift, Shift(0.2, -2.4)) < 0.5
    assert abs(shift.angle + 0.55) < 0.15


def test_a_panned_camera(data_folder: Path) -> None:
    folder = data_folder / "tfl_oxford_st"
    day = read_still(folder / "day_0530.jpg")
    shift = estimate_shift(day, read_still(folder / "night_0250_panned40px.jpg"))
    assert shift.verdict == "unrelated" or abs(shift.dx - 41) < 1.5
    assert estimate_shift(day, read_still(folder / "night_0040.jpg")).length < 0.5


CAMERAS = ["03_dark_square", "04_dome_street", "07_roundabout", "10_noisy_village", "13_street_traffic"]


@pytest.mark.parametrize("camera", CAMERAS)
def test_web_cameras_in_place(data_folder: Path, camera: str) -> None:
    day, night = (read_still(data_folder / "amos" / camera / f"pair_{name}.jpg") for name in ("day", "night"))
    shift = estimate_shift(day, night)
    assert shift.known
    assert shift.length < 0.65


@pytest.mark.slow
def test_every_night_of_the_web_cameras_is_related(data_folder: Path) -> None:
    for camera in CAMERAS:
        folder = data_folder / "amos" / camera
        day = read_still(folder / "pair_day.jpg")
        for path in sorted(folder.glob("night_*")):
            shift = estimate_shift(day, read_still(path))
            assert shift.known, path
            assert shift.length < 2.0, path


@pytest.mark.slow
def test_different_cameras_are_unrelated(data_folder: Path) -> None:
    """Twenty-odd pairs of scenes, cut to one size."""
    days, nights = {}, {}
    for camera in CAMERAS:
        days[camera], nights[camera] = (
            read_still(data_folder / "amos" / camera / f"pair_{name}.jpg")[:360, :640]
            for name in ("day", "night")
        )
    days["lta"], nights["lta"] = (
        numpy.ascontiguousarray(lta(data_folder, name)[::3, ::3]) for name in ("day_07-23", "night_04-29")
    )
    verdicts = [
        estimate_shift(day, night).verdict
        for here, day in days.items()
        for there, night in nights.items()
        if here != there
    ]
    assert len(verdicts) == 30
    assert set(verdicts) == {"unrelated"}
