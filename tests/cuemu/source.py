"""What must be known of a CUDA source before g++ can compile it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cuemu.errors import CompileError
from cuemu.toolchain import HERE, identity

__all__ = [
    "KernelText",
    "definitions",
    "global_variables",
    "host_source",
    "kernels",
    "line_names",
    "lint",
    "strip",
]

_DYNAMIC_SHARED = re.compile(
    r"\bextern\s+__shared__\s+(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s*)?"
    r"([\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*\[\s*\]\s*;"
)
_WORD = re.compile(r"(\w+)\s*(\()?")
_TEMPLATE = re.compile(r"template\s*<([^;{}]*)>\s*$")
_KNOWN_OPTION = re.compile(
    r"-{1,2}(std|use_fast_math|fmad|ftz|prec|arch|gpu-arch|maxrreg|extra-device|lineinfo|G\b|ptxas"
    r"|restrict|dopt|split|device)"
)


@dataclass(frozen=True)
class KernelText:
    """A ``__global__`` function as the source declares it.

    Attributes
    ----------
    name : str
    bound : str
        First argument of ``__launch_bounds__``, empty without one.
    template : str or None
        Parameters of its template.
    """

    name: str
    bound: str
    template: str | None


def strip(source: str) -> str:
    """Blank the comments; lines and columns stay."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))  # noqa: E731
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, source, flags=re.S)


def kernels(source: str) -> Iterator[KernelText]:
    """Yield the kernels of a source without comments."""
    for found in re.finditer(r"\b__global__\b", source):
        template = _TEMPLATE.search(source[: found.start()])
        position, bound = found.end(), ""
        while word := _WORD.search(source, position):
            position = word.end()
            if not word.group(2):
                continue
            if not word.group(1).startswith("__"):
                yield KernelText(word.group(1), bound, template.group(1) if template else None)
                break
            inside, position = _in_parentheses(source, position)
            if word.group(1) == "__launch_bounds__":
                bound = inside


def _in_parentheses(source: str, start: int) -> tuple[str, int]:
    """Return the first argument in parentheses that are open, and the place behind them."""
    depth, position, first = 1, start, None
    while depth:
        letter = source[position]
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if first is None and (not depth or (depth == 1 and letter == ",")):
            first = source[start:position]
        position += 1
    return first or "", position


def global_variables(source: str) -> list[str]:
    """Return the names of ``__constant__`` and ``__device__`` variables in a source without comments."""
    constant = re.findall(r"__constant__\s+[\w\s]*?\b(\w+)\s*(?:\[|;|=)", source)
    device = re.findall(r"^\s*__device__\s+[\w\s]*?\b(\w+)\s*(?:\[[^()]*\])*\s*(?:;|=)", source, re.M)
    return sorted({*constant, *device})


def host_source(source: str) -> str:
    """Return the source as C++; what is left of CUDA, the shim declares."""
    return _DYNAMIC_SHARED.sub(lambda m: f"{m[1]}* const {m[2]} = ({m[1]}*)emu_dynshared();", source)


def line_names(source: str, path: str) -> list[str]:
    """Return the files that the lines of a source are said to come from."""
    return [path, *re.findall(r'^#line \d+ "([^"]+)"', source, re.M)]


def definitions(options: tuple[str, ...]) -> list[str]:
    """Return the options of the CUDA compiler that g++ understands as well."""
    for option in options:
        if not option.startswith(("-D", "-I", "-U")) and not _KNOWN_OPTION.match(option):
            raise CompileError(f"unknown compile option {option!r}")
    return [option for option in options if option.startswith(("-D", "-I", "-U"))]


_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wdouble-promotion",
    "-Wshadow",
    "-Wno-unused-parameter",
    "-Wno-unknown-pragmas",
    "-Wno-attributes",
    "-Wno-unused-function",
    "-Wno-unused-variable",
    "-Wno-missing-field-initializers",
]


def lint(
    code: str, options: tuple[str, ...] = (), path: str = "kernel.cu", instances: tuple[str, ...] = ()
) -> list[str]:
    """Return the warnings of g++ about a source: double arithmetic, uninitialised locals, shadowed names.

    Parameters
    ----------
    code : str
        CUDA source.
    options : tuple of str
        Options of the CUDA compiler.
    path : str
        Name of the source in messages.
    instances : tuple of str
        Template kernels to be looked at, such as ``"sweep<2, true>"``.

    Returns
    -------
    list of str
    """
    identity()  # is there a compiler?
    tail = "".join(f"void* emu_used_{i} = (void*)&{name};\n" for i, name in enumerate(instances))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "source.cpp"
        file.write_text(
            f'#line 1 "{path}"\n{host_source(code)}\n#line 1 "<instances>"\n{tail}', encoding="utf-8"
        )
        command = ["g++", "-std=gnu++17", "-O2", *_WARNINGS, *definitions(options)]
        command += [
            "-isystem",
            str(HERE),
            "-include",
            str(HERE / "shim.h"),
            "-c",
            str(file),
            "-o",
            os.devnull,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if " error: " in done.stderr:
        raise CompileError(done.stderr[-6000:])
    names = "|".join(map(re.escape, line_names(code, path)))
    return sorted({m.group(0) for m in re.finditer(rf"^(?:{names}):\d+:.*warning: .*$", done.stderr, re.M)})
