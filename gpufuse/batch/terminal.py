"""What a batch tells on a terminal while it runs: a bar for all, and a line for each worker."""

from __future__ import annotations

import contextlib
import time
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self, TextIO

from gpufuse.batch.results import Progress, WorkerState

__all__ = ["ProgressLines", "spell_time"]

_PLAIN_EVERY = 60.0  # seconds between two lines where nobody watches


def spell_time(seconds: float | None) -> str:
    """Return a time as one reads it.

    Examples
    --------
    >>> spell_time(5), spell_time(3725), spell_time(200000), spell_time(None)
    ('5 s', '1:02:05', '2 d 7 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 2 * 86400:
        hours, rest = divmod(whole, 3600)
        minutes, left = divmod(rest, 60)
        return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02} min"
    days, rest = divmod(whole, 86400)
    return f"{days} d {rest // 3600} h"


class ProgressLines:
    """Shows progress; a context manager, called with each `Progress`.

    Parameters
    ----------
    stream : text file
        Standard error. Where it is no terminal, a line is written for each clip that is finished or fails, and one
        a minute.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._watched = stream.isatty()
        self._silent = False
        self._bars: list[Any] = []
        self._last: Progress | None = None
        self._told = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show how far the batch is; where nobody can see it any more, the batch goes on in silence."""
        if self._silent:
            return
        try:
            if self._watched:
                self._show(progress)
            else:
                self._write(progress)
        except (OSError, ValueError):  # the terminal, or whoever read the lines, has gone
            self._silent = True
        self._last = progress

    def _show(self, progress: Progress) -> None:
        from tqdm import tqdm

        while len(self._bars) < 1 + len(progress.workers):
            form = "{desc}" if self._bars else "{l_bar}{bar}| {n_fmt}/{total_fmt} clips{postfix}"
            self._bars.append(
                tqdm(
                    total=progress.files_total,
                    file=self._stream,
                    position=len(self._bars),
                    leave=False,
                    dynamic_ncols=True,
                    bar_format=form,
                )
            )
        main = self._bars[0]
        main.n = progress.files_done + progress.files_failed
        main.set_postfix_str(_figures(progress).removeprefix(", "), refresh=False)
        main.refresh()
        lines = [_worker_line(state) for state in progress.workers]
        for bar, line in zip(self._bars[1:], lines + [""] * len(self._bars), strict=False):
            bar.set_description_str(line)

    def _write(self, progress: Progress) -> None:
        ended = progress.files_done + progress.files_failed
        before = self._last
        changed = before is None or ended != before.files_done + before.files_failed
        if changed or time.monotonic() - self._told > _PLAIN_EVERY:
            self._told = time.monotonic()
            print(
                f"gpufuse: {ended} of {progress.files_total} clips{_figures(progress)}",
                file=self._stream,
                flush=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            for bar in reversed(self._bars):
                bar.close()


def _figures(progress: Progress) -> str:
    failed = f", {progress.files_failed} failed" if progress.files_failed else ""
    return (
        f"{failed}, {progress.frames} frames, {progress.frames_per_second:.1f} frames/s, "
        f"{spell_time(progress.seconds_left)} left"
    )


def _worker_line(state: WorkerState) -> str:
    share = f"{state.frames} of {state.expected}" if state.expected else f"{state.frames}"
    return f"  {state.worker}: {PurePosixPath(state.clip).name}, {state.work}, {share} frames"
