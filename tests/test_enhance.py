"""The job from files to files: the same for every chunk, and with memory that does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy
import pytest

import gpufuse
from gpufuse.alignment import Alignment
from gpufuse.areas import Area
from gpufuse.device import select_device
from gpufuse.enhance import aligned_plate, day_plate, default_output, enhance
from gpufuse.errors import ConfigError, DamagedInputError, DeviceError, OutputError, PairError
from gpufuse.video import ClipWriter, open_clip, write_still


def write_night(path: Path, frames: int, height: int, width: int) -> Path:
    rng = numpy.random.default_rng(11)
    with ClipWriter(path, width, height, Fraction(1, 25), 25) as clip:
        for k in range(frames):
            frame = rng.normal(12, 3, (1, 3, height, width)).astype(numpy.float32)
            left = 3 * k % (width - 8)
            frame[..., height // 3 : height // 2, left : left + 8] = 230
            clip.write_chunk(frame, [k])
    return path


def day_picture(height: int, width: int) -> numpy.ndarray:
    y, x = numpy.mgrid[0:height, 0:width]
    return numpy.stack([60 + x % 120, 80 + y % 90, 90 + (x + y) % 60], axis=-1).astype(numpy.uint8)


def decoded(path: Path) -> numpy.ndarray:
    with open_clip(path) as clip:
        return numpy.concatenate([chunk.levels for chunk in clip.chunks(8)])


def test_frames_do_not_depend_on_the_chunk_or_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal bits before the encoder, whose own bits differ from run to run."""
    night = write_night(tmp_path / "night.mp4", 19, 45, 62)
    write_still(tmp_path / "day.png", day_picture(45, 62))
    given: list[numpy.ndarray] = []
    write = ClipWriter.write_chunk

    def write_and_keep(writer: ClipWriter, levels: numpy.ndarray, pts: Sequence[int]) -> None:
        given.append(levels.copy())
        write(writer, levels, pts)

    monkeypatch.setattr(ClipWriter, "write_chunk", write_and_keep)
    found = []
    threads = gpufuse.get_threads()
    try:
        for chunk, count in ((None, 2), (1, 1), (7, 3), (64, 2)):
            gpufuse.set_threads(count)
            enhance(night, tmp_path / "day.png", tmp_path / f"out-{chunk}.mkv", chunk=chunk)
            found.append(numpy.concatenate(given))
            given.clear()
    finally:
        gpufuse.set_threads(threads)
    assert found[0].shape == (19, 3, 45, 62)
    for other in found[1:]:
        assert (other == found[0]).all()


def test_a_plate_of_too_few_frames_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    picture = day_picture(20, 24)
    for k in range(14):
        write_still(folder / f"{k}.png", picture)
    (note,) = day_plate(folder).notes
    assert note == (
        "days: expected at least 15 pictures to tell traffic from street, found 14 day pictures; "
        "look for cars in the day, or give more of it"
    )
    write_still(folder / "14.png", picture)
    assert day_plate(folder).notes == ()
    assert day_plate(folder / "14.png").notes == ()  # a plate that somebody has made
    short = write_night(tmp_path / "short.mp4", 101, 20, 24)
    (note,) = day_plate(short).notes
    assert "short.mp4: expected at least 8 s to tell traffic from street, found 4.0 s of day;" in note
    assert day_plate(write_night(tmp_path / "long.mp4", 201, 20, 24)).notes == ()
    assert enhance(short, short, tmp_path / "out.mp4").notes == (note,)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_shorter_than_any_window(tmp_path: Path, frames: int) -> None:
    night = write_night(tmp_path / "night.mkv", frames, 31, 44)
    write_still(tmp_path / "day.png", day_picture(31, 44))
    done: list[int] = []
    report = enhance(
        night, tmp_path / "day.png", compare=True, progress=lambda count, expected: done.append(count)
    )
    assert report.frames == frames == done[-1] == len(decoded(report.output))
    assert decoded(report.extras[0]).shape == (frames, 3, 32, 4 * 44)
    assert report.output == tmp_path / "night-enhanced.mp4"


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (1, 1)])
def test_comparison_of_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    with ClipWriter(tmp_path / "night.mp4", width, height, Fraction(1, 25), 25) as clip:
        clip.write_chunk(numpy.full((2, 3, height, width), 20, numpy.float32), [0, 1])
    write_still(tmp_path / "day.png", day_picture(height, width))
    report = enhance(tmp_path / "night.mp4", tmp_path / "day.png", compare=True)
    assert decoded(report.output).shape == (2, 3, height, width)
    assert len(decoded(report.extras[0])) == 2


def test_no_output_stays_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = write_night(tmp_path / "night.mp4", 3, 20, 30)
    write_still(tmp_path / "day.png", day_picture(20, 30))
    close = ClipWriter.close

    def fail_for_the_result(writer: ClipWriter) -> None:
        if writer.path.name == "o.mp4":
            writer.discard()
            raise OutputError("no space")
        close(writer)

    monkeypatch.setattr(ClipWriter, "close", fail_for_the_result)
    with pytest.raises(OutputError, match="no space"):
        enhance(
            night, tmp_path / "day.png", tmp_path / "o.mp4", compare=True, write_importance=tmp_path / "w.mp4"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.png", "night.mp4"]


def test_the_result_has_the_size_of_a_larger_day(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night.mp4", 4, 36, 64)
    write_still(tmp_path / "day.png", day_picture(72, 128))
    report = enhance(night, tmp_path / "day.png", compare=True)
    assert decoded(report.output).shape == (4, 3, 72, 128)
    assert decoded(report.extras[0]).shape == (4, 3, 72, 4 * 128)


def test_outputs_need_names_of_their_own(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night.mp4", 2, 20, 30)
    write_still(tmp_path / "day.png", day_picture(20, 30))
    with pytest.raises(OutputError, match=r"o\.mp4: expected a name of its own for each output"):
        enhance(night, tmp_path / "day.png", tmp_path / "o.mp4", write_importance=tmp_path / "o.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.png", "night.mp4"]


def test_the_report_tells_what_was_read_and_made(tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "night.mp4", 30, 20, Fraction(1, 50), 25) as clip:
        clip.write_chunk(numpy.full((4, 3, 20, 30), 20, numpy.float32), [5, 7, 9, 13])
    write_still(tmp_path / "day.png", day_picture(20, 30))
    report = enhance(tmp_path / "night.mp4", tmp_path / "day.png")
    assert (report.frames_in, report.frames, report.video_size) == (4, 4, (30, 20))
    assert (report.first_time, report.last_time) == (0.1, 0.26)
    assert len(report.digest) == 32
    plate = day_plate(tmp_path / "day.png")
    for number, count in enumerate((1, 2)):
        again = enhance(
            tmp_path / "night.mp4", None, tmp_path / f"{number}.mp4", plate=plate, threads=count, chunk=count
        )
        assert again.digest == report.digest
    still = enhance(tmp_path / "day.png", tmp_path / "day.png", tmp_path / "out.png")
    assert (still.frames_in, still.video_size, still.digest) == (1, (30, 20), "")
    assert (still.first_time, still.last_time) == (None, None)
    with pytest.raises(ConfigError, match="day: expected a picture, a clip or a plate, got none; name one"):
        enhance(tmp_path / "night.mp4", None, tmp_path / "none.mp4")


def write_sizes(path: Path, *sizes: tuple[int, int]) -> Path:
    """Ten frames of each size, (height, width), one after the other in an elementary stream."""
    for height, width in sizes:
        with av.open(str(path.with_suffix(".one")), "w", format="h264") as output:
            stream: Any = output.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for k in range(10):
                pixels = numpy.full((height, width, 3), 20 + 5 * k, numpy.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(stream.encode(None))
        with path.open("ab") as whole:
            whole.write(path.with_suffix(".one").read_bytes())
    path.with_suffix(".one").unlink()
    return path


def test_a_clip_is_split_where_its_size_changes(tmp_path: Path) -> None:
    night = write_sizes(tmp_path / "night.h264", (36, 48), (48, 64), (36, 48))
    write_still(tmp_path / "day.png", day_picture(48, 64))
    with pytest.raises(DamagedInputError, match="size changed to 64x48"):
        enhance(night, tmp_path / "day.png")
    corners = [(0, 0), (47, 0), (47, 35), (0, 35)]
    done: list[int] = []
    report = enhance(
        night, tmp_path / "day.png", on_resize="split", compare=True,
        write_importance=tmp_path / "w.mp4", progress=lambda count, expected: done.append(count),
        areas=[Area("night", polygon=corners, frames=(12, 14)), Area("night", polygon=corners, seconds=(1, 9))],
    )  # fmt: skip
    assert (report.frames, report.frames_in, done[-1]) == (30, 30, 30)
    assert done == sorted(done)
    assert [path.name for path in report.extras] == [
        "night-enhanced-compare.mp4", "w.mp4",
        "night-enhanced-2.mp4", "night-enhanced-compare-2.mp4", "w-2.mp4",
        "night-enhanced-3.mp4", "night-enhanced-compare-3.mp4", "w-3.mp4",
    ]  # fmt: skip
    assert (report.first_time, report.last_time) == (0, 29 / 25)
    for number, path in enumerate([report.output, report.extras[2], report.extras[5]]):
        with open_clip(path) as clip:
            assert [frame.time * 25 for frame in clip] == list(range(10 * number, 10 * number + 10))
            assert (clip.width, clip.height) == (64, 48)
    kept = [decoded(tmp_path / name).min(axis=(1, 2, 3)) > 200 for name in ("w.mp4", "w-2.mp4", "w-3.mp4")]
    assert [k for k, everywhere in enumerate(numpy.concatenate(kept)) if everywhere] == [
        12,
        13,
        14,
        *range(25, 30),
    ]


def test_a_clip_is_scaled_where_its_size_changes(tmp_path: Path) -> None:
    night = write_sizes(tmp_path / "night.h264", (36, 48), (48, 64))
    write_still(tmp_path / "day.png", day_picture(36, 48))
    report = enhance(night, tmp_path / "day.png", on_resize="scale")
    assert (report.frames, report.extras) == (20, ())
    assert any("64x48" in note for note in report.notes)


def test_no_part_stays_when_a_later_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = write_sizes(tmp_path / "night.h264", (36, 48), (18, 24), (48, 64))
    write_still(tmp_path / "day.png", day_picture(36, 48))
    with pytest.raises(PairError, match="expected 64x48 like the night"):
        enhance(night, tmp_path / "day.png", on_resize="split")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.png", "night.h264"]
    night = write_sizes(tmp_path / "two.h264", (36, 48), (18, 24))
    close = ClipWriter.close

    def fail_for_the_first(writer: ClipWriter) -> None:
        if writer.path.name == "o.mp4":
            assert (tmp_path / "o-2.mp4").exists()
            writer.discard()
            raise OutputError("no space")
        close(writer)

    monkeypatch.setattr(ClipWriter, "close", fail_for_the_first)
    with pytest.raises(OutputError, match="no space"):
        enhance(night, tmp_path / "day.png", tmp_path / "o.mp4", on_resize="split")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.png", "night.h264", "two.h264"]
    with pytest.raises(ConfigError, match="on_resize: expected fail, split or scale, got 'crop'; choose one"):
        enhance(night, tmp_path / "day.png", on_resize="crop")  # type: ignore[arg-type]


def scene_picture(left: int) -> numpy.ndarray:
    blocks = numpy.random.default_rng(3).integers(40, 255, (20, 30, 3)).astype(numpy.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[16:136, left : left + 160]


def write_scene(path: Path, *lefts: int) -> Path:
    with ClipWriter(path, 160, 120, Fraction(1, 5), 5, crf=8) as clip:
        for k, left in enumerate(lefts):
            levels = numpy.moveaxis(scene_picture(left), -1, 0)[None].astype(numpy.float32) / 4
            clip.write_chunk(numpy.ascontiguousarray(levels), [k])
    return path


def test_a_day_beside_its_night_is_told_moved_or_refused(tmp_path: Path) -> None:
    night = write_scene(tmp_path / "night.mp4", *[20] * 4)
    write_still(tmp_path / "day.png", scene_picture(24))
    report = enhance(night, tmp_path / "day.png", overwrite=True)
    assert report.shift is not None
    assert abs(report.shift.dx + 4) < 0.25
    assert any("night.mp4: the day lies 4.0 pixels beside the night" in note for note in report.notes)
    moved = enhance(night, tmp_path / "day.png", overwrite=True, alignment=Alignment(register=True))
    assert any("was moved into place" in note for note in moved.notes)
    assert moved.digest != report.digest
    with pytest.raises(PairError, match="expected the day within 2 pixels of the night"):
        enhance(night, tmp_path / "day.png", tmp_path / "o.mp4", alignment=Alignment(max_shift=2))
    assert not (tmp_path / "o.mp4").exists()
    unseen = enhance(night, tmp_path / "day.png", overwrite=True, alignment=Alignment(max_shift=None))
    assert (unseen.shift, unseen.notes, unseen.digest) == (None, (), report.digest)
    plate = aligned_plate(day_plate(tmp_path / "day.png"), night, Alignment(register=True))
    given = enhance(night, None, overwrite=True, plate=plate)
    assert (given.digest, given.shift) == (moved.digest, moved.shift)
    write_still(tmp_path / "dark.png", scene_picture(20) // 4)
    still = enhance(tmp_path / "dark.png", tmp_path / "day.png", tmp_path / "still.png")
    assert still.shift is not None
    assert abs(still.shift.dx + 4) < 0.25


def test_a_camera_that_moves_is_told(tmp_path: Path) -> None:
    night = write_scene(tmp_path / "night.mp4", *[20] * 25, *[31] * 40)
    write_still(tmp_path / "day.png", scene_picture(20))
    (note,) = enhance(night, tmp_path / "day.png").notes
    assert "night.mp4: the camera moved, and the picture with it by 11.0 pixels" in note


def test_the_day_is_made_with_signs_of_life(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    for k in range(5):
        write_still(tmp_path / "day" / f"{k}.png", scene_picture(20))
    night = write_scene(tmp_path / "night.mp4", *[20] * 12)
    signs: list[int] = []
    plate = day_plate(tmp_path / "day", tell=lambda: signs.append(0))
    assert len(signs) == 5
    aligned_plate(plate, night, tell=lambda: signs.append(1))
    assert signs.count(1) == 8
    told: list[tuple[int, int | None]] = []
    options: dict[str, Any] = {"device": "cpu", "progress": lambda *given: told.append(given)}
    enhance(night, tmp_path / "day", tmp_path / "a.mp4", **options)
    assert told[: 5 + 8] == [(0, 12)] * (5 + 8)
    assert told[-1] == (12, 12)
    told.clear()
    write_still(tmp_path / "night.png", scene_picture(20) // 5)
    enhance(tmp_path / "night.png", tmp_path / "day", tmp_path / "a.png", **options)
    assert told == [(0, 1)] * (5 + 1) + [(1, 1)]


def test_default_names(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    write_still(tmp_path / "stills" / "a.png", day_picture(4, 5))
    assert default_output(tmp_path / "stills") == tmp_path / "stills-enhanced.mp4"
    assert default_output(tmp_path / "stills" / "a.png") == tmp_path / "stills" / "a-enhanced.png"
    assert default_output(tmp_path / "stills" / "*.png") == tmp_path / "stills" / "stills-enhanced.mp4"
    assert default_output("x/night.avi") == Path("x/night-enhanced.mp4")


def test_devices() -> None:
    assert select_device("cpu").name == "cpu"
    assert select_device("auto").reason
    with pytest.raises(ConfigError, match="device: expected auto, cpu or cuda, got 'tpu'; choose one"):
        select_device("tpu")  # type: ignore[arg-type]
    if select_device("auto").name == "cpu":
        with pytest.raises(DeviceError, match=r"device: expected a usable GPU, found .*; use --device cpu"):
            select_device("cuda")


PEAK = """
import resource, sys
from gpufuse.enhance import enhance
report = enhance(sys.argv[1], sys.argv[2], sys.argv[3])
assert report.frames == int(sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    write_still(tmp_path / "day.png", day_picture(240, 320))
    peaks = []
    for frames in (100, 600):
        night = write_night(tmp_path / f"night{frames}.mp4", frames, 240, 320)
        words = [str(night), str(tmp_path / "day.png"), str(tmp_path / f"out{frames}.mp4"), str(frames)]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(gpufuse.__file__).parents[1])},
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 20  # MB
