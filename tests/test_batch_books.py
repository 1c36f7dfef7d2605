"""What a batch decides, without any process: tasks done here, or by workers that are made up."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from archive import batch_words, digests, make_archive, run_batch, write_night

import gpufuse.batch
from gpufuse.batch import BatchOrder, Item, Options, Progress, api, read_manifest
from gpufuse.batch.commit import finish_pending, made_already, output_names
from gpufuse.batch.coordinator import HOPELESS, run_items
from gpufuse.batch.listing import list_items
from gpufuse.batch.manifest import FileRecord, Manifest, manifest_path, recorded, same_file
from gpufuse.batch.orders import fingerprint
from gpufuse.batch.tasks import Advanced, Ended, Event, Outcome, Started, Task
from gpufuse.batch.work import perform
from gpufuse.batch.workers import LocalWorkers
from gpufuse.batch.workspace import Workspace
from gpufuse.errors import DamagedInputError, OutputError
from gpufuse.settings import Settings


class Here:
    """Workers that do tasks in this process, one at a time; `before` is called with each, and may do something."""

    def __init__(self, before: Callable[[Task], Outcome | None] = lambda task: None) -> None:
        self.before = before
        self.done: list[str] = []
        self._events: list[Event] = []

    def describe(self) -> str:
        return "nobody else"

    def room(self) -> int:
        return 0 if self._events else 1

    def submit(self, task: Task) -> None:
        self._events.append(Started(task.id, "1"))
        outcome = self.before(task)
        if outcome is None:
            try:
                outcome = Outcome("done", json.loads(json.dumps(perform(task, self._advance(task)))))
            except gpufuse.GpufuseError as error:
                outcome = Outcome("failed", {}, str(error), type(error).__name__, error.exit_code)
        self.done.append(task.id)
        self._events.append(Ended(task.id, "1", outcome))

    def _advance(self, task: Task) -> Callable[[int, int | None], None]:
        return lambda done, expected: self._events.append(Advanced(task.id, "1", done, expected))

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        self._events = []


def items_of(archive: Path, output: Path, settings: Settings | None = None) -> list[Item]:
    day = archive / "days" / "{camera}.png"
    return list(list_items(archive / "nights", day, folder=output, settings=settings).items)


def run(
    archive: Path, output: Path, workers: Here | None = None, *, settings: Settings | None = None, **more
):
    progress = more.pop("progress", lambda progress: None)
    only = more.pop("only", ())
    options = Options(device="cpu", **more)
    return run_items(
        items_of(archive, output, settings),
        output,
        options,
        lambda lock: workers or Here(),
        progress=progress,
        only=only,
    )


class InterruptedRunError(Exception):
    """What a kill is to a run in this process."""


def until(task_id: str) -> Here:
    """Workers that are killed when they are given this task."""

    def before(task: Task) -> None:
        if task.id == task_id:
            raise InterruptedRunError

    return Here(before)


NAME = "cam0/0-enhanced.mp4"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_archive(tmp_path, cameras=1, clips=1, frames=12)


def interrupted(one: Path, **options) -> Workspace:
    """Two of three segments are made."""
    with pytest.raises(InterruptedRunError):
        run(one, one / "out", until(f"segment 2 {NAME}"), segment=0.16, **options)
    workspace = Workspace(one / "out")
    assert len(list(workspace.private.glob("work/*/segment-*.json"))) == 2
    return workspace


# Segments of earlier runs


def test_segments_that_are_there_are_not_made_again(one: Path) -> None:
    interrupted(one)
    workers = Here()
    assert run(one, one / "out", workers, segment=0.16).exit_code == 0
    assert [task for task in workers.done if task.startswith("segment")] == [f"segment 2 {NAME}"]
    run(one, one / "whole", segment=None)
    assert digests(one / "out") == digests(one / "whole")


def replace_clip(one: Path) -> None:
    write_night(one / "nights/cam0/new.mp4", 12, seed=8).replace(one / "nights/cam0/0.mp4")


def replace_day(one: Path) -> None:
    day = one / "days/cam0.png"
    other = make_archive(one / "other", cameras=3, clips=0) / "days/cam2.png"
    other.replace(day)


@pytest.mark.parametrize("replace", [replace_clip, replace_day])
def test_segments_of_other_inputs_are_not_used(one: Path, replace: Callable[[Path], None]) -> None:
    interrupted(one)
    replace(one)
    workers = Here()
    assert run(one, one / "out", workers, segment=0.16).exit_code == 0
    assert len([task for task in workers.done if task.startswith("segment")]) == 3
    run(one, one / "whole", segment=None)
    assert digests(one / "out") == digests(one / "whole")


def test_segments_of_another_length_are_not_used(one: Path) -> None:
    interrupted(one)
    assert run(one, one / "out", segment=0.2).exit_code == 0
    run(one, one / "whole", segment=None)
    assert digests(one / "out") == digests(one / "whole")


def test_segments_of_another_order_are_not_used(one: Path) -> None:
    """Made with one order, begun to be replaced by a second, replaced by a third."""
    run(one, one / "out", segment=None)
    with pytest.raises(InterruptedRunError):
        run(
            one, one / "out", until(f"segment 2 {NAME}"), settings=Settings(c=2), segment=0.16, overwrite=True
        )
    with pytest.raises(OutputError, match="expected outputs of the same settings"):
        run(one, one / "out", settings=Settings(c=1), segment=0.16)
    assert run(one, one / "out", settings=Settings(c=1), segment=0.16, overwrite=True).exit_code == 0
    run(one, one / "whole", settings=Settings(c=1), segment=None)
    assert digests(one / "out") == digests(one / "whole")


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_segment_that_is_damaged_is_made_again(one: Path, harm: str) -> None:
    workspace = interrupted(one)
    (segment,) = workspace.private.glob("work/*/segment-00000-*.mp4")
    content = segment.read_bytes()
    if harm == "cut":
        segment.write_bytes(content[:-200])
    else:
        segment.write_bytes(bytes(64) + content[64:])
    workers = Here()
    assert run(one, one / "out", workers, segment=0.16).exit_code == 0
    assert f"segment 0 {NAME}" in workers.done
    run(one, one / "whole", segment=None)
    assert digests(one / "out") == digests(one / "whole")


# Inputs that change while they are worked on


@pytest.mark.parametrize("segment", [None, 0.16])
@pytest.mark.parametrize("replace", [replace_clip, replace_day])
def test_inputs_that_change_on_the_way_fail_their_clip(
    one: Path, replace: Callable[[Path], None], segment: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpufuse.batch import pieces, work

    for module, name in ((work, "enhance"), (pieces, "join_segments")):
        called = getattr(module, name)

        def changed(*arguments, called=called, **options):
            made = called(*arguments, **options)
            replace(one)
            return made

        monkeypatch.setattr(module, name, changed)
    (result,) = run(one, one / "out", segment=segment).results
    assert result.state == "failed"
    assert "expected it to stay as it was, found that it changed while it was read" in result.error
    assert not (one / "out" / NAME).exists()
    assert not list((one / "out/.gpufuse").glob("work/*/result-*"))


# Tasks that run twice


def tasks_of(one: Path, **options) -> Task:
    (item,) = items_of(one, one / "out")
    workspace = Workspace(one / "out")
    workspace.prepare()
    chosen = Options(device="cpu", **options)
    perform(Task("plate", "plate", str(workspace.root), item, chosen), lambda done, expected: None)
    return Task("clip", "clip", str(workspace.root), item, chosen)


def test_a_task_that_runs_twice_finds_what_the_first_has_made(one: Path) -> None:
    task = tasks_of(one)
    assert perform(task, lambda done, expected: None)["frames"] == 12
    made = (one / "out" / NAME).stat().st_mtime_ns
    assert perform(task, lambda done, expected: None) == {"finished": True}
    assert (one / "out" / NAME).stat().st_mtime_ns == made


def test_two_processes_that_make_one_clip_do_not_mix_it(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finishes whole while the first is about to give its names."""
    from gpufuse.batch import work

    task = tasks_of(one, overwrite=True)
    commit = work.commit

    def overtaken(*arguments, **options):
        monkeypatch.setattr(work, "commit", commit)
        perform(task, lambda done, expected: None)
        return commit(*arguments, **options)

    monkeypatch.setattr(work, "commit", overtaken)
    perform(task, lambda done, expected: None)
    assert gpufuse.batch.verify_folder(one / "out").exit_code == 0


@pytest.mark.parametrize("reserved", ["output", "manifest"])
def test_a_name_that_was_only_reserved_is_no_obstacle(one: Path, reserved: str) -> None:
    """As a kill leaves it where there are no hard links."""
    run(one, one / "out")
    whole = digests(one / "out")
    output = one / "out" / NAME
    workspace = Workspace(one / "out")
    (item,) = items_of(one, one / "out")
    work = workspace.work(item)
    work.mkdir(parents=True)
    manifest_path(output).replace(work / "manifest-1.json")
    if reserved == "output":
        output.replace(work / "result-1.mp4")
        output.touch()
    else:
        manifest_path(output).touch()
    (work / "pending-1.json").write_text(
        json.dumps({"manifest": "manifest-1.json", "parts": ["result-1.mp4"]})
    )
    assert run(one, one / "out").exit_code == 0
    assert digests(one / "out") == whole
    assert gpufuse.batch.verify_folder(one / "out").exit_code == 0


def test_work_that_waits_for_its_names_is_not_given_them_for_another_clip(one: Path) -> None:
    run(one, one / "out")
    workspace = Workspace(one / "out")
    (item,) = items_of(one, one / "out")
    work = workspace.work(item)
    work.mkdir(parents=True)
    manifest_path(one / "out" / NAME).replace(work / "manifest-1.json")
    (one / "out" / NAME).replace(work / "result-1.mp4")
    (work / "pending-1.json").write_text(
        json.dumps({"manifest": "manifest-1.json", "parts": ["result-1.mp4"]})
    )
    replace_clip(one)
    assert finish_pending(workspace, item, fingerprint(item, Options()), overwrite=False) is None
    assert made_already(workspace, item, fingerprint(item, Options())) is None
    assert run(one, one / "out").exit_code == 0
    run(one, one / "whole")
    assert digests(one / "out") == digests(one / "whole")


# Order, time left, report


def planned(archive: Path, output: Path, *, segments: int = 3) -> Here:
    """Workers that make nothing and find every clip long."""

    def before(task: Task) -> Outcome:
        if task.work == "clip":
            return Outcome("done", {"long": True})
        if task.work == "survey":
            parts = [{"index": k, "first": 4 * k, "stop": 4 * k + 4} for k in range(segments)]
            return Outcome("done", {"segments": parts, "frames": 4 * segments, "done": []})
        return Outcome("done", {"frames": 4})

    return Here(before)


def test_clips_that_were_begun_are_finished_first(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=3)
    workers = planned(archive, tmp_path / "out")
    run(archive, tmp_path / "out", workers)
    works = [task.split()[0] for task in workers.done]
    assert works == ["plate", *(["clip", "survey", "segment", "segment", "segment", "join"] * 3)]


def test_the_time_left_counts_what_is_left_for_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four segments two were made by an earlier run: after the third half of the work of this run is done."""
    archive = make_archive(tmp_path, cameras=1, clips=1)
    told: list[Progress] = []
    clock = iter(range(10**6))
    monkeypatch.setattr("gpufuse.batch.coordinator.time.monotonic", lambda: float(next(clock)))

    def before(task: Task) -> Outcome:
        if task.work == "clip":
            return Outcome("done", {"long": True})
        if task.work == "survey":
            parts = [{"index": k, "first": 4 * k, "stop": 4 * k + 4} for k in range(4)]
            return Outcome("done", {"segments": parts, "frames": 16, "done": [0, 1]})
        return Outcome("done", {"frames": 4})

    run(archive, tmp_path / "out", Here(before), progress=told.append)
    halves = [
        progress.frames / progress.frames_per_second / progress.seconds_left
        for progress in told
        if progress.seconds_left and progress.frames == 4
    ]
    assert halves
    assert all(half == pytest.approx(1.0, rel=0.05) for half in halves)


def test_a_part_of_the_batch_keeps_the_report_on_the_whole(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=3)
    (archive / "nights/cam0/1.mp4").write_text("no video")
    assert run(archive, tmp_path / "out").exit_code == 11
    report = run(archive, tmp_path / "out", only=["cam0/0-enhanced.mp4"])
    assert report.exit_code == 0
    states = {result.item.name: result.state for result in report.results}
    assert states == {
        "cam0/0-enhanced.mp4": "skipped",
        "cam0/1-enhanced.mp4": "waiting",
        "cam0/2-enhanced.mp4": "skipped",
    }
    assert "expected a video or a picture" in report.results[1].error
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert all(name in page for name in states)


def test_a_clip_that_failed_may_be_tried_with_another_order(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1, frames=30)
    clip = archive / "nights/cam0/0.mp4"
    clip.write_bytes(clip.read_bytes()[:-60])
    assert run(archive, tmp_path / "out").failed[0].kind == "DamagedInputError"
    report = run(archive, tmp_path / "out", on_damage="salvage", settings=Settings(c=2))
    assert not any("other" in result.error for result in report.results)


def test_a_batch_stops_where_no_clip_can_be_written(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1)
    for number in range(1, HOPELESS + 5):
        os.link(archive / "nights/cam0/0.mp4", archive / f"nights/cam0/{number}.mp4")
    full = Outcome(
        "failed", {}, "a: expected to write it, found 'No space left on device'; free some", "OutputError", 7
    )
    workers = Here(lambda task: full if task.work == "clip" else None)
    report = run(archive, tmp_path / "out", workers)
    assert (len(report.failed), report.count("waiting")) == (HOPELESS, 5)
    assert "the rest was left: look at the disks" in report.notes[-1]


def test_a_segment_that_has_gone_costs_itself_alone(one: Path) -> None:
    removed: list[str] = []

    def before(task: Task) -> Outcome | None:
        if task.work == "join" and not removed:
            (path,) = (one / "out/.gpufuse").glob("work/*/segment-00001-*.mp4")
            removed.append(path.name)
            path.unlink()
        return None

    workers = Here(before)
    assert run(one, one / "out", workers, segment=0.16).exit_code == 0
    segments = [task for task in workers.done if task.startswith("segment")]
    assert segments == [f"segment {k} {NAME}" for k in (0, 1, 2, 1)]
    run(one, one / "whole", segment=None)
    assert digests(one / "out") == digests(one / "whole")


def test_a_moved_archive_is_the_same(one: Path) -> None:
    run(one, one / "out")
    (one / "nights").rename(one / "moved")
    (one / "moved").rename(one / "nights")
    (one / "elsewhere").mkdir()
    for name in ("nights", "days"):
        (one / name).rename(one / "elsewhere" / name)
    workers = Here()
    report = run(one / "elsewhere", one / "out", workers)
    assert (report.count("skipped"), workers.done) == (1, [])


def test_frames_are_counted_though_their_number_was_expected_wrong(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=1)

    class Silent(Here):
        def _advance(self, task: Task) -> Callable[[int, int | None], None]:
            return lambda done, expected: None

    assert run(archive, tmp_path / "out", Silent()).frames == 9


def test_lines_that_nobody_reads_any_more_do_not_stop_a_batch(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=1, clips=2)
    read, write = os.pipe()
    os.close(read)
    import subprocess

    from archive import environment

    done = subprocess.run(
        [sys.executable, "-m", "gpufuse", *batch_words(archive, tmp_path / "out", "--workers", "1")],
        stdout=write,
        stderr=write,
        env=environment(),
    )
    os.close(write)
    assert done.returncode == 0
    assert len(digests(tmp_path / "out")) == 2


# GPUs


def test_every_gpu_has_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = LocalWorkers(3, ["2", "5"])
    assert [workers._environment(name) for name in ("1", "2", "3")] == [
        {"CUDA_VISIBLE_DEVICES": "2"},
        {"CUDA_VISIBLE_DEVICES": "5"},
        {"CUDA_VISIBLE_DEVICES": "2"},
    ]
    assert workers.describe() == "3 processes on 2 GPUs"
    order = BatchOrder("a", "b", "c", None, Settings(), None, Options())
    monkeypatch.setattr(api, "_found_device", lambda order: {"name": "cuda", "reason": "", "count": 2})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert api.local_workers(order, None).describe() == "2 processes on 2 GPUs"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7, GPU-8")
    assert api.local_workers(order, None)._environment("2") == {"CUDA_VISIBLE_DEVICES": "GPU-8"}
    monkeypatch.setattr(api, "_found_device", lambda order: {"name": "cpu", "reason": "", "count": 0})
    assert api.local_workers(order, 4).describe() == "4 processes on cpu"


def test_a_gpu_that_is_demanded_and_not_there_is_told(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    try:
        with pytest.raises(
            gpufuse.DeviceError, match=r"device: expected a usable GPU, found .*; use --device cpu"
        ):
            gpufuse.batch.run(one / "nights", one / "days/cam0.png", one / "out", device="cuda")
    finally:
        assert not digests(one / "out")


# Manifests


def record(path: str = "a.mp4") -> FileRecord:
    return FileRecord(path, 3, 5, "00ff")


def manifest(**changes) -> Manifest:
    values = {
        "name": "cam/a.mp4", "outputs": (record(),), "clip": (record("/x/ä\udcff.mp4"),), "day": (record("/d"),),
        "order": {"settings": {"c": 5}}, "versions": {"gpufuse": "1"}, "device": "cpu", "coders": "", "frames_in": 9,
        "frames_out": 9, "first_time": 0.1, "last_time": None, "size": (4, 2), "digest": "ab", "damage": ("x",),
        "notes": (), "gaps": ((0.5, 1.5),), "shift": {"dx": 1.0}, "segments": 1, "seconds": 2.0, "finished": "now",
    }  # fmt: skip
    return Manifest(**(values | changes))


def test_a_manifest_comes_back_as_it_was() -> None:
    assert Manifest.from_bytes(manifest().to_bytes()) == manifest()


@pytest.mark.parametrize("place", range(0, 700, 23))
def test_a_changed_manifest_is_noticed(tmp_path: Path, place: int) -> None:
    content = bytearray(manifest().to_bytes())
    content[place] ^= 1
    manifest_path(tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(
        DamagedInputError, match=r"a.mp4.json: expected a manifest, found .*; delete it and its output"
    ):
        read_manifest(tmp_path / "a.mp4")


def test_a_file_is_known_by_its_content_when_its_time_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123")
    found = recorded(path)
    os.utime(path, (1, 1))
    known: dict = {}
    assert same_file(found, path, known=known)
    assert len(known) == 1
    path.write_bytes(b"124")
    assert not same_file(found, path, known=known)
    assert not same_file(dataclasses.replace(found, size=4), path)
    assert not same_file(found, tmp_path / "missing")


def test_names_of_split_outputs() -> None:
    assert output_names("a/b.x.mp4", 3) == ["a/b.x.mp4", "a/b.x-2.mp4", "a/b.x-3.mp4"]


# The commands


def test_a_dry_run_writes_nothing_and_counts(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, cameras=2, clips=2)
    (archive / "nights/cam1/1.mp4").write_text("no video")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_batch(batch_words(archive, tmp_path / "out", "--dry-run"))
    assert code == 0, err
    assert "clips: 4\n" in out
    assert "cannot be read: 1\n" in out
    assert "frames to do: 27\n" in out
    assert "time, guessed:" in out
    assert "1.mp4: expected a video or a picture" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_size_that_changes_gives_as_many_outputs(tmp_path: Path) -> None:
    from clips import write_clip

    archive = make_archive(tmp_path, cameras=1, clips=0)
    parts = [
        write_clip(tmp_path / f"{k}.h264", count=8, size=size) for k, size in enumerate([(48, 36), (24, 18)])
    ]
    clip = archive / "nights/cam0/shrinks.h264"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = run(archive, tmp_path / "failed")
    assert "use --on-resize split or scale" in report.failed[0].error
    report = run(archive, tmp_path / "out", on_resize="split")
    (result,) = report.results
    assert result.manifest is not None, result.error
    assert [output.path for output in result.manifest.outputs] == [
        "cam0/shrinks-enhanced.mp4",
        "cam0/shrinks-enhanced-2.mp4",
    ]
    assert result.manifest.frames_out == 16
    assert gpufuse.batch.verify_folder(tmp_path / "out", decode=True).exit_code == 0
    assert run(archive, tmp_path / "out", on_resize="split").count("skipped") == 1
