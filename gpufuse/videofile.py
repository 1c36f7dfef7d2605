"""Video files, read whole or not at all.

Decoding runs in the calling thread alone. That is what lets a line that FFmpeg logs be traced to
its clip, and a core decodes far faster than the stages compute.
"""

from __future__ import annotations

import os
import re
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy

from gpufuse.arrays import Array
from gpufuse.clip import ClipReader, Limits
from gpufuse.damage import ELEMENTARY, FrameTimes, OnDamage, cut_header, file_structure, log_level
from gpufuse.decoded import frame_to_levels, gpu_frame_obstacle
from gpufuse.errors import DamagedInputError, GpufuseError, InputError, LimitError
from gpufuse.hardware import nvdec_acceleration
from gpufuse.stills import unreadable

__all__ = ["Decoder", "VideoFileReader", "open_video_file"]

Decoder: TypeAlias = Literal["software", "nvdec"]
"""What may decode: FFmpeg's own decoders, or the GPU's where it can."""

# Containers that hold everything themselves: no playlists, no references to other files or hosts.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,mjpeg,m4v,flv,asf,ogg"
)
_INTERVALS_CHECKED = ("matroska,webm", "mpegts", "mpeg", "flv", "asf", "ogg")
# Codecs where a packet may hold no picture to be shown, or more than one.
_UNCOUNTED = ("vp8", "vp9", "av1", "mpeg4", "msmpeg4v3", "h263", "wmv1", "wmv2", "wmv3", "vc1", "theora")
_ENDS_STATED = ("matroska,webm", "flv")  # their duration is the time of the end
_EMPTY_PACKET = 4  # bytes: a placeholder for a picture that is not there, smaller than any start code
_ZEROS = bytes(8)
_FASTEST = 1000  # frames per second
_MOST_RETRIES = 50
_AGAIN = "repair or fetch it again"


def _tolerance(version: str) -> dict[str, Any]:
    """Let PyAV 18 pass over titles that are no UTF-8; later versions do so by themselves."""
    return {"metadata_errors": "replace"} if int(version.split(".")[0]) < 19 else {}


def open_video_file(
    path: Path, on_damage: OnDamage, limits: Limits, module: Any = numpy, decoder: Decoder = "software"
) -> VideoFileReader:
    """Open a video file; with software where the GPU cannot decode it.

    Parameters
    ----------
    path : Path
    on_damage, limits, module, decoder
        As in `gpufuse.video.open_clip`.

    Returns
    -------
    VideoFileReader

    Raises
    ------
    GpufuseError
        As `gpufuse.video.open_clip`.
    """
    reason = ""
    if decoder == "nvdec":
        try:
            return VideoFileReader(path, on_damage, limits, module, decoder)
        except Exception as error:  # a codec, a profile, a size that the GPU does not know; or a bad file
            reason = _reason(error.__cause__ or error)
    reader = VideoFileReader(path, on_damage, limits, module)
    if reason:
        reader.decoder = f"software (NVDEC: {reason})"
    return reader


class VideoFileReader(ClipReader):
    """A video file, decoded by FFmpeg, with books kept."""

    def __init__(
        self,
        path: Path,
        on_damage: OnDamage,
        limits: Limits,
        module: Any = numpy,
        decoder: Decoder = "software",
    ) -> None:
        super().__init__(path.name, on_damage, limits, module)
        self._on_gpu = decoder == "nvdec"
        self.decoder = "NVDEC" if self._on_gpu else "software"
        self._path = path
        self._ready: deque[tuple[int, Any]] = deque()
        self._container: Any = None
        self._unread: frozenset[str] = frozenset()
        self._ended = False
        self._log = log_level()
        self._log.__enter__()
        self._log_open = True
        try:
            self._open()
            self._start()
        except GpufuseError:
            self.close()
            raise
        except Exception as error:  # what a header may hold is not for us to foresee
            self.close()
            raise InputError(
                f"{self.name}: expected a readable video, found '{_reason(error)}'; {_AGAIN}"
            ) from error
        except BaseException:
            self.close()
            raise

    # -- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        import av
        import av.logging

        with av.logging.Capture() as lines:
            try:
                self._container = av.open(
                    "file:" + os.path.abspath(self._path),
                    options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS},
                    hwaccel=nvdec_acceleration() if self._on_gpu else None,
                    **_tolerance(av.__version__),
                )
                self._stream = self._choose_stream()
            except GpufuseError:
                raise
            except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
                if self._on_gpu:  # it may be the GPU's: software tells what is wrong with the file
                    raise
                raise unreadable(self._path, error) from error
            except Exception as error:
                if self._on_gpu:
                    raise
                if wrong := cut_header(self._path):
                    raise DamagedInputError(
                        f"{self.name}: expected {wrong[0]}, found {wrong[1]}: nothing of it can be read; {_AGAIN}"
                    ) from error
                raise InputError(
                    f"{self.name}: expected a video or a picture, found neither ({_reason(error)}); "
                    f"{_AGAIN}, or convert it"
                ) from error
        stream, context = self._stream, self._stream.codec_context
        self._unread = frozenset(
            other.codec_context.name
            for other in self._container.streams
            if other is not stream and getattr(other, "codec_context", None) is not None
        )
        self._check_size(context.width, context.height)
        context.thread_count = 1
        # Decoders count the padded picture; the exact check is in `_accept`.
        context.options = {"max_pixels": str(2 * self._limits.max_pixels + 65536)}
        self._format = self._container.format.name
        self._codec = context.codec.canonical_name
        self.has_audio = bool(self._container.streams.audio)
        rate = Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
        self.rate = rate if 0 < rate <= _FASTEST else Fraction(25)  # else the clock's tick, not a rate
        # H.264 and HEVC break up runs of zeros; where lengths separate their units, none are left.
        self._zeros_forbidden = self._codec in ("h264", "hevc") and (context.extradata or b"")[:1] == b"\x01"
        self._untimed = self._format in ELEMENTARY
        self.time_base = 1 / self.rate if self._untimed else Fraction(stream.time_base)
        self.sample_aspect = Fraction(context.sample_aspect_ratio or 1) or Fraction(1)
        self._times = FrameTimes(self.time_base)
        self._is_mov = self._format.startswith("mov")
        self._stated_seconds = self._read_duration()
        self.frame_count_hint = self._count_hint()
        if self._is_mov:  # elsewhere these are guesses, or count from another start
            self._check_limits(self.frame_count_hint, self._stated_seconds)
        self._record.log_lines(lines, self._unread)
        if wrong := file_structure(os.path.abspath(self._path), self._format):
            self._record.report(*wrong)
        # Sound is not decoded, but it may be what the stated duration is about.
        self._streams = [stream, *self._container.streams.audio]
        self._packets = self._container.demux(*self._streams)

    def _choose_stream(self) -> Any:
        from av.stream import Disposition

        for stream in self._container.streams.video:
            if stream.codec_context is None:
                raise InputError(f"{self.name}: expected a known video codec, found none; convert it first")
            if not stream.disposition & Disposition.attached_pic:  # the cover of a song
                return stream
        raise InputError(f"{self.name}: expected a video stream, found none; name another file")

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits.max_pixels:
            raise LimitError(
                f"{self.name}: expected at most {self._limits.max_pixels} pixels a frame, "
                f"found {width}x{height}; scale it down or raise the limit"
            )

    def _read_duration(self) -> Fraction | None:
        """Seconds from the first picture to the end, as the file states them."""
        stream, container = self._stream, self._container
        if self._untimed or self._format in ("mpegts", "mpeg"):  # nothing stated, FFmpeg would only estimate
            return None
        if stream.duration:
            return Fraction(stream.duration * stream.time_base)
        return Fraction(container.duration, 1_000_000) if container.duration else None

    def _count_hint(self) -> int | None:
        count, container = int(self._stream.frames), self._container
        if not count and container.duration and self._stream.average_rate:
            start = (container.start_time or 0) if self._format in _ENDS_STATED else 0
            count = max(1, round(Fraction(container.duration - start, 1_000_000) * self.rate))
        return count or None

    def _start(self) -> None:
        """Decode the first picture: only it tells the true size, the rotation and the format."""
        self._size: tuple[int, int] | None = None
        self._packet_count = self._shown_packets = self._decoded = 0
        self._ticks: tuple[int, int] | None = None  # decoding times of the first and last packet
        self._interlaced = False
        self._last_end: Fraction | None = None  # of any stream
        self._shown_until = -(1 << 63)  # end of the last picture, where the file states it
        self._other_step = Fraction(0)  # longest packet of sound, in seconds
        self._retries = 0
        if not self._fill():
            raise InputError(f"{self.name}: expected at least one frame, found none; {_AGAIN}")
        frame = self._ready[0][1]
        if self._on_gpu:
            self._check_on_gpu(frame)
        self._turns = round(frame.rotation / 90) % 4
        if frame.rotation % 90:
            self.notes.append(f"{self.name}: its rotation by {frame.rotation} degrees is left out")
        self.width, self.height = frame.width, frame.height
        if self._turns % 2:
            self.width, self.height = self.height, self.width
            self.sample_aspect = 1 / self.sample_aspect

    def _check_on_gpu(self, frame: Any) -> None:
        """Refuse now what NVDEC does not deliver as it should: `open_video_file` turns to software then."""
        if frame.format.name != "cuda":
            raise InputError(f"expected frames on the GPU, found {frame.format.name}")
        if obstacle := gpu_frame_obstacle(frame):
            raise InputError(obstacle)
        # In the GPU's memory FFmpeg crops at the right and below alone.
        shown = self._stream.codec_context
        if (frame.width, frame.height) != (shown.width, shown.height):
            raise InputError(
                f"expected {shown.width}x{shown.height} from the GPU, found {frame.width}x{frame.height}"
            )

    # -- reading ---------------------------------------------------------------------------------

    def _advance(self) -> bool:
        if not self._fill():
            return False
        pts = self._ready[0][0]
        assert self._times.first is not None
        self._check_limits(self.frames_read + 1, (pts - self._times.first) * self.time_base)
        return True

    def _fill(self) -> bool:
        while not self._ready and not self._ended:
            self._step()
        return bool(self._ready)

    def _step(self) -> None:
        """Read one packet and decode it."""
        import av.logging

        if self._container is None:
            raise ValueError(f"{self.name}: expected an open clip, got a closed one; open it again")
        at = self._seconds(self._times.last)
        with av.logging.Capture() as lines:
            packet, frames, failure = self._decode_next()
        if failure is not None:
            self._fail(failure, lines, at)
        self._record.log_lines(lines, self._unread, at=at)
        if packet is not None:
            self._count_packet(packet, at)
        for frame in frames:
            self._accept(frame)
        if self._ended:
            self._settle()

    def _decode_next(self) -> tuple[Any, list[Any], BaseException | None]:
        packet: Any = None
        try:
            packet = next(self._packets)
            if packet.stream_index != self._stream.index:
                return packet, [], None
            return packet, packet.decode(), None
        except StopIteration:
            self._ended = True
            return None, [], None
        except Exception as error:  # whatever a decoder raises
            if packet is None:
                # The container, not a picture: some go on after a bad place, if asked again.
                self._retries += 1
                self._ended = self._retries > _MOST_RETRIES
                self._packets = self._container.demux(*self._streams)
            return packet, [], error

    def _fail(self, failure: BaseException, lines: list[tuple[int, str, str]], at: str) -> None:
        if self._on_gpu and isinstance(failure, MemoryError):
            raise failure  # the clip is not to blame
        text = " ".join(line[2] for line in lines)
        if "max_pixels" in text or "picture size" in text.lower():
            size = re.search(r"[Pp]icture size (\d+x\d+)", text)
            raise LimitError(
                f"{self.name}: expected at most {self._limits.max_pixels} pixels a frame, "
                f"found {size[1] if size else 'more'}; scale it down or raise the limit"
            ) from failure
        self._record.report("sound video data", f"'{_reason(failure)}'", at=at, cause=failure)

    def _count_packet(self, packet: Any, at: str) -> None:
        if packet.size == 0:
            return
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            if packet.stream_index != self._stream.index and self._last_end is not None:
                self._other_step = max(self._other_step, min(end - self._last_end, Fraction(1, 2)))
            self._last_end = end if self._last_end is None else max(self._last_end, end)
        if packet.stream_index != self._stream.index:
            return
        if packet.pts is not None and packet.duration:
            self._shown_until = max(self._shown_until, packet.pts + packet.duration)
        self._packet_count += 1
        if packet.dts is not None:
            self._ticks = (self._ticks[0] if self._ticks else packet.dts, packet.dts)
        is_placeholder = self._format == "avi" and packet.size < _EMPTY_PACKET
        self._shown_packets += not (packet.is_discard or is_placeholder)
        if self._zeros_forbidden and _ZEROS in bytes(packet).rstrip(b"\0"):
            self._record.report("sound video data", "a run of zeros where none can be", at=at)
        if packet.is_corrupt:
            self._record.report("sound video data", "a packet marked as corrupt", at=at)

    def _accept(self, frame: Any) -> None:
        """Check a decoded picture and queue it, or leave it out."""
        self._decoded += 1
        self._interlaced |= frame.interlaced_frame
        pts = self._time_of(frame)
        at = self._seconds(pts)
        size = (frame.width, frame.height)
        self._check_size(*size)
        if self._size is None:
            self._size = size
        if size != self._size:
            self._record.report(
                f"pictures of one size, {self._size[0]}x{self._size[1]}",
                f"the size changed to {size[0]}x{size[1]}", at=at,
            )  # fmt: skip
            return
        if frame.is_corrupt:
            self._record.report("sound pictures", "one marked as corrupt", at=at)
        if not self._times.add(pts):
            self._record.report("frame times that increase", "one that does not", at=at)
            return
        self._ready.append((pts, frame))

    def _time_of(self, frame: Any) -> int:
        if self._untimed:
            return self._times.count
        # AVI has times in decoding order only; with one thread they are those of the pictures too.
        pts: int | None = frame.dts if self._format == "avi" else frame.pts
        if pts is None:
            last = self._times.last
            pts = 0 if last is None else last + (self._times.interval or 1)
            if self._format != "avi":
                self._record.report("a time for every frame", "one without", at=self._seconds(last))
        return pts

    def _seconds(self, pts: int | None) -> str:
        return "0.00 s" if pts is None else f"{float(pts * self.time_base):.2f} s"

    def _take(self, out: Array) -> int:
        pts, frame = self._ready.popleft()
        try:
            self._convert(frame, out)
        except GpufuseError:
            raise
        except Exception as error:
            raise DamagedInputError(
                f"{self.name}: expected a readable picture, found '{_reason(error)}' "
                f"at {self._seconds(pts)}; {_AGAIN}"
            ) from error
        return pts

    def _convert(self, frame: Any, out: Array) -> None:
        if self._turns:
            upright = self._module.empty((3, frame.height, frame.width), numpy.float32)
            frame_to_levels(frame, upright, self._codec, self.name)
            out[...] = self._module.rot90(upright, self._turns, axes=(1, 2))
        else:
            frame_to_levels(frame, out, self._codec, self.name)

    # -- the books -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """At the end of the clip, compare what was stated with what was found."""
        record, times = self._record, self._times
        if times.first is None or times.last is None:
            return
        interval = times.interval * self.time_base or 1 / self.rate
        found = times.count
        seconds = (times.last - times.first) * self.time_base + interval
        # A trimmed MP4 counts pictures in its header that are not to be shown; its index does not, and
        # that of a fragmented one is complete only now.
        stated = len(self._stream.index_entries) if self._is_mov else self._stream.frames
        packets = self._packet_count
        if self._format == "avi" and self._ticks:
            # It counts clock ticks; those without a picture are left out by FFmpeg or are tiny packets.
            packets = self._ticks[1] - self._ticks[0] + 1
        missing = self._missing_seconds(interval)
        if stated > 1 and packets != stated:
            record.report(f"{stated} frames", f"{packets}")
        elif missing is not None and missing > 1.5 * max(interval, self._other_step):
            whole = seconds + missing
            record.report(
                f"about {round(whole / interval)} frames ({float(whole):.2f} s)",
                f"{found}: the clip ends {float(missing):.2f} s early",
            )
        # MP4 writers state the length by decoding times, which uneven frames may outlast.
        elif missing is not None and missing < -1.5 * interval and times.regular:
            record.report(
                f"about {float(seconds + missing):.2f} s",
                f"{float(seconds):.2f} s: frames are there twice, or their times are wrong",
            )
        if self._codec not in _UNCOUNTED and not self._interlaced and self._decoded != self._shown_packets:
            record.report(f"{self._shown_packets} decoded frames", f"{self._decoded}")
        self._settle_gaps()
        if self._interlaced:
            self.notes.append(f"{self.name}: it is interlaced; frames are taken as they are")

    def _missing_seconds(self, interval: Fraction) -> Fraction | None:
        """Stated end minus the end found, in seconds."""
        if self._stated_seconds is None or self._times.first is None or self._times.last is None:
            return None
        if self._format == "avi" and self._stream.frames:  # its length is its count, checked already
            return None
        end = self._times.last * self.time_base + interval
        if self._is_mov:  # which states how long each picture is shown
            end = max(self._shown_until, self._times.last + 1) * self.time_base
        start = self._times.first * self.time_base
        if self._format in _ENDS_STATED:
            end = max(end, self._last_end or end)
            start = Fraction(0)
        elif not self._stream.duration:
            end = max(end, self._last_end or end)
        return self._stated_seconds - (end - start)

    def _settle_gaps(self) -> None:
        gaps = self._times.gaps()
        if not gaps:
            return
        start, stop = gaps[0]
        count = f"{len(gaps)} gap{'s' * (len(gaps) > 1)}"
        length = float((stop - start) * self.time_base)
        if self._times.regular and self._format in _INTERVALS_CHECKED:
            self._record.report(
                "frames at regular times", f"{count}, the first of {length:.2f} s", at=self._seconds(start)
            )
        elif self._times.regular:
            self.notes.append(
                f"{self.name}: {count} in its frame times, the first of {length:.2f} s "
                f"at {self._seconds(start)}"
            )

    def close(self) -> None:
        """Release the file; safe to call again."""
        self._ready.clear()
        container, self._container = self._container, None
        if container is not None:
            container.close()
        if self._log_open:
            self._log_open = False
            self._log.__exit__()


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
