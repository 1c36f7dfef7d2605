"""Sources of the CUDA kernels, and their compilation through CuPy."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from gpufuse.errors import DeviceError

__all__ = ["OPTIONS", "kernel", "kernel_source"]

OPTIONS = ("-std=c++17",)
"""Options of the compiler (NVRTC) for every kernel."""

_COMMON = "common.cuh"


def kernel_source(name: str) -> str:
    """Return the CUDA source of a file of kernels, `kernels/common.cuh` in front.

    The header is pasted and not included, for CuPy's cache of compiled kernels knows a source by its text
    alone. Needs neither CuPy nor a GPU.

    Parameters
    ----------
    name : str
        The file's name without ``.cu``.

    Returns
    -------
    str
        Compilers report errors by the names and lines of the two files.

    Raises
    ------
    DeviceError
        If the installation lacks the file.
    """
    # In a wheel the folder lies within the package; in a checkout, beside it.
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "kernels", package.parent / "kernels"):
        file = folder / f"{name}.cu"
        if file.is_file():
            common = (folder / _COMMON).read_text(encoding="utf-8")
            own = file.read_text(encoding="utf-8")
            return f'#line 1 "kernels/{_COMMON}"\n{common}\n#line 1 "kernels/{name}.cu"\n{own}'
    raise DeviceError(
        f"kernels: expected {name}.cu in {package / 'kernels'}, found none; install gpufuse again"
    )


def kernel(file: str, name: str, variants: tuple[str, ...] = ()) -> Any:
    """Return a kernel, ready to be launched on the current device.

    Parameters
    ----------
    file : str
        File in `kernels`, without ``.cu``.
    name : str
        Name of the ``__global__`` function, or one of `variants`.
    variants : tuple of str
        All instances of templates that the file is compiled for, such as ``"sweep<2, true>"``.

    Returns
    -------
    cupy.RawKernel
    """
    import cupy

    return _kernel(cupy, cupy.cuda.Device().id, file, name, variants)


@functools.cache
def _kernel(cupy: Any, device: int, file: str, name: str, variants: tuple[str, ...]) -> Any:
    return _module(cupy, device, file, variants).get_function(name)


@functools.cache
def _module(cupy: Any, device: int, file: str, variants: tuple[str, ...]) -> Any:
    return cupy.RawModule(code=kernel_source(file), options=OPTIONS, name_expressions=variants or None)
