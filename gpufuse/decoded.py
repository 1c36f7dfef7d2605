"""Decoded pictures of any pixel format, on the host or on a GPU, to levels."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy

from gpufuse.arrays import Array, array_module
from gpufuse.colour import Colour, default_matrix, yuv_to_levels
from gpufuse.errors import InputError
from gpufuse.transfers import on_default_stream

__all__ = ["frame_checksum", "frame_to_levels", "gpu_frame_obstacle", "scaled_frame"]

_MATRIX_BY_TAG = {
    1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020",
}  # fmt: skip
_TAG_OF_MATRIX = {"bt709": 1, "bt601": 6}
_UNSPECIFIED = (0, 2, 3)
_PLANAR = re.compile(r"yuv(?P<full>j?)(?P<alpha>a?)(?P<chroma>420|422|440|444)p(?P<depth>\d*)(?P<end>le|be)?")
_GREY = re.compile(r"gray(?P<depth>\d*)(?P<end>le|be)?")
_SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "440": (1, 2), "444": (1, 1)}


_ON_GPU = {"nv12": 8, "p010le": 10, "p016le": 16}
"""Bits of the codes in the formats that GPUs decode to."""


def frame_to_levels(frame: Any, out: Array, codec: str, clip: str) -> None:
    """Convert a decoded picture of any pixel format to levels.

    Parameters
    ----------
    frame : av.VideoFrame
        On the host, or in the memory of the GPU that `out` is on. Grey becomes three equal channels;
        transparent parts are laid over black.
    out : ndarray, shape (3, H, W), float32, C-contiguous
        Written: levels 0..255; NumPy or CuPy.
    codec : str
        FFmpeg's name of the codec, which settles what the picture's tags leave open.
    clip : str
        The clip's name, for messages.

    Raises
    ------
    InputError
        For a colour matrix that is none of `gpufuse.colour.MATRICES`.
    """
    xp = array_module(out)
    if frame.format.name == "cuda":
        _gpu_frame_to_levels(frame, out, codec, clip)
        return
    frame, name = _readable_format(frame)
    if match := _PLANAR.fullmatch(name):
        planes = [xp.asarray(_plane(plane, name)) for plane in frame.planes]
        depth = int(match["depth"] or 8)
        colour = _colour_of(frame, codec, bool(match["full"]), clip)
        yuv_to_levels(planes[:3], out, colour, depth=depth, subsampling=_SUBSAMPLING[match["chroma"]])
        if match["alpha"]:  # over black
            out *= planes[3][: frame.height, : frame.width].astype(numpy.float32) / ((1 << depth) - 1)
        return
    if match := _GREY.fullmatch(name):
        # Plain grey pictures use all codes; grey video says so if it does.
        full = codec not in ("h264", "hevc", "vp9", "av1")
        colour = _colour_of(frame, codec, full and frame.color_range == 0, clip)
        yuv_to_levels(
            [xp.asarray(_plane(frame.planes[0], name))], out, colour, depth=int(match["depth"] or 8)
        )
        return
    pixels = xp.asarray(frame.to_ndarray())
    most = 255.0 / numpy.iinfo(pixels.dtype).max
    out[...] = pixels[..., :3].transpose(2, 0, 1)
    out *= numpy.float32(most)
    if pixels.shape[-1] == 4:  # over black
        out *= pixels[..., 3].astype(numpy.float32) * numpy.float32(most / 255.0)


def frame_checksum(frame: Any) -> int:
    """Return a checksum of a decoded picture's codes, whatever padding lies between its rows.

    Parameters
    ----------
    frame : av.VideoFrame
        As for `frame_to_levels`.

    Returns
    -------
    int
        CRC-32. Equal pictures of one format have equal checksums; those of a GPU are in another format.
    """
    if frame.format.name == "cuda":
        rows = [_gpu_rows(plane, frame.width) for plane in frame.planes]
    else:
        frame, _ = _readable_format(frame)
        rows = [_plane_bytes(frame, index) for index in range(len(frame.planes))]
    checksum = 0
    for plane in rows:
        checksum = zlib.crc32(numpy.ascontiguousarray(plane).data, checksum)
    return checksum


def _plane_bytes(frame: Any, index: int) -> numpy.ndarray:
    """Rows of a plane, (rows, bytes) uint8, without padding."""
    plane = frame.planes[index]
    parts = [part for part in frame.format.components if part.plane == index]
    width = plane.width * sum(-(-part.bits // 8) for part in parts)
    rows = numpy.frombuffer(plane, numpy.uint8).reshape(plane.height, plane.line_size)
    return rows[:, :width]


def _gpu_rows(plane: Any, width: int) -> numpy.ndarray:
    import cupy

    with on_default_stream(cupy):
        # Chroma alternates, so its rows have as many codes as those of luma.
        rows: numpy.ndarray = cupy.asnumpy(_gpu_plane(plane, cupy)[:, :width])
    return rows


def scaled_frame(frame: Any, size: tuple[int, int]) -> Any:
    """Bring a decoded picture to another size.

    Parameters
    ----------
    frame : av.VideoFrame
        One in the memory of a GPU is brought to the host.
    size : (int, int)
        Wanted width and height.

    Returns
    -------
    av.VideoFrame
        Scaled by swscale with bicubic weights, rounded accurately, in one thread: the same everywhere. Its codes
        have the meaning that those of `frame` have.
    """
    from av.video.reformatter import Interpolation

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    same_range = "JPEG" if frame.color_range == 2 or "yuvj" in frame.format.name else "MPEG"
    scaled = frame.reformat(
        width=size[0], height=size[1], interpolation=exact,
        src_color_range=same_range, dst_color_range=same_range, threads=1,
    )  # fmt: skip
    scaled.color_range = frame.color_range
    tag = int(frame.colorspace)
    if tag in _UNSPECIFIED and not frame.format.is_rgb:  # which the height decides, and that changed
        tag = _TAG_OF_MATRIX[default_matrix(frame.height)]
    scaled.colorspace = tag
    return scaled


def _gpu_frame_to_levels(frame: Any, out: Array, codec: str, clip: str) -> None:
    """Convert a picture that NVDEC left in the GPU's memory: luma, and chroma with Cb and Cr alternating."""
    if obstacle := gpu_frame_obstacle(frame):
        raise InputError(f"{clip}: {obstacle}; use --device cpu")
    depth = _ON_GPU[frame.sw_format.name]
    cupy = array_module(out)
    colour = _colour_of(frame, codec, False, clip)
    with on_default_stream(cupy):
        planes = [_gpu_plane(plane, cupy) for plane in frame.planes]
        yuv_to_levels(planes, out, colour, depth=depth, high_bits=depth > 8)


def gpu_frame_obstacle(frame: Any) -> str | None:
    """Tell why a picture that NVDEC decoded cannot be read where it is.

    Parameters
    ----------
    frame : av.VideoFrame
        In the memory of a GPU.

    Returns
    -------
    str or None
        What was expected and what was found.
    """
    name = frame.sw_format.name
    if name not in _ON_GPU:
        return f"expected {', '.join(_ON_GPU)} on the GPU, found {name}"
    if frame.width % 2 or frame.height % 2:  # PyAV hands over halved chroma rounded down
        return f"expected even sides on the GPU, found {frame.width}x{frame.height}"
    return None


def _gpu_plane(plane: Any, cupy: Any) -> Array:
    """Rows of a plane as they lie, with the padding at their ends; no copy, and the frame's memory is kept."""
    # As a capsule: PyAV does not take the stream that CuPy would pass.
    view = cupy.from_dlpack(plane.__dlpack__())
    pitch, size = view.strides[0], view.itemsize
    return cupy.lib.stride_tricks.as_strided(view, (view.shape[0], pitch // size), (pitch, size))


def _readable_format(frame: Any) -> tuple[Any, str]:
    """Rearrange a picture of an unusual format, without changing its colours."""
    name = frame.format.name
    flipped = any(plane.line_size <= 0 for plane in frame.planes)
    match = _PLANAR.fullmatch(name) or _GREY.fullmatch(name)
    if match and not flipped and 8 <= int(match["depth"] or 8) <= 16:
        return frame, name
    components = frame.format.components
    deep = any(component.bits > 8 for component in components)
    if frame.format.is_rgb or frame.format.has_palette:
        alpha = any(component.is_alpha for component in components) or frame.format.has_palette
        target = ("rgba" if alpha else "rgb") + (
            ("64le" if alpha else "48le") if deep else ("" if alpha else "24")
        )
    elif len(components) <= 2:
        target = "gray16le" if deep else "gray"
    elif name in ("nv12", "nv21"):
        target = "yuv420p"
    else:
        target = "yuv444p16le" if deep else "yuv444p"
    same_range = "JPEG" if frame.color_range == 2 or "yuvj" in name else "MPEG"
    if not target.startswith(("rgb", "gray")):
        kept = frame.reformat(format=target, src_color_range=same_range, dst_color_range=same_range)
        return kept, "yuvj444p" if same_range == "JPEG" and target == "yuv444p" else target
    return frame.reformat(format=target), target


def _colour_of(frame: Any, codec: str, full: bool, clip: str) -> Colour:
    tag = int(frame.colorspace)
    if tag not in _MATRIX_BY_TAG and tag not in _UNSPECIFIED:
        raise InputError(
            f"{clip}: expected the colour matrix BT.601, BT.709 or BT.2020, found tag {tag}; convert it first"
        )
    return Colour(
        matrix=_MATRIX_BY_TAG.get(tag) or default_matrix(frame.height),
        full_range=full or frame.color_range == 2,
        siting="centre" if codec == "mjpeg" else "left",
    )


def _plane(plane: Any, name: str) -> numpy.ndarray:
    """Rows of a plane, with the padding that decoders leave at their ends; no copy."""
    wide = re.search(r"\d(le|be)$", name) is not None
    dtype = numpy.dtype((">" if name.endswith("be") else "<") + "u2" if wide else "u1")
    rows = numpy.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    return rows if dtype.isnative else rows.astype(dtype.newbyteorder("="))
