"""What the graphics hardware of this machine can do: each answer comes from trying, never from a name.

A probe returns what stands in the way in a few words, or None where nothing does.
"""

from __future__ import annotations

import ctypes
import functools
import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from gpufuse.transfers import on_default_stream

__all__ = [
    "GpuFacts",
    "cuda_obstacle",
    "cupy_packages",
    "describe_gpu",
    "gibibytes",
    "gpu_facts",
    "import_cupy",
    "kernel_cache_folder",
    "nvdec_acceleration",
    "nvdec_obstacle",
    "nvenc_obstacle",
]

OLDEST = (7, 5)
"""The oldest compute capability that the kernels are written and compiled for (Turing)."""

# NVDEC refuses H.264 below 48x16, NVENC below 145x49.
_WIDTH, _HEIGHT, _FRAMES = 256, 128, 4

_TRIAL = 'extern "C" __global__ void trial(int* answer) { answer[0] = 41; }'

_PATIENCE = 60
"""Seconds within which a child process has to answer."""

# In a child: a driver or a codec may crash. By the writer itself, from the GPU's memory, and read back.
_NVENC_TRIAL = f"""
import sys, tempfile
sys.path.append({str(Path(__file__).resolve().parent.parent)!r})
from fractions import Fraction
from pathlib import Path
import av
import cupy
from gpufuse.writer import ClipWriter
av.logging.set_level(av.logging.ERROR)
width, height = map(int, sys.argv[1:])
with av.logging.Capture() as told, tempfile.TemporaryDirectory() as folder:
    try:
        codes = cupy.full(({_FRAMES}, height * 3 // 2, width), 128, "uint8")
        codes[:, :height] = 60 + 20 * cupy.arange({_FRAMES}, dtype="uint8")[:, None, None]
        int(codes[0, 0, 0])  # waits until they are there
        clip = Path(folder) / "trial.mp4"
        with ClipWriter(clip, width, height, Fraction(1, 25), 25, source="surfaces") as writer:
            writer.write_codes(codes, range({_FRAMES}))
        with av.open(str(clip)) as container:
            found = [int(frame.to_ndarray()[height // 2, width // 2]) for frame in container.decode()]
    except Exception as error:
        lines = [" ".join(line[2].split()) for line in told[:2]]
        sys.exit("; ".join(lines) or " ".join(f"{{type(error).__name__}}: {{error}}".split()))
if len(found) != {_FRAMES}:
    sys.exit(f"it gave {{len(found)}} of {_FRAMES} frames")
if any(abs(level - 60 - 20 * time) > 4 for time, level in enumerate(found)):
    sys.exit("it gave wrong pictures")
"""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class GpuFacts:
    """The GPU that would compute, its driver, and the CUDA libraries in use; None where it is unknown.

    Attributes
    ----------
    name : str or None
    compute_capability : tuple of int or None
        Major and minor.
    total_memory, free_memory : int or None
        Bytes.
    multiprocessors : int or None
    driver : str or None
        As the driver tells it, such as ``"580.65.06"``.
    driver_cuda, runtime_cuda, nvrtc : str or None
        Versions of CUDA: the newest that the driver knows, the one in CuPy, that of the compiler.
    cupy : str or None
        Version of the module that is imported.
    cupy_packages : tuple of str
        Names and versions of the packages installed; more than one get in each other's way.
    unknown : mapping of str to str
        For each name above that is None, the reason.
    """

    name: str | None = None
    compute_capability: tuple[int, int] | None = None
    total_memory: int | None = None
    free_memory: int | None = None
    multiprocessors: int | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    runtime_cuda: str | None = None
    nvrtc: str | None = None
    cupy: str | None = None
    cupy_packages: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.name is None or self.compute_capability is None or self.total_memory is None:
            return "no known GPU"
        major, minor = self.compute_capability
        return f"{self.name}, compute capability {major}.{minor}, {gibibytes(self.total_memory)} of memory"


def gibibytes(count: int) -> str:
    """Write a number of bytes for a reader.

    Parameters
    ----------
    count : int

    Returns
    -------
    str

    Examples
    --------
    >>> gibibytes(150 * 2**30 // 4)
    '37.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB"


# -------------------------------------------------------------------------------------------- CUDA


def cuda_obstacle() -> str | None:
    """Tell what prevents computing on the GPU.

    Returns
    -------
    str or None
        None after a kernel of ours and one of CuPy's were compiled, ran, and gave the right answer.
    """
    try:
        cupy = import_cupy()
    except Exception as error:
        return _import_obstacle(error)
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return _no_device()
    except Exception as error:
        return _driver_obstacle(cupy, error)
    name = "a GPU"
    try:
        properties = _properties(cupy)
        name = properties["name"].decode()
        capability = properties["major"], properties["minor"]
        if capability < OLDEST:
            return "{} of compute capability {}.{}, too old: {}.{} is needed".format(
                name, *capability, *OLDEST
            )
        _run_trial(cupy)
    except Exception as error:
        return _trial_obstacle(cupy, name, error)
    return None


def import_cupy() -> Any:
    """Import CuPy without its warnings about what else is installed; `gpufuse doctor` tells those.

    Returns
    -------
    module

    Raises
    ------
    Exception
        Whatever CuPy raises: a broken installation raises more than ``ImportError``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(cupy|cupyx|cupy_backends|cuda)(\.|$)")
        import cupy
    return cupy


def _run_trial(cupy: Any) -> None:
    """Let the GPU answer 42: it takes the compiler, the driver, memory, and CuPy's own headers."""
    answer = cupy.zeros(1, "int32")
    cupy.RawModule(code=_TRIAL).get_function("trial")((1,), (1,), (answer,))
    answer += 1
    if int(answer[0]) != 42:
        raise RuntimeError(f"it answered {int(answer[0])} instead of 42")


def _import_obstacle(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        known = _driver_cuda()
        if known is None:
            return "no NVIDIA driver and no CuPy (with a driver: pip install 'gpufuse[cuda13]' or [cuda12])"
        extra = "cuda13" if known >= 13000 else "cuda12"
        return f"no CuPy (the driver knows CUDA {_cuda_version(known)}: pip install 'gpufuse[{extra}]')"
    packages = cupy_packages()
    if len(packages) > 1:
        return (
            f"a CuPy that cannot be imported, for {len(packages)} of them are installed "
            f"({', '.join(packages)}; uninstall all of them, then install one)"
        )
    return _cache_obstacle(error) or f"a CuPy that cannot be imported ({_in_words(error)})"


def _driver_obstacle(cupy: Any, error: Exception) -> str:
    text = str(error)
    if "NoDevice" in text:
        return _no_device()
    if "InsufficientDriver" not in text:
        return f"no usable NVIDIA GPU ({_in_words(error)})"
    known = _driver_cuda()
    if known is None:
        return "no NVIDIA driver"
    needed = int(cupy.cuda.runtime.runtimeGetVersion())
    other = ", or pip install 'gpufuse[cuda12]' instead" if needed >= 13000 > known >= 12000 else ""
    return (
        f"an NVIDIA driver too old for CuPy (it knows CUDA {_cuda_version(known)}, "
        f"CuPy uses CUDA {_cuda_version(needed)}; update the driver{other})"
    )


def _no_device() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "no NVIDIA GPU" + ("" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})")


def _trial_obstacle(cupy: Any, name: str, error: Exception) -> str:
    if isinstance(error, MemoryError) or re.search("out.?of.?memory|MemoryAllocation", str(error), re.I):
        try:
            free, total = cupy.cuda.Device().mem_info
            return f"no room on {name} ({gibibytes(free)} free of {gibibytes(total)})"
        except Exception:  # where not even the question finds room
            return f"no room on {name}"
    try:
        cupy.cuda.nvrtc.getVersion()
    except AttributeError:
        pass  # a CuPy that has no such module would not have compiled anything with it
    except Exception:
        return f"no NVRTC, which compiles the kernels (pip install 'gpufuse[{_extra(cupy)}]')"
    return _cache_obstacle(error) or f"{name}, on which a trial kernel fails ({_in_words(error)})"


def _extra(cupy: Any) -> str:
    try:
        return "cuda12" if cupy.cuda.runtime.runtimeGetVersion() < 13000 else "cuda13"
    except Exception:
        return "cuda13"


def _cache_obstacle(error: Exception) -> str | None:
    """What to say if the error is that CuPy cannot keep compiled kernels: it does not work without."""
    folder = kernel_cache_folder()
    named = getattr(error, "filename", None)
    if not isinstance(error, OSError) or not isinstance(named, str):
        return None
    if not (folder.is_relative_to(named) or Path(named).is_relative_to(folder)):
        return None
    return (
        f"a folder of compiled kernels that cannot be used "
        f"({folder}: {error.strerror}; set CUPY_CACHE_DIR to another)"
    )


def kernel_cache_folder() -> Path:
    """Return the folder in which CuPy keeps compiled kernels.

    Returns
    -------
    pathlib.Path
        Need not exist.
    """
    return Path(os.environ.get("CUPY_CACHE_DIR") or Path("~/.cupy/kernel_cache").expanduser())


def cupy_packages() -> tuple[str, ...]:
    """Return the installed packages that bring a module ``cupy``.

    Returns
    -------
    tuple of str
        Names with versions.
    """
    found = {
        f"{package.name} {package.version}"
        for package in metadata.distributions()
        if re.fullmatch(r"(amd-)?cupy([-_](cuda|rocm)[-_\w]*)?", package.name or "")
    }
    return tuple(sorted(found))


def _in_words(error: BaseException) -> str:
    """The line of an error that says most, with its kind."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    lines = [line for line in lines if line.strip("=-~ ")]
    if "Original error:" in lines[:-1]:  # CuPy puts advice in front
        return lines[lines.index("Original error:") + 1]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind


# ------------------------------------------------------------------------------------------- facts


def describe_gpu() -> str:
    """Describe the GPU in a few words; only where `cuda_obstacle` finds none.

    Returns
    -------
    str
        Name, compute capability and memory.
    """
    properties = _properties(import_cupy())
    return str(
        GpuFacts(
            name=properties["name"].decode(),
            compute_capability=(properties["major"], properties["minor"]),
            total_memory=properties["totalGlobalMem"],
        )
    )


def _properties(cupy: Any) -> Any:
    """What CUDA tells of the current device."""
    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)


def gpu_facts() -> GpuFacts:
    """Ask for all that a report needs to know about the GPU; no answer is no error.

    Returns
    -------
    GpuFacts
    """
    unknown: dict[str, str] = {}

    def ask(name: str, question: Callable[[], _Value]) -> _Value | None:
        try:
            return question()
        except Exception as error:
            unknown[name] = _in_words(error)
            return None

    def asked_of_cupy(name: str, question: Callable[[Any], _Value]) -> _Value | None:
        if cupy is None:
            unknown[name] = obstacle
            return None
        return ask(name, lambda: question(cupy))

    cupy, obstacle = None, ""
    try:
        cupy = import_cupy()
    except ModuleNotFoundError:
        obstacle = "no CuPy"
    except Exception as error:
        obstacle = _import_obstacle(error)

    memory = asked_of_cupy("free_memory", lambda module: tuple(map(int, module.cuda.Device().mem_info)))
    return GpuFacts(
        name=asked_of_cupy("name", lambda module: str(_properties(module)["name"].decode())),
        compute_capability=asked_of_cupy(
            "compute_capability",
            lambda module: (int(_properties(module)["major"]), int(_properties(module)["minor"])),
        ),
        total_memory=asked_of_cupy("total_memory", lambda module: int(_properties(module)["totalGlobalMem"])),
        free_memory=None if memory is None else memory[0],
        multiprocessors=asked_of_cupy(
            "multiprocessors", lambda module: int(_properties(module)["multiProcessorCount"])
        ),
        driver=ask("driver", _driver_number),
        driver_cuda=ask("driver_cuda", lambda: _cuda_version(_known_by_driver())),
        runtime_cuda=asked_of_cupy(
            "runtime_cuda", lambda module: _cuda_version(int(module.cuda.runtime.runtimeGetVersion()))
        ),
        nvrtc=asked_of_cupy("nvrtc", lambda module: "{}.{}".format(*module.cuda.nvrtc.getVersion())),
        cupy=asked_of_cupy("cupy", lambda module: str(module.__version__)),
        cupy_packages=ask("cupy_packages", cupy_packages) or (),
        unknown=unknown,
    )


def _cuda_version(number: int) -> str:
    """13020 is 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver_cuda() -> int | None:
    try:
        return _known_by_driver()
    except OSError:
        return None


def _known_by_driver() -> int:
    """The newest CUDA that the driver knows, such as 13000; asked without CuPy."""
    library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    version = ctypes.c_int()
    status = library.cuDriverGetVersion(ctypes.byref(version))
    if status or not version.value:
        raise OSError(f"the driver does not tell its version (status {status})")
    return version.value


def _driver_number() -> str:
    """The driver's own version, from the management library that comes with each driver."""
    library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    status = library.nvmlInit_v2()
    if not status:
        text = ctypes.create_string_buffer(80)
        status = library.nvmlSystemGetDriverVersion(text, len(text))
        library.nvmlShutdown()
        if not status:
            return text.value.decode()
    raise OSError(f"the driver does not tell its version (status {status})")


# ------------------------------------------------------------------------------------------- video


@functools.cache
def nvdec_obstacle() -> str | None:
    """Tell what prevents decoding H.264 into the GPU's memory, by decoding a clip of a few frames.

    Returns
    -------
    str or None
        Asked once in a process.
    """
    obstacle = cuda_obstacle()
    if obstacle is not None:
        return obstacle
    try:
        import av

        clip = _tiny_clip()
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture() as told:
                try:
                    return _decode_on_gpu(clip)
                except Exception as error:
                    lines = [" ".join(line[2].split()) for line in told[:2]]
                    return "; ".join(lines) or _in_words(error)
        finally:
            av.logging.set_level(level)
    except Exception as error:
        return f"PyAV cannot be used ({_in_words(error)})"


def _tiny_clip() -> io.BytesIO:
    import av

    clip = io.BytesIO()
    with av.open(clip, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for time in range(_FRAMES):
            frame = av.VideoFrame(_WIDTH, _HEIGHT, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([100 + time]) * plane.buffer_size)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    clip.seek(0)
    return clip


def nvdec_acceleration() -> Any:
    """Return PyAV's acceleration that decodes into the memory of CuPy's current device.

    Returns
    -------
    av.codec.hwaccel.HWAccel
        What NVDEC cannot decode raises, it is not decoded by software.
    """
    from av.codec.hwaccel import HWAccel

    cupy = import_cupy()
    device = cupy.cuda.Device()
    cupy.zeros(1, "uint8")
    device.synchronize()  # from here on CuPy's context is the current one
    return HWAccel(
        "cuda",
        device=device.id,
        is_hw_owned=True,
        allow_software_fallback=False,
        # CuPy has set its own flags on the primary context; FFmpeg insists on others, so it borrows.
        options={"primary_ctx": "0", "current_ctx": "1"},
    )


def _decode_on_gpu(clip: io.BytesIO) -> str | None:
    """Decode into the context that CuPy uses, as frames have to be for our kernels, and look at them there."""
    import av

    cupy = import_cupy()
    count = 0
    with av.open(clip, "r", hwaccel=nvdec_acceleration()) as container:
        for frame in container.decode(video=0):
            if frame.format.name != "cuda":
                return f"frames arrive as {frame.format.name} in host memory"
            with on_default_stream(cupy):
                luma = cupy.from_dlpack(frame.planes[0].__dlpack__())
                level = int(luma[_HEIGHT // 2, _WIDTH // 2])
            if abs(level - (100 + count)) > 2:
                return "frames arrive with wrong brightness"
            count += 1
    return None if count == _FRAMES else f"it gave {count} of {_FRAMES} frames"


@functools.cache
def nvenc_obstacle(width: int = _WIDTH, height: int = _HEIGHT) -> str | None:
    """Tell what prevents encoding H.264 on the GPU, by writing a clip of a few frames in a child process.

    Parameters
    ----------
    width, height : int
        Of the frames, even: an encoder refuses small ones and large ones, others on each GPU.

    Returns
    -------
    str or None
        Asked once for a size in a process.
    """
    obstacle = cuda_obstacle()
    if obstacle is not None:
        return obstacle
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _NVENC_TRIAL, str(width), str(height)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer in {_PATIENCE} s"
    except OSError as error:
        return f"no child process could be started ({_in_words(error)})"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it crashed (signal {-done.returncode})"
    lines = done.stderr.split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else f"it ended with code {done.returncode}"
