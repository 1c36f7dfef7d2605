"""The demonstration writes what it promises, and its figures say what its picture shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpufuse.demo import run_demo
from gpufuse.errors import OutputError
from gpufuse.video import open_clip, read_still


def test_demo_writes_clip_sheet_and_figures(tmp_path: Path) -> None:
    told: list[str] = []
    report = run_demo(tmp_path / "new" / "demo", width=128, height=72, frames=14, tell=told.append)
    names = sorted(path.name for path in report.folder.iterdir())
    assert names == ["day.png", "enhanced.mp4", "figures.txt", "night.mp4", "sheet.png"]
    assert len(told) == 3
    with open_clip(report.folder / "enhanced.mp4") as clip:
        enhanced = [frame.levels.mean() for frame in clip]
    with open_clip(report.folder / "night.mp4") as clip:
        night = [frame.levels.mean() for frame in clip]
    assert len(enhanced) == len(night) == 14
    assert min(enhanced) > 2 * max(night)  # the context of the day is there
    assert (report.folder / "figures.txt").read_text() == f"{report.figures}\n"
    assert report.figures.moving_found > 0.5
    assert report.figures.still_free > 0.5
    assert report.figures.day_kept > 0.5
    assert read_still(report.folder / "sheet.png").shape[1] > 3 * 128


def test_demo_replaces_nothing_unasked(tmp_path: Path) -> None:
    (tmp_path / "night.mp4").write_text("mine")
    with pytest.raises(OutputError, match=r"expected a new folder, found night\.mp4 in it"):
        run_demo(tmp_path, width=32, height=18, frames=2)
    assert [path.name for path in tmp_path.iterdir()] == ["night.mp4"]
    run_demo(tmp_path, width=32, height=18, frames=2, overwrite=True)
    with open_clip(tmp_path / "night.mp4") as clip:
        assert len(list(clip)) == 2


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "judging" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, width=32, height=18, frames=2, tell=interrupt)
    assert list(tmp_path.iterdir()) == []
