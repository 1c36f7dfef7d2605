"""The command line: what it makes, its exit codes, its one-line errors, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

import gpufuse
from gpufuse.cli import main
from gpufuse.video import ClipWriter, open_clip, read_still, write_still

SIZE = (36, 64)


def street(seed: int = 0) -> numpy.ndarray:
    y, x = numpy.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    picture = numpy.stack([80 + x, 70 + 2 * y, 60 + (x * y) % 50], axis=-1)
    return numpy.clip(picture, 0, 255).astype(numpy.uint8)


def night_frames(count: int) -> numpy.ndarray:
    """A dark street over which a lamp moves."""
    frames = numpy.repeat((street() * 0.1).astype(numpy.uint8)[None], count, axis=0)
    for k in range(count):
        frames[k, 10:18, (4 * k) % 50 : (4 * k) % 50 + 9] = 240
    return frames


def write_clip(path: Path, frames: numpy.ndarray, pts: list[int] | None = None) -> Path:
    levels = numpy.moveaxis(frames, -1, 1).astype(numpy.float32)
    with ClipWriter(path, frames.shape[2], frames.shape[1], Fraction(1, 12800), 25) as clip:
        clip.write_chunk(levels, pts or [512 * k for k in range(len(frames))])
    return path


def times(path: Path) -> list[Fraction]:
    with open_clip(path) as clip:
        return [frame.time for frame in clip]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_still("day.png", street())
    write_clip(Path("night.mp4"), night_frames(12))
    return tmp_path


@pytest.fixture
def fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail, and return its one line; the folder is as it was."""

    def run(code: int, *words: str) -> str:
        before = sorted(path for path in folder.rglob("*"))
        assert main(words) == code
        assert sorted(path for path in folder.rglob("*")) == before
        lines = capsys.readouterr().err.strip().splitlines()
        assert not any("Traceback" in line for line in lines)
        lines = [line for line in lines if not line.startswith("gpufuse: computing on")]
        assert len(lines) == 1, lines
        assert lines[0].startswith("gpufuse: ")
        return lines[0]

    return run


# --------------------------------------------------------------------------------------------- good


def test_enhance_keeps_frames_and_times(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uneven = [0, 512, 1536, 1792, 4096]
    write_clip(folder / "uneven.mp4", night_frames(5), uneven)
    assert main(["enhance", "uneven.mp4", "--day", "day.png"]) == 0
    assert times(folder / "uneven-enhanced.mp4") == [Fraction(k, 12800) for k in uneven]
    out, err = capsys.readouterr()
    assert re.search(r"5 frames, [\d.]+ frames/s on cpu, solver within 0\.[01]\d level, no damage", out)
    assert "computing on cpu (" in err


def test_enhance_does_what_the_library_does(folder: Path) -> None:
    assert main(["enhance", "night.mp4", "--day", "day.png", "-o", "out.mkv", "--set", "passes=1"]) == 0
    with open_clip("night.mp4") as clip:
        night = [numpy.moveaxis(frame.levels, 0, -1) / numpy.float32(255) for frame in clip]
    settings = gpufuse.Settings(passes=1)
    expected = list(gpufuse.fuse_video(street().astype(numpy.float32) / 255, night, settings=settings))
    with open_clip("out.mkv") as clip:
        found = [numpy.moveaxis(frame.levels, 0, -1) for frame in clip]
    assert len(found) == len(expected) == 12
    error = numpy.mean((numpy.stack(found) - 255 * numpy.stack(expected)) ** 2)
    assert 10 * numpy.log10(255**2 / error) > 30  # only the codec stands between them


def test_enhance_writes_comparison_and_importance(folder: Path) -> None:
    words = [
        "enhance",
        "night.mp4",
        "--day",
        "day.png",
        "-o",
        "o.mp4",
        "--compare",
        "--write-importance",
        "w.mp4",
    ]
    assert main(words) == 0
    with open_clip("o-compare.mp4") as clip:
        assert (clip.width, clip.height) == (4 * SIZE[1], SIZE[0])
    with open_clip("w.mp4") as clip:
        weights = numpy.stack([frame.levels for frame in clip])
    assert weights.max() > 100
    assert times(Path("w.mp4")) == times(Path("night.mp4"))


def test_enhance_of_a_day_clip_a_folder_and_a_glob(folder: Path) -> None:
    write_clip(folder / "day.mp4", numpy.repeat(street()[None], 5, axis=0))
    stills = folder / "stills"
    stills.mkdir()
    for k, frame in enumerate(night_frames(11)):
        write_still(stills / f"n{k}.png", frame)
    assert main(["enhance", "stills", "--day", "day.mp4"]) == 0
    assert len(times(folder / "stills-enhanced.mp4")) == 11
    assert main(["enhance", "stills/n*.png", "--day", "day.png", "-o", "g.mp4"]) == 0
    assert len(times(folder / "g.mp4")) == 11


def test_enhance_of_one_still_equals_fuse(folder: Path) -> None:
    write_still("still.png", night_frames(1)[0])
    assert main(["enhance", "still.png", "--day", "day.png", "--compare", "--write-importance", "w.png"]) == 0
    expected = gpufuse.fuse(street(), night_frames(1)[0])
    assert (read_still("still-enhanced.png") == expected).all()
    assert read_still("still-enhanced-compare.png").shape == (SIZE[0], 4 * SIZE[1], 3)
    assert read_still("w.png").shape == SIZE


def test_areas_have_the_last_word(folder: Path) -> None:
    Path("areas.toml").write_text(
        '[[area]]\nfill = "day"\npolygon = [[-1, -1], [99, -1], [99, 99], [-1, 99]]\nseconds = [0.0, 0.2]\n'
    )
    assert main(["enhance", "night.mp4", "--day", "day.png", "-o", "o.mkv", "--areas", "areas.toml",
                 "--write-importance", "w.mkv"]) == 0  # fmt: skip
    with open_clip("w.mkv") as clip:
        brightest = [frame.levels.max() for frame in clip]
    assert max(brightest[:6]) < 8 < 40 < min(brightest[6:])


def test_fuse_and_its_options(folder: Path) -> None:
    night = night_frames(3)[2]
    write_still("n.png", night)
    write_still("r.png", (street() * 0.1).astype(numpy.uint8))
    write_still("w.png", numpy.full(SIZE, 255, numpy.uint8))
    assert main(["fuse", "day.png", "n.png", "-o", "a.png"]) == 0
    assert (read_still("a.png") == gpufuse.fuse(street(), night)).all()
    assert main(["fuse", "day.png", "n.png", "-o", "b.png", "--reference", "r.png"]) == 0
    reference = (street() * 0.1).astype(numpy.uint8)
    assert (read_still("b.png") == gpufuse.fuse_dynamic(street(), night, reference)).all()
    assert main(["fuse", "day.png", "n.png", "-o", "c.png", "--importance", "w.png"]) == 0
    assert abs(read_still("c.png").astype(int) - night).max() <= 1
    assert main(["fuse", "day.png", "n.png", "-o", "d.png", "--method", "average"]) == 0
    assert abs(read_still("d.png").astype(float) - (street() / 2 + night / 2)).max() <= 0.5
    for method in ("maximum", "blend", "substitute"):
        assert main(["fuse", "day.png", "n.png", "-o", f"{method}.png", "--method", method]) == 0


def test_background_is_the_median(folder: Path) -> None:
    frames = numpy.repeat(street()[None], 9, axis=0)
    frames[2, :10] = 0
    write_clip(folder / "day.mp4", frames)
    assert main(["background", "day.mp4", "-o", "plate.png"]) == 0
    change = abs(read_still("plate.png").astype(int) - street())
    assert change[:10].mean() < 6  # the codec; the dark band would change it by 80


def test_settings_file_and_words(folder: Path) -> None:
    Path("s.toml").write_text('passes = 0\nmethod = "dct"\n')
    assert (
        main(
            [
                "enhance",
                "night.mp4",
                "--day",
                "day.png",
                "--settings",
                "s.toml",
                "--set",
                "c=0",
                "fit_window=1",
            ]
        )
        == 0
    )


def test_doctor_ends_with_a_line_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"report    gpufuse={gpufuse.__version__} python=")
    assert any(line.startswith(("device    cpu: ", "device    cuda: ")) for line in lines)


@pytest.mark.parametrize("command", ["enhance", "fuse", "background", "demo", "doctor"])
def test_help_teaches_by_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert f"example:\n  gpufuse {command}" in text
    assert "exit codes: 0 complete" in text


# ---------------------------------------------------------------------------------------------- bad


def test_usage_and_settings_end_with_2(fails: Callable[..., str]) -> None:
    assert "the following arguments are required: --day" in fails(2, "enhance", "night.mp4")
    assert "invalid choice: 'frob'" in fails(2, "frob")
    assert "got 'pases'; check its spelling" in fails(
        2, "enhance", "night.mp4", "--day", "day.png", "--set", "pases=1"
    )
    assert "passes: expected a whole number, got 'x'" in fails(
        2, "enhance", "night.mp4", "--day", "day.png", "--set", "passes=x"
    )
    assert "no-such.toml: expected a readable settings file" in fails(
        2, "enhance", "night.mp4", "--day", "day.png", "--settings", "no-such.toml"
    )


def test_missing_and_unreadable_input_end_with_3(fails: Callable[..., str], folder: Path) -> None:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no clip at all\n" * 50)
    assert "missing.mp4: expected a file, found none" in fails(
        3, "enhance", "missing.mp4", "--day", "day.png"
    )
    assert "missing.png" in fails(3, "enhance", "night.mp4", "--day", "missing.png")
    assert "empty.mp4: expected a video or a picture" in fails(3, "enhance", "empty.mp4", "--day", "day.png")
    assert "text.mp4: expected a video or a picture" in fails(3, "enhance", "text.mp4", "--day", "day.png")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clip_cut_in_half_ends_with_4(fails: Callable[..., str], folder: Path, suffix: str) -> None:
    whole = write_clip(folder / f"whole{suffix}", night_frames(60)).read_bytes()
    (folder / f"cut{suffix}").write_bytes(whole[: len(whole) // 2])
    assert f"cut{suffix}: expected" in fails(4, "enhance", f"cut{suffix}", "--day", "day.png")


def test_salvage_keeps_the_readable_part_and_ends_with_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_clip(folder / "whole.mkv", night_frames(60)).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 4])
    assert main(["enhance", "cut.mkv", "--day", "day.png", "-o", "o.mp4", "--on-damage", "salvage"]) == 1
    out, err = capsys.readouterr()
    assert "kinds of damage" in out
    assert "ends" in err
    found = times(folder / "o.mp4")
    assert 0 < len(found) < 60
    assert found == times(folder / "whole.mkv")[: len(found)]


def test_a_pair_of_different_size_ends_with_6(fails: Callable[..., str], folder: Path) -> None:
    write_still("small.png", street()[:20, :30])
    assert "expected 64x36 like the night, or larger with the same aspect ratio (2 %), got 30x20" in fails(
        6, "enhance", "night.mp4", "--day", "small.png"
    )


def test_output_that_cannot_be_written_ends_with_7(fails: Callable[..., str], folder: Path) -> None:
    (folder / "there.mp4").write_text("mine")
    assert "there.mp4: expected a new name, found that it exists" in fails(
        7, "enhance", "night.mp4", "--day", "day.png", "-o", "there.mp4"
    )
    assert (folder / "there.mp4").read_text() == "mine"
    assert "expected the folder 'nowhere', found none" in fails(
        7, "enhance", "night.mp4", "--day", "day.png", "-o", "nowhere/o.mp4"
    )
    assert "expected a name ending in .mp4" in fails(
        7, "enhance", "night.mp4", "--day", "day.png", "-o", "o.avi"
    )


def test_inputs_are_never_written_to(fails: Callable[..., str], folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    night, day = str(folder / "night.mp4"), "day.png"
    for words in (
        ["enhance", night, "--day", day, "-o", "night.mp4", "--overwrite"],
        ["enhance", "night.mp4", "--day", "night.mp4", "-o", night, "--overwrite"],
        ["enhance", night, "--day", day, "-o", "o.mp4", "--write-importance", str(folder / "o.mp4")],
        ["fuse", day, day, "-o", str(folder / "day.png"), "--overwrite"],
        ["fuse", day, day, "-o", "o.png", "--write-importance", str(folder / "o.png")],
        ["background", "night.mp4", "-o", "o.mp4"],
        ["fuse", day, day, "-o", "o.xyz", "--write-importance", "w.png"],
    ):
        line = fails(7, *words)
        assert "a name of its own" in line or "a name ending in" in line
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_limits_end_with_5(fails: Callable[..., str]) -> None:
    words = ["enhance", "night.mp4", "--day", "day.png"]
    assert "expected at most 5 frames" in fails(5, *words, "--max-frames", "5")
    assert "expected at most 0.1 s" in fails(5, *words, "--max-seconds", "0.1")
    assert "expected at most 100 pixels" in fails(5, *words, "--max-pixels", "100")
    assert "--max-frames: expected more than 0, got 0" in fails(2, *words, "--max-frames", "0")


def test_an_importance_of_another_size_ends_with_6(fails: Callable[..., str], folder: Path) -> None:
    write_still("w.png", numpy.zeros((24, 32), numpy.uint8))
    line = fails(6, "fuse", "day.png", "day.png", "-o", "o.png", "--importance", "w.png")
    assert "importance: expected 64x36 like the night, got 32x24" in line


def test_an_unquoted_pattern_is_explained(fails: Callable[..., str]) -> None:
    assert "a pattern of stills needs quotes" in fails(2, "enhance", "a.png", "b.png", "--day", "day.png")


def test_a_mistake_of_ours_ends_with_70(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpufuse.device.diagnosis", lambda: 1 / 0)
    assert main(["doctor"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "this is a mistake in gpufuse" in err


def test_damage_of_the_day_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_clip(folder / "day.mkv", numpy.repeat(street()[None], 60, axis=0)).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 4])
    words = ["--day", "cut.mkv", "--on-damage", "salvage"]
    assert main(["enhance", "night.mp4", *words]) == 1
    assert "ends" in capsys.readouterr().err
    write_still("n.png", night_frames(1)[0])
    assert main(["enhance", "n.png", *words]) == 1
    assert main(["background", "cut.mkv", "-o", "p.png", "--on-damage", "salvage"]) == 1
    assert main(["background", "cut.mkv", "-o", "q.png"]) == 4
    assert not Path("q.png").exists()


def test_a_day_clip_serves_fuse_too(folder: Path) -> None:
    write_clip(folder / "day.mp4", numpy.repeat(street()[None], 5, axis=0))
    write_still("n.png", night_frames(1)[0])
    assert main(["fuse", "day.mp4", "n.png", "-o", "o.png"]) == 0
    assert read_still("o.png").shape == (*SIZE, 3)


def test_the_importance_written_is_the_one_used(folder: Path) -> None:
    Path("areas.toml").write_text(
        '[[area]]\nfill = "night"\npolygon = [[5, 5], [30, 5], [30, 30], [5, 30]]\n'
    )
    write_still("n.png", (street() * 0.1).astype(numpy.uint8))
    options = ["--areas", "areas.toml", "--write-importance"]
    assert main(["enhance", "n.png", "--day", "day.png", *options, "w.png"]) == 0
    assert main(["fuse", "day.png", "n.png", "-o", "o.png", *options, "v.png"]) == 0
    assert read_still("w.png")[15, 15] == read_still("v.png")[15, 15] == 255
    assert (read_still("o.png") == read_still("n-enhanced.png")).all()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_ends_with_7(fails: Callable[..., str], folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    assert "expected a writable folder" in fails(
        7, "enhance", "night.mp4", "--day", "day.png", "-o", "closed/o.mp4"
    )


def test_a_demanded_gpu_that_is_not_there_ends_with_8(
    fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpufuse.device.cuda_obstacle", lambda: "no NVIDIA driver")
    line = fails(8, "enhance", "night.mp4", "--day", "day.png", "--device", "cuda")
    assert line == "gpufuse: device: expected a usable GPU, found no NVIDIA driver; use --device cpu"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_has_its_code_and_leaves_nothing(folder: Path, number: int, code: int) -> None:
    write_clip(folder / "long.mp4", numpy.tile(night_frames(12), (60, 1, 1, 1)))
    before = sorted(folder.iterdir())
    run = subprocess.Popen(
        [sys.executable, "-m", "gpufuse", "enhance", "long.mp4", "--day", "day.png", "-o", "o.mp4"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(gpufuse.__file__).parents[1])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(folder.glob("o.mp4.part-*")):  # it has begun to write
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert "interrupted; nothing half-written was left" in err
    assert "Traceback" not in err
    assert sorted(folder.iterdir()) == before
