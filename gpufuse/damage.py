"""Finding out whether a clip was read whole: the reader's book-keeping.

Decoders hide damage: a clip that is cut short often just ends, and lost pictures are painted
over. So everything a file says about itself is compared with what came out of it: counts, times,
marks of corruption, sizes, the structure of the file, and every line that FFmpeg logs.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

from gpufuse.errors import DamagedInputError

__all__ = [
    "ELEMENTARY",
    "RESIZED",
    "DamageRecord",
    "FileState",
    "FrameTimes",
    "LogLines",
    "OnDamage",
    "harmless",
    "log_level",
]

OnDamage: TypeAlias = Literal["fail", "salvage"]
"""Raise at the first sign of damage, or list it and go on with what is readable."""

LogLines: TypeAlias = Iterable[tuple[int, str, str]]
"""Level, name of the part of FFmpeg, text."""

ELEMENTARY = ("h264", "hevc", "mjpeg", "m4v", "mpegvideo")
"""FFmpeg's names of elementary streams: pictures without a container, so without times."""

RESIZED = "use --on-resize split or scale"
"""What to do about pictures that change their size."""

_MOST_KEPT = 100  # a damaged hour may log a line per frame

# Lines that intact files cause, each with its reason.
_HARMLESS = (
    "Discarding excessive bitstream in packed xvid",  # how DivX packed B-frames in AVI
    "Video uses a non-standard and wasteful way to store B-frames",  # the same
    "deprecated pixel format used",  # yuvj420p, which we read on purpose
    "Could not find codec parameters for stream",  # about streams that are not read
    "Consider increasing the value for the 'analyzeduration'",
    "not enough frames to estimate rate",  # a clip of one frame
    "Estimating duration from bitrate",  # elementary streams have no duration
    "Missing key frame while searching for timestamp",  # a clip trimmed without encoding it anew
    "Cannot find an index entry before timestamp",  # the same
)

_log_lock = threading.Lock()
_log_users = 0
_log_before: tuple[int | None, bool] = (None, True)


class log_level:  # noqa: N801
    """Have FFmpeg log warnings while any reader or writer is open; then as it was before.

    The level is one per process, so users are counted. Lines are only ever caught in the thread
    that causes them (see `gpufuse.video`), so two readers never see each other's.
    """

    def __enter__(self) -> None:
        global _log_users, _log_before
        import av.logging

        with _log_lock:
            if _log_users == 0:
                level = av.logging.get_level()
                _log_before = (level, av.logging.get_skip_repeated())
                if level is None or level < av.logging.WARNING:
                    av.logging.set_level(av.logging.WARNING)
                # Or the first complaint about a clip is lost if it equals the last about another.
                av.logging.set_skip_repeated(False)
            _log_users += 1

    def __exit__(self, *_: object) -> None:
        global _log_users
        import av.logging

        with _log_lock:
            _log_users -= 1
            if _log_users == 0:
                av.logging.set_level(_log_before[0])
                av.logging.set_skip_repeated(_log_before[1])


def harmless(line: tuple[int, str, str], unread: frozenset[str]) -> bool:
    """Return whether a log line says nothing about the pictures.

    Parameters
    ----------
    line : (int, str, str)
        Level, name, text.
    unread : frozenset of str
        Names of decoders of streams that are not read, such as sound.

    Returns
    -------
    bool

    Examples
    --------
    >>> harmless((24, "mpeg4", "Discarding excessive bitstream in packed xvid"), frozenset())
    True
    """
    import av.logging

    level, name, text = line
    if name in ELEMENTARY and "detected only with low score" in text:
        return True  # such streams have no header to be sure by
    return level > av.logging.WARNING or name in unread or any(known in text for known in _HARMLESS)


class DamageRecord:
    """What is wrong with one clip: raised at once, or collected.

    Parameters
    ----------
    name : str
        The clip's name, for messages.
    on_damage : {"fail", "salvage"}
        Whether to raise.

    Attributes
    ----------
    damage : list of str
        With ``"salvage"``: one line for each kind of damage, in order of discovery.
    """

    def __init__(self, name: str, on_damage: OnDamage) -> None:
        self.name = name
        self.on_damage = on_damage
        self.damage: list[str] = []
        self._seen: set[str] = set()
        self._more = 0

    def report(
        self,
        expected: str,
        found: str,
        *,
        at: str = "",
        cause: BaseException | None = None,
        remedy: str = "repair or fetch it again",
    ) -> None:
        """Report damage: ``expected ..., found ... at ...``.

        Parameters
        ----------
        expected, found : str
            Parts of the message.
        at : str
            Where: "0.80 s", "frame 7".
        cause : BaseException, optional
            What a decoder raised.
        remedy : str
            What to do about it.

        Raises
        ------
        DamagedInputError
            Unless damage is collected.
        """
        place = f" at {at}" if at else ""
        line = f"{self.name}: expected {expected}, found {found}{place}"
        if self.on_damage == "fail":
            raise DamagedInputError(
                f"{line}; {remedy}, or use --on-damage salvage to keep the readable part"
            ) from cause
        key = expected + found
        if key in self._seen or len(self.damage) > _MOST_KEPT:
            self._more += 1
            return
        self._seen.add(key)
        if len(self.damage) == _MOST_KEPT:
            line = f"{self.name}: more damage of other kinds"
        self.damage.append(line)

    def log_lines(self, lines: LogLines, unread: frozenset[str], *, at: str = "") -> None:
        """Report log lines, except the harmless ones."""
        for line in lines:
            if not harmless(line, unread):
                text = " ".join(line[2].split())
                self.report("sound video data", f"'{text}' ({line[1]})", at=at)


@dataclass(frozen=True)
class FileState:
    """What tells whether a file was written to or replaced.

    Attributes
    ----------
    size : int
        Bytes.
    modified : int
        Time of the last change in nanoseconds.
    identity : tuple of int
        Number of the file and of its device.
    """

    size: int
    modified: int
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file.

        Parameters
        ----------
        path : Path

        Returns
        -------
        FileState

        Raises
        ------
        OSError
            If it is not there or cannot be looked at.
        """
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, (found.st_ino, found.st_dev))

    def change(self, path: Path) -> str | None:
        """Tell what happened to the file since; None if nothing did.

        Parameters
        ----------
        path : Path

        Returns
        -------
        str or None
            Part of a message: "one that ...".
        """
        try:
            now = FileState.of(path)
        except OSError:
            return "one that was removed while it was read"
        if now == self:
            return None
        if now.identity != self.identity:
            return "one that was replaced while it was read"
        sizes = f" ({self.size} to {now.size} bytes)" if now.size != self.size else ""
        return f"one that changed while it was read{sizes}"


class FrameTimes:
    """Frame times as they come: order, the usual interval, and gaps.

    Examples
    --------
    >>> times = FrameTimes(Fraction(1, 25))
    >>> [times.add(pts) for pts in (0, 1, 2, 3, 3, 9)]
    [True, True, True, True, False, True]
    >>> times.interval, times.gaps(), times.regular
    (1, [(3, 9)], False)
    """

    _MOST = 4096  # distinct intervals kept; more only in a clip that is irregular anyway
    _REORDERED = 16  # pictures by which a codec may change the order, at most

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None
        self._intervals: Counter[int] = Counter()
        self._longest: list[tuple[int, int]] = []  # a heap of (interval, start)
        self._latest: deque[int] = deque(maxlen=self._REORDERED)  # intervals

    def add(self, pts: int) -> bool:
        """Take note of a time; False (and nothing noted) if it is not after the last one."""
        if self.last is None:
            self.first = pts
        else:
            step = pts - self.last
            if step <= 0:
                return False
            if step in self._intervals or len(self._intervals) < self._MOST:
                self._intervals[step] += 1
            if len(self._longest) < _MOST_KEPT:
                heapq.heappush(self._longest, (step, self.last))
            elif step > self._longest[0][0]:
                heapq.heapreplace(self._longest, (step, self.last))
            self._latest.append(step)
        self.last = pts
        self.count += 1
        return True

    @property
    def interval(self) -> int:
        """The median interval in units of the time base; 0 while there is none."""
        half, seen = sum(self._intervals.values()) / 2, 0
        if len(self._intervals) == 1:
            return next(iter(self._intervals))
        for step in sorted(self._intervals):
            seen += self._intervals[step]
            if seen >= half:
                return step
        return 0

    @property
    def regular(self) -> bool:
        """Whether at least 95 % of the intervals are the usual one (a clock tick more or less)."""
        total = sum(self._intervals.values())
        usual = sum(n for step, n in self._intervals.items() if abs(step - self.interval) <= 1)
        return usual >= 0.95 * total

    @property
    def late_gaps(self) -> int:
        """What gaps among the last pictures add to the clip's length: a length by decoding times lacks it."""
        limit = 1.5 * self.interval + 1
        return sum(step - self.interval for step in self._latest if step > limit)

    def gaps(self) -> list[tuple[int, int]]:
        """Pairs of successive times more than 1.5 usual intervals apart (the hundred longest)."""
        limit = 1.5 * self.interval + 1
        return sorted((start, start + step) for step, start in self._longest if step > limit)
