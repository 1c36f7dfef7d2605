"""Whatever changes in a folder of outputs is found, and nothing else is complained about."""

import dataclasses
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

from gpufuse.batch.manifest import Manifest, manifest_path, recorded
from gpufuse.batch.verify import Problem, VerifyReport, verify_folder
from gpufuse.errors import DamagedInputError, InputError
from gpufuse.video import ClipWriter

SEED = 20261122
RATE = Fraction(1, 25)


def write_clip(path, *, pts=range(5), size=(32, 16), rate=25, time_base=RATE, level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    levels = numpy.full((len(pts), 3, height, width), level, numpy.float32)
    levels += numpy.arange(width, dtype=numpy.float32)
    with ClipWriter(path, width, height, time_base, rate) as writer:
        writer.write_chunk(levels, list(pts))
    return path


def write_manifest(root, name, *, outputs=None, clip=(), day=(), pts=range(5), time_base=RATE, **changes):
    names = outputs or [name]
    described = {
        "name": name,
        "outputs": tuple(recorded(root / output, name=output) for output in names),
        "clip": tuple(recorded(path) for path in clip),
        "day": tuple(recorded(path) for path in day),
        "order": {"settings": {"passes": 1}},
        "versions": {"gpufuse": "1", "é": "\udcff"},
        "device": "cpu",
        "coders": "",
        "frames_in": len(pts),
        "frames_out": len(pts),
        "first_time": float(pts[0] * time_base),
        "last_time": float(pts[-1] * time_base),
        "size": (32, 16),
        "digest": "ab",
        "damage": (),
        "notes": ("a note",),
        "gaps": ((0.5, 1.25),),
        "shift": {"dx": 0.25, "dy": -1.0},
        "segments": 1,
        "seconds": 1.5,
        "finished": "2026-11-22T10:00:00+00:00",
    }
    manifest = Manifest(**described | changes)
    manifest_path(root / name).write_bytes(manifest.to_bytes())
    return manifest


def make_output(root, name, **options):
    write_clip(
        root / name, **{key: options[key] for key in ("pts", "size", "time_base", "level") if key in options}
    )
    write_manifest(
        root, name, **{key: value for key, value in options.items() if key not in ("size", "level")}
    )
    return root / name


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "out"
    for k in range(3):
        make_output(root, f"cam{k % 2}/{k}-enhanced.mp4", level=60 + 20 * k)
    (root / ".gpufuse" / "work").mkdir(parents=True)
    (root / ".gpufuse" / "lock").write_text("{}")
    (root / ".gpufuse" / "work" / "x-enhanced.mp4").write_bytes(b"half")
    (root / "index.html").write_text("<html>")
    return root


def lines(report):
    return [str(problem) for problem in report.problems]


def test_a_sound_folder(folder):
    told = []
    report = verify_folder(folder, tell=lambda done, total: told.append((done, total)), decode=True)
    size = sum(path.stat().st_size for path in folder.glob("cam*/*.mp4"))
    assert report == VerifyReport(str(folder), 3, size)
    assert report.exit_code == 0
    assert report.notes() == []
    assert report.summary().endswith("3 outputs (" + f"{size / 1e3:.1f} kB) checked, no problem")
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {size}


def test_nothing_is_changed_in_the_folder(folder):
    def everything():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
        }

    before = everything()
    verify_folder(folder, decode=True)
    assert everything() == before


def test_a_folder_within_and_links_to_folders(folder, tmp_path):
    assert verify_folder(folder / "cam0").checked == 2
    moved = tmp_path / "other disk"
    (folder / "cam0").rename(moved)
    (folder / "cam0").symlink_to(moved)
    (moved / "loop").symlink_to(folder)
    report = verify_folder(folder)
    assert (report.checked, report.problems) == (3, ())


def test_every_changed_byte_of_an_output_is_found(tmp_path):
    rng = random.Random(SEED)
    content = write_clip(tmp_path / "a.mp4").read_bytes()
    names = [f"{k:03}-enhanced.mp4" for k in range(100)]
    for name in names:
        (tmp_path / name).write_bytes(content)
        write_manifest(tmp_path, name)
        changed = bytearray(content)
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        (tmp_path / name).write_bytes(changed)
    report = verify_folder(tmp_path)
    assert [problem.name for problem in report.problems] == names
    assert all(problem.expected.startswith("content of hash ") for problem in report.problems)
    assert report.exit_code == DamagedInputError.exit_code == 4


def test_every_changed_byte_of_a_manifest_is_found(tmp_path):
    rng = random.Random(SEED)
    content = make_output(tmp_path, "a-enhanced.mp4").read_bytes()
    written = manifest_path(tmp_path / "a-enhanced.mp4").read_bytes()
    places = [*range(0, len(written), 29), *(rng.randrange(len(written)) for _ in range(100))]
    for place in places:
        changed = bytearray(written)
        changed[place] ^= rng.randrange(1, 256)
        manifest_path(tmp_path / "a-enhanced.mp4").write_bytes(changed)
        report = verify_folder(tmp_path)
        assert [problem.name for problem in report.problems] == ["a-enhanced.mp4.json"], (place, changed)
    assert (tmp_path / "a-enhanced.mp4").read_bytes() == content


@pytest.mark.parametrize("blank", [b"\n", b"\t", b"\r"])
def test_another_kind_of_blank_in_a_manifest_is_a_change(tmp_path, blank):
    make_output(tmp_path, "a-enhanced.mp4")
    path = manifest_path(tmp_path / "a-enhanced.mp4")
    path.write_bytes(path.read_bytes().replace(b" ", blank, 1))
    assert lines(verify_folder(tmp_path)) == [
        "a-enhanced.mp4.json: expected a whole manifest, found 'a manifest that was changed'; "
        "delete it and its output, and run the batch again"
    ]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.99])
def test_a_manifest_that_was_cut(tmp_path, share):
    make_output(tmp_path, "a-enhanced.mp4")
    path = manifest_path(tmp_path / "a-enhanced.mp4")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    report = verify_folder(tmp_path)
    assert [problem.name for problem in report.problems] in (
        ["a-enhanced.mp4.json"],
        ["a-enhanced.mp4"],  # too little is left to see that it was a manifest
    )


def test_an_output_that_was_cut_or_is_gone(folder):
    path = folder / "cam0/0-enhanced.mp4"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "cam1/1-enhanced.mp4").unlink()
    report = verify_folder(folder)
    gone = f"a file of {recorded_size(folder, 'cam1/1-enhanced.mp4')} bytes"
    assert report.problems == (
        Problem("cam0/0-enhanced.mp4", f"{size} bytes", f"{size - 1}",
                "delete it and its manifest, and run the batch again"),
        Problem("cam1/1-enhanced.mp4", gone, "none", "run the batch again"),
    )  # fmt: skip
    assert report.checked == 3


def recorded_size(folder, name):
    return Manifest.from_bytes(manifest_path(folder / name).read_bytes()).outputs[0].size


@pytest.mark.parametrize("what", ["outputs", "manifests", "both"])
def test_two_that_were_swapped(folder, what):
    one, other = folder / "cam0/0-enhanced.mp4", folder / "cam0/2-enhanced.mp4"
    pairs = {
        "outputs": [(one, other)],
        "manifests": [(manifest_path(one), manifest_path(other))],
        "both": [(one, other), (manifest_path(one), manifest_path(other))],
    }
    for a, b in pairs[what]:
        a.rename(folder / "aside")
        b.rename(a)
        (folder / "aside").rename(b)
    report = verify_folder(folder)
    assert len({problem.name for problem in report.problems}) == 2
    if what != "outputs":
        assert lines(report)[0] == (
            "cam0/0-enhanced.mp4.json: expected the manifest of 0-enhanced.mp4, found that of "
            "cam0/2-enhanced.mp4; delete it and its output, and run the batch again"
        )


def test_what_no_manifest_tells_of(folder, tmp_path):
    night = write_clip(folder / "cam0" / "night.mp4")
    day = write_clip(tmp_path / "day.mp4")
    gone = write_clip(tmp_path / "gone.mp4")
    write_manifest(folder, "cam0/0-enhanced.mp4", clip=[night], day=[day, gone])
    write_manifest(folder, "cam0/2-enhanced.mp4", clip=[night], day=[day, gone])
    os.utime(day, (1, 1))
    gone.unlink()
    write_clip(folder / "cam1" / "holiday.mkv")
    write_clip(folder / "cam1" / "5-enhanced.mp4")
    (folder / "cam1" / "7-enhanced.mp4.part-0123abcd").write_bytes(b"half")
    (folder / "cam1" / "notes.json").write_text("{}")
    (folder / "cam1" / "holiday.mkv.json").write_text('{"check": 1, "title": "by another program"}')
    report = verify_folder(folder)
    assert report.foreign == ("cam1/holiday.mkv",)  # and not the clip that lies among the outputs
    assert report.leftovers == ("cam1/7-enhanced.mp4.part-0123abcd",)
    assert (report.inputs_changed, report.inputs_gone) == ((str(day),), (str(gone),))
    assert lines(report) == [
        "cam1/5-enhanced.mp4: expected its manifest beside it, found none, so it was never finished, or is not of "
        "the batch; run the batch again, or move it elsewhere"
    ]
    assert [note.split(" (")[0] for note in report.notes()] == [
        "1 clip that no manifest tells of; not looked at",
        "1 file in the making; the next run removes them, unless one is running now",
        "1 input of another size or time than recorded; the next run looks at them",
        "1 input that cannot be found any more; the outputs are not affected",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"frames_out": 6}, "expected 6 frames, found 5"),
        ({"first_time": 0.04}, "expected its first frame at 0.040 s, found 0.000 s"),
        ({"last_time": 0.2}, "expected its last frame at 0.200 s, found 0.160 s"),
        ({"size": (16, 32)}, "expected 16x32 pixels, found 32x16 pixels"),
        ({"outputs": ()}, "expected at least one output, found a manifest that names none"),
    ],
)
def test_a_manifest_that_tells_another_story(tmp_path, changes, expected):
    path = make_output(tmp_path, "a-enhanced.mp4")
    manifest = Manifest.from_bytes(manifest_path(path).read_bytes())
    manifest_path(path).write_bytes(dataclasses.replace(manifest, **changes).to_bytes())
    assert [line.split(": ", 1)[1].split(";")[0] for line in lines(verify_folder(tmp_path))] == [expected]
    assert verify_folder(tmp_path, quick=True).problems == () or not manifest.outputs or "outputs" in changes


@pytest.mark.parametrize(
    ("name", "pts", "time_base"),
    [
        ("a.mp4", range(-7, 3), RATE),  # moved to begin at 0
        ("a.mp4", range(5000, 5060, 3), RATE),
        ("a.mkv", range(0, 20), Fraction(1001, 30000)),
        ("a.mkv", range(40, 45), Fraction(1001, 24000)),
        ("a.mov", [0], RATE),
        ("a.mp4", [0, 1, 40, 73, 74, 1000], Fraction(1, 1000)),
    ],
)
def test_times_as_containers_keep_them(tmp_path, name, pts, time_base):
    make_output(tmp_path, name, pts=pts, time_base=time_base)
    assert lines(verify_folder(tmp_path, decode=True)) == []


def test_a_clip_that_was_split(tmp_path):
    write_clip(tmp_path / "a-enhanced.mp4")
    write_clip(tmp_path / "a-enhanced-2.mp4", pts=range(5, 9), size=(16, 16))
    names = ["a-enhanced.mp4", "a-enhanced-2.mp4"]
    write_manifest(tmp_path, "a-enhanced.mp4", outputs=names, pts=range(9))
    report = verify_folder(tmp_path, decode=True)
    assert (report.checked, lines(report)) == (2, [])
    (tmp_path / "a-enhanced-2.mp4").unlink()
    assert [problem.name for problem in verify_folder(tmp_path).problems] == ["a-enhanced-2.mp4"]


def test_quick_reads_only_what_has_another_time(folder, monkeypatch):
    path = folder / "cam0/0-enhanced.mp4"
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert verify_folder(folder, quick=True).problems == ()  # which is what quick means
    os.utime(path)
    assert [problem.name for problem in verify_folder(folder, quick=True).problems] == ["cam0/0-enhanced.mp4"]
    assert [problem.name for problem in verify_folder(folder).problems] == ["cam0/0-enhanced.mp4"]


def test_decode_finds_pictures_that_cannot_be_read(tmp_path):
    """Such as a writer with a bug would leave: the manifest is right about the bytes."""
    path = make_output(tmp_path, "a-enhanced.mp4", pts=range(40))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 900  # behind what x264 says about itself
    content[start : start + 60] = bytes(60)
    path.write_bytes(content)
    write_manifest(tmp_path, path.name, pts=range(40))
    assert verify_folder(tmp_path).problems == ()
    (problem,) = verify_folder(tmp_path, decode=True).problems
    assert problem.expected == "a readable output"


def test_a_pipe_under_an_outputs_name_does_not_hang(folder):
    path = folder / "cam0/0-enhanced.mp4"
    path.unlink()
    os.mkfifo(path)
    assert [problem.found for problem in verify_folder(folder).problems] == ["something else"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read(folder):
    (folder / "cam0").chmod(0)
    try:
        report = verify_folder(folder)
    finally:
        (folder / "cam0").chmod(0o755)
    assert [problem.name for problem in report.problems] == ["cam0"]


def test_a_folder_that_is_none_of_a_batch(tmp_path):
    with pytest.raises(InputError, match=r"none: expected a folder, found none; name the folder of a batch"):
        verify_folder(tmp_path / "none")
    with pytest.raises(InputError, match="found no manifest in it; name the folder that the batch wrote to"):
        verify_folder(tmp_path)
    (tmp_path / ".gpufuse").mkdir()
    assert verify_folder(tmp_path).exit_code == 0  # a batch of which no clip is done


def test_names_that_would_spoil_a_terminal():
    problem = Problem("a\x1b[2J\n.mp4", "1 byte", "2", "do so")
    assert str(problem) == r"a\x1b[2J\n.mp4: expected 1 byte, found 2; do so"
    assert Path(problem.name).name == "a\x1b[2J\n.mp4"
