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
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy

from gpufuse.arrays import Array
from gpufuse.books import Books, Statement
from gpufuse.clip import ClipReader, FrameMark, Limits, OnResize
from gpufuse.damage import ELEMENTARY, RESIZED, FileState, OnDamage, log_level
from gpufuse.decoded import frame_checksum, frame_to_levels, gpu_frame_obstacle, scaled_frame
from gpufuse.errors import DamagedInputError, GpufuseError, InputError, LimitError
from gpufuse.hardware import nvdec_acceleration
from gpufuse.stills import unreadable
from gpufuse.structure import content_damage, cut_header, file_structure

__all__ = ["Decoder", "VideoFileReader", "open_video_file"]

Decoder: TypeAlias = Literal["software", "nvdec"]
"""What may decode: FFmpeg's own decoders, or the GPU's where it can."""

# Containers that hold everything themselves: no playlists, no references to other files or hosts.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,mjpeg,m4v,flv,asf,ogg"
)
_FASTEST = 1000  # frames per second
_MOST_RETRIES = 50
_MOST_SEEKS = 6
_AGAIN = "repair or fetch it again"


def _tolerance(version: str) -> dict[str, Any]:
    """Let PyAV 18 pass over titles that are no UTF-8; later versions do so by themselves."""
    return {"metadata_errors": "replace"} if int(version.split(".")[0]) < 19 else {}


def open_video_file(
    path: Path,
    on_damage: OnDamage,
    limits: Limits,
    module: Any = numpy,
    decoder: Decoder = "software",
    *,
    on_resize: OnResize = "fail",
    checksums: bool = False,
) -> VideoFileReader:
    """Open a video file; with software where the GPU cannot decode it.

    Parameters
    ----------
    path : Path
    on_damage, limits, module, decoder, on_resize, checksums
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
            return VideoFileReader(
                path, on_damage, limits, module, decoder, on_resize=on_resize, checksums=checksums
            )
        except Exception as error:  # a codec, a profile, a size that the GPU does not know; or a bad file
            reason = _reason(error.__cause__ or error)
    reader = VideoFileReader(path, on_damage, limits, module, on_resize=on_resize, checksums=checksums)
    if reason:
        reader.decoder = f"software (NVDEC: {reason})"
    return reader


class _Picture(NamedTuple):
    """A decoded picture that waits to be taken."""

    pts: int
    frame: Any
    key: bool


class VideoFileReader(ClipReader):
    """A video file, decoded by FFmpeg, with books kept."""

    def __init__(
        self,
        path: Path,
        on_damage: OnDamage,
        limits: Limits,
        module: Any = numpy,
        decoder: Decoder = "software",
        *,
        on_resize: OnResize = "fail",
        checksums: bool = False,
    ) -> None:
        super().__init__(path.name, on_damage, limits, module, on_resize=on_resize, checksums=checksums)
        self._on_gpu = decoder == "nvdec"
        self.decoder = "NVDEC" if self._on_gpu else "software"
        self._path = path
        self._ready: deque[_Picture] = deque()
        self._container: Any = None
        self._unread: frozenset[str] = frozenset()
        self._ended = False
        try:
            self._watched = [(path, FileState.of(path))]
        except OSError as error:
            raise unreadable(path, error) from error
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

        # Decoders count the picture padded by up to 63 each way, with sides up to 65536; `_accept` is exact.
        pixels = self._limits.max_pixels
        most = {"max_pixels": str(pixels + pixels // 1024 + 64 * 65536)}
        with av.logging.Capture() as lines:
            try:
                self._container = av.open(
                    "file:" + os.path.abspath(self._path),
                    # Pictures are decoded while a file is opened already.
                    options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, **most},
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
        context.options = most
        self._codec = context.codec.canonical_name
        self.has_audio = bool(self._container.streams.audio)
        rate = Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
        self.rate = rate if 0 < rate <= _FASTEST else Fraction(25)  # else the clock's tick, not a rate
        self._format = self._container.format.name
        self._untimed = self._format in ELEMENTARY
        self.time_base = 1 / self.rate if self._untimed else Fraction(stream.time_base)
        self._stated = Statement.of(self._container, stream, self.time_base, self.rate)
        self.frame_count_hint = self._stated.count_hint(self._container, stream)
        if self._stated.is_mov:  # elsewhere these are guesses, or count from another start
            self._check_limits(self.frame_count_hint, self._stated.seconds)
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

    def _start(self) -> None:
        """Decode the first picture: only it tells the true size, the rotation and the format."""
        self._size: tuple[int, int] | None = None
        self._origin: int | None = None  # time of the clip's first picture
        self._books = Books(self._stated, self._record)
        self._retries = 0
        self._seeking = self._jumped = self._in_step = False
        if not self._fill():
            raise InputError(f"{self.name}: expected at least one frame, found none; {_AGAIN}")
        frame = self._ready[0].frame
        if self._on_gpu:
            self._check_on_gpu(frame)
        if frame.rotation % 90:
            self.notes.append(f"{self.name}: its rotation by {frame.rotation} degrees is left out")
        self._begin_part()

    def _begin_part(self) -> None:
        """Take on the size of the picture that is ready."""
        frame = self._ready[0].frame
        self._size = (frame.width, frame.height)
        self._turns = round(frame.rotation / 90) % 4
        self.width, self.height = frame.width, frame.height
        self.sample_aspect = Fraction(self._stream.codec_context.sample_aspect_ratio or 1) or Fraction(1)
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
        pts, frame, _ = self._ready[0]
        if (frame.width, frame.height) != self._size:  # only where the clip is split
            return False
        assert self._origin is not None
        self._check_limits(self.frames_read + 1, (pts - self._origin) * self.time_base)
        return True

    def _next_part(self) -> bool:
        if not self._ready:
            return False
        self._begin_part()
        return True

    def _mark(self) -> FrameMark:
        pts, frame, key = self._ready[0]
        return FrameMark(pts, key, frame_checksum(frame))

    def _drop(self) -> None:
        self._ready.popleft()

    def _jump(self, pts: int) -> bool:
        if self._untimed or self._format == "mpeg":  # without times, or guessed ones that depend on the start
            return False
        if self._origin is None or pts <= self._origin:
            return True
        back = round(1 / self.time_base)
        target = pts
        for _ in range(_MOST_SEEKS):
            if not self._seek(target):
                break
            if self._ready and self._ready[0].pts <= pts:
                return True
            target -= back  # the index led behind the time: some know times of decoding only
            back *= 4
        self._reopen()
        return False

    def _reopen(self) -> None:
        self._container.close()
        self._ready.clear()
        self.notes.clear()
        self._scaled.clear()
        self._ended = False
        self._open()
        self._start()

    def _seek(self, target: int) -> bool:
        import av.error
        import av.logging

        self._ready.clear()
        self._forget_scaled()
        try:
            with av.logging.Capture():  # not about the frames that are wanted
                self._container.seek(target, stream=self._stream)
        except (av.error.FFmpegError, OverflowError):
            return False
        self._packets = self._container.demux(*self._streams)
        self._books = Books(self._stated, self._record)
        self._retries = 0
        self._ended = False
        self._seeking = self._jumped = True
        self._in_step = False
        self._fill()
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
        at = self._books.at(self._books.times.last)
        with av.logging.Capture() as lines:
            packet, frames, failure = self._decode_next()
        if not self._seeking:
            if failure is not None:
                self._fail(failure, lines, at)
            self._record.log_lines(lines, self._unread, at=at)
            if packet is not None:
                shown = packet.stream_index == self._stream.index
                self._books.count_packet(packet, shown=shown, at=at)
        for frame in frames:
            # After a jump, what precedes the first key frame was decoded without what it builds on.
            if not self._seeking or frame.key_frame:
                self._seeking = False
                self._accept(frame)
        if self._ended:
            self._settle()

    def _decode_next(self) -> tuple[Any, list[Any], BaseException | None]:
        packet: Any = None
        try:
            packet = next(self._packets)
            if packet.stream_index != self._stream.index:
                return packet, [], None
            if self._seeking and not (self._in_step or packet.is_keyframe):
                return packet, [], None
            self._in_step = True
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
        # Later it is one picture whose header is wrong.
        if self._origin is None and ("max_pixels" in text or "picture size" in text.lower()):
            size = re.search(r"[Pp]icture size (\d+x\d+)", text)
            raise LimitError(
                f"{self.name}: expected at most {self._limits.max_pixels} pixels a frame, "
                f"found {size[1] if size else 'more'}; scale it down or raise the limit"
            ) from failure
        self._record.report("sound video data", f"'{_reason(failure)}'", at=at, cause=failure)

    def _accept(self, frame: Any) -> None:
        """Check a decoded picture and queue it, or leave it out."""
        self._books.count_picture(frame)
        pts = self._time_of(frame)
        at = self._books.at(pts)
        size = (frame.width, frame.height)
        self._check_size(*size)
        if self._size is None:
            self._size, self._origin = size, pts
        if size != self._size and self._on_resize == "fail":
            self._record.report(
                f"pictures of one size, {self._size[0]}x{self._size[1]}",
                f"the size changed to {size[0]}x{size[1]}", at=at, remedy=RESIZED,
            )  # fmt: skip
            return
        if frame.is_corrupt:
            self._record.report("sound pictures", "one marked as corrupt", at=at)
        if not self._books.times.add(pts):
            self._record.report("frame times that increase", "one that does not", at=at)
            return
        key = bool(frame.key_frame)
        if size != self._size and self._on_resize == "scale":
            frame = scaled_frame(frame, self._size)
            self._note_scaled(size, at)
        self._ready.append(_Picture(pts, frame, key))

    def _time_of(self, frame: Any) -> int:
        if self._untimed:
            return self._books.times.count
        # AVI has times in decoding order only; with one thread they are those of the pictures too.
        pts: int | None = frame.dts if self._format == "avi" else frame.pts
        if pts is None:
            last = self._books.times.last
            pts = 0 if last is None else last + (self._books.times.interval or 1)
            if self._format != "avi":
                self._record.report("a time for every frame", "one without", at=self._books.at(last))
        return pts

    def _take(self, out: Array) -> int:
        pts, frame, _ = self._ready.popleft()
        try:
            self._convert(frame, out)
        except GpufuseError:
            raise
        except Exception as error:
            from av.error import FFmpegError

            if isinstance(error, MemoryError) and not isinstance(error, FFmpegError):
                raise  # the clip is not to blame
            raise DamagedInputError(
                f"{self.name}: expected a readable picture, found '{_reason(error)}' "
                f"at {self._books.at(pts)}; {_AGAIN}"
            ) from error
        return pts

    def _convert(self, frame: Any, out: Array) -> None:
        if self._turns:
            upright = self._module.empty((3, frame.height, frame.width), numpy.float32)
            frame_to_levels(frame, upright, self._codec, self.name)
            out[...] = self._module.rot90(upright, self._turns, axes=(1, 2))
        else:
            frame_to_levels(frame, out, self._codec, self.name)

    # -- the end ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        self.check_unchanged()
        if self._jumped:
            return
        self.notes += [f"{self.name}: {note}" for note in self._books.settle(self._stream)]
        try:
            wrong = content_damage(os.path.abspath(self._path), self._format, self._stream.id)
        except OSError as error:
            wrong = "a file that can be read again", f"'{_reason(error)}'"
        if wrong:
            self._record.report(*wrong)

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
