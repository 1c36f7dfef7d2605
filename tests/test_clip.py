"""Passing frames, jumping, sizes that change, files that change: what readers do beyond giving chunks."""

import os
import shutil
import zlib
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy
import pytest
from clips import picture, remux, write_clip
from PIL import Image

from gpufuse.decoded import frame_checksum
from gpufuse.errors import ConfigError, DamagedInputError, LimitError
from gpufuse.video import Limits, open_clip, write_still


def marks_of(source, **options):
    with open_clip(source, **options) as clip:
        marks = []
        while (mark := clip.mark_next()) is not None:
            marks.append(mark)
        return marks, clip


def levels_of(clip):
    chunks = [chunk.levels for chunk in clip.chunks(8)]
    return numpy.concatenate(chunks) if chunks else numpy.empty((0, 3, clip.height, clip.width))


def parts_of(source, **options):
    """Width, height, number of frames and times of each part."""
    parts = []
    with open_clip(source, on_resize="split", **options) as clip:
        while True:
            chunks = list(clip.chunks(8))
            times = [time for chunk in chunks for time in chunk.pts]
            assert all(chunk.levels.shape[1:] == (3, clip.height, clip.width) for chunk in chunks)
            parts.append((clip.width, clip.height, len(times), times))
            if not clip.next_part():
                return parts, clip


# -- marks ---------------------------------------------------------------------------------------


def test_marks_have_the_times_and_checksums_of_the_frames(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    marks, marked = marks_of(path)
    with open_clip(path, checksums=True) as clip:
        chunks = list(clip.chunks(16))
        checksums = clip.take_checksums()
        assert clip.take_checksums() == []
    assert [mark.pts for mark in marks] == [time for chunk in chunks for time in chunk.pts]
    assert [mark.checksum for mark in marks] == checksums
    assert len(set(checksums)) == 60 == marked.frames_read
    assert [k for k, mark in enumerate(marks) if mark.key] == [0, 12, 24, 36, 48]


ROWS = {
    "yuv420p": (37, 19, 19),
    "yuv422p10le": (74, 38, 38),
    "gray": (37,),
    "yuv444p": (37, 37, 37),
    "bgr0": (3 * 37,),  # read as rgb24
}
"""Bytes of a row of each plane of a picture 37 wide."""


@pytest.mark.parametrize("pix_fmt", ROWS)
def test_checksums_are_those_of_the_planes_without_padding(tmp_path, pix_fmt):
    path = write_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt=pix_fmt, count=3, size=(37, 29))
    expected = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if pix_fmt == "bgr0":
                frame = frame.reformat(format="rgb24")
            content = b""
            for plane, length in zip(frame.planes, ROWS[pix_fmt], strict=True):
                rows, step = bytes(plane), plane.line_size
                content += b"".join(rows[step * y : step * y + length] for y in range(plane.height))
            expected.append(zlib.crc32(content))
    assert [mark.checksum for mark in marks_of(path)[0]] == expected
    assert len(set(expected)) == 3


def test_the_end_of_a_damaged_clip_is_checked_while_frames_are_only_passed(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
    with pytest.raises(DamagedInputError):
        marks_of(path)
    with open_clip(path) as clip, pytest.raises(DamagedInputError):
        clip.skip(1000)
    marks, clip = marks_of(path, on_damage="salvage")
    assert clip.damage
    assert 0 < len(marks) <= 60


def test_skipping_counts_what_there_is(tmp_path):
    path = write_clip(tmp_path / "a.mkv")
    marks, _ = marks_of(path)
    with open_clip(path) as clip:
        assert (clip.skip(0), clip.skip(50), clip.frames_read) == (0, 50, 50)
        assert clip.mark_next() == marks[50]
        assert clip.skip(100) == 9
        assert (clip.skip(1), clip.mark_next(), clip.frames_read) == (0, None, 60)
    with open_clip(path, limits=Limits(max_frames=20)) as clip, pytest.raises(LimitError, match="20 frames"):
        clip.skip(50)


def test_skipping_gives_signs_of_life(tmp_path):
    signs = []
    with open_clip(write_clip(tmp_path / "a.mkv", count=9)) as clip:
        clip.skip(4, tell=lambda: signs.append(clip.frames_read))
        assert signs == [1, 2, 3, 4]
        clip.skip(100, tell=lambda: signs.append(clip.frames_read))
    assert signs == list(range(1, 10))


def test_stills_are_passed_and_jumped_to_as_well(tmp_path):
    for k in range(6):
        write_still(tmp_path / f"{k}.png", picture(k))
    marks, _ = marks_of(tmp_path)
    assert [mark.pts for mark in marks] == list(range(6))
    assert all(mark.key for mark in marks)
    with open_clip(tmp_path, checksums=True) as clip:
        assert clip.skip(2) == 2
        clip.read_chunk(2)
        assert clip.take_checksums() == [mark.checksum for mark in marks[2:4]]
    for k in (0, 3):
        with open_clip(tmp_path) as clip:
            assert clip.jump(k)
            assert clip.mark_next() == marks[k]


# -- jumps ---------------------------------------------------------------------------------------

JUMPS = {
    "mp4": ("a.mp4", {}),
    "mp4 open groups": ("a.mp4", {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12"}}),
    "mp4 many b-frames": ("a.mp4", {"options": {"bf": "8", "b-pyramid": "normal"}}),
    "mp4 irregular": (
        "a.mp4",
        {"pts": numpy.cumsum([1, 40, 33, 95, 40, 7] * 10).tolist(), "time_base": Fraction(1, 1000)},
    ),
    "fragmented": ("a.mp4", {"muxing": {"movflags": "frag_keyframe+empty_moov"}}),
    "with sound": ("a.mp4", {"sound": 3.0}),
    "mkv": ("a.mkv", {}),
    "mkv late start": ("a.mkv", {"pts": range(50, 110)}),
    "ts": ("a.ts", {}),
    "flv": ("a.flv", {}),
    "avi": ("a.avi", {}),
    "mjpeg avi": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "mpeg2 ts": ("a.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}),
    "wmv": ("a.wmv", {"codec": "msmpeg4v3", "container": "asf"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "count": 20, "options": {"deadline": "realtime"}}),
}


@pytest.mark.parametrize("case", JUMPS)
def test_after_a_jump_the_frames_are_those_of_reading_from_the_start(tmp_path, case):
    name, options = JUMPS[case]
    path = write_clip(tmp_path / name, **options)
    marks, _ = marks_of(path)
    places = {mark.pts: k for k, mark in enumerate(marks)}
    for wanted in range(0, len(marks), 7):
        with open_clip(path) as clip:
            assert clip.jump(marks[wanted].pts)
            found = [clip.mark_next() for _ in range(4)]
            first = places[found[0].pts]
            assert wanted - 36 < first <= wanted
            assert found[0].key
            assert [mark for mark in found if mark] == marks[first : first + 4]


def test_a_clip_that_cannot_be_entered_is_read_from_the_start(tmp_path):
    for name, options in (("a.h264", {}), ("a.mpg", {"codec": "mpeg2video", "container": "vob"})):
        path = write_clip(tmp_path / name, **options)
        marks, _ = marks_of(path)
        with open_clip(path) as clip:
            assert not clip.jump(marks[40].pts)
            assert [clip.mark_next() for _ in range(60)] == marks
            assert clip.mark_next() is None


def test_a_jump_that_fails_changes_nothing(tmp_path, monkeypatch):
    from gpufuse.videofile import VideoFileReader

    path = write_clip(tmp_path / "a.mkv")
    marks, _ = marks_of(path)
    with open_clip(path) as clip:
        monkeypatch.setattr(VideoFileReader, "_seek", lambda reader, target: False)
        assert not clip.jump(marks[40].pts)
        assert [clip.mark_next() for _ in range(61)] == [*marks, None]


def test_a_jump_comes_first(tmp_path):
    with open_clip(write_clip(tmp_path / "a.mkv", count=5)) as clip:
        clip.skip(1)
        with pytest.raises(ValueError, match="expected a jump before the first frame, got one after 1"):
            clip.jump(0)


def test_after_a_jump_damage_to_what_is_read_is_still_found_and_to_what_is_not_is_not(tmp_path):
    path = write_clip(tmp_path / "a.mp4", options={"bf": "0"})
    intact, _ = marks_of(path)
    data = path.read_bytes()
    place = len(data) // 6  # in the first group of pictures
    path.write_bytes(data[:place] + bytes(64) + data[place + 64 :])
    with open_clip(path) as clip:
        assert clip.jump(intact[30].pts)
        assert [clip.mark_next() for _ in range(37)] == [*intact[24:], None]
    place = int(len(data) * 0.7)
    path.write_bytes(data[:place] + bytes(64) + data[place + 64 :])
    with open_clip(path) as clip:
        assert clip.jump(intact[30].pts)
        with pytest.raises(DamagedInputError):
            clip.skip(60)


# -- sizes that change ---------------------------------------------------------------------------

PAIRS = [
    ((160, 120), (320, 240)),
    ((320, 240), (160, 120)),
    ((160, 120), (162, 120)),
    ((64, 48), (640, 480)),
    ((640, 480), (64, 48)),
]


def resized(folder, suffix, first, second):
    """20 pictures of one size, then 15 of another."""
    parts = [
        write_clip(folder / f"{k}.h264", size=size, count=count, options={"bf": "0", "preset": "ultrafast"})
        for k, (size, count) in enumerate(((first, 20), (second, 15)))
    ]
    raw = folder / "joined.h264"
    raw.write_bytes(b"".join(part.read_bytes() for part in parts))
    if suffix == ".h264":
        return raw
    return remux(raw, folder / f"joined{suffix}", {".ts": "mpegts", ".mkv": "matroska"}[suffix])


@pytest.mark.parametrize("suffix", [".h264", ".ts", ".mkv"])
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
def test_a_size_that_changes_fails_splits_or_is_scaled(tmp_path, first, second, suffix):
    path = resized(tmp_path, suffix, first, second)
    names = [f"{width}x{height}" for width, height in (first, second)]
    expected = rf"expected pictures of one size, {names[0]}, found the size changed to {names[1]} at 0\.80 s"
    with open_clip(path) as clip, pytest.raises(DamagedInputError, match=expected):
        clip.skip(100)
    parts, clip = parts_of(path)
    assert [part[:3] for part in parts] == [(*first, 20), (*second, 15)]
    times = parts[0][3] + parts[1][3]
    assert len(set(numpy.diff(times))) == 1
    assert clip.damage == []
    with open_clip(path, on_resize="scale") as clip:
        levels = levels_of(clip)
        assert levels.shape == (35, 3, first[1], first[0])
        assert clip.notes == [
            f"{path.name}: 15 frames of {names[1]}, the first at 0.80 s, were scaled to the first size"
        ]
        assert clip.damage == []
    with open_clip(path, on_damage="salvage") as clip:
        assert len(levels_of(clip)) == 20
        assert len(clip.damage) == 1


@pytest.mark.parametrize("upwards", [False, True], ids=["down", "up"])
def test_scaled_pictures_keep_their_colours(tmp_path, upwards):
    """Colours stay what they are, in spite of the matrix that an untagged height stands for."""
    paths = []
    sizes = [(64, 48), (1280, 720)]
    for k, size in enumerate(reversed(sizes) if upwards else sizes):
        options = {"bf": "0", "qp": "10", "preset": "ultrafast"}
        path = write_clip(tmp_path / f"{k}.h264", size=size, count=2, options=options)
        paths.append(path)
    raw = tmp_path / "a.h264"
    raw.write_bytes(paths[0].read_bytes() + paths[1].read_bytes())
    with open_clip(paths[1]) as second, open_clip(raw, on_resize="scale") as clip:
        unscaled, scaled = levels_of(second)[-1], levels_of(clip)[-1]
    means = [picture.mean(axis=(1, 2)) for picture in (unscaled, scaled)]
    numpy.testing.assert_allclose(*means, atol=0.7)


def test_parts_must_be_read_to_their_end(tmp_path):
    path = resized(tmp_path, ".h264", (64, 48), (96, 64))
    with open_clip(path, on_resize="split") as clip:
        clip.skip(5)
        with pytest.raises(ValueError, match="expected all frames of this size to be read"):
            clip.next_part()
        assert clip.skip(100) == 15
        assert clip.next_part()
        assert (clip.width, clip.height) == (96, 64)
        assert clip.skip(100) == 15
        assert not clip.next_part()
        assert not clip.next_part()
    with open_clip(write_clip(tmp_path / "a.mp4", count=3)) as clip:
        clip.skip(3)
        assert not clip.next_part()


def test_damage_is_found_in_every_part(tmp_path):
    path = resized(tmp_path, ".ts", (160, 120), (320, 240))
    data = path.read_bytes()
    place = int(0.9 * len(data)) // 188 * 188
    path.write_bytes(data[:place] + data[place + 10 * 188 :])
    with pytest.raises(DamagedInputError):
        parts_of(path)
    parts, clip = parts_of(path, on_damage="salvage")
    assert clip.damage
    assert sum(part[2] for part in parts) <= 35


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_stills_of_other_sizes_fail_split_or_are_scaled(tmp_path, deep, grey):
    sizes = [(40, 30), (40, 30), (80, 60), (40, 30)]
    for k, (width, height) in enumerate(sizes):
        image = picture(0, width, height)
        image[...] = (200, 100, 50)
        image = image[..., 0] if grey else image
        write_still(tmp_path / f"{k}.png", image.astype(numpy.uint16) * 257 if deep else image)
    with (
        open_clip(tmp_path) as clip,
        pytest.raises(DamagedInputError, match=r"40x30, found .* 80x60 at 2\.png"),
    ):
        clip.skip(9)
    parts, _ = parts_of(tmp_path)
    assert [part[:3] for part in parts] == [(40, 30, 2), (80, 60, 1), (40, 30, 1)]
    with open_clip(tmp_path, on_resize="scale") as clip:
        levels = levels_of(clip)
        assert clip.notes == [
            f"{tmp_path.name}: 1 frame of 80x60, the first at 2.png, was scaled to the first size"
        ]
    expected = numpy.broadcast_to(levels[0], levels.shape)
    numpy.testing.assert_allclose(levels, expected, atol=0.5)


def test_an_unknown_policy_is_named(tmp_path):
    with pytest.raises(ConfigError, match="on_resize: expected 'fail', 'split' or 'scale', got 'crop'"):
        open_clip(tmp_path, on_resize="crop")


# -- files that change ---------------------------------------------------------------------------


def grow(path):
    with path.open("ab") as file:
        file.write(bytes(188))


def rewrite(path):
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def replace(path):
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.replace(other, path)


CHANGES = {
    "grown": (grow, r"changed while it was read \(\d+ to \d+ bytes\)|extends beyond end of segment"),
    "rewritten": (rewrite, "changed while it was read;"),
    "replaced": (replace, "replaced while it was read"),
    "removed": (os.unlink, "removed while it was read"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "changed while it was read|ends"),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_reported(tmp_path, change, suffix):
    path = write_clip(tmp_path / f"a{suffix}", count=30)
    action, expected = CHANGES[change]
    copy = tmp_path / f"b{suffix}"
    shutil.copy(path, copy)
    with open_clip(path) as clip:
        clip.read_chunk(4)
        action(path)
        with pytest.raises(DamagedInputError, match=expected):
            clip.skip(100)
    with open_clip(copy, on_damage="salvage") as clip:
        clip.read_chunk(4)
        action(copy)
        clip.skip(100)
        assert any("while it was read" in line for line in clip.damage)


def test_the_check_can_be_asked_for_before_the_end(tmp_path):
    path = write_clip(tmp_path / "a.mp4", count=30)
    with open_clip(path) as clip:
        clip.read_chunk(4)
        clip.check_unchanged()
        grow(path)
        with pytest.raises(
            DamagedInputError, match="expected a file that stays as it is, found one that changed"
        ):
            clip.check_unchanged()


def test_a_still_that_changes_while_it_is_read_is_reported(tmp_path, monkeypatch):
    from gpufuse import stillclip

    for k in range(3):
        write_still(tmp_path / f"{k}.png", picture(k))

    def read_and_grow(path, **options):
        image = real(path, **options)
        if path.name == "1.png":
            grow(path)
        return image

    real = stillclip.read_still
    monkeypatch.setattr(stillclip, "read_still", read_and_grow)
    with open_clip(tmp_path) as clip, pytest.raises(DamagedInputError, match="changed while it was read"):
        clip.skip(9)


def test_pictures_of_another_mode_are_no_change_of_size(tmp_path):
    write_still(tmp_path / "0.png", picture(0))
    Image.fromarray(picture(1)).convert("L").save(tmp_path / "1.png")
    with open_clip(tmp_path, on_resize="scale") as clip:
        assert len(levels_of(clip)) == 2
        assert clip.notes == []


# -- frames in the memory of a GPU ---------------------------------------------------------------


class Plane:
    """Rows with padding in the device's memory, handed over as PyAV does."""

    def __init__(self, gpu, rows):
        self._view = gpu.zeros((len(rows), rows.shape[1] + 18), rows.dtype)[:, : rows.shape[1]]
        self._view[...] = gpu.asarray(rows)

    def __dlpack__(self, stream=None):
        return getattr(self._view, "_a", self._view).__dlpack__()


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
def test_checksums_of_pictures_on_a_gpu_are_those_of_their_codes(gpu, rng, dtype):
    planes = [rng.integers(0, 250, (rows, 62)).astype(dtype) for rows in (46, 23)]
    frame = SimpleNamespace(
        format=SimpleNamespace(name="cuda"), planes=[Plane(gpu, rows) for rows in planes], width=62
    )
    assert frame_checksum(frame) == zlib.crc32(b"".join(rows.tobytes() for rows in planes))
