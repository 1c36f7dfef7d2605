"""Writing a clip: H.264 with the frame times that were given, complete or not at all."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.colour import default_matrix, levels_to_yuv
from gpufuse.digests import frame_digest
from gpufuse.errors import ConfigError, GpufuseError, OutputError
from gpufuse.output import OutputFile, check_output, output_error
from gpufuse.sink import Sink

__all__ = ["ClipWriter", "Source", "check_clip_output"]

Source: TypeAlias = Literal["levels", "codes", "surfaces"]
"""What is given to a writer: grey levels, 8-bit YUV codes, or such codes in the memory of a GPU that encodes them."""

_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_MATRIX_TAG = {"bt709": 1, "bt601": 6}
_LIMITED_RANGE = 1
_BUFFER = 1 << 18  # bytes that FFmpeg collects before it writes
_ROW_ALIGNMENT = 256  # bytes; NVENC refuses rows that are no multiples of 4


def check_clip_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Check that a clip may be written, before any work is done for it.

    Parameters
    ----------
    path : str or Path
        Ends in ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OutputError
        For another suffix, and as `gpufuse.output.check_output`.
    """
    path = Path(path)
    if path.suffix.lower() not in _MUXERS:
        raise OutputError(
            f"{path.name}: expected a name ending in {', '.join(_MUXERS)}, found {path.suffix!r}; rename it"
        )
    check_output(path, overwrite=overwrite)


def _log_caught() -> Any:
    """Keep what FFmpeg logs in this thread off the terminal, should a reader have it log."""
    import av.logging

    return av.logging.Capture()


class ClipWriter:
    """A clip in the making; it takes its name when the ``with`` block ends without an exception.

    Parameters
    ----------
    path : str or Path
        Ends in ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
    width, height : int
        Pixels. Even sides are encoded as yuv420p; odd ones, which H.264 cannot express in 4:2:0, as
        yuv444p, so that the clip has its true size.
    time_base : Fraction
        Unit of the frame times in seconds.
    rate : Fraction or int
        Frames per second: tells players, and gives the last frame its duration.
    overwrite : bool
        Whether a file of that name may be replaced.
    crf : int
        Quality, 0 (lossless) to 51.
    preset : str
        Speed of x264.
    sample_aspect : Fraction
        Width of a pixel over its height.
    source : {"levels", "codes", "surfaces"}
        What will be given: `write_chunk` takes levels, `write_codes` the others. Surfaces are encoded by the GPU
        (NVENC), at about the same quality; their sides must be even.
    threads : int, optional
        Of x264; by default as many as it finds useful. An encoder on the GPU has none.
    shift : int, optional
        Added to all times. By default 0, or what makes the first time 0 where it is negative, which no container
        holds.

    Attributes
    ----------
    path : Path
    frames_written : int
    shift : int
        What is added to all times, known from the first frame on.

    Raises
    ------
    ConfigError
        For a size, rate, time base, quality or number of threads that is none.
    OutputError
        If the file exists or cannot be written.

    Notes
    -----
    In MP4 and MOV the times are exact, whatever the time base. Matroska rounds them to milliseconds.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        time_base: Fraction,
        rate: Fraction | int,
        *,
        overwrite: bool = False,
        crf: int = 18,
        preset: str = "veryfast",
        sample_aspect: Fraction = Fraction(1),
        source: Source = "levels",
        threads: int | None = None,
        shift: int | None = None,
    ) -> None:
        if min(width, height) < 1:
            raise ConfigError(f"size: expected at least 1x1, got {width}x{height}; give positive sides")
        if rate <= 0 or time_base <= 0:
            raise ConfigError(
                f"rate: expected positive rate and time base, got {rate} and {time_base}; check them"
            )
        if not 0 <= crf <= 51:
            raise ConfigError(f"crf: expected 0 to 51, got {crf}; 18 looks like the original")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads: expected at least 1, got {threads}; leave it out for the default")
        odd = bool(width % 2 or height % 2)
        if source == "surfaces" and odd:
            raise ConfigError(
                f"size: expected even sides for an encoder on the GPU, got {width}x{height}; give codes"
            )
        check_clip_output(path, overwrite=overwrite)
        self.path = Path(path)
        self.width, self.height = width, height
        self.time_base = Fraction(time_base)
        self.frames_written = 0
        self.shift = shift or 0
        self._shift_is_given = shift is not None
        self._matrix = default_matrix(height)
        self._source = source
        self._format = "yuv444p" if odd else ("yuv420p" if source == "levels" else "nv12")
        self._duration = max(1, round(1 / (Fraction(rate) * self.time_base)))
        self._last: int | None = None
        self._packets = 0
        self._digests = bytearray()
        self._container: Any = None
        self._sink: Sink | None = None
        self._surfaces: _Surfaces | None = None
        self._output = OutputFile(path, overwrite=overwrite)
        try:
            with _log_caught():
                self._open(Fraction(rate), crf, preset, sample_aspect, threads)
        except BaseException as error:
            self.discard()
            self._raise(error, "to start the encoder")

    def _open(
        self, rate: Fraction, crf: int, preset: str, sample_aspect: Fraction, threads: int | None
    ) -> None:
        import av

        muxer = _MUXERS[self.path.suffix.lower()]
        options = {"flush_packets": "0"}  # or each frame is a write of its own
        if muxer != "matroska":  # or the time of the first frame is rounded to milliseconds
            options["movie_timescale"] = str(self.time_base.denominator)
        self._sink = Sink(self._output.part)
        self._container = av.open(self._sink, "w", format=muxer, options=options, buffer_size=_BUFFER)
        on_gpu = self._source == "surfaces"
        stream: Any = self._container.add_stream("h264_nvenc" if on_gpu else "libx264", rate=rate)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = "cuda" if on_gpu else self._format
        stream.time_base = self.time_base
        context = stream.codec_context
        context.time_base = self.time_base
        # Silent: x264 logs from threads of its own.
        context.options = {"crf": str(crf), "preset": preset, "x264-params": "log=-1"}
        if on_gpu:  # constant quality too, whose scale lies about three above
            context.options = {"preset": "p4", "rc": "vbr", "cq": str(min(51, crf + 3)), "b": "0"}
        context.colorspace, context.color_range = _MATRIX_TAG[self._matrix], _LIMITED_RANGE
        if threads is not None and not on_gpu:
            context.thread_count = threads
        if sample_aspect != 1:
            context.sample_aspect_ratio = sample_aspect
        self._stream = stream
        if not on_gpu:  # an encoder on the GPU opens with the first frame, whose memory it takes
            context.open()

    @property
    def digests(self) -> bytes:
        """Digests of the frames written so far, one after the other; none where the GPU encodes.

        See `gpufuse.digests.frame_digest`: they are of the codes before encoding, so that they do not depend on
        the encoder, nor on whether NV12 or planes were given. `gpufuse.digests.frames_digest` makes one of many.
        """
        return bytes(self._digests)

    def write_chunk(self, levels: numpy.ndarray, pts: Sequence[int]) -> None:
        """Write successive frames.

        Parameters
        ----------
        levels : ndarray, shape (T, 3, H, W), float32, grey levels
            Clipped and rounded half to even to 8 bits; not changed. On the host.
        pts : sequence of int
            Their times in units of the time base, increasing.

        Raises
        ------
        ValueError
            For another shape or dtype, or times that do not increase.
        OutputError
            If encoding or writing fails; the part file is gone then.
        """
        expected = (len(pts), 3, self.height, self.width)
        if levels.shape != expected or levels.dtype != numpy.float32:
            raise ValueError(
                f"levels: expected float32 of shape {expected}, got {levels.dtype} {levels.shape}; "
                "check the chunk"
            )
        self._write_all(list(numpy.ascontiguousarray(levels)), pts, self._frame_of_levels)

    def write_codes(self, codes: Array, pts: Sequence[int]) -> None:
        """Write successive frames that are YUV codes in the limited range already.

        Parameters
        ----------
        codes : ndarray, uint8, contiguous
            For even sides NV12, as of `gpufuse.colour.levels_to_nv12`, shape (T, H * 3 / 2, W); for others Y,
            Cb and Cr, shape (T, 3, H, W). NumPy for the source ``"codes"``, CuPy for ``"surfaces"``, where all
            that made them has ended.
        pts : sequence of int
            As of `write_chunk`.

        Raises
        ------
        ValueError
            For another shape or dtype, or times that do not increase.
        OutputError
            If encoding or writing fails; the part file is gone then.
        """
        halved = self._format == "nv12"
        frame = (self.height * 3 // 2, self.width) if halved else (3, self.height, self.width)
        expected = (len(pts), *frame)
        if codes.shape != expected or codes.dtype != numpy.uint8 or self._source == "levels":
            raise ValueError(
                f"codes: expected uint8 of shape {expected} in a writer of codes, got {codes.dtype} "
                f"{tuple(codes.shape)} in one of {self._source}; check the chunk"
            )
        made = self._frame_of_surface if self._source == "surfaces" else self._frame_of_codes
        self._write_all(list(codes), pts, made)

    def _write_all(self, frames: list[Array], pts: Sequence[int], made: Callable[[Array], Any]) -> None:
        if self._container is None:
            raise ValueError(f"{self.path.name}: expected an open writer, got a closed one; make a new one")
        for content, time in zip(frames, pts, strict=True):
            if self._last is None:
                if not self._shift_is_given:
                    self.shift = max(0, -int(time))
            elif time <= self._last:
                raise ValueError(f"pts: expected increasing times, got {time} after {self._last}; sort them")
            if time + self.shift < 0:
                raise ValueError(
                    f"shift: expected one that leaves no time below 0, got {self.shift} for {time}; "
                    "leave it out, or give a larger one"
                )
            self._last = int(time)
            try:
                self._encode(made(content), int(time))
            except BaseException as error:
                self.discard()
                self._raise(error, "to encode and write it")

    def _empty_frame(self) -> tuple[Any, list[numpy.ndarray]]:
        """A frame of the encoder's format, and its planes with the padding at the ends of their rows."""
        import av

        frame: Any = av.VideoFrame(self.width, self.height, self._format)
        planes = [
            numpy.frombuffer(plane, numpy.uint8).reshape(plane.height, plane.line_size)
            for plane in frame.planes
        ]
        return frame, planes

    def _frame_of_levels(self, levels: numpy.ndarray) -> Any:
        frame, planes = self._empty_frame()
        levels_to_yuv(levels, planes, self._matrix)
        self._add_digest(planes)
        return frame

    def _frame_of_codes(self, codes: numpy.ndarray) -> Any:
        frame, planes = self._empty_frame()
        sources = (codes[: self.height], codes[self.height :]) if codes.ndim == 2 else codes
        for plane, source in zip(planes, sources, strict=True):
            plane[:, : self.width] = source
        self._add_digest(planes)
        return frame

    def _add_digest(self, planes: list[numpy.ndarray]) -> None:
        if self._format == "nv12":
            luma, pairs = (plane[:, : self.width] for plane in planes)
            blue, red = pairs[:, 0::2], pairs[:, 1::2]
        else:
            halved = self._format == "yuv420p"
            width = self.width // 2 if halved else self.width
            luma, blue, red = planes[0][:, : self.width], planes[1][:, :width], planes[2][:, :width]
        self._digests += frame_digest(luma, blue, red)

    def _frame_of_surface(self, codes: Array) -> Any:
        with codes.device:  # whose context FFmpeg takes for its own
            if self._surfaces is None:
                self._surfaces = _Surfaces(codes, self.width, self.height)
            return self._surfaces.frame(codes)

    def _encode(self, frame: Any, time: int) -> None:
        frame.pts, frame.time_base = time + self.shift, self.time_base
        frame.duration = self._duration
        frame.colorspace, frame.color_range = _MATRIX_TAG[self._matrix], _LIMITED_RANGE
        with _log_caught():
            self._mux(self._stream.encode(frame))
        self.frames_written += 1

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            packet.duration = packet.duration or self._duration
            self._container.mux_one(packet)
            self._check_sink()
            self._packets += 1

    def _check_sink(self) -> None:
        if self._sink is not None:
            self._sink.check()

    def close(self) -> None:
        """Finish the file, check it, and give it its name; safe to call again.

        Raises
        ------
        OutputError
            If that fails, or no frame was written; nothing is left then.
        """
        if self._container is None:
            return
        try:
            with _log_caught():
                # PyAV cannot flush an encoder that is not open.
                if self._stream.codec_context.is_open:
                    self._mux(self._stream.encode(None))
                self._container.close()
            self._container = None
            self._check_sink()
            self._close_sink()
            self._verify()
            self._output.commit()
        except BaseException as error:
            self.discard()
            self._raise(error, "to finish writing it")

    def _verify(self) -> None:
        """Read back how many frames the finished file holds."""
        import av

        if not self.frames_written:
            raise OutputError(f"{self.path.name}: expected at least one frame, found none; check the input")
        found = self._packets
        if found == self.frames_written and self.path.suffix.lower() != ".mkv":  # which states no count
            with av.open("file:" + str(self._output.part.absolute())) as container:
                found = container.streams.video[0].frames
        if found != self.frames_written:
            raise OutputError(
                f"{self.path.name}: expected {self.frames_written} frames in the file, found {found}; "
                "check the disk and run again"
            )

    def discard(self) -> None:
        """Give up: remove the part file. Nothing happens after `close`."""
        container, self._container = self._container, None
        with contextlib.suppress(OSError):  # the file is thrown away
            self._close_sink()
        if container is not None:
            with _log_caught(), contextlib.suppress(Exception):
                container.close()
        self._output.discard()

    def _close_sink(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def _raise(self, error: BaseException, task: str) -> None:
        if self._sink is not None and self._sink.error is not None and isinstance(error, Exception):
            error = self._sink.error  # what lies behind the one that FFmpeg made of it
        if isinstance(error, GpufuseError) or not isinstance(error, Exception):
            raise error
        if isinstance(error, OSError):
            raise output_error(self.path, error) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"{self.path.name}: expected {task}, found '{reason}'; "
            "check preset and size, or write to another disk"
        ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


@functools.cache
def _stream_of(cupy: Any, device: int) -> Any:
    """A stream for surfaces on a GPU; kept for ever, for an encoder uses it until it is gone itself."""
    return cupy.cuda.Stream(non_blocking=True)


class _Surfaces:
    """Memory on the GPU for the frames that an encoder holds.

    NVENC is particular about the length of rows, and FFmpeg lets it know a frame by its address. So frames are
    copied to memory that stays while the encoder is there; a pool might give it back to the driver. Neither the
    copies nor the encoder wait for what else the GPU computes.
    """

    def __init__(self, codes: Array, width: int, height: int) -> None:
        from av.video.frame import CudaContext

        self._cupy = array_module(codes)
        self._width, self._height = width, height
        device = int(codes.device.id)
        self._stream = _stream_of(self._cupy, device)
        # Looks for the current context when it makes the first frame, after the first copy has set it.
        self._context = CudaContext(
            device_id=device,
            primary_ctx=False,
            current_ctx=True,
            cuda_stream=None if device else self._stream.ptr,  # PyAV takes one on the first GPU alone
        )
        self._known: list[tuple[Array, list[weakref.ref[Any]]]] = []

    def frame(self, codes: Array) -> Any:
        """Copy codes (H * 3 / 2, W) to a surface that is free."""
        import av

        surface, lent = self._free()
        with self._stream:
            surface[:, : self._width] = codes
        self._stream.synchronize()  # the caller may use the codes' memory again
        luma = surface[: self._height, : self._width]
        chroma = surface[self._height :].reshape(self._height // 2, -1, 2)[:, : self._width // 2]
        lent[:] = weakref.ref(luma), weakref.ref(chroma)
        return av.VideoFrame.from_dlpack((luma, chroma), format="nv12", cuda_context=self._context)

    def _free(self) -> tuple[Array, list[weakref.ref[Any]]]:
        """A surface that no frame refers to any more."""
        for surface, lent in self._known:
            if all(view() is None for view in lent):
                return surface, lent
        pitch = -(-self._width // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
        with self._stream:
            surface = self._cupy.zeros((self._height * 3 // 2, pitch), numpy.uint8)
        self._known.append((surface, []))
        return self._known[-1]
