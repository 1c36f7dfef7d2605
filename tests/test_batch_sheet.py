"""The sheet of a clip shows night and result of the same moments, reads little, and never fails."""

import io
import os
from fractions import Fraction

import av
import numpy
import pytest
from PIL import Image

from gpufuse.batch import sheet as module
from gpufuse.batch.sheet import MOST_BYTES, thumbnail_sheet
from gpufuse.clip import ClipReader
from gpufuse.video import ClipWriter, Limits, open_clip

WIDTH, HEIGHT = 96, 64
PLATE = numpy.full((HEIGHT, WIDTH, 3), (250, 20, 20), numpy.uint8)


def write(path, levels, *, pts=None, time_base=Fraction(1, 25), size=(WIDTH, HEIGHT), gop=12, codec="libx264",
          container=None, pix_fmt="yuv420p"):  # fmt: skip
    """Write a clip of flat frames with these grey levels."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options={"g": str(gop), "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        for k, level in enumerate(levels):
            grey = numpy.full((size[1], size[0], 3), level, numpy.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (pts[k] if pts is not None else k), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def ramp(count):
    """Levels that tell frames apart."""
    return [40 + (150 * k) // max(1, count - 1) for k in range(count)]


def tiles(content):
    """Mean levels of the tiles: (2, 4, 3)."""
    picture = numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)
    height, width = picture.shape[:2]
    rows, columns = (height - 3) // 2, (width - 9) // 4
    return numpy.array(
        [
            [
                picture[row * (rows + 3) + 24 : row * (rows + 3) + rows - 4,
                        column * (columns + 3) + 8 : column * (columns + 3) + columns - 8].mean((0, 1))
                for column in range(4)
            ]
            for row in range(2)
        ]
    )  # fmt: skip


def levels_shown(content):
    """Levels of night and result in the three columns."""
    found = tiles(content)[:, 1:].mean(-1)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("suffix", "gop"),
    [
        (".mp4", 1),
        (".mp4", 12),
        (".mkv", 12),
        (".mkv", 400),
        (".avi", 12),
        (".ts", 12),
        (".ts", 400),
        (".h264", 12),
    ],
)
def test_night_and_result_are_of_the_same_moments(tmp_path, suffix, gop):
    night = write(tmp_path / f"night{suffix}", ramp(150), gop=gop)
    with open_clip(night) as clip:
        # which need not begin at 0
        base, pts = clip.time_base, [mark.pts for mark in iter(clip.mark_next, None)]
    result = write(tmp_path / "result.mp4", ramp(150), pts=pts, time_base=base, gop=250)
    content = thumbnail_sheet(night, PLATE, result)
    night_levels, result_levels = levels_shown(content)
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)  # a frame is one level
    red, green, blue = tiles(content)[0, 0]
    assert red > 200
    assert max(green, blue) < 60
    numpy.testing.assert_allclose(result_levels, [55, 115, 175], atol=10)


@pytest.mark.parametrize("name", ["result.mkv", "result.mp4"])
def test_irregular_times_and_a_result_of_another_size(tmp_path, name):
    pts = numpy.cumsum([1, 40, 33, 33, 95, 40, 7, 61, 44, 38] * 12).tolist()
    night = write(tmp_path / "night.mkv", ramp(120), pts=pts, time_base=Fraction(1, 1000))
    with ClipWriter(tmp_path / name, 2 * WIDTH, 2 * HEIGHT, Fraction(1, 1000), 25) as writer:
        for level, time in zip(ramp(120), pts, strict=True):
            writer.write_chunk(numpy.full((1, 3, 2 * HEIGHT, 2 * WIDTH), level, numpy.float32), [time])
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, tmp_path / name))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clips_of_few_frames(tmp_path, count):
    night = write(tmp_path / "night.mp4", ramp(count))
    result = write(tmp_path / "result.mp4", ramp(count))
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)
    assert min(result_levels) > 38  # a picture, not a plain tile with a word on it


def test_a_frame_that_the_result_does_not_have_is_never_shown_beside_another(tmp_path):
    night = write(tmp_path / "night.mp4", ramp(100))
    kept = [k for k in range(100) if k % 2]
    result = write(tmp_path / "result.mp4", [ramp(100)[k] for k in kept], pts=kept)
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    plain = night_levels < 42.5
    assert ((abs(night_levels - result_levels) < 1) | plain).all()


def test_times_before_zero(tmp_path, monkeypatch):
    night = write(tmp_path / "night.mp4", ramp(60))
    result = write(tmp_path / "result.mp4", ramp(60), pts=range(10, 70))
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    assert (night_levels > result_levels + 10).all()  # same times, but these are other moments here
    monkeypatch.setattr(module, "_moved", lambda clip, limits: Fraction(10, 25))
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)


def test_a_clip_that_cannot_be_entered_is_shown_near_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PASSED", 60)
    night = write(tmp_path / "night.h264", ramp(300), gop=1000)
    result = write(tmp_path / "result.mp4", ramp(300), gop=50)
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)
    assert max(result_levels) < 40 + 50 * 150 / 300 + 3  # within two seconds
    assert numpy.ptp(result_levels) > 5


def test_little_of_a_long_clip_is_read(tmp_path, monkeypatch):
    night = write(tmp_path / "night.mp4", ramp(1500), size=(16, 16), gop=50)
    result = write(tmp_path / "result.mp4", ramp(1500), size=(16, 16), gop=250)
    passed = []
    mark_next = ClipReader.mark_next
    monkeypatch.setattr(ClipReader, "mark_next", lambda reader: (passed.append(1), mark_next(reader))[1])
    night_levels, result_levels = levels_shown(thumbnail_sheet(night, PLATE, result))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)
    assert len(passed) < 600


def test_what_cannot_be_read_is_left_plain(tmp_path):
    night = write(tmp_path / "night.mp4", ramp(50))
    (tmp_path / "text.mp4").write_text("no clip")
    (tmp_path / "cut.mp4").write_bytes(night.read_bytes()[: night.stat().st_size // 2])
    os.mkfifo(tmp_path / "pipe.mp4")
    for clip in (
        night,
        tmp_path / "text.mp4",
        tmp_path / "cut.mp4",
        tmp_path / "none.mp4",
        tmp_path / "pipe.mp4",
    ):
        for output in (night, tmp_path / "text.mp4", tmp_path / "cut.mp4", tmp_path / "none\0.mp4", tmp_path):
            shown = tiles(thumbnail_sheet(clip, PLATE, output))
            assert shown[0, 0, 0] > 200
            assert (shown[0, 1:].mean(-1) > 42.5).all() == (clip == night)
            assert (shown[1, 1:].mean(-1) > 42.5).all() == (output == night)


@pytest.mark.parametrize(
    "plate",
    [
        None,
        numpy.zeros((3, 0)),
        numpy.zeros(7),
        "no array",
        numpy.full((4, 4), numpy.nan),
        numpy.zeros((2, 900, 7)),
    ],
)
def test_a_day_that_is_no_picture(tmp_path, plate):
    night = write(tmp_path / "night.mp4", ramp(5))
    shown = tiles(thumbnail_sheet(night, plate, night))
    assert (shown[:, 1:].mean(-1) > 42.5).any()


@pytest.mark.parametrize("size", [(16, 400), (400, 16), (640, 360)])
def test_a_sheet_is_small_whatever_it_shows(tmp_path, size):
    rng = numpy.random.default_rng(5)
    width, height = size
    with ClipWriter(tmp_path / "a.mp4", width, height, Fraction(1, 25), 25, crf=30) as writer:
        for k in range(6):
            writer.write_chunk(rng.uniform(0, 255, (1, 3, height, width)).astype(numpy.float32), [k])
    plate = rng.integers(0, 65535, (2 * height, 2 * width, 3)).astype(numpy.uint16)
    assert len(thumbnail_sheet(tmp_path / "a.mp4", plate, tmp_path / "a.mp4")) <= MOST_BYTES


def test_stills_and_limits(tmp_path):
    folder = tmp_path / "stills"
    folder.mkdir()
    for k, level in enumerate(ramp(12)):
        Image.fromarray(numpy.full((HEIGHT, WIDTH), level, numpy.uint8)).save(folder / f"{k}.png")
    result = write(tmp_path / "result.mp4", ramp(12))
    night_levels, result_levels = levels_shown(thumbnail_sheet(folder, PLATE, result))
    numpy.testing.assert_allclose(night_levels, result_levels, atol=1.0)
    night_levels, _ = levels_shown(thumbnail_sheet(folder, PLATE, result, limits=Limits(max_pixels=100)))
    assert (night_levels < 42.5).all()
