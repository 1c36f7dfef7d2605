"""The command line: words to arguments, errors to one line and an exit code. No numerics."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gpufuse._version import __version__
from gpufuse.errors import ConfigError, GpufuseError, OutputError
from gpufuse.settings import Settings

__all__ = ["main"]

SALVAGED = 1
INTERRUPTED = 130

_EPILOGUE = """\
exit codes: 0 complete; 1 complete for the readable part (--on-damage salvage); 2 usage or settings;
3 input missing or unreadable; 4 input damaged; 5 over a limit; 6 day and night do not belong together;
7 output cannot be written; 8 GPU demanded but unusable; 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints have the form of all other errors: one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    words : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> main(["enhance", "missing.mp4", "--day", "missing.png", "-o", "out.mp4", "--device", "cpu"])
    3
    """
    _interrupt_on_terminate()
    try:
        arguments = _parser().parse_args(words)
        code: int = arguments.run(arguments)
        return code
    except GpufuseError as error:
        _tell(f"gpufuse: {_one_line(error)}")
        return error.exit_code
    except KeyboardInterrupt:
        _tell("gpufuse: interrupted; nothing half-written was left, run it again to start over")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OutputError.exit_code


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as cleanly as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: the caller has its own way
        return


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


# ---------------------------------------------------------------------------------------- commands


def _run_enhance(arguments: argparse.Namespace) -> int:
    from gpufuse.enhance import enhance

    settings = _settings(arguments)
    with _progress_bar() as bar:

        def advance(done: int, expected: int | None) -> None:
            if bar is not None:
                bar.total = expected if expected is None or expected >= done else done
                bar.update(done - bar.n)

        report = enhance(
            arguments.night,
            arguments.day,
            arguments.output,
            device=arguments.device,
            areas=arguments.areas,
            settings=settings,
            compare=arguments.compare,
            write_importance=arguments.write_importance,
            overwrite=arguments.overwrite,
            on_damage=arguments.on_damage,
            progress=advance,
            tell=lambda line: _tell(f"gpufuse: {line}"),
        )
    for line in report.notes + report.damage:
        _tell(f"gpufuse: {line}")
    print(report.summary())
    for path in report.extras:
        print(path)
    return SALVAGED if report.damage else 0


def _progress_bar() -> Any:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext(None)
    from tqdm import tqdm

    return tqdm(unit=" frames", leave=False, dynamic_ncols=True)


def _run_fuse(arguments: argparse.Namespace) -> int:
    from gpufuse import baselines, fusion
    from gpufuse.arrays import from_levels, image_format, to_levels
    from gpufuse.output import check_output
    from gpufuse.resampling import enlarged
    from gpufuse.video import read_still, write_still

    settings = _settings(arguments)
    check_output(arguments.output, overwrite=arguments.overwrite)
    day, night = read_still(arguments.day), read_still(arguments.night)
    reference = None if arguments.reference is None else read_still(arguments.reference)
    importance = None if arguments.importance is None else _one_channel(read_still(arguments.importance))
    if reference is not None and importance is not None:
        raise ConfigError("--reference, --importance: expected one of them, got both; leave one out")
    if arguments.method == "gradient" and reference is not None:
        result = fusion.fuse_dynamic(day, night, reference, areas=arguments.areas, settings=settings)
    elif arguments.method == "gradient":
        result = fusion.fuse(day, night, importance=importance, areas=arguments.areas, settings=settings)
    else:
        if arguments.areas is not None:
            raise ConfigError("--areas: expected --method gradient, got another; leave the areas out")
        weights = fusion.pair_importance(
            day, night, reference=reference, importance=importance, settings=settings
        )
        form = image_format(night)
        day_levels = to_levels(day) if image_format(day).colour == form.colour else None
        if day_levels is None:
            raise ConfigError("DAY, NIGHT: expected both grey or both colour, got one of each; convert one")
        night_levels = enlarged(to_levels(night), day_levels.shape[-2:])
        method = getattr(baselines, arguments.method)
        pair = (day_levels, night_levels)
        levels = method(*pair) if arguments.method in ("average", "maximum") else method(*pair, weights)
        result = from_levels(levels, form)
    if arguments.write_importance is not None:
        weights = fusion.pair_importance(
            day, night, reference=reference, importance=importance, settings=settings
        )
        write_still(arguments.write_importance, weights, overwrite=arguments.overwrite)
    write_still(arguments.output, result, overwrite=arguments.overwrite)
    print(f"{arguments.output}: {result.shape[1]}x{result.shape[0]}, {arguments.method}")
    return 0


def _one_channel(picture: Any) -> Any:
    """A grey picture: paint programs like to save grey as colour."""
    if picture.ndim == 2:
        return picture
    if (picture[..., :1] == picture).all():
        return picture[..., 0]
    raise ConfigError("--importance: expected a grey picture, got a coloured one; paint in grey, 0 to 255")


def _run_background(arguments: argparse.Namespace) -> int:
    from gpufuse.enhance import day_plate
    from gpufuse.output import check_output
    from gpufuse.video import write_still

    if not arguments.seconds > 0:
        raise ConfigError(f"--seconds: expected more than 0, got {arguments.seconds:g}; 15 is usual")
    check_output(arguments.output, overwrite=arguments.overwrite)
    plate = day_plate(arguments.day, seconds=arguments.seconds, on_damage=arguments.on_damage)
    write_still(arguments.output, plate, overwrite=arguments.overwrite)
    print(f"{arguments.output}: {plate.shape[1]}x{plate.shape[0]}, median of {arguments.day}")
    return 0


def _run_demo(arguments: argparse.Namespace) -> int:
    from gpufuse.demo import run_demo

    report = run_demo(
        arguments.output,
        settings=_settings(arguments),
        overwrite=arguments.overwrite,
        tell=lambda line: _tell(f"gpufuse: {line}"),
    )
    print(report.figures)
    print(f"{report.folder}: enhanced.mp4, sheet.png and figures.txt, in {report.seconds:.0f} s")
    return 0


def _run_doctor(arguments: argparse.Namespace) -> int:
    from gpufuse.device import diagnosis

    for line in diagnosis():
        print(line)
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings() if arguments.settings is None else Settings.from_toml(arguments.settings)
    return settings.with_words(arguments.set)


# ------------------------------------------------------------------------------------------ parser


def _parser() -> _Parser:
    parser = _Parser(
        prog="gpufuse",
        description="Gives night footage of a fixed camera the context of the day.",
        epilog="examples:\n"
        "  gpufuse demo                              see what it does, without any input\n"
        "  gpufuse enhance night.mp4 --day day.png   make night-enhanced.mp4\n\n" + _EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gpufuse {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_enhance(commands)
    _add_fuse(commands)
    _add_background(commands)
    _add_demo(commands)
    doctor = _command(
        commands, "doctor", "tell devices, codecs, versions, and which backend runs", "gpufuse doctor"
    )
    doctor.set_defaults(run=_run_doctor)
    return parser


def _command(commands: Any, name: str, purpose: str, example: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=f"example:\n  {example}\n\n{_EPILOGUE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def _add_enhance(commands: Any) -> None:
    command = _command(
        commands,
        "enhance",
        "give a night clip, a folder or glob of night stills, or one still the context of the day",
        "gpufuse enhance night.mp4 --day day.png --compare --set night_gain=1.5",
    )
    command.add_argument("night", metavar="NIGHT", help="clip, folder or glob of stills, or one still")
    command.add_argument(
        "--day", required=True, metavar="DAY", help="picture, or clip to make the plate from"
    )
    command.add_argument(
        "-o", dest="output", metavar="OUT", help="result; default: NIGHT-enhanced.mp4 beside the input"
    )
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    command.add_argument(
        "--compare", action="store_true", help="also write day | night | importance | result"
    )
    _add_method_options(command)
    _add_output_options(command)
    _add_damage_option(command)
    command.set_defaults(run=_run_enhance)


def _add_fuse(commands: Any) -> None:
    command = _command(
        commands,
        "fuse",
        "fuse a day and a night picture",
        "gpufuse fuse day.png night.png -o fused.png --reference empty-night.png",
    )
    command.add_argument("day", metavar="DAY", help="day picture")
    command.add_argument("night", metavar="NIGHT", help="night picture")
    command.add_argument("-o", dest="output", required=True, metavar="OUT", help="result (.png, .tif, .jpg)")
    command.add_argument("--reference", metavar="R", help="night picture without the moving things")
    command.add_argument("--importance", metavar="PNG", help="grey picture: 255 keeps the night")
    command.add_argument(
        "--method",
        default="gradient",
        choices=("gradient", "average", "maximum", "blend", "substitute"),
        help="default: gradient; the others are there to compare with",
    )
    _add_method_options(command)
    _add_output_options(command)
    command.set_defaults(run=_run_fuse)


def _add_background(commands: Any) -> None:
    command = _command(
        commands,
        "background",
        "make the daytime plate of a day clip: the street without its traffic",
        "gpufuse background day.mp4 -o day.png --seconds 15",
    )
    command.add_argument("day", metavar="DAYCLIP", help="clip, or folder or glob of stills")
    command.add_argument("-o", dest="output", required=True, metavar="OUT", help="plate (.png, .tif, .jpg)")
    command.add_argument(
        "--seconds", type=float, default=15.0, help="how much of the clip to use; default: 15"
    )
    command.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _add_damage_option(command)
    command.set_defaults(run=_run_background)


def _add_demo(commands: Any) -> None:
    command = _command(
        commands,
        "demo",
        "render a street by day and night, enhance it, and judge it against the known truth",
        "gpufuse demo -o demo",
    )
    command.add_argument(
        "-o", dest="output", type=Path, default=Path("demo"), metavar="DIR", help="folder; default: demo"
    )
    command.add_argument("--overwrite", action="store_true", help="replace files of an earlier run")
    _add_settings_options(command)
    command.set_defaults(run=_run_demo)


def _add_settings_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--settings", metavar="FILE.toml", help="file of name = value lines")
    command.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="set single values, for example passes=2",
    )  # fmt: skip


def _add_method_options(command: argparse.ArgumentParser) -> None:
    _add_settings_options(command)
    command.add_argument("--areas", metavar="FILE", help="TOML file of areas filled from day or night")
    command.add_argument("--write-importance", metavar="PATH", help="also write the importance")


def _add_output_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _add_damage_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on-damage",
        default="fail",
        choices=("fail", "salvage"),
        help="damaged input: fail (default), or work on what can be read and end with code 1",
    )
