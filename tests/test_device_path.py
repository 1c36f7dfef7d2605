"""The whole path of pictures and clips on the device: the CPU's result, no copy to the host, any chunk length."""

import numpy
import pytest
from tolerances import DEVICE_EQUAL, UINT8_LEVELS

import gpufuse
from gpufuse import arrays, denoise, fusion
from gpufuse.areas import Area
from gpufuse.settings import Settings


def assert_same_pixels(found, expected):
    """At most one level apart, and equal nearly everywhere; of 16 bits, at most a tenth of a level."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    difference = abs(found.astype(numpy.int64) - expected.astype(numpy.int64))
    if expected.dtype == numpy.uint16:
        assert difference.max(initial=0) <= 0.1 * 257
        return
    assert difference.max(initial=0) <= UINT8_LEVELS
    assert (difference == 0).mean() >= DEVICE_EQUAL


def on_device(gpu, function, *images, **keywords):
    result = function(*map(gpu.asarray, images), **keywords)
    assert isinstance(result, gpu.ndarray)
    return gpu.asnumpy(result)


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("colour", [False, True])
def test_fuse(gpu, scene, dtype, colour):
    factor = 257 if dtype is numpy.uint16 else 1
    day, night = (image.astype(dtype) * dtype(factor) for image in (scene.day_image, scene.night_images[20]))
    if not colour:
        day, night = day[..., 1], night[..., 1]
    assert_same_pixels(on_device(gpu, gpufuse.fuse, day, night), gpufuse.fuse(day, night))


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "square"}, {"method": "dct"}, {"gradient_threshold": 60.0}, {"night_gain": 1.5},
        {"cycles": 4}, {"feather": 0.0}, {"data_weight": 0.0}, {"data_weight": 0.002},
        {"data_weight": 0.0, "fit": "luminance"},
    ],
)  # fmt: skip
def test_fuse_by_other_settings(gpu, scene, settings):
    pair, settings = (scene.day_image, scene.night_images[20]), Settings(**settings)
    assert_same_pixels(
        on_device(gpu, gpufuse.fuse, *pair, settings=settings), gpufuse.fuse(*pair, settings=settings)
    )


def test_fuse_with_importance_and_a_larger_day(gpu, scene):
    day = numpy.repeat(numpy.repeat(scene.day_image, 2, 0), 2, 1)
    night, weights = scene.night_images[20], scene.day_image[..., 0]
    expected = gpufuse.fuse(day, night, importance=weights)
    found = gpufuse.fuse(gpu.asarray(day), gpu.asarray(night), importance=gpu.asarray(weights))
    assert_same_pixels(gpu.asnumpy(found), expected)


def test_fuse_dynamic(gpu, scene):
    pictures = scene.day_image, scene.night_images[20], scene.night_images[0]
    assert_same_pixels(on_device(gpu, gpufuse.fuse_dynamic, *pictures), gpufuse.fuse_dynamic(*pictures))


def test_daytime_background(gpu, scene):
    frames = scene.night_images
    numpy.testing.assert_array_equal(
        on_device(gpu, gpufuse.daytime_background, frames), gpufuse.daytime_background(frames)
    )


def clip(gpu, day, frames, **keywords):
    found = list(gpufuse.fuse_video(gpu.asarray(day), gpu.asarray(frames), **keywords))
    assert all(isinstance(frame, gpu.ndarray) for frame in found)
    return numpy.array([gpu.asnumpy(frame) for frame in found])


AREAS = [
    Area(fill="day", polygon=[(2, 2), (15, 3), (9, 12)], frames=(0, 9)),
    Area(fill="night", polygon=[(20, 4), (40, 4), (40, 15), (20, 15)]),
]


@pytest.mark.parametrize(
    ("settings", "areas"),
    [
        ({}, None), ({}, AREAS), ({"passes": 0}, None), ({"passes": 1, "c": 2, "fit_window": 1}, None),
        ({"motion_from": "gradient"}, None), ({"motion_threshold": 8.0, "importance_gain": 2.0}, None),
        ({"larger_where_zero": False}, None), ({"padding": "square"}, None),
        ({"data_weight": 0.0}, AREAS), ({"data_weight": 0.0, "fit": "luminance"}, None),
        ({"lamp_threshold": 60.0}, None), ({"night_gain": 2.0}, None),
        ({"importance_gain": 1.0, "night_gain": 1.0, "data_weight": 0.0, "lamp_threshold": numpy.inf}, None),
    ],
)  # fmt: skip
def test_fuse_video(gpu, scene, settings, areas):
    pictures, settings = (scene.day_image, scene.night_images[:14]), Settings(**settings)
    expected = numpy.array(list(gpufuse.fuse_video(*pictures, settings=settings, areas=areas)))
    assert_same_pixels(clip(gpu, *pictures, settings=settings, areas=areas), expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clips_shorter_than_any_window(gpu, scene, count):
    pictures = scene.day_image, scene.night_images[:count]
    assert_same_pixels(clip(gpu, *pictures), numpy.array(list(gpufuse.fuse_video(*pictures))))


def test_grey_clips_and_a_larger_day(gpu, scene):
    day = numpy.repeat(numpy.repeat(scene.day_image[..., 0], 2, 0), 2, 1)
    frames = scene.night_images[:6, ..., 0]
    assert_same_pixels(clip(gpu, day, frames), numpy.array(list(gpufuse.fuse_video(day, frames))))


def test_the_bits_do_not_depend_on_the_chunk(gpu, scene):
    expected = clip(gpu, scene.day_image, scene.night_images[:17], chunk=17)
    for chunk in (1, 2, 5, 16):
        found = clip(gpu, scene.day_image, scene.night_images[:17], chunk=chunk)
        numpy.testing.assert_array_equal(found, expected)


def levels_stream(gpu, frames, chunk):
    for start in range(0, len(frames), chunk):
        part = frames[start : start + chunk]
        yield gpu.asarray(part), numpy.full(len(part), numpy.nan)


@pytest.mark.parametrize(
    "settings",
    [{}, {"motion_threshold": 5.0}, {"importance_gain": 1.0}, {"data_weight": 0.0, "night_gain": 1.0}],
)
def test_nothing_is_copied_to_the_host(gpu, scene, no_host_copy, settings):
    """From the levels of frames to the codes of an encoder; and nobody waits, for to wait is to copy or to ask."""
    from gpufuse.colour import levels_to_nv12

    frames = numpy.ascontiguousarray(scene.night[:14, :, :30, :44])
    day = gpu.asarray(numpy.ascontiguousarray(scene.day[:, :30, :44]))
    settings = Settings(**settings)
    with no_host_copy():
        stream = fusion.fuse_stream(
            day, levels_stream(gpu, frames, 4), settings=settings, measure_solver=True
        )
        fused = list(stream)
        codes = [levels_to_nv12(f.image, "bt601", scale=f.scale, shift=f.shift) for f in fused]
    assert sum(map(len, codes)) == 14
    error = float(gpu.asnumpy(gpu.asarray(fused[0].solver_error)))
    assert 0 <= error < 0.25


def test_the_fixture_against_copies_catches_them(gpu, no_host_copy):
    array = gpu.zeros(3)
    for copy in (
        lambda: array.get(),
        lambda: float(array[0]),
        lambda: bool(array[0]),
        lambda: array[0].item(),
    ):
        with pytest.raises(AssertionError, match="copy from the device to the host"), no_host_copy():
            copy()


def test_memory_that_does_not_suffice_halves_the_work(gpu, scene, monkeypatch):
    expected = clip(gpu, scene.day_image, scene.night_images[:12], chunk=12)
    smooth, tried, told = denoise.susan3d_pass, [], []

    def susan3d_pass(frames, start, stop, **parameters):
        tried.append(stop - start)
        if stop - start > 3:
            raise gpu.cuda.memory.OutOfMemoryError(10**9, 0)
        return smooth(frames, start, stop, **parameters)

    monkeypatch.setattr(denoise, "susan3d_pass", susan3d_pass)
    found = clip(gpu, scene.day_image, scene.night_images[:12], chunk=12)
    numpy.testing.assert_array_equal(found, expected)
    assert max(tried) > 3
    day = arrays.to_levels(gpu.asarray(scene.day_image))
    stream = fusion.fuse_stream(
        day, levels_stream(gpu, scene.night[:12], 12), settings=Settings(), on_shortage=told.append
    )
    assert sum(map(len, stream)) == 12
    assert max(told) > 3


def test_memory_for_not_even_one_frame(gpu, scene, monkeypatch):
    def susan3d_pass(frames, start, stop, **parameters):
        raise gpu.cuda.memory.OutOfMemoryError(10**9, 0)

    monkeypatch.setattr(denoise, "susan3d_pass", susan3d_pass)
    with pytest.raises(MemoryError, match="Out of memory allocating"):
        clip(gpu, scene.day_image, scene.night_images[:5])


def test_images_of_two_devices(gpu, scene):
    with pytest.raises(TypeError, match="expected all on one device, got NumPy and CuPy arrays together"):
        gpufuse.fuse(scene.day_image, gpu.asarray(scene.night_images[0]))
    with pytest.raises(TypeError, match="expected all on one device"):
        list(gpufuse.fuse_video(gpu.asarray(scene.day_image), scene.night_images))


def test_values_that_are_not_finite(gpu):
    day = numpy.full((20, 30), 0.5, numpy.float32)
    night = day.copy()
    night[3, 4] = numpy.nan
    with pytest.raises(ValueError, match="night: expected finite values, got 1 NaN or infinite"):
        gpufuse.fuse(gpu.asarray(day), gpu.asarray(night))


def test_the_chunk_follows_the_memory(gpu):
    free = arrays.free_memory(gpu.zeros(1))
    assert free > 2**20
    lengths = [fusion.chunk_length((3, 2160, 3840), free_memory=n * 2**30) for n in (2, 8, 24, 141)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    assert lengths[-1] == 4
    assert fusion.chunk_length((3, 240, 320), free_memory=141 * 2**30) == 128


@pytest.mark.parametrize("chunk", [4, 16])
@pytest.mark.parametrize("settings", [Settings(), Settings.paper()])
def test_memory_is_what_the_length_of_chunks_counts_on(gpu, make_street, chunk, settings, request):
    if request.config.getoption("--gpu"):
        pytest.skip("the pool of a GPU keeps more than is in use")
    from gpufuse.colour import levels_to_nv12
    from gpufuse.kernels_cuda import multigrid
    from gpufuse.overlap import prefetch

    multigrid.release()
    scene = make_street(72, 96, chunk)
    day, frames = gpu.asarray(scene.day), scene.night
    before, gpu.memory.peak = gpu.memory.used, 0
    # So many that each stage has what it waits for.
    chunks = prefetch(levels_stream(gpu, numpy.concatenate([frames] * 8), chunk), 2)
    waiting = []  # for the encoder
    for fused in fusion.fuse_stream(day, chunks, settings=settings, measure_solver=True):
        waiting = [*waiting[-2:], levels_to_nv12(fused.image, "bt601", scale=fused.scale, shift=fused.shift)]
    most = (gpu.memory.peak - before) / day.nbytes
    counted = fusion._DEVICE_ARRAYS * chunk + fusion._DEVICE_FRAMES_HELD
    # Small arrays are rounded up to 512 bytes, and tables count for something in so small a picture.
    assert most < 1.1 * counted + 10, (most, counted)
    if settings == Settings.paper():  # the window of the fit holds more frames than anything else
        assert most > 0.8 * counted, (most, counted)
    multigrid.release()


# Real footage


def first_frames(path, count):
    from gpufuse.video import open_clip

    with open_clip(path) as opened:
        levels = opened.read_chunk(count).levels
    return numpy.ascontiguousarray(numpy.rint(numpy.moveaxis(levels, 1, -1)).astype(numpy.uint8))


@pytest.mark.data
@pytest.mark.parametrize(
    "pair",
    [("tfl_oxford_st/day_0530.jpg", "tfl_oxford_st/night_0050.jpg"), "amos/03_dark_square", "amos/13_street_traffic"],
)  # fmt: skip
def test_real_pairs(gpu, data_folder, pair):
    from gpufuse.video import read_still

    if isinstance(pair, str):
        pictures = sorted((data_folder / pair).glob("*.*"))
        day = next(path for path in pictures if "day" in path.name)
        night = next(path for path in pictures if "night" in path.name)
    else:
        day, night = (data_folder / name for name in pair)
    pictures = read_still(day), read_still(night)
    assert_same_pixels(on_device(gpu, gpufuse.fuse, *pictures), gpufuse.fuse(*pictures))


@pytest.mark.data
def test_twelve_frames_of_a_real_clip(gpu, data_folder):
    from gpufuse.video import read_still

    day = read_still(data_folder / "relit_highway" / "day.png")
    frames = first_frames(data_folder / "relit_highway" / "night.mp4", 12)
    expected = numpy.array(list(gpufuse.fuse_video(day, frames)))
    assert_same_pixels(clip(gpu, day, frames), expected)
