"""Output files that appear under their name only when they are complete.

A file is written beside its final name as ``<name>.part-<random>``, flushed to the disk and then
renamed, and the folder is flushed too. So a file under the final name is whole, whenever the
process or the machine stopped. Without `overwrite` an existing file is never replaced, not even
one that appeared in the meantime.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from gpufuse import files
from gpufuse.errors import OutputError

__all__ = ["OutputFile", "check_output", "output_error"]

_REMEDY = {
    errno.EEXIST: "choose another name, or use --overwrite",
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some space and run again",
    errno.EFBIG: "raise the limit on file sizes, or write to another disk",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "create the folder first",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def output_error(path: str | Path, error: OSError) -> OutputError:
    """Turn an error of the system into one that says what to do.

    Parameters
    ----------
    path : str or Path
        The final name.
    error : OSError
        As raised by the system or by a library.

    Returns
    -------
    OutputError
        To be raised from `error`.

    Examples
    --------
    >>> print(output_error("a/b.mp4", OSError(28, "No space left on device")))
    b.mp4: expected to write it, found 'No space left on device'; free some space and run again
    """
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDY.get(error.errno or 0, "check the disk, or write to another folder")
    return OutputError(f"{Path(path).name}: expected to write it, found {reason!r}; {remedy}")


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Check that an output file may be written, before any work is done for it.

    Parameters
    ----------
    path : str or Path
        The final name; its folder must exist.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OutputError
        If the file exists, is a folder, or its folder is missing or cannot be written.
    """
    path = Path(path)
    if "\0" in str(path):
        raise OutputError(f"{path.name!r}: expected a file name, found a null character; choose another name")
    try:
        exists, is_folder = os.path.lexists(path), path.is_dir()
        has_folder, writable = path.parent.is_dir(), os.access(path.parent, os.W_OK | os.X_OK)
        if has_folder:
            _check_length(files.part_of(path))  # which is longer
    except OSError as error:
        raise output_error(path, error) from error
    if is_folder:
        raise OutputError(f"{path.name}: expected a file name, found a folder; name a file inside it")
    if exists and not overwrite:
        raise OutputError(
            f"{path.name}: expected a new name, found that it exists; choose another name, or use --overwrite"
        )
    if not has_folder:
        raise OutputError(
            f"{path.name}: expected the folder {str(path.parent)!r}, found none; create the folder first"
        )
    if not writable:
        raise OutputError(
            f"{path.name}: expected a writable folder, found {str(path.parent)!r} write-protected; "
            "choose a folder you may write to"
        )


def _check_length(path: Path) -> None:
    """Raise the system's error for a name that is too long."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise


class OutputFile:
    """A file in the making: a part file that takes its final name at the end of a ``with`` block.

    Write to the part file through `gpufuse.files.written`.

    Parameters
    ----------
    path : str or Path
        The final name.
    overwrite : bool
        Whether a file of that name may be replaced; the old one stays until the new one is complete.

    Attributes
    ----------
    path, part : Path
        The final name, and the name to write to; the part file exists and is empty.

    Raises
    ------
    OutputError
        As `check_output`, and when the part file cannot be created, flushed or renamed.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with OutputFile(Path(folder.name, "a.txt")) as output:
    ...     _ = output.part.write_text("whole")
    >>> [path.name for path in Path(folder.name).iterdir()]
    ['a.txt']
    >>> folder.cleanup()
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        check_output(path, overwrite=overwrite)
        self.path = Path(path)
        self.overwrite = overwrite
        self.part = files.part_of(self.path)
        self._open = True
        try:
            files.create(self.part)
        except OSError as error:
            raise output_error(self.path, error) from error

    def commit(self) -> None:
        """Flush the part file and give it its final name; removes it where that fails."""
        if not self._open:
            return
        try:
            files.publish(self.part, self.path, overwrite=self.overwrite)
            self._open = False
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the part file; nothing happens after a `commit`."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                files.remove(self.part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
            return
        self.discard()
        if isinstance(error, OSError) and not isinstance(error, OutputError) and _is_write_error(error):
            raise output_error(self.path, error) from error


def _is_write_error(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
