"""Overlap of reading, computing and writing: threads behind bounded queues.

`prefetch` runs an iterator ahead in a thread, `BackgroundWriter` writes behind in one. Both hand exceptions
over to the caller, and end their thread when the caller stops early. The memory they need is bounded
by `size` items; the order is kept, so results do not depend on timing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["BackgroundWriter", "prefetch"]

Item = TypeVar("Item")


class _End:
    """The last thing in a queue: why there is nothing more."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], size: int = 2) -> Generator[Item, None, None]:
    """Iterate over items that a thread fetches ahead.

    The thread starts with the first item asked for, and has ended when the iteration ends, is
    closed or is interrupted. A generator given as `items` is closed in that thread.

    Parameters
    ----------
    items : iterable
        Used by the thread alone from now on.
    size : int
        Items that may wait, at least 1; one more is being fetched.

    Yields
    ------
    object
        The items in order. An exception of `items` is raised here, after the items before it.

    Raises
    ------
    ValueError
        If `size` is below 1.

    Examples
    --------
    >>> list(prefetch(range(4)))
    [0, 1, 2, 3]
    """
    _check_size(size)
    return _prefetch(items, size)


def _prefetch(items: Iterable[Item], size: int) -> Generator[Item, None, None]:
    waiting: queue.Queue[Any] = queue.Queue(size)
    stop = threading.Event()
    thread = threading.Thread(
        target=_fetch, args=(items, waiting, stop), name="gpufuse-prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        _empty(waiting)  # makes room for the item the thread may be waiting to put
        thread.join()


def _fetch(items: Iterable[Any], waiting: queue.Queue[Any], stop: threading.Event) -> None:
    end = _End()
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                waiting.put(item)
                if stop.is_set():
                    return
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        end.error = error
    # Not when stopped: nobody would take it from a full queue.
    if not stop.is_set():
        waiting.put(end)


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size: expected at least 1 item, got {size}; give a positive number")


def _empty(waiting: queue.Queue[Any]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return


class BackgroundWriter(Generic[Item]):
    """Call a function on items, in order, in a thread of its own.

    Parameters
    ----------
    write : callable
        Called with each item; only ever in the thread.
    size : int
        Items that may wait, at least 1. `put` waits while there are more.

    Raises
    ------
    ValueError
        If `size` is below 1.

    Notes
    -----
    An exception of `write` is raised once by the next `put` or by `close`; later items are dropped. When
    the ``with`` block ends by an exception, items that still wait are dropped as well.

    Examples
    --------
    >>> written = []
    >>> with BackgroundWriter(written.append) as writer:
    ...     for item in range(3):
    ...         writer.put(item)
    >>> written
    [0, 1, 2]
    """

    def __init__(self, write: Callable[[Item], object], size: int = 2) -> None:
        _check_size(size)
        self._write = write
        self._waiting: queue.Queue[Any] = queue.Queue(size)
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="gpufuse-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # Keeps taking items after an error, so that `put` never waits for ever.
        while not isinstance(item := self._waiting.get(), _End):
            if not self._dropping:
                try:
                    self._write(item)
                except BaseException as error:
                    self._error, self._dropping = error, True

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def put(self, item: Item) -> None:
        """Hand over an item; waits while `size` items wait already.

        Parameters
        ----------
        item : object
            Must not be changed afterwards.

        Raises
        ------
        ValueError
            After `close`.
        """
        if not self._thread.is_alive():
            raise ValueError("put: expected an open writer, got a closed one; make a new one")
        self._raise()
        self._waiting.put(item)

    def close(self, *, drop: bool = False) -> None:
        """Wait until all is written and end the thread; safe to call again.

        Parameters
        ----------
        drop : bool
            Drop items that still wait.
        """
        if drop:
            self._dropping = True
        try:
            self._end()
        except BaseException:  # Ctrl-C: the caller may remove the file now, so stop writing first
            self._dropping = True
            self._end()
            raise
        if not drop:
            self._raise()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(_End())
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drop=kind is not None)
