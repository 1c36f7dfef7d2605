"""The compiler, and the folder of what it made."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from cuemu.errors import CompileError

__all__ = ["HERE", "build", "identity", "run", "runtime", "unavailable"]

HERE = Path(__file__).resolve().parent

_TOOLS = ("g++", "addr2line", "objdump")


@functools.cache
def unavailable() -> str | None:
    """Return why kernels cannot be emulated on this machine, None if they can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return (
            f"kernels are emulated on 64-bit x86 Linux only, this is {platform.system()} {platform.machine()}"
        )
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"the emulator of kernels needs {', '.join(missing)}; install g++ and binutils"
    return None


def cache_folder() -> Path:
    """Return the folder of compiled kernels: CUEMU_CACHE, or one for temporary files."""
    folder = Path(os.environ.get("CUEMU_CACHE") or Path(tempfile.gettempdir()) / f"cuemu-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(command: list[str], **options: object) -> str:
    """Run a tool and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise CompileError(done.stderr[-6000:])
    return done.stdout


@functools.cache
def identity() -> str:
    """Return a text that changes when compiled kernels must be made anew."""
    if reason := unavailable():
        raise CompileError(reason)
    flags = re.search(r"^flags.*$", Path("/proc/cpuinfo").read_text(), re.M)
    own = [(HERE / name).read_text(encoding="utf-8") for name in ("shim.h", "runtime.cpp")]
    return "\0".join([run(["g++", "--version"]), flags.group(0) if flags else "", *own])


def build(name: str, make: Callable[[Path, Path], None]) -> Path:
    """Return a file of the cache; ``make(file, folder)`` makes it, in a folder of its own."""
    result = cache_folder() / name
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            file = Path(folder) / name
            make(file, Path(folder))
            os.replace(file, result)  # all at once: other processes may do the same
    return result


def runtime() -> Path:
    """Return the compiled scheduler and checker, linked to each module."""
    digest = hashlib.sha256(identity().encode()).hexdigest()[:20]
    flags = ["-std=gnu++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-march=native"]

    def make(file: Path, _: Path) -> None:
        run(["g++", *flags, "-c", str(HERE / "runtime.cpp"), "-o", str(file)])

    return build(f"runtime-{digest}.o", make)
