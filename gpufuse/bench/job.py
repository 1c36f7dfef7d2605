"""The whole job: a night clip and a day picture to a clip that shows both, decode to encode."""

from __future__ import annotations

import abc
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy

from gpufuse.bench.records import Competitor
from gpufuse.bench.work import Task, TooSlowError, Work, library

__all__ = ["COMPETITORS"]

_THRESHOLD = 12
"""Change between frames that FFmpeg's mask takes for motion, grey levels."""

_HYSTERESIS = 11
"""Frames over which that mask is averaged, as ours."""


class _Job(Work):
    """From ``night.mp4`` and ``day.png`` to a clip."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.night, self.day = task.folder / "night.mp4", task.folder / "day.png"
        self.moving = task.array("moving", shared=True)
        self.units = len(self.moving)
        # Goes away with the inputs, however this process ends.
        self.output = Path(tempfile.mkdtemp(dir=task.folder), "out.mp4")

    def judge(self, result: Any) -> dict[str, float]:
        """Compare with the truth; nothing where the truth is not known."""
        if not (self.task.folder / "job_clean.npy").exists():
            return {}
        from gpufuse.report import truth_figures

        shown = numpy.stack(list(_decoded(self.output)))[: self.units]
        found = slice(0, len(shown))
        figures = truth_figures(
            shown,
            self.task.array("day"),
            self.task.array("job_clean", shared=True)[found],
            self.moving[found],
            numpy.zeros(self.moving.shape[1:]),  # this package alone has an importance
            ignore=self.task.array("glow", shared=True)[found],
        )
        names = ("night_kept", "day_kept", "still_change", "flicker")
        return {name: getattr(figures, name) for name in names}


def _decoded(path: Path, form: str = "rgb24") -> Iterator[Any]:
    av = library("av")
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format=form)


class _Ours(_Job):
    def run(self) -> Any:
        from gpufuse.enhance import enhance

        return enhance(self.night, self.day, self.output, device="cpu", overwrite=True)


class _Encoder:
    """H.264 with the settings that `gpufuse.video.ClipWriter` has."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._container = library("av").open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=stream.average_rate)
        self._stream.width, self._stream.height = stream.width, stream.height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.options = {"crf": "18", "preset": "veryfast", "x264-params": "log=-1"}
        self._stream.time_base = self._stream.codec_context.time_base = stream.time_base

    def write(self, frame: Any) -> None:
        frame.pict_type = 0  # the encoder chooses, not the one before
        context = self._stream.codec_context
        if not context.is_open:  # how to read the colours, or a player guesses
            context.colorspace, context.color_range = frame.colorspace, frame.color_range
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class _Ffmpeg(_Job):
    """A filter graph between FFmpeg's decoder and encoder."""

    form = "gbrp"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.av = library("av")
        self.rate = Fraction(24)

    @abc.abstractmethod
    def graph_nodes(self, graph: Any, night: Any, day: Any) -> Any:
        """Add what lies between the two sources and the sink; return the last filter."""

    def run(self) -> Any:
        with self.av.open(str(self.night)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            graph, day_frame = self._graph(stream)
            encoder = _Encoder(self.output, stream)
            for frame in container.decode(stream):
                graph.vpush(frame, at=0)
                day_frame.pts, day_frame.time_base = frame.pts, frame.time_base
                graph.vpush(day_frame, at=1)
                self._pass_on(graph, encoder)
            for source in (0, 1):
                graph.vpush(None, at=source)
            self._pass_on(graph, encoder)
            encoder.close()

    def _graph(self, stream: Any) -> tuple[Any, Any]:
        picture = next(iter(self._day_frames()))
        day_frame = self._as_night(picture, stream.codec_context)
        self.rate = stream.average_rate
        graph = self.av.filter.Graph()
        graph.threads = self.task.threads
        night = graph.add_buffer(template=stream)
        day = graph.add_buffer(
            width=day_frame.width,
            height=day_frame.height,
            format=day_frame.format,
            time_base=stream.time_base,
        )
        last = self.graph_nodes(graph, night, day)
        out, sink = graph.add("format", "yuv420p"), graph.add("buffersink")
        last.link_to(out)
        out.link_to(sink)
        graph.configure()
        return graph, day_frame

    def _as_night(self, picture: Any, night: Any) -> Any:
        """The day in the form of the graph; what is mixed as YUV needs the matrix and range of the night."""
        if self.form == "gbrp":
            return picture.reformat(format=self.form)
        return picture.reformat(
            format=self.form, dst_colorspace=night.colorspace, dst_color_range=night.color_range
        )

    def _day_frames(self) -> Iterator[Any]:
        with self.av.open(str(self.day)) as container:
            yield from container.decode(video=0)

    def _pass_on(self, graph: Any, encoder: _Encoder) -> None:
        while True:
            try:
                encoder.write(graph.vpull())
            except (BlockingIOError, self.av.error.EOFError):  # nothing more at the moment, or at all
                return


class _Blend(_Ffmpeg):
    mode = "lighten"

    def graph_nodes(self, graph: Any, night: Any, day: Any) -> Any:
        converted = graph.add("format", self.form)
        blend = graph.add("blend", f"all_mode={self.mode}")
        night.link_to(converted)
        converted.link_to(blend, 0, 0)
        day.link_to(blend, 0, 1)
        return blend


class _Average(_Blend):
    mode, form = "average", "yuv420p"


class _MaskedMerge(_Ffmpeg):
    """Substitution of what changes from frame to frame, with a mask averaged over time like ours."""

    settings = f"mask: change above {_THRESHOLD} levels, mean of {_HYSTERESIS} frames"

    def graph_nodes(self, graph: Any, night: Any, day: Any) -> Any:
        split, converted = graph.add("split"), graph.add("format", self.form)
        night.link_to(split)
        split.link_to(converted, 0)
        half = _HYSTERESIS // 2
        steps = [
            graph.add("format", "gray"),
            graph.add("tblend", "all_mode=difference"),
            graph.add("lut", f"y='if(gt(val,{_THRESHOLD}),255,0)'"),
            # The difference has a frame less than the clip, and the mean looks back: pad, and leave out the first.
            graph.add("tpad", f"start=1:stop={half}:start_mode=clone:stop_mode=clone"),
            graph.add("tmix", f"frames={_HYSTERESIS}"),
            graph.add("trim", f"start_frame={half}"),
            graph.add("setpts", f"N/({self.rate}*TB)"),  # the padding has no times
            graph.add("format", self.form),
        ]
        split.link_to(steps[0], 1)
        for step, following in pairwise(steps):
            step.link_to(following)
        merge = graph.add("maskedmerge")
        day.link_to(merge, 0, 0)
        converted.link_to(merge, 0, 1)
        steps[-1].link_to(merge, 0, 2)
        return merge


class _Mertens(_Job):
    """Exposure fusion of the day and each frame."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.cv2, self.av = library("cv2"), library("av")
        self.cv2.setNumThreads(task.threads)

    def run(self) -> Any:
        merge, day = self.cv2.createMergeMertens(), self.cv2.imread(str(self.day))
        with self.av.open(str(self.night)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            encoder = _Encoder(self.output, stream)
            for frame in container.decode(stream):
                fused = merge.process([day, frame.to_ndarray(format="bgr24")])
                shown = numpy.clip(numpy.rint(255 * fused), 0, 255).astype(numpy.uint8)
                made = self.av.VideoFrame.from_ndarray(shown, format="bgr24").reformat(format="yuv420p")
                made.pts, made.time_base = frame.pts, frame.time_base
                encoder.write(made)
            encoder.close()


class _Fpie(_Job):
    """Its video command with its own defaults, on as many frames as there is time for."""

    backend = "taichi-cpu"
    iterations = 5000
    trial = 20

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.video = library("fpie.video")
        # Small pictures only prove that it runs.
        self.units, self.count = 1, self.trial

    def tune(self, seconds: float) -> dict[str, Any]:
        few, more = self._seconds(self.trial), self._seconds(6 * self.trial)
        per_frame = few + (more - few) / (5 * self.trial) * (self.iterations - self.trial)
        if per_frame > 0.5 * seconds:
            raise TooSlowError(
                f"too slow: one frame would take {per_frame:.0f} s, extrapolated from {6 * self.trial} of "
                f"{self.iterations} iterations"
            )
        self.count = self.iterations
        self.units = max(1, min(len(self.moving), int(0.25 * seconds / per_frame)))
        self.settings = f"{self.iterations} iterations, first {self.units} frames only"
        return {}

    def _seconds(self, iterations: int) -> float:
        started = time.monotonic()
        self._blend(iterations)
        return time.monotonic() - started

    def _blend(self, iterations: int) -> None:
        options = self.video.BlendOptions(
            backend=self.backend, iterations=iterations, n_cpu=self.task.threads
        )
        self.video.blend_video(
            str(self.day), str(self.night), str(self.output), options=options, max_frames=self.units
        )

    def run(self) -> Any:
        self._blend(self.count)


class _FpieNumba(_Fpie):
    backend = "numba"


_MPEG4 = "larger gradient per channel; writes MPEG-4 Part 2"

COMPETITORS = (
    Competitor("gpufuse enhance", _Ours, problem="gradient fusion"),
    Competitor("FFmpeg blend=average", _Average, "av", problem="mean of day and night"),
    Competitor("FFmpeg blend=lighten", _Blend, "av", problem="maximum of day and night"),
    Competitor("FFmpeg maskedmerge", _MaskedMerge, "av", problem="pixels of what moves, into the day"),
    Competitor("cv2 Mertens", _Mertens, "cv2", problem="exposure fusion"),
    Competitor("fpie video, taichi", _Fpie, "fpie", problem=_MPEG4),
    Competitor("fpie video, numba", _FpieNumba, "fpie", "one", problem=_MPEG4),
)
