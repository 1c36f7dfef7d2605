from __future__ import annotations

import math
from typing import Any

import numpy
import pytest

from gpufuse.report import TruthFigures, sheet, side_by_side, truth_figures

H, W = 6, 8


@pytest.fixture
def rng() -> numpy.random.Generator:
    return numpy.random.default_rng(7)


@pytest.fixture
def pair(rng: numpy.random.Generator) -> tuple[Any, Any]:
    day, night = (rng.integers(0, 256, (H, W, 3)).astype(numpy.uint8) for _ in range(2))
    return day, night


def left_half() -> Any:
    mask = numpy.zeros((H, W), bool)
    mask[:, : W // 2] = True
    return mask


# Sheets


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_sheet_accepts_every_kind_of_picture(dtype: str, shape: tuple[int, ...]) -> None:
    drawn = sheet([("a", numpy.zeros(shape, dtype)), ("b", numpy.ones(shape, dtype))])
    assert drawn.dtype == numpy.uint8
    assert drawn.ndim == 3
    assert drawn.shape[2] == 3


def test_sheet_shows_pictures_and_labels() -> None:
    picture = numpy.full((50, 70, 3), (10, 200, 90), numpy.uint8)
    drawn = sheet([("label", picture), ("", picture)], columns=2)
    assert (drawn == (10, 200, 90)).all(axis=-1).sum() == 2 * 50 * 70
    strip = drawn[:20]
    assert strip[:, :78].max() > 150, "label"
    assert strip[:, 90:].max() == strip.min(), "no label"


def test_sheet_fills_rows_and_leaves_no_empty_columns() -> None:
    picture = numpy.zeros((20, 30), numpy.uint8)
    one, two, four = (sheet([("x", picture)] * count, columns=2).shape for count in (1, 2, 4))
    assert one[0] == two[0] < four[0]
    assert one[1] < two[1] == four[1]


def test_sheet_scales_and_equalises_sizes() -> None:
    small, large = numpy.zeros((20, 30), numpy.uint8), numpy.full((40, 60), 255, numpy.uint8)
    drawn = sheet([("", small), ("", large)], columns=2, scale=2.0)
    assert (drawn == 255).all(axis=-1).sum() == 40 * 60


def test_sheet_shows_importance_in_colour_or_grey() -> None:
    ramp = numpy.tile(numpy.linspace(0, 1, 60), (40, 1))
    heat, grey = (sheet([("", ramp)], colours=colours) for colours in ("heat", "grey"))
    spread = [int(drawn.max(axis=-1).astype(int).max() - drawn.min()) for drawn in (heat, grey)]
    assert min(spread) > 200
    assert (numpy.ptp(grey, axis=-1) == 0).all()
    assert numpy.ptp(heat, axis=-1).max() > 100


def test_sheet_cuts_labels_that_do_not_fit() -> None:
    picture = numpy.zeros((20, 30), numpy.uint8)
    drawn = sheet([("W" * 80, picture)])
    # A glyph may lean over its width by a pixel.
    assert (drawn[:, -7:] == 24).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"panels": []}, "panels: expected at least one, got none"),
        ({"columns": 0}, "columns: expected 1 or more, got 0"),
        ({"scale": 0.0}, r"scale: expected a factor above 0, got 0\.0"),
        ({"scale": math.nan}, "scale: expected a factor above 0, got nan"),
        ({"colours": "red"}, "colours: expected 'heat' or 'grey', got 'red'"),
        ({"panels": [("night", numpy.zeros((2, 3, 4), numpy.uint8))]}, r"night: expected shape \(H, W\) or"),
    ],
)
def test_sheet_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sheet(**{"panels": [("a", numpy.zeros((4, 4), numpy.uint8))], **arguments})


def test_sheet_refuses_other_types() -> None:
    with pytest.raises(TypeError, match="night: expected uint8, uint16 or float"):
        sheet([("night", numpy.zeros((4, 4), numpy.int32))])
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        sheet([("night", [[1]])])


# Side by side


def test_side_by_side_keeps_every_pixel(pair: tuple[Any, Any]) -> None:
    day, night = pair
    weight = left_half().astype(numpy.float32)
    row = side_by_side(day, night, weight, day)
    assert row.shape == (H, 4 * W, 3)
    numpy.testing.assert_array_equal(row[:, :W], day)
    numpy.testing.assert_array_equal(row[:, W : 2 * W], night)
    numpy.testing.assert_array_equal(row[:, 2 * W : 3 * W], 255 * left_half()[..., None].repeat(3, -1))
    square = side_by_side(day, night, weight, day, layout="square")
    numpy.testing.assert_array_equal(square, numpy.vstack([row[:, : 2 * W], row[:, 2 * W :]]))


@pytest.mark.parametrize("layout", ["row", "square"])
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (4, 5), (7, 9)])
def test_side_by_side_is_even(size: tuple[int, int], layout: Any) -> None:
    grey = numpy.full(size, 77, numpy.uint8)
    frame = side_by_side(grey, grey, numpy.full(size, 77 / 255), grey, layout=layout)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    assert (frame == 77).all()


def test_side_by_side_repeats_pixels_of_a_smaller_night(rng: numpy.random.Generator) -> None:
    night = rng.integers(0, 256, (3, 4)).astype(numpy.uint8)
    day = numpy.zeros((H, W, 3), numpy.uint16)
    row = side_by_side(day, night, numpy.zeros((3, 4), bool), day)
    numpy.testing.assert_array_equal(row[:, W : 2 * W, 0], night.repeat(2, 0).repeat(2, 1))


def test_side_by_side_refuses() -> None:
    grey = numpy.zeros((4, 4), numpy.uint8)
    with pytest.raises(ValueError, match="layout: expected 'row' or 'square', got 'pile'"):
        side_by_side(grey, grey, grey, grey, layout="pile")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="night: expected uint8, uint16 or float"):
        side_by_side(grey, grey.astype(int), grey, grey)


# Figures


def test_figures_of_the_day_itself(pair: tuple[Any, Any]) -> None:
    day, night = pair
    figures = truth_figures(day, day, night, left_half(), numpy.zeros((H, W)))
    assert figures.moving_found == 0
    assert figures.still_free == 1
    assert figures.day_kept == 1
    assert figures.still_change == 0
    assert figures.night_kept < 0.6
    assert math.isnan(figures.flicker)
    assert figures.frames == 1


def test_figures_of_the_night_itself(pair: tuple[Any, Any]) -> None:
    day, night = pair
    figures = truth_figures(night, day, night, left_half(), left_half().astype(float))
    assert figures.moving_found == figures.still_free == figures.night_kept == 1
    apart = numpy.abs(night.astype(float) - day)[:, W // 2 :].mean()
    assert figures.still_change == pytest.approx(apart)


def test_half_the_contrast_keeps_half_the_gradients() -> None:
    day = numpy.tile(numpy.arange(0, 80, 10, dtype=numpy.uint8), (H, 1))
    moving = left_half()
    for result, kept in ((day // 2, 0.5), (255 - day, 0.0), (2 * day, 1.0)):
        figures = truth_figures(result, day, day, moving, moving.astype(float))
        assert figures.night_kept == pytest.approx(kept)
        assert figures.day_kept == pytest.approx(kept)


def test_importance_counts_by_threshold_and_by_exact_zero() -> None:
    day = numpy.zeros((1, 8), numpy.uint8)
    moving = numpy.array([[1, 1, 1, 1, 0, 0, 0, 0]], bool)
    weight = numpy.array([[0.0, 0.1, 0.11, 1.0, 0.0, 0.0, 0.0, 1e-6]])
    figures = truth_figures(day, day, day, moving, weight)
    assert figures.moving_found == 0.5
    assert figures.still_free == 0.75


def test_ignored_pixels_count_nowhere() -> None:
    day = numpy.zeros((1, 8), numpy.uint8)
    result = day.copy()
    result[0, 7] = 200
    nothing = numpy.zeros((1, 8), bool)
    last = nothing.copy()
    last[0, 7] = True
    assert truth_figures(result, day, day, nothing, nothing).still_change == 25
    assert truth_figures(result, day, day, nothing, nothing, ignore=last).still_change == 0


def test_flicker_is_the_change_of_pixels_still_in_both_frames() -> None:
    day = numpy.zeros((2, 4), numpy.uint8)
    result = numpy.zeros((3, 2, 4), numpy.uint8)
    result[1] = 6
    result[:, 0] = (numpy.arange(3, dtype=numpy.uint8) * 50)[:, None]
    moving = numpy.zeros((3, 2, 4), bool)
    moving[1, 0] = True
    figures = truth_figures(result, day, numpy.zeros_like(result), moving, numpy.zeros((2, 4)))
    assert figures.frames == 3
    assert figures.flicker == 6


def test_depth_and_channels_do_not_matter(rng: numpy.random.Generator) -> None:
    day, night, result = (rng.integers(0, 256, (H, W)).astype(numpy.uint8) for _ in range(3))
    moving, weight = left_half(), rng.random((H, W))
    expected = truth_figures(result, day, night, moving, weight)
    deep = truth_figures(
        result.astype(numpy.uint16) * 257, day / 255.0, night.astype(numpy.float32) / 255, moving, weight
    )
    coloured = truth_figures(*(a[..., None].repeat(3, -1) for a in (result, day, night)), moving, weight)
    for other in (deep, coloured):
        for name in ("moving_found", "still_free", "night_kept", "day_kept", "still_change"):
            assert getattr(other, name) == pytest.approx(getattr(expected, name), rel=1e-5)


def test_nothing_to_judge_is_nan() -> None:
    flat = numpy.zeros((0, H, W), numpy.uint8)
    figures = truth_figures(flat, numpy.zeros((H, W), numpy.uint8), flat, left_half(), left_half())
    assert figures.frames == 0
    assert math.isnan(figures.moving_found)
    assert str(figures).count("n/a") == 6


def test_the_table_has_units() -> None:
    figures = TruthFigures(96, 0.987, 1.0, 0.9, 0.75, 1.2345, math.nan)
    lines = figures.lines()
    assert str(figures) == "\n".join(lines)
    assert lines[0].endswith(" 96")
    assert lines[1].endswith("98.70 %")
    assert lines[5].endswith("1.234 levels") or lines[5].endswith("1.235 levels")
    assert lines[6].endswith("n/a")
    assert max(map(len, lines)) < 60


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("night", numpy.zeros((H, W + 1), numpy.uint8), ValueError, r"night: expected shape \(6, 8\), got"),
        (
            "result",
            numpy.zeros((1, 1, H, W), numpy.uint8),
            ValueError,
            "result: expected the axes of the",
        ),
        ("moving", numpy.zeros((H, W)), TypeError, "moving: expected bool, got float64; compare it"),
        ("moving", numpy.zeros((W, H), bool), ValueError, r"moving: expected shape \(6, 8\) or \(1, 6, 8\)"),
        ("importance", numpy.zeros((2, H, W)), ValueError, r"importance: expected shape \(6, 8\) or"),
        ("ignore", numpy.zeros((H, W), int), TypeError, "ignore: expected bool, got int64"),
    ],
)
def test_figures_refuse(name: str, value: Any, error: type[Exception], message: str) -> None:
    grey = numpy.zeros((H, W), numpy.uint8)
    arguments: dict[str, Any] = {"result": grey, "day": grey, "night": grey}
    arguments |= {"moving": left_half(), "importance": numpy.zeros((H, W))}
    with pytest.raises(error, match=message):
        truth_figures(**(arguments | {name: value}))
