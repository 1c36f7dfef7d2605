"""Full multigrid for the Poisson equation with Neumann border, screened or not, on the CPU.

The levels are those of `gpufuse.hierarchy`. The work is done by *passes*. A pass walks down the rows of one
level once and does everything there is to do between two visits of the coarser level: add the
interpolated coarse correction, relax several times, restrict the residual. Each relaxation follows the one
before it by one row, so that a row is fetched from memory once per pass instead of once per relaxation.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy

from gpufuse.hierarchy import DOWN, FIRST, LAST, MIDDLE, NEST, STEPS, UP, Plan, plan
from gpufuse.kernels_cpu._compile import inlined, kernel
from gpufuse.threads import for_bands, get_threads

__all__ = ["solve"]

PREPARE, SOLVE = UP + 1, UP + 2
"""What is done beside passes: restricting the right-hand side before nested iteration; the coarsest level."""

SERIAL_CELLS = 131072
"""A level of at most so many cells is not cut into bands: waiting would cost more than it saves."""

BANDED_CELLS = 524288
"""A plane of at most so many cells is left to one thread: bands would gain milliseconds, and cost seconds
of compilation on a first run."""


# ---------------------------------------------------------------- rows
# The ring holds the last three rows of every stage of a pass: ``ring[stage, r % 3]``, with one more element
# at each end. Rows are cut out here and as shifted slices: an index i-1 that might be negative keeps
# the compiler from using vector instructions, and slices made by the caller cost reference counts.


@inlined
def _load_row(ring: numpy.ndarray, r: int, old: numpy.ndarray) -> None:
    """Stage 0 without correction: a copy."""
    n = old.shape[1]
    o, source = ring[0, r % 3, 1 : n + 1], old[r]
    for i in range(n):
        o[i] = source[i]


@inlined
def _store_row(ring: numpy.ndarray, stage: int, r: int, new: numpy.ndarray) -> None:
    """Copy the last stage's row to the result."""
    n = new.shape[1]
    source, target = ring[stage, r % 3, 1 : n + 1], new[r]
    for i in range(n):
        target[i] = source[i]


@inlined
def _close_row(ring: numpy.ndarray, stage: int, r: int, n: int) -> None:
    """Neumann border: the element beyond each end repeats the end."""
    row = ring[stage, r % 3]
    row[0] = row[1]
    row[n + 1] = row[n]


@inlined
def _correct_row(
    ring: numpy.ndarray,
    r: int,
    old: numpy.ndarray,
    add: bool,
    shift: float,
    coarse: numpy.ndarray,
    sources: numpy.ndarray,
    weights: numpy.ndarray,
    column_sources: numpy.ndarray,
    column_weights: numpy.ndarray,
    room: numpy.ndarray,
) -> None:
    """Stage 0: ``old - shift + interpolated coarse``; `room` is for one coarse row."""
    n, count = old.shape[1], coarse.shape[1]
    upper, lower, before = coarse[sources[r, 0]], coarse[sources[r, 1]], old[r]
    first, second = weights[r, 0], weights[r, 1]
    inner = room[1 : count + 1]
    for j in range(count):
        inner[j] = first * upper[j] + second * lower[j] - shift
    room[0] = room[1]
    # The last cells may have centres of their own and go by the tables.
    pairs = max(0, count - 2)
    near, left, right = room[1 : pairs + 1], room[:pairs], room[2 : pairs + 2]
    target = ring[0, r % 3, 1 : n + 1]
    quarter = numpy.float32(0.25)
    if add:
        for j in range(pairs):
            base = numpy.float32(0.75) * near[j]
            target[2 * j] = before[2 * j] + (base + quarter * left[j])
            target[2 * j + 1] = before[2 * j + 1] + (base + quarter * right[j])
    else:
        for j in range(pairs):
            base = numpy.float32(0.75) * near[j]
            target[2 * j] = base + quarter * left[j]
            target[2 * j + 1] = base + quarter * right[j]
    for i in range(2 * pairs, n):
        value = column_weights[i, 0] * inner[column_sources[i, 0]]
        value += column_weights[i, 1] * inner[column_sources[i, 1]]
        target[i] = before[i] + value if add else value


@inlined
def _first_row(
    o: numpy.ndarray,
    r: int,
    f: numpy.ndarray,
    step: float,
    mass: float,
    faces: numpy.ndarray,
    last: numpy.ndarray,
    special: bool,
) -> None:
    """Stage 1 where u = 0: the relaxation without its neighbours, put into `o`."""
    n = f.shape[1]
    source = f[r]
    height, share = faces[r, 2], faces[r, 3]
    own = step * mass * height
    gain = -step / (numpy.float32(2.0) * height + share + own)
    for i in range(n):
        o[i] = gain * source[i]
    if special:
        for k in range(max(0, 2 - n), 2):
            diagonal = height * last[k, 3] + last[k, 2] * share
            if mass > 0:
                diagonal += own * last[k, 2]
            o[n - 2 + k] = -step / diagonal * source[n - 2 + k]


@inlined
def _relax_row(
    o: numpy.ndarray,
    ring: numpy.ndarray,
    stage: int,
    r: int,
    f: numpy.ndarray,
    step: float,
    mass: float,
    faces: numpy.ndarray,
    last: numpy.ndarray,
    special: bool,
) -> None:
    """``u + step / (diagonal + step mass) * (A u - mass u - f)`` from the stage before, put into `o`."""
    n = f.shape[1]
    before, centre = stage - 1, r % 3
    c = ring[before, centre, 1 : n + 1]
    w, e = ring[before, centre, :n], ring[before, centre, 2 : n + 2]
    a = ring[before, max(r - 1, 0) % 3, 1 : n + 1]
    b = ring[before, min(r + 1, f.shape[0] - 1) % 3, 1 : n + 1]
    source = f[r]
    north, south, height, share = faces[r, 0], faces[r, 1], faces[r, 2], faces[r, 3]
    own = mass * height
    gain = step / (numpy.float32(2.0) * height + share + step * own)
    up, down, side = gain * north, gain * south, gain * height
    keep = numpy.float32(1.0) - up - down - numpy.float32(2.0) * side - gain * own
    for i in range(n):
        o[i] = keep * c[i] + up * a[i] + down * b[i] + side * (w[i] + e[i]) - gain * source[i]
    if special:
        for k in range(max(0, 2 - n), 2):
            i = n - 2 + k
            diagonal = height * last[k, 3] + last[k, 2] * share
            flow = last[k, 2] * (north * (a[i] - c[i]) + south * (b[i] - c[i]))
            flow += height * (last[k, 0] * (w[i] - c[i]) + last[k, 1] * (e[i] - c[i]))
            if mass > 0:
                diagonal += step * own * last[k, 2]
                flow -= own * last[k, 2] * c[i]
            o[i] = c[i] + step / diagonal * (flow - source[i])


@inlined
def _residual_row(
    a: numpy.ndarray,
    c: numpy.ndarray,
    b: numpy.ndarray,
    source: numpy.ndarray,
    mass: float,
    face: numpy.ndarray,
    last: numpy.ndarray,
    special: bool,
    total: numpy.ndarray,
    add: bool,
) -> None:
    """``f - A u + mass u`` of row `c` between `a` and `b`, put into `total` or added to it.

    By differences of neighbours, which hardly round: what is rounded here the coarse levels take for a slope,
    and it comes back magnified by the size of the picture.
    """
    n = c.size
    north, south, height = face[0], face[1], face[2]
    if not add:
        total[:n] = numpy.float32(0.0)
    start = (total[max(0, n - 2)], total[n - 1])
    for i in (0, n - 1):  # beyond an end is a repetition of the end
        side = (c[max(0, i - 1)] - c[i]) + (c[min(i + 1, n - 1)] - c[i])
        total[i] += source[i] - (north * (a[i] - c[i]) + south * (b[i] - c[i]) + height * side)
    inner, w, e = total[1 : n - 1], c[: n - 2], c[2:]
    inner_a, inner_c, inner_b, inner_source = a[1 : n - 1], c[1 : n - 1], b[1 : n - 1], source[1 : n - 1]
    for i in range(inner.size):
        own = inner_c[i]
        flow = north * (inner_a[i] - own) + south * (inner_b[i] - own)
        flow += height * ((w[i] - own) + (e[i] - own))
        inner[i] += inner_source[i] - flow
    if special:
        for k in range(max(0, 2 - n), 2):
            i = n - 2 + k
            flow = last[k, 2] * (north * (a[i] - c[i]) + south * (b[i] - c[i]))
            flow += height * last[k, 0] * (c[max(0, i - 1)] - c[i])
            flow += height * last[k, 1] * (c[min(i + 1, n - 1)] - c[i])
            total[i] = start[k] + (source[i] - flow)
    if mass > 0:  # apart, so that it costs nothing where there is none
        own = mass * height
        for i in range(n):
            total[i] += own * c[i]
        if special:
            for k in range(max(0, 2 - n), 2):
                total[n - 2 + k] += own * (last[k, 2] - numpy.float32(1.0)) * c[n - 2 + k]


@inlined
def _pair_row(coarse_f: numpy.ndarray, r: int, fine: numpy.ndarray, n: int, mean: float) -> None:
    """Coarse row r: the pairs of a row; `mean` is to be taken off each pair."""
    half = n // 2
    out = coarse_f[r]
    for j in range(half):
        out[j] = (fine[2 * j] + fine[2 * j + 1]) - mean
    if n % 2:
        value = fine[n - 1] - numpy.float32(0.5) * mean
        if out.size > half:
            out[half] = value
        else:  # three columns make the last coarse one
            out[half - 1] += value


# ---------------------------------------------------------------- passes


@kernel
def _pass(
    start: int,
    stop: int,
    depth: int,
    geometry: Plan,
    old: numpy.ndarray,
    has_old: bool,
    coarse: numpy.ndarray,
    has_coarse: bool,
    shift: float,
    f: numpy.ndarray,
    steps: numpy.ndarray,
    new: numpy.ndarray,
    coarse_f: numpy.ndarray,
    has_residual: bool,
    mean: float,
    ring: numpy.ndarray,
) -> None:
    """One pass over the coarse rows start..stop of level `depth` (see the head of the file).

    Rows beyond the band that are needed are computed again, by the same operations: the result does
    not depend on where bands end. Only a band of all rows may have `new` is `old`.
    """
    height, width = f.shape
    coarse_height = geometry.shape[depth + 1, 0]
    low, high = 2 * start, (height if stop == coarse_height else 2 * stop)
    sweeps = steps.size
    extra = 1 if has_residual else 0
    faces = geometry.row_face[geometry.rows[depth] : geometry.rows[depth + 1]]
    row_from = geometry.row_from[geometry.rows[depth] : geometry.rows[depth + 1]]
    row_weight = geometry.row_weight[geometry.rows[depth] : geometry.rows[depth + 1]]
    column_from = geometry.column_from[geometry.columns[depth] : geometry.columns[depth + 1]]
    column_weight = geometry.column_weight[geometry.columns[depth] : geometry.columns[depth + 1]]
    last = geometry.last_face[depth]
    special, mass = geometry.special[depth], geometry.mass[depth]
    blank = not (has_old or has_coarse)
    room = ring[0, 3]
    total = ring[1, 3]
    for front in range(max(0, low - sweeps - extra), high + sweeps + 2 * extra):
        for stage in range(sweeps + 1):
            r = front - stage
            margin = sweeps - stage + extra
            if r < max(0, low - margin) or r >= min(height, high + margin):
                continue
            if stage == 0:
                if has_coarse:
                    _correct_row(
                        ring, r, old, has_old, shift, coarse,
                        row_from, row_weight, column_from, column_weight, room,
                    )  # fmt: skip
                elif has_old:
                    _load_row(ring, r, old)
                if sweeps == 0:
                    _store_row(ring, 0, r, new)
            else:
                # The last stage goes to the result; beyond the band, that belongs to another thread.
                done = stage == sweeps and low <= r < high
                o = new[r] if done else ring[stage, r % 3, 1 : width + 1]
                if stage == 1 and blank:
                    _first_row(o, r, f, steps[0], mass, faces, last, special)
                else:
                    _relax_row(o, ring, stage, r, f, steps[stage - 1], mass, faces, last, special)
            if stage < sweeps:
                _close_row(ring, stage, r, width)
        r = front - sweeps - 1
        if has_residual and low <= r < high:
            parent = min(r // 2, coarse_height - 1)
            above, below = max(r - 1, 0), min(r + 1, height - 1)
            _residual_row(
                new[above] if above >= low else ring[sweeps, above % 3, 1 : width + 1],
                new[r],
                new[below] if below < high else ring[sweeps, below % 3, 1 : width + 1],
                f[r], mass, faces[r], last, special, total, r > 2 * parent,
            )  # fmt: skip
            if r == height - 1 or (r % 2 == 1 and parent < coarse_height - 1):
                take = mean * numpy.float32(2 * (r - 2 * parent + 1))
                _pair_row(coarse_f, parent, total, width, take)


@kernel
def _restrict(start: int, stop: int, f: numpy.ndarray, coarse_f: numpy.ndarray, total: numpy.ndarray) -> None:
    """Sum of the children, for the coarse rows start..stop."""
    height, width = f.shape
    for r in range(start, stop):
        end = height if r == coarse_f.shape[0] - 1 else 2 * r + 2
        for i in range(width):
            total[i] = f[2 * r, i]
        for child in range(2 * r + 1, end):
            for i in range(width):
                total[i] += f[child, i]
        _pair_row(coarse_f, r, total, width, numpy.float32(0.0))


@kernel
def _level(flat: numpy.ndarray, geometry: Plan, depth: int) -> numpy.ndarray:
    """The part of a flat work array that holds one level below the finest."""
    part = flat[geometry.cells[depth] : geometry.cells[depth + 1]]
    return part.reshape((geometry.shape[depth, 0], geometry.shape[depth, 1]))


@kernel
def _solve_coarsest(u: numpy.ndarray, f: numpy.ndarray, geometry: Plan) -> None:
    """Exact solution on the coarsest level; where that is the finest too, with the mean that a mass gives."""
    count = f.size
    flat_u, flat_f = u.reshape(count), f.reshape(count)
    total = numpy.zeros(count)
    for j in range(count):
        value = numpy.float64(flat_f[j])
        column = geometry.inverse[j]  # symmetric
        for i in range(count):
            total[i] += column[i] * value
    if geometry.shape.shape[0] == 1 and geometry.mass[0] > 0:
        mean = 0.0
        for j in range(count):
            mean += flat_f[j]
        mean /= count * geometry.mass[0]
        for i in range(count):
            total[i] -= mean
    for i in range(count):
        flat_u[i] = total[i]


@kernel
def _shift(coarse: numpy.ndarray, geometry: Plan, steps: numpy.ndarray, mean: Any, first: bool) -> Any:
    """What is to be taken off u on the finest level so that a pass leaves it the mean it is to have.

    The interpolated correction adds its mean. Without a mass the mean is to stay 0, and a relaxation adds
    ``-step / diagonal`` times the mean of the right-hand side, and nothing else: all cells have one diagonal
    there, and A u sums to 0. With a mass u is to have the mean of the solution from the first pass on, and
    relaxations keep it.
    """
    height, width = geometry.shape[0, 0], geometry.shape[0, 1]
    rows = geometry.row_measure[geometry.rows[1] : geometry.rows[2]]
    columns = geometry.column_measure[geometry.columns[1] : geometry.columns[2]]
    sums = numpy.zeros(coarse.shape[1])
    for r in range(coarse.shape[0]):
        measure, row = rows[r], coarse[r]
        for i in range(row.size):
            sums[i] += measure * row[i]
    total = 0.0
    for i in range(sums.size):
        total += sums[i] * columns[i]
    if geometry.mass[0] > 0:
        drift = mean / numpy.float64(geometry.mass[0]) if first else 0.0
    else:
        diagonal = (2.0 if height > 1 else 0.0) + (2.0 if width > 1 else 0.0)
        drift = 0.0
        for step in steps:
            drift -= step * mean / diagonal
    return numpy.float32(total / (height * width) + drift)


@kernel
def _project(f: numpy.ndarray, geometry: Plan, depth: int, mean: float) -> None:
    """Take `mean` per finest cell out of a restricted right-hand side."""
    rows = geometry.row_size[geometry.rows[depth] : geometry.rows[depth + 1]]
    columns = geometry.column_size[geometry.columns[depth] : geometry.columns[depth + 1]]
    for r in range(f.shape[0]):
        take, row = mean * rows[r], f[r]
        for i in range(row.size):
            row[i] -= take * columns[i]


@kernel
def _prepare(given: numpy.ndarray, flat: numpy.ndarray, geometry: Plan, top: int, ring: numpy.ndarray) -> Any:
    """Restrict the right-hand side of level `top` to all below, take the mean out of these and return it.

    It is taken out of level `top` too, unless that is the picture, which is not changed.
    """
    bottom = geometry.shape.shape[0] - 1
    for level in range(top, bottom):
        fine = given if level == top else _level(flat, geometry, level)
        coarse = _level(flat, geometry, level + 1)
        _restrict(0, coarse.shape[0], fine, coarse, ring[0, 0])
    total = 0.0
    for row in given if bottom == top else _level(flat, geometry, bottom):
        for value in row:
            total += value
    mean = numpy.float32(total / (geometry.shape[0, 0] * geometry.shape[0, 1]))
    for level in range(max(1, top), bottom + 1):
        _project(given if level == top else _level(flat, geometry, level), geometry, level, mean)
    return mean


@kernel
def _ring(geometry: Plan, steps: Any) -> numpy.ndarray:
    stages = 2
    for kind in steps:
        stages = max(stages, kind.size + 1)
    # Element 1 of each row, the first of the picture, begins a cache line.
    pitch = (geometry.shape[0, 1] + 2 + 15) // 16 * 16
    room = numpy.empty(stages * 4 * pitch + 16, numpy.float32)
    begin = 15 - (room.ctypes.data // 4) % 16
    return room[begin : begin + stages * 4 * pitch].reshape((stages, 4, pitch))


@functools.lru_cache(maxsize=16)
def _schedule(top: int, bottom: int, cycles: int) -> numpy.ndarray:
    """What is done level by level, as rows (level, kind of pass); of one V-cycle if `cycles` is below 0."""

    def correct(depth: int) -> Iterator[tuple[int, int]]:
        """One V-cycle from zero on level `depth` and below."""
        yield from ((level, DOWN) for level in range(depth, bottom))
        yield bottom, SOLVE
        yield from ((level, UP) for level in range(bottom - 1, depth - 1, -1))

    def all_of_it() -> Iterator[tuple[int, int]]:
        if cycles < 0:
            yield from correct(top)
            return
        # Nested iteration, with one V-cycle a level, from restricted right-hand sides.
        yield top, PREPARE
        yield bottom, SOLVE
        for level in range(bottom - 1, max(1, top) - 1, -1):
            yield level, NEST
            yield from correct(level + 1)
            yield level, UP
        if top == 0 and bottom > 0:
            for turn in range(cycles + 1):
                yield 0, MIDDLE if turn else FIRST
                yield from correct(1)
            yield 0, LAST

    return numpy.array(list(all_of_it()), numpy.int64)


@kernel
def _planes(
    start: int,
    stop: int,
    schedule: numpy.ndarray,
    top: int,
    geometry: Plan,
    given: numpy.ndarray,
    result: numpy.ndarray,
    steps: Any,
    means: numpy.ndarray,
) -> None:
    """Planes start..stop, each worked on by one thread from level `top` down, by a schedule.

    All passes are called from one place: each would be compiled and optimised anew.
    """
    bottom = geometry.shape.shape[0] - 1
    ring = _ring(geometry, steps)
    u = numpy.empty(geometry.cells[bottom + 1], numpy.float32)
    f = numpy.empty(geometry.cells[bottom + 1], numpy.float32)
    zero = numpy.float32(0.0)
    for plane in range(start, stop):
        for turn in range(schedule.shape[0]):
            level, kind = schedule[turn, 0], schedule[turn, 1]
            own = result[plane] if level == top else _level(u, geometry, level)
            own_f = given[plane] if level == top else _level(f, geometry, level)
            if kind == PREPARE:
                means[plane] = _prepare(own_f, f, geometry, top, ring)
            elif kind == SOLVE:
                _solve_coarsest(own, own_f, geometry)
            else:
                below, below_f = _level(u, geometry, level + 1), _level(f, geometry, level + 1)
                shift = mean = zero
                if level == 0:
                    shift = _shift(below, geometry, steps[kind], means[plane], kind == FIRST)
                    mean = zero if geometry.mass[0] > 0 else means[plane]
                _pass(
                    0, below.shape[0], level, geometry,
                    own, kind in (MIDDLE, LAST, UP), below, kind != DOWN, shift,
                    own_f, steps[kind], own, below_f, kind not in (LAST, UP), mean, ring,
                )  # fmt: skip


# ---------------------------------------------------------------- few large planes: bands of rows


@kernel
def _pass_bands(
    start: int,
    stop: int,
    depth: int,
    geometry: Plan,
    old: numpy.ndarray,
    has_old: bool,
    coarse: numpy.ndarray,
    has_coarse: bool,
    shifts: numpy.ndarray,
    f: numpy.ndarray,
    steps: Any,
    which: int,
    new: numpy.ndarray,
    coarse_f: numpy.ndarray,
    has_residual: bool,
    means: numpy.ndarray,
) -> None:
    """`_pass` on coarse rows start..stop counted through all planes; `new` must not be `old`."""
    rows = geometry.shape[depth + 1, 0]
    ring = _ring(geometry, steps)
    while start < stop:
        plane, first = start // rows, start % rows
        end = min(rows, first + stop - start)
        _pass(
            first,
            end,
            depth,
            geometry,
            old[plane],
            has_old,
            coarse[plane],
            has_coarse,
            shifts[plane],
            f[plane],
            steps[which],
            new[plane],
            coarse_f[plane],
            has_residual,
            means[plane],
            ring,
        )
        start += end - first


@kernel
def _restrict_bands(start: int, stop: int, f: numpy.ndarray, coarse_f: numpy.ndarray) -> None:
    """`_restrict` on coarse rows counted through all planes."""
    rows = coarse_f.shape[1]
    total = numpy.empty(f.shape[2], numpy.float32)
    while start < stop:
        plane, first = start // rows, start % rows
        end = min(rows, first + stop - start)
        _restrict(first, end, f[plane], coarse_f[plane], total)
        start += end - first


@kernel
def _project_planes(start: int, stop: int, depth: int, geometry: Plan, f: numpy.ndarray, means: Any) -> None:
    for plane in range(start, stop):
        _project(f[plane], geometry, depth, means[plane])


@kernel
def _shift_planes(
    start: int,
    stop: int,
    geometry: Plan,
    coarse: numpy.ndarray,
    steps: numpy.ndarray,
    means: Any,
    first: bool,
    shifts: Any,
) -> None:
    for plane in range(start, stop):
        shifts[plane] = _shift(coarse[plane], geometry, steps, means[plane], first)


class _Banded:
    """Planes solved together, level by level: the large levels in bands of rows, the rest by planes."""

    def __init__(
        self, geometry: Plan, rhs: numpy.ndarray, out: numpy.ndarray, cycles: int, steps: Any
    ) -> None:
        self.geometry, self.rhs, self.out, self.cycles, self.steps = geometry, rhs, out, cycles, steps
        self.planes = len(rhs)
        sizes = geometry.shape.prod(axis=1)
        bottom = len(sizes) - 1
        self.cut = next((k for k in range(1, bottom) if sizes[k] <= SERIAL_CELLS), bottom)

        def room(depth: int) -> numpy.ndarray:
            return numpy.empty((self.planes, *geometry.shape[depth]), numpy.float32)

        # Bands read one array and write another; level `cut` needs one of them only.
        self.first = [room(depth) for depth in range(self.cut)]
        self.second = [out] + [room(depth) for depth in range(1, self.cut + 1)]
        self.f = [rhs] + [room(depth) for depth in range(1, self.cut + 1)]
        self.means = numpy.zeros(self.planes, numpy.float32)
        self.zeros = numpy.zeros(self.planes, numpy.float32)
        self.shifts = numpy.zeros(self.planes, numpy.float32)

    def run(self) -> None:
        """Solve; the result is in `out`."""
        for depth in range(self.cut):
            rows = self.planes * int(self.geometry.shape[depth + 1, 0])
            for_bands(_restrict_bands, rows, self.f[depth], self.f[depth + 1])
        self._coarse(nested=True)
        for depth in range(1, self.cut):
            for_bands(_project_planes, self.planes, depth, self.geometry, self.f[depth], self.means)
        for depth in range(self.cut - 1, 0, -1):
            self._pass(depth, NEST, None, self.first[depth], residual=True)
            self._correct(depth + 1)
            self._pass(depth, UP, self.first[depth], self.second[depth], residual=False)
        buffers = (self.out, self.first[0])
        for turn in range(self.cycles + 2):
            which = FIRST if turn == 0 else (MIDDLE if turn <= self.cycles else LAST)
            for_bands(
                _shift_planes,
                self.planes,
                self.geometry,
                self.second[1],
                self.steps[which],
                self.means,
                turn == 0,
                self.shifts,
            )
            new, old = buffers[(self.cycles + 1 - turn) % 2], buffers[(self.cycles - turn) % 2]
            self._pass(0, which, old if turn else None, new, residual=turn <= self.cycles)
            if turn <= self.cycles:
                self._correct(1)

    def _correct(self, depth: int) -> None:
        """One V-cycle from zero; the result is in ``second[depth]``."""
        for level in range(depth, self.cut):
            self._pass(level, DOWN, None, self.first[level], residual=True, correct=False)
        self._coarse(nested=False)
        for level in range(self.cut - 1, depth - 1, -1):
            self._pass(level, UP, self.first[level], self.second[level], residual=False)

    def _coarse(self, *, nested: bool) -> None:
        for_bands(
            _planes,
            self.planes,
            _schedule(self.cut, len(self.geometry.shape) - 1, 0 if nested else -1),
            self.cut,
            self.geometry,
            self.f[self.cut],
            self.second[self.cut],
            self.steps,
            self.means,
        )

    def _pass(
        self,
        depth: int,
        which: int,
        old: numpy.ndarray | None,
        new: numpy.ndarray,
        *,
        residual: bool,
        correct: bool = True,
    ) -> None:
        finest = depth == 0
        for_bands(
            _pass_bands,
            self.planes * int(self.geometry.shape[depth + 1, 0]),
            depth,
            self.geometry,
            new if old is None else old,
            old is not None,
            self.second[depth + 1],
            correct,
            self.shifts if finest else self.zeros,
            self.f[depth],
            self.steps,
            which,
            new,
            self.f[depth + 1],
            residual,
            self.means if finest and not self.geometry.mass[0] else self.zeros,
        )


def solve(rhs: numpy.ndarray, cycles: int, data_weight: float = 0.0) -> numpy.ndarray:
    """Solve for all planes.

    Parameters
    ----------
    rhs : ndarray, shape (N, H, W), float32, contiguous
        H and W at least 2; not changed.
    cycles : int
        V-cycles on the finest level after nested iteration.
    data_weight : float
        Of the screened equation, per square pixel; 0: not screened.

    Returns
    -------
    ndarray, shape (N, H, W), float32
        Bit for bit the same for any number of threads, and for a plane alone or among others.
    """
    if not rhs.flags.writeable:
        rhs = rhs.copy()  # a read-only array is a type of its own: everything would be compiled once more
    out = numpy.empty_like(rhs)
    geometry, steps = plan(*rhs.shape[1:], data_weight), STEPS
    # One thread per plane needs no waiting for each other. What does not come out even is cut into bands,
    # unless it is too little for that to pay.
    threads = get_threads()
    whole = len(rhs)
    if threads > 1 and rhs[0:1].size > BANDED_CELLS and len(geometry.shape) > 1:
        whole -= whole % threads
    if whole:
        schedule = _schedule(0, len(geometry.shape) - 1, cycles)
        means = numpy.empty(whole, numpy.float32)
        for_bands(_planes, whole, schedule, 0, geometry, rhs[:whole], out[:whole], steps, means)
    if whole < len(rhs):
        _Banded(geometry, rhs[whole:], out[whole:], cycles, steps).run()
    return out
