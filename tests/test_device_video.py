"""Files to files on the device: the CPU's clip, bounded memory, and who decodes and encodes."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy
import pytest
from conftest import emulated
from tolerances import DEVICE_EQUAL

from gpufuse import clipjob, delivery, enhance, hardware, transfers, videofile, writer
from gpufuse.colour import levels_to_nv12
from gpufuse.decoded import frame_to_levels
from gpufuse.errors import ConfigError, DamagedInputError, DeviceError, InputError
from gpufuse.fusion import fuse_stream
from gpufuse.kernels_cuda import multigrid
from gpufuse.overlap import prefetch
from gpufuse.settings import Settings
from gpufuse.video import ClipWriter, open_clip, read_still, write_still
from gpufuse.videofile import VideoFileReader


@pytest.fixture(autouse=True)
def asked_anew():
    """Probes answer once in a process; here each test has its own device."""
    for probe in (hardware.nvdec_obstacle, hardware.nvenc_obstacle):
        probe.cache_clear()
    multigrid.release()
    yield
    for probe in (hardware.nvdec_obstacle, hardware.nvenc_obstacle):
        probe.cache_clear()


@pytest.fixture
def no_coders(monkeypatch):
    """No video hardware: decoding and encoding are FFmpeg's, whatever this machine has."""
    monkeypatch.setattr(enhance, "nvdec_obstacle", lambda: "no decoder here")
    monkeypatch.setattr(clipjob, "nvenc_obstacle", lambda *size: "no encoder here")


def write_clip(path, images, rate=25, **options):
    height, width = images.shape[1:3]
    with ClipWriter(path, width, height, Fraction(1, rate), rate, crf=0, **options) as clip:
        levels = numpy.ascontiguousarray(numpy.moveaxis(images, -1, 1).astype(numpy.float32))
        clip.write_chunk(levels, list(range(len(images))))
    return path


@pytest.fixture
def files(tmp_path, make_street):
    """A night clip of 14 frames and its day picture, of the size that is asked for."""

    def make(height=46, width=62, count=14):
        scene = make_street(height, width, count)
        write_still(tmp_path / "day.png", scene.day_image)
        return write_clip(tmp_path / "night.mp4", scene.night_images), tmp_path / "day.png"

    return make


def codes_given(monkeypatch):
    """What is given to the encoder, as RGB-free 8-bit codes; frames, before its losses."""
    given: list[numpy.ndarray] = []
    write_codes, write_chunk = ClipWriter.write_codes, ClipWriter.write_chunk

    def keep_codes(made, codes, pts):
        given.append(codes.copy())
        write_codes(made, codes, pts)

    def keep_levels(made, levels, pts):
        if made.height % 2 == 0 and made.width % 2 == 0:
            given.append(levels_to_nv12(levels, made._matrix))
        write_chunk(made, levels, pts)

    monkeypatch.setattr(ClipWriter, "write_codes", keep_codes)
    monkeypatch.setattr(ClipWriter, "write_chunk", keep_levels)
    return given


def decoded(path):
    with open_clip(path) as clip:
        return numpy.concatenate([chunk.levels for chunk in clip.chunks(8)])


def test_the_clip_is_that_of_the_cpu(gpu, no_coders, files, tmp_path, monkeypatch):
    night, day = files()
    given = codes_given(monkeypatch)
    report = enhance.enhance(night, day, tmp_path / "gpu.mp4", device="cuda")
    found = numpy.concatenate(given)
    given.clear()
    enhance.enhance(night, day, tmp_path / "cpu.mp4", device="cpu")
    expected = numpy.concatenate(given)
    assert found.shape == expected.shape == (14, 69, 62)
    difference = abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= DEVICE_EQUAL
    assert report.frames == 14
    assert 0 <= report.solver_error < 0.25
    assert (
        "on cuda (decoded by software, which tells damage, encoded by libx264 (NVENC: no encoder here))"
        in (report.summary())
    )
    assert not report.notes


def test_nvdec_is_used_where_it_is_asked_for(gpu, no_coders, files, tmp_path, monkeypatch):
    night, day = files(count=4)
    line = "decoder: expected a usable NVDEC, found {}; leave out --decoder nvdec"

    def unable():
        raise OSError(1, "no such codec")

    for device, obstacle in (("cuda", "no decoder here"), ("cpu", "computing on the CPU")):
        with pytest.raises(DeviceError, match=line.format(obstacle)):
            enhance.enhance(night, day, tmp_path / "out.mp4", device=device, decoder="nvdec")
    with pytest.raises(ConfigError, match="decoder: expected software or nvdec, got 'any'; choose one"):
        enhance.enhance(night, day, tmp_path / "out.mp4", decoder="any")
    monkeypatch.setattr(enhance, "nvdec_obstacle", lambda: None)
    # A clip that it cannot decode: software does.
    monkeypatch.setattr("gpufuse.videofile.nvdec_acceleration", unable)
    report = enhance.enhance(night, day, tmp_path / "out.mp4", device="cuda", decoder="nvdec")
    assert report.coders.startswith("decoded by software (NVDEC: ")
    # As if it could: frames that lie on the device.
    monkeypatch.setattr("gpufuse.videofile.nvdec_acceleration", lambda: None)
    monkeypatch.setattr(VideoFileReader, "_check_on_gpu", lambda reader, frame: None)
    report = enhance.enhance(night, day, tmp_path / "gpu.mp4", device="cuda", decoder="nvdec")
    assert report.coders.startswith("decoded by NVDEC, encoded by ")
    assert report.notes == ("night.mp4: decoded by NVDEC, where damage inside pictures goes unnoticed",)


def test_frames_do_not_depend_on_the_chunk(gpu, no_coders, files, tmp_path, monkeypatch):
    night, day = files()
    given = codes_given(monkeypatch)
    found = []
    for chunk in (1, 4, 14):
        enhance.enhance(night, day, tmp_path / f"{chunk}.mp4", device="cuda", chunk=chunk)
        found.append(numpy.concatenate(given))
        given.clear()
    numpy.testing.assert_array_equal(found[1], found[0])
    numpy.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize("size", [(45, 62), (46, 61), (31, 33)])
def test_odd_sizes_are_written_whole(gpu, no_coders, files, tmp_path, size):
    night, day = files(*size, count=5)
    for device in ("cuda", "cpu"):
        enhance.enhance(night, day, tmp_path / f"{device}.mp4", device=device)
    found, expected = decoded(tmp_path / "cuda.mp4"), decoded(tmp_path / "cpu.mp4")
    assert found.shape == expected.shape == (5, 3, *size)
    assert abs(found - expected).mean() < 0.5  # the encoder's choices differ


def test_nothing_but_the_codes_is_copied_to_the_host(
    gpu, no_coders, files, tmp_path, no_host_copy, monkeypatch
):
    """From the decoder's planes to the encoder's codes; the one copy is that of the codes, in its place."""
    night, day = files()
    begin = transfers.Download.__init__

    def permitted(download, array, stream):
        assert array.dtype == numpy.uint8
        with no_host_copy.allowed():
            begin(download, array, stream)

    monkeypatch.setattr(transfers.Download, "__init__", permitted)
    run = clipjob.ClipJob.run

    def run_without_copies(job, progress):
        with no_host_copy():
            return run(job, progress)

    monkeypatch.setattr(clipjob.ClipJob, "run", run_without_copies)
    assert enhance.enhance(night, day, tmp_path / "out.mp4", device="cuda").frames == 14


def test_comparison_and_importance(gpu, no_coders, files, tmp_path):
    night, day = files(count=4)
    for device in ("cuda", "cpu"):
        enhance.enhance(
            night, day, tmp_path / f"{device}.mp4", device=device, compare=True,
            write_importance=tmp_path / f"{device}-w.mp4", chunk=3,
        )  # fmt: skip
    for name in ("{}-compare.mp4", "{}-w.mp4"):
        found, expected = (decoded(tmp_path / name.format(device)) for device in ("cuda", "cpu"))
        assert found.shape == expected.shape
        assert abs(found - expected).mean() < 0.5


def test_a_still_and_stills_and_a_plate_from_a_clip(gpu, no_coders, files, tmp_path, make_street):
    scene = make_street(30, 44, 9)
    (tmp_path / "stills").mkdir()
    for k, image in enumerate(scene.night_images):
        write_still(tmp_path / "stills" / f"{k}.png", image)
    by_day = write_clip(tmp_path / "day.mp4", numpy.repeat(scene.day_image[None], 5, axis=0))
    for device in ("cuda", "cpu"):
        still = enhance.enhance(
            tmp_path / "stills" / "3.png", by_day, tmp_path / f"{device}.png", device=device
        )
        assert still.summary().endswith(f"on {device}, no damage")
        enhance.enhance(tmp_path / "stills", by_day, tmp_path / f"{device}.mp4", device=device)
    pictures = [read_still(tmp_path / f"{device}.png").astype(int) for device in ("cuda", "cpu")]
    assert abs(pictures[0] - pictures[1]).max() <= 1
    assert abs(decoded(tmp_path / "cuda.mp4") - decoded(tmp_path / "cpu.mp4")).mean() < 0.5


def test_little_memory_shortens_the_chunks(gpu, no_coders, files, tmp_path, monkeypatch, request):
    if request.config.getoption("--gpu"):
        pytest.skip("the memory of a GPU cannot be made small")
    night, day = files(60, 80, 30)
    given = codes_given(monkeypatch)
    enhance.enhance(night, day, tmp_path / "all.mp4", device="cuda", chunk=30)
    expected = numpy.concatenate(given)
    given.clear()
    # 30 frames of 58 kB at once are 1.7 MB for each of a dozen arrays.
    with emulated(mode="fast", memory=8 * 2**20):
        report = enhance.enhance(night, day, tmp_path / "few.mp4", device="cuda", chunk=30)
    assert report.frames == 30
    assert max(map(len, given)) < 30
    numpy.testing.assert_array_equal(numpy.concatenate(given), expected)


def test_too_little_memory_is_said_in_one_line(gpu, no_coders, files, tmp_path, request):
    if request.config.getoption("--gpu"):
        pytest.skip("the memory of a GPU cannot be made small")
    night, day = files(60, 80, 3)
    line = "memory: expected room for one frame of 80x60 on the GPU, found too little; close other programs"
    with emulated(mode="fast", memory=2**18), pytest.raises(DeviceError, match=line):
        enhance.enhance(night, day, tmp_path / "out.mp4", device="cuda")
    assert not list(tmp_path.glob("out*"))


# Frames that NVDEC left on the device, and surfaces for NVENC: the same code on the host's memory


class Plane:
    """A plane in the device's memory, with the padding that decoders leave, handed over as PyAV does."""

    def __init__(self, gpu, rows, pitch):
        self._memory = gpu.zeros((len(rows), pitch), rows.dtype)
        self._view = self._memory[:, : rows.shape[1]]
        self._view[...] = gpu.asarray(rows)

    def __dlpack__(self, stream=None):
        assert stream is None, "PyAV raises NotImplementedError"
        return getattr(self._view, "_a", self._view).__dlpack__()


def gpu_frame(gpu, luma, chroma, name, full=False):
    planes = [Plane(gpu, rows, rows.shape[1] + 18) for rows in (luma, chroma)]
    return SimpleNamespace(
        format=SimpleNamespace(name="cuda"), sw_format=SimpleNamespace(name=name), planes=planes,
        width=luma.shape[1], height=luma.shape[0], colorspace=2, color_range=2 if full else 1,
    )  # fmt: skip


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("name", "bits"), [("nv12", 8), ("p010le", 10), ("p016le", 16)])
@pytest.mark.parametrize("size", [(16, 24), (46, 62)])
def test_frames_of_nvdec(gpu, rng, name, bits, size, full):
    height, width = size
    dtype = numpy.uint8 if bits == 8 else numpy.uint16
    store = 0 if bits == 8 else 16 - bits
    planes = [
        rng.integers(0, 1 << bits, (rows, width)).astype(dtype) << store for rows in (height, height // 2)
    ]
    found = gpu.empty((3, height, width), numpy.float32)
    frame_to_levels(gpu_frame(gpu, *planes, name, full), found, "h264", "clip.mp4")
    from gpufuse.colour import Colour, yuv_to_levels

    expected = numpy.empty((3, height, width), numpy.float32)
    colour = Colour("bt601", full_range=full)
    yuv_to_levels(planes, expected, colour, depth=bits, high_bits=bits > 8)
    numpy.testing.assert_allclose(gpu.asnumpy(found), expected, rtol=0, atol=2e-3)


def test_an_unknown_format_of_nvdec(gpu):
    frame = SimpleNamespace(
        format=SimpleNamespace(name="cuda"), sw_format=SimpleNamespace(name="yuv444p"), planes=[],
        width=2, height=2,
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"clip: expected nv12, p010le, p016le on the GPU, found yuv444p; use --device"
    ):
        frame_to_levels(frame, gpu.empty((3, 2, 2), numpy.float32), "h264", "clip")


@pytest.mark.parametrize(
    ("name", "size", "shown", "words"),
    [
        ("nv12", (64, 48), (64, 48), None),
        ("yuv444p", (64, 48), (64, 48), "expected nv12, p010le, p016le on the GPU, found yuv444p"),
        ("nv12", (63, 48), (63, 48), "expected even sides on the GPU, found 63x48"),
        ("nv12", (64, 47), (64, 47), "expected even sides on the GPU, found 64x47"),
        ("nv12", (64, 48), (60, 48), "expected 60x48 from the GPU, found 64x48"),  # cropped at the left
    ],
)
def test_what_nvdec_does_not_deliver_whole_is_left_to_software(name, size, shown, words):
    frame = SimpleNamespace(
        format=SimpleNamespace(name="cuda"), sw_format=SimpleNamespace(name=name),
        width=size[0], height=size[1],
    )  # fmt: skip
    context = SimpleNamespace(width=shown[0], height=shown[1])
    reader: Any = SimpleNamespace(name="clip", _stream=SimpleNamespace(codec_context=context))
    with nullcontext() if words is None else pytest.raises(InputError, match=f"^{words}$"):
        videofile.VideoFileReader._check_on_gpu(reader, frame)


@pytest.mark.parametrize(("on_gpu", "raised"), [(True, MemoryError), (False, DamagedInputError)])
def test_a_gpu_without_room_for_a_frame_does_not_make_the_clip_damaged(files, on_gpu, raised):
    night, _ = files(count=3)
    with open_clip(night) as clip:
        clip._on_gpu = on_gpu
        with pytest.raises(raised):
            clip._fail(av.error.MemoryError(12, "Cannot allocate memory"), [], "0.00 s")


def test_a_clip_is_read_on_the_device_where_it_was_opened(files, request):
    """Which device is current is a matter of each thread, and one that reads ahead is new."""
    if request.config.getoption("--gpu"):
        pytest.skip("takes two GPUs")
    night, _ = files(count=3)
    with emulated(mode="fast", devices=2) as cupy:
        used = []
        with cupy.cuda.Device(1), open_clip(night, module=cupy) as clip:
            take = clip._take
            clip._take = lambda out: used.append(cupy.cuda.Device().id) or take(out)
            assert [len(chunk) for chunk in prefetch(clip.chunks(2))] == [2, 1]
        assert used == [1, 1, 1]


def test_what_follows_ffmpeg_works_on_its_stream(gpu):
    default, other = gpu.cuda.Stream.null, gpu.cuda.Stream(non_blocking=True)
    with transfers.on_default_stream(gpu):
        assert gpu.cuda.get_current_stream() == default
    with other:
        with transfers.on_default_stream(gpu):
            assert gpu.cuda.get_current_stream() == default
        assert gpu.cuda.get_current_stream() == other


@pytest.mark.parametrize("error", [RuntimeError("no such codec"), PermissionError(1, "no such codec")])
def test_a_clip_that_nvdec_cannot_decode_is_decoded_by_software(gpu, files, monkeypatch, error):
    night, _ = files(count=3)
    asked = []

    def none():
        asked.append(True)
        raise error

    monkeypatch.setattr("gpufuse.videofile.nvdec_acceleration", none)
    with open_clip(night, module=gpu, decoder="nvdec") as clip:
        assert clip.decoder == "software (NVDEC: no such codec)"
        assert isinstance(clip.read_chunk(2).levels, gpu.ndarray)
    assert asked


@pytest.mark.parametrize(("decoder", "on_gpu"), [("nvdec", False), ("nvdek", True)])
def test_decoders_that_do_not_exist(gpu, files, decoder, on_gpu):
    night, _ = files(count=2)
    line = f"decoder: expected software, or nvdec with the module cupy, got '{decoder}' with "
    with pytest.raises(ConfigError, match=line):
        open_clip(night, module=gpu if on_gpu else numpy, decoder=decoder)


def test_frames_that_nvdec_leaves_on_the_host_are_refused_there(gpu, files, monkeypatch):
    night, _ = files(count=3)
    monkeypatch.setattr("gpufuse.videofile.nvdec_acceleration", lambda: None)
    with open_clip(night, module=gpu, decoder="nvdec") as clip:
        assert "expected frames on the GPU, found yuv420p" in clip.decoder


class Encoder:
    """Stands for a writer of surfaces."""

    def __init__(self):
        self.codes, self.pts = [], []

    def write_codes(self, codes, pts):
        self.codes.append(codes)
        self.pts += pts


@pytest.mark.parametrize("odd", [0, 1])
def test_deliveries_prepare_the_same_codes(gpu, scene, odd):
    height, width = 30, 44 + odd
    day, night = (numpy.ascontiguousarray(a[..., :height, :width]) for a in (scene.day, scene.night[:3]))
    seconds = numpy.full(3, numpy.nan)
    fused = next(fuse_stream(gpu.asarray(day), [(gpu.asarray(night), seconds)], settings=Settings()))
    ways = [delivery.CodesDelivery(transfers.Downloads(gpu), "none"), delivery.SurfacesDelivery()]
    found = []
    for way in ways:
        encoder = Encoder()
        way.write(encoder, way.prepare(fused), [0, 1, 2])
        assert encoder.pts == [0, 1, 2]
        found.append(encoder.codes[0])
    assert isinstance(found[0], numpy.ndarray)
    assert isinstance(found[1], gpu.ndarray)
    numpy.testing.assert_array_equal(gpu.asnumpy(found[1]), found[0])
    assert found[0].shape == ((3, 3, 30, 45) if odd else (3, 45, 44))
    assert [way.encoder for way in ways] == ["libx264 (NVENC: none)", "NVENC"]


@pytest.mark.parametrize("width", [64, 62])
def test_a_frame_of_a_surface(gpu, width, monkeypatch, request):
    """As NVENC gets it, but in the host's memory."""
    if request.config.getoption("--gpu"):
        pytest.skip("hardware.nvenc_obstacle tries it on a GPU")
    asked = {}
    monkeypatch.setattr("av.video.frame.CudaContext", lambda **where: asked.update(where))
    from_dlpack = av.VideoFrame.from_dlpack

    def on_host(planes, format, cuda_context):
        luma, chroma = (plane._a for plane in planes)
        assert luma.strides[0] == chroma.strides[0] == 256
        assert luma.ctypes.data + 32 * 256 == chroma.ctypes.data  # one memory, as NVENC wants it
        return from_dlpack((luma, chroma), format=format)

    monkeypatch.setattr(av, "VideoFrame", SimpleNamespace(from_dlpack=on_host))
    codes = gpu.asarray(numpy.arange(48 * width, dtype=numpy.uint16).reshape(48, width).astype(numpy.uint8))
    maker: Any = SimpleNamespace(height=32, width=width, _surfaces=None)
    frame = writer.ClipWriter._frame_of_surface(maker, codes)
    assert (frame.width, frame.height, frame.format.name) == (width, 32, "nv12")
    numpy.testing.assert_array_equal(frame.to_ndarray(), gpu.asnumpy(codes))
    assert asked.pop("cuda_stream")
    assert asked == {"device_id": 0, "primary_ctx": False, "current_ctx": True}


def test_surfaces_are_used_again_once_the_encoder_lets_them_go(gpu, monkeypatch, request):
    if request.config.getoption("--gpu"):
        pytest.skip("hardware.nvenc_obstacle tries it on a GPU")
    monkeypatch.setattr("av.video.frame.CudaContext", lambda **where: None)
    kept = SimpleNamespace(from_dlpack=lambda planes, format, cuda_context: planes)  # as NVENC refers to them
    monkeypatch.setattr(av, "VideoFrame", kept)
    codes = gpu.asarray(
        numpy.arange(6, dtype=numpy.uint8)[:, None, None] + numpy.zeros((12, 16), numpy.uint8)
    )
    surfaces = writer._Surfaces(codes, 16, 8)
    held = []
    for k in range(6):
        held.append(surfaces.frame(codes[k]))
        if len(held) > 2:
            del held[0]
        for age, (luma, chroma) in enumerate(reversed(held)):
            assert (gpu.asnumpy(luma) == k - age).all()
            assert (gpu.asnumpy(chroma) == k - age).all()
    assert len(surfaces._known) == 3


@pytest.mark.parametrize("size", [(46, 62), (45, 63)])
def test_codes_and_levels_give_one_clip(tmp_path, rng, size):
    """x264 gets the same numbers, in NV12 or in three planes."""
    height, width = size
    levels = numpy.rint(rng.uniform(0, 255, (4, 3, height, width))).astype(numpy.float32)
    if height % 2 == 0:
        codes = levels_to_nv12(levels, "bt601")
    else:
        from gpufuse.colour import levels_to_yuv

        planes = [numpy.empty((4, height, width), numpy.uint8) for _ in range(3)]
        levels_to_yuv(levels, planes, "bt601")
        codes = numpy.stack(planes, axis=1)
    found = []
    for name, given in (("levels", levels), ("codes", codes)):
        with ClipWriter(
            tmp_path / f"{name}.mp4", width, height, Fraction(1, 25), 25, crf=0, source=name
        ) as clip:
            (clip.write_chunk if name == "levels" else clip.write_codes)(given, range(4))
        found.append(decoded(tmp_path / f"{name}.mp4"))
    numpy.testing.assert_array_equal(found[0], found[1])


def test_codes_that_do_not_fit(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", 4, 2, Fraction(1, 25), 25, source="codes") as clip:
        line = r"codes: expected uint8 of shape \(1, 3, 4\) in a writer of codes, got uint8 \(1, 4, 4\) in one of codes"
        with pytest.raises(ValueError, match=line):
            clip.write_codes(numpy.zeros((1, 4, 4), numpy.uint8), [0])
        clip.write_codes(numpy.zeros((1, 3, 4), numpy.uint8), [0])
    with ClipWriter(tmp_path / "b.mp4", 4, 2, Fraction(1, 25), 25) as clip:
        with pytest.raises(ValueError, match="in one of levels; check the chunk"):
            clip.write_codes(numpy.zeros((1, 3, 4), numpy.uint8), [0])
        clip.write_chunk(numpy.zeros((1, 3, 2, 4), numpy.float32), [0])
    with pytest.raises(
        ConfigError, match="size: expected even sides for an encoder on the GPU, got 5x2; give codes"
    ):
        ClipWriter(tmp_path / "c.mp4", 5, 2, Fraction(1, 25), 25, source="surfaces")


def test_a_download_waits_for_what_was_launched(gpu):
    downloads = transfers.Downloads(gpu)
    array = gpu.asarray(numpy.arange(12, dtype=numpy.uint8).reshape(3, 4))
    for part in (array, array[:, ::2], array[:0]):
        numpy.testing.assert_array_equal(downloads.start(part).result(), gpu.asnumpy(part))
