"""The emulated device without its arithmetic: memory, streams, events, graphs and crossings to the host.

Work runs at once and in program order, whatever stream it is put on. What a GPU would do later is kept apart
where a mistake can be seen: a copy to the host that does not block is delivered when somebody waits for it,
page-locked memory must not change before its upload was waited for, and launches into a stream that captures
are recorded only.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy

__all__ = [
    "LIMITS",
    "CUDARuntimeError",
    "Device",
    "Event",
    "Graph",
    "MemoryPool",
    "OutOfMemoryError",
    "PinnedMemoryPointer",
    "PinnedMemoryPool",
    "Stream",
    "allowed",
    "capturing",
    "config",
    "crossing",
    "current_stream",
    "memory",
    "no_transfers",
    "nothing_captured",
    "root",
    "transfers",
    "waits",
]

config = types.SimpleNamespace(
    mode="check",  # of the kernels, see `cuemu.Module`
    order=0,  # of threads and blocks: 0 forward, 1 reversed, 2 random
    seed=0,  # of the random order
    race=True,  # whether races on global memory are looked for
    memory=1 << 34,  # bytes of device memory
    devices=1,
)
"""Settings of the emulated device; `fakecupy.installed` changes them for a while."""


LIMITS = {
    "max_threads": 1024,
    "max_dynamic": 227 << 10,
    "max_dynamic_default": 48 << 10,
    "max_grid": (2**31 - 1, 65535, 65535),
    "max_block": (1024, 1024, 64),
}
"""What the driver lets a launch have."""


class CUDARuntimeError(RuntimeError):
    """What the CUDA runtime would refuse; the message begins with CUDA's name of the error."""


class OutOfMemoryError(MemoryError):
    """No room on the device."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes, "
            f"limit set to: {limit:,} bytes)."
        )


# ---- crossings to the host -----------------------------------------------------------------------------

transfers: collections.Counter[str] = collections.Counter()
"""Copies from the device to the host so far, by the operation that made them."""

waits: collections.Counter[str] = collections.Counter()
"""Times that the host waited for the device so far, by the operation."""

_forbidden: list[list[str]] = []
_exempt = threading.local()


def crossing(operation: str) -> None:
    """Note that values go to the host; every crossing passes through here."""
    nothing_captured(operation)
    if _forbidden and not getattr(_exempt, "depth", 0):
        complaint = f"copy from the device to the host by {operation}, where none is allowed"
        _forbidden[-1].append(complaint)
        raise AssertionError(complaint)
    transfers[operation] += 1


@contextlib.contextmanager
def no_transfers() -> Iterator[None]:
    """Forbid copies to the host, in all threads.

    Each raises `AssertionError` where it happens; the end of the context raises it once more, for a thread
    may have swallowed it.
    """
    complaints: list[str] = []
    _forbidden.append(complaints)
    try:
        yield
    finally:
        _forbidden[:] = [other for other in _forbidden if other is not complaints]
    if complaints:
        raise AssertionError(complaints[0])


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Within `no_transfers`, allow this thread to copy to the host: the download of results."""
    _exempt.depth = getattr(_exempt, "depth", 0) + 1
    try:
        yield
    finally:
        _exempt.depth -= 1


# ---- memory --------------------------------------------------------------------------------------------


def root(array: numpy.ndarray) -> numpy.ndarray:
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    return array


class _Memory:
    """Bytes of device memory in use, told by the lifetimes of the host arrays that stand for it."""

    def __init__(self) -> None:
        self.used = self.held = self.peak = 0
        self.limit = 0
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._lock = threading.RLock()

    def adopt(self, array: numpy.ndarray) -> None:
        """Count the memory of an array, unless it is counted already."""
        owner = root(array)
        key = id(owner)
        if key in self._live:
            return
        if not config.devices:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        nothing_captured("an operation whose result needs new memory")
        size = -(-owner.nbytes // 512) * 512  # CuPy's unit of allocation
        with self._lock:
            limit = min(self.limit or config.memory, config.memory)
            if self.used + size > limit:
                raise OutOfMemoryError(size, self.used, limit)
            self._live[key] = weakref.ref(owner, lambda _: self._release(key)), size
            self.used += size
            self.held = max(self.held, self.used)
            self.peak = max(self.peak, self.used)

    def at(self, address: int, size: int) -> numpy.ndarray | None:
        """Return the array that owns some bytes."""
        for reference, _ in list(self._live.values()):
            array = reference()
            if array is not None:
                start = array.ctypes.data
                if start <= address and address + size <= start + array.nbytes:
                    return array
        return None

    def _release(self, key: int) -> None:
        with self._lock:
            self.used -= self._live.pop(key)[1]


memory = _Memory()
"""Counts `used`, `held` (by the pool, freed blocks included) and `peak` (which a test may set to 0) bytes."""


class MemoryPool:
    """The pool of device memory; there is one, however often it is made."""

    def __init__(self, allocator: Any = None) -> None:
        pass

    def malloc(self, size: int) -> Any:
        raise NotImplementedError("not emulated: allocate arrays")

    def free_all_blocks(self, stream: Any = None) -> None:
        memory.held = memory.used

    def used_bytes(self) -> int:
        return memory.used

    def total_bytes(self) -> int:
        return memory.held

    def free_bytes(self) -> int:
        return memory.held - memory.used

    def n_free_blocks(self) -> int:
        return int(memory.held > memory.used)

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        memory.limit = int(config.memory * fraction) if fraction is not None else int(size or 0)

    def get_limit(self) -> int:
        return memory.limit


class PinnedMemoryPool:
    """The pool of page-locked memory."""

    def free_all_blocks(self) -> None:
        pass

    def n_free_blocks(self) -> int:
        return 0


_pinned: weakref.WeakValueDictionary[int, PinnedMemoryPointer] = weakref.WeakValueDictionary()


class PinnedMemoryPointer(bytearray):
    """Page-locked host memory; offers its bytes as a buffer."""

    def __init__(self, size: int) -> None:
        super().__init__(b"\xff" * max(1, size))  # NaN: nobody may rely on zeros
        self.ptr = numpy.frombuffer(self, numpy.uint8).ctypes.data
        self.mem = self
        _pinned[self.ptr] = self

    __hash__ = object.__hash__

    def size(self) -> int:
        return len(self)


def is_pinned(array: numpy.ndarray) -> bool:
    """Whether a host array lies in page-locked memory."""
    address = array.ctypes.data
    return any(start <= address < start + len(memory) for start, memory in list(_pinned.items()))


# ---- streams -------------------------------------------------------------------------------------------


class _Capture:
    """Launches that were recorded; `streams` take part."""

    def __init__(self, origin: Stream) -> None:
        self.streams = [origin]
        self.work: list[Callable[[], None]] = []
        self.invalid = False


_captures: list[_Capture] = []
_streams: weakref.WeakSet[Stream] = weakref.WeakSet()
_local = threading.local()


class Stream:
    """A stream whose work is done at once; see the module for what is kept back."""

    null: Stream
    ptds: Stream
    _count = 0

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        self.is_non_blocking = non_blocking and not (null or ptds)
        self.priority = priority or 0
        self.device_id = -1 if null or ptds else Device().id
        if null or ptds:
            self.ptr = 0 if null else 2
        else:
            Stream._count += 1
            self.ptr = 0x5000 + 0x10 * Stream._count  # never used again, so a stale one is no other's
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._done = self._put = 0
        self._capture: _Capture | None = None
        _streams.add(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def __repr__(self) -> str:
        return f"<Stream {self.ptr:#x} (emulated)>"

    def __enter__(self) -> Stream:
        _entered().append(current_stream())
        return self.use()

    def __exit__(self, *exception: object) -> None:
        _local.stream = _entered().pop()

    def use(self) -> Stream:
        _local.stream = self
        return self

    @property
    def done(self) -> bool:
        self.synchronize()
        return True

    def synchronize(self) -> None:
        if self._capture:
            self._capture.invalid = True
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing "
                "(synchronisation of a stream that captures)"
            )
        waits["Stream.synchronize"] += 1
        self.deliver(self._put)

    def defer(self, work: Callable[[], None]) -> None:
        """Keep work back until somebody waits for it."""
        self._waiting.append(work)
        self._put += 1

    def deliver(self, until: int) -> None:
        """Do the work that was kept back, up to a place in the stream."""
        while self._done < until:
            self._done += 1
            self._waiting.popleft()()

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        capture = event.captured_by
        if capture and capture in _captures:
            if self not in capture.streams:
                capture.streams.append(self)
            self._capture = capture
            return
        if self._capture and event.recorded:
            return  # an event of finished work; CUDA lets it pass in a graph only if it is external
        if event.recorded and event.stream is not self:
            # What this stream's waiter waits for now includes what the event stands for.
            other, place = event.stream, event.place
            self.defer(lambda: other.deliver(place))

    # Capture

    def is_capturing(self) -> bool:
        return self._capture is not None

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._capture:
            raise CUDARuntimeError(
                "cudaErrorIllegalState: the operation cannot be performed in the present state"
            )
        self._capture = _Capture(self)
        _captures.append(self._capture)

    def end_capture(self) -> Graph:
        capture = self._capture
        if capture is None:
            raise CUDARuntimeError(
                "cudaErrorIllegalState: the operation cannot be performed in the present state"
            )
        if capture.streams[0] is not self:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnmatched: capture was not initiated in this stream"
            )
        _captures.remove(capture)
        for stream in capture.streams:
            stream._capture = None
        if capture.invalid:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
            )
        return Graph(capture.work)

    def submit(self, work: Callable[[], None]) -> None:
        """Do a kernel launch now, or record it if this stream captures."""
        if self._capture:
            self._capture.work.append(work)
            return
        if self.ptr == 0 and any(not s.is_non_blocking for c in _captures for s in c.streams):
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a "
                "capturing blocking stream"
            )
        work()


def _entered() -> list[Stream]:
    if not hasattr(_local, "entered"):
        _local.entered = []
    return _local.entered  # type: ignore[no-any-return]


def current_stream(device_id: int | None = None) -> Stream:
    """Return the stream that this thread works on."""
    return getattr(_local, "stream", Stream.null)


def capturing() -> bool:
    """Whether this thread's current stream captures."""
    return current_stream().is_capturing()


def nothing_captured(operation: str) -> None:
    """Refuse what a graph cannot hold: all but kernel launches."""
    if capturing():
        raise CUDARuntimeError(
            "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing "
            f"({operation})"
        )


class Graph:
    """Launches that were captured, to be launched together."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self._work = work

    def launch(self, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        for work in self._work:
            stream.submit(work)

    def upload(self, stream: Stream | None = None) -> None:
        pass


class Event:
    """A place in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.disable_timing = disable_timing
        self.recorded = False
        self.captured_by: _Capture | None = None
        self.ptr = id(self)

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or current_stream()
        self.place = self.stream._put
        self.captured_by = self.stream._capture
        self.recorded = True
        self.time = time.perf_counter()

    @property
    def done(self) -> bool:
        self._deliver()
        return True

    def synchronize(self) -> None:
        if self.captured_by in _captures:
            raise CUDARuntimeError(
                "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a "
                "capturing stream"
            )
        waits["Event.synchronize"] += 1
        self._deliver()

    def _deliver(self) -> None:
        if self.recorded:
            self.stream.deliver(self.place)


def elapsed_time(start: Event, end: Event) -> float:
    """Return the milliseconds between two events."""
    for event in (start, end):
        if event.disable_timing or not event.recorded:
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return (end.time - start.time) * 1e3


class Device:
    """One of `config.devices` devices that share everything but their number."""

    compute_capability = "90"

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = getattr(_local, "device", 0) if device is None else int(getattr(device, "id", device))
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._before.append(Device().id)
        self.use()
        return self

    def __exit__(self, *exception: object) -> None:
        _local.device = self._before.pop()

    def use(self) -> None:
        if not config.devices:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        if not 0 <= self.id < config.devices:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _local.device = self.id

    def synchronize(self) -> None:
        if _captures:
            for capture in _captures:
                capture.invalid = True
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing "
                "(synchronisation of the device)"
            )
        waits["Device.synchronize"] += 1
        for stream in list(_streams):
            stream.deliver(stream._put)

    @property
    def mem_info(self) -> tuple[int, int]:
        return config.memory - memory.held, config.memory

    @property
    def attributes(self) -> dict[str, int]:

        return {
            "MultiProcessorCount": 132,
            "MaxSharedMemoryPerBlockOptin": LIMITS["max_dynamic"],
            "WarpSize": 32,
            "ComputeCapabilityMajor": 9,
            "ComputeCapabilityMinor": 0,
        }


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)
