"""What the outermost structure of a file says about its size and content, without decoding anything."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy

__all__ = ["content_damage", "cut_header", "file_structure"]

Damage: TypeAlias = tuple[str, str]
"""What was expected, and what was found."""

_TRANSPORT_BYTES = 188
_BLOCK = 1 << 22
"""Bytes read at a time."""


def file_structure(path: str, format_name: str) -> Damage | None:
    """Compare the size of a file with what its outermost structure says; a few reads, however large it is.

    Parameters
    ----------
    path : str
        The file.
    format_name : str
        FFmpeg's name of the container.

    Returns
    -------
    (str, str) or None
        What was expected and found, or None if nothing is wrong or known.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if format_name == "mpegts":
            return _transport_packets(file.read(1024), size)
        if format_name.startswith("mov"):
            return _walk_boxes(file, size)
        if format_name == "avi":
            return _walk_riff(file, size)
        if format_name.startswith("matroska"):
            return next((found for element in _elements(file, size) if (found := element.damage)), None)
    return None


def content_damage(path: str, format_name: str, stream_id: int) -> Damage | None:
    """Read a file once more for the marks and checksums that decoders pass over.

    Parameters
    ----------
    path : str
        The file.
    format_name : str
        FFmpeg's name of the container.
    stream_id : int
        The container's number of the stream that is read.

    Returns
    -------
    (str, str) or None
        What was expected and found, or None if nothing is wrong or known: only transport streams have marks
        everywhere, and only some Matroska files have checksums.
    """
    with open(path, "rb") as file:
        if format_name == "mpegts":
            return _lost_marks(file, stream_id)
        if format_name.startswith("matroska"):
            size = file.seek(0, 2)
            file.seek(0)
            return _wrong_checksum(file, size)
    return None


def cut_header(path: Path) -> Damage | None:
    """Tell whether a file that cannot be opened is the beginning of an MP4 or AVI file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    (str, str) or None
        What was expected and found, or None if it is something else.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            return file_structure(str(path), "mov") or ("its index, the box 'moov'", "none")
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return file_structure(str(path), "avi")
    except OSError:
        return None
    return None


# -- transport streams ---------------------------------------------------------------------------


def _packet_layout(head: bytes) -> tuple[int, int] | None:
    """Length of the packets and place of the mark within each."""
    for length, offset in ((188, 0), (192, 4), (204, 0)):
        if set(head[offset : 4 * length : length]) == {0x47}:
            return length, offset
    return None


def _transport_packets(head: bytes, size: int) -> Damage | None:
    layout = _packet_layout(head)
    if layout and size % layout[0]:
        return f"whole transport packets of {layout[0]} bytes", f"{size % layout[0]} bytes more"
    return None


def _lost_marks(file: Any, stream_id: int) -> Damage | None:
    layout = _packet_layout(file.read(1024))
    if layout is None:
        return None
    length, offset = layout
    file.seek(0)
    position = 0
    while block := file.read(length * (_BLOCK // length)):
        packets = numpy.frombuffer(block, numpy.uint8, len(block) // length * length).reshape(-1, length)
        packets = packets[:, offset : offset + _TRANSPORT_BYTES]
        if (lost := numpy.flatnonzero(packets[:, 0] != 0x47)).size:
            return "a transport packet", f"none at byte {position + length * int(lost[0])}"
        if (lost := _lost_starts(packets, stream_id)).size:
            return "a picture where one starts", f"none at byte {position + length * int(lost[0])}"
        position += len(block)
    return None


def _lost_starts(packets: numpy.ndarray, stream_id: int) -> numpy.ndarray:
    """Packets that should start a unit of the stream and have no start code where their header ends."""
    pid = (packets[:, 1].astype(numpy.int64) & 0x1F) << 8 | packets[:, 2]
    plain_with_content = (packets[:, 3] & 0xD0) == 0x10
    starts = numpy.flatnonzero((pid == stream_id) & (packets[:, 1] & 0x40 > 0) & plain_with_content)
    heads = packets[starts]
    extended = (heads[:, 3] & 0x20) > 0
    content = 4 + numpy.where(extended, heads[:, 4].astype(numpy.int64) + 1, 0)
    fits = content <= _TRANSPORT_BYTES - 3
    heads, content, starts = heads[fits], content[fits], starts[fits]
    rows = numpy.arange(len(heads))
    code = [heads[rows, content + k] for k in range(3)]
    lost: numpy.ndarray = starts[(code[0] != 0) | (code[1] != 0) | (code[2] != 1)]
    return lost


# -- MP4, QuickTime, AVI -------------------------------------------------------------------------


def _walk_boxes(file: Any, size: int) -> Damage | None:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 0 and any(kind):  # to the end of the file
            return None
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or position + length > size:
            if not any(header[:8]) and _only_zeros_from(file, position):  # padding
                return None
            name = kind.decode("latin-1") if kind.isalnum() else "?"
            missing = position + length - size
            if length < 8:
                return "a sequence of boxes", f"no box at byte {position}"
            return f"a file that holds its box '{name}'", f"it ends {missing} bytes early"
        position += length
    return None


def _only_zeros_from(file: Any, position: int) -> bool:
    file.seek(position)
    while block := file.read(_BLOCK):
        if block.count(0) != len(block):
            return False
    return True


def _walk_riff(file: Any, size: int) -> Damage | None:
    header = file.read(12)
    length = int.from_bytes(header[4:8], "little")
    if header[:4] == b"RIFF" and length and length + 8 > size:
        return f"a file of {length + 8} bytes", f"{size} bytes"
    return None


# -- Matroska ------------------------------------------------------------------------------------

_HEADER, _SEGMENT, _CHECKSUM = 0x1A45DFA3, 0x18538067, 0xBF
_NAMES = {
    _SEGMENT: "Segment",
    0x114D9B74: "SeekHead",
    0x1549A966: "Info",
    0x1654AE6B: "Tracks",
    0x1F43B675: "Cluster",
    0x1C53BB6B: "Cues",
    0x1254C367: "Tags",
}


@dataclass(frozen=True)
class _Element:
    """A part of a Matroska file: its identifier, where its content starts and ends, what is wrong with it."""

    name: int
    start: int
    stop: int
    damage: Damage | None = None


def _elements(file: Any, size: int) -> Iterator[_Element]:
    """Walk the elements of the first two levels; end where a length is not stated, and after damage."""
    position, stop = 0, size
    while position < stop:
        header = _element_header(file, position)
        if header is None:
            if _only_zeros_from(file, position):  # padding
                return
            yield _Element(0, position, position, ("a sequence of elements", f"none at byte {position}"))
            return
        name, start, length = header
        if length is None and name != _SEGMENT:  # a live recording; what is in a cluster is not walked
            return
        end = size if length is None else start + length
        if end > stop:
            yield _Element(
                name,
                start,
                stop,
                (f"a file that holds its {_title(name)}", f"it ends {end - stop} bytes early"),
            )
            return
        if name == _SEGMENT:  # its content is walked instead; what follows it is no part of the clip
            position, stop = start, end
            continue
        yield _Element(name, start, end)
        position = end


def _title(name: int) -> str:
    return f"element {_NAMES.get(name, f'{name:X}')}"


def _element_header(file: Any, position: int) -> tuple[int, int, int | None] | None:
    """Identifier, start of the content, and its length, None where that is not stated."""
    file.seek(position)
    head = file.read(12)
    name_bytes = 9 - head[0].bit_length() if head and head[0] else 0
    if not 1 <= name_bytes <= 4 or len(head) <= name_bytes:
        return None
    first = head[name_bytes]
    length_bytes = 9 - first.bit_length() if first else 0
    stop = name_bytes + length_bytes
    if not length_bytes or len(head) < stop:
        return None
    length = int.from_bytes(head[name_bytes:stop], "big") & ((1 << 7 * length_bytes) - 1)
    unknown = length == (1 << 7 * length_bytes) - 1
    return int.from_bytes(head[:name_bytes], "big"), position + stop, None if unknown else length


def _wrong_checksum(file: Any, size: int) -> Damage | None:
    """The first element that begins with a checksum (CRC-32, little-endian) which is wrong."""
    for element in _elements(file, size):
        if element.damage or element.name == _HEADER:
            continue
        header = _element_header(file, element.start)
        if header is None or header[0] != _CHECKSUM or header[2] != 4:
            continue
        file.seek(header[1])
        stated = int.from_bytes(file.read(4), "little")
        left, found = element.stop - header[1] - 4, 0
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            found = zlib.crc32(block, found)
            left -= len(block)
        if found != stated:
            return f"the {_title(element.name)} of its checksum", f"another at byte {element.start}"
    return None
