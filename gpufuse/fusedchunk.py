"""Fused frames of a clip before they are images: the reconstruction and the colour fit that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from gpufuse import normalise
from gpufuse.arrays import Array, ImageFormat

__all__ = ["FusedChunk"]


@dataclass(frozen=True)
class FusedChunk:
    """Some fused frames of a clip, on the device that computed them.

    Attributes
    ----------
    first : int
        Index in the clip of the first of them.
    image : ndarray, shape (T, C, H, W), float32
        Reconstruction, before scale and shift.
    scale, shift : ndarray, shape (T, C), float64
        Of the colour fit: the result is ``scale * image + shift``. 1 and 0 for a picture that was pulled
        towards day and night, and needs no fit.
    importance : ndarray, shape (T, H, W), float32 in [0, 1]
        After user areas.
    solver_error : ndarray of shape () or float
        Largest distance in grey levels of the reconstruction from the direct solution, where it was
        measured; nan elsewhere.
    fitted : bool
        Whether there was a colour fit; if not, `image` is the result.
    """

    first: int
    image: Array
    scale: Array
    shift: Array
    importance: Array
    solver_error: Array | float
    fitted: bool = True

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.image)

    @property
    def levels(self) -> Array:
        """The fused frames in grey levels, shape (T, C, H, W), float32; not clipped, not rounded."""
        return self.frame_levels(slice(None))

    def frame_levels(self, frames: slice) -> Array:
        """Return some of the fused frames in grey levels, as `levels` does with all.

        Parameters
        ----------
        frames : slice

        Returns
        -------
        ndarray, shape (T, C, H, W), float32
            Not to be written to: it may be a view of `image`.
        """
        if not self.fitted:
            return self.image[frames]
        return normalise.apply_affine(self.image[frames], self.scale[frames], self.shift[frames])

    def part(self, start: int, stop: int) -> FusedChunk:
        """Cut out some of the frames.

        Parameters
        ----------
        start, stop : int
            The frames ``start .. stop - 1``, counted from the first of the chunk.

        Returns
        -------
        FusedChunk
            Of views.
        """
        kept = slice(start, stop)
        arrays = (self.image[kept], self.scale[kept], self.shift[kept], self.importance[kept])
        error = self.solver_error if start == 0 else numpy.nan
        return FusedChunk(self.first + start, *arrays, error, fitted=self.fitted)

    def pixels(self, form: ImageFormat) -> Array:
        """Finish the fused frames as images.

        Parameters
        ----------
        form : ImageFormat
            The wanted dtype and channels.

        Returns
        -------
        ndarray, shape (T, H, W) or (T, H, W, 3)
            As of `gpufuse.normalise.affine_pixels`.
        """
        return normalise.affine_pixels(self.image, self.scale, self.shift, form)
