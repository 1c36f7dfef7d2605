"""The documentation is complete, its links lead somewhere, and it can be built."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy
import pytest
from archive import make_archive
from PIL import Image

import gpufuse
import gpufuse.batch
from gpufuse.batch.lists import COLUMNS, read_list

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS / "pages").as_posix(): path for path in sorted((DOCS / "pages").rglob("*.md"))}
CONFIGURATION = (DOCS / "mkdocs.yml").read_text(encoding="utf-8")

# The public interface: what a page on the API must describe.
CONTRACT = [
    "fuse", "fuse_dynamic", "fuse_video", "daytime_background", "to_device", "to_host", "Settings", "Area",
    "denoise.susan3d", "gradients.gradient", "gradients.divergence", "importance.static_importance",
    "importance.dynamic_importance", "importance.motion_masks", "importance.temporal_mean",
    "mixing.mix_gradients", "poisson.solve", "normalise.fit_affine", "baselines.average", "baselines.maximum",
    "baselines.blend", "baselines.substitute", "report.sheet", "report.truth_figures", "batch.run", "batch.dry_run",
    "batch.verify_folder", "batch.read_manifest",
]  # fmt: skip


def module(path: Path) -> ModuleType:
    """A file of docs/ as a module."""
    place = importlib.util.spec_from_file_location(path.stem, path)
    assert place is not None
    assert place.loader is not None
    made = importlib.util.module_from_spec(place)
    place.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return module(DOCS / "hooks.py")


def text(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def without_code(markdown: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))


# Pages


def test_the_navigation_has_every_page_once() -> None:
    listed = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", CONFIGURATION, flags=re.MULTILINE)
    assert sorted(listed) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str, hooks: ModuleType) -> None:
    added = {path.name for path in hooks.PICTURES}
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text(page))):
        assert not target.startswith("http"), "the pages ask no other host"
        name, _, anchor = target.partition("#")
        if name in added and "/" not in page:
            continue
        found = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        assert found.is_file(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES.values(), *DOCS.glob("*.*")], ids=lambda path: path.name)
def test_no_page_names_a_place_on_one_machine(path: Path) -> None:
    if path.suffix != ".jpg":
        assert not re.search(r"(?<![\w.])/(work|tmp|home|root|Users)/", path.read_text(encoding="utf-8"))


def test_every_picture_is_shown_and_made_by_the_script(hooks: ModuleType) -> None:
    shown = set()
    for page in PAGES:
        shown |= set(re.findall(r"\]\(([\w/-]+\.jpg)\)", text(page)))
    pictures = {f"pictures/{path.name}" for path in (DOCS / "pages" / "pictures").iterdir()}
    assert shown == pictures | {path.name for path in hooks.PICTURES}
    makers = module(DOCS / "make_pictures.py").SHEETS
    assert pictures == {f"pictures/{name}.jpg" for name in makers}


def test_pictures_are_small() -> None:
    sizes = [path.stat().st_size for path in (DOCS / "pages" / "pictures").iterdir()]
    sizes += [path.stat().st_size for path in DOCS.glob("*.jpg")]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_500_000


def test_a_picture_is_what_the_script_makes(tmp_path: Path) -> None:
    script = module(DOCS / "make_pictures.py")
    script.SIZE["frames"] = script.FRAME + 1  # a shorter clip is the beginning of a longer one
    script.write_small(tmp_path / "pair.jpg", script.drawn("pair"), script.LARGEST)
    stored, made = (Image.open(folder / "pair.jpg") for folder in (DOCS / "pages" / "pictures", tmp_path))
    assert made.size == stored.size
    # At an eighth of the size, where what another JPEG library does to details has averaged out.
    blurred = (numpy.asarray(image.reduce(8), float) for image in (made, stored))
    assert abs(numpy.subtract(*blurred)).mean() < 0.2, "run python docs/make_pictures.py"


# What pages must describe


@pytest.mark.parametrize("name", CONTRACT)
def test_the_interface_is_on_a_page(name: str) -> None:
    owner = inspect.getmodule(attribute(name))
    assert owner is not None
    described = set()
    for page in PAGES:
        if page.startswith("api/"):
            described |= set(re.findall(r"^::: (\S+)$", text(page), flags=re.MULTILINE))
    assert described & {f"gpufuse.{name}", owner.__name__}
    for wanted in described:
        attribute(wanted.removeprefix("gpufuse.").removeprefix("gpufuse"))


def attribute(name: str) -> object:
    """What a dotted name below the package stands for."""
    value: object = gpufuse
    path = "gpufuse"
    for part in filter(None, name.split(".")):
        path += f".{part}"
        value = getattr(value, part) if hasattr(value, part) else importlib.import_module(path)
    return value


def test_every_setting_is_explained(hooks: ModuleType) -> None:
    page = text("parameters.md")
    table = hooks.settings_table()
    for field in dataclasses.fields(gpufuse.Settings):
        assert f"**`{field.name}`**" in page, f"parameters.md says nothing of {field.name}"
        assert re.search(rf"^\| `{field.name}` \| \S+ \| \w.*\w", table, flags=re.MULTILINE)
    for name in re.findall(r"\*\*`(\w+)`\*\*", page):
        assert hasattr(gpufuse.Settings(), name)


def test_defaults_are_written_as_on_the_command_line(hooks: ModuleType) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", hooks.settings_table(), flags=re.MULTILINE)
    words = [f"{name}={default}" for name, default in rows]
    assert gpufuse.Settings.paper().with_words(words) == gpufuse.Settings()
    assert hooks.written(math.inf) == "inf"


def test_every_command_is_on_its_page(hooks: ModuleType) -> None:
    page = hooks.expanded(text("commands.md"))
    commands = hooks.commands()
    assert set(commands) >= {"enhance", "fuse", "background", "demo", "doctor"}
    for command in commands:
        assert f"## {command}\n\n```text\nusage: gpufuse {command} " in page
    assert page.count("exit codes: ") == 1
    assert "--on-damage" in page


def test_exit_codes_are_complete(hooks: ModuleType) -> None:
    codes = re.findall(r"^\| (\d+) \|", hooks.exit_codes(), flags=re.MULTILINE)
    assert [int(code) for code in codes] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 130, 143]


def test_nothing_is_left_to_expand(hooks: ModuleType) -> None:
    for page in PAGES:
        assert "{{" not in hooks.expanded(text(page))


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), flags=re.MULTILINE | re.DOTALL)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(fenced("programming.md", "python")[0], "programming.md", "exec"), {})
    assert capsys.readouterr().out == "(240, 320, 3) uint8\n" * 4


def test_the_example_of_a_batch_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_archive(tmp_path, cameras=1, clips=1)
    (tmp_path / "days" / "cam0.png").rename(tmp_path / "days" / "bridge.png")
    (tmp_path / "archive" / "bridge").mkdir(parents=True)
    (tmp_path / "nights" / "cam0" / "0.mp4").rename(tmp_path / "archive" / "bridge" / "2026-01-01.mp4")
    monkeypatch.chdir(tmp_path)
    (example,) = (code for code in fenced("programming.md", "python") if "gpufuse.batch.run" in code)
    exec(compile(example, "programming.md", "exec"), {"gpufuse": gpufuse})
    out = capsys.readouterr().out
    assert "1 of 1 clips done (1 in this run), 0 failed; 9 frames" in out
    assert out.endswith("\n()\n")  # no problems


def test_the_lists_of_an_archive_are_read(tmp_path: Path) -> None:
    for kind, count in (("csv", 3), ("toml", 2)):
        (text_of_list,) = fenced("archive.md", kind)
        path = tmp_path / f"clips.{kind}"
        path.write_text(text_of_list, encoding="utf-8")
        assert len(read_list(path).rows) == count
    columns = re.findall(r"^\| `(\w+)` \|", text("archive.md").partition("| column |")[2], flags=re.MULTILINE)
    assert tuple(columns[: len(COLUMNS)]) == COLUMNS


def test_every_field_of_a_manifest_is_explained() -> None:
    page = text("archive.md").partition("| field |")[2]
    explained = set(re.findall(r"`(\w+)`", re.sub(r"^\| (.*?) \|.*$", r"\1", page, flags=re.MULTILINE)))
    fields = {field.name for field in dataclasses.fields(gpufuse.batch.Manifest)} - {"name", "format"}
    assert fields | {"check"} <= explained


def test_the_toml_examples_are_read(tmp_path: Path) -> None:
    settings, areas = fenced("parameters.md", "toml")
    (tmp_path / "file.toml").write_text(settings, encoding="utf-8")
    assert gpufuse.Settings.from_toml(tmp_path / "file.toml") != gpufuse.Settings()
    (tmp_path / "file.toml").write_text(areas, encoding="utf-8")
    (area,) = gpufuse.areas.load_areas(tmp_path / "file.toml")
    assert area.fill == "day"


# Results, equations


def test_results_become_a_section(hooks: ModuleType) -> None:
    results = "# Title\n\n```\n# no title\n```\n\n[more](other.md) ![chart](none.svg)\n\n## Part\n"
    assert hooks.as_section(results) == (
        "## Title\n\n```\n# no title\n```\n\nmore (`other.md`) *chart*\n\n### Part\n"
    )
    assert "## CPU figures" in hooks.results("cpu-*.md")
    assert "not been run" in hooks.results("no-such-*.md")


def test_equations_become_mathml(hooks: ModuleType) -> None:
    pytest.importorskip("latex2mathml", reason="pip install -e '.[docs]' brings it")
    page = (
        '<p><span class="arithmatex">\\(a &lt; b\\)</span></p>\n<div class="arithmatex">\\[\nx^2\n\\]</div>'
    )
    made = hooks.as_mathml(page)
    assert made.count("<math") == 2
    assert "<msup>" in made
    assert "arithmatex" not in made


# The site


def test_the_site_builds_and_asks_no_other_host(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(name, reason="pip install -e '.[docs]' brings it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(DOCS / "mkdocs.yml")]
    done = subprocess.run([*command, "-d", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "api" / "denoise.html").read_text(encoding="utf-8")
    assert 'id="gpufuse.denoise.susan3d"' in api
    assert "<math" in (tmp_path / "how-it-works.html").read_text(encoding="utf-8")
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert "arithmatex" not in html
        asked = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=[\"']?(https?:[^\s\"'>]+)", html)
        assert not asked, f"{page.name}: {asked}"
