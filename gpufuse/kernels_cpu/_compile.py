"""How the CPU kernels are compiled: one decorator, so that all share one policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

__all__ = ["inlined", "kernel", "wide_vectors"]

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},  # fused multiply-add only, as every GPU does; nothing else is reordered
}


class _TolerantCache(FunctionCache):  # type: ignore[misc]
    """Machine code on disk, where a full disk or a broken file costs a compilation and no more."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # whatever a torn pickle may raise
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception:  # no space; or the broken index that was just passed over
            return


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` on first call; keep the machine code on disk where that is possible.

    Where no cache folder can be written (a read-only installation without a home directory) the
    kernel is compiled anew in each process instead.
    """
    compiled = numba.njit(**_OPTIONS)(function)
    try:
        compiled._cache = _TolerantCache(function)
    except RuntimeError:  # "no locator available": nowhere to write a cache
        return compiled
    return compiled


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` into the kernels that call it, where a call for so little work would be noticed."""
    return numba.njit(**_OPTIONS, forceinline=True)(function)


@intrinsic
def wide_vectors(context):  # type: ignore[no-untyped-def]
    """Ask for vectors as wide as the processor has them, in the kernel that calls this.

    LLVM keeps to 32 bytes where there are 64, which suits short loops and processors that slow down for them; it
    does not suit loops that do far more arithmetic than reading. Others do not notice. Lanes do not mix, so the
    results keep their bits.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite has no word for this attribute, but writes down whatever the set holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return numba.types.none(), generate
