"""What the site takes from the checkout: help texts, settings, errors, results, and equations as MathML.

A line ``{{ name }}`` or ``{{ name argument }}`` of a page is replaced by what the function of that name in `MAKERS`
returns. Nothing of it is typed by hand, so it cannot differ from the program.
"""

# ruff: noqa: D103

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = [ROOT / "docs" / "demo.jpg", ROOT / "docs" / "before-after.jpg"]
sys.path.insert(0, str(ROOT))  # the pages describe this checkout, whatever else is installed

import gpufuse  # noqa: E402
from gpufuse import errors  # noqa: E402
from gpufuse.cli import main  # noqa: E402

# What a page can ask for


def help_of(command: str = "") -> str:
    """What ``gpufuse COMMAND --help`` prints."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "90"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


def commands() -> list[str]:
    return re.findall(r"^    (\w+)\b", help_of(), flags=re.MULTILINE)


def all_commands() -> str:
    """Every command with its help; what all of them end with is told once, by the first."""
    common = help_of()[help_of().index("exit codes:") :]
    texts = [f"```text\n{help_of()}```"]
    texts += [
        f"## {name}\n\n```text\n{help_of(name).replace(common, '').rstrip()}\n```" for name in commands()
    ]
    return "\n\n".join(texts)


def settings_table() -> str:
    """Name, default and meaning of every setting."""
    meanings = dict(
        re.findall(
            r"^    (\w+) : [^\n]*\n((?:        [^\n]*\n)+)",
            gpufuse.Settings.__doc__ or "",
            flags=re.MULTILINE,
        )
    )
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(gpufuse.Settings):
        meaning = " ".join(meanings[field.name].split()).replace("`", "").replace("|", "\\|")
        rows.append(f"| `{field.name}` | {written(field.default)} | {meaning} |")
    return "\n".join(rows)


def written(value: Any) -> str:
    """A default as it is written on the command line."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def exit_codes() -> str:
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "GpufuseError"]
    rows = ["| code | exception | meaning |", "|---|---|---|"]
    rows += ["| 0 | | Complete. |", "| 1 | | Complete for the readable part (`--on-damage salvage`). |"]
    for kind in sorted(kinds, key=lambda kind: kind.exit_code):
        also = [base.__name__ for base in kind.__bases__ if base is not errors.GpufuseError]
        name = f"`{kind.__name__}`" + (f" (a `{also[0]}` too)" if also else "")
        rows.append(f"| {kind.exit_code} | {name} | {(kind.__doc__ or '').splitlines()[0]} |")
    rows.append("| 130 | | Interrupted (Ctrl-C); nothing half-written under a final name. |")
    rows.append("| 143 | | The same, by SIGTERM. |")
    return "\n".join(rows)


def results(pattern: str) -> str:
    """The files of `benchmarks/results` that match, each as a section."""
    found = sorted(path for path in RESULTS.glob(pattern) if path.name != "README.md")
    if not found:
        return f"*This checkout holds no `benchmarks/results/{pattern}`: that part has not been run yet.*"
    return "\n\n".join(as_section(path.read_text(encoding="utf-8")) for path in found)


def as_section(text: str) -> str:
    """A page of results as part of another: headings one lower, pictures found, other links undone."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    for index in range(0, len(parts), 2):
        part = re.sub(r"^(#+ )", r"#\1", parts[index], flags=re.MULTILINE)
        parts[index] = re.sub(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]+)[^)]*\)", relinked, part)
    return "".join(parts)


def relinked(match: re.Match[str]) -> str:
    mark, text, target = match.groups()
    if (RESULTS / target).is_file() and not target.endswith(".md"):
        return f"{mark}[{text}](results/{target})"
    return f"{text} (`{target}`)" if not mark else f"*{text}*"


MAKERS = {
    "commands": all_commands,
    "settings": settings_table,
    "exit_codes": exit_codes,
    "results": results,
}


def expanded(markdown: str) -> str:
    def made(match: re.Match[str]) -> str:
        name, *arguments = match[1].split()
        return MAKERS[name](*arguments)

    return re.sub(r"^\{\{ (.+?) \}\}$", made, markdown, flags=re.MULTILINE)


# Equations


def as_mathml(page: str) -> str:
    """Equations, as arithmatex marks them, in the language that browsers read."""
    from latex2mathml.converter import convert

    def inline(match: re.Match[str]) -> str:
        return convert(html.unescape(match[1]).strip())

    def block(match: re.Match[str]) -> str:
        return f'<div class="equation">{convert(html.unescape(match[1]).strip(), display="block")}</div>'

    page = re.sub(r'<span class="arithmatex">\\\((.+?)\\\)</span>', inline, page, flags=re.DOTALL)
    return re.sub(r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>', block, page, flags=re.DOTALL)


def without_rst(page: str) -> str:
    """References of numpydoc docstrings, whose signs Markdown does not know."""
    return re.sub(r"\.\. (\[\d+\])", r"\1", re.sub(r"(\[\d+\])_", r"\1", page))


# What MkDocs calls


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path in PICTURES:
        files.append(File.generated(config, path.name, abs_src_path=str(path)))
    for path in sorted(RESULTS.glob("*")):
        if path.suffix in (".png", ".svg", ".jpg", ".json"):
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return expanded(markdown)


def on_page_content(content: str, **_: Any) -> str:
    return as_mathml(without_rst(content))
