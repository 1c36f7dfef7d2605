"""The pipeline against benchmarks/naive.py, the method in plain NumPy and SciPy: an oracle of the whole."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy
import pytest

import gpufuse
from gpufuse.scene import render_scene

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import naive

PAPER = gpufuse.Settings.paper(**dataclasses.asdict(naive.Parameters()))
"""The paper's settings, the same in both, whatever the defaults are."""

DIRECT = PAPER.replace(method="dct")


@pytest.fixture(scope="module")
def rendered():
    return render_scene(width=160, height=90, frames=24)


def fused(day, frames, settings):
    return numpy.array(list(gpufuse.fuse_video(day, frames, settings=settings)))


def apart(first, second):
    assert first.shape == second.shape
    assert first.dtype == second.dtype
    return abs(first.astype(float) - second)


def noise(size, count, seed, channels=(3,), dtype=numpy.uint8):
    rng = numpy.random.default_rng(seed)
    white = numpy.iinfo(dtype).max
    day = rng.integers(0, white, (*size, *channels), dtype, endpoint=True)
    return day, rng.integers(0, white // 3, (count, *size, *channels), dtype)


# The rule of the larger gradient jumps: where day and night tie to the last digits of float32, the two may choose
# differently, and one sample then differs by more than a level.


def test_a_rendered_clip(rendered):
    off = apart(fused(rendered.day, rendered.night, PAPER), naive.fuse_video(rendered.day, rendered.night))
    assert off.max() <= 2
    assert (off > 1).mean() < 1e-5
    assert (off == 0).mean() > 0.995


def test_a_rendered_clip_with_the_direct_solver(rendered):
    off = apart(fused(rendered.day, rendered.night, DIRECT), naive.fuse_video(rendered.day, rendered.night))
    assert (off > 1).mean() < 1e-5
    assert (off == 0).mean() > 0.9995


def test_a_rendered_clip_without_the_larger_gradient(rendered):
    settings = DIRECT.replace(larger_where_zero=False)
    expected = naive.fuse_video(rendered.day, rendered.night, settings)
    off = apart(fused(rendered.day, rendered.night, settings), expected)
    assert off.max() <= 1
    assert (off == 0).mean() > 0.9995


def test_importance_of_a_rendered_clip_is_not_trivial(rendered):
    smooth = naive.susan(naive.levels(rendered.night), 15.0, 20.0)
    weights = naive.importance(naive.motion_masks(smooth, None), 5, 1)
    assert 0.02 < (weights > 0).mean() < 0.5


@pytest.mark.parametrize("index", [0, 10, 23])
def test_a_rendered_pair(rendered, index):
    off = apart(
        gpufuse.fuse(rendered.day, rendered.night[index], settings=PAPER),
        naive.fuse(rendered.day, rendered.night[index]),
    )
    assert off.max() <= 1
    assert (off == 0).mean() > 0.99


@pytest.mark.parametrize(
    "change",
    [
        {"passes": 0},
        {"passes": 1, "sigma": 1.0, "brightness_threshold": 6.0},
        {"c": 0},
        {"c": 2, "importance_gain": 3.0, "motion_threshold": 8.0},
        {"night_gain": 2.0},
        {"fit_window": 1},
        {"fit_window": 4},
    ],
    ids=str,
)
def test_other_settings(rendered, change):
    settings = DIRECT.replace(**change)
    night = rendered.night[:9]
    off = apart(fused(rendered.day, night, settings), naive.fuse_video(rendered.day, night, settings))
    assert (off > 1).mean() < 1e-4
    assert (off == 0).mean() > 0.995


@pytest.mark.parametrize("size", [(31, 45), (64, 64), (1, 37), (90, 7), (5, 5), (2, 1)])
@pytest.mark.parametrize("count", [1, 2, 7, 14])
def test_noise_of_any_size_and_length(size, count):
    day, night = noise(size, count, seed=count)
    expected = naive.fuse_video(day, night)
    for settings, equal in [(PAPER, 0.98), (DIRECT, 0.999)]:
        off = apart(fused(day, night, settings), expected)
        assert off.max() <= 1
        assert (off == 0).mean() > equal


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_other_images(dtype, channels):
    day, night = noise((37, 29), 6, 5, channels, dtype)
    off = apart(fused(day, night, DIRECT), naive.fuse_video(day, night))
    assert off.max() <= numpy.iinfo(dtype).max / 255
    assert off.mean() < 5e-4 * numpy.iinfo(dtype).max / 255


def test_images_of_fractions():
    day, night = noise((37, 29), 6, 5)
    day, night = day / numpy.float32(255), night / numpy.float32(255)
    assert apart(fused(day, night, DIRECT), naive.fuse_video(day, night)).max() < 0.05 / 255


def test_a_larger_day():
    day, _ = noise((62, 90), 0, 6)
    _, night = noise((31, 45), 7, 6)
    off = apart(fused(day, night, DIRECT), naive.fuse_video(day, night))
    assert off.max() <= 1
    assert (off == 0).mean() > 0.999


def test_lonely_samples_take_the_median():
    day, night = noise((17, 23), 5, 8)
    settings = DIRECT.replace(brightness_threshold=1.0)
    assert apart(fused(day, night, settings), naive.fuse_video(day, night, settings)).max() <= 1
