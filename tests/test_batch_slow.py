"""Batches at length, run by ``pytest -m slow``: sixty clips, a hundred kills, every write that can fail."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive import (
    archive_from_footage,
    batch_words,
    children_of,
    dask_cluster,
    digests,
    environment,
    make_archive,
    parts_left,
    run_batch,
    start_batch,
    write_night,
)
from clips import write_clip

from gpufuse.batch import read_manifest, verify_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """Sixty short clips of four cameras, cut out of real footage, four of them longer."""
    archive = archive_from_footage(data_folder, tmp_path_factory.mktemp("sixty"), count=56)
    (archive / "nights/long").mkdir()
    for number in range(4):  # these are worked on in segments
        write_clip(archive / "nights/long" / f"{number}.mp4", count=90 + number, size=(48, 36))
    (archive / "days/long.png").symlink_to(next((archive / "days").glob("relit.*")))
    return archive


def words(archive: Path, output: Path, *more: str) -> list[str]:
    return batch_words(archive, output, "--segment", "1s", *more)


@pytest.fixture(scope="module")
def undisturbed(sixty: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what two workers make when nothing disturbs them."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    code, out, err = run_batch(words(sixty, output, "--workers", "2"))
    assert code == 0, err
    assert "60 of 60 clips done (60 in this run), 0 failed" in out
    code, out, _ = run_batch(["verify", str(output), "--decode"])
    assert code == 0
    assert "60 outputs" in out
    assert "no problem" in out
    assert all(read_manifest(output / f"long/{number}-enhanced.mp4").segments > 2 for number in range(4))
    return digests(output)


def check(output: Path, undisturbed: dict[str, str]) -> None:
    assert digests(output) == undisturbed
    assert verify_folder(output, decode=True).exit_code == 0
    assert not parts_left(output)
    assert not list((output / ".gpufuse/work").iterdir())
    assert not list((output / ".gpufuse/failures").iterdir())


def test_whole_clips_and_segments_give_the_same_frames(
    sixty: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    only = [word for number in range(4) for word in ("--only", f"long/{number}-enhanced.mp4")]
    code, _, err = run_batch(words(sixty, tmp_path / "out", "--segment", "none", *only))
    assert code == 0, err
    assert digests(tmp_path / "out").items() <= undisturbed.items()


def test_a_cluster_makes_sixty_clips(sixty: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gpufuse[cluster]'")
    with dask_cluster(tmp_path) as (address, _):
        code, out, err = run_batch(words(sixty, tmp_path / "out", "--scheduler", address))
    assert code == 0, err
    assert "60 of 60 clips done" in out
    check(tmp_path / "out", undisturbed)


def test_a_hundred_kills(sixty: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """Nothing lost, nothing twice, nothing broken; what was finished once is never made again."""
    chance = random.Random(7)
    output = tmp_path / "out"
    seen: dict[Path, int] = {}
    kills = 0
    for _ in range(400):
        process = start_batch(words(sixty, output, "--workers", "2"))
        try:
            process.communicate(timeout=chance.uniform(0.3, 9.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        for path in itertools.chain(output.rglob("*.mp4.json"), output.rglob("segment-*-*-*.json")):
            if ".part-" in path.name or "manifest-" in path.name:
                continue
            made = path.stat().st_mtime_ns
            assert seen.setdefault(path, made) == made, f"{path} was made again"
        if process.returncode == 0 and kills >= 100:
            break
        if process.returncode == 0:  # done too early: from the start, in another folder
            check(output, undisturbed)
            output = tmp_path / f"out{kills}"
    assert kills >= 100
    assert run_batch(words(sixty, output, "--workers", "2"))[0] == 0
    check(output, undisturbed)


def test_thirty_kills_of_workers(sixty: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(8)
    process = start_batch(words(sixty, tmp_path / "out", "--workers", "2"))
    killed = 0
    while killed < 30 and process.poll() is None:
        time.sleep(chance.uniform(0.5, 2.0))
        children = children_of(process.pid)
        if children:
            os.kill(chance.choice(children), signal.SIGKILL)
            killed += 1
    _, err = process.communicate(timeout=900)
    assert killed == 30
    assert process.returncode == 0, err
    check(tmp_path / "out", undisturbed)


def test_thirty_kills_of_workers_of_a_cluster(
    sixty: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """The processes that Dask's nannies watch, which start them again."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gpufuse[cluster]'")
    chance = random.Random(9)
    with dask_cluster(tmp_path) as (address, processes):
        process = start_batch(words(sixty, tmp_path / "out", "--scheduler", address))
        killed = 0
        while killed < 30 and process.poll() is None:
            time.sleep(chance.uniform(1.0, 4.0))
            workers = [child for nanny in processes[1:] for child in workers_of(nanny.pid)]
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
        _, err = process.communicate(timeout=900)
    assert killed == 30
    assert process.returncode == 0, err
    check(tmp_path / "out", undisturbed)


def workers_of(nanny: int) -> list[int]:
    """The process in which a Dask nanny has its worker: its child that has threads."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            threads = len(list((path / "task").iterdir()))
        except (OSError, ValueError, IndexError):
            continue
        if parent == nanny and threads > 2:
            found.append(int(path.name))
    return found


def test_twenty_races_for_one_folder(tmp_path: Path) -> None:
    """Of four batches that begin at once one works; the others say why they do not, or find all done."""
    archive = make_archive(tmp_path, cameras=1, clips=2)
    for race in range(20):
        output = tmp_path / f"out{race}"
        processes = [start_batch(batch_words(archive, output, "--workers", "1")) for _ in range(4)]
        ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
        assert {code for *_, code in ended} <= {0, 7}, ended
        assert all("expected no other batch in this folder" in err for _, err, code in ended if code == 7)
        assert sum("(2 in this run)" in out for out, *_ in ended) == 1, ended
        assert all(
            "(0 in this run)" in out or "(2 in this run)" in out for out, _, code in ended if code == 0
        )
        assert len(digests(output)) == 2
        assert verify_folder(output).exit_code == 0


# Endurance

WATCHED = """
import json, os, sys, threading
from pathlib import Path
from gpufuse.enhance import enhance

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

seen = []
def progress(done, expected):
    if done // 1000 > len(seen) - 1:
        seen.append(resident())

before = len(os.listdir("/proc/self/fd"))
report = enhance(sys.argv[1], sys.argv[2], sys.argv[3], device="cpu", progress=progress)
print(json.dumps([report.frames, seen, len(os.listdir("/proc/self/fd")) - before]))
"""


@pytest.fixture(scope="module")
def twenty_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = make_archive(tmp_path_factory.mktemp("long"), cameras=1, clips=0)
    write_night(archive / "nights/cam0/long.mp4", 20_000)
    return archive


def test_memory_is_flat_over_twenty_thousand_frames(twenty_thousand: Path, tmp_path: Path) -> None:
    words = [str(twenty_thousand / "nights/cam0/long.mp4"), str(twenty_thousand / "days/cam0.png")]
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, *words, str(tmp_path / "out.mkv")],  # MP4 keeps an index in memory
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        check=True,
    )
    frames, seen, descriptors = json.loads(run.stdout)
    print(f"resident MiB by thousand frames: {[round(size, 1) for size in seen]}")
    assert frames == 20_000
    assert seen[-1] - seen[2] <= 2.0, seen  # MiB
    assert descriptors <= 0


def test_a_batch_leaks_nothing(twenty_thousand: Path, tmp_path: Path) -> None:
    """Neither memory nor descriptors, processes, threads or temporary files, over 67 segments of 12 s."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = start_batch(
        batch_words(twenty_thousand, tmp_path / "out", "--segment", "12s", "--workers", "2"),
        TMPDIR=str(temporary),
    )
    resident, descriptors = [], []
    while process.poll() is None:
        time.sleep(1)
        with contextlib.suppress(OSError, IndexError):
            pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
            resident.append(int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20)
            descriptors.append(len(os.listdir(f"/proc/{process.pid}/fd")))
    out, err = process.communicate()
    assert process.returncode == 0, err
    print(
        out,
        f"resident MiB of the batch's own process: {resident[5]:.1f} after 5 s, {resident[-2]:.1f} at the end",
    )
    middle = len(resident) // 2
    assert max(resident[middle:]) - max(resident[5:middle]) <= 2.0
    assert max(descriptors[middle:]) <= max(descriptors[:middle])
    assert not list(temporary.iterdir())
    assert not parts_left(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out/cam0/long-enhanced.mp4")
    assert manifest is not None
    assert (manifest.frames_out, manifest.segments) == (20_000, 67)
