"""YUV video to planar RGB levels and back, by one stated formula.

With luma weights ``kr, kg, kb`` of the matrix, codes scaled to 8 bits, Y from 16 to 235 and Cb, Cr from 16
to 240 around 128 in the limited range (0 to 255 in the full range)::

    L = (Y - 16) * 255/219                    R = L + 2 (1 - kr) * P_r
    P_b = (Cb - 128) * 255/224                B = L + 2 (1 - kb) * P_b
    P_r = (Cr - 128) * 255/224                G = (L - kr R - kb B) / kg

The result is clipped to 0..255 levels and keeps the fractions of deep formats: ten-bit video has about a
thousand levels of grey. Halved chroma is interpolated linearly. Its samples lie midway between
two rows, and on the even columns (as in MPEG-2 and, by default, H.264) or midway between two columns
(``siting="centre"``, as in JPEG).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy

from gpufuse.arrays import LEVELS, Array, ImageFormat, array_module, from_levels
from gpufuse.threads import for_bands

__all__ = [
    "MATRICES",
    "Colour",
    "default_matrix",
    "levels_to_nv12",
    "levels_to_pixels",
    "levels_to_yuv",
    "nv12_to_levels",
    "yuv_to_levels",
]

MATRICES: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
"""Luma weights of red and blue, by name of the matrix."""

_BAND_PIXELS = 1 << 17  # below this, handing a band to another thread costs more than it saves


@dataclass(frozen=True)
class Colour:
    """How the numbers of a YUV picture are meant.

    Attributes
    ----------
    matrix : str
        A key of `MATRICES`.
    full_range : bool
        Whether luma runs over all codes instead of 16..235.
    siting : {"left", "centre"}
        Where halved chroma samples lie between columns.
    """

    matrix: str
    full_range: bool = False
    siting: Literal["left", "centre"] = "left"

    def __post_init__(self) -> None:
        if self.matrix not in MATRICES:
            raise ValueError(
                f"matrix: expected one of {', '.join(MATRICES)}, got {self.matrix!r}; name the file's"
            )
        if self.siting not in ("left", "centre"):
            raise ValueError(f"siting: expected 'left' or 'centre', got {self.siting!r}; choose one")


def default_matrix(height: int) -> str:
    """Return the matrix of untagged video: BT.709 from 720 lines up, else BT.601.

    Parameters
    ----------
    height : int
        Lines of the picture as stored.

    Returns
    -------
    str

    Examples
    --------
    >>> default_matrix(240), default_matrix(1080)
    ('bt601', 'bt709')
    """
    return "bt709" if height >= 720 else "bt601"


def yuv_to_levels(
    planes: Sequence[Array],
    out: Array,
    colour: Colour,
    *,
    depth: int = 8,
    subsampling: tuple[int, int] = (2, 2),
    high_bits: bool = False,
) -> None:
    """Convert the planes of a YUV picture to RGB levels.

    Parameters
    ----------
    planes : sequence of ndarray
        Y, Cb, Cr; or Y and one plane in which Cb and Cr alternate (NV12, P010); or Y alone (grey, which
        becomes three equal channels). ``uint8`` or ``uint16``, C-contiguous, NumPy or CuPy; rows may be
        longer than the picture.
    out : ndarray, shape (3, H, W), float32, C-contiguous
        Written, on the device of `planes`: levels, clipped to 0..255.
    colour : Colour
        Matrix, range and siting.
    depth : int
        Bits per sample, 8 to 16.
    subsampling : (int, int)
        Luma columns and rows per chroma sample: (2, 2) for 4:2:0, (2, 1) for 4:2:2, (1, 1) for 4:4:4.
    high_bits : bool
        Whether the codes are the high bits of ``uint16`` (P010), and not the low ones.

    Raises
    ------
    TypeError
        For arrays of different devices, or on a GPU of another type.
    ValueError
        For a wrong number of planes, planes smaller than the picture, or another subsampling.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> out = numpy.empty((3, 1, 2), numpy.float32)
    >>> yuv_to_levels([numpy.array([[16, 235]], numpy.uint8)], out, Colour("bt601"))
    >>> out[0].tolist()
    [[0.0, 255.0]]
    """
    xp = array_module(out, *planes)
    coefficients = _decoding(colour, depth)
    height, width = out.shape[1:]
    _check_planes(planes, height, width, subsampling)
    if high_bits and any(plane.dtype != numpy.uint16 for plane in planes):
        raise ValueError(
            f"planes: expected uint16 for codes in the high bits, got {planes[0].dtype}; see high_bits"
        )
    unused_bits = 16 - depth if high_bits else 0
    if xp is numpy:
        _yuv_to_levels_cpu(planes, out, coefficients, subsampling, colour.siting == "centre", unused_bits)
        return
    from gpufuse.kernels_cuda import colour as kernels

    _check_on_gpu(planes, (numpy.uint8, numpy.uint16))
    if out.dtype != numpy.float32 or not out.flags.c_contiguous:
        raise TypeError(f"out: expected contiguous float32, got {out.dtype}; use cupy.empty")
    if len(planes) == 1:
        black, gain = coefficients[:2]
        kernels.grey_to_levels(planes[0], out, black, gain, unused_bits)
        return
    kernels.yuv_to_levels(
        planes[0], planes[1:], out, coefficients,
        subsampling[0] - 1, subsampling[1] - 1, colour.siting == "centre", unused_bits,
    )  # fmt: skip


def nv12_to_levels(codes: Array, colour: Colour) -> Array:
    """Convert a batch of 8-bit NV12 pictures to RGB levels; the way back from `levels_to_nv12`.

    Parameters
    ----------
    codes : ndarray, shape (T, H * 3 / 2, W), uint8, C-contiguous
        H rows of Y, then H / 2 rows in which Cb and Cr alternate; H and W even. NumPy or CuPy.
    colour : Colour
        Matrix, range and siting.

    Returns
    -------
    ndarray, shape (T, 3, H, W), float32, grey levels 0..255
        On the same device.

    Raises
    ------
    ValueError
        For another shape or dtype.

    Notes
    -----
    On a GPU one launch for all pictures. Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> nv12_to_levels(numpy.array([[[235, 235], [235, 235], [128, 128]]], numpy.uint8), Colour("bt709"))[0, 0]
    array([[255., 255.],
           [255., 255.]], dtype=float32)
    """
    xp = array_module(codes)
    if codes.ndim != 3 or codes.shape[1] % 3 or codes.shape[2] % 2 or codes.dtype != numpy.uint8:
        raise ValueError(
            "codes: expected uint8 of shape (T, H * 3 / 2, W) with even H and W, "
            f"got {codes.dtype} {tuple(codes.shape)}; see levels_to_nv12"
        )
    frames, rows, width = codes.shape
    height = rows * 2 // 3
    out = xp.empty((frames, 3, height, width), numpy.float32)
    if xp is numpy:
        for picture, levels in zip(codes, out, strict=True):
            yuv_to_levels([picture[:height], picture[height:]], levels, colour)
        return out
    from gpufuse.kernels_cuda import colour as kernels

    kernels.nv12_to_levels(xp.ascontiguousarray(codes), out, _decoding(colour, 8), colour.siting == "centre")
    return out


def _decoding(colour: Colour, depth: int) -> numpy.ndarray:
    """What the kernels multiply by: black code, luma gain, neutral code, and R Cr, G Cb, G Cr, B Cb."""
    black, gain, neutral, chroma_gain = _scales(colour.full_range, depth)
    kr, kb = MATRICES[colour.matrix]
    kg = 1.0 - kr - kb
    red, blue = 2.0 * (1.0 - kr), 2.0 * (1.0 - kb)
    from_chroma = (red, -blue * kb / kg, -red * kr / kg, blue)
    return numpy.array([black, gain, neutral, *(chroma_gain * c for c in from_chroma)], numpy.float32)


def _yuv_to_levels_cpu(
    planes: Sequence[numpy.ndarray],
    out: numpy.ndarray,
    coefficients: numpy.ndarray,
    subsampling: tuple[int, int],
    centred: bool,
    unused_bits: int,
) -> None:
    from gpufuse.kernels_cpu import colour as kernels

    height, width = out.shape[1:]
    rows = max(1, _BAND_PIXELS // width)
    if len(planes) == 2:
        columns = 2 * -(-width // subsampling[0])
        blue, red = (numpy.ascontiguousarray(planes[1][:, first:columns:2]) for first in (0, 1))
        planes = planes[0], blue, red
    if unused_bits:
        planes = [plane >> unused_bits for plane in planes]
    if len(planes) == 1:
        for_bands(
            kernels.grey_to_levels, height, planes[0], out, coefficients[0], coefficients[1], minimum=rows
        )
        return
    for_bands(
        kernels.yuv_to_levels, height, planes[0], planes[1], planes[2], out, coefficients,
        subsampling[0] - 1, subsampling[1] - 1, centred, minimum=rows,
    )  # fmt: skip


def levels_to_yuv(
    levels: Array,
    planes: Sequence[Array],
    matrix: str,
    *,
    scale: Array | None = None,
    shift: Array | None = None,
) -> None:
    """Convert RGB levels to 8-bit YUV planes in the limited range.

    Levels are first clipped and rounded half to even to 8-bit RGB, as every final pixel is. Halved chroma
    is weighted 1 2 1 around the even columns and averaged over two rows, so that `yuv_to_levels`
    finds it where it was.

    Parameters
    ----------
    levels : ndarray, shape (3, H, W) or (T, 3, H, W), float32, C-contiguous, grey levels
        A picture or a batch, NumPy or CuPy. Not changed.
    planes : sequence of three ndarray, uint8, C-contiguous
        Y, Cb and Cr, written, on the same device; with a leading axis T for a batch. Rows may be longer
        than the picture, except on a GPU. Chroma planes with H/2 rows are 4:2:0 (H and W must be even), with
        H rows 4:4:4.
    matrix : str
        A key of `MATRICES`.
    scale, shift : ndarray, shape (3,) or (T, 3), optional
        ``scale * levels + shift`` is converted, as `gpufuse.normalise.apply_affine` computes it. By
        default 1 and 0.

    Raises
    ------
    TypeError
        For arrays of different devices, or on a GPU of another type.
    ValueError
        For planes that do not fit the picture.

    See Also
    --------
    levels_to_nv12 : makes the planes of 4:2:0 itself.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> planes = [numpy.empty((2, 2), numpy.uint8), *numpy.empty((2, 1, 1), numpy.uint8)]
    >>> levels_to_yuv(numpy.full((3, 2, 2), 255, numpy.float32), planes, "bt709")
    >>> planes[0].tolist(), planes[1].tolist()
    ([[235, 235], [235, 235]], [[128]])
    """
    xp = array_module(levels, *planes)
    height, width = levels.shape[-2:]
    halved = height > 1 and planes[1].shape[-2] == height // 2
    if halved:
        _check_even(height, width)
    _check_planes(planes, height, width, (2, 2) if halved else (1, 1), leading=levels.shape[:-3])
    if len(planes) != 3:
        raise ValueError(f"planes: expected 3, got {len(planes)}; give Y, Cb and Cr")
    batch, scale, shift = _as_batch(levels, scale, shift)
    coefficients = _encoding(matrix)
    if xp is not numpy:
        from gpufuse.kernels_cuda import colour as kernels

        _check_on_gpu(planes, (numpy.uint8,))
        for plane, size in zip(planes, _sizes(height, width, (2, 2) if halved else (1, 1)), strict=True):
            if plane.shape[-2:] != size:
                raise ValueError(
                    f"planes: expected {size[1]}x{size[0]} on a GPU, got shape {tuple(plane.shape)}; "
                    "leave out the padding"
                )
        kernels.levels_to_yuv(batch, planes, coefficients, halved, scale, shift)
        return
    for k, frame in enumerate(_corrected(batch, scale, shift)):
        _levels_to_yuv_cpu(
            frame, planes if levels.ndim == 3 else [p[k] for p in planes], coefficients, halved
        )


def levels_to_nv12(
    levels: Array, matrix: str, *, scale: Array | None = None, shift: Array | None = None
) -> Array:
    """Convert RGB levels to 8-bit NV12 in the limited range, the form that video encoders take.

    Parameters
    ----------
    levels, matrix, scale, shift
        As of `levels_to_yuv`; even sides.

    Returns
    -------
    ndarray, shape (H * 3 / 2, W) or (T, H * 3 / 2, W), uint8
        On the same device: H rows of Y, then H / 2 rows in which Cb and Cr alternate.

    Raises
    ------
    TypeError
        For arrays of different devices.
    ValueError
        For odd sides or an unknown shape.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> levels_to_nv12(numpy.full((3, 2, 2), 255, numpy.float32), "bt709").tolist()
    [[235, 235], [235, 235], [128, 128]]
    """
    xp = array_module(levels)
    height, width = levels.shape[-2:]
    _check_even(height, width)
    batch, scale, shift = _as_batch(levels, scale, shift)
    coefficients = _encoding(matrix)
    out = xp.empty((len(batch), height * 3 // 2, width), numpy.uint8)
    if xp is not numpy:
        from gpufuse.kernels_cuda import colour as kernels

        kernels.levels_to_nv12(batch, out, coefficients, scale, shift)
    else:
        chroma = numpy.empty((2, height // 2, width // 2), numpy.uint8)
        for codes, frame in zip(out, _corrected(batch, scale, shift), strict=True):
            _levels_to_yuv_cpu(frame, (codes[:height], *chroma), coefficients, True)
            codes[height:, 0::2], codes[height:, 1::2] = chroma
    return out if levels.ndim == 4 else out[0]


def levels_to_pixels(levels: Array) -> Array:
    """Turn the levels of one colour picture into 8-bit pixels.

    Parameters
    ----------
    levels : ndarray, shape (3, H, W), float32, grey levels
        NumPy or CuPy. Not changed.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        On the same device: clipped to [0, 255] and rounded half to even, as `gpufuse.arrays.from_levels` does it.

    Notes
    -----
    Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> levels_to_pixels(numpy.array([[[0.5]], [[1.5]], [[300.0]]], numpy.float32)).tolist()
    [[[0, 2, 255]]]
    """
    xp = array_module(levels)
    if xp is not numpy:
        return from_levels(levels, ImageFormat(numpy.dtype(numpy.uint8), True))
    from gpufuse.kernels_cpu import colour as kernels

    _, height, width = levels.shape
    pixels = numpy.empty((height, width, 3), numpy.uint8)
    rows = pixels.reshape(height, 3 * width)
    plain = numpy.require(levels, numpy.float32, ["C", "W"])
    for_bands(kernels.levels_to_pixels, height, plain, rows, minimum=max(1, _BAND_PIXELS // width))
    return pixels


def _as_batch(levels: Array, scale: Array | None, shift: Array | None) -> tuple[Array, Array, Array]:
    """Levels with a leading axis, contiguous; scale and shift of each frame and channel, float32."""
    xp = array_module(levels, *(array for array in (scale, shift) if array is not None))
    if levels.ndim not in (3, 4) or levels.shape[-3] != 3:
        raise ValueError(
            f"levels: expected shape (3, H, W) or (T, 3, H, W), got {tuple(levels.shape)}; "
            "repeat the channel of a grey picture"
        )
    batch = xp.ascontiguousarray(levels, dtype=numpy.float32)
    batch = batch if levels.ndim == 4 else batch[None]
    if scale is None and shift is None and xp is numpy:
        return batch, None, None
    shape = (len(batch), 3)
    scale = xp.ones(shape, numpy.float32) if scale is None else scale
    shift = xp.zeros(shape, numpy.float32) if shift is None else shift
    scale, shift = (
        xp.ascontiguousarray(xp.broadcast_to(xp.asarray(values, dtype=numpy.float32), shape))
        for values in (scale, shift)
    )
    return batch, scale, shift


def _corrected(batch: numpy.ndarray, scale: Any, shift: Any) -> Iterator[numpy.ndarray]:
    """Frame after frame with scale and shift applied."""
    for k, frame in enumerate(batch):
        yield frame if scale is None else frame * scale[k, :, None, None] + shift[k, :, None, None]


def _levels_to_yuv_cpu(
    levels: numpy.ndarray, planes: Sequence[numpy.ndarray], coefficients: numpy.ndarray, halved: bool
) -> None:
    from gpufuse.kernels_cpu import colour as kernels

    height, width = levels.shape[1:]
    rows = height // 2 if halved else height
    for_bands(
        kernels.levels_to_yuv, rows, levels, planes[0], planes[1], planes[2], coefficients, halved,
        minimum=max(1, _BAND_PIXELS // (width * (height // rows))),
    )  # fmt: skip


def _encoding(matrix: str) -> numpy.ndarray:
    """Black code, then the weights of red, green and blue in Y, in Cb and in Cr."""
    kr, kb = MATRICES[matrix]
    kg = 1.0 - kr - kb
    luma, chroma = 219.0 / LEVELS, 224.0 / LEVELS
    blue, red = 0.5 * chroma / (1.0 - kb), 0.5 * chroma / (1.0 - kr)
    return numpy.array(
        (
            *(16.0, luma * kr, luma * kg, luma * kb),
            *(-blue * kr, -blue * kg, blue * (1.0 - kb)),
            *(red * (1.0 - kr), -red * kg, -red * kb),
        ),
        numpy.float32,
    )


def _check_even(height: int, width: int) -> None:
    if height % 2 or width % 2:
        raise ValueError(f"levels: expected even sides for 4:2:0, got {width}x{height}; use 4:4:4 planes")


def _check_on_gpu(planes: Sequence[Array], dtypes: tuple[Any, ...]) -> None:
    # Its kernels take addresses, and see neither type nor strides.
    for plane in planes:
        if plane.dtype not in dtypes or plane.dtype != planes[0].dtype or not plane.flags.c_contiguous:
            raise TypeError(
                f"planes: expected contiguous {' or '.join(dtype.__name__ for dtype in dtypes)}, all alike, "
                f"got {plane.dtype}; use cupy.ascontiguousarray"
            )


def _scales(full_range: bool, depth: int) -> tuple[float, float, float, float]:
    """Black code, luma gain, neutral chroma code and chroma gain for codes of `depth` bits."""
    if not 8 <= depth <= 16:
        raise ValueError(f"depth: expected 8 to 16 bits, got {depth}; convert the picture first")
    step = float(1 << (depth - 8))
    if full_range:
        gain = LEVELS / (256.0 * step - 1.0)
        return 0.0, gain, 128.0 * step, gain
    return 16.0 * step, LEVELS / (219.0 * step), 128.0 * step, LEVELS / (224.0 * step)


def _sizes(height: int, width: int, subsampling: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of Y, Cb and Cr."""
    across, down = subsampling
    return [(height, width)] + [(-(-height // down), -(-width // across))] * 2


def _check_planes(
    planes: Sequence[Array],
    height: int,
    width: int,
    subsampling: tuple[int, int],
    leading: tuple[int, ...] = (),
) -> None:
    # The kernels do not check indices.
    if len(planes) not in (1, 2, 3):
        raise ValueError(f"planes: expected 1 to 3, got {len(planes)}; give Y, or Y, Cb and Cr")
    if subsampling[0] not in (1, 2) or subsampling[1] not in (1, 2):
        raise ValueError(f"subsampling: expected (2, 2), (2, 1), (1, 2) or (1, 1), got {subsampling}")
    names, sizes = ["Y", "Cb", "Cr"], _sizes(height, width, subsampling)
    if len(planes) == 2:
        names[1], sizes[1] = "Cb and Cr", (sizes[1][0], 2 * sizes[1][1])
    for name, plane, (rows, columns) in zip(names, planes, sizes, strict=False):
        *front, high, wide = (0, 0, *plane.shape) if plane.ndim < 2 else plane.shape
        if tuple(front) != leading or high < rows or wide < columns:
            raise ValueError(
                f"planes: expected {name} of at least {columns}x{rows}, got shape {plane.shape}; "
                "check the subsampling"
            )
