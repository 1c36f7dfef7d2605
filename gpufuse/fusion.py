"""Algorithm 2, the fusion of clips: the only module that knows the order of its stages.

read -> denoise -> importance -> mix -> reconstruct -> normalise -> write
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy

from gpufuse import clipstages, denoise
from gpufuse.areas import AreaMasks
from gpufuse.arrays import Array, array_module, free_memory, image_format, to_levels
from gpufuse.errors import ConfigError
from gpufuse.fusedchunk import FusedChunk
from gpufuse.imagepair import AreasLike, ImagePair
from gpufuse.look import MOTION_HALO, NOISE_FRAMES, FirstLook, Look
from gpufuse.pictures import FusedPair, fuse, fuse_dynamic, fused_pair, pair_importance
from gpufuse.reconstruction import data_weight
from gpufuse.settings import Settings
from gpufuse.streaming import Window, chunks_of, windows

__all__ = [
    "AreasLike",
    "FusedChunk",
    "FusedPair",
    "Look",
    "chunk_length",
    "fuse",
    "fuse_dynamic",
    "fuse_stream",
    "fuse_video",
    "fused_pair",
    "look_frames",
    "measured_look",
    "pair_importance",
    "temporal_reach",
]

_CHUNK_SAMPLES = 2**21
_SHORTEST_CHUNK, _LONGEST_CHUNK = 2, 8

_DEVICE_CHUNK_SAMPLES = 10**8
_LONGEST_DEVICE_CHUNK = 128
_DEVICE_ARRAYS = 19  # of the size of a chunk, that are alive at once, what is read ahead among them
_DEVICE_FRAMES_HELD = 16  # frames in halos and in the window of the fit, at the default settings


def fuse_video(
    day: Array,
    frames: Iterable[Array],
    *,
    areas: AreasLike = None,
    settings: Settings | None = None,
    chunk: int | None = None,
) -> Iterator[Array]:
    """Fuse a day picture and the frames of a night clip (Algorithm 2).

    Parameters
    ----------
    day : ndarray, shape (H, W) or (H, W, 3)
        Daytime plate, as in `fuse`; see `gpufuse.daytime_background`.
    frames : iterable of ndarray, or one ndarray with a leading time axis
        Night frames of one form, ``uint8``, ``uint16`` or float in [0, 1], on the day's device.
    areas : path or list, optional
        User areas, in pixels of the night; with ``frames``, not ``seconds``: there are no times here.
    settings : Settings, optional
    chunk : int, optional
        Frames that are worked on together; by default as memory is well used. The result does not
        depend on it.

    Yields
    ------
    ndarray, shape (H, W) or (H, W, 3)
        One fused frame for each night frame: the day's size, the night's channels and dtype.

    Raises
    ------
    PairError
        If the sizes do not belong together.
    ConfigError
        For wrong areas or `chunk`.
    TypeError, ValueError
        For arrays that are no images, not finite, or not all of one form.

    Notes
    -----
    One pass; memory is bounded by the chunk, the denoising and the 2c+1 frames of temporal hysteresis.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))
    >>> night = numpy.zeros((3, 12, 16), numpy.uint8)
    >>> [bool((frame == day).all()) for frame in fuse_video(day, night)]
    [True, True, True]
    """
    settings = settings or Settings()
    if chunk is not None and not _is_count(chunk):
        raise ConfigError(
            f"chunk: expected a whole number of frames from 1, got {chunk!r}; leave it out for the default"
        )
    image_format(day, name="day")
    return _fused_frames(day, iter(frames), areas, settings, chunk)


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and int(number) >= 1


def _fused_frames(
    day: Array, frames: Iterator[Array], areas: AreasLike, settings: Settings, chunk: int | None
) -> Iterator[Array]:
    nothing = object()
    first = next(frames, nothing)
    if first is nothing:
        return
    image_format(first, name="frames[0]")
    pair = ImagePair.of(day, first)
    masks = pair.area_masks(areas)
    if masks.timed:
        raise ConfigError(
            "area: expected frames for a clip without times, got seconds; use frames = [first, last]"
        )
    length = chunk or chunk_length(pair.day.shape, free_memory=free_memory(pair.day))
    stream = _levels_of(first, frames, pair, length)
    for fused in fuse_stream(pair.day, stream, settings=settings, areas=masks):
        yield from fused.pixels(pair.form)


def _levels_of(
    first: Array, rest: Iterator[Array], pair: ImagePair, length: int
) -> Iterator[tuple[Array, Array]]:
    def all_levels() -> Iterator[Array]:
        # At once: a decoder may use the same memory for its next frame.
        yield to_levels(first, name="frames[0]")
        for index, frame in enumerate(rest, start=1):
            image_format(frame, name=f"frames[{index}]")
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise ValueError(
                    f"frames[{index}]: expected {tuple(first.shape)} {first.dtype} like the first, "
                    f"got {tuple(frame.shape)} {frame.dtype}; give frames of one clip"
                )
            yield to_levels(frame, name=f"frames[{index}]")

    xp = array_module(first)
    for frames in chunks_of(all_levels(), length):
        yield xp.stack(frames), numpy.full(len(frames), numpy.nan)


def fuse_stream(
    day: Array,
    stream: Iterable[tuple[Array, Array]],
    *,
    settings: Settings,
    areas: AreaMasks | None = None,
    measure_solver: bool = False,
    on_shortage: Callable[[int], None] = lambda count: None,
    look: Look | None = None,
    first: int = 0,
) -> Iterator[FusedChunk]:
    """Fuse a stream of night frames that are planar levels already.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
        Daytime plate; finite values.
    stream : iterable of (levels, seconds)
        Chunks of any length: frames ``(T, C, h, w)``, float32 grey levels, finite, on the day's device, and
        their times ``(T,)`` on the host.
    settings : Settings
    areas : AreaMasks, optional
        Painted at the day's size.
    measure_solver : bool
        Compare the first frame with the direct solution.
    on_shortage : callable
        Called with a number of frames for which memory did not suffice; they are worked on by halves then. To make
        what comes after shorter.
    look : Look, optional
        What `measured_look` has found at the head of the clip, where the stream is a later piece of it. What the
        settings say has precedence.
    first : int
        Index in the clip of the first frame of the stream.

    Yields
    ------
    FusedChunk
        In order, together all frames of the stream.

    Notes
    -----
    Each frame is the same for every length of the chunks. Of a piece of a clip, with its look, all frames are as of
    the whole clip but those nearer to an end of the piece than `temporal_reach`. Synchronises: no.
    """
    memory = clipstages.ScarceMemory(day, on_shortage)
    check = clipstages.SolverCheck(measure_solver, first)
    taken = FirstLook(settings, look, array_module(day))
    denoised: Iterable[tuple[Array, ...]] = stream
    for _ in range(settings.passes):
        denoised = clipstages.denoised(denoised, settings, memory, first)
    masked = clipstages.masked(day, denoised, settings, memory, taken, first)
    reconstructed = clipstages.weighted_and_reconstructed(
        day, masked, settings, areas, memory, check, taken, first
    )
    if data_weight(settings, tuple(day.shape[-2:])):
        return clipstages.unfitted(reconstructed, check, first)
    return clipstages.normalised(reconstructed, settings, memory, check, first)


def look_frames(settings: Settings) -> int:
    """Frames at the head of a clip that `measured_look` needs; all of a clip that is shorter.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    int
        0 where the settings say all that would be measured.

    Examples
    --------
    >>> look_frames(Settings()), look_frames(Settings.paper()), look_frames(Settings.paper(motion_threshold=6))
    (13, 13, 0)
    """
    if FirstLook(settings).complete:
        return 0
    return NOISE_FRAMES + settings.passes * denoise.TEMPORAL_HALO


def measured_look(day: Array, stream: Iterable[tuple[Array, Array]], *, settings: Settings) -> Look:
    """Take the first look at a clip that is to be fused in pieces.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
        As in `fuse_stream`.
    stream : iterable of (levels, seconds)
        As in `fuse_stream`, from the first frame of the clip; at least `look_frames` of it.
    settings : Settings

    Returns
    -------
    Look
        To be handed to `fuse_stream`, which gives then what it gives for the whole clip.

    Raises
    ------
    ValueError
        If there is no frame.

    Notes
    -----
    Synchronises: yes.
    """
    look = FirstLook(settings)
    if not look.complete:
        memory = clipstages.ScarceMemory(day, lambda count: None)
        denoised: Iterable[tuple[Array, ...]] = _head_of(stream, look_frames(settings))
        for _ in range(settings.passes):
            denoised = clipstages.denoised(denoised, settings, memory, 0)
        held: list[Window] = []
        for window in windows(denoised, MOTION_HALO, (0, 0)):
            held.append(window)
            if sum(map(len, held)) >= NOISE_FRAMES:
                break
        if not held:
            raise ValueError("stream: expected at least one frame, got none; give the first of the clip")
        look.measure(day, held, settings)
    return look.taken()


def _head_of(stream: Iterable[tuple[Array, Array]], count: int) -> Iterator[tuple[Array, Array]]:
    for levels, seconds in stream:
        yield levels[:count], seconds[:count]
        count -= len(levels)
        if count <= 0:
            return


def temporal_reach(settings: Settings, size: tuple[int, int]) -> tuple[int, int]:
    """Frames before and after a frame of a clip that its result depends on, besides the first look.

    Parameters
    ----------
    settings : Settings
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    before, after : int
        Frames ``first - before .. stop - 1 + after`` of a clip, as far as they exist, give the frames
        ``first .. stop - 1`` to the bit.

    Examples
    --------
    >>> temporal_reach(Settings(), (480, 640)), temporal_reach(Settings.paper(), (480, 640))
    ((10, 9), (15, 14))
    """
    fit_before, fit_after = (0, 0) if data_weight(settings, size) else clipstages.fit_halo(settings)
    smoothed = settings.passes * denoise.TEMPORAL_HALO
    changed_before, changed_after = MOTION_HALO
    before = smoothed + changed_before + settings.c + fit_before
    # Only the change of the first frame looks ahead, and only one frame.
    after = smoothed + max(changed_after, settings.c + fit_after)
    return before, after


def chunk_length(shape: tuple[int, ...], *, free_memory: int | None = None) -> int:
    """Frames that are worked on together when nothing else is said.

    Parameters
    ----------
    shape : tuple of int
        ``(C, H, W)`` of the result.
    free_memory : int, optional
        Bytes free on the GPU that computes; leave out for the CPU.

    Returns
    -------
    int
        On the CPU 2 to 8: about 8 MB of levels. On a GPU 1 to 128: about 400 MB of levels, so that launches are
        large, and no more than 3/4 of its free memory can hold.

    Examples
    --------
    >>> chunk_length((3, 240, 320)), chunk_length((3, 2160, 3840))
    (8, 2)
    >>> chunk_length((3, 1080, 1920), free_memory=80 * 2**30), chunk_length((3, 1080, 1920), free_memory=2**31)
    (16, 2)
    """
    samples = int(numpy.prod(shape))
    if free_memory is not None:
        room = int(0.75 * free_memory) // (4 * samples) - _DEVICE_FRAMES_HELD
        return max(1, min(_LONGEST_DEVICE_CHUNK, _DEVICE_CHUNK_SAMPLES // samples, room // _DEVICE_ARRAYS))
    length = _CHUNK_SAMPLES // samples
    # Even, so that two threads share the planes of a chunk evenly.
    return min(_LONGEST_CHUNK, max(_SHORTEST_CHUNK, (length + 1) // 2 * 2))
