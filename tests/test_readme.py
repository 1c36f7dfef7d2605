"""What the README says is true: its example runs, its tables are complete, its test command is CI's."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import gpufuse
from gpufuse.areas import load_areas
from gpufuse.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out == "(240, 320, 3) uint8\n" * 4
    assert names["fused"].shape == names["moving"].shape == (240, 320, 3)  # type: ignore[attr-defined]


def test_ci_runs_the_readmes_test_command() -> None:
    run, test, *_ = (block.strip() for block in blocks("bash"))
    assert "\n" not in run + test
    assert run.endswith("gpufuse demo")
    assert test in (ROOT / ".ci" / "run").read_text()


def test_extras_and_images_exist() -> None:
    _, _, _, gpu, container = blocks("bash")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"'\.\[(\w+)\]'", gpu)
    assert extras == ["cuda13", "cuda12"]
    assert set(extras) <= set(project["optional-dependencies"])
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for file, target in re.findall(r"docker build -f (\S+) --target (\w+)", container):
        assert (ROOT / file).is_file()
        assert re.search(rf"^FROM \S+ AS {target}$", dockerfile, flags=re.MULTILINE)


def test_every_command_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+)\b", capsys.readouterr().out, flags=re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        assert f"| `gpufuse {command}" in README


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", README, flags=re.MULTILINE)
    listed = {}
    for names, defaults in rows:
        keys = re.findall(r"`(\w+)`", names)
        for key, default in zip(keys, re.split(r",\s*", defaults), strict=False):
            listed[key] = default
    settings = gpufuse.Settings()
    for field in fields(settings):
        value = getattr(settings, field.name)
        expected = "auto" if value is None else str(value).lower() if isinstance(value, bool) else value
        expected = f"{expected:g}" if isinstance(expected, float) else str(expected)
        assert listed[field.name].split(" ")[0] == expected, field.name


def test_the_areas_example_is_read(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    (tmp_path / "areas.toml").write_text(example)
    (area,) = load_areas(tmp_path / "areas.toml")
    assert area.fill == "day"


def test_pictures_exist() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file()


def test_every_figure_is_filled_in() -> None:
    assert not re.findall(r"@[A-Z]+@", README)
