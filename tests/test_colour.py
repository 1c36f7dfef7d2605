"""YUV to levels and back, against the formula written out in float64."""

import numpy
import pytest

from gpufuse import normalise
from gpufuse.arrays import ImageFormat, from_levels
from gpufuse.colour import (
    MATRICES,
    Colour,
    default_matrix,
    levels_to_nv12,
    levels_to_pixels,
    levels_to_yuv,
    yuv_to_levels,
)

RNG_SEED = 7


def upsample(plane, height, width, subsampling, siting):
    """Linear interpolation at the positions of the luma samples, edges repeated."""
    across, down = subsampling
    rows = (numpy.arange(height) + 0.5) / down - 0.5 if down == 2 else numpy.arange(height)
    columns = numpy.arange(width) / across
    if across == 2 and siting == "centre":
        columns = (numpy.arange(width) + 0.5) / 2 - 0.5
    plane = numpy.asarray(plane, float)
    for axis, positions in enumerate((rows, columns)):
        most = plane.shape[axis] - 1
        positions = numpy.clip(positions, 0, most)
        low = numpy.floor(positions).astype(int)
        high = numpy.minimum(low + 1, most)
        share = positions - low
        share = share[:, None] if axis == 0 else share
        plane = plane.take(low, axis) * (1 - share) + plane.take(high, axis) * share
    return plane


def oracle(planes, height, width, colour, depth, subsampling):
    step = 2.0 ** (depth - 8)
    kr, kb = MATRICES[colour.matrix]
    if colour.full_range:
        scale = 255 / (256 * step - 1)
        black, luma_gain, chroma_gain = 0.0, scale, scale
    else:
        black, luma_gain, chroma_gain = 16 * step, 255 / (219 * step), 255 / (224 * step)
    level = (planes[0][:height, :width].astype(float) - black) * luma_gain
    if len(planes) == 1:
        return numpy.clip(numpy.stack([level] * 3), 0, 255)
    chroma_shape = (-(-height // subsampling[1]), -(-width // subsampling[0]))
    blue, red = (
        upsample(p[: chroma_shape[0], : chroma_shape[1]], height, width, subsampling, colour.siting)
        for p in planes[1:]
    )
    blue, red = (blue - 128 * step) * chroma_gain, (red - 128 * step) * chroma_gain
    out_red = level + 2 * (1 - kr) * red
    out_blue = level + 2 * (1 - kb) * blue
    out_green = (level - kr * out_red - kb * out_blue) / (1 - kr - kb)
    return numpy.clip(numpy.stack([out_red, out_green, out_blue]), 0, 255)


@pytest.mark.parametrize("size", [(7, 11), (16, 5), (1, 1), (2, 3), (37, 64)])
@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize(
    "colour",
    [Colour("bt601"), Colour("bt709", full_range=True), Colour("bt2020", siting="centre")],
    ids=["601", "709 full", "2020 centre"],
)
def test_conversion_agrees_with_the_formula(size, subsampling, depth, colour):
    height, width = size
    rng = numpy.random.default_rng(RNG_SEED)
    kind = numpy.uint8 if depth == 8 else numpy.uint16
    padding = 3  # decoders pad their rows
    shapes = [(height, width)] + [(-(-height // subsampling[1]), -(-width // subsampling[0]))] * 2
    planes = [rng.integers(0, 1 << depth, (h, w + padding)).astype(kind) for h, w in shapes]
    out = numpy.full((3, height, width), -1, numpy.float32)
    yuv_to_levels(planes, out, colour, depth=depth, subsampling=subsampling)
    expected = oracle(planes, height, width, colour, depth, subsampling)
    numpy.testing.assert_allclose(out, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("depth", [8, 12])
@pytest.mark.parametrize("full_range", [False, True])
def test_grey_becomes_three_equal_channels(depth, full_range):
    rng = numpy.random.default_rng(RNG_SEED)
    luma = rng.integers(0, 1 << depth, (5, 9)).astype(numpy.uint8 if depth == 8 else numpy.uint16)
    out = numpy.empty((3, 5, 7), numpy.float32)
    colour = Colour("bt601", full_range=full_range)
    yuv_to_levels([luma], out, colour, depth=depth)
    numpy.testing.assert_allclose(out, oracle([luma], 5, 7, colour, depth, (1, 1)), atol=1e-4)


@pytest.mark.parametrize("full_range", [False, True])
def test_a_ramp_of_ten_bits_keeps_its_values_apart(full_range):
    ramp = numpy.arange(1024, dtype=numpy.uint16)[None]
    neutral = numpy.full((1, 512), 512, numpy.uint16)
    out = numpy.empty((3, 1, 1024), numpy.float32)
    yuv_to_levels([ramp, neutral, neutral], out, Colour("bt709", full_range), depth=10)
    # In the limited range the codes outside 64..940 are clipped: 877 are left.
    assert len(numpy.unique(out[0])) >= (1000 if full_range else 877)
    assert out[0, 0, 0] == 0
    assert out[0, 0, -1] == 255


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("size", [(6, 10), (7, 11)])
def test_grey_survives_both_ways_within_one_level(matrix, size):
    height, width = size
    rng = numpy.random.default_rng(RNG_SEED)
    grey = numpy.broadcast_to(rng.integers(0, 256, size), (3, *size)).astype(numpy.float32)
    halved = not (height % 2 or width % 2)
    chroma = (height // 2, width // 2) if halved else size
    planes = [numpy.zeros(shape, numpy.uint8) for shape in (size, chroma, chroma)]
    levels_to_yuv(numpy.ascontiguousarray(grey), planes, matrix)
    assert (planes[1] == 128).all()
    assert (planes[2] == 128).all()
    out = numpy.empty_like(grey)
    yuv_to_levels(planes, out, Colour(matrix), subsampling=(2, 2) if halved else (1, 1))
    assert numpy.abs(numpy.rint(out) - grey).max() <= 1


def test_encoding_agrees_with_the_formula():
    rng = numpy.random.default_rng(RNG_SEED)
    levels = rng.uniform(-20, 275, (3, 6, 10)).astype(numpy.float32)
    levels[:, 0, 0] = 0.5, 1.5, 254.5
    planes = [numpy.zeros(shape, numpy.uint8) for shape in ((6, 13), (3, 8), (3, 8))]
    levels_to_yuv(levels, planes, "bt709")
    kr, kb = MATRICES["bt709"]
    red, green, blue = numpy.rint(numpy.clip(levels.astype(float), 0, 255))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    numpy.testing.assert_allclose(planes[0][:, :10], 16 + luma * 219 / 255, atol=0.501)
    for plane, channel, weight in ((planes[1], blue, kb), (planes[2], red, kr)):
        full = (channel - luma) / (2 * (1 - weight)) * 224 / 255
        rows = (full[0::2] + full[1::2]) / 2
        left = numpy.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
        expected = 128 + (left + 2 * rows[:, 0::2] + rows[:, 1::2]) / 4
        numpy.testing.assert_allclose(plane[:, :5], expected, atol=0.501)
        assert (plane[:, 5:] == 0).all()  # beyond the picture nothing is written


def test_colour_edges_stay_where_they_are():
    """Down and up again, a colour step keeps its place: no shift by part of a pixel."""
    levels = numpy.zeros((3, 4, 64), numpy.float32)
    levels[0] = numpy.linspace(0, 255, 64)
    planes = [numpy.zeros(shape, numpy.uint8) for shape in ((4, 64), (2, 32), (2, 32))]
    levels_to_yuv(levels, planes, "bt601")
    out = numpy.empty_like(levels)
    yuv_to_levels(planes, out, Colour("bt601"))
    assert numpy.abs(out - levels)[:, :, 2:-2].max() < 2.5


@pytest.mark.parametrize("size", [(7, 11), (1, 1), (6, 10)])
@pytest.mark.parametrize(("depth", "high_bits"), [(8, False), (10, False), (10, True), (16, True)])
def test_alternating_chroma_is_that_of_planes(size, depth, high_bits):
    height, width = size
    rng = numpy.random.default_rng(RNG_SEED)
    kind = numpy.uint8 if depth == 8 else numpy.uint16
    shapes = [size] + [(-(-height // 2), -(-width // 2))] * 2
    luma, blue, red = (rng.integers(0, 1 << depth, shape).astype(kind) for shape in shapes)
    chroma = numpy.zeros((blue.shape[0] + 1, 2 * blue.shape[1] + 4), kind)  # longer rows, one more
    chroma[:-1, 0:-4:2], chroma[:-1, 1:-4:2] = blue, red
    expected, found = numpy.full((2, 3, *size), -1, numpy.float32)
    yuv_to_levels([luma, blue, red], expected, Colour("bt709"), depth=depth)
    codes = [luma, chroma]
    if high_bits:
        codes = [plane << (16 - depth) | 0b111 * (depth == 10) for plane in codes]  # low bits do not count
    yuv_to_levels(codes, found, Colour("bt709"), depth=depth, high_bits=high_bits)
    numpy.testing.assert_array_equal(found, expected)
    yuv_to_levels(codes[:1], found, Colour("bt709"), depth=depth, high_bits=high_bits)
    yuv_to_levels([luma], expected, Colour("bt709"), depth=depth)
    numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", ["each", "shared", "none"])
def test_a_batch_is_encoded_as_its_frames_are(form):
    rng = numpy.random.default_rng(RNG_SEED)
    levels = rng.uniform(-20, 275, (3, 3, 6, 10)).astype(numpy.float32)
    shape = {"each": (3, 3), "shared": (3,), "none": (3,)}[form]
    scale, shift = rng.uniform(0.5, 1.5, shape), rng.uniform(-9, 9, shape)
    options = {} if form == "none" else {"scale": scale, "shift": shift}
    planes = [numpy.zeros((3, *shape), numpy.uint8) for shape in ((6, 13), (3, 8), (3, 8))]
    full = [numpy.zeros((3, 6, 10), numpy.uint8) for _ in range(3)]
    levels_to_yuv(levels, planes, "bt709", **options)
    levels_to_yuv(levels, full, "bt709", **options)
    together = levels_to_nv12(levels, "bt709", **options)
    assert together.shape == (3, 9, 10)
    assert together.dtype == numpy.uint8
    for k, frame in enumerate(levels):
        if form != "none":
            c1, c2 = (numpy.broadcast_to(values, (3, 3))[k] for values in (scale, shift))
            frame = normalise.apply_affine(frame, c1, c2)
        for batch in (planes, full):
            one = [numpy.zeros_like(plane[0]) for plane in batch]
            levels_to_yuv(frame, one, "bt709")
            for plane, expected in zip(batch, one, strict=True):
                numpy.testing.assert_array_equal(plane[k], expected)
        numpy.testing.assert_array_equal(together[k, :6], planes[0][k, :, :10])
        numpy.testing.assert_array_equal(together[k, 6:, 0::2], planes[1][k, :, :5])
        numpy.testing.assert_array_equal(together[k, 6:, 1::2], planes[2][k, :, :5])
        numpy.testing.assert_array_equal(levels_to_nv12(frame, "bt709"), together[k])


def test_one_of_scale_and_shift_is_enough():
    levels = numpy.full((3, 2, 2), 100, numpy.float32)
    by_scale = levels_to_nv12(levels, "bt601", scale=numpy.full(3, 1.5))
    by_shift = levels_to_nv12(levels, "bt601", shift=numpy.full(3, 50.0))
    numpy.testing.assert_array_equal(by_scale, by_shift)
    numpy.testing.assert_array_equal(by_scale, levels_to_nv12(levels + 50, "bt601"))


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (37, 61)])
def test_pixels_are_those_of_all_final_pictures(size):
    halves = numpy.linspace(-3, 259, 3 * size[0] * size[1])
    levels = halves.astype(numpy.float32).reshape(3, *size)
    levels.flat[:3] = 0.5, 1.5, 254.5
    expected = from_levels(levels, ImageFormat(numpy.dtype(numpy.uint8), True))
    for form in (levels, numpy.asfortranarray(levels), levels.astype(">f4")):
        form.flags.writeable = False
        found = levels_to_pixels(form)
        assert found.dtype == numpy.uint8
        numpy.testing.assert_array_equal(found, expected)


def test_a_batch_of_no_frames():
    assert levels_to_nv12(numpy.zeros((0, 3, 4, 6), numpy.float32), "bt601").shape == (0, 6, 6)


def test_untagged_video_changes_its_matrix_at_720_lines():
    assert [default_matrix(lines) for lines in (240, 719, 720, 2160)] == ["bt601", "bt601", "bt709", "bt709"]


def test_wrong_arguments_are_named():
    out = numpy.empty((3, 4, 6), numpy.float32)
    small = [numpy.zeros((4, 6), numpy.uint8), *[numpy.zeros((2, 2), numpy.uint8)] * 2]
    with pytest.raises(ValueError, match="planes: expected Cb of at least 3x2"):
        yuv_to_levels(small, out, Colour("bt601"))
    with pytest.raises(ValueError, match="planes: expected 1 to 3, got 4"):
        yuv_to_levels([*small, small[0]], out, Colour("bt601"))
    with pytest.raises(ValueError, match="planes: expected Cb and Cr of at least 6x2"):
        yuv_to_levels(small[:2], out, Colour("bt601"))
    with pytest.raises(ValueError, match="planes: expected uint16 for codes in the high bits, got uint8"):
        yuv_to_levels(small[:1], out, Colour("bt601"), high_bits=True)
    with pytest.raises(ValueError, match="depth: expected 8 to 16 bits, got 7"):
        yuv_to_levels(small, out, Colour("bt601"), depth=7)
    with pytest.raises(ValueError, match=r"subsampling: expected .* got \(4, 1\)"):
        yuv_to_levels(small, out, Colour("bt601"), subsampling=(4, 1))
    with pytest.raises(ValueError, match="matrix: expected one of bt601"):
        Colour("rgb")
    with pytest.raises(ValueError, match="siting: expected 'left' or 'centre'"):
        Colour("bt601", siting="top")
    odd = [numpy.zeros((5, 6), numpy.uint8), *[numpy.zeros((2, 3), numpy.uint8)] * 2]
    with pytest.raises(ValueError, match="levels: expected even sides for 4:2:0, got 6x5"):
        levels_to_yuv(numpy.zeros((3, 5, 6), numpy.float32), odd, "bt601")
    with pytest.raises(ValueError, match="levels: expected even sides for 4:2:0, got 5x4"):
        levels_to_nv12(numpy.zeros((3, 4, 5), numpy.float32), "bt601")
    for shape in [(4, 6), (1, 4, 6), (1, 1, 3, 4, 6)]:
        with pytest.raises(ValueError, match=r"levels: expected shape \(3, H, W\) or \(T, 3, H, W\)"):
            levels_to_nv12(numpy.zeros(shape, numpy.float32), "bt601")
    with pytest.raises(ValueError, match="planes: expected Y of at least 6x4, got shape"):
        levels_to_yuv(
            numpy.zeros((2, 3, 4, 6), numpy.float32), [numpy.zeros((4, 6), numpy.uint8)] * 3, "bt601"
        )
    with pytest.raises(ValueError, match="planes: expected 3, got 2"):
        levels_to_yuv(numpy.zeros((3, 4, 6), numpy.float32), [numpy.zeros((4, 12), numpy.uint8)] * 2, "bt601")
