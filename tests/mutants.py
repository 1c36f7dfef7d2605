"""Damaged clips by the hundred, all made from a seed, and what becomes of each when it is read.

    python tests/mutants.py --seed 1 --count 300

prints how many were reported and lists those that were not. Every clip is read in a process of its own, under a
limit on memory and time, because damaged files are what decoders crash and hang on.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib

import av
import numpy

MEMORY = 2 << 30
SECONDS = 10
WIDTH, HEIGHT, COUNT = 160, 120, 60
CONTAINERS = {
    "mp4": {"container": "mp4"},
    "mkv": {"container": "matroska"},
    "ts": {"container": "mpegts"},
    "avi": {"container": "avi", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "fragmented": {"container": "mp4", "muxing": {"movflags": "frag_keyframe+empty_moov"}},
}
KINDS = ("flip", "zero", "cut", "shift")


# -- clips and their damage ----------------------------------------------------------------------


def write_clip(path, *, container, codec="libx264", pix_fmt="yuv420p", muxing=None):
    """Write 60 frames: random blocks and a moving square, a key frame every 12."""
    blocks = numpy.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3)).astype(numpy.uint8)
    background = blocks.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w", format=container, options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for k in range(COUNT):
            image = background.copy()
            image[40:60, 2 * k : 2 * k + 20] = (255, 255, 0)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def mutate(data, rng):
    """Damage a file; return the kind of the damage, where it is, and the damaged bytes.

    One of: up to 20 bytes changed, 256 bytes of zeros, the end cut off, up to 2047 bytes lost or there twice.
    """
    data = bytearray(data)
    kind = KINDS[rng.integers(4)]
    start = int(rng.integers(len(data)))
    if kind == "flip":
        places = rng.integers(len(data), size=rng.integers(1, 21))
        for place in places:
            data[place] = rng.integers(256)
        return kind, f"at {sorted(places.tolist())}", bytes(data)
    if kind == "zero":
        data[start : start + 256] = bytes(len(data[start : start + 256]))
        return kind, f"at {start}", bytes(data)
    if kind == "cut":
        return kind, f"at {start} of {len(data)}", bytes(data[:start])
    length = int(rng.integers(1, 2048))
    part = data[start : start + length]
    twice = not rng.integers(2)
    data[start : start + length] = part + part if twice else b""
    return kind, f"{length} {'twice' if twice else 'lost'} at {start}", bytes(data)


# -- reading one clip in a process of its own ----------------------------------------------------


@dataclasses.dataclass
class Outcome:
    """What reading a clip led to.

    `error` is the name of the error that strict reading raised, with its text; `frames` the checksums of levels and
    times that it gave before, `notes` its notes; `damage` and `salvaged` tell the same of reading with salvage.
    `foreign` names an exception that is none of ours, a signal that ended the process, or "hang". `plain` is what
    the usual loop over PyAV sees: checksums, and None at the end if it raised.
    """

    error: str = ""
    frames: list = dataclasses.field(default_factory=list)
    damage: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    salvage_error: str = ""
    salvaged: list = dataclasses.field(default_factory=list)
    plain: list = dataclasses.field(default_factory=list)
    foreign: str = ""
    seconds: float = 0.0
    """Of the slower reading."""
    peak: int = 0
    """Memory of the process, in MB."""


def read(path, on_damage, options):
    """Frames, damage, notes, error, foreign exception and seconds of one reading."""
    from gpufuse.errors import GpufuseError
    from gpufuse.video import open_clip

    frames, damage, notes, error, foreign = [], [], [], "", ""
    start = time.perf_counter()
    try:
        with open_clip(path, on_damage=on_damage, **options) as clip:
            try:
                for chunk in clip.chunks(8):
                    frames += [
                        [zlib.crc32(one), pts] for one, pts in zip(chunk.levels, chunk.pts, strict=True)
                    ]
            finally:
                damage, notes = clip.damage, clip.notes
    except GpufuseError as caught:
        error = f"{type(caught).__name__}: {caught}"
        if "\n" in str(caught):
            foreign = "an error of several lines"
    except Exception as caught:
        foreign = f"{type(caught).__name__}: {caught}"
    return frames, damage, notes, error, foreign, time.perf_counter() - start


def read_plainly(path):
    """What the usual loop sees."""
    seen = []
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                planes = b"".join(bytes(plane) for plane in frame.planes)
                seen.append([zlib.crc32(planes), frame.width, frame.pts])
    except Exception:
        seen.append(None)
    return seen


def examine(path, options, plainly):
    result = Outcome()
    result.frames, _, result.notes, result.error, result.foreign, first = read(path, "fail", options)
    result.salvaged, result.damage, _, result.salvage_error, foreign, second = read(path, "salvage", options)
    result.foreign = result.foreign or foreign
    result.seconds = max(first, second)
    if plainly:
        result.plain = read_plainly(path)
    return result


def serve():
    """Read the clips named on standard input, each in a forked process; print an outcome for each."""
    import gpufuse
    import gpufuse.kernels_cpu.colour
    import gpufuse.video

    gpufuse.set_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("warm"):  # so that the compiled kernels are loaded once
            examine(order["path"], order["options"], True)
        print(json.dumps(dataclasses.asdict(in_fork(order))), flush=True)


def in_fork(order):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        outcome = examine(order["path"], order["options"], order["plainly"])
        with os.fdopen(writing, "w") as pipe:
            json.dump(dataclasses.asdict(outcome), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status, usage = os.wait4(child, 0)
    outcome = Outcome(**json.loads(answer)) if answer else Outcome()
    outcome.peak = usage.ru_maxrss // 1024
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        outcome.foreign = "hang" if number == signal.SIGALRM else f"signal {number}"
    elif status:
        outcome.foreign = f"exit status {status}"
    return outcome


class Examiner:
    """Reads clips in processes of their own; a context manager."""

    def __enter__(self):
        paths = [str(pathlib.Path(__file__).resolve().parent.parent), *sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        return self

    def __call__(self, path, *, plainly=False, warm=False, **options):
        """Read a clip with `options` of `open_clip`; return the `Outcome`."""
        order = {"path": str(path), "options": options, "plainly": plainly, "warm": warm}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return Outcome(**json.loads(self._server.stdout.readline()))

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


# -- the survey ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Survey:
    """Counts of a survey; keys are (container, kind of damage)."""

    mutants: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    altered: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    reported: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    missed: list = dataclasses.field(default_factory=list)
    """Tuples of container, kind, number, place of the damage, and what was wrong unnoticed."""
    foreign: list = dataclasses.field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0
    errors: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def share(self, *, without=frozenset()):
        """Reported share of the altered mutants, without some keys."""
        keys = self.altered.keys() - without
        return sum(self.reported[key] for key in keys) / sum(self.altered[key] for key in keys)

    def lines(self):
        """The table."""
        yield f"{'container':11} {'damage':6} {'mutants':>8} {'altered':>8} {'reported':>9} {'missed':>7}"
        for key in sorted(self.mutants):
            missed = self.altered[key] - self.reported[key]
            yield "{:11} {:6} {:8} {:8} {:9} {:7}".format(
                *key, self.mutants[key], self.altered[key], self.reported[key], missed
            )
        total = [sum(counts.values()) for counts in (self.mutants, self.altered, self.reported)]
        yield "{:11} {:6} {:8} {:8} {:9} {:7}".format("all", "", *total, total[1] - total[2])
        yield (
            f"reported {self.share():.2%} of the altered, {self.share(without={('ts', 'cut')}):.2%} without the "
            f"cut ends of transport streams; crashes, hangs, foreign exceptions: {len(self.foreign)}; "
            f"slowest {self.slowest:.2f} s, largest {self.largest} MB"
        )
        yield f"errors: {dict(self.errors.most_common())}"
        for miss in self.missed:
            yield "missed: {} {} {} {}: {}".format(*miss)
        for one in self.foreign:
            yield "foreign: {} {} {} {}: {}".format(*one)


def survey(folder, seed, count, containers=CONTAINERS):
    """Read `count` mutants of each container; a mutant counts as altered if a loop without checks sees it so."""
    result = Survey()
    with Examiner() as examine:
        for name, settings in containers.items():
            path = write_clip(folder / f"{name}.clip", **settings)
            data = path.read_bytes()
            intact = examine(path, plainly=True, warm=True)
            assert (intact.error, intact.damage, len(intact.frames)) == ("", [], COUNT), intact
            rng = numpy.random.default_rng(seed)
            for number in range(count):
                kind, place, damaged = mutate(data, rng)
                path.write_bytes(damaged)
                outcome = examine(path, plainly=True)
                note(result, (name, kind, number, place), outcome, intact)
    return result


def note(result, mutant, outcome, intact):
    """Count one mutant."""
    key = mutant[:2]
    result.mutants[key] += 1
    result.slowest = max(result.slowest, outcome.seconds)
    result.largest = max(result.largest, outcome.peak)
    if outcome.foreign:
        result.foreign.append((*mutant, outcome.foreign))
    reported = bool(outcome.error)
    if reported:
        result.errors[outcome.error.split(":")[0]] += 1
    unnoticed = not reported and outcome.frames != intact.frames
    if unnoticed or outcome.plain != intact.plain:
        result.altered[key] += 1
        result.reported[key] += reported
        if not reported:
            wrong = "other pixels" if len(outcome.frames) == COUNT else f"{len(outcome.frames)} frames"
            result.missed.append((*mutant, wrong if unnoticed else "harmless to us"))
    # What salvage gives is what strict reading would refuse, and never less than it.
    if bool(outcome.damage or outcome.salvage_error) != reported:
        result.foreign.append((*mutant, f"strict {outcome.error!r}, salvage {outcome.damage!r}"))


def main():
    """Print a survey."""
    parser = argparse.ArgumentParser(description="Survey of damaged clips")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300, help="mutants of each of the five containers")
    parser.add_argument("--only", choices=CONTAINERS, help="one container")
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            serve()
        return
    chosen = {arguments.only: CONTAINERS[arguments.only]} if arguments.only else CONTAINERS
    with tempfile.TemporaryDirectory() as folder:
        for line in survey(pathlib.Path(folder), arguments.seed, arguments.count, chosen).lines():
            print(line)


if __name__ == "__main__":
    main()
