"""The operations on the disk: what they leave when they succeed, fail, or are killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.injector import child_environment, faults, operations

from gpufuse import files

CODES = ["ENOSPC", "EIO", "EROFS"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def every_failure(attempt: Callable[[], None], reset: Callable[[], None], **fault: object) -> list[str]:
    """Let each operation fail in turn; return what failed. After each, `reset` checks and cleans up."""
    failed = []
    for at in range(1, 100):
        with faults(at, **fault) as found:  # type: ignore[arg-type]
            try:
                attempt()
            except OSError:
                assert found.failed
        if not found.failed:
            return failed
        failed.append(found.failed)
        reset()
    raise AssertionError("no attempt passed")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_a_whole_file_is_there_or_not(tmp_path: Path, code: str, half: bool) -> None:
    path = tmp_path / "a.json"
    failed = every_failure(
        lambda: files.write_whole(path, b"new content"),
        lambda: pytest.fail("left") if names(tmp_path) else None,
        code=code,
        half=half,
    )
    assert [words.split()[0] for words in failed] == [
        "open", "close", "open", "write", "close", "open", "fsync", "close", "link", "unlink",
        "open", "fsync", "close",
    ]  # fmt: skip
    assert path.read_bytes() == b"new content"


@pytest.mark.parametrize("code", CODES)
def test_an_overwritten_file_is_the_old_or_the_new_one(tmp_path: Path, code: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    found = []

    def reset() -> None:
        assert names(tmp_path) == ["a.json"]
        found.append(path.read_bytes())
        path.write_bytes(b"old")

    failed = every_failure(lambda: files.write_whole(path, b"new", overwrite=True), reset, code=code)
    assert len(failed) == 12
    assert found == [b"old"] * 9 + [b"new"] * 3  # the folder could not be flushed
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP", "EMLINK"])
def test_names_are_not_taken_away_where_there_are_no_hard_links(tmp_path: Path, code: str) -> None:
    part, path = tmp_path / "part", tmp_path / "a"
    part.write_bytes(b"new")
    with faults(1, code) as found:
        files.rename_new(part, path)
    assert [words.split()[0] for words in found.operations] == ["link", "open", "close", "replace"]
    assert names(tmp_path) == ["a"]
    part.write_bytes(b"newer")
    with faults(1, code), pytest.raises(FileExistsError):
        files.rename_new(part, path)
    assert path.read_bytes() == b"new"
    with pytest.raises(FileExistsError):
        files.rename_new(part, path)
    assert names(tmp_path) == ["a", "part"]


def test_an_error_of_the_disk_is_no_lack_of_hard_links(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"new")
    with faults(1, "EIO") as found, pytest.raises(OSError, match="Input/output"):
        files.rename_new(tmp_path / "part", tmp_path / "a")
    assert len(found.operations) == 1
    assert names(tmp_path) == ["part"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.ENOTSUP])
def test_folders_that_cannot_be_flushed_are_left(tmp_path: Path, number: int) -> None:
    for at in (1, 2):
        with faults(at, errno.errorcode[number]) as found:
            files.flush_folder(tmp_path)
        assert found.failed
    with faults(2, "EIO"), pytest.raises(OSError, match="Input/output"):
        files.flush_folder(tmp_path)


def test_folders_are_made_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    with faults() as found:
        files.make_folder(folder)
    assert [words for words in found.operations if words.startswith(("mkdir", "fsync"))] == [
        "mkdir a", f"fsync {tmp_path.name}", "mkdir b", "fsync a", "mkdir c", "fsync b",
    ]  # fmt: skip
    files.make_folder(folder)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"")
    (folder / "link").symlink_to(kept)
    (folder / "file").write_bytes(b"")
    for code in ("EIO", "EACCES"):
        with faults(1, code), pytest.raises(OSError, match=r"."):
            files.remove_tree(tmp_path / "a")
    files.remove_tree(tmp_path / "a")
    files.remove_tree(tmp_path / "a")
    files.remove(tmp_path / "a")
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["file"]
    for folder in (kept / "file", kept / "file" / "below"):
        with pytest.raises(FileExistsError):
            files.make_folder(folder)


def test_a_file_is_written_where_it_was_told_until_a_call_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.create(path)
    with pytest.raises(FileExistsError):
        files.create(path)
    with files.written(path) as file:
        assert file.write(memoryview(b"abcdef")) == 6
        assert file.seek(-2, os.SEEK_END) == file.tell() == 4
        assert file.write(b"XY") == 2
        file.flush()
    file.close()
    assert path.read_bytes() == b"abcdXY"
    with pytest.raises(ValueError, match="a: expected an open file, found a closed one"):
        file.write(b"")
    with files.written(path) as file:
        with faults(1, "EIO") as found:
            for call in (lambda: file.write(b"1"), lambda: file.seek(0), file.tell, file.flush):
                with pytest.raises(OSError, match="Input/output"):
                    call()
        assert len(found.operations) == 1
    with pytest.raises(FileNotFoundError):
        files.written(tmp_path / "none")


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, descriptor: int, data: memoryview) -> int:
            return os.write(descriptor, data[:3])

    monkeypatch.setattr(files, "os", Short())
    files.write_whole(tmp_path / "a", b"0123456789")
    with files.lock(tmp_path / "lock", b"0123456789"):
        pass
    assert (tmp_path / "a").read_bytes() == (tmp_path / "lock").read_bytes() == b"0123456789"


def test_one_process_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import sys; from gpufuse import files; files.lock(sys.argv[1], b'other'); print('held')"
    root = str(Path(files.__file__).parents[1])

    def another() -> str:
        words = [sys.executable, "-c", script, str(path)]
        environment = {**os.environ, "PYTHONPATH": root}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    with files.lock(path, b"first") as held:
        with pytest.raises(BlockingIOError):
            files.lock(path, b"second")
        assert path.read_bytes() == b"first"
        assert "BlockingIOError" in another()
    held.close()
    assert another() == "held"
    files.lock(path, b"x").close()  # the other has ended
    assert path.read_bytes() == b"x"
    for at in range(1, 4):
        with faults(at, "ENOSPC") as found, pytest.raises(OSError, match="No space"):
            files.lock(path, b"y")
        assert found.failed
        files.lock(path).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_process_killed_at_any_operation_leaves_no_wrong_file(tmp_path: Path, overwrite: bool) -> None:
    """The child forks for each operation, so that one interpreter is started for all."""
    path, trace = tmp_path / "out" / "a", tmp_path / "trace"
    script = """
import os, sys
from gpufuse import files
path, trace, overwrite = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
for at in range(1, 100):
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    if overwrite:
        with open(path, "wb") as file:
            file.write(b"old")
    if os.path.exists(trace):
        os.unlink(trace)
    child = os.fork()
    if child == 0:
        files.os._injector.at = at
        files.write_whole(path, b"new content", overwrite=overwrite)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    left = open(path, "rb").read().decode() if os.path.exists(path) else "none"
    print(status, left)
    if status == 0:
        break
"""
    path.parent.mkdir()
    environment = child_environment(trace, 0, "KILL", half=True)
    words = [sys.executable, "-c", script, str(path), str(trace), str(overwrite)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [status for status, _ in found] == [str(int(signal.SIGKILL))] * (len(found) - 1) + ["0"]
    before = "old" if overwrite else "none"
    renaming = 9
    assert [left for _, left in found] == [before] * renaming + ["new content"] * (len(found) - renaming)
    assert len(operations(trace)) == len(found) - 1
    assert len(found) == (13 if overwrite else 14)


def test_processes_share_the_count_of_operations(tmp_path: Path) -> None:
    """Of two children of one process, one meets the fault, and it alone."""
    trace = tmp_path / "trace"
    child = """
import sys
from gpufuse import files
for k in range(10):
    try:
        files.write_whole(f"{sys.argv[1]}-{k}", b"content")
    except OSError as error:
        print(error.strerror, flush=True)
"""
    parent = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2] + name]) for name in "ab"]
sys.exit(max(child.wait() for child in children))
"""
    words = [sys.executable, "-c", parent, child, str(tmp_path / "made-")]
    environment = child_environment(trace, 100, "ENOSPC")
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{os.strerror(errno.ENOSPC)}\n"
    found = operations(trace)
    assert len({line.split()[0] for line in found}) == 2
    assert len(found) <= 2 * 10 * 13 + 2  # and one or two that clean up
    assert all(len(line.split()) == 3 for line in found)
    assert len([name for name in names(tmp_path) if name.startswith("made-")]) in (19, 20)


def test_a_full_disk_stays_full_until_files_are_removed(tmp_path: Path) -> None:
    with faults(3, "ENOSPC", sticky=True) as found:
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                files.write_whole(tmp_path / "a", b"content")
    assert [words.split()[0] for words in found.operations] == ["open", "close", "open", "unlink", "open"]
    assert names(tmp_path) == []
