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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from gpufuse.arrays import LEVELS
from gpufuse.threads import for_bands

__all__ = ["MATRICES", "Colour", "default_matrix", "levels_to_yuv", "yuv_to_levels"]

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
    planes: Sequence[numpy.ndarray],
    out: numpy.ndarray,
    colour: Colour,
    *,
    depth: int = 8,
    subsampling: tuple[int, int] = (2, 2),
) -> None:
    """Convert the planes of a YUV picture to RGB levels.

    Parameters
    ----------
    planes : sequence of ndarray
        Y, Cb, Cr, or Y alone (grey, which becomes three equal channels). ``uint8`` or ``uint16``,
        C-contiguous; rows may be longer than the picture.
    out : ndarray, shape (3, H, W), float32, C-contiguous
        Written: levels, clipped to 0..255.
    colour : Colour
        Matrix, range and siting.
    depth : int
        Bits per sample, 8 to 16.
    subsampling : (int, int)
        Luma columns and rows per chroma sample: (2, 2) for 4:2:0, (2, 1) for 4:2:2, (1, 1) for 4:4:4.

    Raises
    ------
    ValueError
        For a wrong number of planes, planes smaller than the picture, or another subsampling.

    Examples
    --------
    >>> import numpy
    >>> out = numpy.empty((3, 1, 2), numpy.float32)
    >>> yuv_to_levels([numpy.array([[16, 235]], numpy.uint8)], out, Colour("bt601"))
    >>> out[0].tolist()
    [[0.0, 255.0]]
    """
    from gpufuse.kernels_cpu import colour as kernels

    height, width = out.shape[1:]
    rows = max(1, _BAND_PIXELS // width)
    black, gain, neutral, chroma_gain = _scales(colour.full_range, depth)
    _check_planes(planes, height, width, subsampling)
    if len(planes) == 1:
        for_bands(
            kernels.grey_to_levels, height, planes[0], out,
            numpy.float32(black), numpy.float32(gain), minimum=rows,
        )  # fmt: skip
        return
    kr, kb = MATRICES[colour.matrix]
    kg = 1.0 - kr - kb
    red, blue = 2.0 * (1.0 - kr), 2.0 * (1.0 - kb)
    from_chroma = (red, -blue * kb / kg, -red * kr / kg, blue)
    coefficients = numpy.array([black, gain, neutral, *(chroma_gain * c for c in from_chroma)], numpy.float32)
    for_bands(
        kernels.yuv_to_levels, height, planes[0], planes[1], planes[2], out, coefficients,
        subsampling[0] - 1, subsampling[1] - 1, colour.siting == "centre", minimum=rows,
    )  # fmt: skip


def levels_to_yuv(levels: numpy.ndarray, planes: Sequence[numpy.ndarray], matrix: str) -> None:
    """Convert RGB levels to 8-bit YUV planes in the limited range.

    Levels are first clipped and rounded half to even to 8-bit RGB, as every final pixel is. Halved chroma
    is weighted 1 2 1 around the even columns and averaged over two rows, so that `yuv_to_levels`
    finds it where it was.

    Parameters
    ----------
    levels : ndarray, shape (3, H, W), float32, C-contiguous, grey levels
        Not changed.
    planes : sequence of three ndarray, uint8, C-contiguous
        Written; rows may be longer than the picture. Chroma planes with H/2 rows are 4:2:0 (H and W
        must be even), with H rows 4:4:4.
    matrix : str
        A key of `MATRICES`.

    Raises
    ------
    ValueError
        For planes that do not fit the picture.

    Examples
    --------
    >>> import numpy
    >>> planes = [numpy.empty((2, 2), numpy.uint8), *numpy.empty((2, 1, 1), numpy.uint8)]
    >>> levels_to_yuv(numpy.full((3, 2, 2), 255, numpy.float32), planes, "bt709")
    >>> planes[0].tolist(), planes[1].tolist()
    ([[235, 235], [235, 235]], [[128]])
    """
    from gpufuse.kernels_cpu import colour as kernels

    height, width = levels.shape[1:]
    halved = height > 1 and planes[1].shape[0] == height // 2
    if halved and (height % 2 or width % 2):
        raise ValueError(f"levels: expected even sides for 4:2:0, got {width}x{height}; use 4:4:4 planes")
    _check_planes(planes, height, width, (2, 2) if halved else (1, 1))
    kr, kb = MATRICES[matrix]
    kg = 1.0 - kr - kb
    luma, chroma = 219.0 / LEVELS, 224.0 / LEVELS
    blue, red = 0.5 * chroma / (1.0 - kb), 0.5 * chroma / (1.0 - kr)
    coefficients = numpy.array(
        (
            *(16.0, luma * kr, luma * kg, luma * kb),
            *(-blue * kr, -blue * kg, blue * (1.0 - kb)),
            *(red * (1.0 - kr), -red * kg, -red * kb),
        ),
        numpy.float32,
    )
    rows = height // 2 if halved else height
    for_bands(
        kernels.levels_to_yuv, rows, levels, planes[0], planes[1], planes[2], coefficients, halved,
        minimum=max(1, _BAND_PIXELS // (width * (height // rows))),
    )  # fmt: skip


def _scales(full_range: bool, depth: int) -> tuple[float, float, float, float]:
    """Black code, luma gain, neutral chroma code and chroma gain for codes of `depth` bits."""
    if not 8 <= depth <= 16:
        raise ValueError(f"depth: expected 8 to 16 bits, got {depth}; convert the picture first")
    step = float(1 << (depth - 8))
    if full_range:
        gain = LEVELS / (256.0 * step - 1.0)
        return 0.0, gain, 128.0 * step, gain
    return 16.0 * step, LEVELS / (219.0 * step), 128.0 * step, LEVELS / (224.0 * step)


def _check_planes(
    planes: Sequence[numpy.ndarray], height: int, width: int, subsampling: tuple[int, int]
) -> None:
    # The kernels do not check indices.
    if len(planes) not in (1, 3):
        raise ValueError(f"planes: expected 1 or 3, got {len(planes)}; give Y, or Y, Cb and Cr")
    across, down = subsampling
    if across not in (1, 2) or down not in (1, 2):
        raise ValueError(f"subsampling: expected (2, 2), (2, 1), (1, 2) or (1, 1), got {subsampling}")
    sizes = [(height, width)] + [(-(-height // down), -(-width // across))] * 2
    for name, plane, (rows, columns) in zip(("Y", "Cb", "Cr"), planes, sizes, strict=False):
        if plane.ndim != 2 or plane.shape[0] < rows or plane.shape[1] < columns:
            raise ValueError(
                f"planes: expected {name} of at least {columns}x{rows}, got shape {plane.shape}; "
                "check the subsampling"
            )
