"""Mixed gradients and their divergence: one fused pass against whole-array expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpufuse.gradients import divergence
from gpufuse.mixing import mix_gradients, mixed_divergence


def bench_mixed_divergence(measure: Callable[..., Any], clip: Any) -> None:
    measure(
        lambda: mixed_divergence(clip.day, clip.night, clip.importance, larger_where_zero=True),
        frames=len(clip.night),
        group="mix",
    )


def bench_mix_then_divergence(measure: Callable[..., Any], clip: Any) -> None:
    measure(
        lambda: divergence(*mix_gradients(clip.day, clip.night, clip.importance, larger_where_zero=True)),
        frames=len(clip.night),
        group="mix",
    )
