"""Digests of frames before they are encoded: what two runs have in common where their encoded bytes differ.

An encoder that uses several threads may give other bytes for the same frames; so equality is told by the codes it
was given.
"""

from __future__ import annotations

import hashlib

import numpy

__all__ = ["DIGEST_BYTES", "frame_digest", "frames_digest"]

DIGEST_BYTES = 8
"""Length of the digest of one frame."""


def frame_digest(luma: numpy.ndarray, blue: numpy.ndarray, red: numpy.ndarray) -> bytes:
    """Digest of one frame: BLAKE2b of its Y, then its Cb, then its Cr codes, row by row without padding.

    Parameters
    ----------
    luma, blue, red : ndarray, 2-D, uint8
        Y, Cb and Cr codes; views of rows with padding, or of interleaved chroma, will do. On the host.

    Returns
    -------
    bytes
        `DIGEST_BYTES` of them.

    Examples
    --------
    >>> y, chroma = numpy.full((2, 4), 16, numpy.uint8), numpy.full((1, 4), 128, numpy.uint8)
    >>> frame_digest(y, chroma[:, 0::2], chroma[:, 1::2]).hex()
    '946a25c538f22bdd'
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for plane in (luma, blue, red):
        digest.update(numpy.ascontiguousarray(plane).data)
    return digest.digest()


def frames_digest(digests: bytes) -> str:
    """One digest of many frames.

    Parameters
    ----------
    digests : bytes
        Those of the frames, one after the other; those of a clip's segments may be joined.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> frames_digest(b"")
    'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(digests, digest_size=16).hexdigest()
