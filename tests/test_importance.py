"""Importance: where the night is kept."""

import numpy
import oracles
import pytest
import tolerances

from gpufuse import importance


def levels(*shape, value=0.0):
    return numpy.full(shape, value, numpy.float32)


# Static pair


@pytest.mark.parametrize("feather", [0, 0.7, 1.5, 3])
@pytest.mark.parametrize(("gradient_threshold", "intensity_threshold"), [(20, 200), (60, 120), (300, 256)])
def test_static_against_the_oracle(scene, feather, gradient_threshold, intensity_threshold):
    options = {
        "gradient_threshold": gradient_threshold,
        "intensity_threshold": intensity_threshold,
        "feather": feather,
    }
    found = importance.static_importance(scene.day, scene.night[20], **options)
    expected = oracles.static_importance(scene.day, scene.night[20], **options)
    assert found.dtype == numpy.float32
    numpy.testing.assert_allclose(found, expected, atol=tolerances.GAUSSIAN)


def lamp(size=41, radius=2, brightness=250):
    y, x = numpy.mgrid[:size, :size] - size // 2
    night = levels(1, size, size, value=5)
    night[0, abs(y) + abs(x) <= radius] = brightness
    return night


def test_static_falls_smoothly_from_one_to_exactly_zero():
    night = lamp()
    w = importance.static_importance(night * 0, night)
    assert (w[18:23, 20] == 1).all()
    profile = w[20, 20:]
    assert (numpy.diff(profile) <= 0).all()
    assert numpy.diff(profile).min() > -0.5, "no jump"
    assert (w[:8] == 0).all()
    assert 0 < (w > 0).mean() < 0.4


@pytest.mark.parametrize(("brightness", "expected"), [(199, 0), (200, 1)])
def test_static_brightness_threshold(brightness, expected):
    night = levels(3, 9, 9)
    night[1] = brightness  # one channel is enough; flat: no gradient anywhere
    w = importance.static_importance(night * 0, night, feather=0)
    assert (w == expected).all()


@pytest.mark.parametrize(("day_step", "expected"), [(0, 1), (79, 1), (80, 0), (120, 0)])
def test_static_edges_need_to_be_stronger_than_the_day(day_step, expected):
    night, day = levels(1, 12, 12), levels(1, 12, 12)
    night[..., 6:], day[..., 6:] = 80, day_step
    w = importance.static_importance(day, night, gradient_threshold=50, feather=0)
    assert (w[:, 5] == expected).all()
    assert (numpy.delete(w, 5, axis=1) == 0).all()


@pytest.mark.parametrize(("step", "expected"), [(49, 0), (50, 1)])
def test_static_gradient_threshold(step, expected):
    night = levels(1, 12, 12)
    night[..., 6:] = step
    assert importance.static_importance(night * 0, night, feather=0)[3, 5] == expected


def test_static_magnitude_is_joint():
    night = levels(3, 12, 12)
    night[..., 6:] = 30  # 30 in each channel: 52 together
    assert importance.static_importance(night * 0, night, feather=0)[3, 5] == 1
    assert importance.static_importance(night[:1] * 0, night[:1], feather=0)[3, 5] == 0


@pytest.mark.parametrize("sigma", [2.0, 6.0, 12.0])
def test_static_noise_does_not_fire(rng, sigma):
    day = levels(3, 90, 120, value=120)
    night = numpy.clip(40 + rng.normal(0, sigma, (3, 90, 120)), 0, 255).astype(numpy.float32)
    w = importance.static_importance(day, night)
    assert (w > 0).mean() < 0.002


def test_static_specks_do_not_count():
    night = levels(1, 20, 20)
    night[0, 8, 8] = 60  # 85 in one pixel, 60 in two: with a threshold of 70 one pixel alone is an edge
    assert importance.static_importance(night * 0, night, gradient_threshold=70).max() == 0
    assert importance.static_importance(night * 0, night, gradient_threshold=50).max() == 1


def test_static_noise_against_the_oracle(rng):
    day, night = rng.integers(0, 60, (2, 3, 40, 50)).astype(numpy.float32)
    found = importance.static_importance(day, night, gradient_threshold=65, feather=0)
    expected = oracles.static_importance(day, night, 65, 200, 0)
    assert 0.02 < expected.mean() < 0.6
    numpy.testing.assert_array_equal(found, expected)


def test_static_black_night():
    day = levels(3, 8, 9, value=100)
    assert importance.static_importance(day, day * 0).max() == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 9), (1, 7, 1)])
def test_static_small_pictures(shape):
    w = importance.static_importance(levels(*shape), levels(*shape, value=255))
    assert w.shape == shape[1:]
    assert (w == 1).all()


def test_static_leading_axes(scene):
    day = numpy.repeat(scene.day[None], 3, axis=0)
    together = importance.static_importance(day, scene.night[:3], gradient_threshold=60.0)
    for one, night in zip(together, scene.night, strict=False):
        alone = importance.static_importance(scene.day, night, gradient_threshold=60.0)
        numpy.testing.assert_allclose(one, alone, atol=tolerances.GAUSSIAN)


# Dynamic scene


@pytest.mark.parametrize(
    ("change", "expected"), [(0, 0), (12, 0), (18, 0.25), (24, 0.5), (36, 1), (200, 1), (-24, 0.5)]
)
def test_dynamic_ramp(change, expected):
    reference = levels(3, 12, 12, value=210)
    night = reference.copy()
    night[1] += change - 160 * (change > 45)  # in one channel, either way
    w = importance.dynamic_importance(night, reference, feather=0)
    assert w.shape == (12, 12)
    numpy.testing.assert_allclose(w, expected, atol=1e-6)


@pytest.mark.parametrize("threshold", [5.0, 30.0])
@pytest.mark.parametrize("span", [1.0, 50.0])
def test_dynamic_options(threshold, span):
    reference = levels(1, 12, 12)
    for change in (0.0, threshold, threshold + span / 2, threshold + span, 250.0):
        w = importance.dynamic_importance(
            reference + numpy.float32(change), reference, threshold=threshold, span=span, feather=0
        )
        numpy.testing.assert_allclose(w, numpy.clip((change - threshold) / span, 0, 1), atol=1e-6)


def test_dynamic_specks_vanish_holes_close_and_far_is_zero():
    reference = levels(1, 40, 40)
    night = reference.copy()
    night[0, 20:32, 20:32] = 100
    night[0, 25, 25] = 0  # a hole
    night[0, 5, 5] = 100  # a speck
    w = importance.dynamic_importance(night, reference, smoothing=0)
    assert w[5, 5] == 0
    assert w[25, 25] >= 0.5
    assert (w[20:32, 20:32].ravel() >= 0.5).all()
    assert (w[:11] == 0).all()
    assert 0 < w[18, 25] < 1, "a soft border"


def test_dynamic_without_change(scene):
    assert importance.dynamic_importance(scene.night[0], scene.night[0]).max() == 0


# Motion


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("threshold", [4.0, 20.0])
def test_motion_against_the_oracle(scene, count, threshold):
    found = importance.motion_masks(scene.night[:count], threshold=threshold)
    assert found.dtype == bool
    numpy.testing.assert_array_equal(found, oracles.motion_masks(scene.night[:count], threshold))


def test_motion_is_strictly_above_the_threshold():
    frames = numpy.repeat(levels(1, 1, 6, 6), 2, axis=0)
    frames[1] = 7
    assert importance.motion_masks(frames, threshold=6.99).all()
    assert not importance.motion_masks(frames, threshold=7).any()


def test_motion_of_the_first_frame_is_that_of_the_second(scene):
    masks = importance.motion_masks(scene.night)
    assert masks.any()
    numpy.testing.assert_array_equal(masks[0], masks[1])


def test_motion_of_one_frame_or_none():
    assert not importance.motion_masks(levels(1, 3, 4, 5, value=200)).any()
    assert importance.motion_masks(levels(0, 3, 4, 5)).shape == (0, 4, 5)


@pytest.mark.parametrize("start", [1, 2, 5])
def test_changes_of_a_piece(scene, start):
    whole = importance.motion_changes(scene.night[:8])
    numpy.testing.assert_array_equal(whole, oracles.changes(scene.night[:8]))
    numpy.testing.assert_array_equal(importance.motion_changes(scene.night[:8], start), whole[start:])


@pytest.mark.parametrize("motion_from", ["intensity", "gradient"])
def test_cleaned_motion_of_pieces(scene, motion_from):
    options = {"threshold": 6.0, "motion_from": motion_from}
    whole = importance.motion_masks(scene.night[:7], **options)
    for start in range(7):
        for stop in range(start, 8):
            first, last = max(0, start - 1), max(stop, 2)
            piece = numpy.ascontiguousarray(scene.night[first:last])
            # The frame before is at hand, so only the start of the clip is a start of the piece.
            found = importance.cleaned_motion(piece, start - first, stop - first, **options)
            assert found.dtype == bool
            numpy.testing.assert_array_equal(found, whole[start:stop])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (31, 64), (33, 65), (97, 130)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_cleaned_motion_against_the_oracle(rng, threads, size, channels):
    frames = rng.normal(60, 1, (4, channels, *size)).astype(numpy.float32)
    frames += 40 * (rng.random((4, 1, *size)) < 0.35).astype(numpy.float32)
    expected = oracles.motion_masks(frames, 9.0)
    for count in (1, 2, 5):
        threads(count)
        numpy.testing.assert_array_equal(importance.cleaned_motion(frames, 0, 4, 9.0), expected)
        numpy.testing.assert_array_equal(importance.cleaned_motion(list(frames), 0, 4, 9.0), expected)
        numpy.testing.assert_array_equal(importance.cleaned_motion(list(frames[1:]), 1, 3, 9.0), expected[2:])


@pytest.mark.parametrize("motion_from", ["intensity", "gradient"])
def test_cleaned_motion_of_a_list(scene, motion_from):
    frames, options = scene.night[:6], {"threshold": 5.0, "motion_from": motion_from}
    expected = importance.cleaned_motion(frames, 0, len(frames), **options)
    assert expected.any()
    numpy.testing.assert_array_equal(
        importance.cleaned_motion(list(frames), 0, len(frames), **options), expected
    )
    alone = importance.cleaned_motion(list(frames[:1]), 0, 1, **options)
    assert alone.shape == expected[:1].shape
    assert not alone.any()


def test_cleaned_motion_leaves_read_only_frames_alone(rng):
    frames = rng.normal(60, 9, (3, 3, 12, 17)).astype(numpy.float32)
    expected = importance.cleaned_motion(frames, 0, 3, 9.0)
    frames.flags.writeable = False
    numpy.testing.assert_array_equal(importance.cleaned_motion(frames, 0, 3, 9.0), expected)


def test_cleaned_motion_of_one_frame():
    frames = levels(1, 3, 4, 5, value=200)
    found = importance.cleaned_motion(frames, 0, 1, 1.0)
    assert found.shape == (1, 4, 5)
    assert not found.any()


def test_gradient_motion_is_blind_to_light():
    y = numpy.arange(12, dtype=numpy.float32)[:, None] * numpy.ones(12, numpy.float32)
    frames = numpy.stack([y, y + 40])[:, None]
    assert importance.motion_masks(frames, threshold=5).all()
    assert not importance.motion_masks(frames, threshold=5, motion_from="gradient").any()


def test_gradient_motion_sees_new_edges():
    frames = levels(2, 3, 16, 16)
    frames[1, 1, 4:12, 4:12] = 90
    masks = importance.motion_masks(frames, threshold=5, motion_from="gradient", clean=False)
    expected = numpy.zeros((16, 16), bool)
    expected[4:12, [3, 11]] = expected[[3, 11], 4:12] = True
    numpy.testing.assert_array_equal(masks[1], expected)


@pytest.mark.parametrize("noise", [0.1, 1.0, 4.0, 9.0])
def test_motion_threshold_follows_the_noise(rng, noise):
    frames = (60 + rng.normal(0, noise, (9, 1, 60, 80))).astype(numpy.float32)
    changes = importance.motion_changes(frames)
    # Half of the differences of two equal normal variables stay below 0.674 * sqrt(2) sigma.
    expected = max(1.5, 4 * 0.674 * 2**0.5 * noise)
    assert importance.motion_threshold(changes) == pytest.approx(expected, rel=0.1)
    assert importance.motion_threshold(changes) == pytest.approx(oracles.noise_threshold(changes), abs=1e-4)
    assert importance.motion_masks(frames).mean() < 0.01


def test_repeated_frames_do_not_hide_the_noise(rng):
    noisy = (60 + rng.normal(0, 5, (4, 1, 30, 40))).astype(numpy.float32)
    frames = noisy.repeat(3, axis=0)  # as a codec does with blocks that it skips
    assert importance.motion_threshold(importance.motion_changes(frames)) > 15


def test_without_change_there_is_no_noise():
    assert importance.motion_noise(levels(3, 4, 5)) == 0
    assert importance.motion_threshold(levels(3, 4, 5)) == 1.5


def test_default_threshold_is_the_measured_one(scene):
    changes = importance.motion_changes(scene.night)
    expected = importance.motion_masks(scene.night, threshold=importance.motion_threshold(changes))
    numpy.testing.assert_array_equal(importance.motion_masks(scene.night), expected)


def test_cleaning_against_the_oracle(rng):
    for density in (0.1, 0.4, 0.7):
        masks = rng.random((3, 21, 34)) < density
        expected = [oracles.clean(mask) for mask in masks]
        numpy.testing.assert_array_equal(importance.clean_masks(masks), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
@pytest.mark.parametrize("value", [False, True])
def test_cleaning_keeps_what_is_all_alike(shape, value):
    assert (importance.clean_masks(numpy.full(shape, value)) == value).all()


# Temporal mean


@pytest.mark.parametrize("c", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("count", [1, 2, 3, 11, 30])
def test_temporal_mean_against_the_oracle(rng, c, count):
    masks = rng.random((count, 4, 5)) < 0.4
    found = importance.temporal_mean(masks, c)
    assert found.dtype == numpy.float32
    numpy.testing.assert_allclose(found, oracles.temporal_mean(masks, c), rtol=1e-6)
    assert ((found == 0) == (oracles.temporal_mean(masks, c) == 0)).all(), "exact zeros decide"


def test_temporal_mean_of_pieces(rng):
    masks = rng.random((23, 3, 4)) < 0.5
    whole = importance.temporal_mean(masks, 4)
    for start in range(23):
        for stop in (start + 1, min(start + 7, 23), 23):
            low, high = max(0, start - 4), min(23, stop + 4)
            found = importance.temporal_mean(masks[low:high], 4, start - low, stop - low)
            numpy.testing.assert_array_equal(found, whole[start:stop])


def test_temporal_mean_of_a_list(rng):
    masks = rng.random((9, 5, 7)) < 0.4
    expected = importance.temporal_mean(masks, 2, 3, 6)
    numpy.testing.assert_array_equal(importance.temporal_mean(list(masks), 2, 3, 6), expected)


def test_the_body_between_the_lamps_stays_important():
    masks = numpy.zeros((20, 1, 1), bool)
    masks[[4, 12]] = True  # head-lights, tail-lights
    w = importance.temporal_mean(masks, 5).ravel()
    assert (w[4:13] > 0).all()
    assert w[18] == 0


# Lamps that move


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 17), (1, 1, 13, 1), (3, 3, 31, 37), (1, 2, 64, 8)])
@pytest.mark.parametrize("threshold", [200.0, 133.7, 0.5])
def test_lamps_against_the_oracle(rng, shape, threshold):
    frames = rng.uniform(-9, 270, shape).astype(numpy.float32)
    weights = rng.choice(numpy.float32([0, 0, 1e-6, 0.25, 0.7, 1]), (shape[0], *shape[2:]))
    kept, share = importance.keep_lamps(weights, frames, threshold=threshold)
    assert kept.dtype == share.dtype == numpy.float32
    for t in range(shape[0]):
        expected = oracles.keep_lamps(weights[t], frames[t].astype(float), threshold)
        numpy.testing.assert_allclose((kept[t], share[t]), expected, atol=1e-6)


def test_lamps_begin_at_half_of_the_threshold_and_are_whole_at_it():
    night = numpy.float32([[[99, 100, 150, 200, 201, 255]]])
    kept, share = importance.keep_lamps(numpy.full((1, 6), 0.25, numpy.float32), night, threshold=200)
    assert kept.tolist() == [[0.25, 0.25, 0.5, 1, 1, 1]]
    assert share.tolist() == [[0, 0, 0.25, 1, 1, 1]]
    kept, share = importance.keep_lamps(numpy.full((1, 6), 0.25, numpy.float32), night, threshold=200, gain=3)
    assert kept.tolist() == [[0.75, 0.75, 0.75, 1, 1, 1]]
    assert share.tolist() == [[0, 0, 0.375, 1, 1, 1]]


def test_lamps_that_do_not_move_are_left_alone():
    kept, share = importance.keep_lamps(levels(2, 3, value=0.0), levels(3, 2, 3, value=255))
    assert not kept.any()
    assert not share.any()


def test_one_bright_channel_is_a_lamp():
    night = levels(3, 1, 1)
    night[0] = 255
    assert importance.keep_lamps(levels(1, 1, value=0.1), night)[0] == 1


def test_an_infinite_threshold_keeps_no_lamps(rng):
    weights, night = rng.random((4, 5)).astype(numpy.float32), levels(3, 4, 5, value=255)
    kept, share = importance.keep_lamps(weights, night, threshold=numpy.inf)
    numpy.testing.assert_array_equal(kept, weights)
    assert not share.any()


@pytest.mark.parametrize("leading", [(), (4,), (2, 0), (2, 3)])
def test_lamps_in_leading_axes_any_layout_and_no_write_into_the_arguments(rng, leading):
    frames = rng.uniform(0, 255, (*leading, 3, 5, 7)).astype(numpy.float32)
    weights = rng.random((*leading, 5, 7)).astype(numpy.float32)
    expected = importance.keep_lamps(weights, frames)
    for convert in (numpy.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(float)):
        given = [convert(a) for a in (weights, frames)]
        for array in given:
            array.flags.writeable = False
        for part, wanted in zip(importance.keep_lamps(*given), expected, strict=True):
            assert part.shape == weights.shape
            assert not any(numpy.shares_memory(part, array) for array in given)
            numpy.testing.assert_array_equal(part, wanted)
        for array, kept in zip(given, (weights, frames), strict=True):
            numpy.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_lamps_do_not_depend_on_threads(rng, threads, count):
    frames = rng.uniform(0, 255, (3, 3, 67, 41)).astype(numpy.float32)
    weights = rng.random((3, 67, 41)).astype(numpy.float32)
    threads(1)
    expected = importance.keep_lamps(weights, frames)
    threads(count)
    numpy.testing.assert_array_equal(importance.keep_lamps(weights, frames), expected)


# Errors


@pytest.mark.parametrize("threshold", [0, -1, numpy.nan])
def test_lamp_threshold(threshold):
    with pytest.raises(
        ValueError,
        match=f"threshold: expected a number of grey levels above 0, got {threshold}; inf switches",
    ):
        importance.keep_lamps(levels(2, 2), levels(3, 2, 2), threshold=threshold)


@pytest.mark.parametrize("gain", [-1, numpy.nan, numpy.inf])
def test_gain_on_importance(gain):
    with pytest.raises(
        ValueError, match=f"gain: expected a finite number from 0, got {gain}; 1 changes nothing"
    ):
        importance.keep_lamps(levels(2, 2), levels(3, 2, 2), gain=gain)


def test_lamp_shapes():
    for weights, frames in [
        (levels(2, 2), levels(2, 2)),
        (levels(2, 2), levels(3, 2, 3)),
        (levels(2, 2), levels(1, 3, 2, 2)),
        (levels(4, 2, 2), levels(5, 3, 2, 2)),
        (levels(4, 2, 2), levels(4, 0, 2, 2)),
    ]:
        with pytest.raises(ValueError, match=r"weights, frames: expected shapes .*; give the frames that"):
            importance.keep_lamps(weights, frames)
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        importance.keep_lamps([[0]], levels(3, 1, 1))


@pytest.mark.parametrize("name", ["feather"])
@pytest.mark.parametrize("value", [-1, numpy.nan])
def test_static_parameters(name, value):
    with pytest.raises(
        ValueError, match=f"{name}: expected a number of pixels from 0, got {value}; 0 switches"
    ):
        importance.static_importance(levels(1, 2, 2), levels(1, 2, 2), **{name: value})


@pytest.mark.parametrize("name", ["feather", "smoothing"])
def test_dynamic_parameters(name):
    with pytest.raises(ValueError, match=f"{name}: expected a number of pixels from 0, got -0.5"):
        importance.dynamic_importance(levels(1, 2, 2), levels(1, 2, 2), **{name: -0.5})


@pytest.mark.parametrize("span", [0, -3, numpy.nan])
def test_dynamic_span(span):
    with pytest.raises(ValueError, match=f"span: expected a positive number of grey levels, got {span}; the"):
        importance.dynamic_importance(levels(1, 2, 2), levels(1, 2, 2), span=span)


@pytest.mark.parametrize("function", [importance.static_importance, importance.dynamic_importance])
def test_pictures_of_two_sizes(function):
    with pytest.raises(ValueError, match=r"expected shape \(1, 2, 3\), got \(1, 3, 2\); bring both"):
        function(levels(1, 2, 3), levels(1, 3, 2))


@pytest.mark.parametrize("function", [importance.static_importance, importance.dynamic_importance])
def test_pictures_that_are_not_finite(function):
    good, bad = levels(1, 2, 3), levels(1, 2, 3, value=numpy.nan)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="expected finite grey levels"):
            function(*pair)
    with pytest.raises(TypeError, match="got list"):
        function(good, [[1]])


@pytest.mark.parametrize("c", [-1, 1.5])
def test_temporal_extent(c):
    with pytest.raises(
        ValueError, match=f"c: expected a whole number of frames from 0, got {c}; the default is 5"
    ):
        importance.temporal_mean(numpy.zeros((2, 1, 1), bool), c)


def test_motion_arguments():
    with pytest.raises(
        ValueError, match="motion_from: expected 'intensity' or 'gradient', got 'flow'; choose"
    ):
        importance.motion_masks(levels(2, 1, 2, 2), motion_from="flow")
    with pytest.raises(ValueError, match=r"frames: expected shape \(T, C, H, W\), got \(2, 2\)"):
        importance.motion_masks(levels(2, 2))
