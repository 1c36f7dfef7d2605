"""A clip in segments is, frame for frame before encoding, the undivided one; and the joined file is whole."""

import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy
import pytest

from gpufuse import segments
from gpufuse.alignment import Alignment
from gpufuse.areas import Area
from gpufuse.enhance import day_plate, enhance
from gpufuse.errors import ConfigError, DamagedInputError, InputError, LimitError, OutputError
from gpufuse.fusion import Look, fuse_stream, look_frames, measured_look, temporal_reach
from gpufuse.joining import join_clips
from gpufuse.segments import (
    MARK,
    Segment,
    enhance_segment,
    first_look,
    join_segments,
    plan_segments,
    read_marks,
    survey,
)
from gpufuse.settings import Settings
from gpufuse.video import ClipWriter, Limits, open_clip, write_still
from gpufuse.videofile import VideoFileReader

WIDTH, HEIGHT, COUNT = 48, 36, 37
VFR = numpy.cumsum([1, 40, 33, 33, 95, 40, 7, 61, 44, 38] * 8).tolist()
MS = Fraction(1, 1000)
NOISY = Settings(motion_threshold=0.3)  # so that the noise of each frame tells in masks, too
SHORT = NOISY.replace(passes=1, c=1)  # for a short reach


def night_picture(k, width=WIDTH, height=HEIGHT):
    rng = numpy.random.default_rng(100 + k)
    image = rng.normal(18, 4, (height, width, 3))
    image[height // 2 : height // 2 + 8, (3 * k) % width : (3 * k) % width + 8] = 210
    return image.clip(0, 255).astype(numpy.uint8)


def day_picture(width=WIDTH, height=HEIGHT):
    y, x = numpy.mgrid[:height, :width]
    return numpy.stack([60 + x % 90, 80 + y % 60, 90 + (x + y) % 60], axis=-1).astype(numpy.uint8)


def write_night(
    path, *, count=COUNT, codec="libx264", pix_fmt="yuv420p", pts=None, time_base=Fraction(1, 25),
    options=None, container=None, muxing=None, sound=False,
):  # fmt: skip
    """Write a clip with the bare library."""
    with av.open(str(path), "w", format=container, options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=25, options={"g": "5", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        audio = output.add_stream("aac", rate=8000) if sound else None
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(night_picture(k), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (k if pts is None else pts[k]), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            for k in range(count * 320 // 1000):
                silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 1000), numpy.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 8000, 1000 * k
                output.mux(audio.encode(silence))
            output.mux(audio.encode(None))
    return path


def turned(path):
    """Have players turn an MP4 clip by a quarter: the display matrix in its track header."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


OPEN = {"x264-params": "open-gop=1:keyint=5:min-keyint=5:scenecut=0:bframes=3:b-adapt=0"}
BELOW_0, AS_THEY_ARE = [40 * k - 333 for k in range(COUNT)], {"avoid_negative_ts": "disabled"}
INPUTS = {
    "mp4 with B-frames": ("a.mp4", {"options": {"bf": "3"}}),
    "open groups of pictures": ("a.mp4", {"options": OPEN}),
    "open groups in transport packets": ("a.ts", {"options": OPEN}),
    "gradual refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=5:bframes=0"}}),
    "MPEG-2": ("a.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}),
    "matroska": ("a.mkv", {}),
    "transport stream": ("a.ts", {}),
    "motion JPEG": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "MPEG-4 in AVI": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "no container": ("a.h264", {"container": "h264"}),
    "program stream": ("a.mpg", {"container": "vob", "codec": "mpeg2video"}),
    "uneven times": ("a.mp4", {"pts": VFR, "time_base": MS}),
    "uneven times in matroska": ("a.mkv", {"pts": VFR, "time_base": MS}),
    "times from below 0": ("a.ts", {"pts": BELOW_0, "time_base": MS, "muxing": AS_THEY_ARE}),
    "times from far on": ("a.mp4", {"pts": [k + 90000 for k in range(COUNT)]}),
    "a gap": ("a.mp4", {"pts": [k + 9 * (k > 22) for k in range(COUNT)]}),
    "fragments": ("a.mp4", {"muxing": {"movflags": "frag_keyframe+empty_moov"}}),
    "sound": ("a.mp4", {"sound": True}),
}
NOT_ENTERED = ("no container", "program stream", "MPEG-4 in AVI")  # AVI: not in so short a clip
"""Of these, no segments are planned; made all the same, they are right, only slow."""
IN_ONE_PIECE = "its index does not lead into the clip; it is worked on in one piece"


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    path = tmp_path_factory.mktemp("day") / "day.png"
    write_still(path, day_picture())
    return day_plate(path)


def passed_on(value):
    """As it comes out of a file that another process has written."""
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


def split_all_the_same(found, seconds, reach):
    """A survey with segments that are each decoded from the start."""
    assert len(found.segments) == 1
    assert found.notes == (f"{found.name}: {IN_ONE_PIECE}",)
    planned = plan_segments(read_marks(found.marks), found.time_base, seconds, reach)
    return dataclasses.replace(found, segments=tuple(planned), notes=())


def in_segments(
    night,
    plate,
    folder,
    seconds,
    *,
    suffix=".mp4",
    settings=None,
    size=(HEIGHT, WIDTH),
    entered=True,
    **options,
):
    """Survey, look, segments in an order of their own, each from what is passed on as text; join."""
    settings = settings or Settings()
    reach = temporal_reach(settings, size)
    found = survey(night, folder / "marks", seconds=seconds, reach=reach)
    found = passed_on(found if entered else split_all_the_same(found, seconds, reach))
    look = first_look(night, plate, settings=settings, device="cpu")
    look = Look(**json.loads(json.dumps(dataclasses.asdict(look))))
    reports = []
    for segment in reversed(found.segments):
        output = folder / f"segment-{segment.index}{suffix}"
        report = enhance_segment(
            night, plate, found, segment, output, look=look, settings=settings, device="cpu", **options
        )
        reports.append(passed_on(report))
    return join_segments(found, reports, folder / f"joined{suffix}", plate=plate), found


def times_of(path):
    """Times of all frames in seconds; raises if anything about the file is not right."""
    with open_clip(path) as clip:
        times = [frame.time for frame in clip]
        assert not clip.notes or "gap" in clip.notes[0]
    return times


def check_equal(joined, whole):
    assert joined.digest == whole.digest != ""
    assert joined.frames == whole.frames == joined.frames_in == whole.frames_in
    assert (joined.first_time, joined.last_time) == (whole.first_time, whole.last_time)
    assert joined.solver_error == whole.solver_error
    assert joined.video_size == whole.video_size
    assert joined.gaps == whole.gaps
    assert times_of(joined.output) == times_of(whole.output)


@pytest.mark.parametrize("kind", INPUTS)
def test_segments_of_any_clip_are_the_undivided_one(tmp_path, plate, kind):
    name, options = INPUTS[kind]
    night = write_night(tmp_path / name, **options)
    suffix = ".mkv" if name.endswith("mkv") else ".mp4"
    whole = enhance(night, None, tmp_path / f"whole{suffix}", plate=plate, settings=SHORT, device="cpu")
    joined, found = in_segments(
        night, plate, tmp_path, 0.4, suffix=suffix, settings=SHORT, entered=kind not in NOT_ENTERED
    )
    assert len(found.segments) >= 3
    assert any(segment.jump_pts is not None for segment in found.segments)
    check_equal(joined, whole)
    assert joined.notes == whole.notes  # in none was the jump in vain
    assert len(joined.notes) == (kind in ("sound", "a gap"))
    assert joined.gaps == (((0.88, 1.28),) if kind == "a gap" else ())


def test_segments_of_a_turned_clip(tmp_path):
    night = turned(write_night(tmp_path / "a.mp4"))
    write_still(tmp_path / "day.png", day_picture(HEIGHT, WIDTH))
    upright = day_plate(tmp_path / "day.png")
    whole = enhance(night, None, tmp_path / "whole.mov", plate=upright, settings=SHORT, device="cpu")
    joined, found = in_segments(
        night, upright, tmp_path, 0.5, suffix=".mov", settings=SHORT, size=(WIDTH, HEIGHT)
    )
    assert (found.width, found.height) == joined.video_size == (HEIGHT, WIDTH)
    check_equal(joined, whole)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return write_night(tmp_path_factory.mktemp("night") / "a.mp4", options={"bf": "3"})


def cut_at(found, edges, reach):
    """Segments of these edges, however short."""
    marks = read_marks(found.marks)
    one = plan_segments(marks, found.time_base, None, reach)[0]
    made = []
    for index, (first, stop) in enumerate(itertools.pairwise(edges)):
        keys = [k for k in range(max(0, first - reach[0]) + 1) if marks["key"][k]]
        jump = int(marks["pts"][keys[-2]]) if len(keys) > 2 else None
        halo = max(0, first - reach[0]), min(len(marks), stop + reach[1])
        made.append(dataclasses.replace(one, index=index, first=first, stop=stop, halo_first=halo[0],
                                        halo_stop=halo[1], jump_pts=jump))  # fmt: skip
    return dataclasses.replace(found, segments=tuple(made))


def in_segments_at(night, plate, folder, edges, settings, *, reach=None, look=None, **options):
    reach = reach or temporal_reach(settings, (HEIGHT, WIDTH))
    found = cut_at(survey(night, folder / "marks"), edges, reach)
    look = look or first_look(night, plate, settings=settings, device="cpu")
    reports = [
        enhance_segment(
            night, plate, found, segment, folder / f"{segment.index}.mp4", look=look, settings=settings,
            device="cpu", overwrite=True, **options,
        )
        for segment in found.segments
    ]  # fmt: skip
    return join_segments(found, reports, folder / "joined.mp4", overwrite=True)


SETTINGS = {
    "default": Settings(),
    "as noisy as can be": NOISY,
    "nothing in time": Settings(passes=0, c=0, motion_threshold=1.0),
    "paper": Settings.paper(),
    "one fit for four": Settings(data_weight=0, fit_window=4, passes=1, c=1),
    "gradients": Settings(
        motion_from="gradient", passes=1, motion_threshold=2.0, fit="luminance", data_weight=0
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_segments_with_any_settings(tmp_path, plate, night, kind):
    settings = SETTINGS[kind]
    whole = enhance(night, None, tmp_path / "whole.mp4", plate=plate, settings=settings, device="cpu")
    joined = in_segments_at(night, plate, tmp_path, [0, 13, 30, COUNT], settings)
    check_equal(joined, whole)


@pytest.mark.parametrize(
    "edges", [[0, 1, 2, 3, COUNT], [0, COUNT - 1, COUNT], [0, 5, 10, 15, 20, COUNT]], ids=str
)
def test_segments_shorter_than_their_reach(tmp_path, plate, night, edges):
    whole = enhance(night, None, tmp_path / "whole.mp4", plate=plate, settings=SHORT, device="cpu")
    check_equal(in_segments_at(night, plate, tmp_path, edges, SHORT), whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("length", [1, 3, 11])
def test_segments_of_every_length(tmp_path, plate, kind, length):
    name, options = INPUTS[kind]
    night = write_night(tmp_path / name, **options)
    whole = enhance(night, None, tmp_path / "whole.mp4", plate=plate, settings=NOISY, device="cpu")
    edges = [*range(0, COUNT, length), COUNT]
    joined = in_segments_at(night, plate, tmp_path, edges, NOISY)
    check_equal(joined, whole)


def test_segments_of_a_folder_of_stills(tmp_path, plate):
    folder = tmp_path / "stills"
    folder.mkdir()
    for k in range(24):
        write_still(folder / f"{k}.png", night_picture(k))
    whole = enhance(folder, None, tmp_path / "whole.mp4", plate=plate, settings=SHORT, device="cpu")
    joined, found = in_segments(folder, plate, tmp_path, 0.3, settings=SHORT)
    assert len(found.segments) == 3
    assert found.segments[2].jump_pts == found.segments[2].halo_first - 1
    check_equal(joined, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("night", "day", "seconds"),
    [
        ("relit_highway/night.mp4", "relit_highway/day.png", 3),
        ("caltrans/n101_marsh_dim_a.mp4", "caltrans/n101_marsh_dim_b.mp4", 1.7),
        ("bgslibrary/highway_video02.avi", "relit_highway/day.png", 9),
    ],
)
def test_segments_of_real_footage(tmp_path, data_folder, night, day, seconds):
    plate = day_plate(data_folder / day)
    size = plate.pixels.shape[:2]
    nobody_looks = Alignment(max_shift=None)
    clip = data_folder / night
    whole = enhance(clip, None, tmp_path / "whole.mp4", plate=plate, alignment=nobody_looks, device="cpu")
    # Their key frames lie further apart than such short segments.
    joined, found = in_segments(clip, plate, tmp_path, seconds, size=size, entered=False)
    assert len(found.segments) >= 3
    check_equal(joined, whole)


KILLS = 8
RESUMED = """
import dataclasses, json, sys
from pathlib import Path
from gpufuse import files
from gpufuse.enhance import day_plate
from gpufuse.fusion import Look, temporal_reach
from gpufuse.segments import *
from gpufuse.settings import Settings

folder = Path(sys.argv[1])

def once(name, make):
    path = folder / name
    if not path.exists():
        with (folder / "log").open("a") as log:
            log.write(name + "\\n")
        files.write_whole(path, json.dumps(make()).encode())
    return json.loads(path.read_text())

plate = day_plate(folder / "day.png")
reach = temporal_reach(Settings(), plate.pixels.shape[:2])
night = folder / "night.mp4"
found = Survey.from_json(once("survey", lambda: survey(night, folder / "marks", seconds=0.4, reach=reach).to_json()))
look = Look(**once("look", lambda: dataclasses.asdict(first_look(night, plate, device="cpu"))))
reports = [
    SegmentReport.from_json(once(f"report-{segment.index}", lambda: enhance_segment(
        night, plate, found, segment, folder / f"{segment.index}.mp4", look=look, device="cpu", overwrite=True
    ).to_json()))
    for segment in found.segments
]
print(join_segments(found, reports, folder / "joined.mp4", overwrite=True).digest)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_that_is_killed_redoes_at_most_one_segment_a_kill(tmp_path, plate):
    write_still(tmp_path / "day.png", plate.pixels)
    night = write_night(tmp_path / "night.mp4", count=90)
    whole = enhance(night, None, tmp_path / "whole.mp4", plate=plate, device="cpu")
    rng = numpy.random.default_rng(4)
    command = [sys.executable, "-c", RESUMED, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(segments.__file__).parents[1])}
    log = tmp_path / "log"
    log.touch()
    for _ in range(KILLS):  # each soon after a piece of work was begun
        begun = log.read_text()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while log.read_text() == begun and child.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        child.kill()
        child.wait()
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert out.strip() == whole.digest
    done = log.read_text().split()
    assert len(set(done)) == 2 + 9
    assert len(done) <= 2 + 9 + KILLS
    assert times_of(tmp_path / "joined.mp4") == times_of(whole.output)


def test_areas_hold_in_the_segments_they_hold_in(tmp_path, plate):
    times = [k + 90000 for k in range(COUNT)]
    night = write_night(tmp_path / "a.mp4", pts=times)
    corners = [(4, 4), (30, 4), (30, 30), (4, 30)]
    areas = [
        Area("day", polygon=corners, frames=(9, 21)),
        Area("night", polygon=corners, seconds=(1.0, 1.2)),
    ]
    wholes = [
        enhance(
            night, None, tmp_path / f"{k}-whole.mp4", plate=plate, settings=SHORT, areas=given, device="cpu"
        )
        for k, given in enumerate((areas, areas[:1], areas[1:]))
    ]
    assert len({whole.digest for whole in wholes}) == 3
    check_equal(in_segments_at(night, plate, tmp_path, [0, 12, 27, COUNT], SHORT, areas=areas), wholes[0])


def test_comparison_and_importance_are_joined_too(tmp_path, plate, night, monkeypatch):
    given = {}
    close = ClipWriter.close

    def close_and_keep(writer):
        given[writer.path.name] = writer.digests
        close(writer)

    monkeypatch.setattr(ClipWriter, "close", close_and_keep)
    options = {"settings": SHORT, "device": "cpu", "compare": True}
    whole = enhance(
        night, None, tmp_path / "whole.mp4", plate=plate, write_importance=tmp_path / "whole-w.mp4", chunk=5,
        **options,
    )  # fmt: skip
    found = cut_at(survey(night, tmp_path / "marks"), [0, 17, COUNT], temporal_reach(SHORT, (HEIGHT, WIDTH)))
    look = first_look(night, plate, settings=SHORT, device="cpu")
    reports = [
        enhance_segment(
            night, plate, found, segment, tmp_path / f"{segment.index}.mp4", look=look,
            write_importance=tmp_path / f"{segment.index}-w.mp4", chunk=7, **options,
        )
        for segment in found.segments
    ]  # fmt: skip
    for ending in ("", "-compare", "-w"):
        parts = [given[f"{name}{ending}.mp4"] for name in ("0", "1")]
        assert [len(part) for part in parts] == [8 * 17, 8 * (COUNT - 17)]
        assert b"".join(parts) == given[f"whole{ending}.mp4"]
    joined = join_segments(
        found, reports, tmp_path / "joined.mp4", write_importance=tmp_path / "joined-w.mp4"
    )
    check_equal(joined, whole)
    assert [path.name for path in joined.extras] == ["joined-compare.mp4", "joined-w.mp4"]
    for path, other in zip(joined.extras, whole.extras, strict=True):
        assert times_of(path) == times_of(other)


# The look


def levels_of(path):
    with open_clip(path) as clip:
        return clip.read_chunk(100).levels


@pytest.mark.parametrize(
    "settings", [Settings(), Settings.paper(), Settings(night_gain=1.5, larger_threshold=3)]
)
def test_a_look_that_is_handed_over_is_the_one_that_is_taken(night, settings):
    day = numpy.ascontiguousarray(numpy.moveaxis(day_picture(), -1, 0)).astype(numpy.float32)
    levels = levels_of(night)
    seconds = numpy.zeros(len(levels))
    wanted = look_frames(settings)
    looks = [
        measured_look(
            day, [(levels[k : k + 4], seconds[k : k + 4]) for k in range(0, count, 4)], settings=settings
        )
        for count in (len(levels), wanted)
    ]
    assert looks[0] == looks[1] == Look(**json.loads(json.dumps(dataclasses.asdict(looks[0]))))

    def importance_and_levels(**options):
        made = list(fuse_stream(day, [(levels, seconds)], settings=settings, **options))
        return [
            numpy.concatenate([getattr(chunk, name) for chunk in made]) for name in ("importance", "levels")
        ]

    for found, expected in zip(importance_and_levels(look=looks[0]), importance_and_levels(), strict=True):
        numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(passes=0, c=1),
        pytest.param(Settings(passes=1, c=1), marks=pytest.mark.slow),
        pytest.param(Settings(passes=0, c=1, data_weight=0), marks=pytest.mark.slow),
    ],
    ids=["plain", "smoothed", "fit"],
)
def test_pieces_on_a_gpu_are_those_of_the_whole(gpu, settings):
    count, size = 13, (16, 24)
    day = gpu.asarray(numpy.moveaxis(day_picture(24, 16), -1, 0).astype(numpy.float32))
    night = (
        numpy.stack([night_picture(k, 24, 16) for k in range(count)])
        .transpose(0, 3, 1, 2)
        .astype(numpy.float32)
    )
    night = gpu.asarray(numpy.ascontiguousarray(night))
    seconds = numpy.arange(count) / 25
    before, after = temporal_reach(settings, size)
    look = measured_look(day, [(night, seconds)], settings=settings)
    assert all(isinstance(value, float) for value in dataclasses.astuple(look))
    look = Look(**json.loads(json.dumps(dataclasses.asdict(look))))
    whole = list(fuse_stream(day, [(night, seconds)], settings=settings))
    for first, stop in ((0, 5), (7, 8), (8, count)):
        start, end = max(0, first - before), min(count, stop + after)
        piece = [(night[start:end], seconds[start:end])]
        made = list(fuse_stream(day, piece, settings=settings, look=look, first=start))
        assert made[0].first == start
        for name in ("levels", "importance"):
            found = numpy.concatenate([gpu.asnumpy(getattr(chunk, name)) for chunk in made])
            expected = numpy.concatenate([gpu.asnumpy(getattr(chunk, name)) for chunk in whole])
            numpy.testing.assert_array_equal(found[first - start : stop - start], expected[first:stop])


def test_settings_that_say_all_need_no_look(tmp_path, plate):
    settings = Settings(motion_threshold=3, night_gain=2, larger_threshold=5)
    assert look_frames(settings) == 0
    look = first_look(tmp_path / "none.mp4", plate, settings=settings, device="cpu")
    assert look == Look(3.0, 1.0, 5.0)
    with pytest.raises(ValueError, match="expected at least one frame, got none"):
        measured_look(numpy.zeros((3, 4, 4), numpy.float32), [], settings=Settings())


REACHES = {
    "masks alone": Settings(passes=0, c=0),
    "masks": Settings(passes=0, c=3),
    "smoothed": Settings(passes=1, c=0),
    "smoothed twice": Settings(passes=2, c=2),
    "fits": Settings(passes=0, c=2, data_weight=0),
    "fits of four": Settings(passes=0, c=0, data_weight=0, fit_window=4),
    "all": Settings(passes=1, c=1, data_weight=0),
}


@pytest.mark.parametrize("kind", REACHES)
def test_the_reach_is_what_frames_depend_on(kind):
    """One frame in the middle is another: what changes lies within the reach, and touches its ends."""
    settings = REACHES[kind].replace(importance_gain=1)
    before, after = temporal_reach(settings, (HEIGHT, WIDTH))
    middle, count = after + 3, before + after + 7
    night = numpy.stack([night_picture(k) for k in range(count)]).transpose(0, 3, 1, 2).astype(numpy.float32)
    other = night.copy()
    other[middle] = (other[middle] + numpy.random.default_rng(2).normal(0, 12, other[middle].shape)).clip(
        0, 255
    )
    day = numpy.ascontiguousarray(numpy.moveaxis(day_picture(), -1, 0)).astype(numpy.float32)
    measured = measured_look(day, [(night, numpy.zeros(count))], settings=settings)
    look = dataclasses.replace(measured, threshold=measured.threshold / 4)  # half of what moves is noise

    def fused(frames):
        stream = [(frames, numpy.zeros(count))]
        return numpy.concatenate([c.levels for c in fuse_stream(day, stream, settings=settings, look=look)])

    changed = (fused(night) != fused(other)).any(axis=(1, 2, 3))
    touched = numpy.flatnonzero(changed)
    # Only the change of the clip's first frame looks ahead.
    ahead = kind in ("masks alone", "smoothed")
    assert touched[0] == middle - after + ahead
    assert touched[-1] == middle + before


def test_the_first_frame_depends_on_the_second():
    settings = Settings(passes=0, c=0, motion_threshold=0.5)
    assert temporal_reach(settings, (HEIGHT, WIDTH)) == (1, 1)
    night = numpy.stack([night_picture(k) for k in range(3)]).transpose(0, 3, 1, 2).astype(numpy.float32)
    day = numpy.ascontiguousarray(numpy.moveaxis(day_picture(), -1, 0)).astype(numpy.float32)
    look = Look(0.5, 1.0, 0.0)
    firsts = [
        next(fuse_stream(day, [(night[:count], numpy.zeros(count))], settings=settings, look=look)).levels[0]
        for count in (1, 2, 3)
    ]
    assert not numpy.array_equal(firsts[0], firsts[1])
    numpy.testing.assert_array_equal(firsts[1], firsts[2])


# Surveys and plans


def marks_of(times, every):
    return numpy.array([(time, 7, k % every == 0) for k, time in enumerate(times)], MARK)


@pytest.mark.parametrize("seconds", [0.04, 0.3, 1.0, 2.6, 99])
@pytest.mark.parametrize("reach", [(0, 0), (10, 9)])
@pytest.mark.parametrize(
    "times", [range(0, 4000, 40), VFR, [0, 40, 9000, 9040, 9080, 30000]], ids=["even", "uneven", "gaps"]
)
def test_plans_hold_every_frame_once(times, reach, seconds):
    marks = marks_of(times, 6)
    plan = plan_segments(marks, MS, seconds, reach)
    assert [segment.index for segment in plan] == list(range(len(plan)))
    assert [k for segment in plan for k in range(segment.first, segment.stop)] == list(range(len(marks)))
    for segment in plan:
        assert len(segment) == segment.stop - segment.first >= 1
        assert segment.halo_first == max(0, segment.first - reach[0])
        assert segment.halo_stop == min(len(marks), segment.stop + reach[1])
        keys = [k for k in range(segment.halo_first + 1) if marks["key"][k]]
        assert segment.jump_pts == (marks["pts"][keys[-2]] if len(keys) > 2 else None)
    lengths = [(marks["pts"][s.stop - 1] - marks["pts"][s.first]) / 1000 for s in plan]
    assert all(length <= seconds for length in lengths[:-1])
    if times[-1] < 10000:  # no gap before the last frame
        assert lengths[-1] <= 1.5 * seconds


def test_a_short_end_joins_the_segment_before():
    def lengths(count):
        return [
            len(segment) for segment in plan_segments(marks_of(range(count), 5), Fraction(1, 10), 1, (0, 0))
        ]

    assert lengths(25) == [10, 15]
    assert lengths(26) == [10, 10, 6]
    assert lengths(10) == [10]
    assert lengths(13) == [13]
    assert lengths(1) == [1]


def test_a_survey_tells_of_the_whole_clip(tmp_path):
    night = write_night(tmp_path / "a.ts", pts=BELOW_0, time_base=MS, muxing=AS_THEY_ARE)
    done = []
    found = survey(night, tmp_path / "marks", progress=lambda count, expected: done.append((count, expected)))
    with open_clip(night) as clip:
        frames = list(clip)
        assert (found.width, found.height, found.rate) == (clip.width, clip.height, clip.rate)
        assert done[-1][0] == COUNT
    marks = read_marks(tmp_path / "marks")
    assert (tmp_path / "marks").stat().st_size == 13 * COUNT
    assert marks["pts"].tolist() == [frame.pts for frame in frames]
    keys = sorted(pts for pts, _, _, key in packets(night)[0] if key)
    assert marks["pts"][marks["key"] == 1].tolist() == keys
    assert len(keys) >= COUNT // 5
    assert len(set(marks["checksum"].tolist())) == COUNT
    assert (found.frames, found.first_pts, found.shift) == (COUNT, -333 * 90, 333 * 90)
    assert not found.has_audio
    assert found.segments == (Segment(0, 0, COUNT, 0, COUNT, None),)
    assert passed_on(found) == found
    assert not list(tmp_path.glob("*.part-*"))


def shaken_picture(left):
    scene = numpy.random.default_rng(5).random((20, 26, 3)).repeat(8, 0).repeat(8, 1) * 90
    return scene[10:130, left : left + 160].astype(numpy.uint8)


def write_shaken(path, *, every=5, start=0):
    """130 frames, ten a second, from `start` seconds on; after 6 s the camera is pushed."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264", rate=10, options={"g": str(every), "bf": "0", "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for k in range(130):
            frame = av.VideoFrame.from_ndarray(shaken_picture(10 if k < 60 else 31), format="rgb24")
            frame.pts, frame.time_base = k + 10 * start, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("every", [1, 5, 250])
def test_a_camera_that_moves_is_told_and_the_plan_is_as_ever(tmp_path, every):
    """Frames that are looked at are not known as key frames, which no plan may suffer from."""
    write_shaken(tmp_path / "a.mkv", every=every)
    found = survey(tmp_path / "a.mkv", tmp_path / "marks", seconds=4, reach=(10, 9))
    assert "a.mkv: the camera moved, and the picture with it by 21.0 pixels" in found.notes[0]
    assert found.notes[1:] == ((f"a.mkv: {IN_ONE_PIECE}",) if every == 250 else ())
    assert len(found.segments) == (1 if every == 250 else 3)
    marks = read_marks(tmp_path / "marks")
    assert marks["pts"].tolist() == [100 * k for k in range(130)]
    keys = numpy.flatnonzero(marks["key"]).tolist()
    assert set(keys) <= set(range(0, 130, every))
    assert len(keys) >= 0.75 * len(range(0, 130, every))


def test_times_of_a_moving_camera_are_those_of_a_player(tmp_path):
    """They count from the first frame, whatever its time, in a whole clip as in one that is surveyed."""
    write_still(tmp_path / "day.png", shaken_picture(10))
    notes = {}
    for start in (0, 1000):
        night = tmp_path / str(start) / "a.mkv"
        night.parent.mkdir()
        write_shaken(night, start=start)
        with open_clip(night) as clip:
            assert next(iter(clip)).time == start
        whole = enhance(
            night, tmp_path / "day.png", night.with_name("whole.mp4"), settings=Settings(passes=0, c=0),
            alignment=Alignment(max_shift=None), device="cpu",
        )  # fmt: skip
        assert whole.first_time == start
        notes[start] = whole.notes + survey(night, night.with_name("marks"), seconds=4).notes
    assert len(notes[0]) == 2
    assert notes[0] == notes[1000]
    for note in notes[0]:
        since, until = map(float, re.search(r"between ([\d.]+) s and ([\d.]+) s", note).groups())
        assert 3 < since <= 6 <= until < 9


def cut_short(night, path):
    data = night.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    return path


def test_damage_is_found_before_anything_is_computed(tmp_path, plate):
    night = cut_short(write_night(tmp_path / "a.mkv"), tmp_path / "cut.mkv")
    with pytest.raises(DamagedInputError):
        survey(night, tmp_path / "marks", seconds=0.4)
    assert not (tmp_path / "marks").exists()
    found = survey(night, tmp_path / "marks", seconds=0.4, on_damage="salvage")
    assert found.damage
    assert len(found.segments) == 1
    assert found.segments[0].stop == found.frames < COUNT
    assert "cut.mkv: it is damaged, so it is not split into segments" in found.notes
    assert not survey(night, tmp_path / "marks", on_damage="salvage").notes


def test_a_clip_whose_size_changes_is_not_split(tmp_path):
    data = b""
    for width, height in ((WIDTH, HEIGHT), (64, 48)):
        with av.open(str(tmp_path / "one.h264"), "w", format="h264") as output:
            stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for k in range(20):
                picture = night_picture(k, width, height)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))
        data += (tmp_path / "one.h264").read_bytes()
    (tmp_path / "two.h264").write_bytes(data)
    with pytest.raises(DamagedInputError, match="size changed to 64x48"):
        survey(tmp_path / "two.h264", tmp_path / "marks", seconds=0.2)
    found = survey(tmp_path / "two.h264", tmp_path / "marks", seconds=0.2, may_resize=True)
    assert (len(found.segments), found.frames) == (1, 40)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert "two.h264: the size of its pictures changes, so it is not split into segments" in found.notes
    one = survey(tmp_path / "one.h264", tmp_path / "marks", seconds=0.2, may_resize=True)
    assert one.notes == (f"one.h264: {IN_ONE_PIECE}",)  # not for its size


def test_what_a_survey_refuses(tmp_path, night, monkeypatch):
    with pytest.raises(ConfigError, match="segment: expected more than 0 s, got 0; give a longer one"):
        survey(night, tmp_path / "marks", seconds=0)
    with pytest.raises(LimitError):
        survey(night, tmp_path / "marks", limits=Limits(max_frames=5))
    with pytest.raises(
        InputError, match="none: expected marks of a survey, found 'No such file or directory'"
    ):
        read_marks(tmp_path / "none")
    (tmp_path / "odd").write_bytes(b"12345")
    with pytest.raises(InputError, match="odd: expected marks of a survey"):
        read_marks(tmp_path / "odd")
    with pytest.raises(OutputError, match="expected the folder"):
        survey(night, tmp_path / "none" / "marks")

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpufuse.files.os.write", full)
    with pytest.raises(OutputError, match="marks: expected to write it, found 'No space left on device'"):
        survey(night, tmp_path / "marks")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd"]


# Clips that are better left in one piece


def planned(night, folder, seconds, reach):
    found = survey(night, folder / "marks", seconds=seconds, reach=reach)
    assert found.notes == ((f"{night.name}: {IN_ONE_PIECE}",) if len(found.segments) == 1 else ())
    return len(found.segments)


def test_a_single_key_frame_is_enough_for_what_lies_near_it(tmp_path):
    night = write_night(tmp_path / "a.mp4", options={"g": "250", "sc_threshold": "0"})
    # Segments of ten frames; what the fourth depends on begins at frame 0, 10 and 11.
    assert planned(night, tmp_path, 0.4, (30, 9)) == 4
    assert planned(night, tmp_path, 0.4, (20, 9)) == 4
    assert planned(night, tmp_path, 0.4, (19, 9)) == 1
    assert planned(night, tmp_path, 0.8, (0, 0)) == 2


def test_key_frames_at_the_beginning_alone_are_worth_nothing_to_many_segments(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        options = {"g": "1000", "sc_threshold": "0", "bf": "0", "preset": "ultrafast"}
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(300):
            frame = av.VideoFrame.from_ndarray(night_picture(k), format="rgb24")
            frame.pict_type = 1 if k in (0, 6, 9) else 0  # I, or as the encoder likes
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert planned(tmp_path / "a.mp4", tmp_path, 3, (0, 0)) == 4
    assert read_marks(tmp_path / "marks")["key"].nonzero()[0].tolist() == [0, 6, 9]
    assert planned(tmp_path / "a.mp4", tmp_path, 0.4, (0, 0)) == 1


def _nowhere(reader, pts):
    return False


def _too_far(reader, pts):
    while reader._fill() and reader._ready[0].pts <= pts + 5 * 512:
        reader._drop()
    return True


def _to_the_end(reader, pts):
    while reader._fill():
        reader._drop()
    return True


def _into_damage(reader, pts):
    raise DamagedInputError("a.mp4: expected sound video data, found other; fetch it again")


@pytest.mark.parametrize("jump", [_nowhere, _too_far, _to_the_end, _into_damage])
def test_a_jump_is_tried_before_a_clip_is_split(tmp_path, night, monkeypatch, jump):
    assert planned(night, tmp_path, 0.4, (1, 1)) == 4
    monkeypatch.setattr(VideoFileReader, "_jump", jump)
    assert planned(night, tmp_path, 0.4, (1, 1)) == 1
    assert not survey(night, tmp_path / "marks", reach=(1, 1)).notes  # nobody wants it split


def test_a_jump_to_other_pictures_is_noticed_before_a_clip_is_split(tmp_path, night, monkeypatch):
    mark = VideoFileReader._mark

    def other(reader):
        found = mark(reader)
        return dataclasses.replace(found, checksum=found.checksum ^ reader._jumped)

    monkeypatch.setattr(VideoFileReader, "_mark", other)
    assert planned(night, tmp_path, 0.4, (1, 1)) == 1


# Signs of life


class Signs(list):
    """Called, it keeps with what."""

    def __call__(self, *given):
        self.append(given)


def test_long_work_gives_signs_of_life(tmp_path, two, plate, night):
    found, done = two
    look = Signs()
    first_look(night, plate, settings=SHORT, device="cpu", tell=look)
    assert len(look) >= look_frames(SHORT) / 8
    reports = []
    for segment in found.segments:
        progress = Signs()
        reports.append(done(segment.index, progress=progress, overwrite=True))
        assert progress[-1] == (len(segment), len(segment))
        assert (0, len(segment)) in progress or not segment.index
    joining = Signs()
    join_segments(found, reports, tmp_path / "joined.mp4", tell=joining)
    assert len(joining) == COUNT


def test_a_segment_that_is_read_from_the_start_gives_signs_of_life_on_the_way(two):
    found, done = two
    late = dataclasses.replace(found.segments[1], jump_pts=None)
    surveyed = dataclasses.replace(found, segments=(found.segments[0], late))
    progress = Signs()
    done(1, surveyed=surveyed, progress=progress)
    assert progress[: late.halo_first] == [(0, len(late))] * late.halo_first


def test_a_survey_gives_signs_of_life_while_a_jump_is_tried(tmp_path, night):
    progress = Signs()
    found = survey(night, tmp_path / "marks", seconds=0.4, reach=(1, 1), progress=progress)
    assert len(found.segments) == 4
    assert (COUNT, None) in progress


# What can go wrong with a segment


@pytest.fixture
def two(tmp_path, night, plate):
    """A survey in two segments, and a function that does one of them."""
    found = cut_at(survey(night, tmp_path / "marks"), [0, 20, COUNT], temporal_reach(SHORT, (HEIGHT, WIDTH)))
    look = first_look(night, plate, settings=SHORT, device="cpu")

    def done(index, clip=night, surveyed=found, **options):
        return enhance_segment(
            clip, plate, surveyed, surveyed.segments[index], tmp_path / f"{index}.mp4", look=look, settings=SHORT,
            device="cpu", **options,
        )  # fmt: skip

    return found, done


def test_a_clip_that_has_changed_since(tmp_path, two):
    found, done = two
    for name, options in {
        "another.mp4": {"options": {"bf": "3", "crf": "40"}},
        "shorter.mp4": {"options": {"bf": "3"}, "count": 25},
        "later.mp4": {"options": {"bf": "3"}, "pts": [k + 1 for k in range(COUNT)]},
        "other-base.mp4": {"time_base": MS, "pts": [40 * k for k in range(COUNT)]},
    }.items():
        other = write_night(tmp_path / name, **options)
        with pytest.raises(
            DamagedInputError, match=r"a\.mp4: expected the frames .* changed since it was surveyed"
        ):
            done(1, other)
        assert not (tmp_path / "1.mp4").exists()
    with pytest.raises(InputError, match="marks: expected 36 marks, found 37; survey the clip again"):
        done(1, surveyed=dataclasses.replace(found, frames=36))


def test_an_index_that_misleads(tmp_path, two, monkeypatch):
    """The frames that a jump leads to are not those that were surveyed: they are read from the start."""
    found, done = two
    assert found.segments[1].jump_pts is not None
    plain = done(1)
    assert not plain.notes
    go_to_start = segments.SurveyedFrames.go_to_start

    def miss(frames, jump_pts, **options):
        go_to_start(frames, jump_pts, **options)
        if jump_pts is not None:
            frames._clip.skip(1)

    monkeypatch.setattr(segments.SurveyedFrames, "go_to_start", miss)
    report = done(1, overwrite=True)
    assert report.digests == plain.digests
    assert report.notes == (
        "a.mp4: its index leads to other frames than reading it from the start; segment 1 was read from the start",
    )
    assert not done(0).notes
    assert not list(tmp_path.glob("*.part-*"))


def test_segments_that_are_missing_or_not_as_they_were(tmp_path, two):
    found, done = two
    reports = [done(0), done(1)]
    assert [report.frames for report in reports] == [20, COUNT - 20]
    assert passed_on(reports[1]) == reports[1]
    with pytest.raises(InputError, match=f"expected 2 segments of {COUNT} frames, found 1 of 20; make what"):
        join_segments(found, reports[:1], tmp_path / "joined.mp4")
    swapped = [dataclasses.replace(reports[0], output=reports[1].output), reports[1]]
    with pytest.raises(InputError, match=r"1\.mp4: expected 20 frames, found 17; write the segments anew"):
        join_segments(found, swapped, tmp_path / "joined.mp4")
    with pytest.raises(OutputError, match="expected a new name, found that it exists"):
        join_segments(found, reports, tmp_path / "1.mp4")
    gone = [reports[0], dataclasses.replace(reports[1], output=tmp_path / "none.mp4")]
    with pytest.raises(InputError, match=r"none\.mp4: expected a readable segment, found 'No such file"):
        join_segments(found, gone, tmp_path / "joined.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mp4", "1.mp4", "marks"]


# Joining


def write_part(
    path, frames, *, pts=None, size=(WIDTH, HEIGHT), time_base=Fraction(1, 25), rate=25, **options
):
    with ClipWriter(path, *size, time_base, rate, shift=0, **options) as clip:
        for k in frames:
            levels = numpy.moveaxis(night_picture(k, *size), -1, 0)[None].astype(numpy.float32)
            clip.write_chunk(levels, [k if pts is None else pts[k]])
    return path


def packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(p.pts, p.dts, p.duration, p.is_keyframe) for p in container.demux(stream) if p.size]
        facts = (stream.time_base, stream.frames, stream.average_rate, stream.duration, container.duration)
        context = stream.codec_context
        return found, (*facts, context.extradata, context.sample_aspect_ratio, context.colorspace)


TIMES = {
    "even": {},
    "uneven": {"pts": VFR, "time_base": MS, "rate": Fraction(45, 2)},
    "late": {"pts": [512 * k + 51200 for k in range(COUNT)], "time_base": Fraction(1, 12800)},
}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".mp4", "even"),
        (".mp4", "uneven"),
        (".m4v", "late"),
        (".mov", "uneven"),
        (".mkv", "even"),
        (".mkv", "late"),
    ],
)
def test_joined_packets_are_those_of_one_clip(tmp_path, suffix, kind):
    options = {"sample_aspect": Fraction(4, 3)} | TIMES[kind]
    whole = write_part(tmp_path / f"whole{suffix}", range(COUNT), **options)
    clock = {"time_base": options.get("time_base", Fraction(1, 25)), "rate": options.get("rate", 25)}
    for number, edges in enumerate([[0, 17, 30, COUNT], [0, 1, 2, 20, 21, COUNT], [0, COUNT]]):
        parts = [
            write_part(tmp_path / f"{number}-{first}{suffix}", range(first, stop), **options)
            for first, stop in itertools.pairwise(edges)
        ]
        output = tmp_path / f"joined-{number}{suffix}"
        assert join_clips(parts, output, **clock) == COUNT
        (found, facts), (expected, wanted) = packets(output), packets(whole)
        assert facts == wanted
        # Where B-frames are is the encoder's affair, and differs near a joint; times do not.
        assert sorted(p[0] for p in found) == sorted(p[0] for p in expected)
        assert [p[1] for p in found] == [p[1] for p in expected]
        assert sum(p[2] for p in found) == sum(p[2] for p in expected)
        assert times_of(output) == times_of(whole)
        shown = numpy.concatenate([levels_of(part) for part in parts])
        numpy.testing.assert_array_equal(levels_of(output), shown)


def test_how_many_threads_encoded_a_part_is_no_matter(tmp_path):
    parts = [
        write_part(tmp_path / f"{first}.mp4", range(first, first + 9), threads=count)
        for first, count in ((0, 1), (9, 2), (18, 5), (27, None))
    ]
    assert join_clips(parts, tmp_path / "joined.mp4", time_base=Fraction(1, 25), rate=25) == 36
    assert len(levels_of(tmp_path / "joined.mp4")) == 36


def test_what_cannot_be_joined(tmp_path):
    first = write_part(tmp_path / "first.mp4", range(9))
    clock = {"time_base": Fraction(1, 25), "rate": 25}
    output = tmp_path / "joined.mp4"
    others = {
        "headers": write_part(tmp_path / "headers.mp4", range(9, 12), preset="ultrafast"),
        "size": write_part(tmp_path / "size.mp4", range(9, 12), size=(WIDTH, HEIGHT + 2)),
        "time base": write_part(tmp_path / "base.mp4", range(360, 363), time_base=MS),
        "frames after": write_part(tmp_path / "early.mp4", range(8, 12)),
    }
    for word, other in others.items():
        with pytest.raises(InputError, match=word):
            join_clips([first, other], output, **clock)
    with pytest.raises(ConfigError, match="expected at least one clip to join, got none"):
        join_clips([], output, **clock)
    with pytest.raises(OutputError, match=r"expected a name ending in"):
        join_clips([first], tmp_path / "joined.avi", **clock)
    with pytest.raises(OutputError, match="expected a new name"):
        join_clips([first], first, **clock)
    (tmp_path / "text.mp4").write_text("no clip")
    with pytest.raises(InputError, match=r"text\.mp4: expected a readable segment"):
        join_clips([first, tmp_path / "text.mp4"], output, **clock)
    broken = bytearray(others["frames after"].read_bytes())
    (tmp_path / "broken.mp4").write_bytes(broken[: len(broken) // 3])
    with pytest.raises(InputError, match=r"broken\.mp4: expected a readable segment"):
        join_clips([first, tmp_path / "broken.mp4"], output, **clock)
    assert not output.exists()
    assert not list(tmp_path.glob("*.part-*"))


def test_a_full_disk_while_joining(tmp_path, monkeypatch):
    first = write_part(tmp_path / "first.mp4", range(9))
    write = os.write
    full = OSError(28, "No space left on device")

    def fail(descriptor, data):
        if len(data) > 8:
            raise full
        return write(descriptor, data)

    monkeypatch.setattr("gpufuse.files.os.write", fail)
    with pytest.raises(
        OutputError, match=r"joined\.mp4: expected to write it, found 'No space left on device'; free"
    ):
        join_clips([first], tmp_path / "joined.mp4", time_base=Fraction(1, 25), rate=25)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["first.mp4"]
