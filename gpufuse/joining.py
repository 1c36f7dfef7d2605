"""Clips that were written in pieces, joined without encoding anything anew.

The packets are copied as they are. Only their decoding times are made anew: those of a piece begin before its first
picture is shown, and there the piece before it still is.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from gpufuse.errors import ConfigError, GpufuseError, InputError, OutputError
from gpufuse.output import OutputFile, output_error
from gpufuse.sink import Sink
from gpufuse.writer import check_clip_output

__all__ = ["join_clips"]

_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_SAME = "write the segments anew, all with one version, one kind of encoder and the same settings"


def join_clips(
    parts: Sequence[str | Path],
    output: str | Path,
    *,
    time_base: Fraction,
    rate: Fraction | int,
    frames: Sequence[int] | None = None,
    overwrite: bool = False,
    tell: Callable[[], None] = lambda: None,
) -> int:
    """Join clips that `gpufuse.writer.ClipWriter` wrote, as if one had written all their frames.

    Parameters
    ----------
    parts : sequence of path
        In the order of their frames, all with the suffix of `output`; each goes on after the last frame of the one
        before, in the times of one clip.
    output : str or Path
        Ends in ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
    time_base : Fraction
        Unit of the frame times in seconds, as the writers of the parts were given it.
    rate : Fraction or int
        Frames per second, as the writers of the parts were given it.
    frames : sequence of int, optional
        How many frames each part must hold.
    overwrite : bool
        Whether a file of that name may be replaced.
    tell : callable, optional
        Called now and then, as a sign of life: after each packet.

    Returns
    -------
    int
        Frames in the joined clip. It has its name when all is written and checked.

    Raises
    ------
    ConfigError
        If there is no part.
    InputError
        If a part cannot be read, holds another number of frames, does not follow on the one before, or was encoded
        in another way than the first.
    OutputError
        If the file exists or cannot be written.

    Notes
    -----
    Packet i is decoded at the time at which picture i - d is shown, where d is the number of pictures by which the
    encoder changes the order; so times of decoding increase over every joint, however uneven the frames are.
    """
    if not parts:
        raise ConfigError("parts: expected at least one clip to join, got none; name them")
    output = Path(output)
    check_clip_output(output, overwrite=overwrite)
    with OutputFile(output, overwrite=overwrite) as file:
        joint = _Joint(file.part, output, Fraction(time_base), Fraction(rate), tell)
        try:
            for index, path in enumerate(parts):
                joint.add(Path(path), None if frames is None else frames[index])
            joint.finish()
        except BaseException as error:
            joint.give_up()
            joint.raise_as_found(error)
    return joint.frames


def _log_caught() -> Any:
    """Keep what FFmpeg logs in this thread off the terminal."""
    import av.logging

    return av.logging.Capture()


@dataclass(frozen=True)
class _Kind:
    """What all parts must have in common, for one header to hold for all."""

    codec: str
    size: tuple[int, int]
    pixels: str
    time_base: Fraction
    headers: bytes


class _Joint:
    """The joined file in the making."""

    def __init__(
        self, part: Path, path: Path, time_base: Fraction, rate: Fraction, tell: Callable[[], None]
    ) -> None:
        self._part, self._path, self._tell = part, path, tell
        self._time_base, self._rate = time_base, rate
        self._seconds = max(1, round(1 / (rate * time_base))) * time_base  # that each frame lasts
        self._container: Any = None
        self._stream: Any = None
        self._sink: Sink | None = None
        self._kind: _Kind | None = None
        self._order: _DecodingOrder | None = None
        self._last: int | None = None  # largest time of the parts before
        self.frames = 0

    def add(self, path: Path, frames: int | None) -> None:
        """Copy the packets of one part."""
        import av

        try:
            with _log_caught():
                source = av.open("file:" + str(path.absolute()), options={"protocol_whitelist": "file"})
        except Exception as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise InputError(
                f"{path.name}: expected a readable segment, found '{reason}'; {_SAME}"
            ) from error
        with source:
            kind = self._checked_kind(path, source)
            times = []
            for packet in self._packets_of(path, source):
                if self._last is not None and packet.pts <= self._last:
                    raise InputError(
                        f"{path.name}: expected frames after {float(self._last * kind.time_base):.3f} s, found one at "
                        f"{float(packet.pts * kind.time_base):.3f} s; name the segments in their order"
                    )
                times.append(packet.pts)
                self._put(packet)
                self._tell()
        if frames is not None and len(times) != frames:
            raise InputError(f"{path.name}: expected {frames} frames, found {len(times)}; {_SAME}")
        if not times:
            raise InputError(f"{path.name}: expected at least one frame, found none; {_SAME}")
        self._last = max(times)

    def _checked_kind(self, path: Path, source: Any) -> _Kind:
        if not source.streams.video or source.streams.video[0].codec_context is None:
            raise InputError(f"{path.name}: expected a video stream, found none; {_SAME}")
        stream = source.streams.video[0]
        context = stream.codec_context
        kind = _Kind(
            context.codec.canonical_name,
            (context.width, context.height),
            context.pix_fmt or "",
            Fraction(stream.time_base),
            bytes(context.extradata or b""),
        )
        if self._kind is None:
            self._kind = kind
            self._open(stream)
        for name in ("codec", "size", "pixels", "time_base", "headers"):
            wanted, found = getattr(self._kind, name), getattr(kind, name)
            if wanted != found:
                described = (
                    "the encoder's headers of the first segment, found others"
                    if name == "headers"
                    else f"the {name.replace('_', ' ')} {wanted} of the first segment, found {found}"
                )
                raise InputError(f"{path.name}: expected {described}; {_SAME}")
        return kind

    def _open(self, template: Any) -> None:
        import av

        muxer = _MUXERS[self._path.suffix.lower()]
        # Or the time of the first frame is rounded to milliseconds.
        options = {} if muxer == "matroska" else {"movie_timescale": str(self._time_base.denominator)}
        self._sink = Sink(self._part)
        with _log_caught():
            self._container = av.open(self._sink, "w", format=muxer, options=options)
            self._stream = self._container.add_stream_from_template(template)
            self._stream.codec_context.framerate = self._rate
        self._order = _DecodingOrder(template.codec_context.reorder_depth)

    def _packets_of(self, path: Path, source: Any) -> Iterator[Any]:
        with _log_caught() as lines:
            for packet in source.demux(source.streams.video[0]):
                if not packet.size:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    raise InputError(f"{path.name}: expected whole packets with times, found others; {_SAME}")
                yield packet
        if lines:
            reason = " ".join(lines[0][2].split())
            raise InputError(f"{path.name}: expected a sound segment, found '{reason}'; {_SAME}")

    def _put(self, packet: Any) -> None:
        assert self._order is not None
        for ready, decoded in self._order.add(packet, packet.pts):
            self._mux(ready, decoded)

    def _mux(self, packet: Any, decoded: int) -> None:
        if decoded > packet.pts:
            raise InputError(
                f"{self._path.name}: expected pictures that are decoded before they are shown, found others; {_SAME}"
            )
        packet.dts = decoded
        packet.duration = max(1, round(self._seconds / packet.time_base))
        packet.stream = self._stream
        with _log_caught():
            self._container.mux_one(packet)
        assert self._sink is not None
        self._sink.check()
        self.frames += 1

    def finish(self) -> None:
        """Write what waits and the index, and check the file."""
        assert self._order is not None
        assert self._sink is not None
        for packet, decoded in self._order.rest():
            self._mux(packet, decoded)
        with _log_caught():
            self._container.close()
        self._container = None
        self._sink.check()
        self._sink.close()
        self._verify()

    def _verify(self) -> None:
        import av

        if self._path.suffix.lower() == ".mkv":  # which states no count
            return
        with _log_caught(), av.open("file:" + str(self._part.absolute())) as container:
            found = container.streams.video[0].frames
        if found != self.frames:
            raise OutputError(
                f"{self._path.name}: expected {self.frames} frames in the file, found {found}; "
                "check the disk and run again"
            )

    def give_up(self) -> None:
        """Close what is open; the file is thrown away."""
        container, self._container = self._container, None
        with contextlib.suppress(OSError):  # another error is on its way to the user
            if self._sink is not None:
                self._sink.close()
        with _log_caught(), contextlib.suppress(Exception):
            if container is not None:
                container.close()

    def raise_as_found(self, error: BaseException) -> None:
        """Raise what lies behind an error, in the user's words."""
        if self._sink is not None and self._sink.error is not None and isinstance(error, Exception):
            error = self._sink.error  # what lies behind the one that FFmpeg made of it
        if isinstance(error, GpufuseError) or not isinstance(error, Exception):
            raise error
        if isinstance(error, OSError):
            raise output_error(self._path, error) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"{self._path.name}: expected to join the segments, found '{reason}'; {_SAME}"
        ) from error


class _DecodingOrder:
    """Times of decoding for packets in the order in which they are decoded.

    Examples
    --------
    >>> order = _DecodingOrder(1)
    >>> shown = [0, 20, 10, 50, 30]
    >>> found = [pair for time in shown for pair in order.add(time, time)] + list(order.rest())
    >>> found
    [(0, -10), (20, 0), (10, 10), (50, 20), (30, 30)]
    """

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._begun = False
        self._waiting: list[tuple[Any, int]] = []  # the first packets, until their times are known
        self._shown: list[int] = []  # a heap of times that no packet is decoded at yet

    def add(self, packet: Any, shown: int) -> Iterator[tuple[Any, int]]:
        """Take the next packet; give those whose time of decoding is known, with it."""
        heapq.heappush(self._shown, shown)
        if not self._begun:
            self._waiting.append((packet, shown))
            # The first `delay` + 1 to be shown are among the first 2 `delay` + 1 to be decoded.
            if len(self._waiting) > 2 * self._delay:
                yield from self._begin()
            return
        yield packet, heapq.heappop(self._shown)

    def _begin(self) -> Iterator[tuple[Any, int]]:
        """Go back from the first picture by as much as the first `delay` pictures last."""
        self._begun = True
        times = sorted(shown for _, shown in self._waiting)
        ahead = self._delay if len(times) > self._delay else 0  # so few pictures are in their order
        early = [time - (times[ahead] - times[0]) for time in times[: self._delay]]
        for index, (packet, _) in enumerate(self._waiting):
            yield packet, early[index] if index < len(early) else heapq.heappop(self._shown)
        self._waiting.clear()

    def rest(self) -> Iterator[tuple[Any, int]]:
        """Give the packets of a clip that ended early."""
        if not self._begun:
            yield from self._begin()
