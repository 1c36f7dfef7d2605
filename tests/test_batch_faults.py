"""Every file operation of a batch may fail, or be the last before a kill: a clean error, and the next run finishes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive import (
    batch_words,
    day_picture,
    digests,
    environment,
    make_archive,
    parts_left,
    run_batch,
    write_night,
)
from faults.injector import child_environment, operations

from gpufuse.batch import verify_folder
from gpufuse.video import write_still

FAULTS = {
    "EIO": {"code": "EIO"},
    "EROFS": {"code": "EROFS"},
    "half written": {"code": "ENOSPC", "half": True},
    "full from then on": {"code": "ENOSPC", "sticky": True},
}


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("one"), cameras=1, clips=1, frames=3)


@pytest.fixture(scope="module")
def counted(one_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, str]]:
    """How many operations an undisturbed run has, and what it makes."""
    folder = tmp_path_factory.mktemp("counted")
    code, _, err = run_batch(order(one_clip, folder / "out"), **faulty(folder / "trace"))
    assert code == 0, err
    return len(operations(folder / "trace")), digests(folder / "out")


def order(archive: Path, output: Path) -> list[str]:
    return batch_words(archive, output, "--workers", "1")


def faulty(trace: Path, **options) -> dict[str, str]:
    environment = child_environment(trace, **options)
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


def check_fault(archive: Path, folder: Path, at: int, wanted: dict[str, str], **options) -> None:
    """Fail one operation; then nothing is wrong, and the same words finish the work."""
    output = folder / f"out{at}"
    code, _, err = run_batch(order(archive, output), **faulty(folder / f"trace{at}", at=at, **options))
    assert code in (0, 7, 11), (at, err)  # 0 where a file could not be closed that was written already
    assert "Traceback" not in err, (at, err)
    if code:
        last = err.strip().splitlines()[-1]
        assert ": expected " in last, (at, err)
        assert "; " in last, (at, err)
    finish(archive, output, wanted, at)


def finish(archive: Path, output: Path, wanted: dict[str, str], at: int) -> None:
    if (output / ".gpufuse").is_dir():
        # An output may have its name and lack its manifest yet; that is told, and no other problem may be.
        report = verify_folder(output)
        assert all("its manifest" in problem.expected for problem in report.problems), (at, report.problems)
    code, _, err = run_batch(order(archive, output))
    assert code == 0, (at, err)
    assert digests(output) == wanted, at
    assert not parts_left(output), at
    assert verify_folder(output).exit_code == 0, at
    assert not list((output / ".gpufuse/work").iterdir()), at


def check_kill(archive: Path, folder: Path, at: int, wanted: dict[str, str]) -> None:
    """Have the process die that makes an operation, whichever it is: the batch, or a child, which is replaced."""
    output = folder / f"out{at}"
    code, _, err = run_batch(order(archive, output), **faulty(folder / f"trace{at}", at=at, code="KILL"))
    assert code in (0, -9), (at, err)
    finish(archive, output, wanted, at)


@pytest.mark.parametrize("fault", FAULTS)
def test_some_operations_fail(
    one_clip: Path, counted: tuple[int, dict[str, str]], tmp_path: Path, fault: str
) -> None:
    count, wanted = counted
    chosen = random.Random(fault).sample(range(1, count + 1), 3)
    for at in chosen:
        check_fault(one_clip, tmp_path, at, wanted, **FAULTS[fault])


def test_some_operations_are_the_last(
    one_clip: Path, counted: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    count, wanted = counted
    for at in random.Random(2).sample(range(1, count + 1), 4):
        check_kill(one_clip, tmp_path, at, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_fails(
    one_clip: Path, counted: tuple[int, dict[str, str]], tmp_path: Path, fault: str
) -> None:
    count, wanted = counted
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(
            lambda at: check_fault(one_clip, tmp_path, at, wanted, **FAULTS[fault]), range(1, count + 1)
        ):
            pass


@pytest.mark.slow
def test_every_operation_is_the_last(
    one_clip: Path, counted: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    count, wanted = counted
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda at: check_kill(one_clip, tmp_path, at, wanted), range(1, count + 1)):
            pass


# Full disks

DISKS = """
import json, subprocess, sys
from pathlib import Path

archive, disk, sizes = Path(sys.argv[1]), Path(sys.argv[2]), [int(size) for size in sys.argv[3:]]
words = [sys.executable, "-m", "gpufuse", "batch", str(archive / "nights"), "--day", str(archive / "days/cam0.png")]
words += ["-o", str(disk / "out"), "--device", "cpu", "--workers", "1"]
found = []
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={sizes[0]}k", "none", str(disk)], check=True)
for size in sizes:
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
    run = subprocess.run(words, capture_output=True, text=True)
    verify = [sys.executable, "-m", "gpufuse", "verify", str(disk / "out")]
    check = subprocess.run(verify, capture_output=True, text=True)
    found.append([run.returncode, run.stderr, check.returncode, check.stdout])
made = sorted((disk / "out").rglob("*-enhanced.mp4.json"))
print(json.dumps([found, [json.loads(path.read_text())["digest"] for path in made if ".gpufuse" not in path.parts]]))
"""


def check_full_disks(archive: Path, disk: Path, sizes: list[int]) -> None:
    """A disk that grows: each time a clean end, whole files alone, and in the end all of it."""
    words = ["unshare", "-rm", sys.executable, "-c", DISKS, str(archive), str(disk), *map(str, sizes)]
    run = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment(), check=True)
    found, made = json.loads(run.stdout.splitlines()[-1])
    for size, (code, err, _, problems) in zip(sizes[:-1], found[:-1], strict=True):
        assert code in (7, 11), (size, err)
        assert "No space left on device" in err, (size, err)
        assert "Traceback" not in err, (size, err)
        lines = [line for line in problems.splitlines()[:-1] if "its manifest" not in line]
        assert not lines, (size, lines)
    code, err, checked, _ = found[-1]
    assert (code, checked) == (0, 0), err
    output = archive / "whole"
    assert run_batch(order(archive, output))[0] == 0
    assert made == list(digests(output).values())


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """Clips whose outputs need some hundred kB."""
    archive = make_archive(tmp_path / "noisy", cameras=1, clips=0)
    write_still(archive / "days/cam0.png", day_picture(180, 240), overwrite=True)
    for number in range(2):
        write_night(archive / f"nights/cam0/{number}.mp4", 12, seed=number, height=180, width=240)
    probe = tmp_path / "probe"
    probe.mkdir()
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(probe)], capture_output=True
        ).returncode
    ):
        pytest.skip("no right to mount a file system here (unshare -rm)")
    return archive


def test_a_disk_that_is_full_twice(noisy: Path, tmp_path: Path) -> None:
    check_full_disks(noisy, tmp_path / "probe", [16, 60, 8000])


@pytest.mark.slow
def test_a_disk_that_is_full_at_sixteen_sizes(noisy: Path, tmp_path: Path) -> None:
    check_full_disks(noisy, tmp_path / "probe", [*range(4, 68, 4), 8000])
