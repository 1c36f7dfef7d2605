"""What a batch would take: counts that must be right, guesses that must be told as such."""

import dataclasses
import json
import os
import pathlib
from fractions import Fraction

import numpy
import pytest

import gpufuse
from gpufuse.batch import estimate as estimates
from gpufuse.batch import speed
from gpufuse.batch.estimate import Probe, common_size, estimate, plan_lines, probe
from gpufuse.batch.orders import Item
from gpufuse.batch.speed import Rate, measured_rate
from gpufuse.clip import Limits
from gpufuse.errors import DeviceError
from gpufuse.video import ClipWriter, write_still

RATE = Rate(100.0, 180.0, 2.0, 1.5, 320, 240, 2)


def item(name, day="/day.png", camera=""):
    return Item(f"{name}-enhanced.mp4", f"/{name}.mp4", day, camera=camera)


def clip(frames=250, width=320, height=240, size=300_000, problem=""):
    return Probe(frames, width, height, None if frames is None else frames / 25, size, problem)


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "night.mp4"
    with ClipWriter(path, 32, 18, Fraction(1, 25), Fraction(25)) as writer:
        for index in range(7):
            writer.write_chunk(numpy.full((1, 3, 18, 32), 9.0 * index, numpy.float32), [index])
    return path


# -------------------------------------------------------------------------------------------- probes


def test_a_probe_reads_the_header_and_decodes_one_frame(night, monkeypatch):
    from gpufuse.videofile import VideoFileReader

    decoded = []
    settle = VideoFileReader._settle
    monkeypatch.setattr(VideoFileReader, "_settle", lambda reader: decoded.append(reader) or settle(reader))
    found = probe(night)
    assert found == Probe(7, 32, 18, pytest.approx(0.28), os.path.getsize(night))
    assert decoded == []  # the end was not reached
    assert json.loads(json.dumps(dataclasses.asdict(found))) == dataclasses.asdict(found)


def test_a_probe_of_stills(tmp_path):
    for index in range(3):
        write_still(tmp_path / f"{index}.png", numpy.zeros((4, 6), numpy.uint8))
    size = sum(os.path.getsize(path) for path in tmp_path.iterdir())
    assert probe(tmp_path) == probe(f"{tmp_path}/*.png") == Probe(3, 6, 4, pytest.approx(0.12), size)
    assert probe(tmp_path / "0.png").frames == 1


def test_problems_are_text(night, tmp_path, monkeypatch):
    night.write_bytes(night.read_bytes()[:300])
    assert "night.mp4" in probe(night).problem
    assert "found none" in probe(tmp_path / "gone.mp4").problem
    assert probe("nul\0.mp4").problem
    assert probe(tmp_path / "*.mkv").problem
    assert not probe(night).pixels

    def burst(*arguments, **keywords):
        raise RuntimeError("from a library")

    monkeypatch.setattr("gpufuse.video.open_clip", burst)
    assert "from a library" in probe(night).problem


def test_limits_hold_for_probes(night):
    assert "pixels" in probe(night, Limits(max_pixels=10)).problem
    assert "3 frames" in probe(night, Limits(max_frames=3)).problem


# ------------------------------------------------------------------------------------------ estimates


def test_counts(tmp_path):
    items = [item(name) for name in "abcde"]
    probes = {"/a.mp4": clip(), "/b.mp4": clip(100, size=100_000), "/c.mp4": Probe(None, 0, 0, None, 0, "c: broken"),
              "/d.mp4": clip()}  # fmt: skip
    found = estimate(items, probes, folder=tmp_path / "not" / "yet", done={"d-enhanced.mp4", "other.mp4"})
    assert (found.clips, found.done, found.unreadable, found.to_do) == (5, 1, 2, 2)
    assert (found.frames, found.footage, found.input_bytes) == (350, 14.0, 400_000)
    assert found.problems == ("c: broken", "not looked at")
    assert found.work_seconds is None
    assert abs(found.free_bytes - estimates.shutil.disk_usage(tmp_path).free) < 1 << 30
    lines = found.lines()
    for line in ("clips: 5", "done already: 1", "to do: 2", "frames to do: 350", "footage to do: 14 s"):
        assert line in lines
    assert not [line for line in lines if line.startswith("time")]
    assert all(word in "\n".join(lines) for word in ("output, guessed: ", "cannot be read: c: broken"))


@pytest.mark.parametrize(
    ("workers", "cores", "seconds"),
    [
        (1, 16, 4 * (1.92 + 2.0)),  # one after the other
        (2, 16, 2 * (1.92 + 2.0)),
        (8, 16, 1.92 + 2.0),  # more workers than clips
        (2, 1, 4 * (3.456 + 1.5)),  # the core is busy
    ],
)
def test_time(workers, cores, seconds):
    items = [item(name) for name in "abcd"]
    probes = {each.clip: clip() for each in items}
    found = estimate(items, probes, folder=".", workers=workers, rate=RATE, cores=cores)
    work = found.work_seconds
    assert work.middle == pytest.approx(seconds)
    assert work.low < work.middle < work.high
    (line,) = [line for line in found.lines() if line.startswith("time, guessed")]
    assert f"{workers} worker" in line
    assert "made-up footage of 320x240" in line


def test_a_larger_day_makes_larger_work():
    items = [item("a")]
    small = estimate(items, {"/a.mp4": clip()}, folder=".", rate=RATE, cores=99)
    probes = {"/a.mp4": clip(), "/day.png": clip(1, 640, 480)}
    large = estimate(items, probes, folder=".", rate=RATE, cores=99)
    assert large.work_seconds.middle - 2 == pytest.approx(4 * (small.work_seconds.middle - 2))
    assert large.output_bytes.middle == 4 * small.output_bytes.middle
    assert common_size(items, probes) == (640, 480)
    assert common_size(items, {}) is None


def test_space():
    found = estimate([item("a")], {"/a.mp4": clip()}, folder=".")
    assert found.output_bytes.low < 300_000 < found.output_bytes.middle < found.output_bytes.high
    # Input of a poor codec says little of the output.
    poor = estimate([item("a")], {"/a.mp4": clip(size=30_000_000)}, folder=".")
    assert poor.output_bytes.high == pytest.approx(250 * 320 * 240 * 0.45 / 8)
    assert found.fits
    tight = dataclasses.replace(found, free_bytes=500_000)
    assert not tight.fits
    assert "free on the disk: 500 kB, which may not be enough" in tight.lines()


def test_clips_that_do_not_say_their_length():
    items = [item("a"), item("b")]
    probes = {"/a.mp4": clip(), "/b.mp4": clip(None, size=600_000)}
    found = estimate(items, probes, folder=".", rate=RATE, cores=99)
    assert (found.frames, found.uncounted) == (250, 1)
    assert found.work_seconds.middle == pytest.approx(3 * 1.92 + 4)  # twice the bytes, twice the frames
    assert "frames to do: 250, and 1 clips that do not say" in found.lines()
    alone = estimate(items[1:], probes, folder=".", rate=RATE, cores=99)
    assert alone.work_seconds.middle == pytest.approx(2)


def test_nothing_to_do():
    found = estimate([], {}, folder=".", rate=RATE)
    assert (found.clips, found.frames, found.work_seconds.middle) == (0, 0, 0)
    assert "clips: 0" in found.lines()


def test_the_table_of_cameras():
    items = [item("c10/a", "/d/c10.png", "c10"), item("c9/a", "/d/c9.png", "c9"), item("c9/b", "/d/c9.png", "c9"),
             item("loose\n")]  # fmt: skip
    probes = {"/c9/a.mp4": clip(), "/c9/b.mp4": clip(50, 64, 48), "/loose\n.mp4": clip(None)}
    lines = plan_lines(items, probes, done={"c9/a-enhanced.mp4"})
    assert [line.split() for line in lines] == [
        ["camera", "clips", "done", "frames", "size", "day"],
        ["-", "1", "0", "0+", "320x240", "/day.png"],
        ["c9", "2", "1", "300", "64x48,", "320x240", "/d/c9.png"],
        ["c10", "1", "0", "0+", "?", "/d/c10.png"],
    ]
    assert len({line.rfind("/d") >= 0 and line.index("/d") for line in lines[1:]}) == 1


# ---------------------------------------------------------------------------------------------- speed


def test_the_speed_is_measured_on_footage_of_the_size(monkeypatch, threads):
    made = []
    from gpufuse import enhance

    real = enhance.enhance

    def watched(night, day, output, **options):
        report = real(night, day, output, **options)
        made.append((pathlib.Path(night).stem, report.frames, gpufuse.get_threads(), probe(output).pixels))
        return report

    threads(2)
    monkeypatch.setattr("gpufuse.enhance.enhance", watched)
    monkeypatch.setattr(speed, "_measured_start", lambda *arguments: (1.5, 1.0))
    monkeypatch.setattr(speed, "_MOST", 12)
    rate = measured_rate(64, 48, 1)
    assert made == [("short", 4, 1, 64 * 48), ("short", 4, 1, 64 * 48), ("long", 12, 1, 64 * 48)]
    assert gpufuse.get_threads() == 2
    assert rate.nanoseconds > 0
    assert rate.processor_nanoseconds > 0
    assert (rate.start, rate.processor_start, rate.width, rate.height, rate.threads) == (1.5, 1.0, 64, 48, 1)


def test_the_start_is_that_of_a_real_process(tmp_path):
    day = speed._write_scene(tmp_path, 16, 16, 9)
    wall, processor = speed._measured_start(tmp_path, day, "cpu")
    assert wall > 0
    assert processor > 0
    assert probe(tmp_path / "started.mp4").frames == 3
    day.unlink()
    (tmp_path / "started.mp4").unlink()
    with pytest.raises(DeviceError, match=r"day\.png"):
        speed._measured_start(tmp_path, day, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["night"])
def test_the_estimate_is_near_the_truth_on_real_footage(data_folder, tmp_path, name):
    """Space only: how long it takes, other programs decide too."""
    from gpufuse.enhance import enhance

    one = Item(
        "a.mp4", str(data_folder / f"relit_highway/{name}.mp4"), str(data_folder / "relit_highway/day.png")
    )
    found = estimate([one], {one.clip: probe(one.clip), one.day: probe(one.day)}, folder=tmp_path)
    report = enhance(one.clip, one.day, tmp_path / "a.mp4", device="cpu")
    assert report.frames == found.frames
    assert found.output_bytes.low < os.path.getsize(report.output) < found.output_bytes.high
