"""Clips are read whole or not at all, and written with the times that were given."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy
import pytest
from clips import HEIGHT, WIDTH, picture, trimmed, with_rotation, write_clip
from PIL import Image

from gpufuse.errors import (
    ConfigError,
    DamagedInputError,
    GpufuseError,
    InputError,
    LimitError,
    OutputError,
)
from gpufuse.overlap import prefetch
from gpufuse.video import ClipWriter, Limits, is_still, open_clip, read_still, write_still

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("GPUFUSE_DATA", ROOT.parent / "shared" / "data"))


def read_all(source, **options):
    with open_clip(source, **options) as clip:
        chunks = list(clip.chunks(16))
        pts = [time for chunk in chunks for time in chunk.pts]
        return numpy.concatenate([chunk.levels for chunk in chunks]), pts, clip


VFR = numpy.cumsum([1, 40, 33, 33, 95, 40, 7, 61, 44, 38] * 6).tolist()
MS = Fraction(1, 1000)
INTACT = {
    "h264 mp4": ("a.mp4", {}),
    "h264 mp4 without b-frames": ("a.mp4", {"options": {"bf": "0"}}),
    "h264 mp4 many b-frames": ("a.mp4", {"options": {"bf": "8", "b-pyramid": "normal"}}),
    "h264 mp4 irregular": ("a.mp4", {"pts": VFR, "time_base": MS}),
    "h264 mp4 late start": ("a.mp4", {"pts": range(5000, 5060)}),
    "h264 mp4 ntsc": ("a.mp4", {"rate": Fraction(30000, 1001), "time_base": Fraction(1001, 30000)}),
    "h264 mp4 fragmented": ("a.mp4", {"muxing": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264 mp4 of many fragments": (
        "a.mp4",
        {"count": 400, "size": (48, 32), "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    "h264 mp4 long last frame": ("a.mp4", {"pts": [*range(9), 60], "count": 10, "options": {"bf": "0"}}),
    "h264 mp4 faststart": ("a.mp4", {"muxing": {"movflags": "faststart"}}),
    "h264 mp4 with sound": ("a.mp4", {"sound": 4.0}),
    "h264 mp4 10 bits": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "h264 mp4 4:4:4 odd": ("a.mp4", {"pix_fmt": "yuv444p", "size": (61, 37)}),
    "h264 mp4 one frame": ("a.mp4", {"count": 1}),
    "h264 mp4 two frames": ("a.mp4", {"count": 2}),
    "h264 mkv": ("a.mkv", {}),
    "h264 mkv irregular": ("a.mkv", {"pts": VFR, "time_base": MS}),
    "h264 mkv late start": ("a.mkv", {"pts": range(50, 110)}),
    "h264 mkv with long sound": ("a.mkv", {"sound": 6.0}),
    "h264 mkv one frame": ("a.mkv", {"count": 1}),
    "h264 ts": ("a.ts", {}),
    "h264 ts irregular": ("a.ts", {"pts": VFR, "time_base": MS}),
    "h264 avi": ("a.avi", {}),
    "h264 raw": ("a.h264", {}),
    "h264 mov": ("a.mov", {}),
    "h264 flv": ("a.flv", {}),
    "hevc mp4": ("a.mp4", {"codec": "libx265", "count": 20, "options": {"x265-params": "log-level=none"}}),
    "mjpeg avi": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "mjpeg mkv 4:2:2": ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj422p"}),
    "mpeg4 avi": ("a.avi", {"codec": "mpeg4"}),
    "mpeg4 mp4": ("a.mp4", {"codec": "mpeg4"}),
    "mpeg2 ts": ("a.ts", {"codec": "mpeg2video"}),
    "ffv1 mkv rgb": ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
    "ffv1 mkv grey": ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
    "h264 m2ts": ("a.m2ts", {"muxing": {"mpegts_m2ts_mode": "1"}, "container": "mpegts"}),
    "hevc raw": ("a.hevc", {"codec": "libx265", "count": 20, "options": {"x265-params": "log-level=none"}}),
    "mjpeg raw": ("a.mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "mpeg2 ps": ("a.mpg", {"codec": "mpeg2video", "container": "vob"}),
    "mpeg4 raw": ("a.m4v", {"codec": "mpeg4", "container": "m4v"}),
    "msmpeg4 asf": ("a.wmv", {"codec": "msmpeg4v3", "container": "asf"}),
    "vp8 webm": ("a.webm", {"codec": "libvpx", "count": 20, "options": {"deadline": "realtime"}}),
    "av1 mp4": ("a.mp4", {"codec": "libsvtav1", "count": 20, "options": {"preset": "12"}}),
    "h264 avi irregular": (
        "a.avi",
        {"pts": [0, 1, 2, 4, 5, 9, 10, 11, 12, 13], "count": 10, "options": {"bf": "0"}},
    ),
    "vp9 webm": ("a.webm", {"codec": "libvpx-vp9", "count": 20, "options": {"deadline": "realtime"}}),
}


@pytest.mark.parametrize("case", INTACT)
def test_intact_clips_raise_no_alarm_and_keep_their_times(tmp_path, case):
    name, options = INTACT[case]
    path = write_clip(tmp_path / name, **options)
    width, height = options.get("size", (WIDTH, HEIGHT))
    count = options.get("count", 60)
    levels, pts, clip = read_all(path)
    assert levels.shape == (count, 3, height, width)
    assert levels.dtype == numpy.float32
    assert (clip.width, clip.height, clip.frames_read) == (width, height, count)
    assert clip.has_audio == ("sound" in case)
    assert clip.frame_count_hint is None or abs(clip.frame_count_hint - count) <= 10 + 100 * ("sound" in case)
    assert clip.damage == []
    base = options.get("time_base", Fraction(1, 25))
    if clip.time_base == 1 / clip.rate and name.endswith((".h264", ".hevc", ".mjpeg", ".m4v")):
        base = clip.time_base  # no times are stored
    wanted = [time * base for time in options.get("pts", range(count))]
    got = [time * clip.time_base for time in pts]
    exact = name.endswith((".mp4", ".mov"))
    if not exact or "fragment" in case:  # others count from another start, with clocks of their own
        wanted, got = [t - wanted[0] for t in wanted], [t - got[0] for t in got]
    difference = max(abs(a - b) for a, b in zip(wanted, got, strict=True))
    assert difference <= (0 if exact else Fraction(1, 1000))
    middle = count // 2
    assert numpy.abs(levels[middle] - picture(middle, width, height).transpose(2, 0, 1)).mean() < (
        80 if "grey" in case else 25  # the blocks are colourful
    )


def test_trimmed_clips_raise_no_alarm_and_start_where_they_should(tmp_path):
    source = write_clip(tmp_path / "a.mp4", options={"bf": "0", "g": "30"})
    trimmed(source, tmp_path / "b.mp4", 20)
    levels, pts, clip = read_all(tmp_path / "b.mp4")
    assert len(levels) == 40
    assert [time * clip.time_base for time in pts] == [Fraction(k, 25) for k in range(40)]
    whole, _, _ = read_all(source)
    numpy.testing.assert_array_equal(levels, whole[20:])


def test_chunks_join_to_the_same_frames_whatever_their_length(tmp_path):
    path = write_clip(tmp_path / "a.mkv", count=23)
    whole, pts, _ = read_all(path)
    for length in (1, 2, 7, 23, 64):
        with open_clip(path) as clip:
            chunks = list(clip.chunks(length))
            assert len(clip.read_chunk(3)) == 0
        assert [len(chunk) for chunk in chunks[:-1]] == [length] * (len(chunks) - 1)
        assert sum(map(len, chunks)) == 23
        numpy.testing.assert_array_equal(numpy.concatenate([chunk.levels for chunk in chunks]), whole)
    with open_clip(path) as clip:
        frames = list(clip)
    assert [frame.pts for frame in frames] == pts
    assert frames[5].time == pts[5] * clip.time_base
    numpy.testing.assert_array_equal(numpy.stack([frame.levels for frame in frames]), whole)


def test_chunks_fill_the_memory_they_are_given(tmp_path):
    path = write_clip(tmp_path / "a.mp4", count=5)
    whole, _, _ = read_all(path)
    memory = numpy.empty((4, *whole.shape[1:]), numpy.float32)
    with open_clip(path) as clip:
        first = clip.read_chunk(3, out=memory)
        assert first.levels.base is memory
        numpy.testing.assert_array_equal(first.levels, whole[:3])
        assert len(clip.read_chunk(3, out=memory)) == 2
        with pytest.raises(ValueError, match=r"out: expected contiguous float32 of shape \(5, 3, 118, 158\)"):
            clip.read_chunk(5, out=memory)
        with pytest.raises(ValueError, match="count: expected at least 1 frame, got 0"):
            clip.read_chunk(0)


# -- damage --------------------------------------------------------------------------------------


def cut(path, share):
    data = path.read_bytes()
    length = int(len(data) * share)
    # A transport stream that ends with a whole packet is whole.
    path.write_bytes(data[: length + 77 if length % 188 == 0 else length])
    return path


def test_a_clip_cut_short_is_reported_with_what_is_missing(tmp_path):
    path = cut(write_clip(tmp_path / "night.mkv"), 0.5)
    with pytest.raises(DamagedInputError) as caught:
        read_all(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("night.mkv: expected ")
    assert text.endswith("or use --on-damage salvage to keep the readable part")
    levels, pts, clip = read_all(path, on_damage="salvage")
    assert 10 < len(levels) < 50
    assert pts == sorted(set(pts))
    early = [line for line in clip.damage if "expected about 60 frames (2.40 s), found " in line]
    assert len(early) == 1
    missing = Fraction(60 - len(levels), 25)
    assert f"found {len(levels)}: the clip ends {float(missing):.2f} s early" in early[0]


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "a.mp4", "a.flv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_clips_of_every_container_are_reported(tmp_path, name, share):
    muxing = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = write_clip(tmp_path / name, muxing=muxing)
    whole, _, _ = read_all(path)
    cut(path, share)
    with pytest.raises(DamagedInputError, match=rf"^{name}: expected .*, found .*; repair or fetch it again"):
        read_all(path)
    levels, _, clip = read_all(path, on_damage="salvage")
    assert clip.damage
    assert abs(len(levels) - 60 * share) < 20
    sound = max(0, min(12, len(levels) - 4))  # the last pictures may be half there
    numpy.testing.assert_array_equal(levels[:sound], whole[:sound])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.flv", "a.mov", "a.h264"])
@pytest.mark.parametrize("size", [0, 1, 16, 100])
def test_almost_empty_files_are_no_clips(tmp_path, name, size):
    path = write_clip(tmp_path / name, count=5)
    path.write_bytes(path.read_bytes()[:size])
    for policy in ("fail", "salvage"):
        with pytest.raises((InputError, DamagedInputError), match=rf"^{name}: expected .*; .+"):
            open_clip(path, on_damage=policy)


def test_a_lost_packet_leaves_a_gap_that_is_reported(tmp_path):
    source = write_clip(tmp_path / "a.mp4", options={"bf": "0", "g": "1"})
    with av.open(str(source)) as given, av.open(str(tmp_path / "b.mkv"), "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if packet.size and number != 30:
                packet.stream = copy
                output.mux(packet)
    with pytest.raises(
        DamagedInputError, match=r"regular times, found 1 gap, the first of 0\.08 s at 1\.16 s"
    ):
        read_all(tmp_path / "b.mkv")


def test_a_size_change_is_reported_and_left_out(tmp_path):
    first = write_clip(tmp_path / "a.h264", count=20, size=(96, 64))
    second = write_clip(tmp_path / "b.h264", count=20, size=(192, 128))
    for name, parts in (("up.h264", (first, second)), ("down.h264", (second, first))):
        path = tmp_path / name
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        with pytest.raises(DamagedInputError, match=r"found the size changed to \d+x\d+ at 0\.80 s"):
            read_all(path)
        levels, _, clip = read_all(path, on_damage="salvage")
        assert len(levels) == 20
        assert "the size changed" in clip.damage[0]


# -- what is no clip -----------------------------------------------------------------------------


def test_content_decides_and_not_the_name(tmp_path):
    video = write_clip(tmp_path / "a.mkv", count=3)
    for name in ("a.jpg", "a.txt", "a"):
        shutil.copy(video, tmp_path / name)
        assert not is_still(tmp_path / name)
        assert len(read_all(tmp_path / name)[0]) == 3
    write_still(tmp_path / "b.png", picture(0))
    shutil.copy(tmp_path / "b.png", tmp_path / "b.mp4")
    assert is_still(tmp_path / "b.mp4")
    assert len(read_all(tmp_path / "b.mp4")[0]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"this is no video\n" * 100,
        b"%PDF-1.7\n" + bytes(500),
        b"PK\x03\x04" + bytes(500),
        numpy.random.default_rng(8).bytes(4000),
    ],
    ids=["text", "pdf", "zip", "noise"],
)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(GpufuseError, match=r"^a\.mp4: expected a video or a picture, found neither"):
        open_clip(path)


def test_a_missing_file_folder_or_pattern_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^no\.mp4: expected a file, found none at .*; check the path"):
        open_clip(tmp_path / "no.mp4")
    with pytest.raises(InputError, match=r"\*\.jpg: expected stills of this pattern, found none"):
        open_clip(f"{tmp_path}/*.jpg")
    with pytest.raises(InputError, match="expected stills in the folder, found none"):
        open_clip(tmp_path)
    with pytest.raises(InputError, match="expected a readable file, found 'embedded null byte'"):
        open_clip("a\0b")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="expected a file, found a pipe or device"):
        open_clip(tmp_path / "a.mp4")


def test_sound_alone_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as output:
        audio = output.add_stream("aac", rate=8000)
        for k in range(8):
            silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 1000), numpy.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, 1000 * k
            output.mux(audio.encode(silence))
        output.mux(audio.encode(None))
    with pytest.raises(InputError, match="expected a video stream, found none"):
        open_clip(tmp_path / "a.m4a")


@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4", "a.sdp", "a.txt"])
def test_playlists_cause_no_connection_and_no_reading(tmp_path, name):
    clip = write_clip(tmp_path / "secret.ts", count=3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        for target in (host, str(clip), f"file:{clip}", f"concat:{clip}|{clip}"):
            playlists = (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
                f"v=0\nc=IN IP4 127.0.0.1\nm=video {server.getsockname()[1]} RTP/AVP 96\n",
            )
            for text in playlists:
                (tmp_path / name).write_text(text)
                with pytest.raises(InputError, match="found neither"):
                    open_clip(tmp_path / name)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/a.mp4", "rtsp://127.0.0.1:9/a", "concat:a|b", "-"])
def test_addresses_are_only_file_names(source):
    with pytest.raises(InputError, match="expected a file, found none"):
        open_clip(source)


def test_limits_are_kept(tmp_path):
    path = write_clip(tmp_path / "a.mkv")
    with pytest.raises(
        LimitError, match=r"expected at most 1000 pixels a frame, found 158x118; .*raise the limit"
    ):
        open_clip(path, limits=Limits(max_pixels=1000))
    with pytest.raises(LimitError, match="expected at most 59 frames, found more"):
        read_all(path, limits=Limits(max_frames=59))
    with pytest.raises(LimitError, match=r"expected at most 1\.5 s, found more"):
        read_all(path, limits=Limits(max_seconds=1.5))
    assert len(read_all(path, limits=Limits(WIDTH * HEIGHT, 60, 2.5))[0]) == 60
    write_still(tmp_path / "a.png", picture(0))
    with pytest.raises(LimitError, match="expected at most 1000 pixels, found 158x118"):
        open_clip(tmp_path / "a.png", limits=Limits(max_pixels=1000))
    raw = write_clip(tmp_path / "a.h264")  # states no length: counted while it is read
    with pytest.raises(LimitError, match="expected at most 20 frames, found more"):
        read_all(raw, limits=Limits(max_frames=20))


def test_wrong_options_are_named(tmp_path):
    path = write_clip(tmp_path / "a.mp4", count=2)
    with pytest.raises(ConfigError, match="on_damage: expected 'fail' or 'salvage', got 'ignore'"):
        open_clip(path, on_damage="ignore")
    with pytest.raises(ConfigError, match="rate: expected none for a video, got 30"):
        open_clip(path, rate=30)
    with pytest.raises(ConfigError, match="rate: expected more than 0 frames per second, got 0"):
        open_clip(path, rate=0)
    clip = open_clip(path)
    clip.close()
    clip.close()
    with pytest.raises(ValueError, match="expected an open clip, got a closed one"):
        clip.read_chunk(1)


# -- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_rotated_clips_are_turned_upright(tmp_path, angle):
    path = write_clip(tmp_path / "a.mp4", count=3)
    stored, _, _ = read_all(path)
    with_rotation(path, angle)
    levels, _, clip = read_all(path)
    # The matrix turns clockwise by the angle.
    numpy.testing.assert_array_equal(levels, numpy.rot90(stored, -angle // 90, axes=(2, 3)))
    assert (clip.height, clip.width) == levels.shape[2:]


PIXEL_FORMATS = {
    # name: bits kept, and whether all codes are used (else 219 steps of 256)
    "yuv420p": (8, False), "yuvj420p": (8, True), "yuv422p": (8, False), "yuv444p": (8, False),
    "yuv411p": (8, False), "yuv410p": (8, False), "yuv440p": (8, False), "yuva420p": (8, False),
    "yuv420p10le": (10, False), "yuv422p10le": (10, False), "yuv444p10le": (10, False),
    "yuv420p12le": (12, False), "yuv444p16le": (16, False), "yuva444p10le": (10, False),
    "gray": (8, True), "gray10le": (10, True), "gray16le": (16, True), "ya8": (8, True),
    "bgr0": (8, True), "bgra": (8, True), "gbrp10le": (10, True), "rgb48le": (16, True),
}  # fmt: skip


@pytest.mark.parametrize("pix_fmt", PIXEL_FORMATS)
def test_pixel_formats_keep_a_grey_ramp(tmp_path, pix_fmt):
    """A ramp of all codes comes back exactly, with the depth it had."""
    bits, full = PIXEL_FORMATS[pix_fmt]
    count = 1 << min(bits, 10)
    codes = (numpy.arange(count) * ((1 << bits) - 1) // (count - 1)).astype("u2" if bits > 8 else "u1")
    frame = av.VideoFrame(count, 16, pix_fmt)
    for index, plane in enumerate(frame.planes):
        rows = numpy.frombuffer(plane, codes.dtype).reshape(plane.height, -1)
        if pix_fmt in ("bgr0", "bgra", "rgb48le", "ya8"):
            parts = {"rgb48le": 3, "ya8": 2}.get(pix_fmt, 4)
            rows[:, : count * parts] = numpy.repeat(codes, parts)
            if pix_fmt in ("bgra", "ya8"):
                rows[:, parts - 1 : count * parts : parts] = 255
        else:
            is_luma = index == 0 or pix_fmt.startswith("gbr")
            rows[:, : len(codes)] = codes if is_luma else (1 << bits) - 1 if index == 3 else 1 << (bits - 1)
            if not is_luma and index != 3:
                rows[...] = 1 << (bits - 1)
    frame.pts = 0
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1" if pix_fmt != "yuvj420p" else "mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = count, 16, pix_fmt
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    levels, _, _ = read_all(path)
    step = 2.0 ** (bits - 8)
    expected = codes * (255 / (256 * step - 1)) if full else (codes - 16 * step) * (255 / (219 * step))
    tolerance = {"yuvj420p": 2.5, "gbrp10le": 5e-3}.get(pix_fmt, 1e-3)
    numpy.testing.assert_allclose(
        levels[0], numpy.broadcast_to(numpy.clip(expected, 0, 255), levels[0].shape), atol=tolerance
    )
    assert len(numpy.unique(levels[0, 1])) >= 0.7 * count


@pytest.mark.parametrize("lines", [480, 720])
@pytest.mark.parametrize("tag", [None, 1, 5, 9])
def test_the_matrix_follows_the_tag_and_else_the_size(tmp_path, lines, tag):
    tags = [] if tag is None else [("colorspace", tag)]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, lines, "yuv420p"
        for name, value in tags:
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame(64, lines, "yuv420p")
        for plane, value in zip(frame.planes, (120, 90, 180), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        if tag is not None:
            frame.colorspace = tag
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    levels, _, _ = read_all(path)
    level, blue, red = (120 - 16) * 255 / 219, (90 - 128) * 255 / 224, (180 - 128) * 255 / 224
    default = (0.2126, 0.0722) if lines >= 720 else (0.299, 0.114)
    kr, kb = {None: default, 1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[tag]
    expected = [level + 2 * (1 - kr) * red, 0, level + 2 * (1 - kb) * blue]
    expected[1] = (level - kr * expected[0] - kb * expected[2]) / (1 - kr - kb)
    numpy.testing.assert_allclose(levels[0, :, lines // 2, 32], expected, atol=2.5)


# -- stills --------------------------------------------------------------------------------------


def make_stills(folder, count=12, size=(40, 26), suffix=".png"):
    folder.mkdir(exist_ok=True)
    for k in range(count):
        write_still(folder / f"shot{k}{suffix}", picture(k, *size))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("as_glob", [False, True])
def test_stills_are_a_clip_in_natural_order(tmp_path, as_glob):
    folder = make_stills(tmp_path / "night")
    levels, pts, clip = read_all(f"{folder}/*.png" if as_glob else folder)
    assert pts == list(range(12))
    assert clip.time_base == Fraction(1, 25)
    assert clip.rate == 25
    assert clip.frame_count_hint == 12
    assert (clip.width, clip.height, clip.has_audio) == (40, 26, False)
    for k in range(12):
        numpy.testing.assert_array_equal(levels[k], picture(k, 40, 26).transpose(2, 0, 1))
    assert read_all(folder, rate=Fraction(1, 60))[2].time_base == 60


def test_one_still_is_a_clip_of_one_frame(tmp_path):
    write_still(tmp_path / "a.png", picture(3))
    levels, pts, clip = read_all(tmp_path / "a.png")
    assert levels.shape == (1, 3, HEIGHT, WIDTH)
    assert pts == [0]
    assert clip.name == "a.png"


def test_grey_stills_have_three_equal_channels(tmp_path):
    deep = numpy.linspace(0, 65535, 7 * 9).reshape(7, 9).astype(numpy.uint16)
    write_still(tmp_path / "a.png", deep)
    levels, _, _ = read_all(tmp_path / "a.png")
    numpy.testing.assert_allclose(levels[0], numpy.stack([deep / 257.0] * 3), atol=1e-4)


def test_damaged_stills_are_reported_or_left_out(tmp_path):
    folder = make_stills(tmp_path / "night")
    cut(folder / "shot3.png", 0.5)
    (folder / "shot5.png").write_bytes(b"")
    write_still(folder / "shot7.png", picture(7, 42, 26), overwrite=True)
    with pytest.raises(DamagedInputError, match=r"^night: expected whole pictures, found shot3\.png: "):
        read_all(folder)
    _, pts, clip = read_all(folder, on_damage="salvage")
    assert pts == [0, 1, 2, 4, 6, 8, 9, 10, 11]
    assert len(clip.damage) == 3
    assert "the size changed to 42x26 at shot7.png" in clip.damage[2]
    cut(folder / "shot0.png", 0.5)
    with pytest.raises(DamagedInputError, match=r"^shot0\.png: expected a whole picture, found '.*'; repair"):
        read_still(folder / "shot0.png")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_cut_short_are_reported(tmp_path, share, progressive):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(0)).save(path, quality=90, progressive=progressive)
    read_still(path)
    cut(path, share)
    with pytest.raises(DamagedInputError, match=r"^a\.jpg: expected .*, found .*; repair or fetch it again"):
        read_still(path)
    path.write_bytes(path.read_bytes() + b"\xff\xd9")  # an end that hides the cut
    with pytest.raises(DamagedInputError, match=r"^a\.jpg: expected .*, found .*; repair or fetch it again"):
        read_still(path)


def test_a_jpeg_whose_lower_half_was_painted_over_is_reported(tmp_path):
    rng = numpy.random.default_rng(2)
    image = rng.integers(0, 255, (144, 176, 3)).astype(numpy.uint8).repeat(2, 0).repeat(2, 1)
    image[144:] = image[144]
    image[270:, 100:200] = 60  # a caption
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=90)
    with pytest.raises(DamagedInputError, match=r"found the lower \d+% painted over with one row"):
        read_still(tmp_path / "a.jpg")
    ramp = numpy.broadcast_to(numpy.arange(256, dtype=numpy.uint8), (128, 256))
    Image.fromarray(ramp).save(tmp_path / "b.jpg", quality=90)  # drawn, not damaged
    assert read_still(tmp_path / "b.jpg").shape == (128, 256)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".jpg", ".jpeg"])
@pytest.mark.parametrize("kind", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 3)])
def test_stills_are_written_and_read_back(tmp_path, suffix, kind, shape):
    rng = numpy.random.default_rng(5)
    image = numpy.full(shape, 40, kind) * (257 if kind == numpy.uint16 else 1)
    image += rng.integers(0, 3, shape).astype(kind)
    path = tmp_path / f"a{suffix}"
    write_still(path, image)
    back = read_still(path)
    assert back.shape == shape
    if "jp" in suffix:
        assert back.dtype == numpy.uint8
        assert numpy.abs(back.astype(float) - image / (257 if kind == numpy.uint16 else 1)).max() < 6
    else:
        assert back.dtype == kind
        numpy.testing.assert_array_equal(back, image)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputError, match="expected a new name, found that it exists"):
        write_still(path, image)
    write_still(path, image, overwrite=True)


def test_stills_of_other_kinds(tmp_path):
    write_still(tmp_path / "float.png", numpy.array([[0.0, 0.5, 1.0]]))
    assert read_still(tmp_path / "float.png").tolist() == [[0, 128, 255]]
    with pytest.raises(OutputError, match=r"expected a name ending in \.png, .*, found '\.gif'"):
        write_still(tmp_path / "a.gif", picture(0))
    rgba = numpy.full((4, 6, 4), 200, numpy.uint8)
    rgba[0, :, 3] = 0
    rgba[1, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    assert read_still(tmp_path / "alpha.png")[:3, 0, 0].tolist() == [0, 200, round(200 * 200 / 255)]
    Image.fromarray(picture(0)).convert("P").save(tmp_path / "palette.png")
    assert read_still(tmp_path / "palette.png").shape == (HEIGHT, WIDTH, 3)
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
    with pytest.raises(InputError, match="expected a grey or RGB picture, found mode CMYK"):
        read_still(tmp_path / "cmyk.jpg")
    pages = [Image.new("L", (4, 4)), Image.new("L", (4, 4))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="expected one picture, found 2"):
        read_still(tmp_path / "pages.tif")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="expected a still image, found none"):
        read_still(tmp_path / "text.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_stills_are_turned_upright(tmp_path, orientation, suffix):
    from PIL import ImageOps

    image = Image.fromarray(picture(0, 40, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a{suffix}", exif=exif)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        expected = numpy.array(ImageOps.exif_transpose(opened))
    numpy.testing.assert_array_equal(read_still(tmp_path / f"a{suffix}"), expected)


# -- writing -------------------------------------------------------------------------------------


def smooth_levels(count, width, height):
    y, x = numpy.mgrid[:height, :width]
    frames = [numpy.stack([x + 3 * k, y + 2 * k, x + y]) % 256 * 0.9 for k in range(count)]
    return numpy.clip(numpy.stack(frames), 0, 250).astype(numpy.float32)


TIMES = {
    "25": (Fraction(1, 25), 25, range(30)),
    "ntsc": (Fraction(1001, 30000), Fraction(30000, 1001), range(30)),
    "irregular": (Fraction(1, 90000), 25, [89 * time for time in VFR[:30]]),
    "irregular, milliseconds": (MS, 25, VFR[:30]),
    "irregular, microseconds": (Fraction(1, 1_000_000), 25, [997 * time for time in VFR[:30]]),
    "late start": (Fraction(1, 90000), 25, range(900_011, 900_011 + 30 * 3600, 3600)),
    "one frame": (Fraction(1, 25), 25, [7]),
    "12800": (Fraction(1, 12800), 25, range(0, 30 * 512, 512)),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("case", TIMES)
def test_frame_times_come_out_as_they_went_in(tmp_path, case, suffix):
    time_base, rate, pts = TIMES[case]
    path = tmp_path / f"a{suffix}"
    levels = smooth_levels(len(pts), 48, 34)
    with ClipWriter(path, 48, 34, time_base, rate) as writer:
        writer.write_chunk(levels[:11], pts[:11])
        writer.write_chunk(levels[11:], pts[11:])
    assert writer.frames_written == len(pts)
    back, times, clip = read_all(path)
    assert [time * clip.time_base for time in times] == [time * time_base for time in pts]
    assert numpy.abs(back - levels).mean() < 4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        last = stream.duration * stream.time_base - (pts[-1] - pts[0]) * time_base
        assert 0 < last <= Fraction(1, 10)
        if case in ("25", "ntsc", "12800", "one frame"):
            assert last == 1 / Fraction(rate)


def test_matroska_rounds_times_to_milliseconds(tmp_path):
    time_base, rate, pts = TIMES["ntsc"]
    with ClipWriter(tmp_path / "a.mkv", 48, 34, time_base, rate) as writer:
        writer.write_chunk(smooth_levels(30, 48, 34), pts)
    _, times, clip = read_all(tmp_path / "a.mkv")
    assert max(abs(a * clip.time_base - b * time_base) for a, b in zip(times, pts, strict=True)) <= MS / 2


def test_negative_times_are_shifted_to_zero(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", 48, 34, Fraction(1, 25), 25) as writer:
        writer.write_chunk(smooth_levels(5, 48, 34), range(-3, 2))
    assert writer.shift == 3
    assert [t * Fraction(1, 25) for t in range(5)] == [
        t * read_all(tmp_path / "a.mp4")[2].time_base for t in read_all(tmp_path / "a.mp4")[1]
    ]


@pytest.mark.parametrize(
    "size", [(w, h) for w in (1, 2, 3, 16, 17) for h in (1, 2, 5, 16)] + [(161, 121), (160, 121)]
)
def test_clips_have_their_true_size(tmp_path, size):
    width, height = size
    levels = smooth_levels(3, width, height)
    with ClipWriter(tmp_path / "a.mp4", width, height, Fraction(1, 25), 25) as writer:
        writer.write_chunk(levels, range(3))
    back, _, _ = read_all(tmp_path / "a.mp4")
    assert back.shape == levels.shape
    assert numpy.abs(back - levels).mean() < 10
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == ("yuv444p" if width % 2 or height % 2 else "yuv420p")
        assert (context.colorspace, context.color_range) == (6, 1)


def test_large_clips_are_tagged_with_their_matrix_and_aspect(tmp_path):
    aspect = Fraction(10, 11)
    with ClipWriter(tmp_path / "a.mp4", 64, 720, Fraction(1, 25), 25, sample_aspect=aspect) as writer:
        writer.write_chunk(smooth_levels(2, 64, 720), range(2))
    back, _, clip = read_all(tmp_path / "a.mp4")
    assert clip.sample_aspect == aspect
    assert numpy.abs(back - smooth_levels(2, 64, 720)).mean() < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_an_interrupted_clip_leaves_nothing(tmp_path, error):
    def interrupted():
        with ClipWriter(tmp_path / "a.mp4", 48, 34, Fraction(1, 25), 25) as writer:
            writer.write_chunk(smooth_levels(3, 48, 34), range(3))
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_writers_refuse_what_they_cannot_do(tmp_path):
    def writer(name="a.mp4", width=48, height=34, **options):
        return ClipWriter(tmp_path / name, width, height, Fraction(1, 25), 25, **options)

    with pytest.raises(OutputError, match=r"expected a name ending in \.mp4, .*, found '\.gif'"):
        writer("a.gif")
    with pytest.raises(ConfigError, match="size: expected at least 1x1, got 0x34"):
        writer(width=0)
    with pytest.raises(ConfigError, match="crf: expected 0 to 51, got 99"):
        writer(crf=99)
    with pytest.raises(
        OutputError, match=r"^a\.mp4: expected to start the encoder, found '.*'; check preset"
    ):
        writer(preset="warp")
    with pytest.raises(OutputError, match="expected at least one frame, found none"), writer():
        pass
    assert list(tmp_path.iterdir()) == []
    with writer() as good:
        good.write_chunk(smooth_levels(1, 48, 34), [0])
        with pytest.raises(ValueError, match="pts: expected increasing times, got 0 after 0"):
            good.write_chunk(smooth_levels(1, 48, 34), [0])
        with pytest.raises(ValueError, match=r"levels: expected float32 of shape \(1, 3, 34, 48\)"):
            good.write_chunk(smooth_levels(1, 34, 48), [1])
    with pytest.raises(ValueError, match="expected an open writer, got a closed one"):
        good.write_chunk(smooth_levels(1, 48, 34), [2])
    with pytest.raises(OutputError, match="expected a new name, found that it exists"):
        writer()
    with pytest.raises(OutputError, match="create the folder first"):
        writer("no/a.mp4")


@pytest.mark.parametrize("limit", [0, 100, 4000, 30000])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path, limit, suffix):
    resource = pytest.importorskip("resource")
    rng = numpy.random.default_rng(4)
    noise = rng.uniform(0, 255, (12, 3, 96, 128)).astype(numpy.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with (
            pytest.raises(OutputError, match=r"^a\.m..: expected .*; .+"),
            ClipWriter(tmp_path / f"a{suffix}", 128, 96, Fraction(1, 25), 25) as writer,
        ):
            writer.write_chunk(noise, range(12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


# -- manners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, av.logging.ERROR, av.logging.VERBOSE])
def test_the_logging_of_the_process_is_restored(tmp_path, level):
    path = write_clip(tmp_path / "a.mkv", count=5)
    av.logging.set_level(level)
    try:
        with open_clip(path), open_clip(path) as clip:
            list(clip)
        with pytest.raises(GpufuseError):
            read_all(cut(path, 0.4))
        assert av.logging.get_level() == level
        assert av.logging.get_skip_repeated()
    finally:
        av.logging.set_level(None)


def test_readers_in_turn_and_in_threads_do_not_mix_their_damage(tmp_path):
    good = write_clip(tmp_path / "good.ts", count=40)
    bad = write_clip(tmp_path / "bad.ts", count=40)
    data = bytearray(bad.read_bytes())
    data[5000:5400] = bytes(400)
    bad.write_bytes(data)
    # Twice, as FFmpeg's logging would skip a line equal to the last.
    for _ in range(2):
        with open_clip(good) as first, open_clip(bad, on_damage="salvage") as second:
            while len(first.read_chunk(1)) + len(second.read_chunk(1)):
                pass
            assert first.damage == []
            assert second.damage
    failures = []

    def read(path, policy):
        for _ in range(5):
            try:
                clip = read_all(path, on_damage=policy)[2]
                if bool(clip.damage) != (path == bad):
                    failures.append(path)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=read, args=(p, "salvage")) for p in (good, bad, good, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_clip_may_be_read_ahead_in_a_thread(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    whole, _, _ = read_all(path)
    with open_clip(path) as clip:
        chunks = list(prefetch(clip.chunks(7)))
    numpy.testing.assert_array_equal(numpy.concatenate([chunk.levels for chunk in chunks]), whole)
    damaged = write_clip(tmp_path / "b.mp4")
    data = damaged.read_bytes()
    middle = len(data) // 2
    damaged.write_bytes(data[:middle] + bytes(64) + data[middle + 64 :])
    with open_clip(damaged) as clip, pytest.raises(DamagedInputError):
        list(prefetch(clip.chunks(7)))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
def test_interrupting_a_whole_job_ends_it_and_leaves_nothing(tmp_path, delay):
    source = write_clip(tmp_path / "a.mkv", count=250)
    code = f"""
import os, signal, sys, threading
from gpufuse.overlap import BackgroundWriter, prefetch
from gpufuse.video import ClipWriter, open_clip

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs deaf to it
threading.Timer({delay} + 0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
while True:
    with open_clip({str(source)!r}) as clip:
        writer = ClipWriter({str(tmp_path / "b.mp4")!r}, clip.width, clip.height, clip.time_base, 25, overwrite=True)
        with writer, BackgroundWriter(lambda chunk: writer.write_chunk(chunk.levels, chunk.pts)) as behind:
            for chunk in prefetch(clip.chunks(8)):
                behind.put(chunk)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "KeyboardInterrupt" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) in (["a.mkv"], ["a.mkv", "b.mp4"])
    if (tmp_path / "b.mp4").exists():  # of an earlier turn, and whole
        assert len(read_all(tmp_path / "b.mp4")[0]) == 250


def test_files_are_closed(tmp_path):
    path = write_clip(tmp_path / "a.mp4", count=3)
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("no list of open files on this system")
    read_all(path)
    before = len(list(folder.iterdir()))
    for _ in range(20):
        read_all(path)
        with pytest.raises(LimitError):
            open_clip(path, limits=Limits(max_frames=1))
    assert len(list(folder.iterdir())) == before


def test_importing_loads_no_codec():
    code = (
        "import sys, gpufuse.video, gpufuse.overlap;"
        "print([name for name in ('av', 'imageio', 'numba', 'PIL') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_memory_does_not_grow(tmp_path):
    resource = pytest.importorskip("resource")
    path = write_clip(tmp_path / "a.mkv", count=400, size=(96, 64))
    peaks = []
    for _ in range(12):
        with open_clip(path) as clip:
            for _ in clip.chunks(16):
                pass
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[-1] - peaks[2] < 3000  # kB


# -- real footage --------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no folder of real footage (GPUFUSE_DATA)")


@pytest.mark.data
@needs_data
def test_real_stills_raise_no_alarm_but_the_damaged_one_does():
    reported = []
    for path in sorted(DATA.rglob("*.jpg")):
        try:
            read_still(path)
        except DamagedInputError:
            reported.append(path.name)
    assert reported == ["night_0240_CORRUPT.jpg"]
