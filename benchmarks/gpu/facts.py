"""What machine this is, and whether its results are right."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpufuse
from gpufuse import hardware
from gpufuse.bench.machine import package_version, processor

PACKAGES = ("numpy", "scipy", "numba", "pytest", "av", "pillow")

NVIDIA_SMI = (
    "name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.draw", "power.limit",
    "temperature.gpu",
)  # fmt: skip
"""What to ask nvidia-smi for."""


def facts(root: Path) -> dict[str, Any]:
    """Facts of GPU, host and versions."""
    return {
        "gpu": dataclasses.asdict(hardware.gpu_facts()),
        "host": {
            "processor": processor(),
            "cores": gpufuse.get_threads(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "packages": {name: package_version(name) for name in PACKAGES},
        "gpufuse": gpufuse.__version__,
        "commit": _output(["git", "-C", str(root), "describe", "--always", "--dirty"]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def clocks() -> dict[str, str] | None:
    """What nvidia-smi tells of clocks, power and temperature at this moment; None where it tells nothing."""
    line = _output(["nvidia-smi", "--query-gpu=" + ",".join(NVIDIA_SMI), "--format=csv,noheader"])
    if line is None:
        return None
    values = [value.strip() for value in line.splitlines()[0].split(",")]
    return dict(zip(NVIDIA_SMI, values, strict=False))


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def parity(root: Path, files: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run the tests that compare kernels with their CPU twins, on the GPU, in a child process."""
    # A plug-in that is not needed may warn, and a warning is an error there.
    options = ["-q", "--gpu", "--no-header", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, errors="replace", timeout=seconds
        )
        text, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        text, code = (out if isinstance(out, str) else out.decode(errors="replace")), None
    except OSError as error:
        text, code = str(error), None
    counts = counted(text)
    return {
        "command": "python " + " ".join(command[1:]),
        "exit_code": code,
        "ended": code is not None,
        "seconds": time.perf_counter() - started,
        **counts,
        "last_lines": [] if code == 0 else text.strip().splitlines()[-40:],
    }


def counted(text: str) -> dict[str, int]:
    """Numbers in the last line of pytest."""
    lines = [
        line for line in text.strip().splitlines() if re.search(r"\d+ (passed|failed|error|skipped)", line)
    ]
    last = lines[-1] if lines else ""
    return {
        name: int(found[1]) if (found := re.search(rf"(\d+) {word}", last)) else 0
        for name, word in (
            ("passed", "passed"),
            ("failed", "failed"),
            ("errors", "error"),
            ("skipped", "skipped"),
        )
    }
