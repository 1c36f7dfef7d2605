"""The stand-in for CuPy is as strict as CuPy, and its device does what CUDA promises."""

import gc
import importlib
import sys
import threading

import cuemu
import numpy
import pytest
from cuemu import fakecupy


@pytest.fixture(autouse=True)
def _emulator():
    cuemu.need(cuemu.unavailable())


SOURCE = """
extern "C" __global__ void __launch_bounds__(32) add(float* a, const float* b, int n, float c)
{
    const int i = blockIdx.x * 32 + threadIdx.x;
    if (i < n) a[i] += c * b[i];
}
"""


@pytest.fixture
def cupy():
    with fakecupy.installed(mode="fast") as module:
        yield module


@pytest.fixture
def add(cupy):
    kernel = cupy.RawModule(code=SOURCE).get_function("add")

    def launch(a, b, factor=1.0, **options):
        kernel((-(-a.size // 32),), (32,), (a, b, numpy.int32(a.size), numpy.float32(factor)), **options)

    return launch


def ones(cupy, *shape):
    return cupy.ones(shape or (4, 6), numpy.float32)


# ---- names ---------------------------------------------------------------------------------------------

EXTENSIONS = {"EmuError", "allowed", "config", "coverage", "installed", "launches", "memory", "no_transfers"}
EXTENSIONS |= {"transfers", "waits"}


def test_it_offers_what_cupy_has_and_no_more(cupy):
    assert (
        fakecupy.real is None or {n for n in fakecupy.__all__ if not hasattr(fakecupy.real, n)} == EXTENSIONS
    )
    with pytest.raises(AttributeError):
        _ = cupy.no_such_function
    with pytest.raises(AttributeError):
        _ = ones(cupy).no_such_method
    if fakecupy.real is not None:
        for module, twin in (
            (cupy.cuda, fakecupy.real.cuda),
            (cupy.cuda.runtime, fakecupy.real.cuda.runtime),
            (cupy.cuda.Stream, fakecupy.real.cuda.Stream),
            (cupy.cuda.Event, fakecupy.real.cuda.Event),
            (cupy.cuda.Device, fakecupy.real.cuda.Device),
            (cupy.cuda.MemoryPool, fakecupy.real.cuda.MemoryPool),
            (cupy.RawModule, fakecupy.real.RawModule),
        ):
            own = {name for name in vars(module) if not name.startswith("_")}
            extra = {name for name in own if not hasattr(twin, name)}
            # Attributes of instances, and what the emulator itself calls
            assert extra <= {"deliver", "defer", "submit", "compiled"}, module
        for name in ("trapezoid", "unstack", "vecmat"):  # NumPy has them
            if not hasattr(fakecupy.real, name):
                with pytest.raises(AttributeError):
                    getattr(cupy, name)


def test_names_are_imported_as_from_cupy(cupy):
    import cupy as imported
    from cupy.cuda import runtime
    from cupy.cuda.memory import OutOfMemoryError
    from cupyx.scipy import fft, ndimage

    assert imported is cupy
    assert runtime.getDeviceCount() == 1
    assert issubclass(OutOfMemoryError, MemoryError)
    assert ndimage is sys.modules["cupyx.scipy.ndimage"]
    assert fft is sys.modules["cupyx.scipy.fft"]
    assert importlib.import_module("cupy.cuda") is cupy.cuda


def test_what_was_imported_before_comes_back():
    def modules():
        return {k: v for k, v in sys.modules.items() if k.split(".")[0] in ("cupy", "cupyx")}

    before = modules()
    with fakecupy.installed(mode="cover"):
        with fakecupy.installed(order=1):
            assert (fakecupy.config.mode, fakecupy.config.order) == ("cover", 1)
            assert all("cuemu" in str(m) or "cupy" in m.__name__ for m in modules().values())
        assert fakecupy.config.order == 0
        assert sys.modules["cupy"] is fakecupy
    assert modules() == before
    assert fakecupy.config.mode == "check"


def test_an_unknown_setting():
    with pytest.raises(TypeError, match="speed"), fakecupy.installed(speed=3):
        pass


# ---- arrays --------------------------------------------------------------------------------------------


def test_nothing_is_converted_or_mixed(cupy):
    a, host = ones(cupy), numpy.ones((4, 6), numpy.float32)
    for wrong in (
        lambda: numpy.asarray(a),
        lambda: a + host,
        lambda: host + a,
        lambda: cupy.add(a, host),
        lambda: cupy.add(a, a, out=host),
        lambda: cupy.maximum(a, [1.0] * 6),
        lambda: cupy.add(a, a, where=a > 0),
        lambda: cupy.sqrt(host),
        lambda: cupy.where(a > 0, host, a),
        lambda: cupy.concatenate([a, host]),
        lambda: a.__setitem__(0, host[0]),
        lambda: cupy.median(a, where=a > 0),
        lambda: range(cupy.asarray(3)),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="dtype"):
        cupy.asarray(numpy.array(["a"]))
    with pytest.raises(ValueError, match="dtype"):
        a.astype(object)


def test_results_stay_arrays(cupy):
    a = ones(cupy)
    for result in (
        a.sum(),
        a[0, 0],
        a.max(axis=0),
        cupy.sqrt(a),
        numpy.sqrt(a),
        a.mean(),
        cupy.array_equal(a, a),
    ):
        assert isinstance(result, cupy.ndarray)
    assert a.sum().shape == ()
    assert cupy.asarray(a) is a
    assert cupy.ascontiguousarray(a) is a
    assert a.astype(numpy.float32, copy=False) is a
    assert a.astype(numpy.float32) is not a
    assert cupy.get_array_module(a) is cupy
    assert cupy.get_array_module(numpy.ones(2)) is numpy


def test_memory_is_not_zero_before_it_is_written(cupy):
    assert numpy.isnan(cupy.empty((2, 3), numpy.float32).get()).all()
    assert (cupy.empty_like(cupy.zeros(3, numpy.uint8)).get() == 0xA5).all()
    assert numpy.isnan(cupy.ndarray((2,), numpy.float64).get()).all()


def test_operations_in_place_give_the_array_itself(cupy):
    a, b = ones(cupy), ones(cupy)
    before = a
    a += b
    assert a is before
    assert cupy.rint(a, out=b) is b
    assert cupy.clip(a, 0, 1, out=b) is b
    assert a.clip(0, 1, out=b) is b
    assert cupy.multiply(a, a, out=b) is b
    numpy.testing.assert_array_equal(b.get(), 4.0)


def test_functions_agree_with_numpy(cupy, rng):
    host = rng.normal(size=(5, 7)).astype(numpy.float32)
    a = cupy.asarray(host)
    order = rng.permutation(7)
    for call in (
        lambda m, x: m.concatenate([x, x], axis=1),
        lambda m, x: m.stack([x, -x]),
        lambda m, x: m.where(x > 0, x, 0),
        lambda m, x: m.clip(x, -0.5, 0.5),
        lambda m, x: m.take(x, m.asarray(order), axis=1),
        lambda m, x: m.sort(x, axis=0),
        lambda m, x: m.pad(x, ((1, 2), (3, 0)), mode="edge"),
        lambda m, x: m.moveaxis(x[None], -1, -3),
        lambda m, x: m.median(x, axis=0),
        lambda m, x: m.rint(x * 4),
        lambda m, x: m.isfinite(x / (x > 0)),
        lambda m, x: m.cumsum(x, axis=1),
        lambda m, x: m.repeat(x, 2, axis=0),
        lambda m, x: x.astype(m.float64).sum(axis=0, keepdims=True),
        lambda m, x: m.linalg.norm(x),
        lambda m, x: m.arange(3, dtype=m.float32) + m.linspace(0, 1, 3),
    ):
        with numpy.errstate(all="ignore"):
            expected, got = call(numpy, host), call(cupy, a)
        assert isinstance(got, cupy.ndarray)
        assert got.dtype == expected.dtype
        numpy.testing.assert_array_equal(got.get(), expected)


def test_overflow_is_silent_as_on_a_gpu(cupy):
    a = ones(cupy) - 1
    assert cupy.isinf(1 / a).all()
    assert cupy.isnan(a / a).all()
    assert cupy.isnan(cupy.sqrt(a - 1)).all()
    assert (a / 0).astype(numpy.uint8).shape == a.shape


def test_big_endian_arrays_are_turned(cupy):
    assert cupy.asarray(numpy.arange(3, dtype=">f4")).dtype == numpy.dtype("f4").newbyteorder("=")


def test_get_and_set_check_their_arguments(cupy):
    a = ones(cupy)
    out = numpy.empty(a.shape, a.dtype)
    assert a.get(out=out) is out
    for wrong in (out.astype(float), out[:2], a):
        with pytest.raises((TypeError, ValueError)):
            a.get(out=wrong)
        with pytest.raises((TypeError, ValueError)):
            a.set(wrong)
    with pytest.raises(RuntimeError):
        a.get(out=numpy.empty((12, 4), a.dtype)[::2].T)
    a.set(out * 3)
    assert float(a.sum()) == 72.0


def test_dlpack_takes_device_memory_only(cupy):
    host = numpy.arange(4.0)

    class Frame:
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, **options):
            return host.__dlpack__()

    numpy.testing.assert_array_equal(cupy.from_dlpack(Frame()).get(), host)
    numpy.testing.assert_array_equal(cupy.from_dlpack(host.__dlpack__()).get(), host)
    with pytest.raises(TypeError, match="CPU"):
        cupy.from_dlpack(host)
    with pytest.raises(TypeError):
        cupy.from_dlpack([1.0])


# ---- crossings to the host -----------------------------------------------------------------------------

CROSSINGS = {
    "get": lambda cupy, a: a.get(),
    "asnumpy": lambda cupy, a: cupy.asnumpy(a),
    "item": lambda cupy, a: a.item(),
    "tolist": lambda cupy, a: a.tolist(),
    "float": lambda cupy, a: float(a),
    "int": lambda cupy, a: int(a),
    "bool": lambda cupy, a: bool(a),
    "complex": lambda cupy, a: complex(a),
    "repr": lambda cupy, a: repr(a),
    "str": lambda cupy, a: f"{a}",
    "tobytes": lambda cupy, a: a.tobytes(),
}


@pytest.mark.parametrize("operation", CROSSINGS)
def test_crossings_are_counted_and_can_be_forbidden(cupy, operation):
    a = cupy.asarray(numpy.float32(3.0))
    before = fakecupy.transfers[operation], fakecupy.transfers.total()
    CROSSINGS[operation](cupy, a)
    assert (fakecupy.transfers[operation], fakecupy.transfers.total()) == (before[0] + 1, before[1] + 1)
    with pytest.raises(AssertionError, match=rf"host by {operation}\b"), fakecupy.no_transfers():
        CROSSINGS[operation](cupy, a)
    with fakecupy.no_transfers():
        cupy.sqrt(a * 2).sum().reshape(1)[:1].copy()
        with fakecupy.allowed():
            CROSSINGS[operation](cupy, a)


def test_the_ban_holds_in_other_threads(cupy):
    a, seen = ones(cupy), []

    def work():
        try:
            a.get()
        except AssertionError as error:
            seen.append(error)  # and swallowed

    def forbidden():
        with fakecupy.no_transfers(), fakecupy.allowed():  # of this thread, not of the other
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    with pytest.raises(AssertionError, match="get"):
        forbidden()
    assert len(seen) == 1
    a.get()


# ---- streams -------------------------------------------------------------------------------------------


def test_the_current_stream_is_a_matter_of_the_thread(cupy):
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream()
    assert len({first.ptr, second.ptr, cupy.cuda.Stream.null.ptr}) == 3
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    seen = []
    with first:
        with second, first:
            assert cupy.cuda.get_current_stream() is first
        thread = threading.Thread(target=lambda: seen.append(cupy.cuda.get_current_stream()))
        thread.start()
        thread.join()
        assert cupy.cuda.get_current_stream() is first
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null == seen[0]


@pytest.mark.parametrize("wait", ["stream", "event", "device", "done", "other stream"])
def test_a_copy_arrives_when_it_was_waited_for(cupy, wait):
    stream, event, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event(), cupy.cuda.Stream()
    a = ones(cupy)
    out = numpy.zeros(a.shape, a.dtype)
    a.get(out=out, stream=stream, blocking=False)
    event.record(stream)
    a.fill(2)
    assert numpy.isnan(out).all()
    if wait == "stream":
        stream.synchronize()
    elif wait == "event":
        event.synchronize()
    elif wait == "device":
        cupy.cuda.Device().synchronize()
    elif wait == "done":
        assert event.done
    else:
        other.wait_event(event)
        other.synchronize()
    numpy.testing.assert_array_equal(out, 1.0)


def test_an_event_stands_for_what_was_before_it(cupy):
    stream, event = cupy.cuda.Stream(), cupy.cuda.Event()
    stream.record(event)
    late = ones(cupy).get(stream=stream, blocking=False)
    event.synchronize()
    assert numpy.isnan(late).all()
    stream.synchronize()
    assert (late == 1).all()


def test_page_locked_memory_must_not_change_before_its_upload(cupy):
    block = cupy.cuda.alloc_pinned_memory(4 * 6)
    assert block.ptr
    host = numpy.frombuffer(block, numpy.float32, 6)
    host[:] = 1
    stream = cupy.cuda.Stream(non_blocking=True)
    a = cupy.empty(6, numpy.float32)
    a.set(host, stream=stream)
    stream.synchronize()
    host[:] = 2
    a.set(host, stream=stream)
    host[:] = 3
    with pytest.raises(cuemu.EmuError, match="page-locked"):
        stream.synchronize()


def test_elapsed_time_and_events(cupy):
    first, second = cupy.cuda.Event(), cupy.cuda.Event()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.get_elapsed_time(first, second)
    first.record()
    second.record()
    assert cupy.cuda.get_elapsed_time(first, second) >= 0
    assert second.done


# ---- graphs --------------------------------------------------------------------------------------------


def test_a_captured_launch_runs_when_its_graph_is_launched(cupy, add):
    a, b = ones(cupy), ones(cupy)
    stream = cupy.cuda.Stream(non_blocking=True)
    before = fakecupy.launches["add"]
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        add(a, b, 2.0)
        add(a[1:], b[1:])
        graph = stream.end_capture()
    assert not stream.is_capturing()
    assert fakecupy.launches["add"] == before
    assert float(a.sum()) == 24
    graph.launch()
    graph.launch(stream=stream)
    assert fakecupy.launches["add"] == before + 4
    numpy.testing.assert_array_equal(a.get()[:, 0], [5, 7, 7, 7])
    b.fill(0)
    graph.launch()  # it reads what is there then
    numpy.testing.assert_array_equal(a.get()[:, 0], [5, 7, 7, 7])


def test_a_captured_launch_is_checked_when_it_is_recorded(cupy, add):
    stream = cupy.cuda.Stream(non_blocking=True)
    doubles = cupy.ones(4)
    with stream:
        stream.begin_capture()
        with pytest.raises(cuemu.EmuError, match="dtype"):
            add(doubles, doubles)
        stream.end_capture()


def test_a_graph_does_not_keep_memory(cupy, add):
    a, b = ones(cupy), ones(cupy)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        add(a, b)
        graph = stream.end_capture()
    graph.launch()
    del b
    gc.collect()
    with pytest.raises(cuemu.EmuError, match="argument 1 of add was freed"):
        graph.launch()


def test_a_graph_works_on_addresses(cupy, add):
    a, b = ones(cupy), ones(cupy)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        add(a[1:], b[1:])
        graph = stream.end_capture()
    address = b.data.ptr
    del b
    again = [cupy.full((4, 6), 5, numpy.float32) for _ in range(9)]  # a pool gives memory of this size again
    assert address in [array.data.ptr for array in again]
    graph.launch()
    numpy.testing.assert_array_equal(a.get()[:, 0], [1, 6, 6, 6])


def test_streams_join_a_capture_by_events(cupy, add):
    a, b = ones(cupy), ones(cupy)
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    fork, join = cupy.cuda.Event(), cupy.cuda.Event()
    with first:
        first.begin_capture()
        fork.record()
        second.wait_event(fork)
        with second:
            add(a, b)
            join.record()
        first.wait_event(join)
        graph = first.end_capture()
    assert not second.is_capturing()
    assert float(a.sum()) == 24
    graph.launch()
    assert float(a.sum()) == 48


NOT_IN_A_GRAPH = {
    "get": lambda cupy, a, s: a.get(),
    "asarray": lambda cupy, a, s: cupy.asarray(numpy.ones(3)),
    "set": lambda cupy, a, s: a.set(numpy.ones((4, 6), numpy.float32)),
    "synchronize": lambda cupy, a, s: s.synchronize(),
    "device": lambda cupy, a, s: cupy.cuda.Device().synchronize(),
    "bool": lambda cupy, a, s: bool(a[0, 0]),
    "float": lambda cupy, a, s: float(a[0, 0]),
    "int": lambda cupy, a, s: int(a[0, 0]),
    "+": lambda cupy, a, s: a + 1,
    "+=": lambda cupy, a, s: a.__iadd__(1),
    "sum": lambda cupy, a, s: a.sum(),
    "empty": lambda cupy, a, s: cupy.empty(3),
    "copy": lambda cupy, a, s: a.copy(),
    "fill": lambda cupy, a, s: a.fill(0),
    "assignment": lambda cupy, a, s: a.__setitem__(0, 1),
    "out=": lambda cupy, a, s: cupy.rint(a, out=a),
    "clip out=": lambda cupy, a, s: cupy.clip(a, 0, 1, out=a),
    "filter": lambda cupy, a, s: sys.modules["cupyx"].scipy.ndimage.gaussian_filter(a, 1.0, output=a),
}


@pytest.mark.parametrize("operation", NOT_IN_A_GRAPH)
def test_a_graph_holds_kernels_only(cupy, operation):
    a = ones(cupy)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        a[1:].reshape(-1).view(numpy.uint8)  # views need no work
        with pytest.raises(RuntimeError, match="capturing"):
            NOT_IN_A_GRAPH[operation](cupy, a, stream)
        if operation in ("synchronize", "device"):
            with pytest.raises(RuntimeError, match="Invalidated"):
                stream.end_capture()
        else:
            stream.end_capture()
    numpy.testing.assert_array_equal(a.get(), 1.0)


def test_captures_that_cuda_refuses(cupy, add):
    stream = cupy.cuda.Stream(non_blocking=True)
    with pytest.raises(RuntimeError, match="legacy"):
        cupy.cuda.Stream.null.begin_capture()
    with pytest.raises(RuntimeError):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(RuntimeError):
        stream.begin_capture()
    a = ones(cupy) + 1  # on the null stream, which does not wait for a stream that does not block
    add(a, a.copy())
    stream.end_capture()
    blocking = cupy.cuda.Stream()
    blocking.begin_capture()
    with pytest.raises(RuntimeError, match="legacy"):
        add(a, a)
    blocking.end_capture()


# ---- devices and memory --------------------------------------------------------------------------------


def test_devices(cupy):
    device = cupy.cuda.Device()
    assert device.id == 0
    assert device.compute_capability == "90"
    cupy.cuda.Device(0).use()
    with pytest.raises(RuntimeError, match="InvalidDevice"):
        cupy.cuda.Device(1).use()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    assert {"name", "totalGlobalMem", "multiProcessorCount"} <= set(properties)
    assert cupy.cuda.runtime.runtimeGetVersion() >= 12000
    assert cupy.cuda.runtime.driverGetVersion() >= 12000
    with fakecupy.installed(devices=2), cupy.cuda.Device(1):
        assert cupy.cuda.Device().id == 1
    assert cupy.cuda.Device().id == 0


def test_no_device(cupy):
    with fakecupy.installed(devices=0):
        assert not cupy.cuda.is_available()
        for call in (
            cupy.cuda.runtime.getDeviceCount,
            cupy.cuda.Device().use,
            lambda: cupy.asarray(numpy.ones(2)),
        ):
            with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="NoDevice"):
                call()


def test_memory_is_counted_and_limited(cupy):
    gc.collect()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    with fakecupy.installed(memory=before + (1 << 20)):
        kept = [cupy.zeros(1 << 16, numpy.float32) for _ in range(3)]
        views = [kept[0][5:], kept[0].reshape(2, -1)]
        assert pool.used_bytes() == before + 3 * (1 << 18)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating 524,288 bytes"):
            cupy.zeros(1 << 17, numpy.float32)
        with pytest.raises(MemoryError):
            kept[0].astype(numpy.float64)
        free, total = cupy.cuda.Device().mem_info
        assert (free, total) == cupy.cuda.runtime.memGetInfo()
        assert total == before + (1 << 20)
        del kept[0]
        assert pool.used_bytes() == before + 3 * (1 << 18)  # the views hold it
        views.clear()
        assert pool.used_bytes() == before + 2 * (1 << 18)
        assert pool.total_bytes() >= before + 3 * (1 << 18)
        pool.free_all_blocks()
        assert pool.total_bytes() == pool.used_bytes()
    kept.clear()
    assert pool.used_bytes() == before


def test_memory_of_temporaries_comes_back(cupy):
    gc.collect()
    a = cupy.zeros(1 << 18, numpy.float32)
    used, fakecupy.memory.peak = fakecupy.memory.used, 0
    b = cupy.sqrt(a * 2 + 1)[::2]
    del b
    assert fakecupy.memory.used == used
    assert fakecupy.memory.peak == used + (2 << 20)


# ---- cupyx ---------------------------------------------------------------------------------------------


def test_filters_and_transforms_agree_with_scipy(cupy, rng):
    import scipy.fft
    import scipy.ndimage
    from cupyx.scipy import fft, ndimage

    host = rng.normal(size=(9, 12)).astype(numpy.float32)
    a = cupy.asarray(host)
    numpy.testing.assert_array_equal(
        ndimage.gaussian_filter(a, (0.0, 2.0), mode="nearest", truncate=4.0).get(),
        scipy.ndimage.gaussian_filter(host, (0.0, 2.0), mode="nearest", truncate=4.0),
    )
    numpy.testing.assert_array_equal(
        ndimage.maximum_filter(a, size=(3, 5), mode="nearest").get(),
        scipy.ndimage.maximum_filter(host, size=(3, 5), mode="nearest"),
    )
    for kind in (2, 3):
        spectrum = fft.dctn(a, type=kind, norm="ortho", axes=(-2, -1))
        numpy.testing.assert_array_equal(
            spectrum.get(), scipy.fft.dctn(host, kind, norm="ortho", axes=(-2, -1))
        )
        back = fft.idctn(spectrum, type=kind, norm="ortho", axes=(-2, -1), overwrite_x=True)
        numpy.testing.assert_allclose(back.get(), host, atol=1e-5)
    for kind in (1, 4):
        with pytest.raises(NotImplementedError):
            fft.dctn(a, type=kind)
    for wrong in (lambda: fft.dctn(host), lambda: ndimage.gaussian_filter(host, 1.0)):
        with pytest.raises(TypeError):
            wrong()
    if fakecupy.real is not None:
        with pytest.raises(TypeError):
            fft.dctn(a, workers=2)
    before = fakecupy.transfers["ndimage.label"]
    labels, count = ndimage.label(a > 0)
    assert isinstance(labels, cupy.ndarray)
    assert int(labels.max()) == count
    assert fakecupy.transfers["ndimage.label"] == before + 1


def test_pinned_arrays(cupy):
    cupyx = pytest.importorskip("cupyx")
    assert cupyx.empty_pinned((2, 3), numpy.uint8).shape == (2, 3)
    assert not cupyx.zeros_pinned(5, numpy.float32).any()
