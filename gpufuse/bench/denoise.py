"""Noise: how much is taken away, in what time; the clean clip is known."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import numpy

from gpufuse.bench.records import Competitor
from gpufuse.bench.work import Task, Work, best_of, library
from gpufuse.denoise import susan3d
from gpufuse.settings import Settings

__all__ = ["COMPETITORS", "psnr"]

_TUNED_FRAMES = 5

_DEFAULTS = Settings()


def psnr(picture: numpy.ndarray, truth: numpy.ndarray) -> float:
    """Peak signal to noise ratio of bytes, in dB; infinite for equal pictures."""
    total = 0.0
    for shown, clean in zip(picture, truth, strict=True):
        difference = shown.astype(numpy.float32) - clean
        total += float((difference * difference).sum(dtype=numpy.float64))
    return math.inf if total == 0 else 10 * math.log10(255**2 * picture.size / total)


def _bytes(levels: numpy.ndarray) -> numpy.ndarray:
    rounded: numpy.ndarray = numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8)
    return rounded


class _Filter(Work):
    """A filter with one strength, which is tuned for the best result at the smallest size.

    Likely strengths come first: the slow ones may find no time for all.
    """

    strengths: ClassVar[list[float]]
    strength: float
    words: ClassVar[str]

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.noisy = task.array("noisy")
        self.units = len(self.noisy)
        self._choose(task.tuned.get("strength", self.strengths[0]))
        self.settings += task.tuned.get("untried", "")
        self.input = self.prepared(self.noisy)

    def _choose(self, strength: float) -> None:
        self.strength = strength
        self.settings = self.words.format(strength)

    def tune(self, seconds: float) -> dict[str, Any]:
        if not self.task.tuned:
            some = slice(0, _TUNED_FRAMES)
            few, clean = self.prepared(self.noisy[some]), self.task.array("clean")[some]

            tried = 0

            def quality(strength: float) -> float:
                nonlocal tried
                tried += 1
                self.strength = strength
                return psnr(self.picture(self.filtered(few)), clean)

            self._choose(best_of(self.strengths, quality, seconds)[0])
            if tried < len(self.strengths):
                untried = f", no time for more than {tried} of {len(self.strengths)} strengths"
                self.settings += untried
                return {"strength": self.strength, "untried": untried}
            return {"strength": self.strength}
        return self.task.tuned

    def prepared(self, frames: numpy.ndarray) -> Any:
        """Frames (T, H, W, 3) in the form that the filter takes; not timed."""
        return frames

    @abc.abstractmethod
    def filtered(self, frames: Any) -> Any:
        """Filter what `prepared` made; this is timed."""

    def picture(self, result: Any) -> numpy.ndarray:
        """The result as bytes (T, H, W, 3)."""
        return numpy.asarray(result)

    def run(self) -> Any:
        return self.filtered(self.input)

    def judge(self, result: Any) -> dict[str, float]:
        clean = self.task.array("clean")
        reached = psnr(self.picture(result), clean)
        return {"psnr": reached, "gain": reached - psnr(self.noisy, clean)}


class _Susan(_Filter):
    strengths = [7.0, 5.0, 10.0, 3.5, 14.0, 20.0]  # noqa: RUF012
    words = "t = {:g}"
    passes = 1

    def prepared(self, frames: numpy.ndarray) -> Any:
        return numpy.ascontiguousarray(numpy.moveaxis(frames, -1, 1), numpy.float32)

    def filtered(self, frames: Any) -> Any:
        return susan3d(frames, threshold=self.strength, passes=self.passes)

    def picture(self, result: Any) -> numpy.ndarray:
        return _bytes(numpy.moveaxis(result, 1, -1))


class _SusanTwice(_Susan):
    passes = 2


class _SusanAsItComes(_Susan):
    """As the pipeline filters: a strength from the paper, whatever the noise of the clip."""

    strengths = [_DEFAULTS.brightness_threshold]  # noqa: RUF012
    words = "t = {:g}, the default of the pipeline, not tuned to this clip"
    passes = _DEFAULTS.passes


class _Itk(_Susan):
    """The same neighbourhood and weights; only that the pixel itself counts too."""

    def __init__(self, task: Task) -> None:
        self.itk = library("itk")
        # By its own name: looking it up as itk.BilateralImageFilter makes the wrapper load for ten seconds.
        self.filters = library("itk.itkBilateralImageFilterPython")
        super().__init__(task)

    def prepared(self, frames: numpy.ndarray) -> Any:
        planar = super().prepared(frames)
        return [self.itk.image_from_array(numpy.ascontiguousarray(planar[:, k])) for k in range(3)]

    def filtered(self, frames: Any) -> Any:
        return [self._channel(frame) for frame in frames]

    def _channel(self, volume: Any) -> Any:
        bilateral = self.filters.itkBilateralImageFilterIF3IF3.New()
        bilateral.SetInput(volume)
        bilateral.SetAutomaticKernelSize(False)
        bilateral.SetRadius([1, 1, 2])
        bilateral.SetDomainSigma([15.0, 15.0, 15.0])
        bilateral.SetRangeSigma(self.strength / math.sqrt(2))
        bilateral.SetNumberOfWorkUnits(self.task.threads)
        bilateral.Update()
        return bilateral.GetOutput()

    def picture(self, result: Any) -> numpy.ndarray:
        return _bytes(numpy.stack([self.itk.array_from_image(image) for image in result], axis=-1))


class _Skimage(_Filter):
    def __init__(self, task: Task) -> None:
        self.restoration = library("skimage.restoration")
        super().__init__(task)

    def prepared(self, frames: numpy.ndarray) -> Any:
        return frames.astype(numpy.float32) / numpy.float32(255)

    def picture(self, result: Any) -> numpy.ndarray:
        return _bytes(255 * numpy.asarray(result))


class _SkimageBilateral(_Skimage):
    strengths = [0.015, 0.0075, 0.03, 0.06]  # noqa: RUF012
    words = "each frame by itself, 3x3, sigma_color = {:g}"

    def filtered(self, frames: Any) -> Any:
        return [
            self.restoration.denoise_bilateral(
                frame, win_size=3, sigma_color=self.strength, sigma_spatial=15, channel_axis=-1
            )
            for frame in frames
        ]


class _SkimageMeans(_Skimage):
    strengths = [0.01, 0.005, 0.02, 0.03]  # noqa: RUF012
    words = "3D, patches of 3, distance 2, h = {:g}"

    def filtered(self, frames: Any) -> Any:
        return self.restoration.denoise_nl_means(
            frames, patch_size=3, patch_distance=2, h=self.strength, channel_axis=-1
        )


class _SkimageVariation(_Skimage):
    strengths = [0.006, 0.003, 0.012, 0.025]  # noqa: RUF012
    words = "3D, weight = {:g}"

    def filtered(self, frames: Any) -> Any:
        return self.restoration.denoise_tv_chambolle(
            frames, weight=self.strength, max_num_iter=50, channel_axis=-1
        )


class _OpenCv(_Filter):
    def __init__(self, task: Task) -> None:
        self.cv2 = library("cv2")
        self.cv2.setNumThreads(task.threads)
        super().__init__(task)


class _Means(_OpenCv):
    strengths = [3.0, 2.0, 5.0, 8.0, 12.0]  # noqa: RUF012
    words = "5 frames, patches of 3, window of 9, h = {:g}"

    def filtered(self, frames: Any) -> Any:
        replicated = [frames[0], frames[0], *frames, frames[-1], frames[-1]]
        return [self._frame(replicated, index + 2) for index in range(len(frames))]

    def _frame(self, frames: list[numpy.ndarray], index: int) -> Any:
        return self.cv2.fastNlMeansDenoisingMulti(frames, index, 5, None, self.strength, 3, 9)


class _ColouredMeans(_Means):
    def _frame(self, frames: list[numpy.ndarray], index: int) -> Any:
        return self.cv2.fastNlMeansDenoisingColoredMulti(
            frames, index, 5, None, self.strength, self.strength, 3, 9
        )


class _Bilateral(_OpenCv):
    strengths = [20.0, 10.0, 40.0, 5.0, 80.0]  # noqa: RUF012
    words = "each frame by itself, d = 3, sigmaColor = {:g}"

    def filtered(self, frames: Any) -> Any:
        return [self.cv2.bilateralFilter(frame, 3, self.strength, 15) for frame in frames]


_SAME = "3x3 pixels, 5 frames"

COMPETITORS = (
    Competitor("gpufuse susan3d, 1 pass", _Susan, problem=_SAME),
    Competitor("gpufuse susan3d, 2 passes", _SusanTwice, problem=f"{_SAME}, twice"),
    Competitor(
        "gpufuse susan3d, as it comes", _SusanAsItComes, problem=f"{_SAME}, {_DEFAULTS.passes} passes"
    ),
    Competitor("ITK bilateral", _Itk, "itk", problem=_SAME),
    Competitor("scikit-image bilateral", _SkimageBilateral, "skimage", "one", problem="3x3 pixels, 1 frame"),
    Competitor("scikit-image nl-means", _SkimageMeans, "skimage", "one", problem="5x5 pixels, 5 frames"),
    Competitor("scikit-image tv", _SkimageVariation, "skimage", "one", problem="the whole clip"),
    Competitor("cv2 nl-means multi", _Means, "cv2", problem="9x9 pixels, 5 frames"),
    Competitor("cv2 nl-means multi, coloured", _ColouredMeans, "cv2", problem="9x9 pixels, 5 frames"),
    Competitor("cv2.bilateralFilter", _Bilateral, "cv2", problem="3x3 pixels, 1 frame"),
)
