"""Prove the kernels right on this machine's GPU, and print how close each is to the hardware's limit.

    python benchmarks/gpu_report.py [--output FOLDER] [--budget SECONDS] [--quick] [--no-tests]
    python benchmarks/gpu_report.py --predict > benchmarks/results/gpu-prediction.md

One call of a few minutes from a plain checkout, with CuPy, NumPy, SciPy, numba and pytest. It writes
``gpu-NAME.json`` (every figure with its unit in its name), ``gpu-NAME.md`` (to read) and ``gpu-NAME.png``
(a chart), anew after each section, so that a run that is cut short loses nothing. ``--predict`` needs no GPU.

Ends with 0; with 1 if a test or a section failed; with 8 if no GPU can be used.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for folder in (str(ROOT / "benchmarks"), str(ROOT)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from gpu import chain, costs, endtoend, plain, solver, tables  # noqa: E402
from gpu.chart import chart  # noqa: E402
from gpu.chip import H200, Ceilings, Tools, measured  # noqa: E402
from gpu.costs import SIZES  # noqa: E402
from gpu.facts import clocks, facts, parity  # noqa: E402
from gpu.steps import STEPS, Data, bytes_of_data, data  # noqa: E402
from gpu.timing import QUICK, Budget, Effort, HostClock, duration, measure  # noqa: E402

import gpufuse  # noqa: E402
from gpufuse import fusion, hardware  # noqa: E402
from gpufuse.kernels_cuda import multigrid  # noqa: E402

NO_GPU = 8

BATCHES = (8, 1, 32)
"""Frames worked on together; the first for comparisons."""

RESERVE = 10.0
"""Seconds kept for what cannot be interrupted."""

TESTS_SHARE = 0.4
"""Of the budget, at most, for the tests."""

CPU_FRAMES = {"tiny": 2, "320x240": 16, "720p": 4, "1080p": 2, "4K": 2}


class Report:
    """What has been measured so far, in files that are up to date after each section."""

    def __init__(self, folder: Path, budget: Budget, *, emulated: bool) -> None:
        known = facts(ROOT)
        name = known["gpu"]["name"] or "unknown GPU"
        device = f"{name} (emulated on a CPU: figures mean nothing)" if emulated else name
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self.stem, self._budget = folder / f"gpu-{slug}", budget
        self.data: dict[str, Any] = {
            "device": device,
            "emulated": emulated,
            "facts": known,
            "seconds": 0.0,
            **{
                name: []
                for name in (
                    "goals", "breakdown", "chain", "kernels", "against_cpu", "against_arrays", "accuracy",
                    "poisson_groups", "skipped", "failures",
                )
            },
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, section: str, entry: dict[str, Any]) -> None:
        self.data[section].append(entry)

    def skip(self, what: str, why: str) -> None:
        self.data["skipped"].append(f"{what}: {why}")
        print(f"left out: {what}: {why}", flush=True)

    def save(self) -> None:
        self.data["goals"] = costs.judged(self.data)
        self.data["breakdown"] = costs.breakdown(self.data)
        self.data["seconds"] = self._budget.spent()
        self._replace(".json", json.dumps(self.data, indent=1, default=str).encode())
        self._replace(".md", tables.as_markdown(self.data).encode())
        self._replace(".png", chart(self.data))

    def _replace(self, suffix: str, content: bytes) -> None:
        part = self.stem.with_suffix(suffix + ".part")
        part.write_bytes(content)
        part.replace(self.stem.with_suffix(suffix))


@dataclasses.dataclass(frozen=True)
class Run:
    """All that a section needs."""

    tools: Tools
    report: Report
    budget: Budget
    effort: Effort
    quick: bool
    sizes: tuple[str, ...]
    """The most important first."""
    files: tuple[str, ...]
    """Of tests; none: they are left out."""

    @property
    def chip(self) -> Ceilings:
        """Ceilings as measured; those of the prediction where that failed."""
        found = self.report.data.get("ceilings")
        names = [field.name for field in dataclasses.fields(Ceilings)]
        return Ceilings(**{name: found[name] for name in names}) if found else H200

    @property
    def batches(self) -> tuple[int, ...]:
        return (2, 1) if self.quick else BATCHES

    def in_time(self, what: str, seconds: float = 0.0) -> bool:
        """Whether there is time for something that takes about so long; a note if not."""
        if self.budget.left() > RESERVE + seconds:
            return True
        self.report.skip(what, f"no time left of {self.budget.seconds:.0f} s")
        return False

    def fits(self, what: str, needed: int) -> bool:
        """Whether there is room on the device; a note if not."""
        self.forget()
        free = self.tools.cupy.cuda.Device().mem_info[0]
        if needed < 0.8 * free:
            return True
        self.report.skip(what, f"it takes {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free")
        return False

    def forget(self) -> None:
        """Give back the memory that is kept from earlier work."""
        multigrid.release()
        self.tools.cupy.get_default_memory_pool().free_all_blocks()

    def wait(self) -> None:
        self.tools.cupy.cuda.Device().synchronize()


# ------------------------------------------------------------------------------------------------ sections


def test(run: Run) -> None:
    """Compare the kernels with their CPU twins."""
    if not run.files:
        run.report.data["tests"] = {"left_out": "Left out by --no-tests."}
        return
    limit = min(TESTS_SHARE * run.budget.seconds, run.budget.left() - RESERVE)
    result = parity(ROOT, run.files, limit)
    run.report.data["tests"] = result
    good = result["exit_code"] == 0
    print(
        f"tests on the GPU: {'passed' if good else 'NOT PASSED'}, "
        f"{result['passed']} passed, {result['failed']} failed, {result['errors']} errors, {result['seconds']:.0f} s"
    )
    if not good:
        print("\n".join(result["last_lines"]))
        run.report.data["failures"].append(
            "tests on the GPU: see above; figures of wrong kernels mean nothing"
        )


def measure_ceilings(run: Run) -> None:
    found = dataclasses.asdict(measured(run.tools, run.effort))
    if not run.tools.emulated:
        for _ in range(40):  # a second of work, so that the clocks are those of work
            run.tools.multiply_adds(4000)
        found["clocks_under_load"] = clocks()
        run.wait()
    found["l2_bytes"] = run.tools.l2_bytes
    run.report.data["ceilings"] = found
    print(
        f"ceilings: copy {found['bandwidth'] / 1e12:.2f} TB/s, multiply-adds {found['fma'] / 1e12:.1f} T/s, "
        f"special functions {found['special'] / 1e12:.2f} T/s, launch {duration(found['launch_seconds'])}"
    )


def sets_of_data(run: Run, size: str, frames: int) -> list[Data]:
    """So many sets of data that together they outgrow the L2 cache, as far as that makes sense."""
    shape = SIZES[size]
    one = 12 * shape[0] * shape[1] * frames
    count = 2 if run.quick else min(6, max(2, -(-3 * run.tools.l2_bytes // one)))
    return [data(run.tools, shape, frames, seed) for seed in range(count)]


def time_kernels(run: Run, size: str) -> None:
    for frames in run.batches:
        what = f"kernels, {size}, {frames} frames"
        if run.in_time(what, 2.0) and run.fits(what, 3 * bytes_of_data(SIZES[size], frames)):
            sets = sets_of_data(run, size, frames)
            print(tables.printed(tables.KERNEL_HEAD))
            for step in STEPS:
                if run.in_time(f"{step}, {what}"):
                    run.report.add("kernels", kernel_record(run, size, step, sets))


def kernel_record(run: Run, size: str, step: str, sets: Sequence[Data]) -> dict[str, Any]:
    """Time one step and compare it with what it costs."""
    frames, (height, width) = sets[0].frames, SIZES[size]
    calls = [functools.partial(STEPS[step], one) for one in sets]
    timing = measure(calls, run.tools.clock, run.effort)
    prediction = costs.predicted(step, frames, height * width, run.chip)
    seconds = timing.seconds / frames
    moved = prediction["bytes_per_frame"] * frames * len(sets)
    entry = {
        "work": step,
        "size": size,
        "frames": frames,
        "seconds_per_frame": seconds,
        "lowest_seconds_per_frame": timing.low / frames,
        "highest_seconds_per_frame": timing.high / frames,
        "host_seconds_per_call": timing.host_seconds,
        "samples": timing.samples,
        "calls_per_sample": timing.calls,
        "sets": len(sets),
        "fits_l2": moved < run.tools.l2_bytes,
        **prediction,
        **costs.compared(prediction, seconds, run.chip),
    }
    print(tables.printed(tables.kernel_row(entry)), flush=True)
    return entry


def time_chain(run: Run, size: str) -> None:
    shape = SIZES[size]
    lengths = chain.CHUNKS[size][:1] if run.quick else chain.CHUNKS[size]
    for length in lengths:
        what = f"chain, {size}, chunks of {length}"
        if run.in_time(what, 3.0) and run.fits(what, 12 * shape[0] * shape[1] * (21 * length + 16)):
            run.report.add("chain", chain_record(run, size, length))


def chain_record(run: Run, size: str, length: int) -> dict[str, Any]:
    """Time the chain, and count what it takes besides time."""
    pool = run.tools.cupy.get_default_memory_pool()
    material = chain.footage(run.tools, SIZES[size], 2 * length)
    run.forget()
    seconds, runs = (0.0, 1) if run.quick else (0.4, 5)
    fewest = 4 if run.quick else 6
    timing = chain.timed(material, length, wait=run.wait, seconds=seconds, runs=runs, fewest=fewest)
    peak = int(pool.total_bytes())
    default = fusion.chunk_length((3, *SIZES[size]), free_memory=run.tools.cupy.cuda.Device().mem_info[0])
    entry = {
        "work": "chain",
        "size": size,
        **timing,
        "floor_seconds_per_frame": costs.predicted_chain(size, length, run.chip)["together"],
        "peak_bytes": peak,
        "launches_per_chunk": chain.launches_per_chunk(material, length),
        "is_default_chunk": length == default,
    }
    print(
        f"chain  {size}  chunks of {length}: {entry['frames_per_second']:,.0f} frames/s, "
        f"{duration(entry['seconds_per_frame'])} a frame (floor {duration(entry['floor_seconds_per_frame'])}), "
        f"host {duration(entry['host_seconds_per_chunk'])} a chunk, {peak / 1e9:.2f} GB",
        flush=True,
    )
    return entry


def compare_with_cpu(run: Run, size: str) -> None:
    """The same work by the CPU twins on all cores; the first call of each compiles."""
    frames = CPU_FRAMES[size]
    effort = QUICK if run.quick else dataclasses.replace(QUICK, samples=5)
    if run.in_time(f"chain on the CPU, {size}", 40.0):
        add_cpu(run, size, "chain", chain_on_cpu(run, size))
    if not run.in_time(f"kernels on the CPU, {size}", 10.0):
        return
    host = data(run.tools, SIZES[size], frames, seed=1).on_host()
    for step in STEPS:
        if run.in_time(f"{step} on the CPU, {size}", 3.0):
            timing = measure([functools.partial(STEPS[step], host)], HostClock(), effort)
            add_cpu(run, size, step, timing.seconds / frames)


def chain_on_cpu(run: Run, size: str) -> float:
    """Seconds a frame, at the chunk length of the CPU path."""
    length = 2 if run.quick else fusion.chunk_length((3, *SIZES[size]))
    material = chain.footage(run.tools, SIZES[size], 2 * length).on_host()
    seconds, runs, fewest = (0.0, 1, 2) if run.quick else (2.0, 1, 8)
    timing = chain.timed(material, length, wait=lambda: None, seconds=seconds, runs=runs, fewest=fewest)
    return float(timing["seconds_per_frame"])


def add_cpu(run: Run, size: str, work: str, cpu: float) -> None:
    known = best(run, work, size)
    if known is not None:
        entry = against(work, size, known, "cpu", cpu) | {"threads": gpufuse.get_threads()}
        run.report.add("against_cpu", entry)


def compare_with_arrays(run: Run, size: str) -> None:
    """The same work by array expressions, on the GPU."""
    frames = run.batches[0]
    what = f"array expressions, {size}"
    if not (run.in_time(what, 5.0) and run.fits(what, 12 * bytes_of_data(SIZES[size], frames))):
        return
    sets = [data(run.tools, SIZES[size], frames, seed) for seed in range(2)]
    effort = dataclasses.replace(run.effort, most_calls=min(20, run.effort.most_calls))
    for step, work in plain.PLAIN.items():
        known = best(run, step, size, frames)
        if known is not None and run.in_time(f"{step}, {what}", 1.0):
            calls = [functools.partial(work, one) for one in sets]
            timing = measure(calls, run.tools.clock, effort)
            entry = against(step, size, known, "arrays", timing.seconds / frames)
            run.report.add("against_arrays", entry)
    add_chain_of_arrays(run, size)


def add_chain_of_arrays(run: Run, size: str) -> None:
    """Of arrays the chain is the sum of its steps, which flatters it."""
    entries = run.report.data["against_arrays"]
    times = {entry["work"]: entry["arrays_seconds_per_frame"] for entry in entries if entry["size"] == size}
    known = best(run, "chain", size)
    if known is not None and set(costs.CHAIN) <= set(times):
        total = sum(count * times[step] for step, count in costs.CHAIN.items())
        run.report.add("against_arrays", against("chain", size, known, "arrays", total))


def best(run: Run, work: str, size: str, frames: int | None = None) -> float | None:
    """Seconds a frame that were measured for some work, for a number of frames or the best."""
    entries = run.report.data["chain" if work == "chain" else "kernels"]
    found = [
        float(entry["seconds_per_frame"])
        for entry in entries
        if entry["work"] == work and entry["size"] == size and frames in (None, entry["frames"])
    ]
    return min(found, default=None)


def against(work: str, size: str, ours: float, name: str, theirs: float) -> dict[str, Any]:
    ratio = theirs / ours
    print(
        f"{work}  {size}: {duration(ours)} a frame, {name} {duration(theirs)}: {ratio:.3g} times", flush=True
    )
    return {
        "work": work,
        "size": size,
        "seconds_per_frame": ours,
        f"{name}_seconds_per_frame": theirs,
        f"times_{name}": ratio,
    }


def measure_accuracy(run: Run, size: str) -> None:
    if run.in_time(f"accuracy, {size}", 5.0):
        found = solver.errors(data(run.tools, SIZES[size], 1, seed=3))
        run.report.add("accuracy", {"size": size, **found})
        print(f"poisson  {size}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))


def time_groups(run: Run, size: str) -> None:
    groups = (3, 1) if run.quick else solver.GROUPS
    what = f"poisson, planes together, {size}"
    frames = 2 if run.quick else 32
    if not (run.in_time(what, 3.0) and run.fits(what, 3 * bytes_of_data(SIZES[size], frames))):
        return
    rhs = data(run.tools, SIZES[size], frames, seed=5)
    for group in groups:
        if run.in_time(f"{what}: {group}"):
            entry = {"size": size, **solver.grouped(run.tools, rhs, group, run.effort)}
            run.report.add("poisson_groups", entry)
            print(f"poisson  {size}  {group} planes together: {duration(entry['seconds_per_frame'])} a frame")


def time_end_to_end(run: Run) -> None:
    why_not = "emulated" if run.tools.emulated else endtoend.obstacle()
    if why_not is None and not run.in_time("decode to encode", 30.0):
        why_not = "no time left"
    run.report.data["end_to_end"] = (
        endtoend.end_to_end(run.tools, SIZES[run.sizes[0]], 200) if why_not is None else {"why_not": why_not}
    )


def sections(run: Run) -> Iterator[tuple[str, Callable[[], None]]]:
    """All work, what matters most first."""
    first, *others = run.sizes

    def of(name: str, section: Callable[[Run, str], None], sizes: Sequence[str]) -> Iterator[Any]:
        return ((f"{name}, {size}", functools.partial(section, run, size)) for size in sizes)

    yield "tests", functools.partial(test, run)
    yield "ceilings", functools.partial(measure_ceilings, run)
    yield from of("kernels", time_kernels, [first])
    yield from of("chain", time_chain, run.sizes)
    yield from of("accuracy", measure_accuracy, [first])
    yield from of("CPU", compare_with_cpu, [first])
    yield from of("arrays", compare_with_arrays, [first])
    yield from of("planes together", time_groups, [first])
    yield from of("kernels", time_kernels, others)
    yield from of("planes together", time_groups, others)
    yield from of("accuracy", measure_accuracy, others)
    yield from of("arrays", compare_with_arrays, others)
    yield "decode to encode", functools.partial(time_end_to_end, run)
    yield from of("CPU", compare_with_cpu, others)


def perform(run: Run) -> int:
    """Do all sections; one that fails is told, and the next begins."""
    for name, section in sections(run):
        print(f"--- {name}, after {run.budget.spent():.0f} s", flush=True)
        try:
            section()
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            run.report.data["failures"].append(f"{name}: {words}")
            print(f"FAILED: {name}: {words}", flush=True)
        run.report.save()
    print("\n".join(["", "goals:", *(tables.in_words(goal) for goal in run.report.data["goals"])]))
    print(f"\nwritten: {run.report.stem}.json, .md, .png, after {run.budget.spent():.0f} s")
    return 1 if run.report.data["failures"] else 0


# ------------------------------------------------------------------------------------------------ command


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    if options.predict:
        print(tables.prediction(H200), end="")
        return 0
    obstacle = hardware.cuda_obstacle()
    if obstacle is not None:
        print(f"gpu_report: expected an NVIDIA GPU, found {obstacle}; see `gpufuse doctor`", file=sys.stderr)
        return NO_GPU
    cupy = hardware.import_cupy()
    emulated = cupy.__name__ != "cupy"
    budget = Budget(options.budget)
    run = Run(
        Tools(cupy, emulated=emulated),
        Report(options.output, budget, emulated=emulated),
        budget,
        QUICK if options.quick else Effort(),
        options.quick,
        options.sizes,
        () if options.no_tests else _test_files(),
    )
    print(f"gpufuse {gpufuse.__version__} on {run.report.data['device']}", flush=True)
    return perform(run)


def _test_files() -> tuple[str, ...]:
    kernels = sorted((ROOT / "tests").glob("test_kernels_*.py"))
    return tuple(str(file.relative_to(ROOT)) for file in [*kernels, ROOT / "tests" / "test_device_path.py"])


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_report.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    parser.add_argument(
        "--budget", type=float, default=480.0, metavar="SECONDS", help="time for all (default 480)"
    )
    parser.add_argument("--quick", action="store_true", help="one sample of little: does it run?")
    parser.add_argument("--no-tests", action="store_true", help="leave the parity tests out")
    parser.add_argument(
        "--sizes", type=_sizes, default=("1080p", "4K", "320x240", "720p"), metavar="NAMES",
        help="the most important first; of " + ", ".join(SIZES),
    )  # fmt: skip
    parser.add_argument("--predict", action="store_true", help="print what an H200 would take; needs no GPU")
    return parser.parse_args(words)


def _sizes(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SIZES]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected sizes of {', '.join(SIZES)}, got {unknown[0]!r}")
    return names


if __name__ == "__main__":
    sys.exit(main())
