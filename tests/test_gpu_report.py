"""benchmarks/gpu_report.py, run on the stand-in CuPy: that it works and counts rightly, not how fast anything is."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial

import numpy
import pytest
from conftest import ROOT, emulated
from PIL import Image

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_report
from gpu import chain, chart, chip, costs, facts, plain, steps, tables, timing

PIXELS = 1920 * 1080

SECTIONS = {
    "tests": dict, "ceilings": dict, "kernels": list, "chain": list, "against_cpu": list, "against_arrays": list,
    "breakdown": list, "accuracy": list, "poisson_groups": list, "end_to_end": dict, "goals": list, "skipped": list,
    "failures": list,
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with emulated(mode="fast"):
        words = ["--quick", "--no-tests", "--sizes", "tiny", "--budget", "300", "--output", str(folder)]
        assert gpu_report.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def data(written):
    return json.loads((written / "gpu-cuemu.json").read_text())


# ---------------------------------------------------------------------------------------------- a whole run


def test_every_section_is_there_and_nothing_failed(data):
    for name, kind in SECTIONS.items():
        assert isinstance(data[name], kind), name
        assert data[name] or name in ("skipped", "failures"), name
    assert data["skipped"] == data["failures"] == []


def test_nobody_can_mistake_emulated_figures(data, written):
    assert data["emulated"] is True
    assert data["device"].startswith("cuemu (emulated")
    assert "Emulated on a CPU" in (written / "gpu-cuemu.md").read_text()


def test_facts_name_versions_and_machine(data):
    found = data["facts"]
    assert found["gpu"]["multiprocessors"] == 132
    assert found["packages"]["numpy"] == numpy.__version__
    assert found["host"]["cores"] >= 1


def test_every_step_is_timed_in_every_batch(data):
    entries = {(entry["work"], entry["frames"]): entry for entry in data["kernels"]}
    assert set(entries) == {(step, frames) for step in steps.STEPS for frames in (1, 2)}
    for entry in entries.values():
        assert 0 < entry["lowest_seconds_per_frame"] <= entry["seconds_per_frame"]
        assert entry["seconds_per_frame"] <= entry["highest_seconds_per_frame"]
        assert entry["share_of_ceiling"] == max(
            entry[f"share_of_{name}"] for name in ("memory", "issue", "special")
        )


def test_every_step_is_compared_with_cpu_and_arrays(data):
    assert {entry["work"] for entry in data["against_cpu"]} == {"chain", *steps.STEPS}
    assert {entry["work"] for entry in data["against_arrays"]} == {"chain", *steps.STEPS}
    for name, section in (("cpu", "against_cpu"), ("arrays", "against_arrays")):
        for entry in data[section]:
            ratio = entry[f"{name}_seconds_per_frame"] / entry["seconds_per_frame"]
            assert entry[f"times_{name}"] == pytest.approx(ratio)


def test_chain_record(data):
    (entry,) = data["chain"]
    assert entry["frames"] == 4 * entry["chunk"]
    assert entry["frames_per_second"] == pytest.approx(1 / entry["seconds_per_frame"])
    # 3 to levels, 2 smoothings, masks, mean, lamps, mix, NV12; and the solver's.
    assert entry["launches_per_chunk"] >= 3 + 7


def test_parts_of_a_frame_add_up(data):
    parts = {entry["part"]: entry["seconds_per_frame"] for entry in data["breakdown"]}
    whole = parts.pop("together")
    assert sum(parts.values()) == pytest.approx(whole)
    susan = min(entry["seconds_per_frame"] for entry in data["kernels"] if entry["work"] == "susan")
    assert parts["susan"] == pytest.approx(2 * susan)


def test_solver_is_exact_enough(data):
    (entry,) = data["accuracy"]
    assert entry["multigrid_error_levels"] < 0.25
    assert entry["cupy_dct_error_levels"] < 0.01


def test_chart_and_page_can_be_read(written):
    with Image.open(written / "gpu-cuemu.png") as picture:
        assert picture.size == (chart.WIDTH, chart.HEIGHT)
        assert len(set(picture.convert("RGB").get_flattened_data())) > 4
    page = (written / "gpu-cuemu.md").read_text()
    for title in ("Goals", "Ceilings", "Kernels", "Whole chain", "Against the CPU", "Decode to encode"):
        assert f"## {title}" in page


def test_no_half_written_file_is_left(written):
    assert sorted(file.name for file in written.iterdir()) == [
        "gpu-cuemu.json",
        "gpu-cuemu.md",
        "gpu-cuemu.png",
    ]


def test_a_section_that_fails_is_told_and_the_next_begins(tmp_path, monkeypatch, capsys):
    def broken():
        raise MemoryError("no room")

    def failures():
        return json.loads((tmp_path / "gpu-cuemu.json").read_text())["failures"]

    found_by_next = []
    following = [("a", broken), ("b", lambda: found_by_next.extend(failures()))]
    with emulated(mode="fast"):
        monkeypatch.setattr(gpu_report, "sections", lambda run: following)
        assert gpu_report.main(["--quick", "--no-tests", "--sizes", "tiny", "--output", str(tmp_path)]) == 1
    assert found_by_next == failures() == ["a: MemoryError: no room"]
    assert "FAILED: a: MemoryError" in capsys.readouterr().out


def test_without_time_everything_is_left_out_and_said(tmp_path):
    with emulated(mode="fast"):
        words = ["--quick", "--no-tests", "--sizes", "tiny", "--budget", "1", "--output", str(tmp_path)]
        assert gpu_report.main(words) == 0
    found = json.loads((tmp_path / "gpu-cuemu.json").read_text())
    assert found["kernels"] == found["chain"] == []
    assert any("no time left" in line for line in found["skipped"])


def test_without_gpu_one_line_and_code_8(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), "--output", str(tmp_path / "out")]
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=hidden | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 8
    assert done.stderr.startswith("gpu_report: expected an NVIDIA GPU, found ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not (tmp_path / "out").exists()


def test_unknown_size_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--sizes", "1080p,8K"])
    assert "8K" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- the work


@pytest.fixture(scope="module")
def host():
    with emulated(mode="fast") as cupy:
        return steps.data(chip.Tools(cupy, emulated=True), (32, 48), 3, seed=2).on_host()


def test_random_night_looks_like_one(host):
    dark = host.night[:, :, :8]
    assert 2 < numpy.diff(dark, axis=0).std() / 2**0.5 < 4
    assert host.night.max() > 200
    assert (host.night == numpy.rint(host.night)).all()
    assert 0 < host.masks.mean() < 0.5
    assert abs(host.rhs).max() > 20


@pytest.mark.parametrize("step", list(steps.STEPS))
def test_array_expressions_do_the_same_work(host, step):
    ours = copy_of(host)
    theirs = copy_of(host)
    found, wanted = plain.PLAIN[step](theirs), steps.STEPS[step](ours)
    tolerance = {"susan": 0.03, "poisson": 0.25, "levels to nv12": 1, "sums of the fit": 0.05}.get(step, 2e-3)
    for a, b in zip(numpy.atleast_1d(found), numpy.atleast_1d(wanted), strict=True):
        assert a.shape == b.shape
        numpy.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-6, atol=tolerance)


def copy_of(data):
    parts = {name: value.copy() if hasattr(value, "copy") else value for name, value in vars(data).items()}
    return steps.Data(**parts)


def test_chain_gives_every_frame_once_and_the_same_on_both_devices():
    with emulated(mode="fast") as cupy:
        material = chain.footage(chip.Tools(cupy, emulated=True), (32, 48), 4)
        device = numpy.concatenate([cupy.asnumpy(frames) for frames in chain.fused(material, 2, 3)])
        host = numpy.concatenate(list(chain.fused(material.on_host(), 3, 2)))
    assert device.shape == host.shape == (6, 48, 48)
    assert abs(device.astype(int) - host).max() <= 1


def test_counting_launches_leaves_no_trace():
    from gpufuse.kernels_cuda import _compile

    before = _compile._kernel
    with chain.counted_launches():
        assert _compile._kernel is not before
    assert _compile._kernel is before


# ------------------------------------------------------------------------------------------- the arithmetic


class MadeUpClock:
    """Each call takes a millisecond, and a tenth of one for the host; the second sample is disturbed."""

    def __init__(self):
        self.samples = 0

    def time(self, work, expected):
        before = len(CALLS)
        work()
        self.samples += 1
        disturbed = 5 if self.samples == 3 else 1
        return 1e-3 * disturbed * (len(CALLS) - before), 1e-4 * (len(CALLS) - before)


CALLS = []


def test_median_of_samples_and_turns():
    CALLS.clear()
    calls = [partial(CALLS.append, k) for k in range(3)]
    found = timing.measure(calls, MadeUpClock(), timing.Effort(samples=5, seconds=0.004))
    assert (found.seconds, found.low, found.high) == pytest.approx((1e-3, 1e-3, 5e-3))
    assert found.host_seconds == pytest.approx(1e-4)
    assert (found.samples, found.calls) == (5, 6)  # four fill the time; every variant equally often
    assert CALLS[10:16] == [0, 1, 2, 0, 1, 2]


def test_budget_counts_down():
    now = iter([10.0, 12.0, 15.0])
    budget = timing.Budget(60, now=lambda: next(now))
    assert budget.spent() == 2
    assert budget.left() == 55


CHIP = chip.Ceilings(bandwidth=1e12, fma=1e13, special=1e12)


def test_floor_is_the_longest_of_the_three():
    assert costs.Cost(10, 50, 5).floor(CHIP) == (pytest.approx(10e-12), "memory")
    assert costs.Cost(1, 50, 4).floor(CHIP) == (pytest.approx(5e-12), "issue")
    assert costs.Cost(1, 10, 4).floor(CHIP) == (pytest.approx(4e-12), "special")


def test_shares_of_made_up_times():
    prediction = {"bytes_per_frame": 2e6, "instructions_per_frame": 1e8, "special_per_frame": 1e6}
    found = costs.compared(prediction, 20e-6, CHIP)
    assert found["achieved_gb_per_s"] == pytest.approx(100)
    assert found["share_of_memory"] == pytest.approx(0.1)
    assert found["share_of_issue"] == found["share_of_ceiling"] == pytest.approx(0.5)
    assert found["share_of_special"] == pytest.approx(0.05)
    assert found["times_its_bytes"] == pytest.approx(10)


def test_goals_take_the_best_batch_of_their_size():
    made_up = {
        "kernels": [
            {"work": "susan", "size": "1080p", "seconds_per_frame": 0.4e-3},
            {"work": "susan", "size": "1080p", "seconds_per_frame": 0.2e-3},
            {"work": "susan", "size": "320x240", "seconds_per_frame": 0.01e-3},
            {"work": "poisson", "size": "1080p", "seconds_per_frame": 0.31e-3},
            {"work": "mix and divergence", "size": "1080p", "times_its_bytes": 1.6},
        ],
        "chain": [
            {"work": "chain", "size": "1080p", "frames_per_second": 900},
            {"work": "chain", "size": "1080p", "frames_per_second": 1000},
            {"work": "chain", "size": "4K", "frames_per_second": 249},
        ],
        "accuracy": [{"size": "1080p", "multigrid_error_levels": 0.1}],
        "against_cpu": [
            {"work": "susan", "size": "1080p", "times_cpu": 90},
            {"work": "chain", "size": "1080p", "times_cpu": 49},
        ],
    }
    found = {(goal["work"], goal["size"], goal["goal"]): goal for goal in costs.judged(made_up)}
    met = {key: goal["met"] for key, goal in found.items()}
    assert met[("susan", "1080p", "<= 300 us a frame")] is True
    assert found[("susan", "1080p", "<= 300 us a frame")]["value"] == 0.2e-3
    assert met[("poisson", "1080p", "<= 300 us a frame")] is False
    assert met[("poisson", "1080p", "<= 0.25 grey level")] is True
    assert met[("mix and divergence", "1080p", "<= 1.6 times its bytes")] is True
    assert met[("sums of the fit", "1080p", "<= 1.6 times its bytes")] is None
    assert met[("chain", "1080p", ">= 1,000 frames/s")] is True
    assert met[("chain", "4K", ">= 250 frames/s")] is False
    assert met[("chain", "320x240", ">= 20,000 frames/s")] is None
    assert met[("chain", "1080p", ">= 50 times the CPU")] is False


def test_every_step_has_a_cost_and_a_plain_twin():
    assert set(costs.COSTS) == set(steps.STEPS) == set(plain.PLAIN)
    assert set(costs.CHAIN) <= set(costs.COSTS)
    assert set(chain.CHUNKS) == set(gpu_report.CPU_FRAMES) == set(costs.SIZES)


HEADERS = {
    "yuv to levels": ("colour.cu", "1.5 bytes read (4:2:0, 8 bits; 3 with 16) and 12 written", "About 75"),
    "susan": ("susan3d.cu", "35.5 + 12 / length results", "250 instructions", "4 * 1.3 bytes read"),
    "motion masks": ("motion.cu", "4 C read and 1 byte written", "72 instructions for colour"),
    "temporal mean": ("motion.cu", "1 byte read and 4 written", "About 25 instructions"),
    "lamps": ("lamps.cu", "= 24 bytes", "About 36 instructions"),
    "mix and divergence": (
        "mixing.cu",
        "= 28 bytes of memory",
        "PULLED reads 4 bytes more",
        "with both 177",
        "make 30 pixels",
    ),
    "poisson": ("multigrid.cu", "together 89 bytes", "1100 in all"),
    "sums of the fit": ("fit.cu", "= 28 bytes of memory", "6 conversions to double"),
    "apply the fit": ("fit.cu", "Cost per sample: 8 bytes", "2 operations"),
    "8-bit pixels": ("fit.cu", "12 bytes in, 3, 6 or 12 out", "About 30 instructions"),
    "levels to nv12": ("colour.cu", "12 bytes read, 1.5 written", "about 75 instructions"),
    "8-bit median": ("median.cu", "2 bytes read", "6 accesses"),
}


@pytest.mark.parametrize("step", list(HEADERS))
def test_costs_are_those_of_the_headers(root, step):
    file, *phrases = HEADERS[step]
    lines = (line.strip(" /") for line in (root / "kernels" / file).read_text().splitlines())
    text = " ".join(lines)
    for phrase in phrases:
        assert phrase in text, f"{file} says something else: change benchmarks/gpu/costs.py with it"


def test_prediction_is_the_one_that_lies_in_the_folder(root, capsys):
    assert gpu_report.main(["--predict"]) == 0
    assert capsys.readouterr().out == (root / "benchmarks" / "results" / "gpu-prediction.md").read_text()


def test_prediction_of_known_figures():
    susan = costs.predicted("susan", 1000, PIXELS, chip.H200)
    assert susan["floor_seconds_per_frame"] == pytest.approx(60e-6, rel=0.02)
    assert susan["limit"] == "special"
    assert costs.predicted("poisson", 8, PIXELS, chip.H200)["floor_seconds_per_frame"] == pytest.approx(
        0.129e-3, 0.01
    )
    parts = costs.predicted_chain("1080p", 16, chip.H200)
    assert parts["together"] == pytest.approx(sum(parts.values()) / 2)


# ---------------------------------------------------------------------------------------------- tests, chart


def test_outcome_of_tests_is_counted(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--gpu', action='store_true')\n"
    )
    (tmp_path / "test_a.py").write_text("def test_1(): pass\ndef test_2(): assert 1 == 2, 'loud'\n")
    found = facts.parity(tmp_path, ["test_a.py"], 60)
    assert (found["passed"], found["failed"], found["errors"]) == (1, 1, 0)
    assert found["exit_code"] == 1
    assert any("loud" in line for line in found["last_lines"])


def test_tests_that_take_too_long_are_ended(tmp_path):
    (tmp_path / "conftest.py").write_text("import time\ntime.sleep(60)\n")
    found = facts.parity(tmp_path, [], 1.0)
    assert not found["ended"]
    assert found["seconds"] < 20


def test_last_line_of_pytest():
    text = "1 failed in test names\n=== 2 failed, 31 passed, 4 skipped, 1 error in 5.0s ==="
    assert facts.counted(text) == {"passed": 31, "failed": 2, "errors": 1, "skipped": 4}
    assert facts.counted("nothing") == {"passed": 0, "failed": 0, "errors": 0, "skipped": 0}


def test_letters_are_where_they_should_be():
    canvas = chart.Canvas(20, 10)
    canvas.text(1, 1, "T", scale=1)
    dark = (canvas.pixels[..., 0] < 128).astype(int)
    assert dark[1].tolist()[1:6] == [1, 1, 1, 1, 1]
    assert dark[1:8, 3].tolist() == [1] * 7
    assert dark.sum() == 13  # it has serifs


def test_chart_of_nothing_and_of_wild_figures():
    empty = {"device": "x", "facts": {"date": "", "gpufuse": ""}}
    assert chart.chart(empty).startswith(b"\x89PNG")
    record = {
        "work": "susan",
        "size": "4K",
        "seconds_per_frame": 1e-9,
        "share_of_ceiling": 7.0,
        "limit": "issue",
    }
    wild = empty | {"kernels": [record], "chain": [{"size": "4K", "frames_per_second": 1e-3}]}
    assert chart.chart(wild).startswith(b"\x89PNG")


def test_times_are_written_with_their_unit():
    assert [timing.duration(t) for t in (2.0, 0.25, 1.2e-4, 3e-9)] == ["2 s", "250 ms", "120 us", "3 ns"]


def test_failed_tests_are_loud_on_the_page(data):
    tests = {"exit_code": 1, "ended": True, "seconds": 3.0, "passed": 1, "failed": 1, "errors": 0, "skipped": 0,
             "last_lines": ["E   assert 1 == 2"]}  # fmt: skip
    page = tables.as_markdown(data | {"tests": tests, "failures": ["tests on the GPU: see above"]})
    assert "FAILED: 1 passed, 1 failed" in page
    assert "E   assert 1 == 2" in page
    assert "## Failed" in page


def test_ceilings_of_a_report_are_used(data):
    names = {field.name for field in dataclasses.fields(chip.Ceilings)}
    assert names <= set(data["ceilings"])
    entry = data["kernels"][0]
    rate = entry["bytes_per_frame"] / entry["seconds_per_frame"]
    assert entry["share_of_memory"] == pytest.approx(rate / data["ceilings"]["bandwidth"])
