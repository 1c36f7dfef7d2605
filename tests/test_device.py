"""Which device is chosen and what is said about it; what `gpufuse doctor` tells."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gpufuse
from gpufuse import device, hardware
from gpufuse.device import Device, diagnosis, select_device
from gpufuse.errors import ConfigError, DeviceError
from gpufuse.hardware import GpuFacts

FACTS = GpuFacts(
    name="NVIDIA H200",
    compute_capability=(9, 0),
    total_memory=140 << 30,
    free_memory=139 << 30,
    multiprocessors=132,
    driver="580.65.06",
    driver_cuda="13.0",
    runtime_cuda="13.2",
    nvrtc="13.5",
    cupy="14.2.0",
    cupy_packages=("cupy-cuda13x 14.2.0",),
)


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with a GPU on which every kernel compiles; returns the sources that were compiled."""
    compiled: list[str] = []

    def module(*, code: str, options: tuple[str, ...]) -> Any:
        return SimpleNamespace(compile=lambda: compiled.append(code))

    monkeypatch.setattr(device, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(device, "gpu_facts", lambda: FACTS)
    monkeypatch.setattr(device, "describe_gpu", lambda: str(FACTS))
    monkeypatch.setattr(device, "nvdec_obstacle", lambda: None)
    monkeypatch.setattr(device, "nvenc_obstacle", lambda: "No capable devices found")
    monkeypatch.setattr(device, "import_cupy", lambda: SimpleNamespace(RawModule=module))
    return compiled


def told(name: str) -> list[str]:
    """The lines of the diagnosis under a name."""
    lines = diagnosis()
    assert all("\n" not in line and line == line.strip() for line in lines)
    assert all(re.match(r"[\w-]+ +\S", line) and line[9] == " " and line[10] != " " for line in lines)
    return [line[10:] for line in lines if line[:9].rstrip() == name]


# Choice


def test_the_gpu_is_chosen_where_it_works(stand_in: Any) -> None:
    reason = "cuemu, compute capability 9.0, 16.0 GiB of memory"
    assert select_device("cuda") == select_device("auto") == select_device() == Device("cuda", reason)


def test_the_cpu_is_chosen_without_asking_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_obstacle", lambda: pytest.fail("asked"))
    assert select_device("cpu") == Device("cpu", "as demanded")


def test_the_cpu_is_chosen_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_obstacle", lambda: "no NVIDIA driver")
    assert select_device("auto") == Device("cpu", "no NVIDIA driver")


def test_a_gpu_that_is_demanded_and_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_obstacle", lambda: "no room on NVIDIA H200")
    with pytest.raises(DeviceError) as caught:
        select_device("cuda")
    assert str(caught.value) == (
        "device: expected a usable GPU, found no room on NVIDIA H200; use --device cpu"
    )


def test_another_word() -> None:
    with pytest.raises(ConfigError, match="device: expected auto, cpu or cuda, got 'tpu'; choose one"):
        select_device("tpu")  # type: ignore[arg-type]


# Diagnosis


def test_a_machine_with_a_gpu(h200: list[str]) -> None:
    assert told("device") == ["cuda: NVIDIA H200, compute capability 9.0, 140.0 GiB of memory"]
    assert told("GPU") == [
        "NVIDIA H200, compute capability 9.0, 140.0 GiB of memory (139.0 GiB free), 132 multiprocessors"
    ]
    assert told("driver") == ["580.65.06, knows CUDA 13.0"]
    assert told("CuPy") == ["14.2.0 (cupy-cuda13x 14.2.0), CUDA 13.2"]
    assert told("NVRTC") == ["13.5"]
    assert told("NVDEC") == ["works"]
    assert told("NVENC") == ["does not work: No capable devices found"]
    (report,) = told("report")
    for word in ("device=cuda", "gpu=NVIDIA-H200", "driver=580.65.06", "cuda=13.2", "cupy=14.2.0",
                 "nvdec=yes", "nvenc=no", f"gpufuse={gpufuse.__version__}"):  # fmt: skip
        assert word in report.split()


def test_all_kernels_are_compiled(h200: list[str], root: Path) -> None:
    names = sorted(file.name for file in (root / "kernels").glob("*.cu"))
    (line,) = told("kernels")
    assert re.fullmatch(
        rf"{len(names)} CUDA sources in {re.escape(str(root / 'kernels'))}, all compile \(\d+\.\d s\)", line
    )
    assert [re.findall(r'#line 1 "kernels/(\w+\.cu)"', code) for code in h200] == [[name] for name in names]


def test_a_kernel_that_does_not_compile_is_named(h200: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def module(*, code: str, options: tuple[str, ...]) -> Any:
        if '"kernels/multigrid.cu"' in code:
            raise RuntimeError("kernels/multigrid.cu(7): error: x is undefined\n1 error detected")
        return SimpleNamespace(compile=lambda: None)

    monkeypatch.setattr(device, "import_cupy", lambda: SimpleNamespace(RawModule=module))
    (line,) = told("kernels")
    assert line.endswith(
        ", of which multigrid.cu does not compile: kernels/multigrid.cu(7): error: x is undefined "
        "1 error detected"
    )


def test_an_installation_without_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "__file__", str(tmp_path / "gpufuse" / "device.py"))
    assert told("kernels") == ["none found; install gpufuse again"]


def test_a_machine_without_cupy(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(hardware, "cupy_packages", lambda: ())
    (chosen,) = told("device")
    assert re.match("cpu: no .*CuPy", chosen)
    assert told("GPU") == ["not found (no CuPy)"]
    assert told("CuPy") == ["not installed"]
    assert told("NVRTC") == ["not found (no CuPy)"]
    assert told("NVDEC") == ["does not work without a usable GPU"]
    (kernels,) = told("kernels")
    assert kernels.endswith(f"CUDA sources in {root / 'kernels'}, not compiled without a usable GPU")
    (report,) = told("report")
    for word in ("device=cpu", "gpu=none", "cuda=none", "cupy=none", "nvdec=no"):
        assert word in report.split()


def test_two_packages_of_cupy(h200: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("cupy-cuda12x 14.2.0", "cupy-cuda13x 14.2.0")
    way = "which get in each other's way: uninstall all of them, then install one"
    monkeypatch.setattr(device, "gpu_facts", lambda: GpuFacts(cupy_packages=both, unknown={"cupy": "X"}))
    assert told("CuPy") == [f"not found (X); {', '.join(both)}, {way}"]


def test_caches_and_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(device.tempfile, "tempdir", str(tmp_path))
    numba, cupy = told("cache")
    assert re.match("numba: /.*writable$|numba: none, kernels are compiled anew", numba)
    assert cupy == f"CuPy: {tmp_path}, writable"
    (temp,) = told("temp")
    assert re.fullmatch(rf"{tmp_path}, writable, \d+\.\d GiB free", temp)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "new" / "er"))
    assert told("cache")[1] == f"CuPy: {tmp_path / 'new' / 'er'}, writable (not there yet)"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", "/proc/self/cache")
    assert told("cache")[1].startswith("CuPy: /proc/self/cache, cannot be written (")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing is left behind


def test_numba_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpufuse.kernels_cpu import mixing

    monkeypatch.setattr(mixing, "_mix", SimpleNamespace(stats=SimpleNamespace(cache_path=None)))
    assert told("cache")[0] == ("numba: none, kernels are compiled anew in each process; set NUMBA_CACHE_DIR")


def test_everything_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> Any:
        raise OSError("broken\nin two lines")

    for name in ("cuda_obstacle", "nvdec_obstacle", "nvenc_obstacle", "_codecs", "_numba_cache", "_gpu", "_driver",
                 "_cupy", "_kernels", "_writable", "_temporary_folder", "get_threads"):  # fmt: skip
        monkeypatch.setattr(device, name, broken)
    monkeypatch.setattr(device.metadata, "version", broken)
    unknown = "unknown (OSError: broken in two lines)"
    for name in ("device", "GPU", "driver", "CuPy", "kernels", "NVENC", "codecs", "threads", "temp"):
        assert told(name) == [unknown]
    assert told("cache") == [f"numba: {unknown}", f"CuPy: {unknown}"]
    assert told("numpy") == ["missing"]
    (report,) = told("report")
    assert "device=cpu" in report


def test_a_cupy_that_raises_at_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(f"no {name}")

    monkeypatch.setitem(sys.modules, "cupy", Broken("cupy"))
    assert told("device") == ["cpu: no usable NVIDIA GPU (RuntimeError: no cuda)"]
    assert told("GPU") == ["not found (RuntimeError: no cuda)"]
    assert told("CuPy")[0].startswith("not found (RuntimeError: no __version__)")


def test_the_diagnosis_of_the_stand_in(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_kernels", lambda usable: str(usable))
    hardware.nvdec_obstacle.cache_clear()
    assert told("device") == ["cuda: cuemu, compute capability 9.0, 16.0 GiB of memory"]
    assert told("kernels") == ["True"]
    assert re.match("works|does not work: ", told("NVDEC")[0])
    hardware.nvdec_obstacle.cache_clear()
