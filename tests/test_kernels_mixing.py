"""The CUDA kernel of mixed gradients against pixel-by-pixel float64 and against its CPU twin."""

import contextlib

import numpy
import oracles
import pytest
import tolerances

from gpufuse import gradients, mixing
from gpufuse.kernels_cuda import mixing as launcher

# A warp writes 30 columns, a block 120, a segment has 20 rows.
SMALL = [
    (1, 1, 1, 1), (2, 3, 1, 9), (1, 1, 8, 1), (1, 3, 2, 2), (2, 3, 5, 7), (1, 1, 20, 30), (1, 3, 21, 31),
    (1, 1, 3, 61),
]  # fmt: skip
LARGE = [(1, 1, 40, 120), (2, 3, 41, 121), (3, 3, 59, 127), (1, 1, 61, 251), (3, 1, 19, 29)]

FLOAT32_DIVERGENCE = 5 * tolerances.FLOAT32_LEVELS
"""Four gradients, each with its rounding; fused multiply-add rounds less often than the CPU."""

NEAR_TIE = 1e-5
"""Relative distance of two energies within which a dozen float32 roundings may choose otherwise."""


def whole_levels(rng, shape):
    """Whole numbers: float32 squares and sums are exact, so ties are decided alike everywhere."""
    return rng.integers(0, 256, shape).astype(numpy.float32)


def arguments(rng, shape, *, own_day=False, levels=whole_levels):
    """Day, night, importance and day_only; a third of the importance is exactly 0."""
    frames, channels, height, width = shape
    return (
        levels(rng, shape if own_day else (channels, height, width)),
        levels(rng, shape),
        rng.choice(numpy.float32([0, 0, 0.25, 0.5, 1]), (frames, height, width)),
        rng.random((frames, height, width)) < 0.3,
    )


def on_device(cp, day, night, importance, day_only=None, **options):
    """The public stage on the device, its result on the host."""
    given = [cp.asarray(a) for a in (day, night, importance)]
    if day_only is not None:
        options["day_only"] = cp.asarray(day_only)
    found = mixing.mixed_divergence(*given, **options)
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.float32
    assert found.shape == night.shape
    return cp.asnumpy(found)


LIFTED_DIVERGENCE = 4 * FLOAT32_DIVERGENCE
"""Levels of the lifted night are larger, and the gain comes from an approximate division (2^-21)."""


def exercise(cp):
    """Reach every line of the kernel: both numbers of channels, every option, idle warps of a block."""
    rng = numpy.random.default_rng(1)
    for shape in [(2, 1, 22, 40), (1, 3, 3, 5)]:
        day, night, importance, day_only = arguments(rng, shape)
        for lift, data_weight, floor in ((1.0, 0.0, 0.0), (2.0, 0.1, 50.0)):
            on_device(
                cp, day, night, importance, day_only, larger_where_zero=True, night_floor=floor, lift=lift,
                data_weight=data_weight, check_values=False,
            )  # fmt: skip


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("larger_where_zero", [False, True])
@pytest.mark.parametrize("with_day_only", [False, True])
@pytest.mark.parametrize("night_gain", [1.0, 2.0, 0.5])
def test_against_the_oracle(cp, rng, shape, larger_where_zero, with_day_only, night_gain):
    day, night, importance, day_only = arguments(rng, shape)
    options = {"larger_where_zero": larger_where_zero, "night_gain": night_gain}
    mask = day_only if with_day_only else None
    found = on_device(cp, day, night, importance, mask, **options)
    for t in range(shape[0]):
        field = oracles.mix(
            day, night[t], importance[t], day_only=day_only[t] if with_day_only else None, **options
        )
        numpy.testing.assert_allclose(found[t], oracles.divergence(*field), atol=FLOAT32_DIVERGENCE)


@pytest.mark.parametrize("shape", SMALL + LARGE)
@pytest.mark.parametrize("own_day", [False, True])
@pytest.mark.parametrize("larger_where_zero", [False, True])
def test_against_the_cpu(cp, rng, shape, own_day, larger_where_zero):
    given = arguments(rng, shape, own_day=own_day)
    options = {"larger_where_zero": larger_where_zero, "night_gain": 1.5}
    expected = mixing.mixed_divergence(*given[:3], day_only=given[3], **options)
    numpy.testing.assert_allclose(on_device(cp, *given, **options), expected, atol=FLOAT32_DIVERGENCE)
    expected = mixing.mixed_divergence(*given[:3], **options)
    numpy.testing.assert_allclose(on_device(cp, *given[:3], **options), expected, atol=FLOAT32_DIVERGENCE)


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize(("lift", "data_weight"), [(1.0, 0.05), (3.0, 0.0), (3.0, 0.05)])
@pytest.mark.parametrize("with_options", [False, True])
def test_lift_pull_and_floor_against_the_oracle(cp, rng, shape, lift, data_weight, with_options):
    day, night, importance, day_only = arguments(rng, shape)
    share = rng.random(importance.shape).astype(numpy.float32) if with_options else importance
    options = {"larger_where_zero": with_options, "night_gain": 1.5, "night_floor": 350.0, "lift": lift}
    found = on_device(
        cp, day, night, importance, day_only if with_options else None, data_weight=data_weight,
        target_share=cp.asarray(share) if with_options else None, **options,
    )  # fmt: skip
    for t in range(shape[0]):
        mask = day_only[t] if with_options else None
        field = oracles.mix(day, night[t], importance[t], day_only=mask, **options)
        expected = oracles.divergence(*field) - data_weight * oracles.blend(day, night[t], share[t])
        numpy.testing.assert_allclose(found[t], expected, atol=LIFTED_DIVERGENCE)


@pytest.mark.parametrize("shape", SMALL + LARGE)
@pytest.mark.parametrize(
    ("lift", "data_weight", "floor", "own_day"),
    [(1.0, 0.05, 0.0, True), (4.0, 0.0, 250.0, False), (4.0, 0.05, 0.0, True), (4.0, 0.05, 250.0, False)],
)
def test_lift_pull_and_floor_against_the_cpu(cp, rng, shape, own_day, lift, data_weight, floor):
    day, night, importance, day_only = arguments(rng, shape, own_day=own_day)
    share = rng.random(importance.shape).astype(numpy.float32)
    options = {
        "larger_where_zero": True, "night_floor": floor, "lift": lift, "data_weight": data_weight
    }  # fmt: skip
    expected = mixing.mixed_divergence(
        day, night, importance, day_only=day_only, target_share=share, **options
    )
    found = on_device(cp, day, night, importance, day_only, target_share=cp.asarray(share), **options)
    numpy.testing.assert_allclose(found, expected, atol=LIFTED_DIVERGENCE)


def test_a_lift_on_the_device_is_read_there(cp, rng):
    day, night, importance, _ = (cp.asarray(a) for a in arguments(rng, (2, 3, 23, 37)))
    expected = mixing.mixed_divergence(day, night, importance, lift=2.5)
    for lift in (cp.full((), 2.5, numpy.float32), cp.full((), 2.5, numpy.float64)):
        with getattr(cp, "no_transfers", contextlib.nullcontext)():  # the stand-in knows what would wait
            found = mixing.mixed_divergence(day, night, importance, lift=lift, check_values=False)
        numpy.testing.assert_array_equal(cp.asnumpy(found), cp.asnumpy(expected))
        field = mixing.mix_gradients(day, night, importance, lift=lift)
        for part, wanted in zip(field, mixing.mix_gradients(day, night, importance, lift=2.5), strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(part), cp.asnumpy(wanted))
    one = mixing.mixed_divergence(day, night, importance, lift=cp.ones((), numpy.float32))
    plain = mixing.mixed_divergence(day, night, importance)
    numpy.testing.assert_array_equal(cp.asnumpy(one), cp.asnumpy(plain))
    with pytest.raises(ValueError, match=r"lift: expected one number or an array of shape \(\), got \(2,\)"):
        mixing.mixed_divergence(day, night, importance, lift=cp.ones(2, numpy.float32))


def test_a_floor_on_the_device_is_read_there(cp, rng):
    given = tuple(cp.asarray(a) for a in arguments(rng, (2, 3, 23, 37))[:3])
    options = {"larger_where_zero": True, "check_values": False}
    expected = cp.asnumpy(mixing.mixed_divergence(*given, night_floor=250.0, **options))
    plain = cp.asnumpy(mixing.mixed_divergence(*given, **options))
    assert (expected != plain).any()
    for floor in (cp.full((), 250, numpy.float32), cp.full((), 250, numpy.float64)):
        with getattr(cp, "no_transfers", contextlib.nullcontext)():  # the stand-in knows what would wait
            found = mixing.mixed_divergence(*given, night_floor=floor, **options)
        numpy.testing.assert_array_equal(cp.asnumpy(found), expected)
        field = mixing.mix_gradients(*given, night_floor=floor, larger_where_zero=True)
        wanted = mixing.mix_gradients(*given, night_floor=250.0, larger_where_zero=True)
        for part, other in zip(field, wanted, strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(part), cp.asnumpy(other))
    zero = mixing.mixed_divergence(*given, night_floor=cp.zeros((), numpy.float32), **options)
    numpy.testing.assert_array_equal(cp.asnumpy(zero), plain)
    with pytest.raises(ValueError, match=r"night_floor: expected one number or an array of shape \(\)"):
        mixing.mixed_divergence(*given, night_floor=cp.ones(1, numpy.float32))


def test_a_night_below_the_floor_is_left_out(cp):
    day, night = numpy.float32([[[0, 1]]]), numpy.float32([[[[0, 20]]]])
    zero = numpy.zeros((1, 1, 2), numpy.float32)
    for gain, floor, expected in (
        (1.0, 19.9, 20), (1.0, 20.0, 1), (2.0, 21.0, 40), (2.0, 40.0, 1), (0.5, 10.0, 1)
    ):  # fmt: skip
        options = {"larger_where_zero": True, "night_gain": gain, "night_floor": floor}
        assert on_device(cp, day, night, zero, **options).tolist() == [[[[expected, -expected]]]]
        options["larger_where_zero"] = False
        assert on_device(cp, day, night, zero, **options).tolist() == [[[[1, -1]]]]


def test_levels_below_zero_gain_nothing(cp):
    night = numpy.float32([[[[-mixing.LIFT_SPAN, 0.0]]]])
    ones = numpy.ones((1, 1, 2), numpy.float32)
    assert on_device(cp, night[0] * 0, night, ones, lift=2.0)[0, 0, 0, 0] == mixing.LIFT_SPAN


def test_an_even_night_has_no_gradient_whatever_the_lift(cp):
    night = numpy.zeros((1, 3, 23, 37), numpy.float32) + numpy.float32([[[0.1]], [[17.3]], [[200.7]]])
    ones = numpy.ones((1, 23, 37), numpy.float32)
    assert not on_device(cp, night[0] * 0, night, ones, lift=3.3, night_gain=1.7).any()


def test_fractional_levels_but_for_ties(cp, rng):
    def fractional(rng, shape):
        return (255 * rng.random(shape)).astype(numpy.float32)

    day, night, importance, day_only = arguments(rng, (2, 3, 43, 67), levels=fractional)
    options = {"larger_where_zero": True, "night_gain": 1.1}
    expected = mixing.mixed_divergence(day, night, importance, day_only=day_only, **options)
    found = on_device(cp, day, night, importance, day_only, **options)

    gain = numpy.float64(numpy.float32(1.1))
    energy_of_day = gradients.squared_magnitude(*gradients.gradient(day.astype(float)))
    energy_of_night = gain**2 * gradients.squared_magnitude(*gradients.gradient(night.astype(float)))
    near = abs(energy_of_night - energy_of_day) <= NEAR_TIE * energy_of_day
    near[:, -1, -1] = False  # no gradient at all: the choice does not matter
    near[:, 1:] |= near[:, :-1].copy()  # the choice of a pixel is seen below it and to its right
    near[:, :, 1:] |= near[:, :, :-1].copy()
    assert near.mean() < 0.01
    different = abs(found - expected).max(axis=1) > FLOAT32_DIVERGENCE
    assert not (different & ~near).any()


@pytest.mark.parametrize("larger_where_zero", [False, True])
def test_equal_gradients_are_taken_from_the_day(cp, larger_where_zero):
    day, night = numpy.float32([[[[0, 5]]]]), numpy.float32([[[[9, 4]]]])
    zero = numpy.zeros((1, 1, 2), numpy.float32)
    found = on_device(cp, day[0], night, zero, larger_where_zero=larger_where_zero)
    assert found.tolist() == [[[[5, -5]]]]


def test_only_an_importance_of_exactly_zero_chooses(cp):
    day, night = numpy.float32([[[0, 1]]]), numpy.float32([[[[0, 100]]]])
    for w, expected in ((0.0, 100), (-0.0, 100), (1e-6, 1 + 99e-6), (1e-40, 1)):
        share = numpy.full((1, 1, 2), w, numpy.float32)
        found = on_device(cp, day, night, share, larger_where_zero=True)
        assert found[0, 0, 0, 0] == pytest.approx(expected, abs=1e-5)


def test_the_choice_is_one_for_all_channels(cp, rng):
    # Red speaks for the day, green for the night, and the night is larger in sum.
    day, night = numpy.zeros((3, 1, 2), numpy.float32), numpy.zeros((1, 3, 1, 2), numpy.float32)
    day[0, 0, 1], night[0, 1, 0, 1] = 20, 30
    found = on_device(cp, day, night, numpy.zeros((1, 1, 2), numpy.float32), larger_where_zero=True)
    assert found[0, :, 0, 0].tolist() == [0, 30, 0]


@pytest.mark.parametrize("lift", [1.0, 3.0])
def test_each_plane_sums_to_zero(cp, rng, lift):
    given = arguments(rng, (2, 3, 43, 131))
    found = on_device(cp, *given, larger_where_zero=True, lift=lift)
    assert abs(found.sum(axis=(2, 3), dtype=float)).max() < 1e-2


def test_bits_do_not_depend_on_the_other_frames(cp, rng):
    day, night, importance, day_only = arguments(rng, (5, 3, 23, 37))
    day += numpy.float32(0.1)
    night *= numpy.float32(0.3)
    whole = on_device(cp, day, night, importance, day_only, larger_where_zero=True)
    for start, stop in ((0, 1), (1, 2), (1, 4), (4, 5)):
        part = [a[start:stop] for a in (night, importance, day_only)]
        numpy.testing.assert_array_equal(on_device(cp, day, *part, larger_where_zero=True), whole[start:stop])
    days = numpy.repeat(day[None], 5, axis=0)
    numpy.testing.assert_array_equal(
        on_device(cp, days, night, importance, day_only, larger_where_zero=True), whole
    )


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_bits_do_not_depend_on_segments(cp, rng, monkeypatch, rows):
    given = arguments(rng, (1, 3, 43, 37), levels=lambda rng, shape: rng.random(shape, numpy.float32))
    for options in ({}, {"lift": 3.0, "data_weight": 0.1, "night_floor": 0.5}):
        monkeypatch.undo()
        expected = on_device(cp, *given, larger_where_zero=True, **options)
        monkeypatch.setattr(launcher, "_ROWS", rows)
        numpy.testing.assert_array_equal(on_device(cp, *given, larger_where_zero=True, **options), expected)


@pytest.mark.parametrize("leading", [(), (2, 3)])
@pytest.mark.parametrize("own_day", [False, True])
def test_leading_axes(cp, rng, leading, own_day):
    night = whole_levels(rng, (*leading, 3, 7, 9))
    day = whole_levels(rng, night.shape if own_day else (3, 7, 9))
    w = rng.random((*leading, 7, 9)).astype(numpy.float32)
    expected = mixing.mixed_divergence(day, night, w)
    numpy.testing.assert_allclose(on_device(cp, day, night, w), expected, atol=FLOAT32_DIVERGENCE)


def test_pictures_without_channels_and_other_numbers_of_channels(cp, rng):
    w = rng.random((7, 9)).astype(numpy.float32)
    for shape in [(7, 9), (2, 7, 9), (4, 7, 9)]:
        day, night = whole_levels(rng, (2, *shape))
        for options in ({}, {"lift": 2.0, "data_weight": 0.1}, {"lift": 2.0}):
            expected = mixing.mixed_divergence(day, night, w, **options)
            found = on_device(cp, day, night, w, **options)
            numpy.testing.assert_allclose(found, expected, atol=LIFTED_DIVERGENCE)
            if "lift" in options:
                options["lift"] = cp.full((), 2.0, numpy.float32)
                numpy.testing.assert_array_equal(on_device(cp, day, night, w, **options), found)


def test_no_frames(cp):
    night, w = numpy.empty((0, 3, 7, 9), numpy.float32), numpy.empty((0, 7, 9), numpy.float32)
    assert on_device(cp, numpy.zeros((3, 7, 9), numpy.float32), night, w).shape == night.shape


def test_any_layout_and_no_write_into_the_arguments(cp, rng):
    day, night, importance, day_only = (cp.asarray(a) for a in arguments(rng, (2, 3, 7, 9)))
    expected = cp.asnumpy(mixing.mixed_divergence(day, night, importance, day_only=day_only))
    kept = [cp.asnumpy(a) for a in (day, night, importance, day_only)]
    for convert in (cp.asfortranarray, lambda a: a.astype(float), lambda a: a[..., ::-1].copy()[..., ::-1]):
        given = [convert(a) for a in (day, night, importance)]
        found = mixing.mixed_divergence(*given, day_only=cp.asfortranarray(day_only))
        numpy.testing.assert_array_equal(cp.asnumpy(found), expected)
        for array, before in zip((*given, day_only), kept, strict=True):
            numpy.testing.assert_array_equal(cp.asnumpy(array), before)


def test_values_are_looked_at_only_if_asked(cp):
    levels, w = cp.zeros((1, 3, 4, 5), numpy.float32), cp.zeros((1, 4, 5), numpy.float32)
    broken = levels.copy()
    broken[0, 0, 1, 2] = numpy.nan
    with pytest.raises(ValueError, match="night: expected finite grey levels"):
        mixing.mixed_divergence(levels[0], broken, w)
    # The stand-in knows what would wait.
    with getattr(cp, "no_transfers", contextlib.nullcontext)():
        found = mixing.mixed_divergence(levels[0], broken, w, check_values=False)
    assert found.shape == broken.shape
    with pytest.raises(ValueError, match="expected shapes"):
        mixing.mixed_divergence(levels[0], broken, w[:, :3], check_values=False)


def test_arrays_of_two_devices(cp):
    levels, w = cp.zeros((3, 4, 5), numpy.float32), cp.zeros((4, 5), numpy.float32)
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        mixing.mixed_divergence(levels, levels, numpy.zeros((4, 5), numpy.float32))
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        mixing.mixed_divergence(levels, levels, w, day_only=numpy.zeros((4, 5), bool))
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        mixing.mixed_divergence(levels, levels, w, target_share=numpy.zeros((4, 5), numpy.float32))
    host = numpy.zeros((4, 5), numpy.float32)
    for name in ("lift", "night_floor"):
        with pytest.raises(TypeError, match=f"{name}: expected a number"):
            mixing.mixed_divergence(host, host, host, **{name: cp.ones((), numpy.float32)})
