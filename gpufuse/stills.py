"""Still images: telling them by content, reading them in full depth, writing them whole.

What Pillow accepts silently is refused here: JPEG data that is cut or damaged is decoded a
second time by a decoder that says so, and 16-bit colour is not reduced to 8 bits.
"""

from __future__ import annotations

import io
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy

from gpufuse import files
from gpufuse.arrays import ImageFormat, from_levels, image_format, to_levels
from gpufuse.errors import DamagedInputError, GpufuseError, InputError, LimitError, OutputError
from gpufuse.output import OutputFile, check_output, output_error

__all__ = ["MAX_PIXELS", "check_still_output", "is_still", "natural_key", "read_still", "write_still"]

MAX_PIXELS = 67_108_864
"""Pixels of the largest picture read unless told otherwise (8192 x 8192)."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\x00",
    b"MM\x00*",
    b"BM",
)
_WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
_ORIENTATION = 0x0112  # the EXIF tag
_AGAIN = "repair or fetch it again"


def is_still(path: str | Path) -> bool:
    """Return whether a file is a still image, by its first bytes and not by its name.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bool
        True for PNG, JPEG, TIFF, BMP and WebP. A file of JPEGs one after the other, named ``.mjpeg`` or
        ``.mjpg``, is a clip.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe might never end
            raise InputError(f"{path.name}: expected a file, found a pipe or device; save it to a file first")
        with path.open("rb") as file:
            head = file.read(16)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if head.startswith(b"\xff\xd8\xff") and path.suffix.lower() in (".mjpeg", ".mjpg"):
        return False
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def unreadable(path: str | Path, error: BaseException) -> InputError:
    """Return the error for a file that the system does not let us read."""
    name = Path(path).name.replace("\0", "?")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{name}: expected a file, found none at {str(path)!r}; check the path")
    if isinstance(error, PermissionError):
        return InputError(f"{name}: expected a readable file, found no permission; change its permissions")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{name}: expected a file, found a folder; name a file inside it")
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{name}: expected a readable file, found '{reason}'; check the path")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key by which ``frame 10`` comes after ``frame 9``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list

    Examples
    --------
    >>> [path.name for path in sorted(map(Path, ["b10.png", "b9.png", "a.png"]), key=natural_key)]
    ['a.png', 'b9.png', 'b10.png']
    """
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts] + [(2, path.name)]


def read_still(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> numpy.ndarray:
    """Read a still image.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, TIFF, BMP or WebP; the content decides, not the name.
    max_pixels : int
        Larger pictures are refused before they are decoded.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3), uint8 or uint16
        Turned upright as its EXIF data says; transparent parts over black. On the host.

    Raises
    ------
    InputError
        If the file is missing, unreadable, not a still image, or of a kind that is neither grey nor RGB.
    DamagedInputError
        If the picture is damaged or cut short.
    LimitError
        If it has more than `max_pixels` pixels.
    """
    path = Path(path)
    if not is_still(path):
        raise InputError(f"{path.name}: expected a still image, found none; name a PNG, JPEG or TIFF file")
    try:
        return _read(path, max_pixels)
    except GpufuseError:
        raise
    except Exception as error:
        raise _foreign_error(path, error) from error


def _foreign_error(path: Path, error: Exception) -> GpufuseError:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return LimitError(f"{path.name}: expected a picture of sensible size, found '{error}'; scale it down")
    if isinstance(error, UnidentifiedImageError):
        return DamagedInputError(f"{path.name}: expected a still image, found a damaged header; {_AGAIN}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return DamagedInputError(f"{path.name}: expected a whole picture, found '{reason}'; {_AGAIN}")


def _read(path: Path, max_pixels: int) -> numpy.ndarray:
    from PIL import Image

    with Image.open(path, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise LimitError(
                f"{path.name}: expected at most {max_pixels} pixels, found {width}x{height}; "
                "scale it down or raise the limit"
            )
        if image.format in ("JPEG", "MPO"):
            _check_jpeg(path)
        elif (count := getattr(image, "n_frames", 1)) > 1:
            raise InputError(f"{path.name}: expected one picture, found {count}; save one by itself")
        if _is_deep_colour(image):
            pixels = _read_deep_colour(path)
        else:
            image.load()
            pixels = _pixels(path, image)
        pixels = _turn(pixels, image.getexif().get(_ORIENTATION, 1))
    if image.format in ("JPEG", "MPO") and (share := _smeared_share(pixels)):
        raise DamagedInputError(
            f"{path.name}: expected a whole picture, found the lower {share:.0%} painted over with one row "
            f"(the sender lost it); {_AGAIN}"
        )
    return pixels


def _is_deep_colour(image: Any) -> bool:
    """Whether Pillow would reduce 16 bits to 8: it knows 16 bits only in grey."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # BitsPerSample
        return len(bits) > 1 and int(max(bits)) == 16
    if image.format == "PNG":
        with open(image.filename, "rb") as file:
            header = file.read(26)
        return header[24] == 16 and header[25] != 0  # IHDR: bit depth, colour type
    return False


def _read_deep_colour(path: Path) -> numpy.ndarray:
    frame = _decode(path.read_bytes(), "png" if _is_png(path) else "tiff", path)
    deep = frame.reformat(format="rgba64le" if _has_alpha(frame) else "rgb48le").to_ndarray()
    return _over_black(deep)


def _is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _MAGIC[0][:4]


def _has_alpha(frame: Any) -> bool:
    return str(frame.format.name).startswith(("rgba", "bgra", "ya", "gbrap"))


def _decode(data: bytes, codec: str, path: Path) -> Any:
    """Decode one picture with FFmpeg; DamagedInputError for whatever it complains about."""
    import av
    import av.logging

    from gpufuse.damage import harmless, log_level

    with log_level(), av.logging.Capture() as lines:
        context: Any = av.CodecContext.create(codec, "r")
        context.thread_count = 1
        context.options = {"err_detect": "crccheck+bitstream+buffer"}
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    complaints = [line for line in lines if not harmless(line, frozenset())]
    if complaints or not frames:
        found = f"'{' '.join(complaints[0][2].split())}'" if complaints else "nothing"
        raise DamagedInputError(f"{path.name}: expected a whole picture, found {found}; {_AGAIN}")
    return frames[0]


def _check_jpeg(path: Path) -> None:
    """Have a second decoder read JPEG data: Pillow takes lost or wrong data for pixels."""
    import av.error

    data = path.read_bytes()
    if b"\xff\xd9" not in data[-4096:]:
        raise DamagedInputError(
            f"{path.name}: expected a whole picture, found no end of the JPEG data; {_AGAIN}"
        )
    try:
        _decode(data, "mjpeg", path)
    except (av.error.PatchWelcomeError, av.error.NotImplementedError):
        # FFmpeg's words for a feature it does not have, such as arithmetic coding: no sign of damage, and
        # Pillow reads it.
        return


def _smeared_share(pixels: numpy.ndarray) -> float:
    """Share of the height, from the bottom, that repeats one row; 0 unless it is plain concealment.

    A camera that loses the rest of a picture repeats its last row and compresses that. Real scenes never
    do: below a lively picture the rows are equal nearly everywhere, while the columns differ.
    Captions laid over afterwards are allowed for.
    """
    height = pixels.shape[0]
    if height < 64 or pixels.dtype != numpy.uint8:
        return 0.0
    # Green is nearly grey, and every second column is enough.
    grey = (pixels[:, ::2, 1] if pixels.ndim == 3 else pixels[:, ::2]).astype(numpy.int16)
    same = (numpy.abs(numpy.diff(grey, axis=0)) <= 1).mean(axis=1) >= 0.85
    share = numpy.arange(1, height) / height
    # From each row down: how many of the rows repeat the one above.
    below = numpy.cumsum(same[::-1])[::-1] / numpy.arange(height - 1, 0, -1)
    starts = numpy.flatnonzero((below >= 0.8) & same & (share > 0.1) & (share < 0.8))
    if len(starts) == 0:
        return 0.0
    start = int(starts[0])
    lively = float(grey[start:].std(axis=1).mean()) >= 10.0
    sound_above = same[:start].mean() <= 0.1
    return float(1.0 - share[start]) if lively and sound_above else 0.0


def _pixels(path: Path, image: Any) -> numpy.ndarray:
    mode = image.mode
    if mode in ("L", "RGB"):
        return numpy.array(image)
    if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return numpy.array(image).astype(numpy.uint16)
    if mode == "1":
        return numpy.array(image.convert("L"))
    if mode == "YCbCr" or (mode == "P" and "transparency" not in image.info):
        return numpy.array(image.convert("RGB"))
    if mode in ("P", "PA", "RGBA", "LA"):
        return _over_black(numpy.array(image.convert("RGBA")))
    raise InputError(f"{path.name}: expected a grey or RGB picture, found mode {mode}; convert it to RGB")


def _over_black(pixels: numpy.ndarray) -> numpy.ndarray:
    """Lay a picture with an alpha channel over black; opaque pixels stay exact."""
    if pixels.shape[-1] == 3:
        return pixels
    most = numpy.iinfo(pixels.dtype).max
    weighted = pixels[..., :3].astype(numpy.float64) * (pixels[..., 3:] / most)
    return numpy.rint(weighted).astype(pixels.dtype)


def _turn(pixels: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """Turn a picture upright: EXIF orientation 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return numpy.ascontiguousarray(pixels)


def check_still_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Check that a still may be written, before any work is done for it.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png``, ``.tif``, ``.tiff``, ``.jpg`` or ``.jpeg``.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OutputError
        For another suffix, and as `gpufuse.output.check_output`.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(
            f"{path.name}: expected a name ending in {', '.join(_WRITERS)}, found {path.suffix!r}; rename it"
        )
    check_output(path, overwrite=overwrite)


def write_still(path: str | Path, image: numpy.ndarray, *, overwrite: bool = False) -> None:
    """Write a still image, complete or not at all.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png``, ``.tif``, ``.tiff``, ``.jpg`` or ``.jpeg``.
    image : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``; ``uint16``, kept in PNG and TIFF and rounded to 8 bits in JPEG; or float in [0, 1], rounded
        to 8 bits. On the host.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OutputError
        For another suffix, or if the file exists or cannot be written.
    TypeError, ValueError
        As `gpufuse.arrays.to_levels`.
    """
    path = Path(path)
    check_still_output(path, overwrite=overwrite)
    kind = _WRITERS[path.suffix.lower()]
    form = image_format(image)
    if form.dtype.kind == "f" or (form.dtype == numpy.uint16 and kind == "JPEG"):
        form = ImageFormat(numpy.dtype(numpy.uint8), form.colour)
        image = from_levels(to_levels(image), form)
    image = numpy.ascontiguousarray(image, dtype=form.dtype)
    with OutputFile(path, overwrite=overwrite) as output:
        try:
            with files.written(output.part) as file:
                file.write(_encoded(image, kind))
        except OSError as error:
            raise output_error(path, error) from error


def _encoded(image: numpy.ndarray, kind: str) -> bytes:
    from PIL import Image

    if image.dtype == numpy.uint16 and image.ndim == 3:  # which Pillow cannot write
        return _encode_deep_colour(image, kind.lower())
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options.get(kind, {}))
    return buffer.getvalue()


def _encode_deep_colour(image: numpy.ndarray, codec: str) -> bytes:
    import av

    context: Any = av.CodecContext.create(codec, "w")
    context.height, context.width = image.shape[:2]
    context.pix_fmt = "rgb48be" if codec == "png" else "rgb48le"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(image, format="rgb48le")
    if codec == "png":
        frame = frame.reformat(format="rgb48be")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
