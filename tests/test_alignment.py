"""What a job does about a day beside its night, and about a camera that moves in the middle of a clip."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from scipy import ndimage

from gpufuse.alignment import Alignment, check_alignment, night_view
from gpufuse.camerawatch import CameraWatch
from gpufuse.errors import ConfigError, PairError
from gpufuse.registration import View
from gpufuse.scene import Scene, render_scene
from gpufuse.video import open_clip, read_still

HEIGHT, WIDTH, MARGIN = 150, 220, 16


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A street with traffic, somewhat larger than the view of the cameras here."""
    return render_scene(width=WIDTH + 2 * MARGIN, height=HEIGHT + 2 * MARGIN, frames=20)


def view(picture: numpy.ndarray, right: float = 0.0, down: float = 0.0) -> numpy.ndarray:
    """What a camera sees that has turned by some pixels."""
    if right % 1 or down % 1:
        picture = ndimage.shift(picture.astype(numpy.float32), (-down, -right, 0), order=1, mode="nearest")
        picture = numpy.rint(picture).astype(numpy.uint8)
        right = down = 0
    top, left = MARGIN + int(down), MARGIN + int(right)
    return picture[top : top + HEIGHT, left : left + WIDTH]


# The pair


def test_a_day_in_place_is_left_alone(scene: Scene) -> None:
    day, night = view(scene.day), view(scene.night[0])
    aligned = check_alignment(day, night)
    assert aligned.plate is day
    assert aligned.notes == ()
    assert aligned.shift is not None
    assert aligned.shift.length < 0.3


def test_a_day_beside_is_told(scene: Scene) -> None:
    day, night = view(scene.day, -3), view(scene.night[0])
    aligned = check_alignment(day, night, name="night.mp4")
    assert aligned.plate is day
    (note,) = aligned.notes
    assert re.fullmatch(
        r"night\.mp4: the day lies [23]\.\d pixels beside the night \((3\.\d|2\.9) right(, 0\.\d \w+)?\); "
        "--register moves it into place",
        note,
    )
    assert check_alignment(day, night, Alignment(warn_above=4.0)).notes == ()


def test_a_day_is_moved_into_place(scene: Scene) -> None:
    day, night = view(scene.day, -3, 2), view(scene.night[0])
    before = day.copy()
    aligned = check_alignment(day, night, Alignment(register=True))
    assert (day == before).all()
    assert aligned.plate.dtype == numpy.uint8
    assert "and was moved into place" in aligned.notes[0]
    inner = numpy.s_[6:-6, 6:-6]
    wrong = numpy.abs(aligned.plate.astype(float) - view(scene.day))[inner].mean()
    assert wrong < 0.3 * numpy.abs(day.astype(float) - view(scene.day))[inner].mean()
    again = check_alignment(aligned.plate, night)
    assert again.shift is not None
    assert again.shift.length < 0.3


def test_a_larger_day_is_moved_in_its_own_pixels(scene: Scene) -> None:
    day, night = view(scene.day, -4, 2), view(scene.night[0])[::2, ::2]
    aligned = check_alignment(day, night, Alignment(register=True))
    assert aligned.plate.shape == day.shape
    inner = numpy.s_[8:-8, 8:-8]
    wrong = numpy.abs(aligned.plate.astype(float) - view(scene.day))[inner].mean()
    assert wrong < 0.5 * numpy.abs(day.astype(float) - view(scene.day))[inner].mean()


@pytest.mark.parametrize("register", [False, True])
def test_a_day_too_far_away_is_refused(scene: Scene, register: bool) -> None:
    day, night = view(scene.day, -12, 3), view(scene.night[0])
    with pytest.raises(PairError) as caught:
        check_alignment(day, night, Alignment(register=register), name="night.mp4")
    assert re.fullmatch(
        r"night\.mp4: expected the day within 8 pixels of the night, found it 12\.\d pixels beside the night "
        r"\(1[12]\.\d right, [23]\.\d up\); take a day of the same position of the camera, or raise --max-shift",
        str(caught.value),
    )
    assert caught.value.exit_code == 6
    assert check_alignment(day, night, Alignment(max_shift=13.0, register=register)).notes
    assert check_alignment(day, night, Alignment(max_shift=None)).shift is None
    assert check_alignment(day, night, Alignment(max_shift=None, register=True)).notes


def test_another_view_is_refused(scene: Scene) -> None:
    day, night = view(scene.day), view(scene.night[0])[::-1]
    for policy in (Alignment(), Alignment(register=True)):
        with pytest.raises(
            PairError, match="hardly an edge in common; take another day, or use --max-shift none"
        ):
            check_alignment(day, night, policy)
    forced = check_alignment(day, night, Alignment(max_shift=None, register=True))
    assert forced.plate is day
    assert forced.notes == (
        "day: with too few edges in common to tell where the day lies; it was left where it is",
    )


def test_a_turned_day_is_told_from_another_view(scene: Scene) -> None:
    turned = ndimage.rotate(scene.day, 2.1, reshape=False, order=1, mode="nearest")
    night = view(scene.night[0])
    noise = numpy.random.default_rng(1).normal(0, 12, night.shape)
    day, night = view(turned), numpy.clip(night + noise, 0, 255).astype(numpy.uint8)
    with pytest.raises(
        PairError, match=r"turned by -2\.\d\d degrees .*; take another day, or use --register"
    ):
        check_alignment(day, night)
    aligned = check_alignment(day, night, Alignment(register=True))
    assert aligned.shift is not None
    assert abs(aligned.shift.angle + 2.1) < 0.2
    assert "turned by " in aligned.notes[0]


def test_what_cannot_be_told_is_no_reason_to_refuse(scene: Scene) -> None:
    day, night = view(scene.day), numpy.zeros((HEIGHT, WIDTH, 3), numpy.uint8)
    assert check_alignment(day, night).notes == ()
    aligned = check_alignment(day, night, Alignment(register=True), name="n")
    assert aligned.plate is day
    assert aligned.notes == (
        "n: too dark, empty or small to tell where the day lies; it was left where it is",
    )
    assert check_alignment(day[:12, :16], view(scene.night[0])[5:17, :16]).notes == ()


def test_a_day_is_not_moved_for_nothing(scene: Scene) -> None:
    day = view(scene.day)
    aligned = check_alignment(day, day, Alignment(register=True))
    assert aligned.plate is day
    assert aligned.notes == ()


def test_without_opencv(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    day, night = view(scene.day, -3), view(scene.night[0])
    assert check_alignment(day, night).notes
    with pytest.raises(ConfigError, match=r"gpufuse\[register\]"):
        check_alignment(day, night, Alignment(register=True))


def test_policies() -> None:
    assert Alignment() == Alignment(8.0, False, 0.5)
    assert Alignment().wanted
    assert Alignment(max_shift=None, register=True).wanted
    assert not Alignment(max_shift=None).wanted
    for name in ("max_shift", "warn_above"):
        for wrong in (-1.0, numpy.nan):
            with pytest.raises(ConfigError, match=f"{name}: expected 0 or more pixels"):
                Alignment(**{name: wrong})


# The night's first frames


def test_night_view_averages_the_first_frames() -> None:
    rng = numpy.random.default_rng(4)
    frames = rng.integers(0, 255, (12, 5, 7, 3)).astype(numpy.uint8)
    taken = []

    def counted() -> Iterator[numpy.ndarray]:
        for frame in frames:
            taken.append(frame)
            yield frame

    found = night_view(counted(), 5)
    assert len(taken) == 5
    assert (found.dtype, found.shape) == (numpy.float32, (3, 5, 7))
    expected = numpy.moveaxis(frames[:5].mean(axis=0), -1, 0)
    numpy.testing.assert_allclose(found, expected, atol=1e-3)
    levels = numpy.moveaxis(frames, -1, 1).astype(numpy.float32)
    before = levels.copy()
    numpy.testing.assert_allclose(night_view(levels, 5), expected, atol=1e-3)
    assert (levels == before).all()
    assert night_view(levels[:2]).shape == (3, 5, 7)
    with pytest.raises(ValueError, match="expected at least one, got none"):
        night_view([])


# A camera that moves


def watched(
    scene: Scene, places: list[tuple[float, float]], watch: CameraWatch | None = None, first: int = 0
) -> CameraWatch:
    """Ten frames a second with traffic and noise, the camera turned as told for each."""
    watch = watch or CameraWatch("night.mp4")
    for k, (right, down) in enumerate(places[first:], first):
        rng = numpy.random.default_rng(k)
        levels = numpy.moveaxis(view(scene.night[k % len(scene.night)], right, down), -1, 0)
        noise = rng.standard_normal(levels.shape, numpy.float32)
        watch.see(levels + 2 * noise, k / 10)
    return watch


def test_a_jump_is_told_once(scene: Scene) -> None:
    watch = watched(scene, [(0, 0)] * 53 + [(5, 3)] * 60)
    (note,) = watch.notes
    assert re.fullmatch(
        r"night\.mp4: the camera moved, and the picture with it by [56]\.\d pixels "
        r"\((5\.\d|4\.[6-9]) left, (3\.\d|2\.[6-9]) up\) between 4 s and 6 s; "
        "cut the clip there, and give each part its own day",
        note,
    )


def test_two_jumps(scene: Scene) -> None:
    notes = watched(scene, [(0, 0)] * 30 + [(-6, 0)] * 60 + [(4, -4)] * 60).notes
    assert len(notes) == 2
    assert "right" in notes[0]
    assert "left" in notes[1]


def test_a_passing_knock_is_none(scene: Scene) -> None:
    assert watched(scene, [(0, 0)] * 40 + [(8, 5)] * 4 + [(0, 0)] * 60).notes == []


def test_shaking_is_no_jump(scene: Scene) -> None:
    rng = numpy.random.default_rng(1)
    places = [(float(x), float(y)) for x, y in rng.uniform(-0.3, 0.3, (80, 2))]
    assert watched(scene, places).notes == []


def test_a_slow_drift_is_told_when_it_has_gone_far(scene: Scene) -> None:
    notes = watched(scene, [(k / 25, 0.0) for k in range(100)]).notes
    assert len(notes) == 1
    assert float(re.findall(r"by (\d\.\d) pixels", notes[0])[0]) == pytest.approx(2.5, abs=1.0)


def test_darkness_and_a_covered_lens_are_no_jump(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    look = CameraWatch._look

    def counted(watch: CameraWatch, found: View) -> None:
        looks.append(watch._began)
        look(watch, found)

    monkeypatch.setattr(CameraWatch, "_look", counted)
    watch = watched(scene, [(0, 0)] * 30)
    rng = numpy.random.default_rng(3)
    for k in range(30, 70):
        watch.see(rng.normal(5, 2, (3, HEIGHT, WIDTH)).astype(numpy.float32), k / 10)
    watched(scene, [(0, 0)] * 110, watch, 70)
    assert watch.notes == []
    assert looks == [0, 2, 4, 6, 8, 10]  # darkness raises no suspicion


def test_another_view_is_told(scene: Scene) -> None:
    watch = watched(scene, [(0, 0)] * 30)
    for k in range(30, 80):
        levels = numpy.moveaxis(view(scene.night[k % 20]), -1, 0)[:, ::-1]
        watch.see(levels.astype(numpy.float32), k / 10)
    (note,) = watch.notes
    assert note.startswith("night.mp4: the camera turned to another view between 2 s and 4 s; ")


def test_the_watch_goes_on_elsewhere(scene: Scene) -> None:
    places: list[tuple[float, float]] = [(0, 0)] * 33 + [(5, 3)] * 60
    whole = watched(scene, places).notes
    for cut in (1, 20, 35, 42):
        part = pickle.loads(pickle.dumps(watched(scene, places[:cut])))
        assert watched(scene, places, part, cut).notes == whole


def test_a_watch_with_a_given_reference(scene: Scene) -> None:
    first = night_view(numpy.moveaxis(view(frame), -1, 0).astype(numpy.float32) for frame in scene.night)
    moved = watched(scene, [(5, 3)] * 30, CameraWatch("n", reference=first))
    assert len(moved.notes) == 1
    assert watched(scene, [(0, 0)] * 30, CameraWatch("n", reference=first)).notes == []


def test_frames_between_looks_cost_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(CameraWatch, "_look", lambda watch, view: looks.append(watch._began))
    watched(scene, [(0, 0)] * 100)
    assert looks == [0, 2, 4, 6, 8]


def test_tiny_frames_are_not_watched() -> None:
    watch = CameraWatch("n")
    for k in range(30):
        watch.see(numpy.full((3, 12, 16), float(k), numpy.float32), float(k))
    assert watch.notes == []


# Real clips


def clips(folder: Path) -> list[Path]:
    found = sorted(path for suffix in ("mp4", "avi") for path in folder.glob(f"*/*.{suffix}"))
    assert len(found) > 10
    return found


@pytest.mark.slow
def test_no_false_alarm_on_any_clip(data_folder: Path) -> None:
    for path in clips(data_folder):
        watch = CameraWatch(path.name, interval=1.0)
        with open_clip(path) as clip:
            for frame in clip:
                watch.see(frame.levels, float(frame.time))
        assert watch.notes == []


@pytest.mark.slow
def test_planted_jumps_in_every_clip(data_folder: Path) -> None:
    for path in clips(data_folder):
        watch = CameraWatch(path.name, interval=1.0)
        with open_clip(path) as clip:
            for frame in clip:
                right, down = (5, 3) if frame.time > 2 else (0, 0)
                crop = frame.levels[
                    :, 16 + down : clip.height - 16 + down, 16 + right : clip.width - 16 + right
                ]
                watch.see(crop, float(frame.time))
                if frame.time > 5:
                    break
        assert len(watch.notes) == 1, path


def test_a_clip_that_a_car_fills(data_folder: Path) -> None:
    watch = CameraWatch("night.mp4")
    with open_clip(data_folder / "relit_highway" / "night.mp4") as clip:
        for frame in clip:
            watch.see(frame.levels, float(frame.time))
    assert watch.notes == []


def test_the_relit_highway_is_in_place(data_folder: Path) -> None:
    folder = data_folder / "relit_highway"
    with open_clip(folder / "night.mp4") as clip:
        first = night_view(frame.levels for frame in clip)
    aligned = check_alignment(read_still(folder / "day.png"), first)
    assert aligned.notes == ()
    assert aligned.shift is not None
    assert aligned.shift.known
