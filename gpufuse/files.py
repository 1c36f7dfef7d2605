"""Every operation of a job that changes the disk: creating, writing, flushing, renaming, removing, locking.

Each function asks the system through `os`, so that a test which replaces this module's ``os`` can let any single
call fail. Errors are the system's own `OSError`; `gpufuse.output.output_error` turns them into words for the user.

A file is written under another name beside its final one, flushed, renamed, and the folder is flushed: whenever the
process or the machine stops, a file under its final name is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = [
    "Lock",
    "WrittenFile",
    "create",
    "flush",
    "flush_folder",
    "lock",
    "make_folder",
    "part_of",
    "publish",
    "remove",
    "remove_tree",
    "rename_new",
    "replace",
    "write_whole",
    "written",
]

_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
_NO_HARD_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.EMLINK,
    errno.EXDEV,
}
_FOLDER_CANNOT_BE_FLUSHED = _NO_HARD_LINKS | {errno.EBADF, errno.EISDIR}


def create(path: str | Path) -> None:
    """Create an empty file that does not exist yet, with the usual permissions.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        `FileExistsError` if there is anything of that name.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        os.close(descriptor)
    except OSError:
        _try_to_remove(path)
        raise


class WrittenFile:
    """An open file to write to; made by `written`.

    Nothing is buffered: every call asks the system. After a call has failed, `write` and `seek` repeat that
    error, so that nothing is written behind a gap.

    Parameters
    ----------
    path : str or Path
        A file that exists.

    Attributes
    ----------
    path : Path

    Raises
    ------
    OSError
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._error: OSError | None = None
        self._descriptor: int | None = os.open(path, os.O_WRONLY | _BINARY)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of the data at the current place; return its number of bytes."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        with self._remembering() as descriptor:
            while len(rest):
                rest = rest[os.write(descriptor, rest) :]
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place; return it in bytes from the beginning."""
        with self._remembering() as descriptor:
            return os.lseek(descriptor, offset, whence)

    def tell(self) -> int:
        """Return the current place in bytes from the beginning."""
        return self.seek(0, os.SEEK_CUR)

    def flush(self) -> None:
        """Have the disk keep what was written so far."""
        with self._remembering() as descriptor:
            os.fsync(descriptor)

    def close(self) -> None:
        """Close the file, whether or not a call has failed; safe to call again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # even where this fails, the descriptor is gone

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[int]:
        """The descriptor, for a call whose error is kept; a kept error is raised at once."""
        if self._error is not None:
            raise self._error
        if self._descriptor is None:
            raise ValueError(f"{self.path.name}: expected an open file, found a closed one; open it anew")
        try:
            yield self._descriptor
        except OSError as error:
            self._error = error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(OSError):  # the first error is the one to tell
            self.close()


def written(path: str | Path) -> WrittenFile:
    """Open a file that exists, to write to it from its beginning.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    WrittenFile
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    OSError
    """
    return WrittenFile(path)


def flush(path: str | Path) -> None:
    """Have the disk keep all that a file holds.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        Also for an earlier error in writing that the system has told nobody yet.
    """
    _flush(path, os.O_WRONLY | _BINARY)


def flush_folder(path: str | Path) -> None:
    """Have the disk keep the names in a folder; does nothing where a file system has no way to.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
    """
    try:
        _flush(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in _FOLDER_CANNOT_BE_FLUSHED:
            raise


def _flush(path: str | Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(part: str | Path, path: str | Path) -> None:
    """Rename a file; one that has the new name already is replaced in one step.

    Parameters
    ----------
    part, path : str or Path
        The old and the new name, in one file system.

    Raises
    ------
    OSError
    """
    os.replace(part, path)


def rename_new(part: str | Path, path: str | Path) -> None:
    """Rename a file without ever replacing another, not even one made a moment ago.

    Parameters
    ----------
    part, path : str or Path
        The old and the new name, in one file system.

    Raises
    ------
    OSError
        `FileExistsError` if there is anything of the new name. The file has its old name then.
    """
    try:
        os.link(part, path)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_HARD_LINKS:
            raise
        _rename_without_links(part, path)
        return
    try:
        os.unlink(part)
    except OSError:
        _try_to_remove(path)
        raise


def _rename_without_links(part: str | Path, path: str | Path) -> None:
    """Reserve the name, then replace our own empty file."""
    create(path)
    try:
        os.replace(part, path)
    except BaseException:
        _try_to_remove(path)
        raise


def remove(path: str | Path) -> None:
    """Remove a file; nothing happens where there is none.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _try_to_remove(path: str | Path) -> None:
    """Remove a file where that can be done: another error is on its way to the user."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, unless they are there.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        `FileExistsError` if there is a file of that name.
    """
    folder = Path(path)
    missing = [above for above in (folder, *folder.parents) if not above.is_dir()]
    for each in reversed(missing):
        try:
            os.mkdir(each)
        except FileExistsError:  # another process may have made it just now
            if not each.is_dir():
                raise
        flush_folder(each.parent)


def remove_tree(path: str | Path) -> None:
    """Remove a folder and all in it; links are removed, not followed. Nothing happens where there is none.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
    """
    folder = Path(path)
    if folder.is_symlink() or not folder.is_dir():
        remove(folder)
        return
    for each in sorted(folder.iterdir()):
        remove_tree(each)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


def part_of(path: str | Path) -> Path:
    """Return a new name beside a final one, for a file in the making.

    Parameters
    ----------
    path : str or Path
        The final name.

    Returns
    -------
    Path
        ``<name>.part-<8 hexadecimal digits>``, in the same folder.

    Examples
    --------
    >>> part_of("a/clip.mp4").name[:14]
    'clip.mp4.part-'
    """
    path = Path(path)
    return path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")


def publish(part: str | Path, path: str | Path, *, overwrite: bool = False) -> None:
    """Give a complete file its final name, so that it survives a loss of power.

    Parameters
    ----------
    part, path : str or Path
        The file in the making, and its final name in the same folder.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OSError
        Nothing new has the final name then, and the part file may still be there. Only where a file was to be
        replaced and the folder could not be flushed afterwards has the new one, which is complete, taken its place.
    """
    flush(part)
    if overwrite:
        replace(part, path)
    else:
        rename_new(part, path)
    try:
        flush_folder(Path(path).parent)
    except OSError:
        if not overwrite:
            _try_to_remove(path)
        raise


def write_whole(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file that appears under its name only when it is complete and on the disk.

    Parameters
    ----------
    path : str or Path
    data : bytes
    overwrite : bool
        Whether a file of that name may be replaced; the old one stays until the new one is complete.

    Raises
    ------
    OSError
        As `publish`; the part file is removed where that can be done.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_whole(Path(folder.name, "a.json"), b"{}")
    >>> [path.name for path in Path(folder.name).iterdir()]
    ['a.json']
    >>> folder.cleanup()
    """
    part = part_of(path)
    create(part)
    try:
        with written(part) as file:
            file.write(data)
        publish(part, path, overwrite=overwrite)
    except BaseException:
        _try_to_remove(part)
        raise


class Lock:
    """A file that one process holds; made by `lock`, released by `close` or by the end of the process.

    Parameters
    ----------
    descriptor : int
        Of the locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @property
    def descriptor(self) -> int:
        """What a child process has to inherit to hold the lock as well."""
        if self._descriptor is None:
            raise ValueError("lock: expected a held lock, found a released one; lock it anew")
        return self._descriptor

    def close(self) -> None:
        """Release the lock; the file stays, for removing it would let two processes in. Safe to call again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock(path: str | Path, owner: bytes = b"") -> Lock:
    """Open a file, made where missing, and lock it; does not wait.

    Parameters
    ----------
    path : str or Path
    owner : bytes
        What the file shall hold, to tell others who has it.

    Returns
    -------
    Lock
        Close it to release the lock. The system releases it when the process ends, however it ends; children
        made by ``fork`` hold it too.

    Raises
    ------
    OSError
        `BlockingIOError` if another holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
    try:
        _lock_descriptor(descriptor)
        os.ftruncate(descriptor, 0)
        rest = memoryview(owner)
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    return Lock(descriptor)


def _lock_descriptor(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock") from error
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
