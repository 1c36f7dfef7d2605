"""The books of a video file: what was stated about it, what came out of it, and what that says when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpufuse.damage import ELEMENTARY, DamageRecord, FrameTimes

__all__ = ["Books", "Statement"]

# Formats in which frames may not simply be lost between two times; others only tell when a picture begins.
_INTERVALS_CHECKED = ("matroska,webm", "mpegts", "mpeg", "flv", "asf", "ogg")
# Codecs where a packet may hold no picture to be shown, or more than one.
_UNCOUNTED = ("vp8", "vp9", "av1", "mpeg4", "msmpeg4v3", "h263", "wmv1", "wmv2", "wmv3", "vc1", "theora")
_ENDS_STATED = ("matroska,webm", "flv")  # their duration is the time of the end
_EMPTY_PACKET = 4  # bytes: a placeholder for a picture that is not there, smaller than any start code
_ZEROS = bytes(8)


@dataclass(frozen=True)
class Statement:
    """What a file says about its pictures.

    Attributes
    ----------
    container : str
        FFmpeg's name of the format.
    codec : str
        FFmpeg's name of the codec.
    time_base, rate : Fraction
        Seconds of a unit of time; frames per second.
    seconds : Fraction or None
        From the first picture to the end.
    zeros_forbidden : bool
        Whether packets never hold a run of zeros.
    """

    container: str
    codec: str
    time_base: Fraction
    rate: Fraction
    seconds: Fraction | None
    zeros_forbidden: bool

    @classmethod
    def of(cls, container: Any, stream: Any, time_base: Fraction, rate: Fraction) -> Statement:
        """Read the statement of a file that was just opened.

        Parameters
        ----------
        container : av.container.InputContainer
        stream : av.VideoStream
        time_base, rate : Fraction
            As the attributes.

        Returns
        -------
        Statement
        """
        context = stream.codec_context
        codec = context.codec.canonical_name
        # H.264 and HEVC break up runs of zeros; where lengths separate their units, none are left.
        framed = (context.extradata or b"")[:1] == b"\x01"
        return cls(
            container=container.format.name,
            codec=codec,
            time_base=time_base,
            rate=rate,
            seconds=_stated_seconds(container, stream),
            zeros_forbidden=codec in ("h264", "hevc") and framed,
        )

    @property
    def is_mov(self) -> bool:
        """Whether it is an MP4 or QuickTime file."""
        return self.container.startswith("mov")

    def count_hint(self, container: Any, stream: Any) -> int | None:
        """How many frames to expect, as far as it is known."""
        count = int(stream.frames)
        if not count and container.duration and stream.average_rate:
            start = (container.start_time or 0) if self.container in _ENDS_STATED else 0
            count = max(1, round(Fraction(container.duration - start, 1_000_000) * self.rate))
        return count or None


def _stated_seconds(container: Any, stream: Any) -> Fraction | None:
    if container.format.name in (*ELEMENTARY, "mpegts", "mpeg"):  # nothing stated, FFmpeg would only estimate
        return None
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    return Fraction(container.duration, 1_000_000) if container.duration else None


def _begins_as_jpeg(data: bytes) -> bool:
    """Whether segments follow one another from the start of a JPEG to its pixels; decoders search for the next."""
    if data[:2] != b"\xff\xd8":
        return False
    position = 2
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1 : position + 2]
        if marker == b"\xda":  # pixels follow
            return True
        if marker == b"\xff":  # may fill
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


class Books:
    """Counts of packets and pictures as they come, to be compared with what was stated.

    Parameters
    ----------
    statement : Statement
    record : DamageRecord
        Where damage is reported.

    Attributes
    ----------
    times : FrameTimes
    """

    def __init__(self, statement: Statement, record: DamageRecord) -> None:
        self.times = FrameTimes(statement.time_base)
        self._statement = statement
        self._record = record
        self._packets = self._shown_packets = self._hidden_packets = self._pictures = 0
        self._ticks: tuple[int, int] | None = None  # decoding times of the first and last packet
        self._interlaced = False
        self._last_end: Fraction | None = None  # of any stream
        self._shown_until = -(1 << 63)  # end of the last picture, where the file states it
        self._other_step = Fraction(0)  # longest packet of sound, in seconds

    def at(self, pts: int | None) -> str:
        """Name a time for messages."""
        return "0.00 s" if pts is None else f"{float(pts * self._statement.time_base):.2f} s"

    def count_packet(self, packet: Any, *, shown: bool, at: str) -> None:
        """Note a packet.

        Parameters
        ----------
        packet : av.Packet
        shown : bool
            Whether it is of the stream that is read; others are sound.
        at : str
            Where, for messages.

        Raises
        ------
        DamagedInputError
            If the packet shows damage that is not collected.
        """
        if packet.size == 0:
            return
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            if not shown and self._last_end is not None:
                self._other_step = max(self._other_step, min(end - self._last_end, Fraction(1, 2)))
            self._last_end = end if self._last_end is None else max(self._last_end, end)
        if not shown:
            return
        if packet.pts is not None and packet.duration:
            self._shown_until = max(self._shown_until, packet.pts + packet.duration)
        self._packets += 1
        if packet.dts is not None:
            self._ticks = (self._ticks[0] if self._ticks else packet.dts, packet.dts)
        is_placeholder = self._statement.container == "avi" and packet.size < _EMPTY_PACKET
        self._shown_packets += not (packet.is_discard or is_placeholder)
        # Those before the first are what a trimmed clip needs to begin.
        self._hidden_packets += packet.is_discard and self._shown_packets > 0
        if self._statement.zeros_forbidden and _ZEROS in bytes(packet).rstrip(b"\0"):
            self._record.report("sound video data", "a run of zeros where none can be", at=at)
        if packet.is_corrupt:
            self._record.report("sound video data", "a packet marked as corrupt", at=at)
        if self._statement.codec == "mjpeg" and not is_placeholder and not _begins_as_jpeg(bytes(packet)):
            self._record.report("sound video data", "a picture without the header of a JPEG", at=at)

    def count_picture(self, frame: Any) -> None:
        """Note a decoded picture, an ``av.VideoFrame``."""
        self._pictures += 1
        self._interlaced |= frame.interlaced_frame

    def settle(self, stream: Any) -> list[str]:
        """At the end of the clip, compare what was stated with what was found.

        Parameters
        ----------
        stream : av.VideoStream

        Returns
        -------
        list of str
            What is worth a note and no damage.

        Raises
        ------
        DamagedInputError
            If something is missing or there twice, and damage is not collected.
        """
        times, stated = self.times, self._statement
        if times.first is None or times.last is None:
            return []
        interval = times.interval * stated.time_base or 1 / stated.rate
        seconds = (times.last - times.first) * stated.time_base + interval
        # A trimmed MP4 counts pictures in its header that are not to be shown; its index does not, and
        # that of a fragmented one is complete only now.
        count = len(stream.index_entries) if stated.is_mov else stream.frames
        packets = self._packets
        if stated.container == "avi" and self._ticks:
            # It counts clock ticks; those without a picture are left out by FFmpeg or are tiny packets.
            packets = self._ticks[1] - self._ticks[0] + 1
        missing = self._missing_seconds(interval, bool(stream.frames), bool(stream.duration))
        if count > 1 and packets != count:
            self._record.report(f"{count} frames", f"{packets}")
        elif missing is not None and missing > 1.5 * max(interval, self._other_step):
            whole = seconds + missing
            self._record.report(
                f"about {round(whole / interval)} frames ({float(whole):.2f} s)",
                f"{times.count}: the clip ends {float(missing):.2f} s early",
            )
        # MP4 writers state the length by decoding times, which uneven frames may outlast; FLV writers always do.
        elif (
            missing is not None
            and missing < -1.5 * interval - times.late_gaps * stated.time_base
            and times.regular
            and stated.container != "flv"
        ):
            self._record.report(
                f"about {float(seconds + missing):.2f} s",
                f"{float(seconds):.2f} s: frames are there twice, or their times are wrong",
            )
        if stated.codec not in _UNCOUNTED and not self._interlaced and self._pictures != self._shown_packets:
            self._record.report(f"{self._shown_packets} decoded frames", f"{self._pictures}")
        notes = self._settle_gaps()
        left_out = stream.frames - packets
        if stated.is_mov and count == packets and left_out > 0:
            notes.append(f"its edit list leaves out {left_out} of its {stream.frames} frames")
        elif self._hidden_packets:
            notes.append(f"{self._hidden_packets} of its frames are marked as not to be shown, and left out")
        if self._interlaced:
            notes.append("it is interlaced; frames are taken as they are")
        return notes

    def _missing_seconds(self, interval: Fraction, counted: bool, timed: bool) -> Fraction | None:
        """Stated end minus the end found, in seconds."""
        stated, times = self._statement, self.times
        if stated.seconds is None or times.first is None or times.last is None:
            return None
        if stated.container == "avi" and counted:  # its length is its count, checked already
            return None
        end = times.last * stated.time_base + interval
        if stated.is_mov:  # which states how long each picture is shown
            end = max(self._shown_until, times.last + 1) * stated.time_base
        start = times.first * stated.time_base
        if stated.container in _ENDS_STATED:
            end = max(end, self._last_end or end)
            start = Fraction(0)
        elif not timed:
            end = max(end, self._last_end or end)
        return stated.seconds - (end - start)

    def _settle_gaps(self) -> list[str]:
        times, gaps = self.times, self.times.gaps()
        if not gaps or not times.regular:
            return []
        start, stop = gaps[0]
        count = f"{len(gaps)} gap{'s' * (len(gaps) > 1)}"
        length = float((stop - start) * self._statement.time_base)
        if self._statement.container in _INTERVALS_CHECKED:
            self._record.report(
                "frames at regular times", f"{count}, the first of {length:.2f} s", at=self.at(start)
            )
            return []
        return [f"{count} in its frame times, the first of {length:.2f} s at {self.at(start)}"]
