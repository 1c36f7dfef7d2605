"""`gpufuse bench`: a short comparison, printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gpufuse.bench.kinds import KINDS
from gpufuse.bench.records import Size
from gpufuse.bench.run import Comparison, Plan, compare
from gpufuse.bench.table import as_json, as_text
from gpufuse.errors import ConfigError, OutputError

__all__ = ["run_bench"]


def run_bench(
    sizes: Sequence[str],
    kinds: Sequence[str],
    *,
    seconds: float = 60.0,
    json_path: str | Path | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> str:
    """Compare this package with what else is installed, in about a minute.

    Parameters
    ----------
    sizes : sequence of str
        Like ``320x240``.
    kinds : sequence of str
        Of `gpufuse.bench.kinds.KINDS`; none: all.
    seconds : float
        Time for all of it, above 0.
    json_path : str or Path, optional
        Where to write the figures for programs as well.
    overwrite : bool
        Whether a file of that name may be replaced.
    tell : callable
        Called with a line on what happens next.

    Returns
    -------
    str
        Tables with the facts of this machine.

    Raises
    ------
    ConfigError
        For a size, kind or time that is none.
    OutputError
        If the file exists or cannot be written.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}; choose one")
    if not seconds > 0:
        raise ConfigError(f"--budget: expected seconds above 0, got {seconds:g}; 60 is usual")
    if json_path is not None and Path(json_path).exists() and not overwrite:
        raise OutputError(f"{json_path}: expected a new file, found one; choose another or use --overwrite")
    if json_path is not None and not Path(json_path).absolute().parent.is_dir():
        raise OutputError(f"{json_path}: expected an existing folder to write to, found none; make it first")
    plan = Plan(
        [_size(word) for word in sizes], tuple(kinds) or tuple(KINDS), seconds, widest=640, short=True
    )
    comparison = compare(plan, tell=tell)
    if json_path is not None:
        _write(Path(json_path), comparison)
    return as_text(comparison)


def _size(word: str) -> Size:
    try:
        return Size.of(word)
    except ValueError as error:
        raise ConfigError(
            f"--size: expected even WIDTHxHEIGHT from 16x16 to 7680x4320, got {word!r}; try 320x240"
        ) from error


def _write(path: Path, comparison: Comparison) -> None:
    try:
        path.write_text(as_json(comparison), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: expected a file to write to, found {error.strerror!r}; choose another with --json"
        ) from error
