"""From the device that computes to the encoder: what crosses the bus, and who waits for it.

A delivery prepares fused frames on the thread that computes, where nothing waits, and writes them on another thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gpufuse.arrays import Array, array_module
from gpufuse.colour import default_matrix, levels_to_nv12, levels_to_yuv
from gpufuse.fusedchunk import FusedChunk
from gpufuse.transfers import Downloads, recorded
from gpufuse.writer import ClipWriter, Source

__all__ = ["CodesDelivery", "Delivery", "LevelsDelivery", "SurfacesDelivery"]


class Delivery(ABC):
    """A way from fused frames to a writer.

    Attributes
    ----------
    source : str
        What the writer has to be made for.
    encoder : str
        Who encodes, and why; for the user.
    """

    source: Source
    encoder: str

    @abstractmethod
    def prepare(self, fused: FusedChunk) -> Any:
        """Begin all that the device has to do; nothing waits.

        Parameters
        ----------
        fused : FusedChunk

        Returns
        -------
        object
            For `write` of the same delivery.
        """

    @abstractmethod
    def write(self, writer: ClipWriter, prepared: Any, pts: Sequence[int]) -> None:
        """Wait for what was prepared and write it; on the thread that writes.

        Parameters
        ----------
        writer : ClipWriter
            Made for `source`.
        prepared : object
            From `prepare`.
        pts : sequence of int
            Times of the frames, as of `ClipWriter.write_chunk`.

        Raises
        ------
        ValueError, OutputError
            As the writer.
        """


class LevelsDelivery(Delivery):
    """Frames that are computed on the host.

    Attributes
    ----------
    source, encoder : str
    """

    source: Source = "levels"
    encoder = "libx264"

    def prepare(self, fused: FusedChunk) -> FusedChunk:
        """Leave scale and shift to the thread that writes."""
        return fused

    def write(self, writer: ClipWriter, prepared: FusedChunk, pts: Sequence[int]) -> None:
        """Write their levels, picture by picture: what one was scaled into is in the cache, and serves the next."""
        for k, time in enumerate(pts):
            writer.write_chunk(prepared.frame_levels(slice(k, k + 1)), [time])


class CodesDelivery(Delivery):
    """Frames that a GPU computes and the host encodes: 8-bit YUV codes cross the bus, nothing else.

    Parameters
    ----------
    downloads : Downloads
    reason : str
        Why the GPU does not encode.

    Attributes
    ----------
    source, encoder : str
    """

    source: Source = "codes"

    def __init__(self, downloads: Downloads, reason: str) -> None:
        self.encoder = f"libx264 (NVENC: {reason})"
        self._downloads = downloads

    def prepare(self, fused: FusedChunk) -> Any:
        """Convert to codes on the device and begin to copy them."""
        return self._downloads.start(_codes_of(fused))

    def write(self, writer: ClipWriter, prepared: Any, pts: Sequence[int]) -> None:
        """Wait for the copy and write it."""
        writer.write_codes(prepared.result(), pts)


class SurfacesDelivery(Delivery):
    """Frames that the GPU computes and encodes: they never leave it.

    Attributes
    ----------
    source, encoder : str
    """

    source: Source = "surfaces"
    encoder = "NVENC"

    def prepare(self, fused: FusedChunk) -> Any:
        """Convert to codes on the device."""
        codes = _codes_of(fused)
        cupy = array_module(codes)
        return codes, recorded(cupy, cupy.cuda.get_current_stream())

    def write(self, writer: ClipWriter, prepared: Any, pts: Sequence[int]) -> None:
        """Wait until they are there and have them encoded."""
        codes, ready = prepared
        ready.synchronize()  # the encoder works on a stream of its own
        writer.write_codes(codes, pts)


def _codes_of(fused: FusedChunk) -> Array:
    """YUV codes in the limited range: NV12, or for odd sides three whole planes."""
    image = fused.image
    height, width = image.shape[-2:]
    matrix = default_matrix(height)
    if height % 2 == 0 and width % 2 == 0:
        return levels_to_nv12(image, matrix, scale=fused.scale, shift=fused.shift)
    xp = array_module(image)
    planes = [xp.empty((len(image), height, width), "uint8") for _ in range(3)]
    levels_to_yuv(image, planes, matrix, scale=fused.scale, shift=fused.shift)
    return xp.stack(planes, axis=1)
