"""Clips: reading them whole or not at all, and writing them with the same frame times.

`open_clip` gives one kind of reader for a video file, a folder or glob of stills, and a single still.
Frames come as chunks of planar RGB levels with their times. The reader keeps books (`gpufuse.damage`): a
clip that is damaged or cut short raises `DamagedInputError`, at the latest at its end, or is read as
far as possible and its damage listed. `ClipWriter` writes H.264, under the final name only when complete.
"""

from __future__ import annotations

import glob
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy

from gpufuse.clip import Chunk, ClipReader, Frame, FrameMark, Limits, OnResize
from gpufuse.damage import OnDamage
from gpufuse.errors import ConfigError, GpufuseError, InputError
from gpufuse.stillclip import StillsReader
from gpufuse.stills import is_still, natural_key, read_still, unreadable, write_still
from gpufuse.videofile import Decoder, open_video_file
from gpufuse.writer import ClipWriter, Source, check_clip_output

__all__ = [
    "Chunk",
    "ClipReader",
    "ClipWriter",
    "Decoder",
    "Frame",
    "FrameMark",
    "Limits",
    "OnResize",
    "Source",
    "check_clip_output",
    "is_still",
    "open_clip",
    "read_still",
    "write_still",
]


def open_clip(
    source: str | Path,
    *,
    on_damage: OnDamage = "fail",
    limits: Limits | None = None,
    rate: Fraction | int | None = None,
    module: Any = numpy,
    decoder: Decoder = "software",
    on_resize: OnResize = "fail",
    checksums: bool = False,
) -> ClipReader:
    """Open a clip: a video file, a folder of stills, a glob of stills, or one still.

    Parameters
    ----------
    source : str or Path
        What a file is, is decided by its content. Stills are sorted naturally (9 before 10).
    on_damage : {"fail", "salvage"}
        Raise at the first sign of damage, or list it in the reader's ``damage``, leave out what cannot be
        read, and go on.
    limits : Limits, optional
    rate : Fraction or int, optional
        Stills per second, 25 unless given; for a video file not allowed.
    module : module
        `numpy`, or `cupy` for frames in the memory of the current GPU.
    decoder : {"software", "nvdec"}
        Whether to let the GPU decode what it can, straight into its memory; with `cupy` only. What it cannot is
        decoded by software, and the reader's ``decoder`` says why.
    on_resize : {"fail", "split", "scale"}
        Where the size of the pictures changes: take that for damage; end the clip there and go on with
        `ClipReader.next_part`; or bring them to the first size, by bicubic interpolation, and note it.
    checksums : bool
        Keep a checksum of every frame for `ClipReader.take_checksums`.

    Returns
    -------
    ClipReader
        At least one frame is there. Close it, or use it in a ``with`` statement.

    Raises
    ------
    InputError
        If there is nothing, nothing readable, no video and no picture, or not a single frame.
    DamagedInputError
        If damage shows already.
    LimitError
        If the first picture or the stated length exceeds the limits.
    ConfigError
        If `rate` is not positive, or is given for a video file; for an unknown `on_damage`, `on_resize` or
        `decoder`, or a decoder for which the module is the wrong one.
    """
    if on_damage not in ("fail", "salvage"):
        raise ConfigError(f"on_damage: expected 'fail' or 'salvage', got {on_damage!r}; choose one")
    if on_resize not in ("fail", "split", "scale"):
        raise ConfigError(f"on_resize: expected 'fail', 'split' or 'scale', got {on_resize!r}; choose one")
    if decoder not in ("software", "nvdec") or (decoder == "nvdec" and module is numpy):
        raise ConfigError(
            f"decoder: expected software, or nvdec with the module cupy, got {decoder!r} with "
            f"{module.__name__}; choose one"
        )
    if rate is not None and rate <= 0:
        raise ConfigError(f"rate: expected more than 0 frames per second, got {rate}; give a positive number")
    limits = limits or Limits()
    path = Path(source)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    still_rate = Fraction(rate) if rate is not None else Fraction(25)
    if is_folder:
        stills = _stills_in(path)
    elif not exists and glob.has_magic(str(source)):
        stills = [Path(found) for found in glob.glob(str(source)) if not os.path.isdir(found)]
        if not stills:
            raise InputError(f"{source}: expected stills of this pattern, found none; check the pattern")
    elif is_still(path):
        stills = [path]
    else:
        if rate is not None:
            raise ConfigError(f"rate: expected none for a video, got {rate}; its frames have times")
        return open_video_file(
            path, on_damage, limits, module, decoder, on_resize=on_resize, checksums=checksums
        )
    return StillsReader(
        path.name or str(path),
        sorted(stills, key=natural_key),
        still_rate,
        on_damage,
        limits,
        module,
        on_resize=on_resize,
        checksums=checksums,
    )


def _stills_in(folder: Path) -> list[Path]:
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        stills = [path for path in files if path.suffix.lower() in suffixes or is_still(path)]
    except OSError as error:
        if isinstance(error, GpufuseError):
            raise
        raise unreadable(folder, error) from error
    if not stills:
        raise InputError(
            f"{folder.name}: expected stills in the folder, found none; name a folder of pictures"
        )
    return stills
