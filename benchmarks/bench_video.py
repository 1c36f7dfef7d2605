"""Decoding, encoding and colour conversion, in frames per second.

Run with ``pytest benchmarks/bench_video.py -o python_files='bench_*.py' -o python_functions='bench_*'``. With
``GPUFUSE_BENCH_SMOKE=1`` the frames are tiny and each function runs once.
"""

import os
from fractions import Fraction

import numpy
import pytest

from gpufuse.colour import Colour, levels_to_yuv, yuv_to_levels
from gpufuse.video import ClipWriter, open_clip

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"
SIZES = {"smoke": (48, 32, 4)} if SMOKE else {"cif": (320, 240, 100), "hd1080": (1920, 1080, 24)}
ROUNDS = 1 if SMOKE else 5
CHUNK = 4


def scene(width, height, count):
    """A moving pattern with sensor noise, as a list of chunks of levels."""
    rng = numpy.random.default_rng(3)
    noise = rng.normal(0, 3, (height, width)).astype(numpy.float32)
    y, x = numpy.mgrid[:height, :width].astype(numpy.float32)
    frames = []
    for k in range(CHUNK):
        planes = [
            90 + 60 * numpy.sin(x / 17 + k),
            60 + y * 100 / height,
            40 + 30 * numpy.cos((x + y) / 31 - k),
        ]
        frames.append([plane + numpy.roll(noise, 7 * k, 1) for plane in planes])
    chunk = numpy.clip(numpy.array(frames, numpy.float32), 0, 255)
    return [chunk] * (count // CHUNK)


def write(path, chunks, width, height):
    with ClipWriter(path, width, height, Fraction(1, 25), 25, overwrite=True) as writer:
        for number, chunk in enumerate(chunks):
            writer.write_chunk(chunk, range(number * CHUNK, number * CHUNK + len(chunk)))


def read(path):
    with open_clip(path) as clip:
        memory = numpy.empty((CHUNK, 3, clip.height, clip.width), numpy.float32)
        while len(clip.read_chunk(CHUNK, out=memory)):
            pass
        return clip.frames_read


def measure(benchmark, function, count, size):
    width, height = size
    benchmark.pedantic(function, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(frames=count, shape=[3, height, width], dtype="float32")
    if benchmark.stats is not None:
        benchmark.extra_info["frames_per_second"] = round(count / benchmark.stats.stats.min, 1)


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


def bench_decode(benchmark, tmp_path, size):
    width, height, count = size
    write(tmp_path / "a.mp4", scene(width, height, count), width, height)
    assert read(tmp_path / "a.mp4") == count
    measure(benchmark, lambda: read(tmp_path / "a.mp4"), count, (width, height))


def bench_encode(benchmark, tmp_path, size):
    width, height, count = size
    chunks = scene(width, height, count)
    measure(benchmark, lambda: write(tmp_path / "a.mp4", chunks, width, height), count, (width, height))
    assert read(tmp_path / "a.mp4") == count


def planes_of(width, height):
    return [
        numpy.full(shape, 120, numpy.uint8) for shape in ((height, width), *[(height // 2, width // 2)] * 2)
    ]


def bench_yuv_to_levels(benchmark, size):
    width, height, _ = size
    planes, out = planes_of(width, height), numpy.empty((3, height, width), numpy.float32)
    measure(benchmark, lambda: yuv_to_levels(planes, out, Colour("bt709")), 1, (width, height))


def bench_levels_to_yuv(benchmark, size):
    width, height, _ = size
    planes, levels = planes_of(width, height), scene(width, height, CHUNK)[0][0]
    measure(benchmark, lambda: levels_to_yuv(levels, planes, "bt709"), 1, (width, height))
