"""Gradient and divergence: an exact pair of adjoints."""

import numpy
import oracles
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse import gradients

SHAPES = [(1, 1), (1, 9), (11, 1), (2, 2), (37, 61), (3, 5, 7), (2, 3, 13, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_the_definition(rng, shape, dtype):
    u = rng.integers(-500, 500, shape).astype(dtype)  # whole numbers: every sum is exact
    field = [rng.integers(-500, 500, shape).astype(dtype) for _ in "xy"]
    for found, expected in zip(gradients.gradient(u), oracles.gradient(u), strict=True):
        assert found.dtype == dtype
        numpy.testing.assert_array_equal(found, expected)
    found = gradients.divergence(*field)
    assert found.dtype == dtype
    numpy.testing.assert_array_equal(found, oracles.divergence(*field))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_adjoint(height, width, seed):
    rng = numpy.random.default_rng(seed)
    u, px, py = rng.normal(size=(3, height, width))
    gx, gy = gradients.gradient(u)
    left = (gx * px).sum() + (gy * py).sum()
    right = -(u * gradients.divergence(px, py)).sum()
    size = (abs(gx * px) + abs(gy * py)).sum() + abs(u).sum()
    assert abs(left - right) <= tolerances.ADJOINT * size


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_is_exact_for_whole_numbers(rng, shape):
    u, px, py = rng.integers(-1000, 1000, (3, *shape)).astype(float)
    gx, gy = gradients.gradient(u)
    assert (gx * px + gy * py).sum() == -(u * gradients.divergence(px, py)).sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_divergence_sums_to_zero_in_each_plane(rng, shape):
    px, py = rng.integers(-1000, 1000, (2, *shape)).astype(float)
    assert (gradients.divergence(px, py).sum(axis=(-2, -1)) == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_constants_have_no_gradient(shape):
    for part in gradients.gradient(numpy.full(shape, 77.7)):
        assert (part == 0).all()


def test_last_column_and_row():
    gx, gy = gradients.gradient(numpy.arange(12.0).reshape(3, 4) ** 2)
    assert (gx[:, -1] == 0).all()
    assert (gy[-1] == 0).all()
    assert (gx[:, :-1] > 0).all()
    assert (gy[:-1] > 0).all()


def test_what_has_no_partner_is_ignored(rng):
    px, py = rng.normal(size=(2, 4, 5))
    expected = gradients.divergence(px, py)
    px[:, -1], py[-1] = 1e6, -1e6
    numpy.testing.assert_array_equal(gradients.divergence(px, py), expected)


def test_joint_magnitude(rng):
    gx, gy = rng.normal(size=(2, 4, 3, 5, 6))
    expected = sum(gx[:, c] ** 2 + gy[:, c] ** 2 for c in range(3))
    numpy.testing.assert_allclose(gradients.squared_magnitude(gx, gy), expected, rtol=tolerances.FLOAT64)


def test_arguments_are_not_changed(rng):
    u = rng.normal(size=(5, 6))
    u.flags.writeable = False
    fortran = numpy.asfortranarray(u)
    for a, b in zip(gradients.gradient(u), gradients.gradient(fortran), strict=True):
        numpy.testing.assert_array_equal(a, b)
    numpy.testing.assert_array_equal(gradients.divergence(u, u), gradients.divergence(fortran, fortran))


def test_wrong_arguments():
    with pytest.raises(TypeError, match="got list"):
        gradients.gradient([[1.0]])
    with pytest.raises(ValueError, match=r"image: expected shape \(..., H, W\), got \(3,\); reshape"):
        gradients.gradient(numpy.zeros(3))
    with pytest.raises(ValueError, match=r"gx: expected shape \(..., H, W\), got \(3,\)"):
        gradients.divergence(numpy.zeros(3), numpy.zeros(3))
    with pytest.raises(
        ValueError, match=r"gx, gy: expected equal shapes, got \(2, 3\) and \(3, 2\); pass both"
    ):
        gradients.divergence(numpy.zeros((2, 3)), numpy.zeros((3, 2)))
