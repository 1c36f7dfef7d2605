"""Every file operation of a batch may fail, or be the last before a kill: a clean error, and the next run finishes."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive import batch_words, digests, make_archive, parts_left, run_batch
from faults.injector import child_environment, operations

from gpufuse.batch import verify_folder

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
