"""Copies from the device to the host that nobody has to wait for, and the order of streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module

__all__ = ["Download", "Downloads", "on_default_stream", "recorded"]


def recorded(module: Any, stream: Any) -> Any:
    """Record an event for the host to wait for, asleep: a thread that encodes needs the core.

    Parameters
    ----------
    module : module
        `cupy`.
    stream : cupy.cuda.Stream

    Returns
    -------
    cupy.cuda.Event
    """
    return stream.record(module.cuda.Event(block=True, disable_timing=True))


@contextlib.contextmanager
def on_default_stream(module: Any) -> Iterator[None]:
    """Work on the default stream, after what the current one was given and before what it will be given.

    FFmpeg fills its frames on that stream, and fills their memory anew as soon as they are let go.

    Parameters
    ----------
    module : module
        `cupy`.

    Yields
    ------
    None
    """
    current, default = module.cuda.get_current_stream(), module.cuda.Stream.null
    if current == default:
        yield
        return
    default.wait_event(current.record())
    with default:
        yield
    current.wait_event(default.record())


class Download:
    """An array on its way to the host.

    Parameters
    ----------
    array : ndarray, C-contiguous
        CuPy: the copy begins when all that was launched so far on the current stream has ended. NumPy: there
        is nothing to copy.
    stream : cupy.cuda.Stream or None
        Where the copy runs; None for NumPy.

    Examples
    --------
    >>> Download(numpy.arange(3), None).result()
    array([0, 1, 2])
    """

    def __init__(self, array: Array, stream: Any) -> None:
        self._done: Any = None
        xp = array_module(array)
        if xp is numpy:
            self._host: numpy.ndarray = array
            return
        array = xp.ascontiguousarray(array)
        # Only to pinned memory does a copy run beside the kernels.
        memory = xp.cuda.alloc_pinned_memory(max(1, array.nbytes))
        self._host = numpy.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
        self._source = array  # its memory must not be used again before the copy has ended
        stream.wait_event(xp.cuda.get_current_stream().record())
        array.get(stream=stream, out=self._host, blocking=False)
        self._done = recorded(xp, stream)

    def result(self) -> numpy.ndarray:
        """Wait until the copy has ended; return it.

        Returns
        -------
        numpy.ndarray
        """
        if self._done is not None:
            self._done.synchronize()
            self._done = self._source = None
        return self._host

    def __del__(self) -> None:
        # Or the pools would lend both memories to others while the copy still runs.
        if getattr(self, "_done", None) is not None:
            with contextlib.suppress(Exception):  # as the interpreter ends
                self._done.synchronize()


class Downloads:
    """A stream for copies to the host, beside the one that computes.

    Parameters
    ----------
    module : module
        `numpy` or `cupy`.

    Examples
    --------
    >>> Downloads(numpy).start(numpy.arange(3)).result()
    array([0, 1, 2])
    """

    def __init__(self, module: Any) -> None:
        self._stream = None if module is numpy else module.cuda.Stream(non_blocking=True)

    def start(self, array: Array) -> Download:
        """Begin to copy an array.

        Parameters
        ----------
        array : ndarray
            Not to be changed afterwards.

        Returns
        -------
        Download
        """
        return Download(array, self._stream)
