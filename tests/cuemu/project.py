"""The project's files of kernels, and the instances of templates that its launchers ask for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cuemu.toolchain import HERE

__all__ = ["FOLDER", "KernelFile", "kernel_files"]

FOLDER = HERE.parent.parent / "kernels"


@dataclass(frozen=True)
class KernelFile:
    """A file of kernels.

    Attributes
    ----------
    name : str
        Without ``.cu``.
    launchers : tuple of str
        Modules of `gpufuse.kernels_cuda` whose ``FILE`` this is.
    variants : tuple of str
        Their ``VARIANTS``.
    """

    name: str
    launchers: tuple[str, ...]
    variants: tuple[str, ...]

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.cu"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def source(self) -> str:
        """As the project compiles it."""
        from gpufuse.kernels_cuda._compile import kernel_source

        return kernel_source(self.name)

    @property
    def options(self) -> tuple[str, ...]:
        from gpufuse.kernels_cuda._compile import OPTIONS

        return tuple(OPTIONS)


def kernel_files() -> Iterator[KernelFile]:
    """Yield every file in the folder of kernels."""
    import gpufuse.kernels_cuda as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in sorted(names)]
    for path in sorted(FOLDER.glob("*.cu")):
        own = [module for module in modules if getattr(module, "FILE", None) == path.stem]
        variants = dict.fromkeys(name for module in own for name in getattr(module, "VARIANTS", ()))
        yield KernelFile(path.stem, tuple(module.__name__ for module in own), tuple(variants))
