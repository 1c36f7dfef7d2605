"""Judge gpufuse and the methods a user could pick instead, by figures and by pictures.

    python benchmarks/quality_report.py [--scenes A,B] [--methods gpufuse,blend] [--set NAME=VALUE ...]
    python benchmarks/quality_report.py --before paper --after      # the paper's settings and the defaults
    python benchmarks/quality_report.py --variant soft data_weight=0.01 --variant hard data_weight=0.1

It prints a table for each scene and writes to the folder: ``quality.md`` (to read), ``quality.json`` (all
figures), a sheet for each scene (``quality-SCENE.png``) and its busiest part at twice the size
(``quality-SCENE-crop.png``). Variants set gpufuse against itself, on all scenes; other methods stand beside
them where ``--methods`` names some.

Scenes of real footage lie in the folder that ``GPUFUSE_DATA`` names; those that are absent are left out
with a word. ``--publish`` also writes page, figures and the sheet of the rendered scene to
``benchmarks/results``. Pictures of real footage are never written into the checkout. Some three minutes on
two cores; needs ``pip install -e '.[bench]'``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (str(ROOT / "benchmarks"), str(ROOT)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from quality import judge, page, pictures, tables  # noqa: E402
from quality.methods import BY_OPENCV, OTHERS, OURS  # noqa: E402
from quality.scenes import SCENES, MissingFootageError, Scene, rendered  # noqa: E402

from gpufuse import Settings  # noqa: E402
from gpufuse.errors import ConfigError  # noqa: E402
from gpufuse.stills import write_still  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"

STEM = "quality"
"""How the names of files begin."""

SHEET_BYTES = 400_000
"""A published sheet is at most so large."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0; 2 for wrong settings, 3 if no scene could be read or scikit-image is missing."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("skimage") is None:
        print("quality_report: needs scikit-image; pip install -e '.[bench]'", file=sys.stderr)
        return 3
    try:
        variants = _variants(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    report = _Report(options.output, variants)
    others = _others(options, report)
    for name in options.scenes:
        _judge(name, options, others, report)
    if not report.judgements:
        print("quality_report: nothing was judged, no scene could be read", file=sys.stderr)
        return 3
    report.finish(published=options.publish)
    return 0


class _Report:
    """What has been judged so far, and where it is written."""

    def __init__(self, folder: Path, variants: list[tuple[str, Settings]]) -> None:
        self.folder, self.variants = folder, variants
        self.judgements: list[judge.Judgement] = []
        self.left_out: list[str] = []
        self.sheets: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def leave_out(self, what: str) -> None:
        self.left_out.append(what)
        print(f"left out: {what}", file=sys.stderr, flush=True)

    def add(self, judgement: judge.Judgement) -> None:
        """Draw a scene and keep its figures."""
        if judgement.scene.public or not _inside_checkout(self.folder):
            stem = f"quality-{judgement.scene.name}"
            write_still(self.folder / f"{stem}.png", pictures.whole_sheet(judgement), overwrite=True)
            write_still(self.folder / f"{stem}-crop.png", pictures.crop_sheet(judgement), overwrite=True)
        else:
            self.leave_out(f"{judgement.scene.name}: its pictures, which do not belong into a checkout")
        if judgement.scene.public:
            small = pictures.whole_sheet(judgement, scale=360 / judgement.scene.day.shape[1])
            self.sheets[tables.picture_of(judgement)] = pictures.as_jpeg(small, most_bytes=SHEET_BYTES)
        self.judgements.append(page.light(judgement))

    def finish(self, *, published: str | None) -> None:
        """Write page and figures, the published ones under a name of their own; print where we are not first."""
        lines = tables.not_first(self.judgements)
        if lines:
            print("\nnot first:", *lines, sep="\n- ")
        for folder, name in [(self.folder, STEM), *([(RESULTS, published)] if published else [])]:
            text = json.dumps(
                page.data(self.judgements, self.variants, self.left_out), indent=1, allow_nan=False
            )
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            text = page.page(self.judgements, self.variants, self.left_out)
            text = text.replace(f"]({STEM}-", f"]({name}-").replace(f"`{STEM}-", f"`{name}-")
            (folder / f"{name}.md").write_text(text, encoding="utf-8")
            for picture, sheet in self.sheets.items():
                (folder / picture.replace(STEM, name, 1)).write_bytes(sheet)
        print(f"\n{self.folder / 'quality.md'}")


def _inside_checkout(folder: Path) -> bool:
    return folder.resolve().is_relative_to(ROOT)


def _judge(name: str, options: argparse.Namespace, others: Sequence[str], report: _Report) -> None:
    started = time.perf_counter()
    try:
        scene: Scene = rendered(**options.size) if name == "rendered" else SCENES[name]()
    except MissingFootageError as error:
        report.leave_out(f"{name}: {error}")
        return
    judgement = judge.judged_scene(scene, others, report.variants)
    report.add(judgement)
    seconds = time.perf_counter() - started
    print(f"\n{name} ({seconds:.0f} s)\n{tables.text_table(judgement)}", flush=True)


def _variants(options: argparse.Namespace) -> list[tuple[str, Settings]]:
    """Our rows: one, or one for each set of settings that are compared."""
    named = [(words[0], words[1:]) for words in options.variant]
    if options.before is not None or options.after is not None:
        named = [("before", options.before or []), ("after", options.after or []), *named]
    if not named:
        return [(OURS, _settings([], options.words))]
    return [(name, _settings(words, options.words)) for name, words in named]


def _settings(words: Sequence[str], shared: Sequence[str]) -> Settings:
    """Settings by the words of a row; the word "paper" begins with the paper's values, not the defaults."""
    start = Settings.paper() if "paper" in words else Settings()
    return start.with_words([*shared, *(word for word in words if word != "paper")])


def _others(options: argparse.Namespace, report: _Report) -> list[str]:
    """Other methods that were asked for, or all of them unless variants are compared, and can run here."""
    names = options.methods
    if names is None:
        names = list(OTHERS) if len(report.variants) == 1 else []
    chosen = []
    for name in names:
        if name in BY_OPENCV and importlib.util.find_spec("cv2") is None:
            report.leave_out(f"{name}: needs OpenCV, pip install -e '.[bench]'")
        elif name != OURS:
            chosen.append(name)
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    settings = {"nargs": "*", "metavar": "NAME=VALUE"}
    parser.add_argument("--scenes", type=_names_of(SCENES), default=list(SCENES), help=", ".join(SCENES))
    parser.add_argument("--methods", type=_names_of([OURS, *OTHERS]), help=", ".join([OURS, *OTHERS]))
    parser.add_argument(
        "--set", dest="words", default=[], **settings, help="settings of gpufuse, in all its rows"
    )
    parser.add_argument("--before", **settings, help="a row of its own for these settings")
    parser.add_argument("--after", **settings, help="and one for these")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="a row: its name, then paper or NAME=VALUE",
    )
    parser.add_argument(
        "--size", type=_size, default={}, metavar="WxHxT", help="of the rendered scene (480x270x48)"
    )
    folder = Path(tempfile.gettempdir(), "gpufuse-quality")
    parser.add_argument(
        "--output", type=Path, default=folder, help=f"folder for page and pictures ({folder})"
    )
    parser.add_argument(
        "--publish",
        nargs="?",
        const=STEM,
        metavar="NAME",
        help=f"also write what may be published to benchmarks/results, as NAME.md and so on ({STEM})",
    )
    return parser


def _names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def parsed(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, got {name!r}")
        return names

    return parsed


def _size(text: str) -> dict[str, int]:
    try:
        width, height, frames = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHTxFRAMES, got {text!r}") from None
    return {"width": width, "height": height, "frames": frames}


if __name__ == "__main__":
    sys.exit(main())
