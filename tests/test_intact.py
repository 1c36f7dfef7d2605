"""No false alarm: intact clips of every make are read without a word of damage."""

import os
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from clips import trimmed, with_rotation, write_clip

from gpufuse.video import ClipWriter, open_clip

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("GPUFUSE_DATA", ROOT.parent / "shared" / "data"))
CLIPS = sorted(path for path in DATA.rglob("*") if path.suffix in (".mp4", ".avi", ".mkv", ".ts", ".webm"))

MS = Fraction(1, 1000)
MAKES = [  # codec, pixel format, container, suffix, does it keep uneven times
    ("libx264", "yuv420p", "mp4", ".mp4", True),
    ("libx264", "yuv420p", "matroska", ".mkv", True),
    ("libx264", "yuv420p", "mpegts", ".ts", True),
    ("libx264", "yuv420p", "avi", ".avi", False),
    ("libx264", "yuv420p", "mov", ".mov", True),
    ("libx264", "yuv420p", "flv", ".flv", True),
    ("libx264", "yuv420p", "h264", ".h264", False),
    ("libx264", "yuvj420p", "mp4", ".mp4", True),
    ("libx264", "yuv422p10le", "matroska", ".mkv", True),
    ("mpeg4", "yuv420p", "avi", ".avi", False),
    ("mpeg4", "yuv420p", "mp4", ".mp4", True),
    ("mpeg2video", "yuv420p", "mpegts", ".ts", False),
    ("mjpeg", "yuvj420p", "avi", ".avi", False),
    ("mjpeg", "yuvj422p", "matroska", ".mkv", True),
    ("mjpeg", "yuvj420p", "mov", ".mov", True),
    ("ffv1", "yuv420p", "matroska", ".mkv", True),
    ("libvpx", "yuv420p", "webm", ".webm", True),
    ("libx265", "yuv420p", "mp4", ".mp4", True),
]
SIZES = [(160, 120), (64, 48), (98, 62), (320, 180), (176, 144)]


def generated(folder, number):
    """Write clip `number` of the collection; return its path and how many frames it shows."""
    rng = numpy.random.default_rng(number)
    codec, pix_fmt, container, suffix, uneven = MAKES[number % len(MAKES)]
    count = int(rng.integers(2, 90))
    options = {"g": str(rng.choice([1, 5, 12, 250]))}
    if codec == "libx264":
        options |= {"bf": str(rng.integers(0, 5)), "preset": "veryfast"}
    elif codec == "libx265":
        options |= {"x265-params": f"log-level=none:bframes={rng.integers(0, 4)}", "preset": "ultrafast"}
    elif codec == "libvpx":
        options |= {"deadline": "realtime", "cpu-used": "8"}
    elif codec == "mpeg4":
        options |= {"bf": str(rng.integers(0, 3))}
    muxing, times = {}, {}
    if container == "mp4":
        flags = ["", "faststart", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof"]
        muxing = {"movflags": str(rng.choice(flags))}
        if not muxing["movflags"]:
            muxing = {}
    if uneven and rng.random() < 0.4 and container != "flv":
        steps = rng.choice([20, 33, 34, 40, 67, 120], size=count)
        times = {"pts": numpy.cumsum(steps).tolist(), "time_base": MS}
    elif rng.random() < 0.4 and codec not in ("mpeg2video", "mpeg4"):
        rate = int(rng.choice([5, 12, 15, 30, 50]))
        times = {"rate": rate, "time_base": Fraction(1, rate)}
    silent = container in ("h264", "webm") or rng.random() < 0.6
    path = write_clip(
        folder / f"clip{suffix}", codec=codec, pix_fmt=pix_fmt, container=container, count=count,
        size=SIZES[rng.integers(len(SIZES))], options=options, muxing=muxing,
        sound=0.0 if silent else float(rng.choice([1.0, 2.0, 4.0])), **times,
    )  # fmt: skip
    is_plain_mp4 = container == "mp4" and "frag" not in muxing.get("movflags", "")
    if is_plain_mp4 and not times and silent and options.get("bf") == "0" and count > 20:
        path, count = trimmed(path, folder / "trimmed.mp4", 7), count - 7
    if is_plain_mp4 and rng.random() < 0.5:
        with_rotation(path, int(rng.choice([90, 180, 270])))
    return path, count


@pytest.mark.parametrize(
    "number",
    [n if n < 9 or n == 23 else pytest.param(n, marks=pytest.mark.slow) for n in range(4 * len(MAKES))],
)
def test_generated_clips_raise_no_alarm(tmp_path, number):
    path, count = generated(tmp_path, number)
    with open_clip(path) as clip:
        assert clip.skip(1000) == count
    assert clip.damage == []


@pytest.mark.data
@pytest.mark.skipif(not CLIPS, reason="no folder of real footage (GPUFUSE_DATA)")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow) if path.stat().st_size > 1e6 else path for path in CLIPS],
    ids=[path.name for path in CLIPS],
)
def test_real_clips_raise_no_alarm(path):
    with open_clip(path) as clip:
        assert clip.skip(100_000) > 100
    assert clip.damage == []


@pytest.mark.parametrize("place", [20, 30, 34, 35])
def test_a_gap_near_the_end_is_no_damage(tmp_path, place):
    """An MP4 states its length by decoding times, which lack a gap among the last pictures."""
    path = tmp_path / "late.mp4"
    with ClipWriter(path, 48, 36, Fraction(1, 25), 25) as clip:
        for k in range(37):
            clip.write_chunk(numpy.full((1, 3, 36, 48), k, numpy.float32), [k + 9 * (k > place)])
    with open_clip(path) as clip:
        assert sum(len(chunk) for chunk in clip.chunks(8)) == 37
        assert clip.notes == [
            f"late.mp4: 1 gap in its frame times, the first of 0.40 s at {place / 25:.2f} s"
        ]
