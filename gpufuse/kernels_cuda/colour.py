"""YUV video to planar RGB levels and back, for `gpufuse.colour`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from gpufuse.kernels_cuda._compile import kernel

__all__ = [
    "FILE",
    "VARIANTS",
    "grey_to_levels",
    "levels_to_nv12",
    "levels_to_yuv",
    "nv12_to_levels",
    "yuv_to_levels",
]

FILE = "colour"
VARIANTS: tuple[str, ...] = (
    "yuv_to_levels<unsigned char>",
    "yuv_to_levels<unsigned short>",
    "grey_to_levels<unsigned char>",
    "grey_to_levels<unsigned short>",
)

_MOST_FRAMES = 65535
"""Blocks along the axis of a grid that counts frames; what is beyond comes in turns."""


def yuv_to_levels(
    luma: Any,
    chroma: Sequence[Any],
    out: Any,
    coefficients: numpy.ndarray,
    shift_x: int,
    shift_y: int,
    centred: bool,
    unused_bits: int,
) -> None:
    """Convert one picture to clipped RGB levels.

    Parameters
    ----------
    luma : cupy.ndarray, shape (>= H, >= W), uint8 or uint16, contiguous
    chroma : sequence of cupy.ndarray
        Cb and Cr, or one plane in which they alternate.
    out : cupy.ndarray, shape (3, H, W), float32, contiguous
        Written.
    coefficients : numpy.ndarray, shape (7,), float32
        As the CPU twin's.
    shift_x, shift_y : int
        1 where chroma is halved.
    centred : bool
        Whether halved chroma lies between two columns.
    unused_bits : int
        Low bits of a code that carry nothing.
    """
    if not out.size:
        return
    if len(chroma) == 1:
        samples = chroma[0].reshape(-1)
        blue, red, step = samples, samples[1:], 2
    else:
        (blue, red), step = chroma, 1
    pitches = luma.shape[1], chroma[0].shape[1], chroma[-1].shape[1]
    _yuv_to_levels(
        (luma, blue, red), out, coefficients, pitches, step, shift_x, shift_y, centred, unused_bits
    )


def nv12_to_levels(codes: Any, out: Any, coefficients: numpy.ndarray, centred: bool) -> None:
    """Convert a batch of 8-bit NV12 to clipped RGB levels.

    Parameters
    ----------
    codes : cupy.ndarray, shape (T, H * 3 / 2, W), uint8, contiguous
    out : cupy.ndarray, shape (T, 3, H, W), float32, contiguous
        Written.
    coefficients, centred
        As of `yuv_to_levels`.
    """
    if not out.size:
        return
    height, width = out.shape[2:]
    for first in range(0, len(codes), _MOST_FRAMES):
        part = slice(first, first + _MOST_FRAMES)
        samples = codes[part].reshape(-1)
        planes = samples, samples[height * width :], samples[height * width + 1 :]
        _yuv_to_levels(planes, out[part], coefficients, (width,) * 3, 2, 1, 1, centred, 0, codes[0].size)


def _yuv_to_levels(
    planes: Sequence[Any],
    out: Any,
    coefficients: numpy.ndarray,
    pitches: Sequence[int],
    step: int,
    shift_x: int,
    shift_y: int,
    centred: bool,
    unused_bits: int,
    codes_frame: int = 0,
) -> None:
    height, width = out.shape[-2:]
    frames = out.size // (3 * height * width)
    kernel(FILE, f"yuv_to_levels<{_code(planes[0])}>", VARIANTS)(
        (-(-width // 32), -(-height // 64), frames),
        (32, 8),
        (
            *planes, out, numpy.int32(codes_frame), numpy.int32(height), numpy.int32(width),
            *map(numpy.int32, pitches), numpy.int32(step),
            numpy.int32(shift_x), numpy.int32(shift_y), numpy.int32(centred), numpy.int32(unused_bits),
            *map(numpy.float32, coefficients),
        ),
    )  # fmt: skip


def grey_to_levels(luma: Any, out: Any, black: float, gain: float, unused_bits: int) -> None:
    """Convert one plane to clipped levels in three equal channels; arguments as of `yuv_to_levels`."""
    height, width = out.shape[1:]
    if not out.size:
        return
    kernel(FILE, f"grey_to_levels<{_code(luma)}>", VARIANTS)(
        (-(-width // 32), -(-height // 8)),
        (32, 8),
        (
            luma, out, numpy.int32(height), numpy.int32(width), numpy.int32(luma.shape[1]),
            numpy.int32(unused_bits), numpy.float32(black), numpy.float32(gain),
        ),
    )  # fmt: skip


def levels_to_yuv(
    levels: Any, planes: Sequence[Any], coefficients: numpy.ndarray, halved: bool, scale: Any, shift: Any
) -> None:
    """Convert a batch of levels to 8-bit planes.

    Parameters
    ----------
    levels : cupy.ndarray, shape (T, 3, H, W), float32, contiguous
    planes : sequence of three cupy.ndarray, uint8, contiguous
        Written: (T, H, W), and two of (T, H / 2, W / 2) if `halved`.
    coefficients : numpy.ndarray, shape (10,), float32
        As the CPU twin's: black code, then the weights of red, green and blue in Y, in Cb and in Cr.
    halved : bool
        Whether chroma is halved; H and W are even then.
    scale, shift : cupy.ndarray, shape (T, 3), float32, contiguous
    """
    frames, _, height, width = levels.shape
    if not levels.size:
        return
    if halved:
        frame = height * width
        _levels_to_420(levels, planes, coefficients, scale, shift, (frame, frame // 4, 1))
        return
    kernel(FILE, "levels_to_444", VARIANTS)(
        (-(-height * width // 256), min(frames, _MOST_FRAMES)),
        (256,),
        (
            levels, scale, shift, *planes, numpy.int32(frames), numpy.int32(height * width),
            *map(numpy.float32, coefficients[1:]),
        ),
    )  # fmt: skip


def levels_to_nv12(levels: Any, out: Any, coefficients: numpy.ndarray, scale: Any, shift: Any) -> None:
    """Convert a batch of levels to 8-bit frames of Y, then rows in which Cb and Cr alternate.

    Parameters
    ----------
    levels, coefficients, scale, shift
        As of `levels_to_yuv`; even sides.
    out : cupy.ndarray, shape (T, H * 3 / 2, W), uint8, contiguous
        Written.
    """
    height, width = levels.shape[2:]
    if not levels.size:
        return
    codes, frame = out.reshape(-1), height * width
    planes = (out, codes[frame:], codes[frame + 1 :])
    _levels_to_420(levels, planes, coefficients, scale, shift, (frame * 3 // 2, frame * 3 // 2, 2))


def _levels_to_420(
    levels: Any,
    planes: Sequence[Any],
    coefficients: numpy.ndarray,
    scale: Any,
    shift: Any,
    distances: tuple[int, int, int],
) -> None:
    # Distances in codes: from frame to frame of luma and of chroma, and between chroma samples.
    frames, _, height, width = levels.shape
    kernel(FILE, "levels_to_420", VARIANTS)(
        (-(-width // 64), -(-height // 16), min(frames, _MOST_FRAMES)),
        (32, 8),
        (
            levels, scale, shift, *planes, numpy.int32(frames), numpy.int32(height), numpy.int32(width),
            *map(numpy.int32, distances), *map(numpy.float32, coefficients[1:]),
        ),
    )  # fmt: skip


def _code(plane: Any) -> str:
    return "unsigned char" if plane.dtype == numpy.uint8 else "unsigned short"
