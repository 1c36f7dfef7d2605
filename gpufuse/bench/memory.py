"""Memory of this process: what it holds, and the most it held since the peak was forgotten."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

__all__ = ["forget_peak", "held", "peak"]

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> bool:
    """Let the peak begin anew; False where the system cannot do that."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or memory given back would count as held
        _REFERENCES.write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):
        return False
    return True


def held() -> int | None:
    """Bytes held in memory now; None where the system does not tell."""
    return _line("VmRSS")


def peak() -> int | None:
    """Most bytes held since the peak was forgotten; None where the system does not tell."""
    return _line("VmHWM")


def _line(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
