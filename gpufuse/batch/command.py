"""The commands `batch` and `verify`: words to arguments, results to lines and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from gpufuse import files
from gpufuse.batch.api import BatchOrder, rehearsed, run_order
from gpufuse.batch.orders import SEGMENT_SECONDS, STALL_SECONDS, Options
from gpufuse.batch.results import BatchReport
from gpufuse.batch.terminal import ProgressLines
from gpufuse.batch.workspace import safely
from gpufuse.errors import ConfigError
from gpufuse.settings import Settings

__all__ = [
    "add_batch_options",
    "add_pair_options",
    "add_verify_options",
    "parsed_seconds",
    "parsed_shift",
    "run_batch",
    "run_verify",
]

Tell = Callable[[str], None]

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_MOST_TOLD = 20


def parsed_seconds(text: str) -> float | None:
    """Return the seconds that words such as ``10min`` stand for.

    Parameters
    ----------
    text : str
        A number with s, min or h behind it, or ``none``.

    Returns
    -------
    float or None

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parsed_seconds("10min"), parsed_seconds("90"), parsed_seconds("none")
    (600.0, 90.0, None)
    """
    if text.lower() == "none":
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS or not float(match[1]) > 0:
        raise ConfigError(
            f"--segment: expected a time such as 10min, 90s or 1h, or none, got {text!r}; mend it"
        )
    return float(match[1]) * _UNITS[match[2]]


def parsed_shift(text: str) -> float | None:
    """Return the pixels that ``--max-shift`` allows; None for ``none``.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parsed_shift("2.5"), parsed_shift("none")
    (2.5, None)
    """
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--max-shift: expected pixels or none, got {text!r}; mend it") from None


def add_batch_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `batch`, but for those on settings."""
    add = command.add_argument
    add("source", metavar="SOURCE", help="folder of clips, quoted glob, clip, or list (.csv, .toml)")
    add("--day", metavar="DAY", help="picture or clip of the day, or a pattern like 'days/{camera}.png'")
    add("-o", dest="folder", required=True, metavar="DIR", help="folder for outputs, manifests and report")
    add(
        "--camera", metavar="PATTERN", help="what a clip's path says: '{camera}/...'; for the fields of --day"
    )
    add("--areas", metavar="FILE", help="TOML file of areas filled from day or night, for all clips")
    add("--only", action="append", default=[], metavar="NAME", help="make this output alone; may be repeated")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes at one time; default: one for each GPU, or two cores",
    )
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    add(
        "--decoder",
        default="software",
        choices=("software", "nvdec"),
        help="as of enhance; default: software",
    )
    add("--scheduler", metavar="tcp://HOST:PORT", help="have the workers of this Dask cluster do it")
    add(
        "--segment", default=f"{SEGMENT_SECONDS / 60:g}min", metavar="TIME",
        help="work on long clips in pieces of this length, none: whole; default: %(default)s",
    )  # fmt: skip
    add("--on-damage", default="fail", choices=("fail", "salvage"), help="default: fail")
    add_pair_options(command)
    add("--max-pixels", type=int, metavar="N", help="largest frame read; default: 67108864")
    add("--max-frames", type=int, metavar="N", help="longest clip read; default: any")
    add("--max-seconds", type=float, metavar="N", help="the same in seconds")
    add(
        "--plate-seconds",
        type=float,
        default=15.0,
        metavar="N",
        help="of a day clip that are used; default: 15",
    )
    add(
        "--stall", type=float, default=STALL_SECONDS, metavar="SECONDS",
        help="give a clip up after this time without progress; default: %(default)g",
    )  # fmt: skip
    add("--dry-run", action="store_true", help="only count, and estimate time and disk space")
    add("--json", metavar="PATH", help="also write the report for programs; - for standard output")
    add("--overwrite", action="store_true", help="make again what was made otherwise, replacing it")


def add_pair_options(command: argparse.ArgumentParser) -> None:
    """Add the options on clips and days that do not fit each other, or themselves."""
    add = command.add_argument
    add(
        "--on-resize", default="fail", choices=("fail", "split", "scale"),
        help="where pictures change their size: fail, begin another output, or scale; default: fail",
    )  # fmt: skip
    add("--register", action="store_true", help="move the day onto the night where they are apart")
    add(
        "--max-shift",
        default="8",
        metavar="PIXELS",
        help="refuse days that are further off; none: do not look",
    )


def add_verify_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    command.add_argument("folder", metavar="DIR", help="folder of a batch")
    command.add_argument(
        "--quick", action="store_true", help="sizes and times alone, without reading the files"
    )
    command.add_argument("--decode", action="store_true", help="decode every output as well")


def run_batch(arguments: argparse.Namespace, settings: Settings, tell: Tell) -> int:
    """Run a batch as the command line says.

    Parameters
    ----------
    arguments : Namespace
    settings : Settings
    tell : callable
        Takes lines for the user.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    GpufuseError, KeyboardInterrupt
        As of `gpufuse.batch.run`.
    """
    options = _options(arguments)
    order = BatchOrder(
        arguments.source,
        arguments.day,
        arguments.folder,
        arguments.camera,
        settings,
        arguments.areas,
        options,
        tuple(arguments.only),
    )
    if arguments.dry_run:
        print("\n".join(rehearsed(order, workers=arguments.workers).lines()))
        return 0
    items, notes = order.listing()
    for note in notes:
        tell(f"gpufuse: {note}")
    with ProgressLines(sys.stderr) as progress:
        report = run_order(
            order, items, notes, workers=arguments.workers, scheduler=arguments.scheduler, progress=progress
        )
    for note in report.notes[len(notes) :]:
        tell(f"gpufuse: {note}")
    _tell_results(report, tell)
    if arguments.json is not None:
        _write_json(report, arguments.json)
    with contextlib.suppress(BrokenPipeError):  # the work is done, and the code tells how
        if arguments.json != "-":
            print(report.summary(), flush=True)
    return report.exit_code


def _options(arguments: argparse.Namespace) -> Options:
    largest = Options().max_pixels if arguments.max_pixels is None else arguments.max_pixels
    return Options(
        device=arguments.device,
        decoder=arguments.decoder,
        on_damage=arguments.on_damage,
        on_resize=arguments.on_resize,
        max_pixels=largest,
        max_frames=arguments.max_frames,
        max_seconds=arguments.max_seconds,
        max_shift=parsed_shift(arguments.max_shift),
        register=arguments.register,
        segment=parsed_seconds(arguments.segment),
        plate_seconds=arguments.plate_seconds,
        stall=arguments.stall,
        overwrite=arguments.overwrite,
    )


def _tell_results(report: BatchReport, tell: Tell) -> None:
    for result in report.failed[:_MOST_TOLD]:
        name = f"{result.item.name}: "
        tell(f"gpufuse: {name}{result.error.removeprefix(name)}")
    for result in report.damaged[:_MOST_TOLD]:
        assert result.manifest is not None
        tell(f"gpufuse: {result.item.name}: made from the readable part; {result.manifest.damage[0]}")
    more = max(len(report.failed), len(report.damaged)) - _MOST_TOLD
    if more > 0:
        tell(f"gpufuse: and more; all of them are in {Path(report.folder, 'index.html')}")


def _write_json(report: BatchReport, path: str) -> None:
    from gpufuse.batch.page import report_json

    text = json.dumps(report_json(report), indent=1)
    if path == "-":
        print(text)
        return
    with safely(path):
        files.write_whole(path, (text + "\n").encode(), overwrite=True)


def run_verify(arguments: argparse.Namespace, tell: Tell) -> int:
    """Verify a folder as the command line says.

    Parameters
    ----------
    arguments : Namespace
    tell : callable

    Returns
    -------
    int
        0 if all is well.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    from gpufuse.batch.verify import verify_folder

    with _bytes_bar() as advance:
        report = verify_folder(arguments.folder, quick=arguments.quick, decode=arguments.decode, tell=advance)
    for note in report.notes():
        tell(f"gpufuse: {note}")
    for problem in report.problems:
        print(problem)
    print(report.summary())
    return report.exit_code


@contextlib.contextmanager
def _bytes_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, where there is one."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, leave=False, dynamic_ncols=True) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance
