"""Rows of YUV video to planar RGB levels and back, for `gpufuse.colour`.

Each kernel works on the rows ``start:stop`` and may be called for several bands at once. Planes
are C-contiguous and may be wider than the picture (decoders pad their rows); columns beyond the
picture are neither read nor written. Columns are shifted by slicing, not by ``row[x - 1]``: a possibly
negative index would keep the loop from being vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy

from gpufuse.kernels_cpu._compile import kernel

__all__ = ["grey_to_levels", "levels_to_pixels", "levels_to_yuv", "yuv_to_levels"]

_ZERO = numpy.float32(0.0)
_WHITE = numpy.float32(255.0)
_QUARTER = numpy.float32(0.25)
_HALF = numpy.float32(0.5)
_TWO = numpy.float32(2.0)
_EIGHTH = numpy.float32(0.125)
_NEUTRAL = numpy.float32(128.0)


@kernel
def _upsample_row(row: Any, full: Any, chroma_width: int, centred: bool) -> None:
    # `row` has one more valid sample than the picture's chroma: its last one repeated.
    if centred:
        full[0] = row[0]
        odd, even, left, right = full[1::2], full[2::2], row[:-1], row[1:]
        for x in range(chroma_width):
            odd[x] = left[x] + _QUARTER * (right[x] - left[x])
            even[x] = right[x] + _QUARTER * (left[x] - right[x])
    else:
        even, odd, right = full[0::2], full[1::2], row[1:]
        for x in range(chroma_width):
            even[x] = row[x]
            odd[x] = _HALF * (row[x] + right[x])


@kernel
def _blend_row(near: Any, far: Any, row: Any, chroma_width: int, share: Any, neutral: Any) -> None:
    for x in range(chroma_width):
        a = numpy.float32(near[x]) - neutral
        b = numpy.float32(far[x]) - neutral
        row[x] = a + share * (b - a)
    row[chroma_width] = row[chroma_width - 1]


@kernel
def yuv_to_levels(
    start: int,
    stop: int,
    luma: Any,
    chroma_blue: Any,
    chroma_red: Any,
    out: Any,
    coefficients: Any,
    shift_x: int,
    shift_y: int,
    centred: bool,
) -> None:
    """Convert rows of planar YUV to clipped RGB levels; `out` is (3, H, W).

    `coefficients`: black code, luma gain, neutral chroma code, red from Cr, green from Cb, green from
    Cr, blue from Cb. `shift_x` and `shift_y` are 1 where chroma is halved.
    """
    height, width = out.shape[1], out.shape[2]
    chroma_width = (width + shift_x) >> shift_x
    chroma_height = (height + shift_y) >> shift_y
    black, gain, neutral = coefficients[0], coefficients[1], coefficients[2]
    red_cr, green_cb, green_cr, blue_cb = coefficients[3], coefficients[4], coefficients[5], coefficients[6]
    blue_row = numpy.empty(chroma_width + 1, numpy.float32)
    red_row = numpy.empty(chroma_width + 1, numpy.float32)
    blue_full = numpy.empty(2 * chroma_width + 2, numpy.float32)
    red_full = numpy.empty(2 * chroma_width + 2, numpy.float32)
    for r in range(start, stop):
        near = r >> shift_y
        far, share = near, _ZERO
        if shift_y == 1:
            share = _QUARTER
            far = near - 1 if r % 2 == 0 else near + 1
            far = min(max(far, 0), chroma_height - 1)
        _blend_row(chroma_blue[near], chroma_blue[far], blue_row, chroma_width, share, neutral)
        _blend_row(chroma_red[near], chroma_red[far], red_row, chroma_width, share, neutral)
        if shift_x == 1:
            _upsample_row(blue_row, blue_full, chroma_width, centred)
            _upsample_row(red_row, red_full, chroma_width, centred)
            blue, red = blue_full, red_full
        else:
            blue, red = blue_row, red_row
        luma_row = luma[r]
        out_red, out_green, out_blue = out[0, r], out[1, r], out[2, r]
        for x in range(width):
            level = (numpy.float32(luma_row[x]) - black) * gain
            cb, cr = blue[x], red[x]
            out_red[x] = min(max(level + red_cr * cr, _ZERO), _WHITE)
            out_green[x] = min(max(level + green_cb * cb + green_cr * cr, _ZERO), _WHITE)
            out_blue[x] = min(max(level + blue_cb * cb, _ZERO), _WHITE)


@kernel
def grey_to_levels(start: int, stop: int, luma: Any, out: Any, black: Any, gain: Any) -> None:
    """Convert rows of one plane to clipped levels in all three channels of `out` (3, H, W)."""
    width = out.shape[2]
    for r in range(start, stop):
        luma_row = luma[r]
        out_red, out_green, out_blue = out[0, r], out[1, r], out[2, r]
        for x in range(width):
            level = min(max((numpy.float32(luma_row[x]) - black) * gain, _ZERO), _WHITE)
            out_red[x] = level
            out_green[x] = level
            out_blue[x] = level


@kernel
def levels_to_pixels(start: int, stop: int, levels: Any, pixels: Any) -> None:
    """Clip and round rows of levels (3, H, W) to 8-bit pixels, (H, W * 3)."""
    width = levels.shape[2]
    for r in range(start, stop):
        red, green, blue, row = levels[0, r], levels[1, r], levels[2, r], pixels[r]
        for x in range(width):
            row[3 * x] = numpy.uint8(numpy.rint(min(max(red[x], _ZERO), _WHITE)))
            row[3 * x + 1] = numpy.uint8(numpy.rint(min(max(green[x], _ZERO), _WHITE)))
            row[3 * x + 2] = numpy.uint8(numpy.rint(min(max(blue[x], _ZERO), _WHITE)))


@kernel
def _encode_row(
    red_in: Any, green_in: Any, blue_in: Any, luma_row: Any, blue_sum: Any, red_sum: Any,
    width: int, c: Any,
) -> None:  # fmt: skip
    # Adds the row's colour differences to the sums; final pixels are 8-bit, so round RGB first.
    for x in range(width):
        red = numpy.rint(min(max(red_in[x], _ZERO), _WHITE))
        green = numpy.rint(min(max(green_in[x], _ZERO), _WHITE))
        blue = numpy.rint(min(max(blue_in[x], _ZERO), _WHITE))
        luma_row[x] = numpy.uint8(numpy.rint(c[0] + c[1] * red + c[2] * green + c[3] * blue))
        blue_sum[x] += c[4] * red + c[5] * green + c[6] * blue
        red_sum[x] += c[7] * red + c[8] * green + c[9] * blue


@kernel
def levels_to_yuv(
    start: int,
    stop: int,
    levels: Any,
    luma: Any,
    chroma_blue: Any,
    chroma_red: Any,
    coefficients: Any,
    halved: bool,
) -> None:
    """Convert levels (3, H, W) to 8-bit planes; rows ``start:stop`` are rows of the chroma planes.

    `coefficients`: black code, then the weights of red, green and blue in Y, in Cb and in Cr.
    With `halved` chroma the picture's sides are even.
    """
    width = levels.shape[2]
    # One more sample on the left, the first repeated, so that the taps are slices.
    blue_sum = numpy.empty(width + 1, numpy.float32)
    red_sum = numpy.empty(width + 1, numpy.float32)
    rows = 2 if halved else 1
    for k in range(start, stop):
        blue_sum[:] = _ZERO
        red_sum[:] = _ZERO
        for r in range(rows * k, rows * k + rows):
            _encode_row(
                levels[0, r], levels[1, r], levels[2, r], luma[r], blue_sum[1:], red_sum[1:],
                width, coefficients,
            )  # fmt: skip
        blue_row, red_row = chroma_blue[k], chroma_red[k]
        if halved:
            # Chroma sits on the even columns: 1 2 1 across, the mean of two rows down.
            blue_sum[0] = blue_sum[1]
            red_sum[0] = red_sum[1]
            b0, b1, b2 = blue_sum[0::2], blue_sum[1::2], blue_sum[2::2]
            r0, r1, r2 = red_sum[0::2], red_sum[1::2], red_sum[2::2]
            for x in range(width // 2):
                blue = _NEUTRAL + _EIGHTH * (b0[x] + _TWO * b1[x] + b2[x])
                red = _NEUTRAL + _EIGHTH * (r0[x] + _TWO * r1[x] + r2[x])
                blue_row[x] = numpy.uint8(numpy.rint(blue))
                red_row[x] = numpy.uint8(numpy.rint(red))
        else:
            for x in range(width):
                blue_row[x] = numpy.uint8(numpy.rint(_NEUTRAL + blue_sum[1 + x]))
                red_row[x] = numpy.uint8(numpy.rint(_NEUTRAL + red_sum[1 + x]))
