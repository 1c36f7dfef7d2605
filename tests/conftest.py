"""Fixtures that several test files share."""

import contextlib
import dataclasses
import os
import pathlib
import threading
from typing import Any

import numpy
import pytest

import gpufuse
from gpufuse.hardware import import_cupy

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--gpu", action="store_true", help="run the tests of the CUDA kernels on a GPU")
    parser.addoption(
        "--no-pool",
        action="store_true",
        help="with --gpu: no memory pool, which hides what compute-sanitizer seeks",
    )


@pytest.fixture(params=["check", "fast-reversed"])
def cp(request):
    """CuPy, for the test of a kernel: the stand-in whose kernels the emulator runs, or the real one with --gpu."""
    mode, _, order = request.param.partition("-")
    if request.config.getoption("--gpu") and mode != "check":
        pytest.skip("one run is enough on a GPU")
    yield from cupy_of(request, mode=mode, order=1 if order else 0)


@pytest.fixture
def gpu(request):
    """CuPy, for the test of a whole path: the stand-in at its fastest, or the real one with --gpu."""
    yield from cupy_of(request, mode="fast")


def cupy_of(request, **settings):
    if request.config.getoption("--gpu"):
        cupy = import_cupy()
        cupy.cuda.Device().use()  # no GPU is a failure here, not a skip
        if request.config.getoption("--no-pool"):
            cupy.cuda.set_allocator(None)
        yield cupy
        return
    with emulated(**settings) as module:
        yield module


@contextlib.contextmanager
def emulated(**settings):
    """The stand-in for CuPy, with --gpu too; where the emulator cannot run, the test is skipped."""
    from cuemu import fakecupy, need, unavailable

    need(unavailable())
    with fakecupy.installed(**settings) as module:
        yield module


@pytest.fixture
def stand_in():
    """CuPy of the emulator, for a test of what is asked of CuPy."""
    with emulated(mode="fast") as module:
        yield module


class NoHostCopy:
    """Context in which a copy from the device to the host is an error, in every thread, unless it is allowed."""

    def __init__(self, cupy, monkeypatch):
        self._cupy, self._monkeypatch = cupy, monkeypatch
        self._emulated = hasattr(cupy, "no_transfers")
        self._exempt = threading.local()

    @contextlib.contextmanager
    def __call__(self):
        with self._cupy.no_transfers() if self._emulated else self._monkeypatch.context() as patch:
            for name in (
                () if self._emulated else ("get", "item", "tolist", "__float__", "__int__", "__bool__")
            ):
                patch.setattr(self._cupy.ndarray, name, self._refusing(getattr(self._cupy.ndarray, name)))
            yield

    def _refusing(self, method):
        def refuse(array, *arguments, **keywords):
            if getattr(self._exempt, "active", False):
                return method(array, *arguments, **keywords)
            raise AssertionError("copy from the device to the host, where none is allowed")

        return refuse

    @contextlib.contextmanager
    def allowed(self):
        """Within the context, allow this thread to copy: the download of results."""
        if self._emulated:
            with self._cupy.allowed():
                yield
            return
        self._exempt.active = True
        try:
            yield
        finally:
            self._exempt.active = False


@pytest.fixture
def no_host_copy(gpu, monkeypatch):
    return NoHostCopy(gpu, monkeypatch)


@pytest.fixture
def rng():
    return numpy.random.default_rng(20040120)


@pytest.fixture
def root():
    """Folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder():
    folder = pathlib.Path(os.environ.get("GPUFUSE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real footage at {folder}; set GPUFUSE_DATA")
    return folder


@pytest.fixture
def threads():
    """Setter of the thread count, undone after the test."""
    before = gpufuse.get_threads()
    yield gpufuse.set_threads
    gpufuse.set_threads(before)


@dataclasses.dataclass(frozen=True)
class Street:
    """A street by day and by night; planar float32 levels that are whole numbers."""

    day: Any
    """(3, H, W): walls, a road, windows that are dark."""
    night: Any
    """(T, 3, H, W): dark, a lit window, noise, a car with lamps that drives through."""

    @property
    def day_image(self):
        return numpy.ascontiguousarray(numpy.moveaxis(self.day, 0, -1).astype(numpy.uint8))

    @property
    def night_images(self):
        return numpy.ascontiguousarray(numpy.moveaxis(self.night, 1, -1).astype(numpy.uint8))


def street(height=31, width=45, count=40, noise=2.0, seed=3):
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:height, :width]
    tint = numpy.array([1.0, 0.9, 0.8])[:, None, None]
    wall = 90 + 50 * (x // 7 % 2) + 20 * (y // 5 % 2)
    road = y > 2 * height // 3
    day = numpy.where(road, 120.0 - x / 3, wall) * tint
    dark = numpy.where(road, 14.0, 6.0 + wall / 20) * tint
    dark[:, 3:8, 5:11] = numpy.array([230.0, 200.0, 120.0])[:, None, None]
    night = numpy.repeat(dark[None], count, axis=0)
    for t in range(count):
        front = (2 * t) % (width + 16)
        rows = slice(2 * height // 3 + 2, 2 * height // 3 + 7)
        night[t, :, rows, max(0, front - 12) : max(0, front)] += 30
        night[t, :, rows, max(0, front - 2) : max(0, front)] = 245
    night += rng.normal(0, noise, night.shape)
    day += rng.normal(0, 1, day.shape)
    return Street(*(numpy.rint(p.clip(0, 255)).astype(numpy.float32) for p in (day, night)))


@pytest.fixture(scope="session")
def make_street():
    """Scenes of other sizes and lengths."""
    return street


@pytest.fixture(scope="session")
def scene():
    return street()
