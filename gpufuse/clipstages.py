"""The stages as passes over the chunks of a clip, each with the halo it needs; `gpufuse.fusion` has their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy

from gpufuse import denoise, importance, normalise
from gpufuse.areas import AreaMasks
from gpufuse.arrays import Array, array_module
from gpufuse.fusedchunk import FusedChunk
from gpufuse.look import MOTION_HALO, NOISE_FRAMES, FirstLook
from gpufuse.reconstruction import Mix, data_weight, fit_moments, reconstructed, solver_error
from gpufuse.resampling import enlarged
from gpufuse.settings import Settings
from gpufuse.streaming import Window, windows, worked

__all__ = [
    "ScarceMemory",
    "SolverCheck",
    "denoised",
    "fit_halo",
    "masked",
    "normalised",
    "unfitted",
    "weighted_and_reconstructed",
]


class ScarceMemory:
    """What a stage does where memory does not suffice: free what is kept for reuse, and ask for less.

    Parameters
    ----------
    day : ndarray
        Tells the device.
    ask_for_less : callable
        Called with the number of frames that were too many.
    """

    def __init__(self, day: Array, ask_for_less: Callable[[int], None]) -> None:
        self._module = array_module(day)
        self._ask_for_less = ask_for_less

    def on_shortage(self, count: int) -> None:
        """Make room after memory did not suffice for so many frames.

        Parameters
        ----------
        count : int
        """
        if self._module is not numpy:
            from gpufuse.kernels_cuda import multigrid

            multigrid.release()
            self._module.get_default_memory_pool().free_all_blocks()
        self._ask_for_less(count)


@dataclass
class SolverCheck:
    """Distance of the stream's first frame from the direct solution, on its way to the colour fit that scales it.

    Attributes
    ----------
    wanted : bool
        Whether it is to be measured at all.
    frame : int
        Index in the clip of the stream's first frame.
    distance : ndarray of shape (), optional
        In grey levels before the fit; None until measured.
    """

    wanted: bool
    frame: int
    distance: Array | None = None

    def of_window(self, first: int) -> Array | None:
        """Return what was measured, for the window that begins with the frame it was measured on.

        Parameters
        ----------
        first : int
            Index in the clip of the window's first frame.

        Returns
        -------
        ndarray of shape (), or None
        """
        return self.distance if first == self.frame else None


def denoised(
    stream: Iterable[tuple[Array, ...]], settings: Settings, memory: ScarceMemory, first: int
) -> Iterator[tuple[Array, ...]]:
    """Smooth once by SUSAN in space and time.

    Parameters
    ----------
    stream : iterable of (levels, seconds)
    settings : Settings
    memory : ScarceMemory
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    levels, seconds : ndarray
        Of the same chunks.
    """
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

    return worked(windows(stream, halo, (0, 0), first=first), smooth, memory.on_shortage)


def masked(
    day: Array,
    stream: Iterable[tuple[Array, ...]],
    settings: Settings,
    memory: ScarceMemory,
    look: FirstLook,
    first: int,
) -> Iterator[tuple[Array, ...]]:
    """Find what moves, and take the first look where it is not complete.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
    stream : iterable of (levels, seconds)
        Denoised.
    settings : Settings
    memory : ScarceMemory
    look : FirstLook
        Complete from the first chunk that is yielded on.
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    levels, seconds, masks : ndarray
        Of the same chunks.
    """
    held: list[Window] = []  # frames that wait until the first look is taken
    for window in windows(stream, MOTION_HALO, (0, 0), first=first):
        held.append(window)
        if not look.complete:
            if sum(map(len, held)) < NOISE_FRAMES:
                continue
            look.measure(day, held, settings)
        yield from worked(held, _masks_by(look, settings), memory.on_shortage)
        held = []
    if held:
        look.measure(day, held, settings)
        yield from worked(held, _masks_by(look, settings), memory.on_shortage)


def _masks_by(look: FirstLook, settings: Settings) -> Callable[[Window], tuple[Array, ...]]:
    threshold = look.threshold
    assert threshold is not None

    def mask(window: Window) -> tuple[Array, ...]:
        levels, seconds = window.pieces
        masks = importance.cleaned_motion(
            levels.stack, levels.start, levels.stop, threshold, motion_from=settings.motion_from
        )
        return levels.core, seconds.core, masks

    return mask


def weighted_and_reconstructed(
    day: Array,
    stream: Iterable[tuple[Array, ...]],
    settings: Settings,
    areas: AreaMasks | None,
    memory: ScarceMemory,
    check: SolverCheck,
    look: FirstLook,
    first: int,
) -> Iterator[tuple[Array, ...]]:
    """Weigh what moves, mix and reconstruct.

    Parameters
    ----------
    day : ndarray, shape (C, H, W), float32, grey levels
    stream : iterable of (levels, seconds, masks)
    settings : Settings
    areas : AreaMasks, optional
    memory : ScarceMemory
    check : SolverCheck
        Its distance is measured here.
    look : FirstLook
        Complete when the first chunk comes.
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    u, importance : ndarray
        Of the same chunks; and the moments of the colour fit where there is one.
    """
    size = tuple(day.shape[-2:])
    fitted = not data_weight(settings, size)

    def reconstruct(window: Window) -> tuple[Array, ...]:
        levels, seconds, masks = window.pieces
        weights = importance.temporal_mean(masks.stack, settings.c, masks.start, masks.stop)
        night = enlarged(levels.core, size)
        mix = _mix_of(enlarged(weights, size), night, window.first, seconds.core, settings, areas, look)
        u, rhs = reconstructed(day, night, mix, settings)
        if check.wanted and window.first == check.frame:
            check.distance = solver_error(rhs[0], settings, size)
        if not fitted:
            return u, mix.importance
        return u, mix.importance, fit_moments(u, day, night, mix.importance, settings)

    halos = (0, 0), (0, 0), (settings.c, settings.c)
    return worked(windows(stream, *halos, first=first), reconstruct, memory.on_shortage)


def _mix_of(
    weights: Array,
    night: Array,
    first: int,
    seconds: Array,
    settings: Settings,
    areas: AreaMasks | None,
    look: FirstLook,
) -> Mix:
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
    return Mix(weights, share, day_only, settings.larger_where_zero, look.lift, look.floor)


def unfitted(stream: Iterable[tuple[Array, ...]], check: SolverCheck, first: int) -> Iterator[FusedChunk]:
    """Hand on pictures that were pulled towards day and night: they are in grey levels already.

    Parameters
    ----------
    stream : iterable of (u, importance)
    check : SolverCheck
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    FusedChunk
    """
    for u, weights in stream:
        xp = array_module(u)
        scale, shift = xp.ones(u.shape[:2]), xp.zeros(u.shape[:2])
        distance = check.of_window(first)
        error = numpy.nan if distance is None else distance
        yield FusedChunk(first, u, scale, shift, weights, error, fitted=False)
        first += len(u)


def fit_halo(settings: Settings) -> tuple[int, int]:
    """Frames before and after a frame that share its colour fit.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    before, after : int

    Examples
    --------
    >>> fit_halo(Settings(c=3)), fit_halo(Settings(fit_window=4))
    ((3, 3), (1, 2))
    """
    together = 2 * settings.c + 1 if settings.fit_window is None else settings.fit_window
    return (together - 1) // 2, together // 2


def normalised(
    stream: Iterable[tuple[Array, ...]],
    settings: Settings,
    memory: ScarceMemory,
    check: SolverCheck,
    first: int,
) -> Iterator[FusedChunk]:
    """Fit colours over a window of frames, which keeps the brightness from flickering.

    Parameters
    ----------
    stream : iterable of (u, importance, moments)
    settings : Settings
    memory : ScarceMemory
    check : SolverCheck
    first : int
        Index in the clip of the stream's first frame.

    Yields
    ------
    FusedChunk
    """
    before, after = fit_halo(settings)

    def fit(window: Window) -> FusedChunk:
        u, weights, moments = window.pieces
        count = u.frames.shape[-2] * u.frames.shape[-1]
        c1, c2 = normalise.shared_fits(moments.frames, moments.start, moments.stop, before, after, count)
        error: Array | float = numpy.nan
        if (distance := check.of_window(window.first)) is not None:
            error = distance * abs(c1[0]).max()
        return FusedChunk(window.first, u.core, c1, c2, weights.core, error)

    halos = (0, 0), (0, 0), (before, after)
    return worked(windows(stream, *halos, first=first), fit, memory.on_shortage)
