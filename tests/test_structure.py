"""What the structure of a file says, on files that are whole, cut, padded, and changed."""

import re

import numpy
import pytest
from clips import write_clip

from gpufuse.structure import content_damage, cut_header, file_structure

NAMES = {".mp4": "mov,mp4", ".mkv": "matroska,webm", ".ts": "mpegts", ".m2ts": "mpegts", ".avi": "avi"}
STREAM = {".m2ts": 0x1011}
"""FFmpeg's number of the first stream in a transport stream, where it is not 256."""


def damage_of(path, data=None):
    if data is not None:
        path.write_bytes(data)
    name = NAMES[path.suffix]
    return file_structure(str(path), name) or content_damage(str(path), name, STREAM.get(path.suffix, 256))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One clip of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    makes = {
        ".mp4": {},
        ".mkv": {},
        ".ts": {},
        ".avi": {},
        ".m2ts": {"muxing": {"mpegts_m2ts_mode": "1"}, "container": "mpegts"},
    }
    return {
        suffix: write_clip(folder / f"a{suffix}", **options).read_bytes() for suffix, options in makes.items()
    }


@pytest.mark.parametrize("suffix", NAMES)
def test_whole_files_are_sound(tmp_path, clips, suffix):
    assert damage_of(tmp_path / f"a{suffix}", clips[suffix]) is None


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_cut_end_shows(tmp_path, clips, suffix, share):
    length = int(share * len(clips[suffix])) // 204 * 204 + 5
    expected, found = damage_of(tmp_path / f"a{suffix}", clips[suffix][:length])
    assert re.search("file|packets", expected)
    assert re.search("early|more|bytes", found)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_zeros_after_the_end_are_padding(tmp_path, clips, suffix):
    assert damage_of(tmp_path / f"a{suffix}", clips[suffix] + bytes(5000)) is None


@pytest.mark.parametrize("suffix", [".mp4"])
def test_zeros_in_the_middle_are_not(tmp_path, suffix):
    path = write_clip(tmp_path / "a.mp4", muxing={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    place = [match.start() - 4 for match in re.finditer(b"moof", data)][2]
    found = damage_of(path, data[:place] + bytes(100) + data[place + 100 :])
    assert found == ("a sequence of boxes", f"no box at byte {place}")


def test_live_recordings_without_lengths_are_sound(tmp_path):
    path = write_clip(tmp_path / "a.mkv", muxing={"live": "1"})
    data = path.read_bytes()
    assert damage_of(path) is None
    expected, _ = damage_of(path, data[:-50])
    assert expected == "a file that holds its element Cluster"


def test_files_without_checksums_are_sound(tmp_path):
    path = write_clip(tmp_path / "a.mkv", muxing={"write_crc32": "0"})
    data = bytearray(path.read_bytes())
    assert damage_of(path) is None
    data[len(data) // 2] ^= 1
    assert damage_of(path, data) is None


def test_any_bit_of_a_cluster_is_covered_by_its_checksum(tmp_path, clips):
    data, rng = clips[".mkv"], numpy.random.default_rng(3)
    first = data.index(b"\x1f\x43\xb6\x75") + 20
    for place in rng.integers(first, len(data) * 9 // 10, 30):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        expected, found = damage_of(tmp_path / "a.mkv", changed)
        assert "checksum" in expected or "element" in expected, found


@pytest.mark.parametrize(("suffix", "length", "mark"), [(".ts", 188, 0), (".m2ts", 192, 4)])
def test_lost_marks_and_lost_starts_of_transport_packets_show(tmp_path, clips, suffix, length, mark):
    data = clips[suffix]
    places = range(mark, len(data), length)
    number = STREAM.get(suffix, 256) | 0x4000
    starts = [at for at in places if data[at + 1 : at + 3] == number.to_bytes(2, "big")]
    assert len(starts) == 60
    for at in (places[30], places[-1]):
        changed = data[:at] + b"\0" + data[at + 1 :]
        assert damage_of(tmp_path / f"a{suffix}", changed) == (
            "a transport packet",
            f"none at byte {at - mark}",
        )
    for at in (starts[10], starts[-1]):
        changed = data[: at + 4] + bytes(184) + data[at + 188 :]
        assert damage_of(tmp_path / f"a{suffix}", changed) == (
            "a picture where one starts", f"none at byte {at - mark}"
        )  # fmt: skip


def test_lost_marks_are_found_beyond_the_first_block(tmp_path, clips, monkeypatch):
    from gpufuse import structure

    monkeypatch.setattr(structure, "_BLOCK", 1000)
    data = clips[".ts"]
    changed = data[: 188 * 77] + b"\0" + data[188 * 77 + 1 :]
    assert damage_of(tmp_path / "a.ts", changed) == ("a transport packet", f"none at byte {188 * 77}")
    assert damage_of(tmp_path / "a.ts", data) is None
    assert damage_of(tmp_path / "a.mkv", clips[".mkv"]) is None


def test_the_beginning_of_a_clip_is_told_from_other_files(tmp_path, clips):
    path = tmp_path / "a"
    path.write_bytes(clips[".mp4"][:100])
    assert "early" in cut_header(path)[1]
    path.write_bytes(clips[".avi"][:100])
    assert cut_header(path) == (f"a file of {len(clips['.avi'])} bytes", "100 bytes")
    path.write_bytes(b"no clip at all")
    assert cut_header(path) is None
    assert cut_header(tmp_path / "none") is None


def test_noise_is_walked_without_harm(tmp_path):
    rng = numpy.random.default_rng(7)
    heads = {".mp4": b"\0\0\0\x18ftyp", ".mkv": b"\x1a\x45\xdf\xa3", ".ts": b"G", ".avi": b"RIFF"}
    for suffix, head in heads.items():
        for size in (0, 1, 5, 50, 5000):
            damage_of(tmp_path / f"a{suffix}", head[:size] + rng.bytes(size))
