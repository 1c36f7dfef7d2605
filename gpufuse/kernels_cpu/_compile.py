"""How the CPU kernels are compiled: one decorator, so that all share one policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["kernel"]

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},  # fused multiply-add only, as every GPU does; nothing else is reordered
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` on first call; keep the machine code on disk where that is possible.

    Where no cache folder can be written (a read-only installation without a home directory) the
    kernel is compiled anew in each process instead.
    """
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "no locator available": nowhere to write a cache
        return numba.njit(**_OPTIONS)(function)
