"""A file that FFmpeg writes, one operation of `gpufuse.files` at a time, so that no error of the disk is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpufuse import files

__all__ = ["Sink"]


class Sink:
    """A file as FFmpeg writes to it, by way of PyAV.

    PyAV would keep an exception from here until some later call of it in the same thread. So none leaves: FFmpeg
    is given its number, and `check` raises it. What was written before the first error stays, nothing follows it.

    Parameters
    ----------
    path : Path
        A file that exists.

    Attributes
    ----------
    closed : bool
        PyAV leaves a closed file as it is.
    error : BaseException or None
        The first one.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = files.written(path)
        self.closed = False
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write all of the data, or return a negative number."""
        return self._kept(self._file.write, data)

    def seek(self, offset: int, whence: int) -> int:
        """Go to another place and return it, or a negative number."""
        return self._kept(self._file.seek, offset, whence)

    def tell(self) -> int:
        """Return the current place, or a negative number."""
        return self._kept(self._file.tell)

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file; safe to call again."""
        self.closed = True
        self._file.close()

    def _kept(self, call: Callable[..., int], *arguments: Any) -> int:
        if self.error is None and not self.closed:
            try:
                return call(*arguments)
            except BaseException as error:
                self.error = error
        return -(getattr(self.error, "errno", None) or errno.EIO)
