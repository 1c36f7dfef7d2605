"""Output files are whole or absent."""

import errno
import os
import stat
import subprocess
import sys
import textwrap

import pytest

from gpufuse import output
from gpufuse.errors import OutputError
from gpufuse.output import OutputFile, check_output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_at_the_end(tmp_path):
    with OutputFile(tmp_path / "clip.mp4") as file:
        assert file.part.name.startswith("clip.mp4.part-")
        file.part.write_bytes(b"new")
        assert not file.path.exists()
    assert names(tmp_path) == ["clip.mp4"]
    assert file.path.read_bytes() == b"new"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_left_after_an_exception(tmp_path, error, overwrite):
    path = tmp_path / "clip.mp4"
    if overwrite:
        path.write_bytes(b"old")

    def fill():
        with OutputFile(path, overwrite=overwrite) as file:
            file.part.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert names(tmp_path) == (["clip.mp4"] if overwrite else [])
    assert not overwrite or path.read_bytes() == b"old"


def test_an_existing_file_is_refused_at_once_and_kept(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises(
        OutputError, match=r"clip\.mp4: expected a new name, found that it exists; .*--overwrite"
    ):
        OutputFile(path)
    assert names(tmp_path) == ["clip.mp4"]
    assert path.read_bytes() == b"old"


def test_overwriting_replaces_at_the_end(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with OutputFile(path, overwrite=True) as file:
        file.part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(output.os, "link", fail_with(errno.EPERM))
    path = tmp_path / "clip.mp4"
    file = OutputFile(path)
    path.write_bytes(b"theirs")
    with pytest.raises(OutputError, match=r"clip\.mp4: .*File exists.*--overwrite"):
        file.commit()
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["clip.mp4"]


def test_a_file_system_without_links_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "link", fail_with(errno.EPERM))
    with OutputFile(tmp_path / "clip.mp4") as file:
        file.part.write_bytes(b"new")
    assert file.path.read_bytes() == b"new"
    assert names(tmp_path) == ["clip.mp4"]


def fail_with(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["open", "fsync", "link", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_every_failing_call_is_one_error_and_leaves_nothing(tmp_path, monkeypatch, call, code):
    if call == "link":  # alone, it is made up for by another way
        monkeypatch.setattr(output.os, "replace", fail_with(code))
    monkeypatch.setattr(output.os, call, fail_with(code))
    path = tmp_path / "clip.mp4"
    if call == "replace":
        path.write_bytes(b"old")
    with (
        pytest.raises(OutputError, match=r"^clip\.mp4: expected to write it, found '.*'; .+"),
        OutputFile(path, overwrite=call == "replace"),
    ):
        pass
    monkeypatch.undo()
    assert names(tmp_path) == (["clip.mp4"] if call == "replace" else [])


def test_commit_and_discard_may_be_repeated(tmp_path):
    file = OutputFile(tmp_path / "a")
    file.commit()
    file.commit()
    file.discard()
    assert names(tmp_path) == ["a"]
    other = OutputFile(tmp_path / "b")
    other.discard()
    other.commit()
    assert names(tmp_path) == ["a"]


def test_impossible_names_are_explained(tmp_path):
    with pytest.raises(OutputError, match=r"expected the folder '.*missing', found none; create the folder"):
        check_output(tmp_path / "missing" / "a.mp4")
    with pytest.raises(OutputError, match="expected a file name, found a folder"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"expected a file name, found .*null"):
        check_output("a\0b")
    with pytest.raises(OutputError, match=r"File name too long.*shorter name"):
        OutputFile(tmp_path / ("x" * 300 + ".mp4"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="create the folder first"):
        check_output(tmp_path / "file" / "a.mp4")


def test_a_write_protected_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda *_: False)  # the tests may run as root
    with pytest.raises(OutputError, match=r"expected a writable folder, found .* write-protected"):
        check_output(tmp_path / "a.mp4")


def test_no_space_inside_the_block_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="free some space"), OutputFile(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), OutputFile(tmp_path / "a"):
        raise FileNotFoundError("another file")


def test_a_killed_process_leaves_no_file_under_the_final_name(tmp_path):
    path = tmp_path / "clip.mp4"
    code = f"""
        import os, signal
        from gpufuse.output import OutputFile
        with OutputFile({str(path)!r}) as file:
            file.part.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert not path.exists()
    assert [name.startswith("clip.mp4.part-") for name in names(tmp_path)] == [True]
