"""Facts of this machine and installation, without which no time means anything."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path

from gpufuse._version import __version__

__all__ = ["machine_facts", "package_version", "processor"]

_PACKAGES = (
    "numpy", "scipy", "numba", "av", "pyamg", "opencv-python-headless", "opencv-python", "fpie", "taichi",
    "itk-filtering", "scikit-image", "bottleneck",
)  # fmt: skip


def machine_facts(threads: int) -> dict[str, str]:
    """Collect what belongs beside every figure.

    Parameters
    ----------
    threads : int
        Threads that each competitor may use.

    Returns
    -------
    dict of str to str
    """
    versions = {name: package_version(name) for name in _PACKAGES}
    return {
        "processor": processor(),
        "cores": f"{_cores()} usable",
        "threads": f"{threads} for every competitor that can use them",
        "memory": _memory(),
        "device": "cpu; no competitor uses a GPU here",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpufuse": __version__,
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        found = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return "unknown"
    return f"{int(found[1]) / 2**20:.0f} GiB" if found else "unknown"


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
