"""Importance: motion masks with clean-up, their temporal mean, and the static pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpufuse.importance import motion_masks, static_importance, temporal_mean


def bench_motion_masks(measure: Callable[..., Any], clip: Any) -> None:
    measure(lambda: motion_masks(clip.night, threshold=12.0), frames=len(clip.night), group="importance")


def bench_temporal_mean(measure: Callable[..., Any], clip: Any) -> None:
    masks = motion_masks(clip.night, threshold=12.0)
    measure(lambda: temporal_mean(masks, 5), frames=len(masks), group="importance")


def bench_static_importance(measure: Callable[..., Any], clip: Any) -> None:
    measure(lambda: static_importance(clip.day, clip.night[0]), group="importance")
