"""Every fault of the disk ends a job with a clean error, and never with a wrong file under a final name."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from faults.injector import child_environment, faults, operations
from test_enhance import day_picture, decoded, write_night

import gpufuse
from gpufuse import writer
from gpufuse.cli import main
from gpufuse.digests import frames_digest
from gpufuse.enhance import enhance
from gpufuse.errors import OutputError
from gpufuse.video import ClipWriter, read_still, write_still

FRAMES = 5
LINE = r"^[\w.-]+: expected .+, found .+; (free some|choose|check the disk|create|raise)"
FAULTS = {
    "no space": {"code": "ENOSPC"},
    "half written, no space": {"code": "ENOSPC", "half": True},
    "disk full from then on": {"code": "ENOSPC", "half": True, "sticky": True},
    "I/O error": {"code": "EIO"},
    "read-only": {"code": "EROFS"},
}


class Job:
    """A small job whose outputs lie in a folder of their own, and what it gave to the encoders."""

    def __init__(
        self, folder: Path, *, still: bool = False, name: str = "out.mp4", extras: bool = False
    ) -> None:
        self.inputs, self.made = folder / "in", folder / "out"
        self.inputs.mkdir()
        self.made.mkdir()
        write_still(self.inputs / "day.png", day_picture(20, 30))
        if still:
            write_still(self.inputs / "night.png", day_picture(20, 30) // 5)
        else:
            write_night(self.inputs / "night.mp4", FRAMES, 20, 30)
        self.night = self.inputs / ("night.png" if still else "night.mp4")
        self.output = self.made / name
        self.extras = extras
        self.digests: dict[str, str] = {}
        self._before = self._contents()

    def _contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.inputs.iterdir()}

    @property
    def arguments(self) -> list[str]:
        words = [str(self.night), "--day", str(self.inputs / "day.png"), "-o", str(self.output)]
        if self.extras:
            words += ["--compare", "--write-importance", str(self._importance)]
        return words

    @property
    def _importance(self) -> Path:
        return self.output.with_name(f"importance{self.output.suffix}")

    def run(self, *, overwrite: bool = False) -> None:
        self.digests.clear()
        enhance(
            self.night,
            self.inputs / "day.png",
            self.output,
            compare=self.extras,
            write_importance=self._importance if self.extras else None,
            overwrite=overwrite,
        )

    def names(self) -> list[str]:
        return sorted(path.name for path in self.made.iterdir())

    def clear(self) -> None:
        for path in self.made.iterdir():
            path.unlink()

    def check_inputs(self) -> None:
        assert self._contents() == self._before


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    jobs: list[Job] = []
    close = ClipWriter.close

    def close_and_note(clip: ClipWriter) -> None:
        jobs[0].digests[clip.path.name] = frames_digest(clip.digests)
        close(clip)

    def make(**options: object) -> Job:
        jobs[:] = [Job(tmp_path, **options)]  # type: ignore[arg-type]
        monkeypatch.setattr(ClipWriter, "close", close_and_note)
        return jobs[0]

    return make


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    def held() -> tuple[int, int]:
        folder = "/proc/self/fd"
        return len(os.listdir(folder)) if os.path.isdir(folder) else 0, threading.active_count()

    before = held()
    yield
    found = held()
    assert found[0] <= before[0]
    assert found[1] <= before[1] + gpufuse.get_threads()  # the pool that computes stays


def every_fault(fault: dict, attempt: Callable[[], None]) -> Iterator[str]:
    """Let each operation of an attempt fail, one after the other; yield its words after each failure."""
    for at in range(1, 1000):
        with faults(at, **fault) as found:
            error = None
            try:
                attempt()
            except OutputError as raised:
                error = raised
        if not found.failed:
            assert error is None
            assert at > 10
            return
        assert error is not None, f"{found.failed} failed unnoticed"
        assert error.exit_code == 7
        assert re.match(LINE, str(error)), error
        assert "\n" not in str(error)
        yield found.failed
    raise AssertionError("no attempt passed")


JOBS = {
    "clip": {},
    "matroska": {"name": "out.mkv"},
    "clip and extras": {"extras": True},
    "still": {"still": True, "name": "out.png"},
    "still and extras": {"still": True, "name": "out.jpg", "extras": True},
}


def pairs() -> Iterator[object]:
    """All faults of all jobs; where a job makes many calls, all but one fault belong to the slow tests."""
    for name, options in JOBS.items():
        for fault, words in FAULTS.items():
            slow = name == "clip and extras" and not fault.startswith("half")
            yield pytest.param(options, words, id=f"{name}-{fault}", marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(("options", "fault"), list(pairs()))
def test_every_operation_may_fail(make_job: Callable[..., Job], options: dict, fault: dict) -> None:
    job = make_job(**options)
    job.run()
    expected, complete = dict(job.digests), job.names()
    assert len(expected) == (0 if options.get("still") else len(complete))
    job.clear()
    for failed in every_fault(fault, job.run):
        assert job.names() == [], failed
        job.check_inputs()
        job.run()
        assert job.names() == complete
        assert job.digests == expected
        job.clear()


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_every_one_of_many_writes_may_fail(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As in a long clip, whose first bytes are written while frames are still coming."""
    monkeypatch.setattr(writer, "_BUFFER", 256)
    job = make_job(name=name)
    failed = list(every_fault({"code": "ENOSPC", "half": True}, job.run))
    assert sum(words.startswith("write") for words in failed) >= 5
    assert job.names() == [name]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("still", [False, True], ids=["clip", "still"])
def test_a_file_that_is_overwritten_is_the_old_or_the_new_one(
    make_job: Callable[..., Job], still: bool, fault: dict
) -> None:
    job = make_job(still=still, name="out.png" if still else "out.mp4")
    job.run()
    job.output.write_bytes(b"old")
    for failed in every_fault(fault, lambda: job.run(overwrite=True)):
        assert job.names() == [job.output.name]
        if failed.endswith(f" {job.made.name}"):  # after the renaming: the folder could not be flushed
            assert (read_still if still else decoded)(job.output).shape[-2:] == (
                (30, 3) if still else (20, 30)
            )
        else:
            assert job.output.read_bytes() == b"old", failed
        job.check_inputs()
        job.output.write_bytes(b"old")


def test_the_command_tells_every_fault_in_one_line(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(extras=True)
    for at in range(1, 1000):
        with faults(at, "ENOSPC", half=True) as found:
            code = main(["enhance", *job.arguments])
        lines = [line for line in capsys.readouterr().err.splitlines() if "computing on" not in line]
        if not found.failed:
            break
        assert code == 7, found.failed
        assert len(lines) == 1, lines
        assert re.match(LINE.replace("^", "^gpufuse: "), lines[0])
        assert "free some space" in lines[0]
        assert job.names() == []
    assert code == 0
    assert at == 55
    assert len(job.names()) == 3


def test_a_file_is_flushed_before_it_is_renamed_and_the_folder_after(make_job: Callable[..., Job]) -> None:
    job = make_job(extras=True)
    for overwrite, rename in ((False, "link"), (True, "replace")):
        with faults() as found:
            job.run(overwrite=overwrite)
        for name in job.names():
            own = [k for k, words in enumerate(found.operations) if f" {name}.part-" in words]
            calls = {k: found.operations[k].split()[0] for k in own}
            changed = max(k for k in own if calls[k] in ("write", "lseek"))
            (flushed,) = (k for k in own if calls[k] == "fsync")
            (renamed,) = (k for k in own if calls[k] == rename)
            following = found.operations[renamed + 1 :]
            folder = following.index(f"fsync {job.made.name}")
            assert changed < flushed < renamed
            assert not any(words.startswith(("link", "replace")) for words in following[:folder])


def test_names_and_folders_that_cannot_be_are_refused_before_anything_is_read(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read before the output was checked")

    monkeypatch.setattr("gpufuse.enhance.open_clip", never)
    (job.inputs / "file").write_text("")
    for output, words in (
        (job.made / "missing" / "out.mp4", "create the folder first"),
        (job.inputs / "file" / "out.mp4", "create the folder first"),
        (job.made / f"{'x' * 300}.mp4", "choose a shorter name"),
        (job.made / f"{'x' * 250}.mp4", "choose a shorter name"),  # that of the part file is too long
        (job.made, "ending in .mp4"),
    ):
        assert main(["enhance", str(job.night), "--day", str(job.inputs / "day.png"), "-o", str(output)]) == 7
        assert words in capsys.readouterr().err
    monkeypatch.setattr("gpufuse.output.os.access", lambda *_: False)  # the tests may run as root
    assert main(["enhance", *job.arguments]) == 7
    assert "choose a folder you may write to" in capsys.readouterr().err
    assert job.names() == []


# Disks that are full, in a process of its own

DISKS = """
import json, os, resource, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from gpufuse.cli import main
from gpufuse.digests import frames_digest
from gpufuse.video import ClipWriter

kind, folder, *sizes = sys.argv[1:]
folder, digests, close = Path(folder), {{}}, ClipWriter.close

def close_and_note(clip):
    digests[clip.path.name] = frames_digest(clip.digests)
    close(clip)

ClipWriter.close = close_and_note

def limit(kilobytes):
    if kind == "limit":
        most = resource.RLIM_INFINITY if kilobytes is None else int(kilobytes) * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    else:
        size = "64m" if kilobytes is None else kilobytes + "k"
        subprocess.run(["mount", "-o", "remount,size=" + size, str(disk)], check=True)

def run():
    digests.clear()
    code = main(["enhance", str(folder / "night.mp4"), "--day", str(folder / "day.png"), "--compare",
                 "-o", str(disk / "out.mp4")])
    return code, sorted(path.name for path in disk.iterdir()), dict(digests)

disk = folder / "disk"
disk.mkdir()
if kind == "tmpfs":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], check=True)
found = [run()]
found.append(max(path.stat().st_size for path in disk.iterdir()))
for size in sizes:
    for path in disk.iterdir():
        path.unlink()
    limit(size)
    found.append(run())
    limit(None)
    found.append(run())
if kind == "tmpfs":
    for path in disk.iterdir():
        path.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    found.append(run())
print(json.dumps(found))
"""


def may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


def check_full_disks(
    folder: Path, kind: str, frames: int, size: tuple[int, int], kilobytes: list[int]
) -> None:
    if kind == "tmpfs" and not may_mount(folder):
        pytest.skip("no right to mount a file system here (unshare -rm)")
    if not hasattr(signal, "SIGXFSZ"):
        pytest.skip("no limit on the size of files on this system")
    rng = numpy.random.default_rng(5)
    height, width = size
    with ClipWriter(folder / "night.mp4", width, height, Fraction(1, 25), 25, crf=10) as clip:
        for k in range(frames):
            clip.write_chunk(rng.uniform(0, 255, (1, 3, height, width)).astype(numpy.float32), [k])
    write_still(folder / "day.png", day_picture(height, width))
    script = DISKS.format(tests=str(Path(__file__).parent))
    words = [sys.executable, "-W", "error", "-c", script, kind, str(folder), *map(str, kilobytes)]
    if kind == "tmpfs":
        words = ["unshare", "-rm", *words]
    root = str(Path(gpufuse.__file__).parents[1])
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    (code, names, digests), largest, *runs = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert names == ["out-compare.mp4", "out.mp4"]
    assert largest > max(kilobytes) * 1024  # or no disk would have been full
    if kind == "tmpfs":
        code, left, _ = runs.pop()
        assert (code, left) == (7, [])
    assert len(runs) == 2 * len(kilobytes)
    for full, roomy in zip(runs[::2], runs[1::2], strict=True):
        assert full[:2] == [7, []]
        assert roomy == [0, names, digests]
    lines = [line for line in done.stderr.splitlines() if "expected to write it" in line]
    assert len(lines) == len(kilobytes)
    assert all(re.match(LINE.replace("^", "^gpufuse: "), line) for line in lines)


@pytest.mark.parametrize(("kind", "sizes"), [("tmpfs", [4, 32, 64, 128]), ("limit", [64])])
def test_full_disks_of_4_sizes(tmp_path: Path, kind: str, sizes: list[int]) -> None:
    check_full_disks(tmp_path, kind, 20, (90, 120), sizes)


@pytest.mark.slow
def test_full_disks_of_16_sizes(tmp_path: Path) -> None:
    sizes = [round(64 * 64 ** (k / 15)) for k in range(16)]
    assert (sizes[0], sizes[-1]) == (64, 4096)
    kind = "tmpfs" if may_mount(tmp_path) else "limit"
    check_full_disks(tmp_path, kind, 110, (240, 320), sizes)


# Processes that are killed

OVERWRITE = """
import sys, time
from gpufuse.enhance import enhance
night, day, output, warm = sys.argv[1:]
enhance(night, day, warm, overwrite=True)
started = time.monotonic()
enhance(night, day, warm, overwrite=True)
print(time.monotonic() - started, flush=True)
enhance(night, day, output, overwrite=True)
"""


def check_killed(job: Job, arguments: list[str], environment: dict[str, str], delay: float | None) -> str:
    """Kill an overwriting process; return whether the old or the new file was left, after a check that it is."""
    shutil.copy(job.inputs / "old.mp4", job.output)
    words = [sys.executable, "-c", OVERWRITE, str(job.night), str(job.inputs / "day.png"), *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        seconds = float(child.stdout.readline())
        if delay is not None:
            time.sleep(delay * seconds)
            child.kill()
    assert child.returncode in ((-signal.SIGKILL, 0) if delay is not None else (-signal.SIGKILL,))
    for name in job.names():
        assert name == job.output.name or name.startswith(f"{job.output.name}.part-")
    if job.output.read_bytes() == (job.inputs / "old.mp4").read_bytes():
        found = "old"
    else:
        assert len(decoded(job.output)) == FRAMES
        found = "new"
    job.clear()
    return found


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(("call", "left"), [("write", "old"), ("replace", "old"), ("fsync out", "new")])
def test_killed_at_an_operation_while_overwriting(
    make_job: Callable[..., Job], tmp_path: Path, call: str, left: str
) -> None:
    job = make_job()
    shutil.copy(write_night(tmp_path / "old.mp4", 2, 20, 30), job.inputs)
    warm, trace = str(job.inputs / "warm.mp4"), tmp_path / "trace"
    with faults() as found:
        job.run(overwrite=True)
    job.clear()
    # The third job of the child; those that warm it up make as many calls.
    at = 2 * len(found.operations) + 1
    at += next(k for k, words in enumerate(found.operations) if f"{words} ".startswith(f"{call} "))
    environment = child_environment(trace, at, "KILL", half=True)
    assert check_killed(job, [str(job.output), warm], environment, None) == left
    assert operations(trace)[-1].split()[1:][0] == call.split()[0]
    job.run()
    assert len(decoded(job.output)) == FRAMES


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_at_20_times_while_overwriting(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job()
    shutil.copy(write_night(tmp_path / "old.mp4", 2, 20, 30), job.inputs)
    warm = str(job.inputs / "warm.mp4")
    root = str(Path(gpufuse.__file__).parents[1])
    delays = [random.Random(k).uniform(0.0, 1.3) for k in range(20)]
    found = [
        check_killed(job, [str(job.output), warm], {**os.environ, "PYTHONPATH": root}, delay)
        for delay in delays
    ]
    assert set(found) == {"old", "new"}
