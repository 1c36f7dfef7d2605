"""Which device computes, and why; what `gpufuse doctor` tells."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from gpufuse._version import __version__
from gpufuse.errors import ConfigError, DeviceError
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
        Why this one; for the user.
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
    obstacle = _cuda_obstacle()
    if wanted == "cuda":
        raise DeviceError(f"device: expected a usable GPU, found {obstacle}; use --device cpu")
    return Device("cpu", obstacle)


def _cuda_obstacle() -> str:
    """Why the GPU cannot be used."""
    try:
        import cupy
    except ImportError:
        return "no CuPy"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"no usable NVIDIA GPU ({str(error).splitlines()[0]})"
    if not count:
        return "no NVIDIA GPU"
    return f"a GPU, but no CUDA kernels in gpufuse {__version__}"


def diagnosis() -> list[str]:
    """Facts about this installation, one a line.

    Returns
    -------
    list of str
        Ends with a line to paste into a bug report.
    """
    versions = {name: _version(name) for name in _PACKAGES}
    device = select_device("auto")
    lines = [
        f"gpufuse   {__version__}",
        f"Python    {platform.python_version()} on {platform.platform()}",
        f"device    {device.name}: {device.reason}",
        f"threads   {get_threads()} of {os.cpu_count()} cores",
        f"kernels   numba {versions['numba']}, cache {_cache_folder()}",
        f"codecs    {_codecs()}",
    ]
    lines += [f"{name:<9} {version}" for name, version in versions.items()]
    report = " ".join(f"{name}={version}" for name, version in versions.items())
    lines.append(
        f"report    gpufuse={__version__} python={platform.python_version()} {platform.system().lower()} "
        f"device={device.name} {report}"
    )
    return lines


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _cache_folder() -> str:
    try:
        from gpufuse.kernels_cpu import mixing

        stats = mixing._mix.stats  # a kernel that was compiled without a cache has no path
        return str(stats.cache_path or "none: kernels are compiled anew in each process")
    except Exception as error:
        return f"unusable ({error})"


def _codecs() -> str:
    try:
        import av

        known = [name for name in ("libx264", "libx265", "h264_nvenc") if name in av.codecs_available]
        return (
            f"{', '.join(known)}; FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
        )
    except Exception as error:
        return f"PyAV cannot be used ({error})"
