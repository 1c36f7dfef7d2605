"""The day plate: the empty street from frames with traffic; the empty street is known."""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.background import daytime_background
from gpufuse.bench.denoise import psnr
from gpufuse.bench.records import Competitor
from gpufuse.bench.work import Task, Work, library

__all__ = ["COMPETITORS"]


class _Plate(Work):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.frames = task.array("day_frames", shared=True)
        self.settings = f"{len(self.frames)} frames"

    def judge(self, result: Any) -> dict[str, float]:
        shown = numpy.clip(numpy.rint(result), 0, 255).astype(numpy.uint8)
        return {"psnr": psnr(shown[None], self.task.array("plate")[None])}


class _Ours(_Plate):
    def run(self) -> Any:
        return daytime_background(self.frames)


class _Numpy(_Plate):
    def run(self) -> Any:
        return numpy.median(self.frames, axis=0)


class _Bottleneck(_Plate):
    def __init__(self, task: Task) -> None:
        self.bottleneck = library("bottleneck")
        super().__init__(task)

    def run(self) -> Any:
        return self.bottleneck.median(self.frames, axis=0)


class _BottleneckNan(_Bottleneck):
    def run(self) -> Any:
        return self.bottleneck.nanmedian(self.frames, axis=0)


class _Mog2(_Plate):
    def __init__(self, task: Task) -> None:
        self.cv2 = library("cv2")
        self.cv2.setNumThreads(task.threads)
        super().__init__(task)
        self.settings += ", history as long, no shadows"

    def model(self) -> Any:
        return self.cv2.createBackgroundSubtractorMOG2(history=len(self.frames), detectShadows=False)

    def run(self) -> Any:
        model = self.model()
        for frame in self.frames:
            model.apply(frame)
        return model.getBackgroundImage()


class _Knn(_Mog2):
    def model(self) -> Any:
        return self.cv2.createBackgroundSubtractorKNN(history=len(self.frames), detectShadows=False)


_MEDIAN, _MODEL = "median", "running model of each pixel"

COMPETITORS = (
    Competitor("gpufuse.daytime_background", _Ours, problem=_MEDIAN),
    Competitor("numpy.median", _Numpy, "numpy", "one", problem=_MEDIAN),
    Competitor("bottleneck.median", _Bottleneck, "bottleneck", "one", problem=_MEDIAN),
    Competitor("bottleneck.nanmedian", _BottleneckNan, "bottleneck", "one", problem=_MEDIAN),
    Competitor("cv2 MOG2", _Mog2, "cv2", problem=_MODEL),
    Competitor("cv2 KNN", _Knn, "cv2", problem=_MODEL),
)
