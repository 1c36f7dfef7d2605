"""Re-reading a folder that a batch has filled: is every output still what its manifest says?"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from gpufuse.batch.manifest import FileRecord, Manifest, recorded, same_file
from gpufuse.batch.names import shown
from gpufuse.batch.workspace import PRIVATE
from gpufuse.errors import DamagedInputError, GpufuseError, InputError
from gpufuse.video import Limits, is_still, open_clip, read_still

__all__ = ["Problem", "VerifyReport", "verify_folder"]

Tell = Callable[[int, int], None]
"""Called with the bytes read and the bytes there are to read."""

_CLIPS = (".mp4", ".m4v", ".mov", ".mkv")
_OUTPUTS = (*_CLIPS, ".png", ".tif", ".tiff", ".jpg", ".jpeg")
_OURS = re.compile(r"-enhanced(-[0-9]+)?$")
"""How the names of outputs end, before the suffix."""
_PART = re.compile(r".+\.part-[0-9a-f]{8}")
_SIGNS = (b'"outputs"', b'"frames_out"', b'"first_time"', b'"digest"', b'"coders"', b'"check"', b'"finished"')
"""Words of a manifest: two of them show that a damaged file was one."""
_MOST_MANIFEST = 1 << 26  # bytes; a folder of 100,000 stills makes 20 MB
_TOLERANCE = Fraction(3, 2000)  # seconds: Matroska rounds times to milliseconds
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
_AGAIN = "delete it and its manifest, and run the batch again"
_MANIFEST_AGAIN = "delete it and its output, and run the batch again"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was recorded.

    Attributes
    ----------
    name : str
        The file, relative to the folder.
    expected, found, do : str
        The three parts of the message.
    """

    name: str
    expected: str
    found: str
    do: str

    def __str__(self) -> str:
        return shown(f"{self.name}: expected {self.expected}, found {self.found}; {self.do}")


@dataclass(frozen=True)
class VerifyReport:
    """What was found in a folder.

    Attributes
    ----------
    folder : str
    checked : int
        Outputs that were compared with their manifests.
    bytes : int
        Their size.
    problems : tuple of Problem
    foreign : tuple of str
        Clips that no manifest tells of and that no batch named.
    leftovers : tuple of str
        Files in the making that a killed run has left, or that a run is writing now.
    inputs_changed, inputs_gone : tuple of str
        Clips and days that have another size or time than they had, or are not where they were. No problem:
        archives move.
    """

    folder: str
    checked: int
    bytes: int
    problems: tuple[Problem, ...] = ()
    foreign: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    inputs_changed: tuple[str, ...] = ()
    inputs_gone: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or that of damaged input where there is a problem."""
        return DamagedInputError.exit_code if self.problems else 0

    def notes(self) -> list[str]:
        """Return a line on each kind of thing that is worth knowing and no problem."""
        kinds = (
            (self.foreign, "clip", "that no manifest tells of; not looked at"),
            (self.leftovers, "file", "in the making; the next run removes them, unless one is running now"),
            (
                self.inputs_changed,
                "input",
                "of another size or time than recorded; the next run looks at them",
            ),
            (self.inputs_gone, "input", "that cannot be found any more; the outputs are not affected"),
        )
        return [_note(names, noun, what) for names, noun, what in kinds if names]

    def summary(self) -> str:
        """Return one line for the user.

        Examples
        --------
        >>> VerifyReport("out", 60, 3_000_000).summary()
        'out: 60 outputs (3.0 MB) checked, no problem'
        """
        count = len(self.problems)
        found = f"{count} problem{'s' * (count != 1)}" if count else "no problem"
        plural = "s" * (self.checked != 1)
        return f"{shown(self.folder)}: {self.checked} output{plural} ({_size(self.bytes)}) checked, {found}"


def _note(names: tuple[str, ...], noun: str, what: str) -> str:
    some = ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {noun}{'s' * (len(names) != 1)} {what} ({some})"


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def verify_folder(
    folder: str | Path,
    *,
    tell: Tell = lambda done, total: None,
    quick: bool = False,
    decode: bool = False,
) -> VerifyReport:
    """Compare every output of a folder with its manifest, and every manifest with itself.

    Parameters
    ----------
    folder : path
        Of a batch, or a folder within; nothing in it is changed.
    tell : callable
        Called with the bytes read and the bytes to read, for about every MB.
    quick : bool
        Read an output only where its time has changed; otherwise trust its size.
    decode : bool
        Also decode every picture with the strict reader, and count.

    Returns
    -------
    VerifyReport

    Raises
    ------
    InputError
        If there is no such folder, or no trace of a batch in it.

    Notes
    -----
    An output passes where its size, its hash (BLAKE2b), its packets, its first and last time and its size in
    pixels are those recorded. So a changed byte is found wherever it lies. A batch that runs at the same time does
    no harm; what it is writing may be told of.
    """
    root = Path(folder)
    if not root.is_dir():
        found = "something else" if os.path.lexists(root) else "none"
        raise InputError(f"{root.name or root}: expected a folder, found {found}; name the folder of a batch")
    return _Verification(root, tell, quick=quick, decode=decode).run()


@dataclass
class _Files:
    """What lies in the folder, as paths relative to it."""

    manifests: list[str] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def _files_of(root: Path) -> _Files:
    found, seen = _Files(), set()

    def refused(error: OSError) -> None:
        name = os.path.relpath(error.filename, root) if error.filename else "."
        found.unreadable.append((name, error.strerror or type(error).__name__))

    for above, folders, names in os.walk(root, onerror=refused, followlinks=True):
        real = os.path.realpath(above)
        folders[:] = [] if real in seen else sorted(name for name in folders if name != PRIVATE)
        if real in seen:  # a link to a folder above, or a second one to the same
            continue
        seen.add(real)
        for name in sorted(names):
            path = os.path.normpath(os.path.join(os.path.relpath(above, root), name))
            stem, suffix = os.path.splitext(name)
            if _PART.fullmatch(name):
                found.parts.append(path)
            elif suffix == ".json" and stem.lower().endswith(_OUTPUTS):
                found.manifests.append(path)
            elif suffix.lower() in _CLIPS:
                found.clips.append(path)
    return found


class _Verification:
    """One pass over a folder."""

    def __init__(self, root: Path, tell: Tell, *, quick: bool, decode: bool) -> None:
        self._root, self._tell, self._quick, self._decode = root, tell, quick, decode
        self._problems: list[Problem] = []
        self._recorded: set[str] = set()  # real paths of outputs with a manifest, even a damaged one
        self._inputs: set[str] = set()
        self._changed: list[str] = []
        self._gone: list[str] = []
        self._checked = self._bytes = 0
        self._done = self._total = 0

    def run(self) -> VerifyReport:
        files = _files_of(self._root)
        for name, reason in files.unreadable:
            self._problem(name, "a readable folder", f"{reason!r}", "check its permissions")
        manifests = [(name, manifest) for name in files.manifests if (manifest := self._read(name))]
        self._total = sum(record.size for _, manifest in manifests for record in manifest.outputs)
        for name, manifest in manifests:
            self._check(name, manifest)
        foreign = self._unrecorded(files.clips)
        if not (manifests or self._problems or (self._root / PRIVATE).is_dir()):
            raise InputError(
                f"{self._root.name or self._root}: expected the folder of a batch, found no manifest in it; "
                "name the folder that the batch wrote to"
            )
        return VerifyReport(
            str(self._root),
            self._checked,
            self._bytes,
            tuple(self._problems),
            tuple(foreign),
            tuple(files.parts),
            tuple(self._changed),
            tuple(self._gone),
        )

    def _problem(self, name: str, expected: str, found: str, do: str) -> None:
        self._problems.append(Problem(Path(name).as_posix(), expected, found, do))

    # Manifests

    def _read(self, name: str) -> Manifest | None:
        """Read a manifest; None, and a problem told, where it is not sound. Inputs are left out of it."""
        path = self._root / name
        output = path.with_suffix("")
        content = b""
        try:
            content = _content(path)
            manifest = Manifest.from_bytes(content)
            # What JSON does not care for, such as another kind of blank, is a change nevertheless.
            wrong = "" if manifest.to_bytes() == content else "a manifest that was changed"
        except OSError as error:
            wrong = error.strerror or str(error)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if not _was_manifest(content, output):
                return None  # another program's
            wrong = " ".join(str(error).split()) or type(error).__name__
        self._recorded.add(os.path.realpath(output))
        if wrong:
            self._problem(name, "a whole manifest", repr(wrong), _MANIFEST_AGAIN)
            return None
        if not self._is_of(manifest, output):
            self._problem(name, f"the manifest of {output.name}", f"that of {manifest.name}", _MANIFEST_AGAIN)
            return None
        for record in (*manifest.clip, *manifest.day):
            self._look_at_input(record)
        return dataclasses.replace(manifest, clip=(), day=())  # of a day of stills they are many

    def _look_at_input(self, record: FileRecord) -> None:
        if record.path in self._inputs:
            return
        self._inputs.add(record.path)
        try:
            facts = os.stat(record.path)
        except (OSError, ValueError):
            self._gone.append(record.path)
            return
        if (facts.st_size, facts.st_mtime_ns) != (record.size, record.mtime_ns):
            self._changed.append(record.path)

    @staticmethod
    def _is_of(manifest: Manifest, output: Path) -> bool:
        parts = PurePosixPath(manifest.name).parts
        return bool(parts) and Path(os.path.abspath(output)).parts[-len(parts) :] == parts

    # Outputs

    def _check(self, name: str, manifest: Manifest) -> None:
        parts = PurePosixPath(manifest.name).parts
        base = Path(os.path.abspath(self._root / name)).parents[len(parts) - 1]  # of the whole batch
        sound, until = True, self._done
        for record in manifest.outputs:
            path = base / record.path
            self._recorded.add(os.path.realpath(path))
            until += record.size
            sound &= self._check_bytes(_relative(path, self._root), path, record)
            self._done = until
            self._tell(self._done, self._total)
        self._checked += len(manifest.outputs)
        if not manifest.outputs:
            self._problem(name, "at least one output", "a manifest that names none", _MANIFEST_AGAIN)
        elif sound and not self._quick:
            self._check_frames(manifest, [base / record.path for record in manifest.outputs])

    def _check_bytes(self, name: str, path: Path, record: FileRecord) -> bool:
        """Compare size and content."""
        try:
            facts = os.stat(path)
        except FileNotFoundError:
            self._problem(name, f"a file of {record.size} bytes", "none", "run the batch again")
            return False
        except OSError as error:
            self._problem(name, "a readable file", repr(error.strerror), "check path and permissions")
            return False
        if not stat.S_ISREG(facts.st_mode):
            self._problem(name, "a file", "something else", _AGAIN)
            return False
        self._bytes += facts.st_size
        if facts.st_size != record.size:
            self._problem(name, f"{record.size} bytes", f"{facts.st_size}", _AGAIN)
            return False
        if self._quick and same_file(record, path):
            return True
        before = self._done

        def advance() -> None:
            self._done = min(self._done + (1 << 20), before + record.size)
            self._tell(self._done, self._total)

        try:
            found = recorded(path, tell=advance).hash
        except InputError as error:
            reason = getattr(error.__cause__, "strerror", None) or str(error)
            self._problem(name, "a readable file", repr(reason), "check permissions and the disk")
            return False
        if found != record.hash:
            self._problem(name, f"content of hash {record.hash[:12]}", f"{found[:12]}", _AGAIN)
            return False
        return True

    def _check_frames(self, manifest: Manifest, paths: list[Path]) -> None:
        """Compare what the files hold; their content is what we wrote, so they are read without suspicion."""
        name = manifest.name
        try:
            held = [_held_by(path) for path in paths]
            if self._decode:
                decoded = sum(_decoded_frames(path) for path in paths)
        except GpufuseError as error:
            self._problem(name, "a readable output", repr(str(error)), _AGAIN)
            return
        except Exception as error:  # whatever a demuxer raises
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._problem(name, "a readable output", repr(" ".join(str(reason).split())), _AGAIN)
            return
        frames = sum(each.frames for each in held)
        if frames != manifest.frames_out:
            self._problem(name, f"{manifest.frames_out} frames", f"{frames}", _AGAIN)
        elif self._decode and decoded != manifest.frames_out:
            self._problem(name, f"{manifest.frames_out} decoded frames", f"{decoded}", _AGAIN)
        if len(held) == 1 and held[0].size != tuple(manifest.size):
            self._problem(name, _by(tuple(manifest.size)), _by(held[0].size), _AGAIN)
        self._check_times(manifest, held[0].first, held[-1].last)

    def _check_times(self, manifest: Manifest, first: Fraction | None, last: Fraction | None) -> None:
        if None in (manifest.first_time, manifest.last_time) or first is None or last is None:
            return
        assert manifest.first_time is not None
        assert manifest.last_time is not None
        # No container holds times before 0: a writer moves such clips.
        start = Fraction(manifest.first_time)
        moved = max(Fraction(0), -start)
        for which, expected, found in (
            ("first", start + moved, first),
            ("last", Fraction(manifest.last_time) + moved, last),
        ):
            if abs(found - expected) > _TOLERANCE:
                self._problem(
                    manifest.name,
                    f"its {which} frame at {float(expected):.3f} s",
                    f"{float(found):.3f} s",
                    _AGAIN,
                )

    # What no manifest tells of

    def _unrecorded(self, clips: list[str]) -> list[str]:
        inputs = {os.path.realpath(path) for path in self._inputs}
        foreign = []
        for name in clips:
            real = os.path.realpath(self._root / name)
            if real in self._recorded or real in inputs:
                continue
            if _OURS.search(Path(name).stem):
                self._problem(
                    name,
                    "its manifest beside it",
                    "none, so it was never finished, or is not of the batch",
                    "run the batch again, or move it elsewhere",
                )
            else:
                foreign.append(name)
        return foreign


def _content(path: Path) -> bytes:
    """Read a manifest, but nothing that would take for ever."""
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(0, "no file")
    if facts.st_size > _MOST_MANIFEST:
        raise OSError(0, f"{facts.st_size} bytes")
    return path.read_bytes()


def _was_manifest(content: bytes, output: Path) -> bool:
    """Whether something that is no manifest was one: by its words, or as its name is that of ours."""
    return sum(sign in content for sign in _SIGNS) >= 2 or _OURS.search(output.stem) is not None


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, os.path.abspath(root))


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]} pixels"


@dataclass(frozen=True)
class _Held:
    """What a file holds: frames, the times of the first and last in seconds, and width and height."""

    frames: int
    first: Fraction | None
    last: Fraction | None
    size: tuple[int, int]


def _held_by(path: Path) -> _Held:
    if is_still(path):
        height, width = read_still(path).shape[:2]
        return _Held(1, None, None, (width, height))
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    with av.open("file:" + os.path.abspath(path), options=options) as container:
        stream: Any = container.streams.video[0]
        size = (stream.codec_context.width, stream.codec_context.height)
        times = [packet.pts for packet in container.demux(stream) if packet.size]
        unit = Fraction(stream.time_base)
    if not times:
        return _Held(0, None, None, size)
    return _Held(len(times), min(times) * unit, max(times) * unit, size)


def _decoded_frames(path: Path) -> int:
    """Count the pictures that the strict reader gives."""
    with open_clip(path, limits=Limits(max_pixels=1 << 29)) as clip:
        return clip.skip(1 << 60)
