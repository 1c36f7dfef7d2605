"""Probes of the GPU and of its video hardware: every obstacle has its own words."""

from __future__ import annotations

import ctypes
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from gpufuse import hardware
from gpufuse.hardware import cuda_obstacle, gpu_facts, nvdec_obstacle, nvenc_obstacle


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    before = sys.modules.get("cupy")
    for probe in (nvdec_obstacle, nvenc_obstacle):
        probe.cache_clear()
    yield
    for probe in (nvdec_obstacle, nvenc_obstacle):
        probe.cache_clear()
    sys.modules.pop("cupy", None)
    if before is not None:
        sys.modules["cupy"] = before


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def fails(error: BaseException) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        raise error

    return call


class Device:
    id = 0
    mem_info = (3 << 30, 80 << 30)


def fake_cupy(
    *,
    count: Callable[[], int] = lambda: 1,
    capability: tuple[int, int] = (9, 0),
    compile_: Callable[..., Any] | None = None,
    zeros: Callable[..., Any] | None = None,
    nvrtc: Callable[[], Any] = lambda: (13, 5),
    runtime: int = 13020,
) -> types.ModuleType:
    """A CuPy on one H200 whose trial kernel works, unless told otherwise."""
    made: Any = types.ModuleType("cupy")
    made.__version__ = "14.2.0"
    properties = {
        "name": b"NVIDIA H200",
        "major": capability[0],
        "minor": capability[1],
        "totalGlobalMem": 80 << 30,
        "multiProcessorCount": 132,
    }
    made.cuda = SimpleNamespace(
        Device=Device,
        nvrtc=SimpleNamespace(getVersion=nvrtc),
        runtime=SimpleNamespace(
            getDeviceCount=count,
            getDeviceProperties=lambda index: properties,
            runtimeGetVersion=lambda: runtime,
        ),
    )

    def launch(grid: Any, block: Any, arguments: Any) -> None:
        arguments[0][0] = 41

    made.zeros = zeros or numpy.zeros
    made.RawModule = compile_ or (lambda code: SimpleNamespace(get_function=lambda name: launch))
    sys.modules["cupy"] = made
    return made  # type: ignore[no-any-return]


def driver(monkeypatch: pytest.MonkeyPatch, cuda: int | None, number: bytes = b"580.65.06") -> None:
    """Let the libraries of a driver be found that knows a version of CUDA, or none."""

    def tell(reference: Any) -> int:
        reference._obj.value = cuda
        return 0

    def write(text: Any, size: int) -> int:
        text.value = number
        return 0

    def load(name: str) -> Any:
        if cuda is None:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(
            cuDriverGetVersion=tell,
            nvmlInit_v2=lambda: 0,
            nvmlSystemGetDriverVersion=write,
            nvmlShutdown=lambda: 0,
        )

    monkeypatch.setattr(hardware.ctypes, "CDLL", load)


# CUDA


def test_no_obstacle_with_a_cupy_that_works(stand_in: Any) -> None:
    assert cuda_obstacle() is None
    assert stand_in.launches["trial"]


def test_no_cupy_and_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    driver(monkeypatch, None)
    assert cuda_obstacle() == (
        "no NVIDIA driver and no CuPy (with a driver: pip install 'gpufuse[cuda13]' or [cuda12])"
    )


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (13000, "no CuPy (the driver knows CUDA 13.0: pip install 'gpufuse[cuda13]')"),
        (14010, "no CuPy (the driver knows CUDA 14.1: pip install 'gpufuse[cuda13]')"),
        (12080, "no CuPy (the driver knows CUDA 12.8: pip install 'gpufuse[cuda12]')"),
    ],
)
def test_no_cupy_names_the_extra_for_the_driver(
    known: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    driver(monkeypatch, known)
    assert cuda_obstacle() == words


def broken_cupy(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("cupy", None)
    monkeypatch.setattr(hardware, "cupy_packages", lambda: ("cupy-cuda13x 14.2.0",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ImportError('no libstdc++')", "ImportError: no libstdc++"),
        ("raise AttributeError('numpy has no x')", "AttributeError: numpy has no x"),
        ("import a_module_that_it_needs", "ModuleNotFoundError: No module named 'a_module_that_it_needs'"),
        ("raise RuntimeError", "RuntimeError"),
        (
            "raise ImportError('\\n=====\\nFailed to import CuPy.\\n\\nOriginal error:\\n"
            "  ImportError: libx.so\\n====\\n')",
            "ImportError: libx.so",
        ),
    ],
)
def test_a_broken_cupy(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cupy(tmp_path, monkeypatch, text)
    assert cuda_obstacle() == f"a CuPy that cannot be imported ({words})"


def test_two_packages_of_cupy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cupy(tmp_path, monkeypatch, "raise ImportError")
    monkeypatch.setattr(hardware, "cupy_packages", lambda: ("cupy-cuda12x 14.2.0", "cupy-cuda13x 14.2.0"))
    assert cuda_obstacle() == (
        "a CuPy that cannot be imported, for 2 of them are installed (cupy-cuda12x 14.2.0, "
        "cupy-cuda13x 14.2.0; uninstall all of them, then install one)"
    )


def test_the_packages_of_cupy_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "cupy-cuda13x",
        "cupy_cuda12x",
        "cupy",
        "cupy-rocm-7-0",
        "cupyx-thing",
        "numpy",
        "cupy-demo",
        None,
    ]
    monkeypatch.setattr(
        hardware.metadata,
        "distributions",
        lambda: [SimpleNamespace(name=name, version="1") for name in names],
    )
    assert hardware.cupy_packages() == ("cupy 1", "cupy-cuda13x 1", "cupy-rocm-7-0 1", "cupy_cuda12x 1")


def test_warnings_of_cupy_are_no_errors_and_those_of_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_cupy(tmp_path, monkeypatch, "import warnings\nwarnings.warn('multiple packages')")
    assert hardware.import_cupy().__file__ == str(tmp_path / "cupy" / "__init__.py")
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    monkeypatch.setenv("CUPY_CACHE_DIR", str(folder))
    broken_cupy(tmp_path, monkeypatch, "import os\nos.makedirs(os.environ['CUPY_CACHE_DIR'], exist_ok=True)")
    assert cuda_obstacle() == (
        f"a folder of compiled kernels that cannot be used ({folder}: Not a directory; "
        "set CUPY_CACHE_DIR to another)"
    )


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    fake_cupy(compile_=fails(PermissionError(13, "Permission denied", str(tmp_path / "tmp1"))))
    assert cuda_obstacle() == (
        f"a folder of compiled kernels that cannot be used ({tmp_path}: Permission denied; "
        "set CUPY_CACHE_DIR to another)"
    )
    fake_cupy(compile_=fails(PermissionError(13, "Permission denied", "/elsewhere")))
    assert cuda_obstacle() == (
        "NVIDIA H200, on which a trial kernel fails "
        "(PermissionError: [Errno 13] Permission denied: '/elsewhere')"
    )


INSUFFICIENT = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")


@pytest.mark.parametrize(
    ("known", "needed", "words"),
    [
        (None, 13020, "no NVIDIA driver"),
        (
            12040,
            13020,
            "an NVIDIA driver too old for CuPy (it knows CUDA 12.4, CuPy uses CUDA 13.2; "
            "update the driver, or pip install 'gpufuse[cuda12]' instead)",
        ),
        (
            11040,
            12090,
            "an NVIDIA driver too old for CuPy (it knows CUDA 11.4, CuPy uses CUDA 12.9; update the driver)",
        ),
    ],
)
def test_a_driver_that_does_not_suffice(
    known: int | None, needed: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cupy(count=fails(INSUFFICIENT), runtime=needed)
    driver(monkeypatch, known)
    assert cuda_obstacle() == words


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake_cupy(count=lambda: 0)
    assert cuda_obstacle() == "no NVIDIA GPU"
    fake_cupy(count=fails(CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")))
    assert cuda_obstacle() == "no NVIDIA GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda_obstacle() == "no NVIDIA GPU (CUDA_VISIBLE_DEVICES is '')"


def test_a_driver_that_fails() -> None:
    fake_cupy(count=fails(CUDARuntimeError("cudaErrorUnknown: unknown error")))
    assert cuda_obstacle() == "no usable NVIDIA GPU (CUDARuntimeError: cudaErrorUnknown: unknown error)"


def test_a_device_that_is_too_old() -> None:
    fake_cupy(capability=(7, 0))
    assert cuda_obstacle() == "NVIDIA H200 of compute capability 7.0, too old: 7.5 is needed"
    for enough in (7, 5), (10, 0), (12, 0):
        fake_cupy(capability=enough)
        assert cuda_obstacle() is None


def test_no_nvrtc() -> None:
    missing = RuntimeError('Failure finding "libnvrtc.so.13"')
    fake_cupy(compile_=fails(missing), nvrtc=fails(missing))
    assert cuda_obstacle() == "no NVRTC, which compiles the kernels (pip install 'gpufuse[cuda13]')"
    fake_cupy(compile_=fails(missing), nvrtc=fails(missing), runtime=12090)
    assert cuda_obstacle() == "no NVRTC, which compiles the kernels (pip install 'gpufuse[cuda12]')"


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 512 bytes"),
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_no_room(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(zeros=fails(error))
    assert cuda_obstacle() == "no room on NVIDIA H200 (3.0 GiB free of 80.0 GiB)"
    monkeypatch.setattr(Device, "mem_info", property(fails(error)), raising=False)
    assert cuda_obstacle() == "no room on NVIDIA H200"


def test_a_trial_that_fails_or_lies() -> None:
    busy = CUDARuntimeError("cudaErrorDevicesUnavailable: busy\nor unavailable")
    fake_cupy(compile_=fails(busy))
    assert cuda_obstacle() == (
        "NVIDIA H200, on which a trial kernel fails (CUDARuntimeError: cudaErrorDevicesUnavailable: busy)"
    )
    fake_cupy(compile_=lambda code: SimpleNamespace(get_function=lambda name: lambda *arguments: None))
    assert cuda_obstacle() == (
        "NVIDIA H200, on which a trial kernel fails (RuntimeError: it answered 1 instead of 42)"
    )


# Facts


def test_facts_of_the_stand_in(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 13000)
    facts = gpu_facts()
    assert (facts.name, facts.compute_capability, facts.multiprocessors) == ("cuemu", (9, 0), 132)
    assert facts.total_memory == 1 << 34
    assert facts.free_memory is not None
    assert 0 < facts.free_memory <= 1 << 34
    assert (facts.driver, facts.driver_cuda) == ("580.65.06", "13.0")
    assert str(facts) == "cuemu, compute capability 9.0, 16.0 GiB of memory"
    assert set(facts.unknown) <= {"runtime_cuda", "nvrtc"}


def test_facts_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 13010)
    fake_cupy()
    facts = gpu_facts()
    assert not facts.unknown
    assert (facts.runtime_cuda, facts.nvrtc, facts.cupy) == ("13.2", "13.5", "14.2.0")
    assert facts.free_memory == 3 << 30
    assert str(facts) == "NVIDIA H200, compute capability 9.0, 80.0 GiB of memory"


def test_facts_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    driver(monkeypatch, None)
    facts = gpu_facts()
    assert str(facts) == "no known GPU"
    unknown = {name for name, value in vars(facts).items() if value is None}
    assert set(facts.unknown) == unknown
    assert unknown == set(vars(facts)) - {"unknown", "cupy_packages"}
    assert facts.unknown["name"] == facts.unknown["nvrtc"] == "no CuPy"
    assert facts.unknown["driver"] == "OSError: libnvidia-ml.so.1: cannot open shared object file"


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SimpleNamespace(cuDriverGetVersion=lambda reference: 34, nvmlInit_v2=lambda: 9)
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: silent)
    monkeypatch.setitem(sys.modules, "cupy", None)
    facts = gpu_facts()
    assert facts.unknown["driver_cuda"] == "OSError: the driver does not tell its version (status 34)"
    assert facts.unknown["driver"] == "OSError: the driver does not tell its version (status 9)"


# Video


def no_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def test_nvdec_needs_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cuda_obstacle", lambda: "no NVIDIA GPU")
    assert nvdec_obstacle() == "no NVIDIA GPU"


@pytest.mark.skipif(not no_driver(), reason="there is a driver")
def test_nvdec_without_a_driver_tells_what_ffmpeg_told(stand_in: Any) -> None:
    import av

    level = av.logging.get_level()
    assert nvdec_obstacle() == "Cannot load libcuda.so.1; Could not dynamically load CUDA"
    assert av.logging.get_level() == level


def test_nvdec_asks_for_frames_in_the_context_of_cupy(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "av.codec.hwaccel.HWAccel", lambda *arguments, **keywords: asked.append((arguments, keywords))
    )
    assert nvdec_obstacle() == "frames arrive as yuv420p in host memory"
    ((arguments, keywords),) = asked
    assert arguments == ("cuda",)
    assert keywords["options"] == {"primary_ctx": "0", "current_ctx": "1"}
    assert keywords["allow_software_fallback"] is False


def frames_on_the_gpu(monkeypatch: pytest.MonkeyPatch, arriving: Callable[[list[Any]], list[Any]]) -> None:
    """Let frames that software decodes seem to lie on the GPU: those that `arriving` makes of all of them."""
    import av

    monkeypatch.setattr("av.codec.hwaccel.HWAccel", lambda *arguments, **keywords: None)
    opened = av.open

    class OnGpu:
        def __init__(self, container: Any) -> None:
            self.container = container

        def __enter__(self) -> OnGpu:
            return self

        def __exit__(self, *error: object) -> None:
            self.container.close()

        def decode(self, video: int) -> Iterator[Any]:
            for frame in arriving(list(self.container.decode(video=video))):
                yield SimpleNamespace(format=SimpleNamespace(name="cuda"), planes=frame.planes)

    monkeypatch.setattr(
        av, "open", lambda *a, **k: OnGpu(opened(*a, **k)) if a[1] == "r" else opened(*a, **k)
    )


@pytest.mark.parametrize(("count", "words"), [(4, None), (3, "it gave 3 of 4 frames")])
def test_nvdec_works_if_every_frame_is_on_the_gpu(
    count: int, words: str | None, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arriving(frames: list[Any]) -> list[Any]:
        assert (frames[0].width, frames[0].height, len(frames)) == (256, 128, 4)
        return frames[:count]

    frames_on_the_gpu(monkeypatch, arriving)
    assert nvdec_obstacle() == words


def test_nvdec_that_gives_wrong_pictures(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def arriving(frames: list[Any]) -> list[Any]:
        for frame in frames:
            frame.planes[0].update(bytes([120]) * frame.planes[0].buffer_size)
        return frames

    frames_on_the_gpu(monkeypatch, arriving)
    assert nvdec_obstacle() == "frames arrive with wrong brightness"


def test_nvdec_without_words_of_ffmpeg(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codec.hwaccel.HWAccel", fails(ValueError("no such device")))
    assert nvdec_obstacle() == "ValueError: no such device"


def test_nvdec_without_pyav(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_tiny_clip", fails(ImportError("libavcodec")))
    assert nvdec_obstacle() == "PyAV cannot be used (ImportError: libavcodec)"


def test_nvenc_needs_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cuda_obstacle", lambda: "no NVIDIA GPU")
    assert nvenc_obstacle() == "no NVIDIA GPU"


ON_HOST = hardware._NVENC_TRIAL.replace("import cupy\n", "import numpy as cupy\n").replace(
    "surfaces", "codes"
)
"""The trial with an encoder that is here, from the host's memory."""


def child(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> str | None:
    assert old in ON_HOST
    monkeypatch.setattr(hardware, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(hardware, "_NVENC_TRIAL", ON_HOST.replace(old, new))
    return nvenc_obstacle()


def test_nvenc_works_where_an_encoder_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ON_HOST.count("numpy") == ON_HOST.count('source="codes"') == 1
    assert child(monkeypatch, "", "") is None


def test_nvenc_is_tried_with_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child(monkeypatch, "", "") is None
    tells = ON_HOST.replace("if len(found)", "sys.exit(f'{width}x{height}')\nif len(found)", 1)
    monkeypatch.setattr(hardware, "_NVENC_TRIAL", tells)
    assert nvenc_obstacle() is None  # asked already
    assert nvenc_obstacle(320, 180) == "320x180"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('source="codes"', 'source="surfaces"', "OutputError: trial.mp4: expected to encode and write it"),
        ("found = [", "found = [0 for _ in range(3)] or [", "it gave 3 of 4 frames"),
        ("found = [", "found = [0 for _ in range(4)] or [", "it gave wrong pictures"),
        ("import av\n", "import os; os.kill(os.getpid(), 11)\n", "it crashed (signal 11)"),
        ("import av\n", "sys.exit(3)\n", "it ended with code 3"),
        ("import av\n", "import a_lost_module\n", "ModuleNotFoundError: No module named 'a_lost_module'"),
    ],
)
def test_nvenc_that_does_not_work(old: str, new: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (child(monkeypatch, old, new) or "").startswith(words)


def test_nvenc_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_PATIENCE", 0.5)
    assert child(monkeypatch, "import av\n", "import time; time.sleep(60)\n") == "it gave no answer in 0.5 s"


def test_nvenc_without_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(hardware.sys, "executable", "/no/python")
    assert nvenc_obstacle() == (
        "no child process could be started "
        "(FileNotFoundError: [Errno 2] No such file or directory: '/no/python')"
    )


def test_a_module_in_the_working_folder_is_not_taken_for_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    assert child(monkeypatch, "", "") is None


def test_the_real_cupy_is_asked_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("cupy")
    import subprocess

    program = "from gpufuse.hardware import cuda_obstacle, gpu_facts; print(cuda_obstacle()); gpu_facts()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(hardware.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if no_driver():
        assert done.stdout == "no NVIDIA driver\n"
