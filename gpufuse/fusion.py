"""Algorithms 1 and 2 and the dynamic scene: the only module that knows the order of the stages.

read -> denoise -> importance -> mix -> reconstruct -> normalise -> write
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy

from gpufuse import denoise, importance, mixing, normalise, poisson
from gpufuse.areas import Area, AreaMasks, load_areas
from gpufuse.arrays import (
    Array,
    ImageFormat,
    array_module,
    free_memory,
    from_levels,
    image_format,
    to_levels,
    to_share,
    with_channels,
)
from gpufuse.errors import ConfigError, PairError
from gpufuse.resampling import check_pair, enlarged
from gpufuse.settings import Settings
from gpufuse.streaming import Window, chunks_of, windows, worked

__all__ = [
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

AreasLike: TypeAlias = str | Path | Iterable[Area | Mapping[str, Any]] | None
"""A TOML file, or areas as objects or dictionaries."""

NOISE_FRAMES = 9
"""Frames at the start of a clip from which its noise is measured."""

_LOOK_EVERY = 4
"""Of those, every n-th tells contrast: neighbours tell the same."""

_MOTION_HALO = (1, 1)
"""Frames that motion is compared with; the one after by the first frame of a clip alone."""

_DATA_WEIGHT_PIXELS = 2500.0
_LARGEST_DATA_WEIGHT = 0.05

_CHUNK_SAMPLES = 2**21
_SHORTEST_CHUNK, _LONGEST_CHUNK = 2, 8

_DEVICE_CHUNK_SAMPLES = 10**8
_LONGEST_DEVICE_CHUNK = 128
_DEVICE_ARRAYS = 19  # of the size of a chunk, that are alive at once, what is read ahead among them
_DEVICE_FRAMES_HELD = 16  # frames in halos and in the window of the fit, at the default settings


# ---------------------------------------------------------------------------------------- pictures


def fuse(
    day: Array,
    night: Array,
    *,
    importance: Array | None = None,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> Array:
    """Fuse a day and a night picture of one view (Algorithm 1).

    Parameters
    ----------
    day, night : ndarray, shape (H, W) or (H, W, 3)
        ``uint8``, ``uint16`` or float in [0, 1]; NumPy or CuPy. `day` may be larger by any factor of the same
        aspect ratio (2 %); the night is then resampled to its size.
    importance : ndarray, shape (H, W), optional
        How much of the night is kept, 0..255 (``uint8``), 0..65535 or 0..1; of the night's size or of
        the day's. By default `gpufuse.importance.static_importance`.
    areas : path or list, optional
        User areas, in pixels of the night.
    settings : Settings, optional

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype, on the night's device.

    Raises
    ------
    PairError
        If the sizes do not belong together.
    ConfigError
        For wrong areas.
    TypeError, ValueError
        For arrays that are no images, or not finite.

    See Also
    --------
    fuse_dynamic : for moving things, with a night reference.
    fuse_video : for clips.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))
    >>> bool((fuse(day, numpy.zeros_like(day)) == day).all())     # a black night adds nothing
    True
    """
    return fused_pair(day, night, importance=importance, areas=areas, settings=settings).pixels


def fuse_dynamic(
    day: Array,
    night: Array,
    reference: Array,
    *,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> Array:
    """Fuse a night picture with moving things into the day, given a night picture without them.

    Parameters
    ----------
    day, night : ndarray, shape (H, W) or (H, W, 3)
        As in `fuse`.
    reference : ndarray
        The same view at night without the moving things, of the night's form.
    areas : path or list, optional
        User areas, in pixels of the night.
    settings : Settings, optional

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype, on the night's device.

    Raises
    ------
    PairError
        If the sizes do not belong together.
    ConfigError
        For wrong areas.
    TypeError, ValueError
        For arrays that are no images, or not finite.

    Examples
    --------
    >>> import numpy
    >>> day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))
    >>> dark = numpy.zeros_like(day)
    >>> bool((fuse_dynamic(day, dark, dark) == day).all())     # nothing has moved
    True
    """
    image_format(reference, name="reference")
    return fused_pair(day, night, reference=reference, areas=areas, settings=settings).pixels


@dataclass(frozen=True)
class FusedPair:
    """A fused picture and what it was made with.

    Attributes
    ----------
    pixels : ndarray, shape (H, W) or (H, W, 3)
        The day's size, the night's channels and dtype.
    importance : ndarray, shape (H, W), float32 in [0, 1]
        After user areas.
    """

    pixels: Array
    importance: Array


def fused_pair(
    day: Array,
    night: Array,
    *,
    reference: Array | None = None,
    importance: Array | None = None,
    areas: AreasLike = None,
    settings: Settings | None = None,
) -> FusedPair:
    """Fuse as `fuse` does, or with a reference as `fuse_dynamic` does; return the importance as well.

    Parameters
    ----------
    day, night, reference, importance, areas, settings
        As in `fuse` and `fuse_dynamic`.

    Returns
    -------
    FusedPair

    Raises
    ------
    PairError, ConfigError, TypeError, ValueError
        As `fuse`.
    """
    settings = settings or Settings()
    pair = _Pair.of(day, night)
    weights = _weights(pair, reference, importance, settings)
    larger = settings.larger_where_zero and reference is not None
    return _fused_picture(pair, weights, areas, settings, larger_where_zero=larger)


def pair_importance(
    day: Array,
    night: Array,
    *,
    reference: Array | None = None,
    importance: Array | None = None,
    settings: Settings | None = None,
) -> Array:
    """Importance that `fuse` (or `fuse_dynamic`, with a reference) uses, before user areas.

    Parameters
    ----------
    day, night, reference, importance, settings
        As in `fuse` and `fuse_dynamic`.

    Returns
    -------
    ndarray, shape (H, W) of the day, float32 in [0, 1]

    Raises
    ------
    PairError, TypeError, ValueError
        As `fuse`.
    """
    settings = settings or Settings()
    return _weights(_Pair.of(day, night), reference, importance, settings)


def _weights(pair: _Pair, reference: Array | None, given: Array | None, settings: Settings) -> Array:
    """Importance at the day's size: the one given, or by reference, or of the static pair."""
    if given is not None:
        return _given_importance(given, pair)
    if reference is not None:
        return _dynamic_weights(reference, pair, settings)
    return _static_weights(pair, settings)


def _static_weights(pair: _Pair, settings: Settings) -> Array:
    return importance.static_importance(
        pair.day,
        enlarged(pair.night, pair.size),
        gradient_threshold=settings.gradient_threshold,
        intensity_threshold=settings.intensity_threshold,
        feather=settings.feather,
    )


def _dynamic_weights(reference: Array, pair: _Pair, settings: Settings) -> Array:
    image_format(reference, name="reference")
    array_module(reference, pair.night)
    if tuple(reference.shape[:2]) != pair.night_size:
        raise PairError(
            f"reference: expected {pair.night_size[1]}x{pair.night_size[0]} like the night, "
            f"got {reference.shape[1]}x{reference.shape[0]}; crop or resize it"
        )
    levels = with_channels(to_levels(reference, name="reference"), pair.night.shape[-3])
    weights = importance.dynamic_importance(
        pair.night,
        levels,
        threshold=settings.difference_threshold,
        span=settings.difference_span,
        smoothing=settings.difference_smoothing,
        feather=settings.feather,
    )
    return enlarged(weights, pair.size)


def _given_importance(given: Array, pair: _Pair) -> Array:
    array_module(given, pair.night)
    share = to_share(given, name="importance")
    size = tuple(share.shape)
    if size not in (pair.night_size, pair.size):
        raise PairError(
            f"importance: expected {pair.night_size[1]}x{pair.night_size[0]} like the night, "
            f"got {size[1]}x{size[0]}; resize it"
        )
    return enlarged(share, pair.size)


def _fused_picture(
    pair: _Pair, weights: Array, areas: AreasLike, settings: Settings, *, larger_where_zero: bool
) -> FusedPair:
    masks = pair.area_masks(areas)
    weights, day_only = masks.apply(weights[None], 0, numpy.zeros(1))
    night = enlarged(pair.night, pair.size)[None]
    floor = settings.larger_threshold
    if floor is None:
        floor = mixing.night_floor(night) if larger_where_zero else 0.0
    mix = _Mix(weights, weights, day_only, larger_where_zero, 1.0, floor)
    u, _ = _reconstructed(pair.day, night, mix, settings)
    if not _data_weight(settings, pair.size):
        moments = _moments(u, pair.day, night, weights, settings)
        u = normalise.apply_affine(u, *normalise.affine_from_moments(moments, u.shape[-2] * u.shape[-1]))
    return FusedPair(from_levels(u[0], pair.form), weights[0])


# ------------------------------------------------------------------------------------------- video


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
    pair = _Pair.of(day, first)
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
    first: Array, rest: Iterator[Array], pair: _Pair, length: int
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


@dataclass(frozen=True)
class Look:
    """What is measured once, in the first frames of a clip, and holds for all of it.

    Attributes
    ----------
    threshold : float
        Change between frames that counts as motion, grey levels.
    lift : float
        Gain on what is dark.
    floor : float
        Least gradient of the night that is taken where nothing is important, grey levels per pixel.

    Examples
    --------
    >>> import dataclasses, json
    >>> look = Look(threshold=1.5, lift=2.1, floor=8.0)
    >>> Look(**json.loads(json.dumps(dataclasses.asdict(look)))) == look     # to the bit
    True
    """

    threshold: float
    lift: float
    floor: float


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
    if _FirstLook(settings).complete:
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
    look = _FirstLook(settings)
    if not look.complete:
        device = _Device(day, lambda count: None)
        denoised: Iterable[tuple[Array, ...]] = _head_of(stream, look_frames(settings))
        for _ in range(settings.passes):
            denoised = _denoised(denoised, settings, device, 0)
        held: list[Window] = []
        for window in windows(denoised, _MOTION_HALO, (0, 0)):
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
    fit_before, fit_after = (0, 0) if _data_weight(settings, size) else _fit_halo(settings)
    smoothed = settings.passes * denoise.TEMPORAL_HALO
    changed_before, changed_after = _MOTION_HALO
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
    device = _Device(day, on_shortage)
    check = _SolverCheck(measure_solver, first)
    taken = _FirstLook(settings, look, array_module(day))
    denoised: Iterable[tuple[Array, ...]] = stream
    for _ in range(settings.passes):
        denoised = _denoised(denoised, settings, device, first)
    masked = _masked(day, denoised, settings, device, taken, first)
    reconstructed = _weighted_and_reconstructed(day, masked, settings, areas, device, check, taken, first)
    if _data_weight(settings, tuple(day.shape[-2:])):
        return _unfitted(reconstructed, check, first)
    return _normalised(reconstructed, settings, device, check, first)


class _Device:
    """What a stage does where memory does not suffice: free what is kept for reuse, and ask for less."""

    def __init__(self, day: Array, on_shortage: Callable[[int], None]) -> None:
        self._module = array_module(day)
        self._ask_for_less = on_shortage

    def on_shortage(self, count: int) -> None:
        if self._module is not numpy:
            from gpufuse.kernels_cuda import multigrid

            multigrid.release()
            self._module.get_default_memory_pool().free_all_blocks()
        self._ask_for_less(count)


@dataclass
class _SolverCheck:
    """Distance of the stream's first frame from the direct solution, on its way to the colour fit that scales it."""

    wanted: bool
    frame: int
    distance: Array | None = None

    def of_window(self, first: int) -> Array | None:
        """Return what was measured, for the window that begins with the frame it was measured on."""
        return self.distance if first == self.frame else None


class _FirstLook:
    """What is measured once, on the first frames of a clip, unless the settings say it."""

    def __init__(self, settings: Settings, known: Look | None = None, module: Any = numpy) -> None:
        self.threshold: float | Array | None = settings.motion_threshold
        self.lift: float | Array | None = None if settings.night_gain is None else 1.0
        self.floor: float | Array | None = settings.larger_threshold if settings.larger_where_zero else 0.0
        if known is not None:
            for name, value in dataclasses.asdict(known).items():
                if getattr(self, name) is None:  # as it would have been measured: on a GPU it stays there
                    setattr(self, name, value if module is numpy else module.full((), value, numpy.float32))

    @property
    def complete(self) -> bool:
        return self.threshold is not None and self.lift is not None and self.floor is not None

    def measure(self, day: Array, held: list[Window], settings: Settings) -> None:
        """Look at the first frames of the clip, which `held` begins with."""
        if self.threshold is None:
            self.threshold = _noise_threshold(held, settings)
        if self.lift is None or self.floor is None:
            size = tuple(day.shape[-2:])
            known = [frame for window in held for frame in window.pieces[0].core][:NOISE_FRAMES:_LOOK_EVERY]
            frames = [enlarged(frame, size) for frame in known]
            self.lift = mixing.contrast_lift(day, frames) if self.lift is None else self.lift
            self.floor = mixing.night_floor(frames) if self.floor is None else self.floor

    def taken(self) -> Look:
        """Bring what was measured to the host."""
        assert self.threshold is not None
        assert self.lift is not None
        assert self.floor is not None
        return Look(float(self.threshold), float(self.lift), float(self.floor))


def _denoised(
    stream: Iterable[tuple[Array, ...]], settings: Settings, device: _Device, first: int
) -> Iterator[tuple[Array, ...]]:
    """One pass of SUSAN over (levels, seconds)."""
    halo = (denoise.TEMPORAL_HALO, denoise.TEMPORAL_HALO)

    def smooth(window: Window) -> tuple[Array, ...]:
        noisy, seconds = window.pieces
        levels = denoise.susan3d_pass(
            noisy.stack,
            noisy.start,
            noisy.stop,
            sigma=settings.sigma,
            threshold=settings.brightness_threshold,
        )
        return levels, seconds.core

    return worked(windows(stream, halo, (0, 0), first=first), smooth, device.on_shortage)


def _masked(
    day: Array,
    stream: Iterable[tuple[Array, ...]],
    settings: Settings,
    device: _Device,
    look: _FirstLook,
    first: int,
) -> Iterator[tuple[Array, ...]]:
    """Add motion masks: (levels, seconds, masks)."""
    held: list[Window] = []  # frames that wait until the first look is taken
    for window in windows(stream, _MOTION_HALO, (0, 0), first=first):
        held.append(window)
        if not look.complete:
            if sum(map(len, held)) < NOISE_FRAMES:
                continue
            look.measure(day, held, settings)
        yield from worked(held, _masks_by(look, settings), device.on_shortage)
        held = []
    if held:
        look.measure(day, held, settings)
        yield from worked(held, _masks_by(look, settings), device.on_shortage)


def _masks_by(look: _FirstLook, settings: Settings) -> Callable[[Window], tuple[Array, ...]]:
    threshold = look.threshold
    assert threshold is not None

    def mask(window: Window) -> tuple[Array, ...]:
        levels, seconds = window.pieces
        masks = importance.cleaned_motion(
            levels.stack, levels.start, levels.stop, threshold, motion_from=settings.motion_from
        )
        return levels.core, seconds.core, masks

    return mask


def _noise_threshold(held: list[Window], settings: Settings) -> float | Array:
    changes = []
    for window in held:
        levels = window.pieces[0]
        # Only the first frame looks ahead: it takes the change of the second.
        known = levels.frames[: max(levels.stop, 2)]
        found = importance.motion_changes(known, levels.start, motion_from=settings.motion_from)
        changes.append(found[: len(window)])
    return importance.motion_threshold(array_module(*changes).concatenate(changes)[:NOISE_FRAMES])


def _weighted_and_reconstructed(
    day: Array,
    stream: Iterable[tuple[Array, ...]],
    settings: Settings,
    areas: AreaMasks | None,
    device: _Device,
    check: _SolverCheck,
    look: _FirstLook,
    first: int,
) -> Iterator[tuple[Array, ...]]:
    """Importance, mix and reconstruction: (u, importance), and the moments of the fit if there is one."""
    size = tuple(day.shape[-2:])
    fitted = not _data_weight(settings, size)

    def reconstruct(window: Window) -> tuple[Array, ...]:
        levels, seconds, masks = window.pieces
        weights = importance.temporal_mean(masks.stack, settings.c, masks.start, masks.stop)
        night = enlarged(levels.core, size)
        mix = _mix_of(enlarged(weights, size), night, window.first, seconds.core, settings, areas, look)
        u, rhs = _reconstructed(day, night, mix, settings)
        if check.wanted and window.first == check.frame:
            check.distance = _solver_error(rhs[0], settings, size)
        if not fitted:
            return u, mix.importance
        return u, mix.importance, _moments(u, day, night, mix.importance, settings)

    halos = (0, 0), (0, 0), (settings.c, settings.c)
    return worked(windows(stream, *halos, first=first), reconstruct, device.on_shortage)


@dataclass(frozen=True)
class _Mix:
    """How night and day are mixed in some frames.

    Importance and target share are (T, H, W): how much of the night's gradients is kept, and how far the picture is
    drawn to the night's own levels. `day_only` is bool or None, `lift` the gain on what is dark, `floor` the least
    gradient of the night that is taken where nothing is important.
    """

    importance: Array
    target_share: Array
    day_only: Array | None
    larger_where_zero: bool
    lift: float | Array
    floor: float | Array


def _mix_of(
    weights: Array,
    night: Array,
    first: int,
    seconds: Array,
    settings: Settings,
    areas: AreaMasks | None,
    look: _FirstLook,
) -> _Mix:
    """Complete the importance of frames of a clip: gain, lamps, then user areas, which have the last word."""
    weights, share = importance.keep_lamps(
        weights, night, threshold=settings.lamp_threshold, gain=settings.importance_gain
    )
    day_only = None
    if areas is not None:
        weights, day_only = areas.apply(weights, first, seconds)
        share, _ = areas.apply(share, first, seconds)
    assert look.lift is not None
    assert look.floor is not None
    return _Mix(weights, share, day_only, settings.larger_where_zero, look.lift, look.floor)


def _solver_error(rhs: Array, settings: Settings, size: tuple[int, int]) -> Array:
    """Largest distance from the direct solution, in grey levels before normalisation."""
    weight = _data_weight(settings, size)
    options: dict[str, Any] = {"data_weight": weight, "check_values": False}
    found = poisson.solve(rhs, method=settings.method, cycles=settings.cycles, **options)
    return abs(found - poisson.solve(rhs, method="dct", **options)).max()


def _reconstructed(day: Array, night: Array, mix: _Mix, settings: Settings) -> tuple[Array, Array]:
    """Mix and reconstruct: u without scale and shift, and the right-hand side it solves."""
    weight = _data_weight(settings, tuple(day.shape[-2:]))
    crop: tuple[Any, ...] = (Ellipsis,)
    if settings.padding == "square":
        day, crop = poisson.pad_to_square(day)
        night, mix = poisson.pad_to_square(night)[0], _padded(mix)
    rhs = mixing.mixed_divergence(
        day,
        night,
        mix.importance,
        larger_where_zero=mix.larger_where_zero,
        night_gain=1.0 if settings.night_gain is None else settings.night_gain,
        lift=mix.lift,
        night_floor=mix.floor,
        day_only=mix.day_only,
        target_share=mix.target_share,
        data_weight=weight,
        check_values=False,
    )
    u = poisson.solve(
        rhs, method=settings.method, cycles=settings.cycles, data_weight=weight, check_values=False
    )
    return array_module(u).ascontiguousarray(u[crop]), rhs


def _padded(mix: _Mix) -> _Mix:
    importance, _ = poisson.pad_to_square(mix.importance)
    target_share, _ = poisson.pad_to_square(mix.target_share)
    day_only = None if mix.day_only is None else poisson.pad_to_square(mix.day_only)[0]
    return dataclasses.replace(mix, importance=importance, target_share=target_share, day_only=day_only)


def _data_weight(settings: Settings, size: tuple[int, int]) -> float:
    """Pull towards day and night; by default of a length that is one share of every picture."""
    if settings.data_weight is not None:
        return settings.data_weight
    return min(_LARGEST_DATA_WEIGHT, _DATA_WEIGHT_PIXELS / (size[0] * size[1]))


def _moments(u: Array, day: Array, night: Array, weights: Array, settings: Settings) -> Array:
    """Sums of the colour fit to the blend of the pixels."""
    if settings.fit == "luminance":
        return normalise.luminance_moments(u, day, night, weights)
    return normalise.blend_moments(u, day, night, weights)


def _unfitted(stream: Iterable[tuple[Array, ...]], check: _SolverCheck, first: int) -> Iterator[FusedChunk]:
    """Pictures that were pulled towards day and night are in grey levels already."""
    for u, weights in stream:
        xp = array_module(u)
        scale, shift = xp.ones(u.shape[:2]), xp.zeros(u.shape[:2])
        distance = check.of_window(first)
        error = numpy.nan if distance is None else distance
        yield FusedChunk(first, u, scale, shift, weights, error, fitted=False)
        first += len(u)


def _fit_halo(settings: Settings) -> tuple[int, int]:
    """Frames before and after a frame that share its colour fit."""
    together = 2 * settings.c + 1 if settings.fit_window is None else settings.fit_window
    return (together - 1) // 2, together // 2


def _normalised(
    stream: Iterable[tuple[Array, ...]], settings: Settings, device: _Device, check: _SolverCheck, first: int
) -> Iterator[FusedChunk]:
    """Colour fit over a window of frames, which keeps the brightness from flickering."""
    before, after = _fit_halo(settings)

    def fit(window: Window) -> FusedChunk:
        u, weights, moments = window.pieces
        count = u.frames.shape[-2] * u.frames.shape[-1]
        c1, c2 = normalise.shared_fits(moments.frames, moments.start, moments.stop, before, after, count)
        error: Array | float = numpy.nan
        if (distance := check.of_window(window.first)) is not None:
            error = distance * abs(c1[0]).max()
        return FusedChunk(window.first, u.core, c1, c2, weights.core, error)

    halos = (0, 0), (0, 0), (before, after)
    return worked(windows(stream, *halos, first=first), fit, device.on_shortage)


# ------------------------------------------------------------------------------------------ helpers


@dataclass(frozen=True)
class _Pair:
    """A checked pair of pictures as levels, with equal channels."""

    day: Array
    night: Array
    form: ImageFormat

    @classmethod
    def of(cls, day: Array, night: Array) -> _Pair:
        array_module(day, night)
        form = image_format(night, name="night")
        image_format(day, name="day")
        check_pair(tuple(day.shape[:2]), tuple(night.shape[:2]))
        night_levels = to_levels(night, name="night")
        day_levels = with_channels(to_levels(day, name="day"), night_levels.shape[0])
        return cls(day_levels, night_levels, form)

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.day.shape[-2:])

    @property
    def night_size(self) -> tuple[int, int]:
        return tuple(self.night.shape[-2:])

    def area_masks(self, areas: AreasLike) -> AreaMasks:
        loaded = [] if areas is None else load_areas(areas)
        return AreaMasks(loaded, self.night_size, self.size, array_module(self.day))
