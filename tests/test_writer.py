"""What a writer tells of the frames it was given, and how it is set up."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from faults.injector import faults

from gpufuse.colour import default_matrix, levels_to_nv12, levels_to_yuv
from gpufuse.digests import DIGEST_BYTES, frame_digest, frames_digest
from gpufuse.errors import ConfigError, OutputError
from gpufuse.sink import Sink
from gpufuse.video import ClipWriter, open_clip

RATE = Fraction(1, 25)


def street(count: int, height: int, width: int) -> numpy.ndarray:
    rng = numpy.random.default_rng(7)
    return rng.integers(0, 256, (count, 3, height, width)).astype(numpy.float32)


def pts_of(path: Path) -> list[int]:
    with open_clip(path) as clip:
        return [round(frame.time * 25) for frame in clip]


@pytest.mark.parametrize("size", [(6, 10), (34, 70), (8, 66)])
def test_levels_and_nv12_codes_have_the_same_digest(tmp_path: Path, size: tuple[int, int]) -> None:
    levels = street(4, *size)
    height, width = size
    with ClipWriter(tmp_path / "levels.mp4", width, height, RATE, 25) as one:
        one.write_chunk(levels, range(4))
    codes = levels_to_nv12(levels, default_matrix(height))
    with ClipWriter(tmp_path / "codes.mp4", width, height, RATE, 25, source="codes") as other:
        other.write_codes(codes[:3], range(3))
        assert len(other.digests) == 3 * DIGEST_BYTES
        other.write_codes(codes[3:], [3])
    assert one.digests == other.digests
    chroma = codes[2, height:].reshape(height // 2, width // 2, 2)
    expected = frame_digest(codes[2, :height], chroma[..., 0], chroma[..., 1])
    assert one.digests[2 * DIGEST_BYTES : 3 * DIGEST_BYTES] == expected
    assert len({one.digests[k : k + 8] for k in range(0, 32, 8)}) == 4
    assert frames_digest(one.digests) == frames_digest(other.digests) != frames_digest(one.digests[:-8])


def test_odd_sizes_have_digests_of_three_full_planes(tmp_path: Path) -> None:
    levels = street(2, 7, 9)
    planes = [numpy.empty((7, 9), numpy.uint8) for _ in range(3)]
    with ClipWriter(tmp_path / "a.mp4", 9, 7, RATE, 25) as one:
        one.write_chunk(levels, [0, 1])
    levels_to_yuv(levels[1], planes, default_matrix(7))
    with ClipWriter(tmp_path / "b.mp4", 9, 7, RATE, 25, source="codes") as other:
        other.write_codes(numpy.stack(planes)[None], [0])
    assert one.digests[DIGEST_BYTES:] == other.digests == frame_digest(*planes)


def test_a_digest_tells_planes_and_single_codes_apart() -> None:
    rng = numpy.random.default_rng(3)
    luma, blue, red = (rng.integers(0, 256, (4, 6), numpy.uint8) for _ in range(3))
    expected = frame_digest(luma, blue, red)
    assert frame_digest(luma.copy(order="F"), blue[:, :], red) == expected
    assert frame_digest(luma, red, blue) != expected
    red[3, 5] ^= 1
    assert frame_digest(luma, blue, red) != expected


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_of_the_encoder(tmp_path: Path, threads: int) -> None:
    """It writes its settings into the stream."""
    with ClipWriter(tmp_path / "a.mp4", 640, 360, RATE, 25, threads=threads) as clip:
        clip.write_chunk(street(1, 360, 640), [0])
    assert f" threads={threads} ".encode() in clip.path.read_bytes()
    with pytest.raises(ConfigError, match="threads: expected at least 1, got 0; leave it out"):
        ClipWriter(tmp_path / "b.mp4", 4, 4, RATE, 25, threads=0)


def test_the_shift_is_computed_or_given(tmp_path: Path) -> None:
    for name, first, given, expected in (
        ("a", -3, None, 3),
        ("b", 2, None, 0),
        ("c", -3, 5, 5),
        ("d", 2, 0, 0),
        ("e", 4, -4, -4),
        ("f", 0, 7, 7),
    ):
        path = tmp_path / f"{name}.mp4"
        with ClipWriter(path, 16, 8, RATE, 25, shift=given) as clip:
            clip.write_chunk(street(2, 8, 16), [first, first + 1])
        assert clip.shift == expected
        assert pts_of(path) == [first + expected, first + expected + 1]
    clip = ClipWriter(tmp_path / "g.mp4", 16, 8, RATE, 25, shift=2)
    with pytest.raises(ValueError, match="shift: expected one that leaves no time below 0, got 2 for -3"):
        clip.write_chunk(street(1, 8, 16), [-3])
    clip.discard()


def test_a_writer_may_be_closed_twice_and_discarded_after_a_failure(tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "a.mp4", 16, 8, RATE, 25) as clip:
        clip.write_chunk(street(1, 8, 16), [0])
    clip.close()
    clip.discard()
    assert len(pts_of(clip.path)) == 1
    clip = ClipWriter(tmp_path / "b.mp4", 16, 8, RATE, 25)
    clip.write_chunk(street(1, 8, 16), [0])
    with faults(1, "ENOSPC"), pytest.raises(OutputError, match="No space left on device'; free some space"):
        clip.close()
    clip.close()
    clip.discard()
    with pytest.raises(ValueError, match="expected an open writer, got a closed one"):
        clip.write_chunk(street(1, 8, 16), [1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


# What FFmpeg is told of a fault


def test_a_sink_keeps_the_first_error_and_writes_nothing_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    sink = Sink(path)
    assert sink.write(b"abcd") == 4
    assert sink.seek(1, os.SEEK_SET) == sink.tell() == 1
    sink.check()
    with faults(1, "ENOSPC", half=True) as found:
        assert sink.write(b"XYZW") == -errno.ENOSPC
        assert sink.write(b"more") == -errno.ENOSPC
        assert sink.seek(0, os.SEEK_SET) == -errno.ENOSPC
    assert len(found.operations) == 1
    with pytest.raises(OSError, match="No space left"):
        sink.check()
    sink.close()
    sink.close()
    assert path.read_bytes() == b"aXYd"


def test_an_interruption_in_a_write_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = ClipWriter(tmp_path / "a.mp4", 16, 8, RATE, 25)
    clip.write_chunk(street(1, 8, 16), [0])

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpufuse.files.WrittenFile.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clip.close()
    assert list(tmp_path.iterdir()) == []
