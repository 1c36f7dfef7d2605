"""User areas: the last word on the importance."""

import imageio.v3 as iio
import numpy
import pytest

from gpufuse import areas, errors
from gpufuse.areas import Area, AreaMasks, load_areas
from gpufuse.errors import ConfigError
from gpufuse.stills import write_still

SIZE = (20, 30)
SQUARE = [(5, 4), (14, 4), (14, 11), (5, 11)]
INSIDE = (slice(4, 12), slice(5, 15))


def inside(size=SIZE):
    mask = numpy.zeros(size, bool)
    mask[INSIDE] = True
    return mask


def applied(*given, count=1, value=0.5, first=0, seconds=None, size=SIZE):
    weights = numpy.full((count, *size), value, numpy.float32)
    weights.flags.writeable = False
    seconds = numpy.zeros(count) if seconds is None else numpy.array(seconds)
    return AreaMasks(load_areas(given), SIZE, size).apply(weights, first, seconds)


# What areas do


@pytest.mark.parametrize(("fill", "weight"), [("day", 0), ("night", 1)])
@pytest.mark.parametrize("shape", ["polygon", "array", "file"])
def test_polygon_array_and_file_are_the_same(tmp_path, fill, weight, shape):
    if shape == "polygon":
        area = Area(fill, polygon=SQUARE)
    else:
        mask = inside().astype(numpy.uint8) * 255
        if shape == "file":
            iio.imwrite(tmp_path / "mask.png", mask)
            mask = str(tmp_path / "mask.png")
        area = Area(fill, mask=mask)
    w, day_only = applied(area)
    assert (w[0][inside()] == weight).all()
    assert (w[0][~inside()] == 0.5).all()
    numpy.testing.assert_array_equal(day_only[0], inside() & (fill == "day"))


def test_without_areas_nothing_changes():
    weights = numpy.ones((1, 2, 3), numpy.float32)
    w, day_only = AreaMasks([], (2, 3), (2, 3)).apply(weights, 0, numpy.zeros(1))
    assert w is weights
    assert day_only is None


@pytest.mark.parametrize("share", [0, 51, 102, 204, 255])
def test_soft_masks(share):
    mask = numpy.full(SIZE, share, numpy.uint8)
    w, day_only = applied(Area("day", mask=mask), value=0.8)
    numpy.testing.assert_allclose(w, 0.8 * (1 - share / 255), atol=1e-6)
    assert day_only.all() == (share >= 128)
    w, day_only = applied(Area("night", mask=mask), value=0.8)
    numpy.testing.assert_allclose(w, 0.8 + 0.2 * share / 255, atol=1e-6)
    assert not day_only.any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_masks_of_every_depth_and_colour(dtype):
    white = 1 if dtype == "float32" else numpy.iinfo(dtype).max
    mask = inside().astype(dtype) * numpy.array(white, dtype)
    for form in (mask, numpy.repeat(mask[..., None], 3, axis=2)):
        w, _ = applied(Area("night", mask=form))
        numpy.testing.assert_array_equal(w[0] == 1, inside())


def test_a_boolean_mask():
    w, _ = applied(Area("night", mask=inside()))
    numpy.testing.assert_array_equal(w[0] == 1, inside())


def test_later_areas_win():
    everywhere = [(-1, -1), (99, -1), (99, 99), (-1, 99)]
    w, day_only = applied(Area("day", polygon=everywhere), Area("night", polygon=SQUARE))
    numpy.testing.assert_array_equal(w[0], inside())
    numpy.testing.assert_array_equal(day_only[0], ~inside())
    w, day_only = applied(Area("night", polygon=SQUARE), Area("day", polygon=everywhere))
    assert w.max() == 0
    assert day_only.all()


def test_polygons_beyond_the_border_are_cut():
    w, _ = applied(Area("night", polygon=[(20, 10), (99, 10), (99, 99), (20, 99)]))
    expected = numpy.zeros(SIZE, bool)
    expected[10:, 20:] = True
    numpy.testing.assert_array_equal(w[0] == 1, expected)


def test_areas_are_enlarged_with_the_night():
    w, day_only = applied(Area("day", polygon=SQUARE), size=(40, 60), value=1.0)
    large = inside().repeat(2, axis=0).repeat(2, axis=1)
    numpy.testing.assert_array_equal(day_only[0], large)
    deep = numpy.zeros((40, 60), bool)
    deep[9:23, 11:29] = True
    assert (w[0][deep] == 0).all()
    assert (w[0][~large] > 0.5).all()


@pytest.mark.parametrize("first", [0, 3, 7])
def test_frames_count_from_the_start_of_the_clip_both_ends_included(first):
    w, day_only = applied(Area("day", polygon=SQUARE, frames=(4, 6)), count=4, first=first)
    for k in range(4):
        assert day_only[k].any() == (4 <= first + k <= 6)
        assert (w[k][inside()] == (0 if 4 <= first + k <= 6 else 0.5)).all()


def test_seconds():
    area = Area("night", polygon=SQUARE, seconds=[0.5, 1.25])
    w, _ = applied(area, count=5, seconds=[0.0, 0.5, 1.0, 1.25, 1.26], first=100)
    assert [bool((frame[inside()] == 1).all()) for frame in w] == [False, True, True, True, False]


def test_timed_tells_whether_times_are_needed():
    assert AreaMasks([Area("day", polygon=SQUARE, seconds=(0, 1))], SIZE, SIZE).timed
    assert not AreaMasks([Area("day", polygon=SQUARE, frames=(0, 1))], SIZE, SIZE).timed


def test_holds_for_the_whole_clip_without_a_span():
    assert Area("day", polygon=SQUARE).holds(10**6, 1e9)


# Files


def test_toml_file(tmp_path):
    (tmp_path / "masks").mkdir()
    iio.imwrite(tmp_path / "masks" / "m.png", inside().astype(numpy.uint8) * 255)
    file = tmp_path / "areas.toml"
    file.write_text(
        """
        [[area]]
        fill = "day"
        polygon = [[5, 4], [14, 4.0], [14, 11], [5, 11]]
        frames = [0, 250]

        [[area]]
        fill = "night"
        mask = "masks/m.png"       # beside this file, wherever it is read from
        seconds = [0.0, 10.0]
        """
    )
    for source in (file, str(file)):
        day, night = load_areas(source)
        assert (day.fill, list(day.frames), day.seconds) == ("day", [0, 250], None)
        assert (night.fill, list(night.seconds), night.mask) == (
            "night",
            [0, 10],
            tmp_path / "masks" / "m.png",
        )
    w, _ = AreaMasks([night], SIZE, SIZE).apply(numpy.zeros((1, *SIZE), numpy.float32), 0, numpy.zeros(1))
    numpy.testing.assert_array_equal(w[0], inside())


def test_objects_and_dictionaries_mix():
    one = Area("day", polygon=SQUARE)
    loaded = load_areas(iter([one, {"fill": "night", "polygon": SQUARE}]))
    assert loaded[0] is one
    assert loaded[1].fill == "night"


# Errors


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"fill": "dusk", "polygon": SQUARE}, "expected fill = 'day' or 'night', got 'dusk'; choose one"),
        ({"fill": ["day"], "polygon": SQUARE}, "expected fill = 'day' or 'night'"),
        ({"fill": "day"}, "expected either polygon or mask, got both or neither"),
        ({"fill": "day", "polygon": SQUARE, "mask": "m.png"}, "expected either polygon or mask, got both"),
        ({"fill": "day", "polygon": SQUARE[:2]}, "expected a polygon of at least 3 corners"),
        ({"fill": "day", "polygon": []}, "expected a polygon of at least 3 corners"),
        ({"fill": "day", "polygon": [(1, 2, 3)] * 3}, "expected a polygon of at least 3 corners"),
        ({"fill": "day", "polygon": [(1, 2), (3,), (4, 5)]}, "expected a polygon of at least 3 corners"),
        ({"fill": "day", "polygon": [(0, 0), (1, 1), (0, numpy.inf)]}, "expected a polygon of at least 3"),
        ({"fill": "day", "polygon": "triangle"}, r"got 'triangle'; for example \[\[10, 20\]"),
        (
            {"fill": "day", "polygon": SQUARE, "frames": (0, 1), "seconds": (0, 1)},
            "frames or seconds, got both",
        ),
        ({"fill": "day", "polygon": SQUARE, "frames": (3, 2)}, r"frames = \[first, last\] with 0 <= first"),
        ({"fill": "day", "polygon": SQUARE, "frames": (-1, 2)}, r"got \(-1, 2\); mend it"),
        ({"fill": "day", "polygon": SQUARE, "frames": (1,)}, r"expected frames = \[first, last\]"),
        ({"fill": "day", "polygon": SQUARE, "frames": 5}, r"expected frames = \[first, last\]"),
        ({"fill": "day", "polygon": SQUARE, "frames": (False, True)}, r"expected frames = \[first, last\]"),
        ({"fill": "day", "polygon": SQUARE, "seconds": ("0", "1")}, r"expected seconds = \[first, last\]"),
        (
            {"fill": "day", "polygon": SQUARE, "seconds": (0, numpy.nan)},
            r"expected seconds = \[first, last\]",
        ),
    ],
)
def test_wrong_areas(values, text):
    for build in (lambda: Area(**values), lambda: load_areas([values])):
        with pytest.raises(errors.ConfigError, match=f"^area: .*{text}"):
            build()


@pytest.mark.parametrize(
    "entry", [{"polygon": SQUARE}, {"fill": "day", "polygn": SQUARE}, "day", 3, None, [1]]
)
def test_wrong_entries(entry):
    with pytest.raises(
        errors.ConfigError, match=r"area: expected fill and polygon or mask, .*; check the names"
    ):
        load_areas([entry])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[area]\n", "expected TOML, found a mistake"),
        ("", r"expected \[\[area\]\] tables, got nothing; see the README"),
        ("[[areas]]\nfill = 'day'", r"expected \[\[area\]\] tables, got areas"),
        ("x = 1\n[[area]]\nfill = 'day'", r"expected \[\[area\]\] tables, got x, area"),
        ("[area]\nfill = 'day'", r"expected \[\[area\]\] tables, got area"),
        ("area = [1]", "expected fill and polygon or mask"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    file = tmp_path / "areas.toml"
    file.write_text(text)
    with pytest.raises(errors.ConfigError, match=message):
        load_areas(file)


def test_unreadable_files(tmp_path):
    with pytest.raises(
        errors.ConfigError, match=r"none.toml: expected a readable areas file, found none .*path"
    ):
        load_areas(tmp_path / "none.toml")
    with pytest.raises(errors.ConfigError, match="expected a readable areas file"):
        load_areas(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(errors.ConfigError, match="expected a readable areas file"):
        load_areas(tmp_path / "latin.toml")


def test_wrong_masks(tmp_path):
    with pytest.raises(
        errors.ConfigError, match="area mask: expected 30x20 like the night, got 20x30; paint it"
    ):
        applied(Area("day", mask=numpy.zeros((30, 20), numpy.uint8)))
    with pytest.raises(errors.ConfigError, match=r"area mask: none.png: expected a file, found none"):
        applied(Area("day", mask=tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(errors.ConfigError, match=r"area mask: text.png: expected a still image"):
        applied(Area("day", mask=str(tmp_path / "text.png")))
    with pytest.raises(ValueError, match=r"area mask: expected float values in \[0, 1\]"):
        applied(Area("day", mask=numpy.full(SIZE, 2.0)))


@pytest.mark.parametrize("value", ["3", "true", "[1, 2]"])
def test_a_mask_in_a_file_that_is_no_path(tmp_path, value):
    file = tmp_path / "areas.toml"
    file.write_text(f"[[area]]\nfill = 'day'\nmask = {value}\n")
    with pytest.raises(errors.ConfigError, match="mask"):
        AreaMasks(load_areas(file), SIZE, SIZE)


def test_public_names():
    assert set(areas.__all__) == {"Area", "AreaMasks", "load_areas"}


def test_mask_files_are_read_like_all_stills(tmp_path):
    half = numpy.full((6, 8), 32768, numpy.uint16)
    write_still(tmp_path / "deep.png", half)
    masks = AreaMasks(load_areas([{"fill": "night", "mask": str(tmp_path / "deep.png")}]), (6, 8), (6, 8))
    weights, _ = masks.apply(numpy.zeros((1, 6, 8), numpy.float32), 0, numpy.zeros(1))
    assert abs(weights - 0.5).max() < 1e-4
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(ConfigError, match=r"area mask: list\.m3u8: expected"):
        AreaMasks(load_areas([{"fill": "night", "mask": str(playlist)}]), (6, 8), (6, 8))
