"""Full multigrid for the Poisson equation with Neumann border, screened or not, on a GPU: the launches.

The method, the levels and the steps are those of the CPU twin. All planes of a call go through each launch
together. Called again with arrays at the same addresses, as a stream of chunks does, the launches are replayed as one
CUDA graph, which spares the host dozens of them (62 for 1080p).
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy

from gpufuse import hierarchy
from gpufuse.arrays import Array, array_module
from gpufuse.hierarchy import DOWN, FIRST, LAST, MIDDLE, NEST, STEPS, UP
from gpufuse.kernels_cuda._compile import kernel

__all__ = ["FILE", "VARIANTS", "release", "solve"]

FILE = "multigrid"

_FROM_COARSE = "grid_pass<2, false, true, true, false, {}>"
_DOWN_AGAIN = "grid_pass<3, true, true, true, false, {}>"
_FROM_ZERO = "grid_pass<2, false, false, true, false, {}>"
_UP = "grid_pass<2, true, true, false, false, {}>"
_UP_MEASURED = "grid_pass<2, true, true, false, true, {}>"

VARIANTS = tuple(
    template.format(ragged)
    for template in (_FROM_COARSE, _DOWN_AGAIN, _FROM_ZERO, _UP, _UP_MEASURED)
    for ragged in ("false", "true")
)
"""Instances of the template `grid_pass`: sweeps, old u, coarse correction, residual, measure, ragged."""

_PASSES = {
    FIRST: _FROM_COARSE, MIDDLE: _DOWN_AGAIN, LAST: _UP, NEST: _FROM_COARSE, DOWN: _FROM_ZERO, UP: _UP,
}  # fmt: skip

BLOCK_BYTES = 61440
"""Shared memory in which one block solves all levels that fit: 64x64 cells and below, on every architecture."""

_PASS_WARPS = 2
_OWN_COLUMNS = 120
_WARPS_WANTED = 4096  # enough to fill the largest GPUs a few times
_FEWEST_ROWS, _MOST_ROWS = 8, 64  # coarse rows that a warp walks down: fewer cost halo, more leave warps idle
_GRAPHS_KEPT = 8
_WORKSPACES_KEPT = 2

_LOCK = threading.Lock()
"""A workspace serves one call at a time, and so does a graph."""


def solve(rhs: Array, cycles: int, data_weight: float = 0.0) -> Array:
    """Solve for all planes.

    Parameters
    ----------
    rhs : ndarray, shape (N, H, W), float32, contiguous
        CuPy; H and W at least 2; not changed.
    cycles : int
        V-cycles on the finest level after nested iteration.
    data_weight : float
        Of the screened equation, per square pixel; 0: not screened.

    Returns
    -------
    ndarray, shape (N, H, W), float32
        The same for a plane alone or among others.
    """
    cupy = array_module(rhs)
    if rhs.size == 0:
        return cupy.empty_like(rhs)
    stream = cupy.cuda.get_current_stream()
    planes, height, width = rhs.shape
    with _LOCK:
        device = cupy.cuda.Device().id
        space = _workspace(cupy, device, stream.ptr, planes, height, width, cycles, data_weight)
        return space.solve(rhs)


def release() -> None:
    """Give up the memory that is kept from call to call, once launches that use it have ended."""
    _workspace.cache_clear()


@functools.lru_cache(maxsize=_WORKSPACES_KEPT)
def _workspace(
    cupy: Any,
    device: int,
    stream: int,
    planes: int,
    height: int,
    width: int,
    cycles: int,
    data_weight: float,
) -> _Workspace:
    return _Workspace(cupy, planes, height, width, cycles, data_weight)


class _Level:
    """One level on the device: geometry, and the arrays of all planes."""

    def __init__(self, cupy: Any, geometry: hierarchy.Plan, depth: int, planes: int) -> None:
        self.height, self.width = (int(n) for n in geometry.shape[depth])
        self.last_row, self.last_column = (float(size) for size in geometry.last[depth])
        self.pitch = -(-self.width // 4) * 4
        self.area, self.mass = 4.0**depth, float(geometry.mass[depth])
        rows = slice(geometry.rows[depth], geometry.rows[depth + 1])
        columns = slice(geometry.columns[depth], geometry.columns[depth + 1])
        self.row_measure = cupy.asarray(geometry.row_measure[rows], dtype=numpy.float32)
        self.column_measure = cupy.asarray(geometry.column_measure[columns], dtype=numpy.float32)
        self.shape = (planes, self.height, self.pitch)


class _Workspace:
    """Everything that solving `planes` planes of one size needs besides its input and output."""

    def __init__(
        self, cupy: Any, planes: int, height: int, width: int, cycles: int, data_weight: float = 0.0
    ) -> None:
        geometry = hierarchy.plan(height, width, data_weight)
        self.cupy, self.planes, self.cycles = cupy, planes, cycles
        self.samples = float(height * width)
        self.per_mean = 1.0 / data_weight if data_weight else 0.0
        depths = len(geometry.shape)
        self.levels = [_Level(cupy, geometry, depth, planes) for depth in range(depths)]
        # The first level that one block can solve; the finest only where there is no other.
        self.cut = next((k for k in range(1, depths) if _block_bytes(geometry, k) <= BLOCK_BYTES), depths - 1)
        tail = slice(self.cut, None)
        self.sizes = cupy.asarray(geometry.shape[tail], dtype=numpy.int32)
        self.lasts = cupy.asarray(geometry.last[tail], dtype=numpy.float32)
        self.inverse = cupy.asarray(geometry.inverse, dtype=numpy.float32)
        self.block_bytes = _block_bytes(geometry, self.cut)

        def room(depth: int) -> Array:
            return cupy.empty(self.levels[depth].shape, numpy.float32)

        # A pass reads one array and writes another.
        self.first = [room(depth) for depth in range(self.cut)]
        self.second = [None, *(room(depth) for depth in range(1, self.cut + 1))]
        self.f = [None, *(room(depth) for depth in range(1, self.cut + 1))]
        self.padded = None  # copies of input and output where rows are no multiples of four
        if self.levels[0].pitch != width:
            self.padded = (cupy.zeros(self.levels[0].shape, numpy.float32), room(0))
        self.means = cupy.zeros(planes, numpy.float32)
        self.zeros = cupy.zeros(planes, numpy.float32)
        self.shifts = cupy.zeros(planes, numpy.float32)
        self.nothing = cupy.zeros(1, numpy.float32)
        self.unused = cupy.zeros(1, numpy.float32)
        self.unused_too = cupy.zeros(1, numpy.float32)
        self.parts = 1 if self.cut <= 1 else self.levels[1].height * _strips(self.levels[2])
        self.sums = cupy.zeros((cycles + 2, planes, self.parts), numpy.float32)
        self.graphs: dict[tuple[int, int], Any] = {}

    def solve(self, rhs: Array) -> Array:
        out = self.cupy.empty_like(rhs)
        if self.padded is None and rhs.data.ptr % 16 == 0:
            self._replay(rhs, out)
            return out
        width = rhs.shape[2]
        source, target = self.padded or (rhs.copy(), out)
        if self.padded is not None:
            source[..., :width] = rhs
        self._replay(source, target)
        if self.padded is not None:
            out[...] = target[..., :width]
        return out

    def _replay(self, rhs: Array, out: Array) -> None:
        """Launch one by one at first, then as a graph: most pictures come alone, most chunks come again."""
        key = (rhs.data.ptr, out.data.ptr)
        graph = self.graphs.get(key)
        if key not in self.graphs:
            self._run(rhs, out)
        elif graph is None:
            graph = self._captured(rhs, out)
        if graph is not None:
            graph.launch(self.cupy.cuda.get_current_stream())
        self.graphs[key] = graph
        if len(self.graphs) > _GRAPHS_KEPT:
            del self.graphs[next(iter(self.graphs))]

    def _captured(self, rhs: Array, out: Array) -> Any:
        # The default stream cannot capture, any other may launch.
        with self.cupy.cuda.Stream(non_blocking=True) as stream:
            stream.begin_capture()
            try:
                self._run(rhs, out)
            finally:
                graph = stream.end_capture()
        return graph

    def _run(self, rhs: Array, out: Array) -> None:
        """Launch all that one solution takes; the result is in `out`."""
        if self.cut == 0:
            self._coarse(rhs, out, nested=True, sums=None)
            return
        f = [rhs, *self.f[1:]]
        for depth in range(self.cut):
            self._restrict(f[depth], f[depth + 1], depth)
        self._coarse(f[self.cut], self.second[self.cut], nested=True, sums=self._sums_of(0, self.cut))
        for depth in range(self.cut - 1, 0, -1):
            sums = self._sums_of(0, depth)
            self._pass(depth, NEST, None, self.first[depth], f[depth], f[depth + 1], nested=True)
            self._correct(depth + 1, turn=None)
            self._pass(
                depth, UP, self.first[depth], self.second[depth], f[depth], None, nested=True, sums=sums
            )
        buffers = (out, self.first[0])
        for turn in range(self.cycles + 2):
            which = FIRST if turn == 0 else (MIDDLE if turn <= self.cycles else LAST)
            new, old = buffers[(self.cycles + 1 - turn) % 2], buffers[(self.cycles - turn) % 2]
            if which == LAST:
                self._find_shifts()
            below = f[1] if which != LAST else None
            # With a mass the last pass makes the mean what the right-hand side wants; before, it is 0.
            nested = which != LAST or not self.per_mean
            self._pass(0, which, old if turn else None, new, rhs, below, nested=nested, shifted=which == LAST)
            if turn <= self.cycles:
                self._correct(1, turn=turn + 1)

    def _correct(self, depth: int, turn: int | None) -> None:
        """One V-cycle from zero; the result is in ``second[depth]``, its measure in ``sums[turn]``."""
        for level in range(depth, self.cut):
            self._pass(level, DOWN, None, self.first[level], self.f[level], self.f[level + 1])
        sums = None if turn is None else self._sums_of(turn, self.cut)
        self._coarse(self.f[self.cut], self.second[self.cut], nested=False, sums=sums)
        for level in range(self.cut - 1, depth - 1, -1):
            sums = None if turn is None else self._sums_of(turn, level)
            self._pass(level, UP, self.first[level], self.second[level], self.f[level], None, sums=sums)

    def _sums_of(self, turn: int, depth: int) -> Array | None:
        """Only what goes to the finest level is measured."""
        return self.sums[turn] if depth == 1 else None

    # -- launches --------------------------------------------------------------------------------

    def _restrict(self, fine: Array, coarse: Array, depth: int) -> None:
        own, below = self.levels[depth], self.levels[depth + 1]
        tiles = -(-below.width // 32) * -(-below.height // 8)
        kernel(FILE, "restrict_sum", VARIANTS)(
            (tiles * self.planes,), (32, 8),
            (
                fine, coarse, numpy.int32(self.planes),
                numpy.int32(own.height), numpy.int32(own.width), numpy.int32(own.pitch),
                numpy.int32(below.height), numpy.int32(below.width), numpy.int32(below.pitch),
            ),
        )  # fmt: skip

    def _warps(self, below: _Level) -> tuple[int, int]:
        """Coarse rows of a segment, and how many warps that makes for all planes."""
        strips = _strips(below)
        wanted = max(1, _WARPS_WANTED // (strips * self.planes))
        rows = min(_MOST_ROWS, max(_FEWEST_ROWS, -(-below.height // wanted)))
        segments = -(-below.height // rows)
        return rows, segments * strips * self.planes

    def _pass(
        self,
        depth: int,
        which: int,
        old: Array | None,
        new: Array,
        f: Array,
        coarse_f: Array | None,
        *,
        nested: bool = False,
        shifted: bool = False,
        sums: Array | None = None,
    ) -> None:
        own, below = self.levels[depth], self.levels[depth + 1]
        ragged = own.width % 4 != 0 or own.last_column != 1 or below.last_column != 1
        template = _PASSES[which] if sums is None else _UP_MEASURED
        rows, warps = self._warps(below)
        steps = [float(step) for step in STEPS[which]] + [0.0] * (3 - len(STEPS[which]))
        gains = [step / (4.0 + step * own.mass) for step in steps]
        kernel(FILE, template.format(str(ragged).lower()), VARIANTS)(
            (-(-warps // _PASS_WARPS),), (32 * _PASS_WARPS,),
            (
                self.nothing if old is None else old,
                self.nothing if which == DOWN else self.second[depth + 1],
                f,
                self.means if nested else self.zeros,
                self.shifts if shifted else self.zeros,
                own.row_measure, own.column_measure,
                new,
                self.unused if coarse_f is None else coarse_f,
                self.unused_too if sums is None else sums,
                numpy.int32(self.planes),
                numpy.int32(own.height), numpy.int32(own.width), numpy.int32(own.pitch),
                numpy.int32(below.height), numpy.int32(below.width), numpy.int32(below.pitch),
                numpy.int32(rows),
                numpy.float32(own.last_row), numpy.float32(own.last_column),
                numpy.float32(below.last_row), numpy.float32(below.last_column),
                numpy.float32(own.area), numpy.float32(own.mass),
                *(numpy.float32(number) for number in steps + gains),
            ),
        )  # fmt: skip

    def _coarse(self, f: Array, u: Array, *, nested: bool, sums: Array | None) -> None:
        top = self.levels[self.cut]
        launch = kernel(FILE, "coarse_levels", VARIANTS)
        # Of the function, not of this launch: the same for all sizes.
        launch.max_dynamic_shared_size_bytes = max(self.block_bytes, BLOCK_BYTES)
        steps = [numpy.float32(step) for which in (NEST, DOWN, UP) for step in STEPS[which]]
        launch(
            (self.planes,), (512,),
            (
                f, self.sizes, self.lasts, self.inverse, top.row_measure, top.column_measure,
                u, self.means, self.unused_too if sums is None else sums,
                numpy.int32(len(self.sizes)), numpy.int32(top.pitch),
                numpy.int32(nested), numpy.int32(sums is not None),
                numpy.float32(top.area), numpy.float32(top.mass),
                numpy.float32(0.0 if self.cut else self.per_mean), numpy.float32(self.samples), *steps,
            ),
            shared_mem=self.block_bytes,
        )  # fmt: skip

    def _kept(self, which: int) -> float:
        """What the relaxations of a pass over the finest level leave of a mean."""
        mass = self.levels[0].mass
        return float(numpy.prod([4.0 / (4.0 + float(step) * mass) for step in STEPS[which]]))

    def _find_shifts(self) -> None:
        kernel(FILE, "mean_shift", VARIANTS)(
            (self.planes,), (512,),
            (
                self.sums, self.means, self.shifts,
                numpy.int32(self.cycles + 2), numpy.int32(self.planes), numpy.int32(self.parts),
                numpy.float32(self.samples), numpy.float32(self.per_mean),
                numpy.float32(self._kept(FIRST)), numpy.float32(self._kept(MIDDLE)),
            ),
        )  # fmt: skip


def _strips(below: _Level) -> int:
    """How many warps lie side by side on a level, given the one below it."""
    return -(-below.width // (_OWN_COLUMNS // 2))


def _block_bytes(geometry: hierarchy.Plan, depth: int) -> int:
    """Shared memory for level `depth` and below: u and f of each, and u of the first again."""
    cells = geometry.shape[depth:].prod(axis=1)
    return int(4 * (2 * cells.sum() + cells[0]))
