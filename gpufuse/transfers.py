"""Copies from the device to the host that nobody has to wait for."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.arrays import Array, array_module

__all__ = ["Download", "Downloads"]


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
        xp = array_module(array)
        self._done: Any = None
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
        self._done = stream.record()

    def result(self) -> numpy.ndarray:
        """Wait until the copy has ended; return it."""
        if self._done is not None:
            self._done.synchronize()
            self._done = self._source = None
        return self._host


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
