"""Which device computes, and why; what `gpufuse doctor` tells."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from gpufuse._version import __version__
from gpufuse.errors import ConfigError, DeviceError
from gpufuse.hardware import (
    GpuFacts,
    cuda_obstacle,
    describe_gpu,
    gibibytes,
    gpu_facts,
    import_cupy,
    kernel_cache_folder,
    nvdec_obstacle,
    nvenc_obstacle,
)
from gpufuse.threads import get_threads

__all__ = ["Device", "DeviceName", "diagnosis", "select_device"]

DeviceName = Literal["auto", "cpu", "cuda"]

_PACKAGES = ("numpy", "scipy", "numba", "av", "pillow", "tqdm")


@dataclass(frozen=True)
class Device:
    """The device that computes.

    Attributes
    ----------
    name : {"cpu", "cuda"}
    reason : str
        Why this one, for the user: of a GPU its name, compute capability and memory.
    """

    name: Literal["cpu", "cuda"]
    reason: str


def select_device(wanted: DeviceName = "auto") -> Device:
    """Choose the device, never silently.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}

    Returns
    -------
    Device
        With ``"auto"`` the GPU if a small kernel was compiled and ran on it, else the CPU.

    Raises
    ------
    DeviceError
        If ``"cuda"`` is demanded and cannot be used.
    ConfigError
        For another word.

    Examples
    --------
    >>> select_device("cpu").name
    'cpu'
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu or cuda, got {wanted!r}; choose one")
    if wanted == "cpu":
        return Device("cpu", "as demanded")
    obstacle = cuda_obstacle()
    if obstacle is None:
        return Device("cuda", describe_gpu())
    if wanted == "cuda":
        raise DeviceError(f"device: expected a usable GPU, found {obstacle}; use --device cpu")
    return Device("cpu", obstacle)


def diagnosis() -> list[str]:
    """Facts about this installation, one a line; what cannot be found out says so.

    Returns
    -------
    list of str
        Ends with a line to paste into a bug report.
    """
    facts = gpu_facts()
    device = _asked(lambda: f"{(chosen := select_device('auto')).name}: {chosen.reason}")
    usable = device.startswith("cuda:")
    nvdec = _video(nvdec_obstacle) if usable else "does not work without a usable GPU"
    nvenc = _video(nvenc_obstacle)
    versions = {name: _version(name) for name in _PACKAGES}
    lines = [
        f"gpufuse   {__version__}",
        f"Python    {platform.python_version()} on {platform.platform()}",
        f"device    {device}",
        f"GPU       {_asked(lambda: _gpu(facts))}",
        f"driver    {_asked(lambda: _driver(facts))}",
        f"CuPy      {_asked(lambda: _cupy(facts))}",
        f"NVRTC     {facts.nvrtc or _unknown(facts, 'nvrtc')}",
        f"kernels   {_asked(lambda: _kernels(usable))}",
        f"NVDEC     {nvdec}",
        f"NVENC     {nvenc}",
        f"codecs    {_asked(_codecs)}",
        f"threads   {_asked(lambda: f'{get_threads()} of {os.cpu_count()} cores')}",
        f"cache     numba: {_asked(_numba_cache)}",
        f"cache     CuPy: {_asked(lambda: _writable(kernel_cache_folder()))}",
        f"temp      {_asked(_temporary_folder)}",
    ]
    lines += [f"{name:<9} {version}" for name, version in versions.items()]
    report = {
        "gpufuse": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}".lower(),
        "device": "cuda" if usable else "cpu",
        "gpu": facts.name or "none",
        "driver": facts.driver or "none",
        "cuda": facts.runtime_cuda or "none",
        "cupy": facts.cupy or "none",
        "nvdec": "yes" if nvdec == "works" else "no",
        "nvenc": "yes" if nvenc == "works" else "no",
        **versions,
    }
    lines.append(
        "report    " + " ".join(f"{name}={'-'.join(value.split())}" for name, value in report.items())
    )
    return lines


def _asked(question: Callable[[], str]) -> str:
    """The answer in one line; a diagnosis does not end at the first thing that is broken."""
    try:
        return " ".join(question().split())
    except Exception as error:
        return " ".join(f"unknown ({type(error).__name__}: {error})".split())


def _unknown(facts: GpuFacts, name: str) -> str:
    return " ".join(f"not found ({facts.unknown.get(name, 'no answer')})".split())


def _video(obstacle: Callable[[], str | None]) -> str:
    return _asked(lambda: "works" if (found := obstacle()) is None else f"does not work: {found}")


def _version(package: str) -> str:
    try:
        return metadata.version(package) or "missing"
    except Exception:  # not installed, or its folder is damaged
        return "missing"


def _gpu(facts: GpuFacts) -> str:
    if facts.name is None:
        return _unknown(facts, "name")
    free = "" if facts.free_memory is None else f" ({gibibytes(facts.free_memory)} free)"
    return f"{facts}{free}, {facts.multiprocessors} multiprocessors"


def _driver(facts: GpuFacts) -> str:
    if facts.driver_cuda is None:
        return _unknown(facts, "driver_cuda")
    return f"{facts.driver or _unknown(facts, 'driver')}, knows CUDA {facts.driver_cuda}"


def _cupy(facts: GpuFacts) -> str:
    if facts.cupy is None and not facts.cupy_packages:
        return "not installed"
    packages = ", ".join(facts.cupy_packages) or "of no package"
    if len(facts.cupy_packages) > 1:
        packages += ", which get in each other's way: uninstall all of them, then install one"
    if facts.cupy is None:
        return f"{_unknown(facts, 'cupy')}; {packages}"
    return f"{facts.cupy} ({packages}), CUDA {facts.runtime_cuda or _unknown(facts, 'runtime_cuda')}"


def _kernels(usable: bool) -> str:
    from gpufuse.kernels_cuda._compile import OPTIONS, kernel_source

    package = Path(__file__).resolve().parent
    for folder in (package / "kernels", package.parent / "kernels"):  # in a wheel; in a checkout
        names = sorted(file.stem for file in folder.glob("*.cu"))
        if names:
            break
    else:
        return "none found; install gpufuse again"
    found = f"{len(names)} CUDA sources in {folder}"
    if not usable:
        return f"{found}, not compiled without a usable GPU"
    cupy, began = import_cupy(), time.perf_counter()
    for name in names:
        try:
            cupy.RawModule(code=kernel_source(name), options=OPTIONS).compile()
        except Exception as error:
            return f"{found}, of which {name}.cu does not compile: {error}"
    return f"{found}, all compile ({time.perf_counter() - began:.1f} s)"


def _numba_cache() -> str:
    from gpufuse.kernels_cpu import mixing

    stats = mixing._mix.stats  # a kernel that was compiled without a cache has no path
    if not stats.cache_path:
        return "none, kernels are compiled anew in each process; set NUMBA_CACHE_DIR"
    return _writable(Path(stats.cache_path))


def _temporary_folder() -> str:
    folder = Path(tempfile.gettempdir())
    return f"{_writable(folder)}, {gibibytes(shutil.disk_usage(folder).free)} free"


def _writable(folder: Path) -> str:
    """The folder, and what comes of writing to it (or to the nearest one above that exists)."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"1")
    except OSError as error:
        return f"{folder}, cannot be written ({error.strerror})"
    return f"{folder}, writable" + ("" if existing == folder else " (not there yet)")


def _codecs() -> str:
    import av

    known = [name for name in ("libx264", "libx265", "h264_nvenc") if name in av.codecs_available]
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"{', '.join(known)}; FFmpeg libavcodec {version}"
