"""Batches: all clips made, once, whatever is killed, damaged or in the way."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from archive import (
    batch_words,
    children_of,
    dask_cluster,
    day_picture,
    digests,
    kill_and_restart,
    make_archive,
    parts_left,
    run_batch,
    start_batch,
    told_json,
    wait_until,
    write_night,
)

import gpufuse.batch
from gpufuse.batch import Progress, read_manifest, verify_folder
from gpufuse.batch.workspace import Workspace
from gpufuse.errors import BatchError, ConfigError, OutputError
from gpufuse.settings import Settings
from gpufuse.video import open_clip, write_still

POISON = str(Path(__file__).parent / "poison")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a batch makes that nothing disturbs."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    report = run(archive, output)
    assert report.exit_code == 0, [result.error for result in report.failed]
    return output


@pytest.fixture
def made(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


def run(archive: Path, output: Path, **options):
    options = {"device": "cpu", "workers": 2} | options
    return gpufuse.batch.run(
        archive / "nights", archive / "days" / "{camera}.png", output, camera="{camera}/...", **options
    )


def names(cameras: int = 2, clips: int = 3) -> set[str]:
    return {f"cam{c}/{n}-enhanced.mp4" for c, n in itertools.product(range(cameras), range(clips))}


# All is well


def test_every_clip_is_made_and_described(archive: Path, undisturbed: Path) -> None:
    assert set(digests(undisturbed)) == names()
    manifest = read_manifest(undisturbed / "cam1/2-enhanced.mp4")
    assert manifest is not None
    assert (manifest.frames_in, manifest.frames_out, manifest.segments) == (9, 9, 1)
    assert (manifest.first_time, manifest.last_time) == (0.0, pytest.approx(8 / 25))
    assert [record.path for record in manifest.clip] == [str(archive / "nights/cam1/2.mp4")]
    assert [record.path for record in manifest.day] == [str(archive / "days/cam1.png")]
    assert manifest.clip[0].size == (archive / "nights/cam1/2.mp4").stat().st_size
    assert manifest.size == (48, 36)
    assert (manifest.device, manifest.damage, manifest.gaps) == ("cpu", (), ())
    assert manifest.versions["gpufuse"] == gpufuse.__version__
    with open_clip(undisturbed / "cam1/2-enhanced.mp4") as clip:
        assert sum(len(chunk) for chunk in clip.chunks(4)) == 9
    assert verify_folder(undisturbed).exit_code == 0
    assert not parts_left(undisturbed)
    assert not list((undisturbed / ".gpufuse/work").iterdir())
    page = (undisturbed / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in names())


def test_a_second_run_makes_nothing(archive: Path, made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.mp4*")}
    report = run(archive, made)
    assert (report.count("skipped"), report.count("done"), report.frames) == (6, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.mp4*")} == before


def test_progress_tells_files_frames_and_workers(archive: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    report = run(
        archive, tmp_path / "out", only=["cam0/0-enhanced.mp4", "cam1/1-enhanced.mp4"], progress=told.append
    )
    assert set(digests(tmp_path / "out")) == {"cam0/0-enhanced.mp4", "cam1/1-enhanced.mp4"}
    assert (report.frames, report.count("done"), report.count("waiting")) == (18, 2, 4)
    last = told[-1]
    assert (last.files_done, last.files_failed, last.files_total, last.frames) == (2, 0, 2, 18)
    assert last.seconds_left == 0
    assert {state.work for progress in told for state in progress.workers} <= {"plate", "clip"}
    assert any(progress.workers for progress in told)


def test_segments_are_joined_to_the_same_frames(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    report = run(archive, tmp_path / "out", segment=0.12, only=["cam0/1-enhanced.mp4"])
    (result,) = (result for result in report.results if result.state != "waiting")
    assert result.manifest is not None, result.error
    assert result.manifest.segments == 3
    assert result.manifest.digest == digests(undisturbed)["cam0/1-enhanced.mp4"]
    assert verify_folder(tmp_path / "out", decode=True).exit_code == 0
    assert not list((tmp_path / "out/.gpufuse/work").iterdir())


def test_a_cluster_makes_the_same_frames(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gpufuse[cluster]'")
    with dask_cluster(tmp_path) as (address, _):
        code, out, err = run_batch(batch_words(archive, tmp_path / "out", "--scheduler", address))
    assert code == 0, err
    assert f"workers of the cluster at {address}" in out
    assert digests(tmp_path / "out") == digests(undisturbed)
    assert not list((tmp_path / "out/.gpufuse").glob("running-*"))


# What is there already


def test_outputs_of_other_settings_are_not_mixed(archive: Path, made: Path) -> None:
    before = digests(made)
    (made / "cam0/0-enhanced.mp4").unlink()
    (made / "cam0/0-enhanced.mp4.json").unlink()
    with pytest.raises(
        OutputError,
        match=r"out: expected outputs of the same settings, found 5 made with others \(cam0/1-enhanced.mp4: passes 2, "
        r"not 1; .*\); use another folder, or --overwrite to make them again",
    ):
        run(archive, made, settings=Settings(passes=1))
    assert not (made / "cam0/0-enhanced.mp4").exists()
    assert {name: digest for name, digest in before.items() if name != "cam0/0-enhanced.mp4"} == digests(made)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": Settings(c=3)}, "c 5, not 3"),
        ({"register": True}, "register False, not True"),
        ({"plate_seconds": 3.0}, "plate_seconds 15.0, not 3.0"),
        ({"areas": True}, "areas None, not"),
    ],
)
def test_every_option_that_changes_frames_counts(
    archive: Path, made: Path, tmp_path: Path, changed: dict, named: str
) -> None:
    if "areas" in changed:
        changed["areas"] = tmp_path / "areas.toml"
        changed["areas"].write_text('[[area]]\nfill = "day"\npolygon = [[1, 2], [9, 2], [9, 8]]\n')
    with pytest.raises(OutputError, match=named):
        run(archive, made, **changed)


def test_what_to_do_about_trouble_does_not_matter_where_there_was_none(archive: Path, made: Path) -> None:
    assert run(archive, made, on_damage="salvage", on_resize="split").count("skipped") == 6


def test_overwrite_makes_what_differs_and_nothing_else(archive: Path, made: Path) -> None:
    kept = (made / "cam1/1-enhanced.mp4").stat().st_mtime_ns
    only = ["cam0/0-enhanced.mp4"]
    report = run(archive, made, settings=Settings(passes=1), overwrite=True, only=only)
    assert report.count("done") == 1
    manifest = read_manifest(made / only[0])
    assert manifest is not None
    assert manifest.order["settings"]["passes"] == 1
    assert run(archive, made, settings=Settings(passes=1), overwrite=True, only=only).count("skipped") == 1
    assert (made / "cam1/1-enhanced.mp4").stat().st_mtime_ns == kept
    assert verify_folder(made).exit_code == 0


def test_what_is_in_the_way_is_left_and_told(archive: Path, made: Path) -> None:
    foreign = made / "cam0/0-enhanced.mp4"
    (made / "cam0/0-enhanced.mp4.json").unlink()
    altered = made / "cam0/1-enhanced.mp4"
    altered.write_bytes(altered.read_bytes()[:-1])
    (made / "cam0/2-enhanced.mp4.json").write_text("{}")
    (made / "cam1/0-enhanced.mp4").unlink()
    before = foreign.read_bytes(), altered.read_bytes()
    report = run(archive, made)
    errors = {result.item.name: result.error for result in report.failed}
    assert errors == {
        "cam0/0-enhanced.mp4": "cam0/0-enhanced.mp4: expected a new name, found a file that this batch has not made; "
        "use another folder, or --overwrite",
        "cam0/1-enhanced.mp4": "cam0/1-enhanced.mp4: expected the file that its manifest describes, found another; "
        "use --overwrite, or delete both",
        "cam0/2-enhanced.mp4": "2-enhanced.mp4.json: expected a manifest, found 'no manifest'; delete it and its "
        "output, and run the batch again",
    }
    assert report.exit_code == 11
    assert (foreign.read_bytes(), altered.read_bytes()) == before
    assert report.count("done") == 1  # what was removed is made again
    with pytest.raises(BatchError, match="expected all 6 clips to be made, found 3 that could not"):
        report.raise_for_failures()
    assert run(archive, made, overwrite=True).exit_code == 0
    assert verify_folder(made).exit_code == 0


def test_a_clip_that_has_changed_since_is_told(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1)
    run(archive, tmp_path / "out")
    write_night(archive / "nights/cam0/new.mp4", 7, seed=9).replace(archive / "nights/cam0/0.mp4")
    (result,) = run(archive, tmp_path / "out").results
    assert result.error == (
        "cam0/0-enhanced.mp4: expected to be made from the clip and the day that are there now, found that they have "
        "changed since; use --overwrite, or put the old ones back"
    )
    assert (result.kind, result.exit_code) == ("OutputError", 7)


def test_the_plate_of_a_day_clip_is_made_once(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=2)
    day = archive / "days/cam0.png"
    day.unlink()
    write_night(tmp_path / "day.mp4", 20, seed=5)
    works = []
    for _ in range(2):
        report = gpufuse.batch.run(
            archive / "nights",
            tmp_path / "day.mp4",
            tmp_path / "out",
            device="cpu",
            workers=1,
            progress=lambda progress: works.extend((state.clip, state.work) for state in progress.workers),
        )
    assert report.exit_code == 0, [result.error for result in report.failed]
    assert len({clip for clip, work in works if work == "plate"}) <= 1
    (plate,) = (tmp_path / "out/.gpufuse/plates").glob("*.png")
    (record,) = (tmp_path / "out/.gpufuse/plates").glob("*.json")
    assert told_json(record)["picture"] == str(plate)
    manifest = read_manifest(tmp_path / "out/cam0/1-enhanced.mp4")
    assert manifest is not None
    assert [file.path for file in manifest.day] == [str(tmp_path / "day.mp4")]
    assert any("expected at least 8 s" in note for note in manifest.notes)


# Clips that fail


def test_failures_cost_their_own_clip_alone(tmp_path: Path) -> None:
    """A damaged clip, one that is no video, one without a day, one that crashes and one that hangs."""
    archive = make_archive(tmp_path, cameras=1, clips=2)
    nights = archive / "nights/cam0"
    whole = nights / "0.mp4"
    (nights / "cut.mp4").write_bytes(whole.read_bytes()[:-300])
    (nights / "text.mp4").write_text("no video")
    write_night(nights / "poison.mp4", seed=3)
    write_night(nights / "hang.mp4", seed=4)
    write_night(archive / "nights/cam7/0.mp4", seed=5)
    words = batch_words(
        archive, tmp_path / "out", "--stall", "8", "--workers", "2", "--json", str(tmp_path / "told")
    )
    code, out, err = run_batch(words, PYTHONPATH=POISON)
    assert code == 11, err
    assert set(digests(tmp_path / "out")) == names(1, 2)
    clips = {clip["name"]: clip for clip in told_json(tmp_path / "told")["clips"]}
    failed = {
        name: (clip["exit_code"], clip["error"]) for name, clip in clips.items() if clip["state"] == "failed"
    }
    assert {name: exit_code for name, (exit_code, _) in failed.items()} == {
        "cam0/cut-enhanced.mp4": 4,
        "cam0/text-enhanced.mp4": 3,
        "cam0/poison-enhanced.mp4": 4,
        "cam0/hang-enhanced.mp4": 5,
        "cam7/0-enhanced.mp4": 3,
    }
    assert (
        "poison.mp4: expected its process to finish, found that it died (SIGSEGV"
        in failed["cam0/poison-enhanced.mp4"][1]
    )
    assert failed["cam0/hang-enhanced.mp4"][1] == (
        "hang.mp4: expected some progress within 8 s, found none; look at the clip, or raise --stall"
    )
    assert clips["cam0/poison-enhanced.mp4"]["attempts"] == 2
    assert "2 of 7 clips done (2 in this run), 5 failed" in out
    for name, (_, line) in failed.items():
        assert f"gpufuse: {name}: {line}" in err
    assert not parts_left(tmp_path / "out")
    # The exact command repeats one clip, and once it is mended it is made.
    shutil.copy(whole, nights / "cut.mp4")
    import shlex

    command = shlex.split(clips["cam0/cut-enhanced.mp4"]["command"])
    assert command[:2] == ["gpufuse", "batch"]
    code, out, err = run_batch(command[1:])
    assert code == 0, err
    assert set(digests(tmp_path / "out")) == names(1, 2) | {"cam0/cut-enhanced.mp4"}


def test_what_can_be_read_of_a_damaged_clip_is_made_and_told(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1, frames=30)
    clip = archive / "nights/cam0/0.mp4"
    content = bytearray(clip.read_bytes())
    place = content.find(b"mdat") + len(content) // 3
    content[place : place + 40] = bytes(40)
    clip.write_bytes(content)
    report = run(archive, tmp_path / "out", on_damage="salvage")
    (result,) = report.results
    assert result.manifest is not None, result.error
    assert result.manifest.damage
    assert report.exit_code == 1
    code, _, err = run_batch(batch_words(archive, tmp_path / "out", "--on-damage", "salvage"))
    assert code == 1
    assert "cam0/0-enhanced.mp4: made from the readable part; 0.mp4: expected" in err


# Kills


def test_a_killed_batch_goes_on_where_it_was(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A short form of a hundred kills: nothing lost, nothing twice, nothing broken, the same frames."""
    times = random.Random(4)
    words = batch_words(archive, tmp_path / "out", "--workers", "2")
    codes = kill_and_restart(words, (times.uniform(0.3, 5.0) for _ in itertools.count()), 4)
    assert codes[-1] == 0
    assert set(codes[:-1]) <= {0, -signal.SIGKILL}
    assert digests(tmp_path / "out") == digests(undisturbed)
    assert verify_folder(tmp_path / "out", decode=True).exit_code == 0
    assert not parts_left(tmp_path / "out")
    assert not list((tmp_path / "out/.gpufuse/work").iterdir())


def test_a_killed_batch_keeps_the_segments_it_has(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    name = "cam0/2-enhanced.mp4"
    words = batch_words(archive, tmp_path / "out", "--segment", "0.12", "--workers", "1", "--only", name)
    work = Workspace(tmp_path / "out").private / "work"
    process = start_batch(words)
    wait_until(lambda: list(work.glob("*/segment-00000-*.json")), 60)
    process.kill()
    process.communicate()
    (first,) = work.glob("*/segment-00000-*.json")
    kept = first.stat().st_mtime_ns
    process = start_batch(words)
    wait_until(lambda: list(work.glob("*/segment-00002-*.json")) or process.poll() is not None, 60)
    if first.exists():  # unless it is all over
        assert first.stat().st_mtime_ns == kept
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert digests(tmp_path / "out")[name] == digests(undisturbed)[name]


def test_workers_that_are_killed_are_replaced(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    process = start_batch(batch_words(archive, tmp_path / "out", "--workers", "2"))
    killed = 0
    while killed < 4 and process.poll() is None:
        time.sleep(chance.uniform(0.4, 1.0))
        for child in children_of(process.pid)[:1]:
            os.kill(child, signal.SIGKILL)
            killed += 1
    _, err = process.communicate(timeout=120)
    assert killed == 4
    assert process.returncode == 0, err
    assert digests(tmp_path / "out") == digests(undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_all_and_can_be_resumed(
    archive: Path, undisturbed: Path, tmp_path: Path, number: int, code: int
) -> None:
    words = batch_words(archive, tmp_path / "out", "--workers", "2")
    process = start_batch(words)
    wait_until(lambda: children_of(process.pid))
    time.sleep(0.7)
    children = children_of(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert "gpufuse: interrupted; nothing half-written was left" in err
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert (tmp_path / "out/index.html").exists()
    assert run_batch(words)[0] == 0
    assert digests(tmp_path / "out") == digests(undisturbed)
    assert not parts_left(tmp_path / "out")


def test_one_folder_takes_one_batch(archive: Path, made: Path) -> None:
    with (
        Workspace(made).claimed(),
        pytest.raises(
            OutputError,
            match=rf"out: expected no other batch in this folder, found one \(process {os.getpid()} on .*\); "
            "wait for it, or use another folder",
        ),
    ):
        run(archive, made)
    assert run(archive, made).exit_code == 0


# Mistakes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 0}, "workers: expected at least 1, got 0; leave it out for the default"),
        ({"segment": -1.0}, "segment: expected more than 0, got -1.0; give a larger number"),
        ({"on_damage": "ignore"}, "on_damage: expected fail, salvage, got 'ignore'; choose one"),
        ({"colour": "red"}, "options: expected some of device, .*, got 'colour'; check its spelling"),
        (
            {"only": ["x.mp4"]},
            "only: expected names of outputs, found none of the name 'x.mp4'; they look like 'cam0/0-",
        ),
    ],
)
def test_mistakes_in_the_order_are_told_at_once(
    archive: Path, tmp_path: Path, options: dict, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        run(archive, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gpufuse[cluster]'")
    code, _, err = run_batch(batch_words(archive, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9"))
    assert code == 8
    assert "gpufuse: scheduler: expected a Dask scheduler at tcp://127.0.0.1:9, found none" in err


def test_a_day_of_another_shape_fails_its_clips(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1)
    write_still(archive / "days/cam0.png", day_picture(50, 50), overwrite=True)
    (result,) = run(archive, tmp_path / "out").results
    assert result.kind == "PairError"
    assert result.exit_code == 6
