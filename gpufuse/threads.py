"""The thread policy: how many CPU threads the kernels use, and how work is cut into bands.

The numba kernels are serial and release the interpreter lock; parallelism is a pool of
plain threads of our own. So no threading layer of numba is ever started, concurrent callers and
``spawn`` or ``fork`` children are safe, and nothing of the caller's process is changed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from numbers import Integral
from typing import Any

__all__ = ["for_bands", "get_threads", "set_threads"]

_BANDS_PER_THREAD = 4
"""Reading and writing take turns with the kernels on the same cores: with one band for each thread, the thread that
was interrupted keeps the others waiting."""


def _available_cores() -> int:
    """Cores this process may run on (a container or `taskset` may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Workers:
    """A pool of threads, made when first needed and again in a forked child."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._owner = os.getpid()

    def pool(self) -> ThreadPoolExecutor:
        if self._owner != os.getpid():  # threads do not survive a fork
            self._lock, self._pool, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count - 1, thread_name_prefix="gpufuse")
            return self._pool


# The one piece of process-wide state of the package: a thread count has to be process-wide.
_workers = _Workers(_available_cores())


def set_threads(count: int) -> None:
    """Set the number of CPU threads that kernels may use in this process.

    Parameters
    ----------
    count : int
        At least 1. The default is the number of cores the process may run on.

    Raises
    ------
    ValueError
        If `count` is below 1.

    Examples
    --------
    >>> import gpufuse
    >>> before = gpufuse.get_threads()
    >>> gpufuse.set_threads(1)
    >>> gpufuse.get_threads()
    1
    >>> gpufuse.set_threads(before)
    """
    global _workers
    if not _is_count(count):
        raise ValueError(
            f"count: expected a whole number of threads from 1, got {count!r}; give such a number"
        )
    _workers = _Workers(int(count))


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and int(number) >= 1


def get_threads() -> int:
    """Return the number of CPU threads that kernels may use.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> get_threads() >= 1
    True
    """
    return _workers.count


def for_bands(kernel: Callable[..., Any], count: int, *arguments: Any, minimum: int = 1) -> None:
    """Run ``kernel(start, stop, *arguments)`` on bands that together make ``range(count)``.

    Each item is computed by exactly one band, so the result cannot depend on the number of threads
    as long as `kernel` treats its items independently.

    Parameters
    ----------
    kernel : callable
        Releases the interpreter lock; writes its result into its arguments.
    count : int
        Number of items (planes, rows).
    *arguments
        Passed on unchanged.
    minimum : int
        Fewest items worth a thread of their own, and a band.
    """
    workers = _workers
    threads = max(1, min(workers.count, count // max(1, minimum)))
    if threads == 1:
        kernel(0, count, *arguments)
        return
    bands = min(_BANDS_PER_THREAD * threads, count // max(1, minimum))
    waiting = iter(list(pairwise(count * band // bands for band in range(bands + 1))))

    def work() -> None:
        for start, stop in waiting:  # whoever is free takes the next one
            kernel(start, stop, *arguments)

    others = [workers.pool().submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()
