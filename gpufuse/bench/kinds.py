"""The kinds of work that are compared."""

from __future__ import annotations

from dataclasses import dataclass

from gpufuse.bench import denoise, job, plate, poisson
from gpufuse.bench.records import Competitor

__all__ = ["KINDS", "Kind", "Measure"]


@dataclass(frozen=True)
class Measure:
    """A figure of quality: its name, heading, format, and whether more is better (None: it is not judged)."""

    name: str
    heading: str
    form: str
    more_is_better: bool | None


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes
    ----------
    title, unit, about : str
        What is done, what is timed, what must be known to read the table.
    competitors : tuple of Competitor
    measures : tuple of Measure
    share : float
        Of the time for all kinds.
    """

    title: str
    unit: str
    about: str
    competitors: tuple[Competitor, ...]
    measures: tuple[Measure, ...]
    share: float


KINDS = {
    "poisson": Kind(
        "Poisson equation",
        "RGB picture",
        f"Every solver is tuned to the fewest iterations whose largest error is at most {poisson.LEVELS} grey level, "
        "but for ours as it comes, which has its default, and the direct ones, which need no tuning. The error is the "
        "largest distance from a cosine transform in float64 at any pixel, means removed. What keeps the border of "
        "the night solves another problem of the same size and cannot stand in for the others; fpie solves it to the "
        "mean residual of ours, which is far easier than the error of ours; the error told is the distance from the "
        "solution of its own problem. Set-up is not in the times: matrices and hierarchies are needed once for a "
        "size, fpie's gradients for every picture. The time of cv2.seamlessClone has its gradients in it.",
        poisson.COMPETITORS,
        (
            Measure("error", "largest error, levels", "{:.3f}", None),
            Measure("residual", "mean residual, levels", "{:.4f}", None),
        ),
        0.3,
    ),
    "denoise": Kind(
        "3D denoise",
        "RGB frame",
        "PSNR against the clean clip, after rounding to bytes, and how much that is above the noisy clip. The one "
        "strength of every filter is the best of a small grid, on the first five frames of the smallest size (where "
        "there was no time for the whole grid, the settings say so); only ours as it comes has the default of the "
        "pipeline instead, which is not tuned to this clip. A gain below 0 says that a filter did more harm to the "
        "picture than the noise had done.",
        denoise.COMPETITORS,
        (
            Measure("psnr", "PSNR, dB", "{:.2f}", True),
            Measure("gain", "over the noisy clip, dB", "{:+.2f}", None),
        ),
        0.3,
    ),
    "plate": Kind(
        "Day plate",
        "plate",
        "PSNR against the empty street. OpenCV's models see the frames one by one and need no store of them.",
        plate.COMPETITORS,
        (Measure("psnr", "PSNR, dB", "{:.2f}", True),),
        0.15,
    ),
    "job": Kind(
        "The whole job, decode to encode",
        "frame",
        "All decode the same clip and encode H.264 with the same settings, but for fpie, whose command writes MPEG-4. "
        "The figures compare the decoded result with the truth; where a clip was enlarged there is none.",
        job.COMPETITORS,
        (
            Measure("rate", "frames/s", "{:.1f}", None),
            Measure("night_kept", "night gradients kept, moving", "{:.3f}", True),
            Measure("day_kept", "day gradients kept, still", "{:.3f}", True),
            Measure("still_change", "still: change from day, levels", "{:.2f}", False),
            Measure("flicker", "still: flicker, levels", "{:.3f}", False),
        ),
        0.25,
    ),
}
"""By the name that a command line takes."""
