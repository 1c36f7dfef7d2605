"""Modules and kernels: compilation, launches, messages, coverage."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy

from cuemu import source
from cuemu.device import LIMITS, root
from cuemu.errors import EmuError, LaunchError
from cuemu.toolchain import HERE, build, identity, run, runtime

__all__ = ["Kernel", "Module"]

KINDS = {
    1: "out-of-bounds",
    2: "shared-race",
    3: "global-race",
    4: "uninitialised-shared",
    5: "barrier",
    6: "undefined-behaviour",
    7: "trap",
    8: "write-to-read-only",
    9: "signal",
    10: "warp",
    11: "timeout",
}
_RACES = {"shared-race", "global-race"}
_WITH_ADDRESS = {"out-of-bounds", "global-race", "write-to-read-only", "signal"}

_COMMON_FLAGS = [
    "-std=gnu++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-Wno-unknown-pragmas",
    "-Wno-attributes",
    "-march=native",
    "-mtune=native",
    "-g1",
    "-gdwarf-4",
]
_UNDEFINED = (
    "bounds-strict,signed-integer-overflow,shift,integer-divide-by-zero,alignment,null"
    ",float-cast-overflow,bool"
)
_FLAGS = {
    "fast": ["-O3", "-ffp-contract=fast"],
    "check": [
        "-O1",
        "-ffp-contract=fast",
        "-fsanitize=thread",
        "--param=tsan-instrument-func-entry-exit=0",
        f"-fsanitize={_UNDEFINED}",
        "-ftrivial-auto-var-init=pattern",
    ],
    "cover": ["-O0", "-fsanitize-coverage=trace-pc"],
}

_one_at_a_time = threading.Lock()  # one device, one launch


class _Three(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))

    def __iter__(self):
        return iter((self.x, self.y, self.z))


# The next four are declared in runtime.cpp as well.


class _Region(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("writable", ctypes.c_int),
        ("track", ctypes.c_int),
        ("offset", ctypes.c_int),
        ("pad", ctypes.c_int),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("order", ctypes.c_int),
        ("strict_exit", ctypes.c_int),
        ("race", ctypes.c_int),
        ("init", ctypes.c_int),
        ("profile", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("profiled", ctypes.c_uint * 4),
        ("timeout", ctypes.c_int),
        ("flush", ctypes.c_int),
    )


class _Report(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("is_write", ctypes.c_int),
        ("size", ctypes.c_int),
        ("pad", ctypes.c_int),
        ("address", ctypes.c_uint64),
        ("place", ctypes.c_uint64),
        ("other_place", ctypes.c_uint64),
        ("thread", _Three),
        ("block", _Three),
        ("other_thread", ctypes.c_int),
        ("other_block", ctypes.c_int),
        ("pad2", ctypes.c_int),
        ("where", ctypes.c_char * 256),
        ("message", ctypes.c_char * 512),
    )


class _Line(ctypes.Structure):
    _fields_ = (
        ("place", ctypes.c_uint32),
        ("shared", ctypes.c_int),
        ("write", ctypes.c_int),
        ("size", ctypes.c_int),
        ("requests", ctypes.c_uint64),
        ("lanes", ctypes.c_uint64),
        ("units", ctypes.c_uint64),
        ("ideal", ctypes.c_uint64),
    )


class Module:
    """A CUDA source, compiled for the host.

    Parameters
    ----------
    code : str
        One source; nothing is included.
    options : tuple of str
        Options of the CUDA compiler; -D and -U matter here, and whether denormals are flushed.
    name_expressions : sequence of str or None
        Instances of template kernels.
    mode : {"check", "fast", "cover"}
    path : str
        Name of the source in messages, where it has no #line directives.
    extra : sequence of str
        More flags for g++.
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        name_expressions: Iterable[str] | None = None,
        mode: str = "check",
        path: str = "kernel.cu",
        extra: Sequence[str] = (),
    ) -> None:
        self.mode, self.path, self.code = mode, path, code
        self.names = source.line_names(code, path)
        self.flushes = any("use_fast_math" in option or option.endswith("ftz=true") for option in options)
        clean = source.strip(code)
        texts = {text.name: text for text in source.kernels(clean)}
        self._symbols = {name: name for name, text in texts.items() if text.template is None}
        for number, expression in enumerate(name_expressions or ()):
            plain = re.fullmatch(r"\w+", expression)
            self._symbols[expression] = expression if plain else f"expression{number}"
        self._bounded = {
            name for name in self._symbols if (text := texts.get(_stem(name))) is not None and text.bound
        }
        unit = "\n".join(
            [
                f'#line 1 "{path}"',
                source.host_source(code),
                '#line 1 "<emulator>"',
                *self._trampolines(texts),
                *(f"EMU_GLOBAL({name}, {name})" for name in source.global_variables(clean)),
                "",
            ]
        )
        flags = [*_COMMON_FLAGS, *_FLAGS[mode], *source.definitions(tuple(options)), *extra]
        digest = hashlib.sha256("\0".join([unit, *flags, identity()]).encode()).hexdigest()[:24]

        def make(file: Path, folder: Path) -> None:
            text, compiled = folder / "unit.cpp", folder / "unit.o"
            text.write_text(unit, encoding="utf-8")
            run(["g++", *flags, "-include", str(HERE / "shim.h"), "-c", str(text), "-o", str(compiled)])
            parts = [str(compiled), str(runtime()), "-lm", "-pthread"]
            run(["g++", "-shared", "-Wl,-z,defs", *parts, "-o", str(file)])

        self.file = build(f"module-{digest}.so", make)
        self.library = ctypes.CDLL(str(self.file))
        self.library.emu_static_shared.restype = ctypes.c_uint64
        self.static_shared = int(self.library.emu_static_shared())

    def _trampolines(self, texts: dict[str, source.KernelText]) -> list[str]:
        """C++ by which Python calls each kernel, and learns its parameters and its launch bound."""
        lines = [
            f"template <{text.template}> constexpr int emu_limit_{text.name} = (int)({text.bound});"
            for text in texts.values()
            if text.template is not None and text.bound
        ]
        for name, symbol in self._symbols.items():
            lines.append(f"EMU_KERNEL({symbol}, {name})")
            if name in self._bounded:
                text = texts[_stem(name)]
                bound = f"emu_limit_{name}" if text.template is not None else f"(int)({text.bound})"
                lines.append(f"EMU_BOUND({symbol}, {bound})")
        return lines

    def get_function(self, name: str) -> Kernel:
        """Return a kernel by its name, or by its instance."""
        if name not in self._symbols:
            raise LaunchError(f"no kernel {name!r}; there are {sorted(self._symbols)}")
        return Kernel(self, name)

    def get_global(self, name: str) -> numpy.ndarray:
        """Return the bytes of a __constant__ or __device__ variable, to be written to."""
        function = getattr(self.library, f"emu_glob_{name}")
        function.restype = ctypes.c_void_p
        size = ctypes.c_size_t()
        address = function(ctypes.byref(size))
        return numpy.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))

    def coverage(self) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
        """Return the (file, line) that were executed, and all that have code; for mode "cover"."""
        count = self.library.emu_cover_get(None, 0)
        reached = (ctypes.c_uint64 * max(1, count))()
        self.library.emu_cover_get(reached, count)
        return _lines_of_blocks(self._code_lines, set(reached[:count]))

    @functools.cached_property
    def _code_lines(self) -> list[tuple[int, list[tuple[str, int]]]]:
        """Each basic block: the place by which its execution is known, and its lines."""
        blocks: list[tuple[int, list[tuple[str, int]]]] = []
        line, within = None, False
        for text in run(["objdump", "-d", "-l", "--no-show-raw-insn", str(self.file)]).splitlines():
            if found := re.match(r"^(\S+):(\d+)(?: \(discriminator \d+\))?$", text):
                name = self.name_of(found[1])
                line = (name, int(found[2])) if name else None
            elif found := re.match(r"^\s+([0-9a-f]+):\t(\S+)\s*(.*)", text):
                if within and line:
                    blocks[-1][1].append(line)
                if "__sanitizer_cov_trace_pc" in found[3]:
                    blocks.append((int(found[1], 16) + 5, []))  # a call has five bytes
                    within = True
            elif not text:
                within = False  # the next function
        return blocks

    def name_of(self, file: str) -> str | None:
        """Return the name in the source of a file that debugging information names."""
        fits = [name for name in self.names if file == name or file.endswith(f"/{name}")]
        return max(fits, key=len, default=None)

    def where(self, place: int) -> str:
        """Return "file:line" of an address in the compiled module."""
        if not place:
            return ""
        answer = run(["addr2line", "-e", str(self.file), hex(place)]).strip().split(" ")[0]
        file, _, line = answer.rpartition(":")
        return f"{self.name_of(file) or file}:{line}"


def _lines_of_blocks(
    blocks: list[tuple[int, list[tuple[str, int]]]], reached: set[int]
) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    executed = {line for place, lines in blocks if place in reached for line in lines}
    return executed, {line for _, lines in blocks for line in lines}


def _stem(name: str) -> str:
    return name.partition("<")[0].strip()


_KIND_OF_DTYPE = {"f": "f", "i": "i", "u": "u", "b": "?", "c": "f", "V": "V"}


class Kernel:
    """A kernel of a module.

    Attributes
    ----------
    order : int
        Of threads and blocks: 0 forward, 1 reversed, 2 random by `seed`.
    race, init, strict_exit : bool
        Whether to look for races, for shared memory that was not written, for threads that left before a
        barrier.
    timeout : int
        CPU seconds of a launch.
    max_dynamic_shared_size_bytes : int
        As in CuPy.
    """

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        symbol = module._symbols[name]
        self._function = ctypes.cast(getattr(module.library, f"emu_call_{symbol}"), ctypes.c_void_p)
        text = ctypes.create_string_buffer(4096)
        getattr(module.library, f"emu_desc_{symbol}")(text)
        self.parameters = text.value.decode().split()
        self.max_dynamic_shared_size_bytes = LIMITS["max_dynamic_default"]
        bounded = name in module._bounded
        self.bound = getattr(module.library, f"emu_bound_{symbol}")() if bounded else LIMITS["max_threads"]
        self.order, self.seed = 0, 0
        self.race = self.init = self.strict_exit = True
        self.timeout = 60
        self._profiled: tuple[int, ...] | None = None

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        """Launch, and raise what is wrong with it."""
        grid, block = self._extents(grid, block, shared_mem)
        packed = _Arguments(self, args)
        options = _Options(
            self.order, self.strict_exit, self.race, self.init, self._profiled is not None, self.seed
        )
        options.timeout, options.flush = self.timeout, self.module.flushes
        for k, number in enumerate([*(self._profiled or ()), *[0xFFFFFFFF] * 4][:4]):
            options.profiled[k] = number
        report = _Report()
        with _one_at_a_time:
            failed = self.module.library.emu_launch(
                self._function,
                (ctypes.c_uint * 3)(*grid),
                (ctypes.c_uint * 3)(*block),
                ctypes.c_uint64(shared_mem),
                packed.pointers(),
                bytes(parameter[0] == "P" for parameter in self.parameters),
                len(self.parameters),
                int(self.module.mode == "check"),
                packed.regions(),
                len(packed.extents),
                ctypes.byref(options),
                ctypes.byref(report),
            )
        if failed:
            raise self._error(report, packed, block)

    def validate(self, grid: Any, block: Any, args: Sequence[Any], shared_mem: int = 0) -> None:
        """Raise what is wrong with a launch before it runs."""
        self._extents(grid, block, shared_mem)
        _Arguments(self, args)

    def _extents(self, grid: Any, block: Any, shared: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")  # as CuPy
        grid, block = ((*map(int, extents), 1, 1)[:3] for extents in (grid, block))
        count = math.prod(block)
        faults = []
        if min(grid) < 1 or min(block) < 1:  # CuPy raises an extent of 0 to 1 without a word
            faults.append(f"empty launch, grid={grid} block={block}")
        if any(g > limit for g, limit in zip(grid, LIMITS["max_grid"], strict=True)):
            faults.append(f"grid {grid} beyond {LIMITS['max_grid']}")
        if (
            any(b > limit for b, limit in zip(block, LIMITS["max_block"], strict=True))
            or count > LIMITS["max_threads"]
        ):
            faults.append(f"block {block} has {count} threads, over {LIMITS['max_threads']}")
        if count > self.bound:
            faults.append(f"block of {count} threads, __launch_bounds__ says {self.bound}")
        if shared > self.max_dynamic_shared_size_bytes:
            faults.append(
                f"shared_mem={shared} over max_dynamic_shared_size_bytes={self.max_dynamic_shared_size_bytes}"
            )
        if shared > LIMITS["max_dynamic"]:
            faults.append(f"{shared} bytes of dynamic shared memory, over {LIMITS['max_dynamic']}")
        if faults:
            raise LaunchError(f"{self.name}: " + "; ".join(faults))
        return grid, block

    def _error(self, report: _Report, packed: _Arguments, block: tuple[int, ...]) -> EmuError:
        kind = KINDS[report.kind]
        where = self.module.where(report.place) or _text(report.where)
        lines = [f"{self.name}: {kind}: {_text(report.message)}"]
        if where:
            lines.append(f"at {where}")
        lines.append(f"thread {tuple(report.thread)} of block {tuple(report.block)}")
        if report.other_thread >= 0 and kind in _RACES:
            t = report.other_thread
            other = (t % block[0], t // block[0] % block[1], t // (block[0] * block[1]))
            of = f"linear block {report.other_block}" if report.other_block >= 0 else "another block"
            at = f" at {self.module.where(report.other_place)}" if report.other_place else ""
            lines.append(f"other access: thread {other} of {of}{at}")
        if report.address and kind in _WITH_ADDRESS and (element := packed.element(report.address)):
            lines.append(element)
        error = EmuError("\n  ".join(lines))
        error.kind, error.where = kind, where
        return error

    def profile(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        blocks: Sequence[int] = (0,),
        **options: Any,
    ) -> list[tuple[str, str, str, int, int, float]]:
        """Launch in mode "check", and say how the accesses of some blocks suit the hardware.

        Returns
        -------
        list of (where, "global" or "shared", "load", "store" or "atomic", bytes, requests, cost)
            The cost of global accesses is 32-byte sectors by the fewest possible, of shared ones the ways of
            bank conflicts. First order only: g++ loads otherwise than nvcc.
        """
        self._profiled = tuple(blocks)
        try:
            self(grid, block, args, **options)
        finally:
            self._profiled = None
        lines = (_Line * 4096)()
        count = self.module.library.emu_profile_get(lines, len(lines))
        rows: dict[tuple[str, str, str, int], list[int]] = {}
        for line in lines[:count]:
            space, act = ("global", "shared")[line.shared], ("load", "store", "atomic")[line.write]
            sums = rows.setdefault((self.module.where(line.place), space, act, line.size), [0, 0, 0])
            for k, value in enumerate((line.requests, line.units, line.ideal)):
                sums[k] += value
        return sorted((*key, sums[0], sums[1] / max(1, sums[2])) for key, sums in rows.items())


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


class _Arguments:
    """The arguments of a launch as bytes; CuPy copies them unchecked, here the types must be the kernel's."""

    def __init__(self, kernel: Kernel, args: Sequence[Any]) -> None:
        self._kernel = kernel
        if len(args) != len(kernel.parameters):
            self._refuse(f"{len(args)} arguments for {len(kernel.parameters)} parameters")
        self._values: list[Any] = []
        self._arrays: list[tuple[int, int, int, numpy.ndarray]] = []
        self.extents: list[list[int]] = []
        for i, (value, parameter) in enumerate(zip(args, kernel.parameters, strict=True)):
            add = self._add_pointer if parameter[0] == "P" else self._add_scalar
            self._values.append(add(i, value, parameter))
        self._merge()

    def _refuse(self, reason: str) -> None:
        raise LaunchError(f"{self._kernel.name}: {reason}")

    def _add_pointer(self, i: int, value: Any, parameter: str) -> ctypes.c_uint64:
        """Parameter "Pcf4": pointer to const (c) or not (m), kind and size of its elements."""
        host = getattr(value, "_a", value)  # of the stand-in for CuPy
        if host is None:
            return ctypes.c_uint64(0)
        if not isinstance(host, numpy.ndarray):
            self._refuse(f"argument {i} is {type(value).__name__}, parameter {parameter} is a pointer")
        constant, kind, size = parameter[1] == "c", parameter[2], int(parameter[3:])
        own_kind = _KIND_OF_DTYPE.get(host.dtype.kind)
        own_size = host.dtype.itemsize // (2 if host.dtype.kind == "c" else 1)
        # Vectors, such as float2, may be made of an array of scalars.
        fits = (
            kind == "v" or (kind == "V" and size % own_size == 0) or (own_kind == kind and own_size == size)
        )
        if not fits:
            self._refuse(f"argument {i} has dtype {host.dtype}, parameter is {parameter}")
        if not host.flags.c_contiguous:
            self._refuse(f"argument {i} is not C-contiguous")
        address, start = host.ctypes.data, _start(host)
        if kind == "V" and (address - start) % min(size, 16):
            self._refuse(f"argument {i} is not aligned to {size} bytes")
        end = address + host.nbytes
        if end > address:
            self.extents.append(
                [address, end, int(host.flags.writeable and not constant), (address - start) % 512]
            )
        self._arrays.append((address, end, i, host))
        return ctypes.c_uint64(address)

    def _add_scalar(self, i: int, value: Any, parameter: str) -> Any:
        """Parameter "Sf4": kind and size."""
        kind, size = parameter[1], int(parameter[2:])
        for python, sent in ((bool, numpy.bool_), (int, numpy.int64), (float, numpy.float64)):  # as CuPy does
            if type(value) is python:
                value = sent(value)
        if not isinstance(value, numpy.generic):
            self._refuse(f"argument {i} is {type(value).__name__}, parameter {parameter} is a scalar")
        own_kind = _KIND_OF_DTYPE.get(value.dtype.kind)
        integers = {own_kind, kind} <= {"i", "u"}
        fits = kind == "V" or own_kind == kind or (integers and int(value) >= 0)
        if value.dtype.itemsize != size or not fits:
            self._refuse(
                f"argument {i} is {value.dtype} ({value!r}), parameter is {parameter}: "
                "pass numpy.float32, numpy.int32 and the like"
            )
        return ctypes.create_string_buffer(value.tobytes(), size)

    def _merge(self) -> None:
        """Let arguments that overlap share one region, so that races between them are seen."""
        merged: list[list[int]] = []
        for extent in sorted(self.extents):
            if merged and extent[0] < merged[-1][1]:
                merged[-1][1] = max(extent[1], merged[-1][1])
                merged[-1][2] |= extent[2]
            else:
                merged.append(list(extent))
        self.extents = merged

    def pointers(self) -> Any:
        """Return the addresses of the arguments' bytes."""
        addresses = [ctypes.addressof(value) for value in self._values]
        return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)

    def regions(self) -> Any:
        """Return the memory that the kernel may touch."""
        regions = [
            _Region(low, high - low, write, write, offset, 0) for low, high, write, offset in self.extents
        ]
        return (_Region * max(1, len(regions)))(*regions)

    def element(self, address: int) -> str:
        """Say which element of which argument an address is, or is next to."""
        if not self._arrays:
            return ""

        def distance(array: tuple[int, int, int, numpy.ndarray]) -> int:
            low, high = array[:2]
            return 0 if low <= address < high else min(abs(address - low), abs(address - high))

        low, high, i, array = min(self._arrays, key=distance)
        flat = (address - low) // array.itemsize
        if low <= address < high:
            index = tuple(int(k) for k in numpy.unravel_index(flat, array.shape))
            return f"element {index} of argument {i}, shape {array.shape}"
        return f"flat index {flat} of argument {i}, which has {array.size} elements, shape {array.shape}"


def _start(array: numpy.ndarray) -> int:
    """Return where the allocation begins that an array is a view of; CuPy's begin at multiples of 512."""
    return int(numpy.lib.array_utils.byte_bounds(root(array))[0])
