"""CUDA twins of the conversions between YUV and levels, against the CPU and the formula in float64."""

import numpy
import pytest
from test_colour import oracle

from gpufuse.colour import MATRICES, Colour, levels_to_nv12, levels_to_yuv, nv12_to_levels, yuv_to_levels

LEVELS = 1e-3
"""Decoding: some float32 roundings of numbers up to a few hundred levels."""

EQUAL_CODES = 0.999
"""Encoding: a code that lies within rounding of a half may go either way; the others are equal."""


def planes_of(size, subsampling, depth, *, alternating=False, padding=3, seed=7):
    height, width = size
    rng = numpy.random.default_rng(seed)
    kind = numpy.uint8 if depth == 8 else numpy.uint16
    rows, columns = -(-height // subsampling[1]), -(-width // subsampling[0])
    shapes = [(height, width)] + ([(rows, 2 * columns)] if alternating else [(rows, columns)] * 2)
    return [rng.integers(0, 1 << depth, (h, w + padding)).astype(kind) for h, w in shapes]


def decoded(cp, planes, size, colour, **options):
    """On the device and on the CPU."""
    out, expected = cp.full((3, *size), -1, numpy.float32), numpy.full((3, *size), -1, numpy.float32)
    yuv_to_levels([cp.asarray(plane) for plane in planes], out, colour, **options)
    yuv_to_levels(planes, expected, colour, **options)
    assert isinstance(out, cp.ndarray)
    return cp.asnumpy(out), expected


def exercise(cp):
    """Reach every kernel of kernels/colour.cu and every line of it."""
    for depth in (8, 10):
        for subsampling in ((2, 2), (1, 1)):
            planes = planes_of((5, 7), subsampling, depth)
            decoded(cp, planes, (5, 7), Colour("bt709"), depth=depth, subsampling=subsampling)
        decoded(cp, planes[:1], (5, 7), Colour("bt709"), depth=depth)
    levels = cp.zeros((1, 3, 4, 6), numpy.float32)
    levels_to_nv12(levels, "bt709")
    levels_to_yuv(levels, [cp.empty((1, 4, 6), numpy.uint8) for _ in range(3)], "bt709")


# To levels


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 11), (64, 32), (67, 33), (129, 70)])
@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (1, 2), (1, 1)])
def test_decoding_sizes(cp, size, subsampling):
    planes = planes_of(size, subsampling, 8)
    colour = Colour("bt709")
    found, expected = decoded(cp, planes, size, colour, subsampling=subsampling)
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=LEVELS)
    numpy.testing.assert_allclose(found, oracle(planes, *size, colour, 8, subsampling), rtol=0, atol=LEVELS)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("siting", ["left", "centre"])
@pytest.mark.parametrize("depth", [8, 10, 16])
def test_decoding_colours(cp, matrix, full_range, siting, depth):
    size, colour = (7, 11), Colour(matrix, full_range, siting)
    planes = planes_of(size, (2, 2), depth)
    found, expected = decoded(cp, planes, size, colour, depth=depth)
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=LEVELS)
    numpy.testing.assert_allclose(found, oracle(planes, *size, colour, depth, (2, 2)), rtol=0, atol=LEVELS)


@pytest.mark.parametrize("size", [(1, 1), (7, 11), (18, 34)])
@pytest.mark.parametrize("subsampling", [(2, 2), (1, 1)])
@pytest.mark.parametrize(
    ("depth", "high_bits"), [(8, False), (10, False), (10, True), (12, True), (16, True)]
)
def test_decoding_of_alternating_chroma(cp, size, subsampling, depth, high_bits):
    planes = planes_of(size, subsampling, depth, alternating=True)
    options = {"depth": depth, "subsampling": subsampling}
    expected = numpy.empty((3, *size), numpy.float32)
    yuv_to_levels(planes, expected, Colour("bt709"), **options)
    if high_bits:
        planes = [
            plane << (16 - depth) | (1 << (16 - depth)) - 1 for plane in planes
        ]  # low bits do not count
    found, same = decoded(cp, planes, size, Colour("bt709"), high_bits=high_bits, **options)
    numpy.testing.assert_array_equal(same, expected)
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=LEVELS)


@pytest.mark.parametrize("size", [(2, 2), (16, 64), (18, 70)])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("siting", ["left", "centre"])
def test_decoding_of_a_batch_of_nv12(cp, rng, size, count, siting):
    height, width = size
    codes = rng.integers(0, 256, (count, height * 3 // 2, width)).astype(numpy.uint8)
    colour = Colour("bt601", siting=siting)
    found = nv12_to_levels(cp.asarray(codes), colour)
    assert isinstance(found, cp.ndarray)
    expected = nv12_to_levels(codes, colour)
    numpy.testing.assert_allclose(cp.asnumpy(found), expected, rtol=0, atol=LEVELS)
    for frame, levels in zip(codes, expected, strict=True):
        single = numpy.empty((3, height, width), numpy.float32)
        yuv_to_levels([frame[:height], frame[height:]], single, colour)
        numpy.testing.assert_array_equal(levels, single)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4, 4), (1, 3, 3)])
def test_what_is_no_nv12_is_named(shape):
    with pytest.raises(
        ValueError, match=r"codes: expected uint8 of shape \(T, H \* 3 / 2, W\) with even H and W"
    ):
        nv12_to_levels(numpy.zeros(shape, numpy.uint8), Colour("bt601"))


@pytest.mark.parametrize("size", [(1, 1), (7, 35), (9, 64)])
@pytest.mark.parametrize(("depth", "high_bits"), [(8, False), (12, False), (12, True)])
def test_decoding_of_grey(cp, size, depth, high_bits):
    planes = planes_of(size, (1, 1), depth)[:1]
    if high_bits:
        planes = [planes[0] << (16 - depth)]
    found, expected = decoded(cp, planes, size, Colour("bt601"), depth=depth, high_bits=high_bits)
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=LEVELS)


def test_decoding_into_a_frame_of_a_batch(cp):
    planes = [cp.asarray(plane) for plane in planes_of((6, 10), (2, 2), 8, padding=0)]
    batch = cp.full((3, 3, 6, 10), -1, numpy.float32)
    yuv_to_levels(planes, batch[1], Colour("bt709"))
    found = cp.asnumpy(batch)
    assert (found[[0, 2]] == -1).all()
    assert (found[1] >= 0).all()


def test_decoding_planes_with_rows_of_different_lengths(cp):
    size = (9, 13)
    planes = [
        numpy.pad(plane, ((0, k), (0, 5 * k)), constant_values=99)
        for k, plane in enumerate(planes_of(size, (2, 2), 8))
    ]
    found, expected = decoded(cp, planes, size, Colour("bt709"))
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=LEVELS)


# To codes


def random_levels(shape, seed=7):
    levels = numpy.random.default_rng(seed).uniform(-20, 275, shape).astype(numpy.float32)
    levels[..., 0, :1] = 254.5  # halves are rounded to even
    levels[..., -1, -1:] = 0.5
    return levels


def affine(count, seed=3):
    rng = numpy.random.default_rng(seed)
    return rng.uniform(0.5, 1.5, (count, 3)), rng.uniform(-9, 9, (count, 3))


def assert_equal_codes(found, expected):
    difference = abs(found.astype(int) - expected.astype(int))
    assert difference.max(initial=0) <= 1
    assert (difference == 0).mean() >= EQUAL_CODES or difference.sum() <= 1


@pytest.mark.parametrize("size", [(2, 2), (2, 70), (70, 2), (16, 64), (18, 66), (34, 130)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("corrected", [False, True])
def test_nv12_is_that_of_the_cpu(cp, size, count, corrected):
    levels = random_levels((count, 3, *size))
    scale, shift = affine(count) if corrected else (None, None)
    on_device = [values if values is None else cp.asarray(values) for values in (scale, shift)]
    found = levels_to_nv12(cp.asarray(levels), "bt709", scale=on_device[0], shift=on_device[1])
    assert isinstance(found, cp.ndarray)
    assert found.dtype == numpy.uint8
    assert found.shape == (count, size[0] * 3 // 2, size[1])
    assert_equal_codes(cp.asnumpy(found), levels_to_nv12(levels, "bt709", scale=scale, shift=shift))


@pytest.mark.parametrize("matrix", MATRICES)
def test_nv12_matrices(cp, matrix):
    levels = random_levels((3, 10, 36))
    found = cp.asnumpy(levels_to_nv12(cp.asarray(levels), matrix))
    assert_equal_codes(found, levels_to_nv12(levels, matrix))
    kr, kb = MATRICES[matrix]
    red, green, blue = numpy.rint(numpy.clip(levels.astype(float), 0, 255))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    numpy.testing.assert_allclose(found[:10], 16 + luma * 219 / 255, atol=0.501)
    for codes, channel, weight in ((found[10:, 0::2], blue, kb), (found[10:, 1::2], red, kr)):
        full = (channel - luma) / (2 * (1 - weight)) * 224 / 255
        rows = (full[0::2] + full[1::2]) / 2
        left = numpy.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
        numpy.testing.assert_allclose(codes, 128 + (left + 2 * rows[:, 0::2] + rows[:, 1::2]) / 4, atol=0.501)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (7, 11), (17, 31)])
@pytest.mark.parametrize("corrected", [False, True])
def test_planes_of_full_resolution(cp, size, corrected):
    levels = random_levels((2, 3, *size))
    scale, shift = affine(2) if corrected else (None, None)
    on_device = [values if values is None else cp.asarray(values) for values in (scale, shift)]
    found = [cp.full((2, *size), 7, numpy.uint8) for _ in range(3)]
    levels_to_yuv(cp.asarray(levels), found, "bt601", scale=on_device[0], shift=on_device[1])
    expected = [numpy.empty((2, *size), numpy.uint8) for _ in range(3)]
    levels_to_yuv(levels, expected, "bt601", scale=scale, shift=shift)
    for codes, right in zip(found, expected, strict=True):
        assert_equal_codes(cp.asnumpy(codes), right)


@pytest.mark.parametrize("leading", [(), (2,)])
def test_planes_of_halved_chroma_are_those_of_nv12(cp, leading):
    levels = cp.asarray(random_levels((*leading, 3, 18, 34)))
    luma, blue, red = (cp.full((*leading, *size), 7, numpy.uint8) for size in ((18, 34), (9, 17), (9, 17)))
    levels_to_yuv(levels, [luma, blue, red], "bt2020")
    together = cp.asnumpy(levels_to_nv12(levels, "bt2020"))
    numpy.testing.assert_array_equal(cp.asnumpy(luma), together[..., :18, :])
    numpy.testing.assert_array_equal(cp.asnumpy(blue), together[..., 18:, 0::2])
    numpy.testing.assert_array_equal(cp.asnumpy(red), together[..., 18:, 1::2])


def test_correction_is_rounded_as_apply_affine_rounds_it(cp):
    """Products that a fused multiply-add would put on the other side of a half."""
    scale, shift = numpy.float32(1.1), numpy.float32(0.3)
    halves = numpy.arange(20, 220, 0.125) // 1 + 0.5
    wide = (numpy.resize(halves, 64 * 64) - float(shift)) / float(scale)
    levels = numpy.broadcast_to(wide.astype(numpy.float32).reshape(64, 64), (3, 64, 64))
    fused = numpy.rint(levels.astype(float) * float(scale) + float(shift))
    assert (numpy.rint(levels * scale + shift) != fused).mean() > 0.05
    options = {"scale": numpy.full(3, scale), "shift": numpy.full(3, shift)}
    on_device = {name: cp.asarray(values) for name, values in options.items()}
    found = levels_to_nv12(cp.asarray(numpy.ascontiguousarray(levels)), "bt709", **on_device)
    numpy.testing.assert_array_equal(cp.asnumpy(found), levels_to_nv12(levels, "bt709", **options))


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_grey_survives_both_ways_within_one_level(cp, matrix):
    grey = numpy.random.default_rng(7).integers(0, 256, (6, 70)).astype(numpy.float32)
    levels = cp.asarray(numpy.ascontiguousarray(numpy.broadcast_to(grey, (3, 6, 70))))
    codes = levels_to_nv12(levels, matrix)
    assert (cp.asnumpy(codes)[6:] == 128).all()
    out = cp.empty((3, 6, 70), numpy.float32)
    yuv_to_levels([codes[:6], codes[6:]], out, Colour(matrix))
    assert abs(numpy.rint(cp.asnumpy(out)) - grey).max() <= 1


def test_a_batch_of_no_frames(cp):
    levels = cp.zeros((0, 3, 4, 6), numpy.float32)
    assert levels_to_nv12(levels, "bt601").shape == (0, 6, 6)
    levels_to_yuv(levels, [cp.empty((0, 4, 6), numpy.uint8) for _ in range(3)], "bt601")


# Errors


def test_wrong_arguments_are_named(cp):
    levels, out = cp.zeros((3, 4, 6), numpy.float32), cp.empty((3, 4, 6), numpy.float32)
    padded = [cp.zeros((4, 7), numpy.uint8) for _ in range(3)]
    with pytest.raises(ValueError, match="planes: expected 6x4 on a GPU, got shape"):
        levels_to_yuv(levels, padded, "bt601")
    with pytest.raises(TypeError, match="planes: expected contiguous uint8, all alike, got int32"):
        levels_to_yuv(levels, [cp.zeros((4, 6), numpy.int32) for _ in range(3)], "bt601")
    with pytest.raises(TypeError, match="planes: expected contiguous uint8 or uint16, all alike"):
        yuv_to_levels([plane[:, :6] for plane in padded], out, Colour("bt601"), subsampling=(1, 1))
    with pytest.raises(TypeError, match="out: expected contiguous float32, got float64"):
        yuv_to_levels(padded, out.astype(numpy.float64), Colour("bt601"), subsampling=(1, 1))
    with pytest.raises(TypeError, match="expected all on one device"):
        yuv_to_levels(padded, numpy.empty((3, 4, 6), numpy.float32), Colour("bt601"))
    with pytest.raises(TypeError, match="expected all on one device"):
        levels_to_nv12(levels, "bt601", scale=numpy.ones(3))


def test_every_kernel_runs(cp):
    exercise(cp)
