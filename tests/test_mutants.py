"""Damaged, hostile and foreign files: each ends in an error of ours, within time and memory, and never unnoticed.

Each clip is read in a process of its own (see `mutants`). ``python tests/mutants.py --seed 1`` prints the whole survey.
"""

import os
import shutil
import socket
import sys
import threading

import hostile
import mutants
import numpy
import pytest
from clips import picture, write_clip

from gpufuse.errors import DamagedInputError, GpufuseError, InputError
from gpufuse.video import open_clip, write_still

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
pytestmark = needs_fork

MEGABYTES = 512
SECONDS = 2.0


@pytest.fixture(scope="module")
def examine(tmp_path_factory):
    """Reads a clip in a process of its own."""
    clip = write_clip(tmp_path_factory.mktemp("clip") / "a.mkv", count=3)
    with mutants.Examiner() as examiner:
        examiner(clip, warm=True)
        yield examiner


def check_bounds(outcome):
    """Whatever was in the file: no foreign exception, no crash, no hang, no flood."""
    assert outcome.foreign == ""
    assert outcome.peak <= MEGABYTES
    assert outcome.seconds <= SECONDS


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, 20), pytest.param(1, 300, marks=pytest.mark.slow), pytest.param(2, 300, marks=pytest.mark.slow)],
)
def test_mutants_are_reported_and_do_no_harm(tmp_path, seed, count):
    found = mutants.survey(tmp_path, seed, count)
    text = "\n".join(found.lines())
    assert sum(found.mutants.values()) == 5 * count
    assert sum(found.altered.values()) > 0.9 * 5 * count, text
    assert found.foreign == [], text
    assert found.share() >= 0.95, text
    assert found.share(without={("ts", "cut")}) >= 0.97, text
    assert found.largest <= MEGABYTES
    assert found.slowest <= SECONDS
    assert set(found.errors) <= {"InputError", "DamagedInputError", "LimitError"}


def test_the_survey_notices_a_reader_that_keeps_silent():
    intact = mutants.Outcome(frames=[[1, 0], [2, 1]], plain=[[1, 0], [2, 1]])
    silent = mutants.Outcome(frames=[[1, 0]], plain=[[1, 0]])
    loud = mutants.Outcome(error="DamagedInputError: cut", damage=["cut"], plain=[[1, 0]])
    survey = mutants.Survey()
    for number, outcome in enumerate((silent, loud, intact)):
        mutants.note(survey, ("mkv", "cut", number, "at 5"), outcome, intact)
    assert (survey.mutants.total(), survey.altered.total(), survey.reported.total()) == (3, 2, 1)
    assert survey.missed == [("mkv", "cut", 0, "at 5", "1 frames")]


def test_salvage_gives_exactly_the_readable_frames(tmp_path, examine):
    """Where whole frames are missing, the others come out as they were, with their times."""
    path = write_clip(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p")  # each frame by itself
    intact = examine(path)
    data = path.read_bytes()
    first = data.index(b"movi")
    starts = [at for at in range(first, len(data)) if data[at : at + 4] == b"00dc"][:60]
    for lost in (range(20, 21), range(10, 15), range(50, 60)):
        broken = bytearray(data)
        for frame in lost:
            stop = starts[frame] + 8 + int.from_bytes(data[starts[frame] + 4 : starts[frame] + 8], "little")
            broken[starts[frame] + 8 : stop] = bytes(stop - starts[frame] - 8)
        path.write_bytes(broken)
        outcome = examine(path)
        check_bounds(outcome)
        assert outcome.error.startswith("DamagedInputError")
        assert outcome.damage
        assert outcome.salvaged == [frame for k, frame in enumerate(intact.frames) if k not in lost]


def test_a_jpeg_that_lost_its_header_is_reported_though_it_may_be_decoded(tmp_path, examine):
    path = write_clip(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p", count=20)
    data = bytearray(path.read_bytes())
    place = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"][10]
    for length in (2, 30, 200):
        broken = data.copy()
        broken[place : place + length] = bytes(length)
        path.write_bytes(broken)
        assert examine(path).error.startswith("DamagedInputError")


def test_a_count_that_is_not_reached_is_reported(tmp_path, examine):
    path = write_clip(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p", count=20)
    hostile.patched(path, rb"vids.{28}\x14\0\0\0", lambda match: match[0][:-4] + b"\x19\0\0\0")
    assert examine(path).error.startswith("DamagedInputError: a.avi: expected 25 frames, found 20")


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_salvage_of_a_clip_cut_short_gives_its_beginning(tmp_path, examine, suffix):
    path = write_clip(tmp_path / f"a.{suffix}")
    intact = examine(path)
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        # Transport streams that end after a whole packet, and a whole picture, are simply shorter.
        path.write_bytes(data[: int(share * len(data)) // 188 * 188 + 100])
        outcome = examine(path)
        check_bounds(outcome)
        assert outcome.damage
        complete = len(outcome.salvaged) - 3  # the last were decoded from what is left of them
        assert 0 < complete < 60
        assert outcome.salvaged[:complete] == intact.frames[:complete]


def test_what_is_too_short_to_hold_a_picture_is_refused(tmp_path):
    seen = 0
    for name, path in hostile.damaged_starts(tmp_path):
        with pytest.raises((InputError, DamagedInputError)) as caught, open_clip(path) as clip:
            clip.skip(1000)
        assert "\n" not in str(caught.value), name
        with open_clip_or_none(path) as clip:
            assert clip is None or clip.damage, name
        seen += 1
    assert seen == 36


class open_clip_or_none:  # noqa: N801
    """The clip with salvage, or None where not a frame is readable."""

    def __init__(self, path):
        self._path = path
        self._clip = None

    def __enter__(self):
        try:
            self._clip = open_clip(self._path, on_damage="salvage")
        except GpufuseError:
            return None
        self._clip.skip(1000)
        return self._clip

    def __exit__(self, *_):
        if self._clip:
            self._clip.close()


# -- what is no clip, and what a name says -------------------------------------------------------


class Canary:
    """A server that notices whoever connects."""

    def __enter__(self):
        self.visits = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def _listen(self):
        while not self._over.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.visits += 1
            connection.close()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._server.close()


def test_the_canary_notices_a_visit():
    with Canary() as canary:
        port = int(canary.address.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
        deadline = threading.Event()
        for _ in range(100):
            if canary.visits:
                break
            deadline.wait(0.02)
    assert canary.visits == 1


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_foreign_files_are_refused_and_cause_no_connection(tmp_path, examine, suffix):
    with Canary() as canary:
        contents = hostile.foreign_files(canary.address)
        write_clip(tmp_path / "secret.ts", count=3)
        assert len(contents) >= 30
        for name, content in contents.items():
            path = tmp_path / f"file{suffix}"
            path.write_bytes(content)
            outcome = examine(path)
            check_bounds(outcome)
            assert outcome.error.startswith(("InputError", "DamagedInputError")), name
            assert outcome.error.startswith("InputError") or suffix == ".m3u8", (name, outcome.error)
            assert outcome.salvaged == [], name
    assert canary.visits == 0


def test_clips_with_a_wrong_name_are_read(tmp_path, examine):
    makes = [
        ("a.mkv", {}), ("a.mp4", {}), ("a.ts", {}), ("a.avi", {"codec": "mpeg4"}), ("a.flv", {}),
        ("a.h264", {}), ("a.webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
    ]  # fmt: skip
    for name, options in makes:
        path = write_clip(tmp_path / name, count=10, **options)
        for wrong in (".jpg", ".mp4" if name != "a.mp4" else ""):
            copy = shutil.copy(path, tmp_path / f"copy{wrong}")
            outcome = examine(copy)
            assert (outcome.error, len(outcome.frames)) == ("", 10), (name, wrong)
    write_still(tmp_path / "b.png", picture(0))
    shutil.copy(tmp_path / "b.png", tmp_path / "b.mp4")
    assert len(examine(tmp_path / "b.mp4").frames) == 1


# -- bombs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.BOMBS)
def test_bombs_are_refused_within_time_and_memory(tmp_path, examine, name):
    file, make = hostile.BOMBS[name]
    make(tmp_path / file)
    assert (tmp_path / file).stat().st_size < 200_000
    outcome = examine(tmp_path / file)
    check_bounds(outcome)
    assert outcome.error.startswith(("LimitError", "InputError", "DamagedInputError"))


@pytest.mark.parametrize("name", hostile.ABSURD)
def test_absurd_times_are_no_trap(tmp_path, examine, name):
    file, make = hostile.ABSURD[name]
    make(tmp_path / file)
    outcome = examine(tmp_path / file)
    check_bounds(outcome)
    times = [time for _, time in outcome.frames]
    assert times == sorted(set(times))
    assert outcome.error or len(times) == 20 or "leaves out 19 of its 20 frames" in outcome.notes[0]


# -- endurance -----------------------------------------------------------------------------------


def resident():
    """Memory of this process in kB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors():
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize(
    ("frames", "warm"), [(3000, 1500), pytest.param(20_000, 2000, marks=pytest.mark.slow)]
)
def test_memory_is_flat_however_long_the_clip(tmp_path, frames, warm):
    options = {"preset": "ultrafast", "g": "250"}
    count = 2500 if frames > 5000 else 500
    path = write_clip(tmp_path / "a.mkv", count=count, size=(160, 120), options=options)
    out = numpy.empty((16, 3, 120, 160), numpy.float32)
    read, before = 0, 0
    while read < frames:
        with open_clip(path, checksums=True) as clip:
            while taken := len(clip.read_chunk(16, out=out)):
                clip.take_checksums()
                read += taken
                if before == 0 and read >= warm:
                    before = resident()
    assert resident() - before < 2000


@needs_proc
@pytest.mark.parametrize(("opens", "failures"), [(30, 10), pytest.param(200, 50, marks=pytest.mark.slow)])
def test_opening_and_failing_leave_nothing_open(tmp_path, opens, failures):
    good = write_clip(tmp_path / "a.mp4", count=5)
    bad = tmp_path / "b.mp4"
    bad.write_bytes(good.read_bytes()[:-200])
    noise = tmp_path / "c.mp4"
    noise.write_bytes(b"no clip" * 100)
    with open_clip(good) as clip:
        clip.skip(9)
    before = descriptors(), threading.active_count()
    for k in range(opens):
        clip = open_clip(good, on_damage="salvage")
        if k % 3 == 0:
            assert clip.jump(3)
        clip.skip(k % 7)
        clip.close()
    for k in range(failures):
        with pytest.raises(GpufuseError):
            open_clip((bad, noise, tmp_path / "none.mp4")[k % 3])
    assert (descriptors(), threading.active_count()) == before
