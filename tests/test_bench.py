"""The comparison with peers: each solves what it claims, what is missing is named, the tables tell the truth."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from gpufuse import poisson
from gpufuse.bench import poisson as poisson_peers
from gpufuse.bench import process, run, table, work
from gpufuse.bench.inputs import TINY, Lengths, Pictures
from gpufuse.bench.kinds import KINDS
from gpufuse.bench.records import Competitor, Row, Size
from gpufuse.bench.run import Comparison, Plan, compare
from gpufuse.bench.work import Task, TooSlowError
from gpufuse.cli import main

SIZE = Size(48, 32)
ROOT = Path(__file__).resolve().parents[1]
APART = {"itk", "fpie"}
"""Libraries that bring an LLVM or C++ run-time of their own, and crash beside each other."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "tiny"
    Pictures(1280).write(folder, SIZE, set(KINDS), Lengths(5, 7, 6))
    return folder


def competitor(kind: str, name: str) -> Competitor:
    return next(one for one in KINDS[kind].competitors if one.name == name)


def made(kind: str, name: str, folder: Path, tuned: dict[str, Any] | None = None) -> work.Work:
    found = competitor(kind, name)
    _need(found)
    return found.make(Task(folder, 2, tuned or {}))


def _need(found: Competitor) -> None:
    if found.library is not None and importlib.util.find_spec(found.library) is None:
        pytest.skip(f"{found.library} is not installed")


def every(kind: str, *, apart: bool = False) -> list[str]:
    """Names of the competitors that may share this process, or of those that get on with nobody."""
    return [one.name for one in KINDS[kind].competitors if (one.library in APART) is apart]


def outside(folder: Path, script: str) -> Any:
    """What a script prints as JSON, in an interpreter of its own, where `made` and `folder` are known."""
    program = f"""
import json, pathlib, numpy
from gpufuse.bench.kinds import KINDS
from gpufuse.bench.work import Task, TooSlowError
folder = pathlib.Path({str(folder)!r})
def made(kind, name):
    return next(one for one in KINDS[kind].competitors if one.name == name).make(Task(folder, 2))
{script}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------ solvers


def test_the_oracle_solves_the_equation(inputs: Path) -> None:
    rhs, exact = numpy.load(inputs / "rhs.npy"), numpy.load(inputs / "exact.npy")
    assert rhs.shape == (3, SIZE.height, SIZE.width)
    assert numpy.ptp(exact) > 20  # a picture, not a constant
    assert poisson.residual_norm(exact.astype(numpy.float64), rhs).max() < 1e-3
    assert abs(exact.mean(axis=(1, 2))).max() < 1e-4


@pytest.mark.parametrize("name", [one for one in every("poisson") if "clone" not in one.lower()])
def test_each_solver_reaches_the_error_it_is_tuned_to(name: str, inputs: Path) -> None:
    solver = made("poisson", name, inputs)
    solver.tune(60.0)
    result = solver.run()
    figures = solver.judge(result)
    assert figures["error"] <= poisson_peers.LEVELS
    exact = numpy.load(inputs / "exact.npy")
    distance = result.reshape(exact.shape) - exact
    distance -= distance.mean(axis=(1, 2), keepdims=True)
    assert figures["error"] == pytest.approx(abs(distance).max(), abs=1e-4)


def test_seamless_clone_puts_the_day_into_the_border_of_the_night(inputs: Path) -> None:
    result = made("poisson", "cv2.seamlessClone", inputs).run()
    day, night = numpy.load(inputs / "day.npy"), numpy.load(inputs / "night.npy")
    assert (result[0] == night[0]).all()
    inner = numpy.s_[8:-8, 8:-8]
    alike = [numpy.corrcoef(one[inner].ravel(), day[inner].ravel())[0, 1] for one in (result, night)]
    assert alike[0] > alike[1] + 0.2


def test_fewer_iterations_than_tuned_would_not_do(inputs: Path) -> None:
    solver: Any = made("poisson", "scipy.sparse cg", inputs)
    solver.tune(60.0)
    solver.iterations //= 2
    assert solver.judge(solver.run())["error"] > poisson_peers.LEVELS


def test_the_transform_of_scipy_is_ours(inputs: Path) -> None:
    ours, plain = (made("poisson", name, inputs).run() for name in ("gpufuse dct", "scipy.fft dct"))
    numpy.testing.assert_allclose(ours, plain, atol=1e-2)


@pytest.mark.parametrize("name", every("poisson", apart=True))
def test_fpie_reaches_the_residual_of_ours_and_is_judged_by_its_own_problem(name: str, inputs: Path) -> None:
    _need(competitor("poisson", name))
    tuned, many, few = outside(
        inputs,
        f"""
solver = made("poisson", {name!r})
solver.tune(60.0)
figures = [solver.judge(solver.run())]
for solver.iterations in (4_000, 10):
    figures.append(solver.judge(solver.run()))
print(json.dumps(figures))
""",
    )
    rhs = numpy.load(inputs / "rhs.npy")
    ours = min(abs(poisson.residual(poisson.solve(rhs, cycles=cycles), rhs)).mean() for cycles in (0, 1, 2))
    assert tuned["residual"] < 20 * ours
    assert many["residual"] < tuned["residual"] < few["residual"]
    assert many["error"] < 0.01
    assert many["error"] < tuned["error"] < few["error"]
    assert few["error"] > 1


def test_what_is_not_reached_in_time_says_how_far_it_came(inputs: Path) -> None:
    solver: Any = made("poisson", "scipy.sparse cg", inputs)
    with pytest.raises(TooSlowError, match=r"not within 0\.25 level after 0 s: 1 iterations, \d"):
        solver.tune(0.0)


# ------------------------------------------------------------------------------------------ filters


@pytest.mark.parametrize("name", every("denoise"))
def test_each_filter_returns_the_clip_with_less_noise(name: str, inputs: Path) -> None:
    one: Any = made("denoise", name, inputs)
    found = one.tune(60.0)
    result = one.run()
    picture = one.picture(result)
    clean = numpy.load(inputs / "clean.npy")
    assert picture.shape == clean.shape
    assert picture.dtype == numpy.uint8
    figures = one.judge(result)
    assert figures["psnr"] == pytest.approx(
        10 * math.log10(255**2 / numpy.mean((picture.astype(float) - clean) ** 2)), abs=1e-3
    )
    if "as it comes" not in name:  # which is not tuned to this clip
        assert figures["gain"] > 0.5
    again: Any = made("denoise", name, inputs, found)
    again.tune(0.0)
    assert again.strength == found["strength"]  # what was found at a smaller size stays


def test_itk_differs_from_ours_by_the_pixel_itself_only(inputs: Path) -> None:
    _need(competitor("denoise", "ITK bilateral"))
    most, mean, gain = outside(
        inputs,
        """
pictures = []
for name in ("gpufuse susan3d, 1 pass", "ITK bilateral"):
    one = made("denoise", name)
    one.strength = 1000.0
    pictures.append(one.picture(one.run()).astype(float))
noisy = numpy.load(folder / "noisy.npy").astype(float)
expected = (44 * pictures[0] + noisy) / 45
inner = numpy.s_[2:-2, 1:-1, 1:-1]
distance = abs(pictures[1] - expected)[inner]
one.tune(60.0)
print(json.dumps([distance.max(), distance.mean(), one.judge(one.run())["gain"]]))
""",
    )
    assert most < 2.0  # both were rounded
    assert mean < 0.5
    assert gain > 0.5


@pytest.mark.parametrize("name", every("plate"))
def test_each_plate_is_near_the_empty_street(name: str, inputs: Path) -> None:
    one = made("plate", name, inputs)
    result = one.run()
    assert numpy.asarray(result).shape == (SIZE.height, SIZE.width, 3)
    figure = one.judge(result)["psnr"]
    assert figure > (20 if name.startswith("cv2") else 28)


@pytest.mark.parametrize("name", every("job"))
def test_each_job_writes_every_frame(name: str, inputs: Path) -> None:
    job: Any = made("job", name, inputs)
    figures = job.judge(job.run())
    import av

    with av.open(str(job.output)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 24 for index in range(6)])
    assert set(figures) == {"night_kept", "day_kept", "still_change", "flicker"}
    assert 0.2 < figures["day_kept"] <= 1


def test_pixels_of_the_baselines_are_those_of_their_names(inputs: Path) -> None:
    night = _first_frame(inputs / "night.mp4")
    day = numpy.load(inputs / "day.npy").astype(float)
    for name, expected in (
        ("FFmpeg blend=average", (day + night) / 2),
        ("FFmpeg blend=lighten", numpy.maximum(day, night)),
    ):
        job: Any = made("job", name, inputs)
        job.run()
        found = _first_frame(job.output)
        assert abs(found - expected).mean() < 6, name  # chroma is halved
        assert abs((found - expected).mean(axis=(0, 1))).max() < 2, name  # but nothing shifts the colours
        assert abs(found - night).mean() > 20, name


def _first_frame(path: Path) -> numpy.ndarray:
    import av

    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)


def test_fpie_video_counts_only_what_it_made(inputs: Path) -> None:
    _need(competitor("job", "fpie video, numba"))
    units, settings, figures, slow = outside(
        inputs,
        """
job = made("job", "fpie video, numba")
job.iterations = 60
job.tune(60.0)
figures = job.judge(job.run())
try:
    slow = job.tune(0.0)
except TooSlowError as error:
    slow = str(error)
print(json.dumps([job.units, job.settings, figures, slow]))
""",
    )
    assert units == 6
    assert settings == "60 iterations, first 6 frames only"
    assert "day_kept" in figures
    assert "extrapolated from 120 of 60 iterations" in slow


# ------------------------------------------------------------------------------------------- inputs


def test_pictures_wider_than_the_rendering_are_enlarged_with_noise_of_their_own(tmp_path: Path) -> None:
    pictures = Pictures(32)
    pictures.write(tmp_path / "large", SIZE, {"denoise", "job", "plate"}, Lengths(2, 3, 2))
    load: Callable[[str], numpy.ndarray] = lambda name: numpy.load(tmp_path / "large" / f"{name}.npy")  # noqa: E731
    assert load("noisy").shape == (2, 32, 48, 3)
    assert load("day_frames").shape == (3, 32, 48, 3)
    difference = load("noisy")[0].astype(float) - load("clean")[0]
    assert 1.0 < difference.std() < 6.0
    assert not (tmp_path / "large" / "job_clean.npy").exists()
    job: Any = made("job", "FFmpeg blend=average", tmp_path / "large")
    assert job.judge(job.run()) == {}  # there is no truth
    Pictures(32).write(tmp_path / "again", SIZE, {"denoise"}, Lengths(2, 3, 2))
    assert (numpy.load(tmp_path / "again" / "noisy.npy") == load("noisy")).all()


# ------------------------------------------------------------------------------------ whole comparison


def test_a_comparison_has_a_row_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bottleneck", None)
    comparison = compare(Plan([SIZE], ("plate",), seconds=3.0, threads=1))
    rows = {row.name: row for row in comparison.rows}
    assert list(rows) == every("plate")
    ours, missing = rows["gpufuse.daytime_background"], rows["bottleneck.median"]
    assert (ours.state, ours.threads, ours.runs >= 2) == ("measured", 1, True)
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low <= ours.seconds <= ours.high  # type: ignore[operator]
    assert ours.figures["psnr"] > 28
    assert ours.figures["rate"] * ours.seconds == pytest.approx(1)  # type: ignore[operator]
    assert missing.state == "skipped"
    assert missing.reason == "not installed: bottleneck; pip install 'gpufuse[bench]'"
    assert missing.seconds is None
    text = table.as_text(comparison)
    assert "bottleneck.median: skipped: not installed" in text
    assert "gpufuse.daytime_background " in text
    assert json.loads(table.as_json(comparison))["rows"][0]["name"] == ours.name


def test_a_library_that_breaks_is_a_row_with_its_reason(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bottleneck.py").write_text("raise ImportError('built for\\nanother NumPy')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    number = every("plate").index("bottleneck.median")
    with process.Process("plate", number, inputs, inputs, 1, {}) as child:
        told = child.ask("", 60)
    assert told == {"failed": "ImportError: built for\nanother NumPy"}
    assert Row("", "", "", False, 1).without_figures("failed", told["failed"]).reason == (
        "ImportError: built for another NumPy"
    )


def test_a_library_that_ends_the_process_is_told(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bottleneck.py").write_text(
        "import os, sys; print('bus error', file=sys.stderr); os._exit(7)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    number = every("plate").index("bottleneck.median")
    with process.Process("plate", number, inputs, inputs, 1, {}) as child:
        assert child.ask("", 60) == {"failed": "its process ended with code 7: bus error"}
        assert "failed" in child.ask("run", 60)


def test_a_competitor_over_its_time_is_stopped(inputs: Path) -> None:
    with process.Process("plate", 0, inputs, inputs, 1, {}) as child:
        assert child.ask("", 0.0) == {"stopped": "loading was not over after 0 s"}


def test_memory_is_what_a_run_adds(inputs: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak anew")
    large = tmp_path / "large"
    large.mkdir()
    frames = numpy.random.default_rng(3).integers(0, 255, (9, 400, 500, 3), dtype=numpy.uint8)
    numpy.save(large / "day_frames.npy", frames)
    numpy.save(large / "plate.npy", frames[0])
    number = every("plate").index("numpy.median")
    with process.Process("plate", number, large, inputs, 1, {}) as child:
        assert child.ask("", 60) == {"units": 1}
        added = child.ask("run", 60)["memory"]
    # A copy to partition, and a float64 result.
    least = frames.nbytes + 8 * frames[0].size
    assert 0.8 * least < added < 4 * least


def test_the_slow_are_not_tried_again_at_larger_sizes() -> None:
    small = Row("plate", "80x60", "numpy.median", False, 1, seconds=1.0)
    cell = run._Cell("plate", Size(800, 600), Path(), Path(), 1, 10.0)
    row = Row("plate", "800x600", "numpy.median", False, 1)
    assert cell._hopeless(small, row) == "too slow: a run of about 100 s at 800x600, expected from 80x60"
    small.seconds = 0.001
    assert cell._hopeless(small, row) is None
    small.without_figures("stopped", "not ready")
    skipped = str(cell._hopeless(small, row))
    assert skipped == "too slow: it was stopped at 80x60 already"
    assert cell._hopeless(row.without_figures("skipped", skipped), row) == skipped
    assert cell._hopeless(row.without_figures("skipped", "not installed: numpy"), row) is None
    broken = str(cell._hopeless(small.without_figures("failed", "OSError"), row))
    assert broken == "failed at 80x60 already"
    assert cell._hopeless(row.without_figures("skipped", broken), row) == broken


def test_a_shorter_clip_is_expected_to_take_less() -> None:
    small = Row("job", "320x240", "cv2 Mertens", False, 1, seconds=0.01, units=72)
    row = Row("job", "1920x1080", "cv2 Mertens", False, 1)
    cell = run._Cell("job", Size(1920, 1080), Path(), Path(), 1, 5.0)
    assert cell._hopeless(small, row) is None  # 8 frames of 0.27 s, not 72
    cell = run._Cell("job", Size(1920, 1080), Path(), Path(), 1, 4.0)
    assert str(cell._hopeless(small, row)).startswith("too slow: a run of about 2 s")


# -------------------------------------------------------------------------------------------- tables


def rows_of_two() -> list[Row]:
    common = {"kind": "denoise", "size": "320x240", "threads": 2, "runs": 3}
    ours = Row(name="ours", ours=True, seconds=0.002, low=0.001, high=0.003, memory_bytes=10**6, **common)  # type: ignore[arg-type]
    ours.figures = {"psnr": 40.0, "gain": 2.0}
    other = Row(
        name="other", ours=False, seconds=0.001, low=0.001, high=0.001, memory_bytes=2 * 10**6, **common
    )  # type: ignore[arg-type]
    other.figures = {"psnr": 41.5, "gain": 3.5}
    lost = Row(name="lost", ours=False, **common).without_figures("skipped", "not | installed")  # type: ignore[arg-type]
    return [ours, other, lost]


def test_where_others_are_ahead_is_found() -> None:
    found = [(row.name, heading, [one.name for one, _ in ahead]) for row, heading, ahead, _ in
             table.not_first(rows_of_two())]  # fmt: skip
    assert found == [("ours", "time, ms", ["other"]), ("ours", "PSNR, dB", ["other"])]


def test_tables_to_read() -> None:
    comparison = Comparison({"processor": "abacus"}, rows_of_two(), ["320x240: rendered"], 12.0)
    text = table.as_text(comparison)
    assert "processor  abacus" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["ours"] == ["ours", "2", "1", "..", "3", "3", "1.00", "1.0", "40.00", "+2.00"]
    assert lines["other"][5:] == ["3", "0.50", "2.0", "41.50", "+3.50"]
    assert "lost: skipped: not / installed" in text
    assert "ours: 2 threads" in text
    page = table.as_markdown(comparison, ["peers-denoise.svg"])
    assert "- 3D denoise, 320x240, ours, time, ms (2): other 1" in page
    assert "![3D denoise](peers-denoise.svg)" in page
    widths = {
        line.count("|") for line in page.splitlines() if line.startswith(("| **ours", "| other", "| lost"))
    }
    assert len(widths) == 1


def test_what_was_not_measured_of_ours_is_not_called_first() -> None:
    rows = rows_of_two()
    rows[1].problem = "another problem"
    rows[2].ours = True
    page = table.as_markdown(Comparison({"processor": "abacus"}, rows))
    assert "- 3D denoise, 320x240, lost: skipped: not / installed" in page
    assert "time, ms (2): other 1 (another problem)" in page


def test_charts_name_every_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from gpufuse.bench.chart import write_charts

    rows = rows_of_two()
    for row in rows_of_two():
        row.size = "640x480"
        rows.append(row)
    assert write_charts(rows, tmp_path) == ["peers-denoise.svg"]
    drawn = (tmp_path / "peers-denoise.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- ours -->") == drawn.count("<!-- other -->") == 2
    assert "lost" not in drawn


# -------------------------------------------------------------------------------------------- command


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = ["bench", "--size", "48x32", "--kind", "plate", "--budget", "3", "--json", str(figures)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "gpufuse.daytime_background" in out
    assert "processor" in out
    assert all(line.startswith("gpufuse: ") for line in err.splitlines())
    assert json.loads(figures.read_text(encoding="utf-8"))["rows"]
    assert main(words) == 7
    lost = str(tmp_path / "missing" / "figures.json")
    assert main(["bench", "--json", lost]) == 7
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 2)  # before anything is measured


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "0x0"],
        ["--size", "large"],
        ["--size", "321x240"],
        ["--size", "20000x20000"],
        ["--kind", "sorting"],
        ["--budget", "0"],
        ["--budget", "nan"],
        ["x"],
    ],
)
def test_command_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_sizes() -> None:
    assert Size.of("320x240") == Size(320, 240)
    assert TINY.pixels == 64 * 48
    with pytest.raises(ValueError, match="at least 16x16"):
        Size.of("8x8")


def test_strengths_that_found_no_time_are_told(inputs: Path) -> None:
    one: Any = made("denoise", "gpufuse susan3d, 1 pass", inputs)
    found = one.tune(-1.0)
    assert one.settings == "t = 7, no time for more than 1 of 6 strengths"
    again: Any = made("denoise", "gpufuse susan3d, 1 pass", inputs, found)
    assert again.settings == one.settings
