from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy
import pytest

from gpufuse.scene import Scene, day_frames, day_picture, render_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return render_scene(width=160, height=90, frames=12)


def levels_apart(scene: Scene) -> numpy.ndarray:
    apart = numpy.abs(scene.clean_night.astype(int) - scene.empty_night.astype(int))
    return apart.max(axis=-1)


def test_every_array_has_its_shape_and_type(scene: Scene) -> None:
    pictures = {"day": (90, 160, 3), "empty_night": (90, 160, 3)}
    clips = {"night": (12, 90, 160, 3), "clean_night": (12, 90, 160, 3)}
    for name, shape in (pictures | clips).items():
        array = getattr(scene, name)
        assert (array.shape, array.dtype) == (shape, numpy.uint8), name
    for name, shape in {"moving": (12, 90, 160), "glow": (12, 90, 160), "lamps": (90, 160)}.items():
        array = getattr(scene, name)
        assert (array.shape, array.dtype) == (shape, bool), name
    assert scene.rate == Fraction(24)


def test_same_arguments_give_the_same_pixels() -> None:
    first, second = (render_scene(width=48, height=27, frames=3, seed=5) for _ in range(2))
    for name in ("day", "night", "moving", "glow", "clean_night", "empty_night", "lamps"):
        numpy.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_seed_changes_houses_and_noise() -> None:
    first, second = (render_scene(width=48, height=27, frames=1, seed=seed) for seed in (5, 6))
    assert (first.day != second.day).mean() > 0.2
    assert (first.night != second.night).mean() > 0.5


def test_the_global_generator_is_left_alone() -> None:
    before = numpy.random.get_state()[1].copy()  # noqa: NPY002
    render_scene(width=20, height=12, frames=1)
    numpy.testing.assert_array_equal(before, numpy.random.get_state()[1])  # noqa: NPY002


def test_a_short_clip_is_the_beginning_of_a_longer_one() -> None:
    short, long = (render_scene(width=48, height=27, frames=count) for count in (2, 30))
    numpy.testing.assert_array_equal(short.night, long.night[:2])
    numpy.testing.assert_array_equal(short.moving, long.moving[:2])
    numpy.testing.assert_array_equal(short.day, long.day)


@pytest.mark.parametrize("size", [(33, 21), (21, 33), (1, 1), (2, 1), (1, 40), (129, 7)])
def test_any_size_is_rendered(size: tuple[int, int]) -> None:
    width, height = size
    scene = render_scene(width=width, height=height, frames=2)
    assert scene.night.shape == (2, height, width, 3)
    assert scene.moving.shape == (2, height, width)


def test_no_frames_are_a_clip_too() -> None:
    assert render_scene(width=16, height=9, frames=0).night.shape == (0, 9, 16, 3)


def test_night_is_much_darker_than_day(scene: Scene) -> None:
    assert scene.day.mean() > 100
    assert scene.clean_night.mean() < 0.35 * scene.day.mean()
    # Most of the street tells nothing at night: that is what the day is for.
    assert numpy.median(scene.empty_night.max(axis=-1)) < 50


def test_moving_pixels_differ_from_the_empty_street(scene: Scene) -> None:
    apart = levels_apart(scene)
    assert 0.005 < scene.moving.mean() < 0.15
    assert (apart[scene.moving] > 3).mean() > 0.85


def test_nothing_changes_outside_moving_and_glow(scene: Scene) -> None:
    untouched = ~(scene.moving | scene.glow)
    assert levels_apart(scene)[untouched].max() <= 7
    assert not (scene.moving & scene.glow).any()


def test_strong_changes_lie_in_or_near_the_moving_pixels(scene: Scene) -> None:
    from scipy import ndimage

    strong = levels_apart(scene) > 60
    near = numpy.stack([ndimage.binary_dilation(mask, iterations=8) for mask in scene.moving])
    assert strong.any()
    assert (near & strong).sum() > 0.9 * strong.sum()


def test_several_things_move_both_ways() -> None:
    from scipy import ndimage

    scene = render_scene(width=320, height=180, frames=2)
    _, count = ndimage.label(scene.moving[0])
    assert count >= 5
    red, _, blue = numpy.moveaxis(scene.clean_night[0].astype(int), -1, 0)
    assert (scene.moving[0] & (red > 150) & (red > blue + 80)).any(), "tail lights"
    assert (scene.moving[0] & (blue > 180)).any(), "head lights"


def test_static_lights_stay_bright(scene: Scene) -> None:
    assert 0.001 < scene.lamps.mean() < 0.15
    assert scene.empty_night.max(axis=-1)[scene.lamps].mean() > 100


def test_noise_has_no_bias_and_grows_with_brightness(scene: Scene) -> None:
    noise = scene.night.astype(int) - scene.clean_night
    middle = (scene.clean_night > 12) & (scene.clean_night < 245)
    assert abs(noise[middle].mean()) < 0.1
    dark, bright = middle & (scene.clean_night < 30), middle & (scene.clean_night > 120)
    assert 1.5 < noise[dark].std() < noise[bright].std() < 6


def test_day_picture_is_the_day_of_the_scene(scene: Scene) -> None:
    numpy.testing.assert_array_equal(day_picture(width=160, height=90), scene.day)


def test_the_median_of_day_frames_is_the_empty_street() -> None:
    clip = numpy.stack(list(day_frames(25, width=96, height=54)))
    day = day_picture(width=96, height=54).astype(int)
    assert clip.dtype == numpy.uint8
    worst_frame = max(numpy.abs(frame - day).max(axis=-1).max() for frame in clip.astype(int))
    assert worst_frame > 60, "traffic"
    apart = numpy.abs(numpy.median(clip, axis=0) - day)
    assert (apart < 4).mean() > 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, r"width: expected 1 or more, got 0; choose"),
        ({"height": -3}, r"height: expected 1 or more, got -3; choose"),
        ({"frames": -1}, r"frames: expected 0 or more, got -1; choose"),
        ({"seed": -1}, r"seed: expected 0 or more, got -1; choose"),
    ],
)
def test_too_small_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_scene(**arguments)


def test_arguments_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"width: expected an integer, got float; convert it with int"):
        render_scene(width=64.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"frames: expected an integer, got bool; convert it with int"):
        render_scene(frames=True)


def test_day_frames_refuses_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"step: expected seconds above 0, got 0; try 0.5"):
        day_frames(3, step=0)
    with pytest.raises(ValueError, match=r"count: expected 0 or more, got -1; choose"):
        day_frames(-1)


def test_importing_loads_nothing_but_numpy() -> None:
    code = (
        "import sys, gpufuse.scene, gpufuse.report;"
        "assert not {'PIL', 'scipy', 'numba', 'cupy'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
