"""Make the pictures of the documentation from the rendered street; no footage is needed.

    python docs/make_pictures.py              # all of them, about two minutes on two cores
    python docs/make_pictures.py motion c     # some of them

Each function below makes the sheet of its name. The street is the same on every machine, so a picture changes only
when the method does.
"""

# ruff: noqa: D103  (a picture's name says what it shows)

from __future__ import annotations

import argparse
import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from gpufuse import Settings, baselines, denoise, importance, normalise, poisson
from gpufuse.arrays import ImageFormat, from_levels, to_levels
from gpufuse.demo import run_demo
from gpufuse.fusion import chunk_length, fuse_stream, fused_pair
from gpufuse.gradients import gradient, squared_magnitude
from gpufuse.mixing import mix_gradients, mixed_divergence
from gpufuse.report import sheet
from gpufuse.scene import Scene, render_scene

FOLDER = Path(__file__).resolve().parent
PICTURES = FOLDER / "pages" / "pictures"
LARGEST = 54_000
"""Bytes of a sheet; the two pictures of the README may have twice as many."""

SIZE = {"width": 640, "height": 360, "frames": 40}
FRAME = 28
"""The frame that is shown: a car comes, another goes, somebody walks."""

CARS = (slice(130, 310), slice(230, 550))
"""Rows and columns round the nearest cars and somebody who walks."""

BYTES = ImageFormat(numpy.dtype(numpy.uint8), True)
USUAL, PAPER = Settings(), Settings.paper()
Panels = list[tuple[str, Any]]


# What several sheets need


@functools.cache
def street() -> Scene:
    return render_scene(**SIZE)


@functools.cache
def night_levels() -> numpy.ndarray:
    return to_levels(street().night, leading=1)


@functools.cache
def day_levels() -> numpy.ndarray:
    return to_levels(street().day)


@functools.cache
def smoothed(passes: int, threshold: float = USUAL.brightness_threshold) -> numpy.ndarray:
    return denoise.susan3d(night_levels(), sigma=USUAL.sigma, threshold=threshold, passes=passes)


@functools.cache
def clip(settings: Settings = USUAL) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fused frames and importance of the whole clip."""
    day, night = day_levels(), night_levels()
    length = chunk_length(day.shape)
    stream = (
        (night[start : start + length], numpy.zeros(len(night[start : start + length])))
        for start in range(0, len(night), length)
    )
    chunks = [
        (fused.pixels(BYTES), fused.importance) for fused in fuse_stream(day, stream, settings=settings)
    ]
    pixels, weights = (numpy.concatenate(parts) for parts in zip(*chunks, strict=True))
    return pixels, weights


def result(**changes: Any) -> numpy.ndarray:
    return clip(USUAL.replace(**changes))[0][FRAME]


def weights(**changes: Any) -> numpy.ndarray:
    return clip(USUAL.replace(**changes))[1][FRAME]


def picture(levels: numpy.ndarray) -> numpy.ndarray:
    return from_levels(levels, BYTES)


def strength(gx: numpy.ndarray, gy: numpy.ndarray) -> numpy.ndarray:
    """Joint magnitude of a gradient, shown so that 60 levels a pixel are white."""
    return numpy.clip(numpy.sqrt(squared_magnitude(gx, gy)) / 60, 0, 1)


def about_zero(levels: numpy.ndarray, gain: float = 1.0) -> numpy.ndarray:
    """Values of both signs, grey where they are 0."""
    return picture(128 + gain * levels)


def cut(panels: Panels, place: tuple[slice, slice]) -> Panels:
    return [(label, array[place]) for label, array in panels]


# How it works


def denoised() -> Panels:
    """The filter, in a corner of the picture, lightened so that the noise shows."""
    place = (slice(110, 220), slice(40, 236))
    shown: Panels = [("night, as recorded (lighter)", picture(3 * night_levels()[FRAME]))]
    shown += [(f"after pass {passes}", picture(3 * smoothed(passes)[FRAME])) for passes in (1, 2)]
    return cut(shown, place)


def motion() -> Panels:
    changes = importance.motion_changes(smoothed(USUAL.passes))
    masks = importance.motion_masks(smoothed(USUAL.passes))
    return [
        ("night", street().night[FRAME]),
        ("change since the frame before, x 8", numpy.clip(changes[FRAME] / 32, 0, 1)),
        ("motion mask", masks[FRAME].astype(numpy.float32)),
        (f"importance: mean of {2 * USUAL.c + 1} masks", importance.temporal_mean(masks, USUAL.c)[FRAME]),
    ]


def stages() -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Day, denoised night and importance of the frame that is shown, as the paper has them."""
    return day_levels(), smoothed(PAPER.passes)[FRAME], clip(PAPER)[1][FRAME]


def mix() -> Panels:
    day, night, w = stages()
    mixed = mix_gradients(day, night, w, larger_where_zero=True)
    return [
        ("gradients of the day", strength(*gradient(day))),
        ("gradients of the night", strength(*gradient(night))),
        ("mixed", strength(*mixed)),
    ]


def reconstruction() -> Panels:
    day, night, w = stages()
    rhs = mixed_divergence(day, night, w, larger_where_zero=True)
    u, exact = poisson.solve(rhs), poisson.solve(rhs, method="dct")
    return [
        ("divergence of the mixed gradients", about_zero(rhs)),
        ("reconstruction u, mean 0", about_zero(u)),
        ("error of multigrid, x 1000", about_zero(u - exact, 1000)),
    ]


def normalised() -> Panels:
    day, night, w = stages()
    u = poisson.solve(mixed_divergence(day, night, w, larger_where_zero=True))
    target = baselines.blend(day, night, w)
    c1, c2 = normalise.fit_affine(u, target)
    return [
        ("reconstruction u", about_zero(u)),
        ("target: blend of pixels", picture(target)),
        ("result: c1 u + c2", picture(normalise.apply_affine(u, c1, c2))),
    ]


def pulled() -> Panels:
    return [
        ("paper: no pull, colour fit", clip(PAPER)[0][FRAME]),
        ("pulled", clip(PAPER.replace(data_weight=None))[0][FRAME]),
        ("default settings", result()),
    ]


def pair() -> Panels:
    scene = street()
    fused = fused_pair(scene.day, scene.night[FRAME])
    return [
        ("day", scene.day),
        ("night", scene.night[FRAME]),
        ("static importance", fused.importance),
        ("fuse", fused.pixels),
    ]


def dynamic() -> Panels:
    scene = street()
    fused = fused_pair(scene.day, scene.night[FRAME], reference=scene.empty_night)
    return [
        ("night", scene.night[FRAME]),
        ("night reference", scene.empty_night),
        ("importance", fused.importance),
        ("fuse_dynamic", fused.pixels),
    ]


def methods() -> Panels:
    """The simple ways have the importance that ours has."""
    day, night, w = day_levels(), smoothed(USUAL.passes)[FRAME], weights()
    return [
        ("average", picture(baselines.average(day, night))),
        ("maximum", picture(baselines.maximum(day, night))),
        ("substitution of pixels", picture(baselines.substitute(day, night, w))),
        ("blend of pixels", picture(baselines.blend(day, night, w))),
        ("fuse (no clip)", fused_pair(street().day, street().night[FRAME]).pixels),
        ("fuse_video", result()),
    ]


# What each parameter does


def passes() -> Panels:
    return [(f"passes = {n}: importance", weights(passes=n)) for n in (0, 1, 2)]


def brightness_threshold() -> Panels:
    place = (slice(110, 220), slice(40, 236))
    shown = [
        (f"brightness_threshold = {t}", picture(3 * smoothed(USUAL.passes, t)[FRAME])) for t in (5, 20, 60)
    ]
    return cut(shown, place)


def motion_threshold() -> Panels:
    tried = [("0.5", 0.5), ("auto", None), ("12", 12.0)]
    return [(f"motion_threshold = {name}", weights(motion_threshold=value)) for name, value in tried]


def motion_from() -> Panels:
    return [(f'motion_from = "{word}"', weights(motion_from=word)) for word in ("intensity", "gradient")]


def c() -> Panels:
    shown: Panels = [(f"c = {frames}: importance", weights(c=frames)) for frames in (0, 5, 12)]
    return shown + [(f"c = {frames}: result", result(c=frames)) for frames in (0, 5, 12)]


def importance_gain() -> Panels:
    gains = (1, 2, 4)
    shown: Panels = [(f"importance_gain = {gain}: W", weights(importance_gain=gain)) for gain in gains]
    return cut(shown + [("result", result(importance_gain=gain)) for gain in gains], CARS)


def lamp_threshold() -> Panels:
    tried = [numpy.inf, USUAL.lamp_threshold, USUAL.lamp_threshold / 2]
    return cut([(f"lamp_threshold = {value:g}", result(lamp_threshold=value)) for value in tried], CARS)


def night_gain() -> Panels:
    tried = [("1", 1.0), ("auto", None), ("3", 3.0)]
    return cut([(f"night_gain = {name}", result(night_gain=value)) for name, value in tried], CARS)


def data_weight() -> Panels:
    tried = [("0", 0.0), ("0.001", 0.001), ("auto", None), ("0.1", 0.1)]
    return [(f"data_weight = {name}", result(data_weight=value)) for name, value in tried]


def fit() -> Panels:
    return [
        (f'fit = "{word}"', clip(PAPER.replace(fit=word))[0][FRAME]) for word in ("channels", "luminance")
    ]


def larger_where_zero() -> Panels:
    return [
        (f"larger_where_zero = {str(choice).lower()}", result(larger_where_zero=choice))
        for choice in (True, False)
    ]


def fit_window() -> Panels:
    """Change of the sky from frame to frame, a line of the picture for each; stripes are flicker."""
    tried = [
        ("data_weight = 0, fit_window = 1", PAPER.replace(fit_window=1)),
        ("data_weight = 0, fit_window = 31", PAPER.replace(fit_window=31)),
        ("data_weight = auto", USUAL),
    ]
    shown: Panels = []
    for name, settings in tried:
        sky = clip(settings)[0][:, :48, :, 1].astype(float).mean(axis=1)
        change = numpy.diff(sky.reshape(len(sky), -1, 16).mean(axis=2), axis=0)
        off = numpy.kron(128 + 100 * change, numpy.ones((9, 16)))
        shown.append((name, numpy.clip(off, 0, 255).astype(numpy.uint8)))
    return shown


def static_thresholds() -> Panels:
    def found(**changes: Any) -> numpy.ndarray:
        return fused_pair(street().day, street().night[FRAME], settings=USUAL.replace(**changes)).importance

    shown = [
        ("gradient_threshold = 20", found(gradient_threshold=20)),
        ("gradient_threshold = auto", found()),
        ("gradient_threshold = 120", found(gradient_threshold=120)),
        ("intensity_threshold = 120", found(intensity_threshold=120)),
        ("intensity_threshold = 200", found()),
        ("intensity_threshold = 250", found(intensity_threshold=250)),
    ]
    return shown


def feather() -> Panels:
    def fused(width: float) -> Any:
        return fused_pair(street().day, street().night[FRAME], settings=USUAL.replace(feather=width))

    widths = (0, 1.5, 5)
    shown: Panels = [(f"feather = {width}", fused(width).importance) for width in widths]
    return cut(shown + [("result", fused(width).pixels) for width in widths], CARS)


def difference() -> Panels:
    def found(**changes: Any) -> numpy.ndarray:
        scene = street()
        return fused_pair(
            scene.day,
            scene.night[FRAME],
            reference=scene.empty_night,
            settings=USUAL.replace(**changes),
        ).importance

    return [
        ("difference_threshold = 4", found(difference_threshold=4)),
        ("difference_threshold = 12", found()),
        ("difference_threshold = 40", found(difference_threshold=40)),
        ("difference_span = 2", found(difference_span=2)),
        ("difference_span = 100", found(difference_span=100)),
        ("difference_smoothing = 6", found(difference_smoothing=6)),
    ]


def padding() -> Panels:
    none, square = (clip(PAPER.replace(padding=word))[0][FRAME] for word in ("none", "square"))
    off = square.astype(float) - none
    return [
        ('padding = "none"', none),
        ('padding = "square"', square),
        ("their difference, x 8", numpy.clip(128 + 8 * off, 0, 255).astype(numpy.uint8)),
    ]


# The first picture of all


def before_after() -> numpy.ndarray:
    """Night on the left, result on the right, the whole street in both."""
    scene = street()
    gap = numpy.full((SIZE["height"], 8, 3), 24, numpy.uint8)
    return numpy.concatenate([scene.night[FRAME], gap, result()], axis=1)


def demo() -> numpy.ndarray:
    """The sheet of `gpufuse demo`, three quarters its size."""
    with tempfile.TemporaryDirectory() as folder:
        run_demo(folder)
        image = Image.open(Path(folder, "sheet.png"))
        return numpy.array(image.resize([3 * side // 4 for side in image.size], Image.Resampling.LANCZOS))


WHOLE = {"before_after": (FOLDER / "before-after.jpg", before_after), "demo": (FOLDER / "demo.jpg", demo)}
"""Pictures that the README shows too."""

SHEETS: dict[str, tuple[Callable[[], Panels], int]] = {
    maker.__name__: (maker, columns)
    for columns, makers in [
        (2, [motion, pair, dynamic, motion_from, data_weight, fit, larger_where_zero]),
        (3, [denoised, mix, reconstruction, pulled, normalised, methods]),
        (3, [passes, brightness_threshold, motion_threshold, c, importance_gain, lamp_threshold, night_gain]),
        (3, [padding, fit_window, static_thresholds, feather, difference]),
    ]
    for maker in makers
}


def drawn(name: str) -> numpy.ndarray:
    """The sheet of a name, its panels as wide as the page has room for."""
    maker, columns = SHEETS[name]
    panels = maker()
    return sheet(panels, columns=columns, scale=900 / columns / panels[0][1].shape[1])


def write_small(path: Path, pixels: numpy.ndarray, largest: int) -> int:
    """Write a JPEG of at most `largest` bytes, as good as that allows; return its bytes."""
    path.parent.mkdir(exist_ok=True)
    for quality in range(88, 20, -4):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() <= largest:
            break
    path.write_bytes(data.getvalue())
    return data.tell()


def main() -> None:
    words = argparse.ArgumentParser(description="Make the pictures of the documentation.")
    known = [*WHOLE, *SHEETS]
    words.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)}; default: all")
    wanted = words.parse_args().names or known
    if unknown := set(wanted) - set(known):
        words.error(f"expected names of pictures, got {', '.join(sorted(unknown))}; see --help")
    for name in wanted:
        if name in WHOLE:
            path, maker = WHOLE[name]
            size = write_small(path, maker(), 2 * LARGEST)
        else:
            path = PICTURES / f"{name}.jpg"
            size = write_small(path, drawn(name), LARGEST)
        print(f"{path.name:<28}{size / 1000:6.0f} kB", flush=True)


if __name__ == "__main__":
    main()
