"""Mixed gradients against pixel-by-pixel float64."""

import itertools

import numpy
import oracles
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse import gradients, mixing

SHAPES = [(3, 13, 17), (1, 1, 1), (3, 1, 9), (1, 8, 1), (2, 2, 2)]

LIFTED_LEVELS = 4 * tolerances.FLOAT32_LEVELS
"""Levels of the lifted night are larger: by less than (lift - 1) * 30 before the gain."""


def expected_rhs(day, night, w, target_share=None, data_weight=0.0, **options):
    share = w if target_share is None else target_share
    return oracles.divergence(*oracles.mix(day, night, w, **options)) - data_weight * oracles.blend(
        day, night, share
    )


def whole_levels(rng, shape):
    """Whole numbers: float32 squares and sums are exact, so ties are decided alike everywhere."""
    return rng.integers(0, 256, shape).astype(numpy.float32)


def some_importance(rng, shape):
    return rng.choice(numpy.float32([0, 0, 0.25, 0.5, 1]), shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("larger_where_zero", [False, True])
@pytest.mark.parametrize("night_gain", [1.0, 2.0, 0.5, 0.0])
@pytest.mark.parametrize("with_day_only", [False, True])
def test_against_the_oracle(rng, shape, larger_where_zero, night_gain, with_day_only):
    day, night = whole_levels(rng, shape), whole_levels(rng, shape)
    w = some_importance(rng, shape[-2:])
    options = {"larger_where_zero": larger_where_zero, "night_gain": night_gain}
    if with_day_only:
        options["day_only"] = rng.random(shape[-2:]) < 0.3
    expected = oracles.mix(day, night, w, **options)
    found = mixing.mix_gradients(day, night, w, **options)
    numpy.testing.assert_allclose(found, expected, atol=tolerances.FLOAT32_LEVELS)
    assert found[0].dtype == numpy.float32
    rhs = mixing.mixed_divergence(day, night, w, **options)
    assert rhs.dtype == numpy.float32
    assert rhs.shape == shape
    numpy.testing.assert_allclose(rhs, oracles.divergence(*expected), atol=5 * tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("larger_where_zero", [False, True])
@pytest.mark.parametrize("lift", [1.0, 4.0])
@pytest.mark.parametrize("data_weight", [0.0, 0.05])
@pytest.mark.parametrize("share", ["given", "importance"])
@pytest.mark.parametrize("with_day_only", [False, True])
def test_lift_pull_and_floor_against_the_oracle(
    rng, shape, larger_where_zero, lift, data_weight, share, with_day_only
):
    day, night = whole_levels(rng, shape), whole_levels(rng, shape)
    w = some_importance(rng, shape[-2:])
    options = {"larger_where_zero": larger_where_zero, "night_gain": 1.5, "night_floor": 350.0, "lift": lift}
    if with_day_only:
        options["day_only"] = rng.random(shape[-2:]) < 0.3
    field = mixing.mix_gradients(day, night, w, **options)
    numpy.testing.assert_allclose(field, oracles.mix(day, night, w, **options), atol=LIFTED_LEVELS)
    options["data_weight"] = data_weight
    if share == "given":
        options["target_share"] = rng.random(shape[-2:]).astype(numpy.float32)
    rhs = mixing.mixed_divergence(day, night, w, **options)
    assert rhs.dtype == numpy.float32
    expected = expected_rhs(day, night, w, **options)
    numpy.testing.assert_allclose(rhs, expected, atol=5 * LIFTED_LEVELS)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    channels=st.integers(1, 4), height=st.integers(1, 9), width=st.integers(1, 9),
    larger=st.booleans(), gain=st.sampled_from([0.0, 0.5, 1.0, 3.0]), seed=st.integers(0, 999),
)  # fmt: skip
def test_divergence_is_that_of_the_mixed_gradients(channels, height, width, larger, gain, seed):
    rng = numpy.random.default_rng(seed)
    day, night = whole_levels(rng, (2, channels, height, width))
    w = some_importance(rng, (height, width))
    options = {"larger_where_zero": larger, "night_gain": gain, "day_only": rng.random((height, width)) < 0.2}
    expected = gradients.divergence(*mixing.mix_gradients(day, night, w, **options))
    found = mixing.mixed_divergence(day, night, w, **options)
    numpy.testing.assert_allclose(found, expected, atol=5 * tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("larger_where_zero", [False, True])
def test_importance_one_is_the_night(rng, larger_where_zero):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    ones = numpy.ones((9, 11), numpy.float32)
    found = mixing.mix_gradients(day, night, ones, larger_where_zero=larger_where_zero)
    numpy.testing.assert_array_equal(found, gradients.gradient(night))


def test_importance_zero_is_the_day(rng):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    found = mixing.mix_gradients(day, night, numpy.zeros((9, 11), numpy.float32))
    numpy.testing.assert_array_equal(found, gradients.gradient(day))


def test_the_choice_is_one_for_all_channels(rng):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    gx, gy = mixing.mix_gradients(day, night, numpy.zeros((9, 11), numpy.float32), larger_where_zero=True)
    (dx, dy), (nx, ny) = gradients.gradient(day), gradients.gradient(night)
    is_day = ((gx == dx) & (gy == dy)).all(axis=0)
    is_night = ((gx == nx) & (gy == ny)).all(axis=0)
    assert (is_day | is_night).all()
    assert is_day.any()
    assert is_night.any()
    stronger = gradients.squared_magnitude(nx, ny) > gradients.squared_magnitude(dx, dy)
    numpy.testing.assert_array_equal(is_night[stronger], True)
    numpy.testing.assert_array_equal(is_day[~stronger], True)


def test_equal_gradients_are_taken_from_the_day():
    day, night = numpy.float32([[[0, 5]]]), numpy.float32([[[9, 4]]])
    gx, _ = mixing.mix_gradients(day, night, numpy.zeros((1, 2), numpy.float32), larger_where_zero=True)
    assert gx[0, 0, 0] == 5
    rhs = mixing.mixed_divergence(day, night, numpy.zeros((1, 2), numpy.float32), larger_where_zero=True)
    assert rhs.tolist() == [[[5, -5]]]


def test_only_an_importance_of_exactly_zero_chooses():
    day, night = numpy.float32([[[0, 1]]]), numpy.float32([[[0, 100]]])
    for w, expected in ((0.0, 100), (1e-6, 1 + 99e-6)):
        share = numpy.full((1, 2), w, numpy.float32)
        gx, _ = mixing.mix_gradients(day, night, share, larger_where_zero=True)
        assert gx[0, 0, 0] == pytest.approx(expected, abs=1e-5)


def test_the_gain_counts_in_the_choice():
    day, night = numpy.float32([[[0, 30]]]), numpy.float32([[[0, 20]]])
    for gain, expected in ((1.0, 30), (2.0, 40)):
        zero = numpy.zeros((1, 2), numpy.float32)
        gx, _ = mixing.mix_gradients(day, night, zero, larger_where_zero=True, night_gain=gain)
        assert gx[0, 0, 0] == expected


def test_day_only_has_the_last_word(rng):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    everywhere = numpy.ones((9, 11), bool)
    for w in (0.0, 0.5, 1.0):
        share = numpy.full((9, 11), w, numpy.float32)
        found = mixing.mix_gradients(day, night, share, larger_where_zero=True, day_only=everywhere)
        numpy.testing.assert_array_equal(found, gradients.gradient(day))


@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
@pytest.mark.parametrize("own_day", [False, True])
def test_leading_axes(rng, leading, own_day):
    night = whole_levels(rng, (*leading, 3, 7, 9))
    day = whole_levels(rng, night.shape if own_day else (3, 7, 9))
    w = some_importance(rng, (*leading, 7, 9))
    rhs = mixing.mixed_divergence(day, night, w, larger_where_zero=True)
    field = mixing.mix_gradients(day, night, w, larger_where_zero=True)
    assert rhs.shape == field[0].shape == night.shape
    for place in itertools.product(*(range(n) for n in leading)):
        one_day = day[place] if own_day else day
        alone = mixing.mixed_divergence(one_day, night[place], w[place], larger_where_zero=True)
        numpy.testing.assert_array_equal(rhs[place], alone)
        alone = mixing.mix_gradients(one_day, night[place], w[place], larger_where_zero=True)
        for part, expected in zip(field, alone, strict=True):
            numpy.testing.assert_array_equal(part[place], expected)


def test_pictures_without_channels(rng):
    day, night = whole_levels(rng, (2, 7, 9))
    w = some_importance(rng, (7, 9))
    for part, expected in zip(
        mixing.mix_gradients(day, night, w), mixing.mix_gradients(day[None], night[None], w), strict=True
    ):
        numpy.testing.assert_array_equal(part, expected[0])
    found = mixing.mixed_divergence(day, night, w)
    numpy.testing.assert_array_equal(found, mixing.mixed_divergence(day[None], night[None], w)[0])


@pytest.mark.parametrize(
    "day_shape",
    [
        (3, 7, 9),
        (0, 3, 7, 9),
    ],
)
def test_no_frames(day_shape):
    night, w = numpy.empty((0, 3, 7, 9), numpy.float32), numpy.empty((0, 7, 9), numpy.float32)
    assert mixing.mixed_divergence(numpy.zeros(day_shape, numpy.float32), night, w).shape == night.shape


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_bits_do_not_depend_on_threads(rng, threads, count):
    day = whole_levels(rng, (3, 61, 37)) + numpy.float32(0.1)
    night = whole_levels(rng, (5, 3, 61, 37)) * numpy.float32(0.3)
    w = some_importance(rng, (5, 61, 37))
    threads(1)
    expected = mixing.mixed_divergence(day, night, w, larger_where_zero=True)
    threads(count)
    numpy.testing.assert_array_equal(mixing.mixed_divergence(day, night, w, larger_where_zero=True), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_bits_do_not_depend_on_threads_with_lift_and_pull(rng, threads, count):
    day = whole_levels(rng, (3, 61, 37)) + numpy.float32(0.1)
    night = whole_levels(rng, (5, 3, 61, 37)) * numpy.float32(0.3)
    w = some_importance(rng, (5, 61, 37))
    options = {
        "larger_where_zero": True, "night_floor": 80.0, "lift": 3.0, "data_weight": 0.1, "target_share": w * w
    }  # fmt: skip
    threads(1)
    expected = mixing.mixed_divergence(day, night, w, **options)
    threads(count)
    numpy.testing.assert_array_equal(mixing.mixed_divergence(day, night, w, **options), expected)


def test_no_lift_no_pull_and_no_floor_is_the_papers_method_in_every_bit(rng):
    day, night = (whole_levels(rng, (2, 3, 23, 37)) + numpy.float32(0.1)) * numpy.float32(0.3)
    w = some_importance(rng, (23, 37))
    expected = mixing.mixed_divergence(day, night, w, larger_where_zero=True)
    found = mixing.mixed_divergence(
        day, night, w, larger_where_zero=True, night_floor=0, lift=1, data_weight=0, target_share=1 - w
    )
    numpy.testing.assert_array_equal(found, expected)
    # As written in float32: every operation is rounded once here, and may be fused there.
    plain = gradients.divergence(*mixing.mix_gradients(day, night, w, larger_where_zero=True))
    numpy.testing.assert_allclose(found, plain, atol=tolerances.FLOAT32_LEVELS)


@pytest.mark.parametrize("larger_where_zero", [False, True])
def test_where_the_importance_is_zero_nothing_is_lifted(rng, larger_where_zero):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    w = some_importance(rng, (9, 11))
    plain = mixing.mix_gradients(day, night, w, larger_where_zero=larger_where_zero)
    lifted = mixing.mix_gradients(day, night, w, larger_where_zero=larger_where_zero, lift=5.0)
    still = numpy.broadcast_to(w == 0, plain[0].shape)
    for part, other in zip(plain, lifted, strict=True):
        numpy.testing.assert_array_equal(part[still], other[still])
        assert (part[~still] != other[~still]).any()


def test_all_channels_of_a_dark_thing_gain_the_same():
    dark = numpy.float32([[[0, 2]], [[0, 1]], [[0, 0]]])
    gx, _ = mixing.mix_gradients(dark * 0, dark, numpy.ones((1, 2), numpy.float32), lift=4.0)
    gained = 3 * 2 / (1 + 2 / mixing.LIFT_SPAN)
    numpy.testing.assert_allclose(gx[:, 0, 0], [2 + gained, 1 + gained, gained], rtol=1e-6)


def test_lamps_hardly_gain():
    lamp = numpy.float32([[[250, 255]], [[250, 255]]])
    ones = numpy.ones((1, 2), numpy.float32)
    gx, _ = mixing.mix_gradients(lamp * 0, lamp, ones, lift=4.0)
    assert 5 < gx[0, 0, 0] < 5.2
    edge = numpy.float32([[[0, 255]]])
    gx, _ = mixing.mix_gradients(edge * 0, edge, ones, lift=4.0)
    assert 255 < gx[0, 0, 0] < 255 + 3 * mixing.LIFT_SPAN


def test_levels_below_zero_gain_nothing():
    night = numpy.float32([[[-mixing.LIFT_SPAN, 0.0]]])
    ones = numpy.ones((1, 2), numpy.float32)
    gx, _ = mixing.mix_gradients(night * 0, night, ones, lift=2.0)
    assert gx[0, 0, 0] == mixing.LIFT_SPAN
    rhs = mixing.mixed_divergence(night * 0, night, ones, lift=2.0)
    assert rhs[0, 0, 0] == mixing.LIFT_SPAN


def test_an_even_night_has_no_gradient_whatever_the_lift():
    day, night = numpy.zeros((2, 3, 5, 7), numpy.float32)
    night += numpy.float32([[[0.1]], [[17.3]], [[200.7]]])
    ones = numpy.ones((5, 7), numpy.float32)
    assert not mixing.mixed_divergence(day, night, ones, lift=3.3, night_gain=1.7).any()


def test_a_night_below_the_floor_is_left_out():
    day, night = numpy.float32([[[0, 1]]]), numpy.float32([[[0, 20]]])
    zero = numpy.zeros((1, 2), numpy.float32)
    for gain, floor, expected in (
        (1.0, 0.0, 20), (1.0, 19.9, 20), (1.0, 20.0, 1), (1.0, 21.0, 1), (2.0, 21.0, 40), (2.0, 40.0, 1),
        (0.5, 9.0, 10), (0.5, 10.0, 1),
    ):  # fmt: skip
        options = {"larger_where_zero": True, "night_gain": gain, "night_floor": floor}
        gx, _ = mixing.mix_gradients(day, night, zero, **options)
        assert gx[0, 0, 0] == expected
        rhs = mixing.mixed_divergence(day, night, zero, **options)
        assert rhs.tolist() == [[[expected, -expected]]]


def test_the_floor_is_for_the_joint_magnitude():
    # Neither channel nor direction reaches 9 alone; together they are 10.
    night = numpy.zeros((2, 2, 2), numpy.float32)
    night[:, 0, 1] = night[:, 1, 0] = 5
    zero = numpy.zeros((2, 2), numpy.float32)
    for floor, expected in ((9.9, 5), (10.0, 0)):
        options = {"larger_where_zero": True, "night_floor": floor}
        gx, gy = mixing.mix_gradients(night * 0, night, zero, **options)
        assert gx[0, 0, 0] == gy[1, 0, 0] == expected
        assert mixing.mixed_divergence(night * 0, night, zero, **options)[0, 0, 0] == 2 * expected


@pytest.mark.parametrize("lift", [1.0, 3.0])
def test_the_floor_counts_only_where_the_importance_is_zero(rng, lift):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    w = some_importance(rng, (9, 11))
    plain = mixing.mixed_divergence(day, night, w, lift=lift)
    numpy.testing.assert_array_equal(
        mixing.mixed_divergence(day, night, w, lift=lift, night_floor=1e4), plain
    )
    # With a floor that nothing reaches the day is taken, as without the rule.
    found = mixing.mixed_divergence(day, night, w, lift=lift, larger_where_zero=True, night_floor=1e4)
    numpy.testing.assert_array_equal(found, plain)
    assert (mixing.mixed_divergence(day, night, w, lift=lift, larger_where_zero=True) != plain).any()


@pytest.mark.parametrize("data_weight", [0.001, 0.1, 3.0])
@pytest.mark.parametrize("shape", [(3, 13, 17), (1, 1, 9), (2, 1, 1)])
def test_the_screened_equation_returns_a_picture_whose_gradients_it_got(rng, shape, data_weight):
    day, night = whole_levels(rng, shape), whole_levels(rng, shape)
    zeros, ones = numpy.zeros(shape[-2:], numpy.float32), numpy.ones(shape[-2:], numpy.float32)
    for share, picture in ((zeros, day), (ones, night)):
        rhs = mixing.mixed_divergence(day, night, share, data_weight=data_weight)
        numpy.testing.assert_allclose(
            oracles.reconstruct(rhs, data_weight),
            picture,
            atol=tolerances.FLOAT32_LEVELS / min(data_weight, 1),
        )
        given = mixing.mixed_divergence(day, night, share, data_weight=data_weight, target_share=share)
        numpy.testing.assert_array_equal(given, rhs)


def test_the_pull_is_towards_the_night_as_it_is(rng):
    day, night = whole_levels(rng, (2, 3, 9, 11))
    w, share = some_importance(rng, (9, 11)), rng.random((9, 11)).astype(numpy.float32)
    options = {"larger_where_zero": True, "night_gain": 1.3, "lift": 3.0}
    without = mixing.mixed_divergence(day, night, w, **options)
    pulled = mixing.mixed_divergence(day, night, w, data_weight=0.25, target_share=share, **options)
    numpy.testing.assert_allclose(
        without - pulled, 0.25 * oracles.blend(day, night, share), atol=10 * tolerances.FLOAT32_LEVELS
    )


@pytest.mark.parametrize("lift", [1.0, 3.0])
def test_each_plane_sums_to_zero(rng, lift):
    rhs = mixing.mixed_divergence(
        *whole_levels(rng, (2, 3, 40, 50)), some_importance(rng, (40, 50)), lift=lift
    )
    assert abs(rhs.sum(axis=(1, 2), dtype=float)).max() < 1e-3


def test_any_layout_and_no_write_into_the_arguments(rng):
    day, night = whole_levels(rng, (2, 3, 7, 9))
    w = some_importance(rng, (7, 9))
    expected = mixing.mixed_divergence(day, night, w)
    for convert in (numpy.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(float)):
        given = [convert(a) for a in (day, night, w)]
        for array in given:
            array.flags.writeable = False
        numpy.testing.assert_array_equal(mixing.mixed_divergence(*given), expected)
        for array, kept in zip(given, (day, night, w), strict=True):
            numpy.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("function", [mixing.mix_gradients, mixing.mixed_divergence])
def test_wrong_arguments(function):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    for day, night, share in [
        (good[:, :3], good, w),
        (good, good[:, :3], w),
        (good[:1], good, w),
        (good, good, w[:3]),
        (good, good, w[None, None]),
    ]:
        with pytest.raises(
            ValueError, match=r"day, night, importance: expected shapes .*; bring them to one size"
        ):
            function(day, night, share)
    with pytest.raises(
        ValueError, match=r"day_only: expected the shape of importance \(4, 5\), got \(5, 4\)"
    ):
        function(good, good, w, day_only=numpy.zeros((5, 4), bool))
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        function(good, good, [[0]])
    for k, name in enumerate(["day", "night", "importance"]):
        given = [good.copy(), good.copy(), w.copy()]
        given[k].flat[3] = numpy.nan
        with pytest.raises(ValueError, match=f"{name}: expected finite grey levels"):
            function(*given)


def test_values_need_not_be_checked():
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    broken = good.copy()
    broken[1, 2, 3] = numpy.nan
    rhs = mixing.mixed_divergence(broken, good, w, check_values=False)
    assert numpy.isnan(rhs[1]).any()
    assert not numpy.isnan(rhs[::2]).any()
    with pytest.raises(ValueError, match="expected shapes"):
        mixing.mixed_divergence(good, good, w[:3], check_values=False)
    with pytest.raises(TypeError, match="expected float32 grey levels"):
        mixing.mixed_divergence(good.astype(complex), good, w, check_values=False)


@pytest.mark.parametrize("function", [mixing.mix_gradients, mixing.mixed_divergence])
@pytest.mark.parametrize("lift", [0.99, 0, -1, numpy.nan, numpy.inf])
def test_wrong_lift(function, lift):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    with pytest.raises(ValueError, match=f"lift: expected a finite factor from 1, got {lift}; 1 leaves"):
        function(good, good, w, lift=lift)


@pytest.mark.parametrize("function", [mixing.mix_gradients, mixing.mixed_divergence])
@pytest.mark.parametrize("floor", [-0.01, numpy.nan, numpy.inf])
def test_wrong_floor(function, floor):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    with pytest.raises(
        ValueError, match=f"night_floor: expected finite grey levels from 0, got {floor}; 0 lets"
    ):
        function(good, good, w, night_floor=floor)


@pytest.mark.parametrize("function", [mixing.mix_gradients, mixing.mixed_divergence])
@pytest.mark.parametrize("name", ["lift", "night_floor"])
def test_what_is_no_number(function, name):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    for value, kind in (("2", "str"), (None, "NoneType"), (numpy.ones(()), "ndarray")):
        with pytest.raises(TypeError, match=f"{name}: expected a number, got {kind}; an array of shape"):
            function(good, good, w, **{name: value})


@pytest.mark.parametrize("data_weight", [-0.1, numpy.nan, numpy.inf])
def test_wrong_data_weight(data_weight):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    with pytest.raises(
        ValueError, match=f"data_weight: expected a finite number from 0, got {data_weight}; 0 pulls"
    ):
        mixing.mixed_divergence(good, good, w, data_weight=data_weight)


@pytest.mark.parametrize("data_weight", [0.0, 0.1])
def test_wrong_target_share(data_weight):
    good, w = numpy.zeros((3, 4, 5), numpy.float32), numpy.zeros((4, 5), numpy.float32)
    with pytest.raises(
        ValueError, match=r"target_share: expected the shape of importance \(4, 5\), got \(5, 4\); give"
    ):
        mixing.mixed_divergence(good, good, w, data_weight=data_weight, target_share=w.T)
    with pytest.raises(ValueError, match="target_share: expected finite"):
        mixing.mixed_divergence(good, good, w, data_weight=data_weight, target_share=w + numpy.nan)
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list"):
        mixing.mixed_divergence(good, good, w, data_weight=data_weight, target_share=[[0]])


@pytest.mark.parametrize("own_day", [False, True])
def test_lift_and_pull_in_leading_axes_and_without_channels(rng, own_day):
    night = whole_levels(rng, (2, 3, 1, 7, 9))
    day = whole_levels(rng, night.shape if own_day else (1, 7, 9))
    w, share = some_importance(rng, (2, 2, 3, 7, 9))
    options = {"lift": 2.5, "data_weight": 0.1, "larger_where_zero": True, "night_floor": 60.0}
    whole = mixing.mixed_divergence(day, night, w, target_share=share, **options)
    for place in itertools.product(range(2), range(3)):
        one_day = day[place] if own_day else day
        found = mixing.mixed_divergence(
            one_day[0], night[place][0], w[place], target_share=share[place], **options
        )
        numpy.testing.assert_array_equal(whole[place][0], found)


def test_any_layout_of_the_target_share(rng):
    day, night = whole_levels(rng, (2, 3, 7, 9))
    w, share = some_importance(rng, (2, 7, 9))
    expected = mixing.mixed_divergence(day, night, w, lift=2.0, target_share=share, data_weight=0.1)
    for convert in (numpy.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(float)):
        given = convert(share)
        given.flags.writeable = False
        found = mixing.mixed_divergence(day, night, w, lift=2.0, target_share=given, data_weight=0.1)
        numpy.testing.assert_array_equal(found, expected)
        numpy.testing.assert_array_equal(given, share)


# Gain on what is dark


def test_the_lift_is_the_ratio_of_contrasts_in_the_dark(scene):
    frames = list(scene.night[:12])
    expected = oracles.automatic_lift(scene.day, frames)
    assert 1 < expected <= mixing.LARGEST_LIFT
    assert mixing.contrast_lift(scene.day, frames) == pytest.approx(expected, rel=0.2)
    assert mixing.contrast_lift(scene.day, frames[:9:4]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.4, 0.1])
def test_a_darker_night_is_lifted_to_the_contrast_of_the_day(rng, factor):
    day = rng.uniform(0, 39, (3, 11, 13)).astype(numpy.float32)
    assert mixing.contrast_lift(day, [factor * day]) == pytest.approx(min(1 / factor, 4), rel=1e-5)


def test_nothing_is_lifted_where_nothing_is_dark_or_has_contrast(rng):
    day = rng.uniform(0, 255, (3, 11, 13)).astype(numpy.float32)
    assert mixing.contrast_lift(day, [day * 0 + 120]) == 1
    assert mixing.contrast_lift(day, [day * 0]) == 1
    assert mixing.contrast_lift(day * 0, [day / 10]) == 1


def test_the_lift_stays_on_the_device(gpu, scene, no_host_copy):
    day, frame = gpu.asarray(scene.day), gpu.asarray(scene.night[0])
    with no_host_copy():
        found = mixing.contrast_lift(day, [frame])
    assert isinstance(found, gpu.ndarray)
    assert (found.shape, found.dtype) == ((), numpy.float32)
    assert float(found) == pytest.approx(mixing.contrast_lift(scene.day, [scene.night[0]]), rel=1e-5)


# Floor of the night's gradients


def median_magnitude(frames):
    strength = [numpy.sqrt((numpy.array(oracles.gradient(f)) ** 2).sum(axis=(0, 1))) for f in frames]
    return numpy.median(strength)


@pytest.mark.parametrize("shape", [(1, 3, 11, 13), (4, 3, 11, 13), (3, 1, 10, 8), (2, 3, 1, 9)])
def test_the_floor_is_four_times_the_median_magnitude(rng, shape):
    frames = whole_levels(rng, shape).astype(float)
    expected = 4 * median_magnitude(frames)
    assert expected > mixing.LOWEST_FLOOR
    found = mixing.night_floor(list(frames.astype(numpy.float32)))
    assert isinstance(found, float)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_median_is_that_of_all_frames_together(rng):
    frames = [rng.uniform(0, top, (3, 11, 13)).astype(numpy.float32) for top in (1, 90, 250)]
    assert mixing.night_floor(frames) == pytest.approx(4 * median_magnitude(frames), rel=1e-5)
    assert mixing.night_floor(frames) != pytest.approx(
        numpy.mean([mixing.night_floor([f]) for f in frames]), rel=0.01
    )


@pytest.mark.parametrize(("amplitude", "expected"), [(0.0, 8.0), (1.99, 8.0), (2.0, 8.0), (2.5, 10.0)])
def test_the_floor_is_never_below_eight_levels(amplitude, expected):
    ramp = amplitude * numpy.arange(30, dtype=numpy.float32).reshape(1, 1, 30)
    assert mixing.night_floor([ramp, ramp]) == expected


def test_noise_below_the_floor_does_not_come_into_the_picture(rng):
    night = (20 + rng.normal(0, 2, (3, 60, 80))).astype(numpy.float32)
    night[:, 20:40, 30:50] += 150
    zero, day = numpy.zeros((60, 80), numpy.float32), numpy.zeros((3, 60, 80), numpy.float32)
    floor = mixing.night_floor([night])
    gx, gy = mixing.mix_gradients(day, night, zero, larger_where_zero=True, night_floor=floor)
    taken = gradients.squared_magnitude(gx, gy) > 0
    assert taken[20:40, [29, 49]].all()
    assert taken[[19, 39], 30:50].all()
    assert taken[:, :28].mean() < 0.001
    gx, gy = mixing.mix_gradients(day, night, zero, larger_where_zero=True)
    assert (gradients.squared_magnitude(gx, gy) > 0)[:-1, :28].all()


def test_no_frames_have_no_floor():
    with pytest.raises(ValueError, match="frames: expected at least one frame, got none; give the first"):
        mixing.night_floor([])


@pytest.mark.parametrize("factor", [1.0, 0.01])
def test_the_floor_stays_on_the_device(gpu, scene, no_host_copy, factor):
    night = scene.night[:3] * numpy.float32(factor)
    frames = [gpu.asarray(frame) for frame in night]
    with no_host_copy():
        found = mixing.night_floor(frames)
    assert isinstance(found, gpu.ndarray)
    assert (found.shape, found.dtype) == ((), numpy.float32)
    assert float(found) == pytest.approx(mixing.night_floor(list(night)), rel=1e-5)
