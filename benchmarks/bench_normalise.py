"""The colour fit: sums in one pass against whole-array expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpufuse.baselines import blend
from gpufuse.normalise import affine_from_moments, apply_affine, blend_moments, fit_affine


def bench_fit_from_moments(measure: Callable[..., Any], clip: Any) -> None:
    count = clip.night.shape[-2] * clip.night.shape[-1]

    def fit() -> Any:
        return affine_from_moments(blend_moments(clip.night, clip.day, clip.night, clip.importance), count)

    measure(fit, frames=len(clip.night), group="normalise")


def bench_fit_affine(measure: Callable[..., Any], clip: Any) -> None:
    measure(
        lambda: fit_affine(clip.night, blend(clip.day, clip.night, clip.importance)),
        frames=len(clip.night),
        group="normalise",
    )


def bench_apply(measure: Callable[..., Any], clip: Any) -> None:
    c1, c2 = fit_affine(clip.night, clip.night)
    measure(lambda: apply_affine(clip.night, c1, c2), frames=len(clip.night), group="normalise")
