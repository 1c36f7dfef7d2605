"""Bringing the night to the day's size."""

import numpy
import oracles
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse import errors
from gpufuse.resampling import check_pair, enlarged


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(1, 6)] * 2), st.tuples(*[st.integers(0, 9)] * 2), st.integers(0, 999))
def test_against_the_oracle(known, more, seed):
    image = numpy.random.default_rng(seed).uniform(0, 255, (2, *known)).astype(numpy.float32)
    size = (known[0] + more[0], known[1] + more[1])
    kept = image.copy()
    found = enlarged(image, size)
    assert found.dtype == numpy.float32
    numpy.testing.assert_allclose(found, oracles.enlarged(image, size), atol=tolerances.FLOAT32_LEVELS)
    numpy.testing.assert_array_equal(image, kept)


def test_same_size_is_the_argument_itself():
    image = numpy.zeros((3, 4, 5), numpy.float32)
    assert enlarged(image, (4, 5)) is image


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_constants_means_and_symmetry(rng, factor):
    image = rng.uniform(0, 255, (5, 7)).astype(numpy.float32)
    size = (5 * factor, 7 * factor)
    assert (enlarged(image * 0 + 9, size) == 9).all()
    numpy.testing.assert_allclose(enlarged(image[::-1], size), enlarged(image, size)[::-1], atol=1e-4)
    numpy.testing.assert_allclose(enlarged(image[:, ::-1], size), enlarged(image, size)[:, ::-1], atol=1e-4)
    assert image.min() <= enlarged(image, size).min() <= enlarged(image, size).max() <= image.max()


@pytest.mark.parametrize(
    ("day", "night"),
    [
        ((240, 320), (240, 320)),
        ((480, 640), (240, 320)),
        ((1080, 1920), (270, 481)),
        ((241, 320), (240, 320)),
        ((1, 1), (1, 1)),
        ((7, 3), (7, 3)),
        ((102, 100), (100, 100)),
    ],
)
def test_pairs_that_belong_together(day, night):
    check_pair(day, night)


@pytest.mark.parametrize(
    ("day", "night"),
    [
        ((239, 320), (240, 320)),
        ((120, 160), (240, 320)),
        ((320, 240), (240, 320)),
        ((480, 660), (240, 320)),
        ((103, 100), (100, 100)),
        ((2, 1), (1, 1)),
    ],
)
def test_pairs_that_do_not(day, night):
    with pytest.raises(
        errors.PairError, match="like the night, or larger with the same aspect ratio"
    ) as caught:
        check_pair(day, night)
    for height, width in (day, night):
        assert f"{width}x{height}" in str(caught.value)
