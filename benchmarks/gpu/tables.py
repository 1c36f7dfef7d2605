"""A report, and a prediction, as text to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpu.chip import Ceilings
from gpu.costs import CHAIN, COSTS, GOALS, JOINS, predicted, predicted_chain
from gpu.timing import duration

VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def in_words(goal: Mapping[str, Any]) -> str:
    value = f"{goal['shown']}, " if goal["shown"] else ""
    return f"{goal['work']}, {goal['size']}: {value}goal {goal['goal']}: {VERDICTS[goal['met']]}"


def as_markdown(data: Mapping[str, Any]) -> str:
    """The report as a page."""
    parts = [f"# gpufuse on {data['device']}"]
    if data["emulated"]:
        parts.append("**Emulated on a CPU: no figure here says anything about a GPU.**")
    parts.append(_facts(data))
    sections = (
        ("Goals", "goals", _goals), ("Ceilings", "ceilings", _ceilings), ("Tests on the GPU", "tests", _tests),
        ("Whole chain without codecs", "chain", _chain),
        ("Where the time of a frame goes", "breakdown", _breakdown),
        ("Kernels", "kernels", _kernels),
        ("Against the CPU of the same machine", "against_cpu", _against_cpu),
        ("Against array expressions", "against_arrays", _against_arrays),
        ("Poisson: error of one frame", "accuracy", _accuracy),
        ("Poisson: planes solved together", "poisson_groups", _groups),
        ("Decode to encode", "end_to_end", _end_to_end),
        ("Left out", "skipped", _lines), ("Failed", "failures", _lines),
    )  # fmt: skip
    for title, name, written in sections:
        if data.get(name):
            parts.append(f"## {title}\n\n{written(data[name])}")
    return "\n\n".join(parts) + "\n"


def _facts(data: Mapping[str, Any]) -> str:
    facts = data["facts"]
    gpu, host = facts["gpu"], facts["host"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    return (
        f"{facts['date']}; gpufuse {facts['gpufuse']}, commit {facts['commit'] or 'unknown'}; driver {gpu['driver']}, "
        f"CUDA {gpu['runtime_cuda']}, CuPy {gpu['cupy']}, {gpu['multiprocessors']} multiprocessors; "
        f"host: {host['processor']}, {host['cores']} cores, Python {host['python']}; {packages}. "
        f"Written by `python benchmarks/gpu_report.py` in {data['seconds']:.0f} s."
    )


def _goals(goals: list[dict[str, Any]]) -> str:
    return table(
        ("work", "size", "goal", "value", ""),
        ((goal["work"], goal["size"], goal["goal"], goal["shown"], VERDICTS[goal["met"]]) for goal in goals),
    )


def _ceilings(ceilings: Mapping[str, Any]) -> str:
    def short(value: float | None, unit: float, name: str) -> str:
        return "unknown" if value is None else f"{value / unit:.4g} {name}"

    rows = [
        ("copy, read and written", short(ceilings["bandwidth"], 1e12, "TB/s")),
        ("copy within the L2 cache", short(ceilings["l2_bandwidth"], 1e12, "TB/s")),
        ("float32 multiply-adds", short(ceilings["fma"], 1e12, "T/s")),
        ("powers of two (special functions)", short(ceilings["special"], 1e12, "T/s")),
        ("clock that follows", short(ceilings["clock"], 1e9, "GHz")),
        ("from launch to launch, device", short(ceilings["launch_seconds"], 1e-6, "us")),
        ("one launch, host", short(ceilings["launch_host_seconds"], 1e-6, "us")),
    ]
    under_load = ceilings.get("clocks_under_load") or {}
    rows += [(f"nvidia-smi under load, {name}", value) for name, value in under_load.items()]
    return table(("ceiling", "measured"), rows)


def _tests(tests: Mapping[str, Any]) -> str:
    if "left_out" in tests:
        return str(tests["left_out"])
    verdict = (
        "passed" if tests["exit_code"] == 0 else "FAILED" if tests["ended"] else "ENDED BY THE TIME LIMIT"
    )
    counts = ", ".join(f"{tests[name]} {name}" for name in ("passed", "failed", "errors", "skipped"))
    text = f"{verdict}: {counts}, in {tests['seconds']:.0f} s."
    return text + "".join(f"\n    {line}" for line in ["", *tests["last_lines"]] if tests["last_lines"])


def _chain(chain: list[dict[str, Any]]) -> str:
    return table(
        ("size", "chunk", "frames/s", "ms/frame (low to high)", "floor, ms", "host ms/chunk", "memory, GB", "launches"),
        (
            (
                entry["size"], entry["chunk"], f"{entry['frames_per_second']:,.0f}",
                f"{1e3 * entry['seconds_per_frame']:.4g} ({1e3 * entry['lowest_seconds_per_frame']:.4g} to "
                f"{1e3 * entry['highest_seconds_per_frame']:.4g})",
                f"{1e3 * entry['floor_seconds_per_frame']:.3g}", f"{1e3 * entry['host_seconds_per_chunk']:.3g}",
                f"{entry['peak_bytes'] / 1e9:.2f}", f"{entry['launches_per_chunk']:.0f}",
            )
            for entry in chain
        ),
    )  # fmt: skip


def _breakdown(entries: list[dict[str, Any]]) -> str:
    sizes = list(dict.fromkeys(entry["size"] for entry in entries))
    parts = list(dict.fromkeys(entry["part"] for entry in entries))
    known = {(entry["part"], entry["size"]): entry["seconds_per_frame"] for entry in entries}
    return (
        "Each step at its fastest, as often as a frame meets it; the rest of the chain joins chunks, launches, and "
        "starts.\n\n"
        + table(
            ("part", *sizes),
            (
                (
                    part,
                    *(f"{1e6 * known[part, size]:.4g} us" if (part, size) in known else "" for size in sizes),
                )
                for part in parts
            ),
        )
    )


def kernel_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        entry["work"], entry["size"], str(entry["frames"]),
        f"{duration(entry['seconds_per_frame'])} ({duration(entry['lowest_seconds_per_frame'])} to "
        f"{duration(entry['highest_seconds_per_frame'])})",
        duration(entry["floor_seconds_per_frame"]), f"{entry['bytes_per_frame'] / 1e6:.3g}",
        f"{entry['achieved_gb_per_s']:,.0f}", percent(entry["share_of_memory"]), percent(entry["share_of_issue"]),
        percent(entry["share_of_special"]), entry["limit"] + (" *" if entry["fits_l2"] else ""),
        duration(entry["host_seconds_per_call"]),
    )  # fmt: skip


KERNEL_HEAD = (
    "work", "size", "frames", "per frame (low to high)", "floor", "MB", "GB/s", "memory", "issue", "special", "limit",
    "host per call",
)  # fmt: skip


WIDTHS = (18, 7, 3, 34, 7, 5, 5, 5, 5, 5, 9, 7)
"""Of the columns of a kernel's row, where it is printed as it comes."""


def printed(row: Iterable[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip()


def _kernels(kernels: list[dict[str, Any]]) -> str:
    return (
        "`frames`: worked on together. `floor` and the shares: what the kernels' headers count, by the ceilings above. "
        "`*`: the inputs in turn fit into the L2 cache.\n\n" + table(KERNEL_HEAD, map(kernel_row, kernels))
    )


def _against(entries: list[dict[str, Any]], name: str, other: str) -> str:
    return table(
        ("work", "size", "GPU, per frame", other, "ratio"),
        (
            (
                entry["work"], entry["size"], duration(entry["seconds_per_frame"]),
                duration(entry[f"{name}_seconds_per_frame"]), f"{entry[f'times_{name}']:.3g}",
            )
            for entry in entries
        ),
    )  # fmt: skip


def _against_cpu(entries: list[dict[str, Any]]) -> str:
    return _against(entries, "cpu", f"this project on {entries[0]['threads']} threads")


def _against_arrays(entries: list[dict[str, Any]]) -> str:
    text = "CuPy expressions for the same work; of `poisson`, the cosine transform of `cupyx.scipy.fft`.\n\n"
    return text + _against(entries, "arrays", "arrays")


def _accuracy(entries: list[dict[str, Any]]) -> str:
    return "Largest distance in grey levels from the transform in float64 on the host.\n\n" + table(
        ("size", "multigrid", "cupyx.scipy.fft, float32"),
        (
            (entry["size"], f"{entry['multigrid_error_levels']:.3g}", f"{entry['cupy_dct_error_levels']:.3g}")
            for entry in entries
        ),
    )


def _groups(entries: list[dict[str, Any]]) -> str:
    return table(
        ("size", "planes together", "in flight, MB", "three planes"),
        (
            (
                entry["size"], entry["planes_together"], f"{entry['bytes_in_flight'] / 1e6:.3g}",
                duration(entry["seconds_per_frame"]),
            )
            for entry in entries
        ),
    )  # fmt: skip


def _end_to_end(entry: Mapping[str, Any]) -> str:
    if "why_not" in entry:
        return f"Not measured: {entry['why_not']}."
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in entry.items()) + "."


def _lines(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


# ------------------------------------------------------------------------------------------- prediction


def prediction(chip: Ceilings) -> str:
    """What the costs imply on a chip, next to the goals."""
    rows = []
    for step in COSTS:
        entry = predicted(step, 16, 1920 * 1080, chip)
        cost = COSTS[step](16)
        rows.append(
            (
                step, f"{cost.bytes:.3g}", f"{cost.instructions:.3g}", f"{cost.special:.3g}",
                f"{1e6 * entry['floor_seconds_per_frame']:.3g}", entry["limit"], _goal_of(step),
            )
        )  # fmt: skip
    chains = []
    frames = {"320x240": 128, "720p": 36, "1080p": 16, "4K": 4}
    for size, chunk in frames.items():
        parts = predicted_chain(size, chunk, chip)
        chains.append(
            (
                size,
                chunk,
                f"{1e6 * parts['together']:.4g}",
                f"{1 / parts['together']:,.0f}",
                _goal_of("chain", size),
            )
        )
    parts = predicted_chain("1080p", 16, chip)
    shares = [
        (name if CHAIN.get(name, 1) == 1 else f"{name}, {CHAIN[name]} passes", f"{1e6 * seconds:.3g}",
         percent(seconds / parts["together"]))
        for name, seconds in parts.items()
    ]  # fmt: skip
    return "\n\n".join(
        (
            "# Prediction for an H200",
            "**A prediction, not a measurement**: written by `python benchmarks/gpu_report.py --predict` from the "
            "bytes and operations that the headers of the kernels count, for a chip that copies "
            f"{chip.bandwidth / 1e12:g} TB/s, issues {chip.fma / 1e12:.3g} T float32 instructions and "
            f"{chip.special / 1e12:.3g} T special functions a second. Each time is the longest of the three: a floor "
            "that no run gets below, unless data stays in the L2 cache. Not counted: launches, and what the host takes "
            "to hand them over.",
            "## Steps, 1080p colour, 16 frames together\n\n"
            + table(("step", "bytes/pixel", "instructions/pixel", "special/pixel", "us/frame", "limit", "goal"), rows),
            "## The chain between decoder and encoder\n\n"
            + table(("size", "chunk", "us/frame", "frames/s at most", "goal"), chains),
            f"Of a 1080p frame (`joining`: {JOINS} stages put frames of two chunks into one array):\n\n"
            + table(("part", "us", "share"), shares),
        )
    ) + "\n"  # fmt: skip


def _goal_of(work: str, size: str = "1080p") -> str:
    found = []
    for goal in GOALS:
        if (goal.work, goal.size) == (work, size):
            if goal.what == "seconds_per_frame":
                found.append(f"{goal.limit * 1e6:g} us")
            elif goal.what in ("times_its_bytes", "frames_per_second"):
                found.append(f"{goal.limit:g} {goal.unit}")
    return ", ".join(found)


__all__ = ["KERNEL_HEAD", "as_markdown", "in_words", "kernel_row", "prediction", "printed"]
