"""The command line: words to arguments, errors to one line and an exit code. No numerics."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gpufuse._version import __version__
from gpufuse.batch.command import (
    add_batch_options,
    add_pair_options,
    add_verify_options,
    parsed_shift,
    run_batch,
    run_verify,
)
from gpufuse.errors import ConfigError, GpufuseError, LimitError, OutputError
from gpufuse.settings import Settings

__all__ = ["main"]

SALVAGED = 1
INTERRUPTED, TERMINATED = 130, 143

_EPILOGUE = """\
exit codes: 0 complete; 1 complete for the readable part (--on-damage salvage); 2 usage or settings;
3 input missing or unreadable; 4 input damaged; 5 over a limit; 6 day and night do not belong together;
7 output cannot be written; 8 GPU demanded but unusable; 11 some clips of a batch failed;
130 interrupted (Ctrl-C); 143 terminated
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints have the form of all other errors: one line."""

    def error(self, message: str) -> NoReturn:
        if "unrecognized arguments" in message:
            message += "; a pattern of stills needs quotes, like 'night/*.jpg'"
        raise ConfigError(f"{message}; see {self.prog} --help")


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
    code: int = 0
    try:
        arguments = _parser().parse_args(words)
        code = arguments.run(arguments)
        sys.stdout.flush()
    except GpufuseError as error:
        _tell(f"gpufuse: {_one_line(error)}")
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        _tell("gpufuse: interrupted; nothing half-written was left, run it again to go on or start over")
        return TERMINATED if isinstance(interrupt, _Terminated) else INTERRUPTED
    except BrokenPipeError:  # whoever read our lines has gone; the work itself is done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError:
        _tell(
            "gpufuse: expected enough memory, found too little; use smaller pictures or close other programs"
        )
        return LimitError.exit_code
    except OSError as error:
        _tell(f"gpufuse: expected to write a line, found {error.strerror!r}; check where the output goes")
        return OutputError.exit_code
    except Exception:  # a mistake of ours: its traceback is what a report needs
        traceback.print_exc()
        _tell(
            "gpufuse: this is a mistake in gpufuse; please report it with the lines above and gpufuse doctor"
        )
        return GpufuseError.exit_code
    return code


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as cleanly as Ctrl-C."""


def _interrupt_on_terminate() -> None:
    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: the caller has its own way
        return


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read our lines has gone, which is no reason to stop
        print(line, file=sys.stderr)


# ---------------------------------------------------------------------------------------- commands


def _run_enhance(arguments: argparse.Namespace) -> int:
    from gpufuse.alignment import Alignment
    from gpufuse.enhance import enhance

    settings = _settings(arguments)
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def advance(done: int, expected: int | None) -> None:
            if not bars and sys.stderr.isatty():
                bars.append(stack.enter_context(_progress_bar()))
            for bar in bars:
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
            on_resize=arguments.on_resize,
            alignment=Alignment(parsed_shift(arguments.max_shift), arguments.register),
            limits=_limits(arguments),
            decoder=arguments.decoder,
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
    from tqdm import tqdm

    return tqdm(unit=" frames", leave=False, dynamic_ncols=True)


def _limits(arguments: argparse.Namespace) -> Any:
    from gpufuse.video import Limits

    for name in ("max_pixels", "max_frames", "max_seconds"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ConfigError(
                f"--{name.replace('_', '-')}: expected more than 0, got {value:g}; give a larger number"
            )
    largest = Limits().max_pixels if arguments.max_pixels is None else arguments.max_pixels
    return Limits(largest, arguments.max_frames, arguments.max_seconds)


def _run_fuse(arguments: argparse.Namespace) -> int:
    from gpufuse.pair import fuse_files

    result = fuse_files(
        arguments.day,
        arguments.night,
        arguments.output,
        reference=arguments.reference,
        importance=arguments.importance,
        method=arguments.method,
        areas=arguments.areas,
        settings=_settings(arguments),
        write_importance=arguments.write_importance,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.output}: {result.shape[1]}x{result.shape[0]}, {arguments.method}")
    return 0


def _run_background(arguments: argparse.Namespace) -> int:
    from gpufuse.enhance import day_plate
    from gpufuse.jobfiles import JobFiles
    from gpufuse.video import write_still

    if not arguments.seconds > 0:
        raise ConfigError(f"--seconds: expected more than 0, got {arguments.seconds:g}; 15 is usual")
    files = JobFiles.planned(
        arguments.output, inputs=[arguments.day], overwrite=arguments.overwrite, still=True
    )
    plate = day_plate(arguments.day, seconds=arguments.seconds, on_damage=arguments.on_damage)
    write_still(files.result, plate.pixels, overwrite=arguments.overwrite)
    height, width = plate.pixels.shape[:2]
    for line in plate.notes + plate.damage:
        _tell(f"gpufuse: {line}")
    print(f"{arguments.output}: {width}x{height}, median of {arguments.day}")
    return SALVAGED if plate.damage else 0


def _run_batch(arguments: argparse.Namespace) -> int:
    return run_batch(arguments, _settings(arguments), _tell)


def _run_verify(arguments: argparse.Namespace) -> int:
    return run_verify(arguments, _tell)


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


def _run_bench(arguments: argparse.Namespace) -> int:
    from gpufuse.bench.command import run_bench

    table = run_bench(
        arguments.size or ["320x240"],
        arguments.kind,
        seconds=arguments.budget,
        json_path=arguments.json,
        overwrite=arguments.overwrite,
        tell=lambda line: _tell(f"gpufuse: {line}"),
    )
    print(table)
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
    _add_batch(commands)
    _add_demo(commands)
    _add_bench(commands)
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
        "--decoder",
        default="software",
        choices=("software", "nvdec"),
        help="nvdec: the GPU decodes too, but damage inside pictures goes unnoticed; default: software",
    )
    command.add_argument(
        "--compare", action="store_true", help="also write day | night | importance | result"
    )
    _add_method_options(command)
    _add_output_options(command)
    _add_damage_option(command)
    add_pair_options(command)
    command.add_argument("--max-pixels", type=int, metavar="N", help="largest frame read; default: 67108864")
    command.add_argument("--max-frames", type=int, metavar="N", help="longest clip read; default: any")
    command.add_argument("--max-seconds", type=float, metavar="N", help="the same in seconds")
    command.set_defaults(run=_run_enhance)


def _add_fuse(commands: Any) -> None:
    command = _command(
        commands,
        "fuse",
        "fuse a day and a night picture",
        "gpufuse fuse day.png night.png -o fused.png --reference empty-night.png",
    )
    command.add_argument("day", metavar="DAY", help="day picture, or clip to make the plate from")
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


def _add_batch(commands: Any) -> None:
    command = _command(
        commands,
        "batch",
        "enhance an archive: all clips of a folder, glob or list, resumable, nothing lost",
        "gpufuse batch archive --camera '{camera}/...' --day 'days/{camera}.png' -o enhanced",
    )
    add_batch_options(command)
    _add_settings_options(command)
    command.set_defaults(run=_run_batch)
    command = _command(
        commands, "verify", "read the outputs of a batch again and check them", "gpufuse verify enhanced"
    )
    add_verify_options(command)
    command.set_defaults(run=_run_verify)


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


def _add_bench(commands: Any) -> None:
    command = _command(
        commands,
        "bench",
        "compare with what else is installed for the same work, in about a minute",
        "gpufuse bench --size 320x240 --size 1280x720 --budget 120",
    )
    command.add_argument(
        "--size", action="append", metavar="WxH", help="picture size, may be repeated; default: 320x240"
    )
    command.add_argument(
        "--kind", action="append", default=[], metavar="KIND",
        help="poisson, denoise, plate or job, may be repeated; default: all",
    )  # fmt: skip
    command.add_argument(
        "--budget", type=float, default=60.0, metavar="SECONDS", help="time for all of it; default: 60"
    )
    command.add_argument("--json", metavar="PATH", help="also write the figures for programs")
    _add_output_options(command)
    command.set_defaults(run=_run_bench)


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
