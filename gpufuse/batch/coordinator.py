"""A batch: which clips are left to do, their tasks in order, and what becomes of them.

The one process that runs this holds the folder's lock, gives tasks to workers, and keeps the books; it never opens a
clip itself. Everything that has to survive a kill lies in the folder.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gpufuse import files
from gpufuse.batch.manifest import read_manifest
from gpufuse.batch.orders import Item, Options, fingerprint
from gpufuse.batch.page import report_page
from gpufuse.batch.plates import kept_plate, plate_key
from gpufuse.batch.results import BatchReport, ClipResult, OnProgress, Progress, WorkerState
from gpufuse.batch.state import found_state
from gpufuse.batch.tasks import Advanced, Ended, Event, Outcome, Started, Task
from gpufuse.batch.workers import Workers
from gpufuse.batch.workspace import REPORT, Workspace, read_record, safely, write_record
from gpufuse.errors import DamagedInputError, InputError, OutputError

__all__ = ["CRASHES", "HOPELESS", "KILLS", "run_items"]

CRASHES = 2
"""Deaths of its process after which a clip is given up."""

KILLS = 8
"""The same for deaths that may hit any process: one that is killed, or lost with its machine."""

HOPELESS = 20
"""Failures in a row, all because of a disk, after which the rest is left for another run."""

_EVERY = 0.5  # seconds between two words on progress
_MOST_NAMED = 3


def run_items(
    items: Iterable[Item],
    folder: str | Path,
    options: Options,
    make_workers: Callable[[files.Lock], Workers],
    *,
    progress: OnProgress = lambda progress: None,
    command: Callable[[Item], str] = lambda item: "",
    notes: tuple[str, ...] = (),
    only: Collection[str] = (),
) -> BatchReport:
    """Make what is left to make of some clips.

    Parameters
    ----------
    items : iterable of Item
    folder : path
        Made where missing.
    options : Options
    make_workers : callable
        Called once the folder is claimed and something is to be done; takes the lock.
    progress : callable
    command : callable
        Returns the words that repeat one clip.
    notes : tuple of str
        For the report.
    only : collection of str
        Names of the outputs to make; all of them if it is empty. The report is on all clips.

    Returns
    -------
    BatchReport
        Its page lies in the folder as well.

    Raises
    ------
    OutputError
        If another batch runs in the folder, it cannot be written, or it holds what was made with other settings;
        nothing is changed then.
    KeyboardInterrupt
        When it is interrupted: all processes have ended, the page is written, and the same call goes on.
    """
    workspace = Workspace(Path(folder).absolute())
    with workspace.claimed() as lock:
        workspace.prepare()
        workspace.sweep()
        batch = _Batch(workspace, list(items), options, progress, command, notes, only)
        batch.look()
        try:
            batch.work(lambda: make_workers(lock))
        except BaseException:
            with contextlib.suppress(OutputError):  # the first error is the one to tell
                _write_page(workspace, batch.report())
            raise
        report = batch.report()
        _write_page(workspace, report)
        return report


def _write_page(workspace: Workspace, report: BatchReport) -> None:
    sheets = {}
    for result in report.results:
        path = workspace.sheet(result.item.name)
        if result.manifest is not None and path.exists():
            sheets[result.item.name] = path.read_bytes()
    with safely(workspace.root / REPORT):
        files.write_whole(workspace.root / REPORT, report_page(report, sheets), overwrite=True)


@dataclass
class _Clip:
    """One clip, and how far it is."""

    item: Item
    state: Literal["done", "skipped", "failed", "waiting"] = "waiting"
    size: int = 0  # bytes to be made in this run
    made: float = 0.0  # of these, in pieces that are done
    attempts: int = 0
    outcome: Outcome | None = None
    segments: list[dict[str, Any]] = field(default_factory=list)
    left: set[str] = field(default_factory=set)  # ids of segments that are not done
    joins: int = 0


@dataclass
class _Running:
    """A task that a worker has."""

    task: Task
    worker: str = ""
    frames: int = 0
    expected: int | None = None


class _Batch:
    """The books of one run."""

    def __init__(
        self,
        workspace: Workspace,
        items: list[Item],
        options: Options,
        progress: OnProgress,
        command: Callable[[Item], str],
        notes: tuple[str, ...],
        only: Collection[str],
    ) -> None:
        self._workspace = workspace
        self._options = options
        self._progress = progress
        self._command = command
        self._notes = notes
        self._only = frozenset(only)
        self._clips = {item.name: _Clip(item, size=_size_of(item.clip)) for item in items}
        self._untouched: deque[_Clip] = deque()
        self._ready: deque[Task] = deque()
        self._running: dict[str, _Running] = {}
        self._parked: dict[str, list[_Clip]] = {}  # clips that wait for a plate, by its key
        self._plates: dict[str, Outcome | None] = {}  # None: it is there
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._hopeless = 0  # failures in a row that have nothing to do with a clip
        self._deaths: dict[str, tuple[int, int]] = {}  # crashes and kills, by task
        self._frames = 0
        self._started = time.monotonic()
        self._told = 0.0
        self._describe = "nobody"

    # -- what is left to do ----------------------------------------------------------------------

    def look(self) -> None:
        """Find out what earlier runs have done; refuse to mix settings."""
        others: list[str] = []
        outdated: list[Path] = []
        for clip in self._clips.values():
            order = fingerprint(clip.item, self._options)
            found = found_state(
                self._workspace, clip.item, order, overwrite=self._options.overwrite, known=self._hashes
            )
            self._tell()
            if found.state == "done":
                clip.state = "skipped"
                self._clear(clip.item)
            elif self._only and clip.item.name not in self._only:
                self._recall(clip)
            elif found.state == "other order":
                others.append(f"{clip.item.name}: {found.difference}")
            elif found.error is not None:
                error = found.error
                self._fail(clip, Outcome("failed", {}, str(error), type(error).__name__, error.exit_code))
            else:
                self._untouched.append(clip)
                outdated += found.outdated
        if others:
            named = "; ".join(others[:_MOST_NAMED])
            raise OutputError(
                f"{self._workspace.root.name}: expected outputs of the same settings, found {len(others)} made with "
                f"others ({named}); use another folder, or --overwrite to make them again"
            )
        for path in outdated:
            with safely(path):
                files.remove_tree(path)

    def _recall(self, clip: _Clip) -> None:
        """A clip that is not to be made now keeps what an earlier run has told about it."""
        clip.size = 0
        record = read_record(self._workspace.failure(clip.item)) or {}
        known = {name: record[name] for name in ("error", "kind", "exit_code") if name in record}
        if known:
            clip.outcome = Outcome("failed", {}, **known)

    # -- the work --------------------------------------------------------------------------------

    def work(self, make_workers: Callable[[], Workers]) -> None:
        """Do all that is left."""
        if not self._untouched:
            self._describe = "nothing left to do"
            return
        workers = make_workers()
        try:
            self._describe = workers.describe()
            self._started = time.monotonic()
            while self._hand_out(workers) or self._running:
                for event in workers.wait(_EVERY):
                    self._take(event)
                self._tell()
        finally:
            workers.stop()

    def _hand_out(self, workers: Workers) -> bool:
        """Give workers what they have room for; False if there is nothing left to give."""
        if self._hopeless >= HOPELESS:
            self._give_up()
        for _ in range(workers.room()):
            task = self._next_task()
            if task is None:
                break
            self._running[task.id] = _Running(task)
            workers.submit(task)
        return bool(self._ready or self._untouched)

    def _next_task(self) -> Task | None:
        """The next task: of clips that were begun first, then of the next clip."""
        if self._ready:
            return self._ready.popleft()
        while self._untouched:
            clip = self._untouched.popleft()
            task = self._first_task(clip)
            if task is not None:
                return task
        return None

    def _first_task(self, clip: _Clip) -> Task | None:
        """What a clip begins with; None where it waits for its plate, or cannot be made."""
        key = plate_key(clip.item.day, self._options)
        if key in self._parked:
            self._parked[key].append(clip)
            return None
        if key not in self._plates:
            if kept_plate(self._workspace, clip.item.day, self._options) is None:
                self._parked[key] = [clip]
                return self._task("plate", clip, id=f"plate {key}")
            self._plates[key] = None
        missing = self._plates[key]
        if missing is not None:
            self._fail(clip, missing)
            return None
        return self._clip_task(clip)

    def _clip_task(self, clip: _Clip) -> Task:
        work = self._workspace.work(clip.item)
        surveyed = self._options.segment is not None and (work / "survey.json").exists()
        return self._task("survey", clip) if surveyed else self._task("clip", clip, size=clip.size)

    def _task(self, work: Any, clip: _Clip, *, id: str = "", size: float = 0, **details: Any) -> Task:
        return Task(
            id or f"{work} {clip.item.name}",
            work,
            str(self._workspace.root),
            clip.item,
            self._options,
            size,
            details,
        )

    def _give_up(self) -> None:
        """Leave the rest as it is: neither disk nor source is there any more."""
        self._hopeless = 0
        self._notes += (
            f"{HOPELESS} clips in a row could not be read or written for reasons of their disks; the rest was left: "
            "look at the disks, and run the same command again",
        )
        self._untouched.clear()
        self._ready.clear()
        self._parked.clear()

    # -- what becomes of it ----------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        running = self._running.get(event.task)
        if running is None:
            return
        running.worker = event.worker
        if isinstance(event, Started):
            if running.task.work in ("clip", "segment"):
                self._frames -= (
                    running.frames
                )  # on a cluster it may have begun before, on a worker that was lost
            running.frames = 0
            if running.task.work != "plate":
                self._clip_of(running.task).attempts += 1
        elif isinstance(event, Advanced):
            if running.task.work in ("clip", "segment"):
                self._frames += max(0, event.done - running.frames)
            running.frames, running.expected = max(running.frames, event.done), event.expected
        else:
            del self._running[event.task]
            self._end(running, event)

    def _end(self, running: _Running, event: Ended) -> None:
        task, outcome = running.task, event.outcome
        counted = task.work in ("clip", "segment")
        if outcome.state == "done":
            self._hopeless = 0
            if counted:
                self._frames += outcome.value.get("frames", 0) - running.frames
            self._go_on(task, outcome.value)
            return
        if counted:
            self._frames -= running.frames  # they have to be made again, or never are
        if task.work != "plate" and self._clip_of(task).state != "waiting":
            return  # another piece of it has failed
        if outcome.state == "died" and self._may_try_again(task, outcome):
            self._ready.appendleft(task)
            return
        if _is_hopeless(task, outcome):
            self._hopeless += 1
        if task.work == "plate":
            self._settle_plate(task, outcome)
        else:
            self._fail(self._clip_of(task), outcome)

    def _may_try_again(self, task: Task, outcome: Outcome) -> bool:
        crashes, kills = self._deaths.get(task.id, (0, 0))
        crashes, kills = crashes + (not outcome.killed), kills + outcome.killed
        self._deaths[task.id] = crashes, kills
        return crashes < CRASHES and kills < KILLS

    def _go_on(self, task: Task, value: dict[str, Any]) -> None:
        if task.work == "plate":
            self._settle_plate(task, None)
            return
        clip = self._clip_of(task)
        if clip.state != "waiting":  # another piece of it has failed
            return
        if task.work == "clip" and value.get("long"):
            self._ready.appendleft(self._task("survey", clip))
        elif task.work == "survey" and value.get("whole"):
            self._ready.appendleft(
                self._task("clip", clip, size=clip.size, whole=True, notes=value.get("notes", []))
            )
        elif task.work == "survey" and not value.get("finished"):
            self._begin_segments(clip, value)
        elif task.work == "segment":
            clip.made += task.size
            clip.left.discard(task.id)
            if not clip.left:
                self._ready.appendleft(self._task("join", clip, segments=clip.segments))
        elif task.work == "join" and value.get("again") and not clip.joins:
            clip.joins += 1
            clip.size, clip.made = _size_of(clip.item.clip), 0.0
            self._ready.appendleft(self._task("survey", clip))
        elif task.work == "join" and value.get("again"):
            line = (
                f"{task.subject}: expected segments that fit each other, found that they do not, twice; run the batch "
                "again with one kind of --device"
            )
            self._fail(clip, Outcome("failed", {}, line, InputError.__name__, InputError.exit_code))
        else:
            self._finish(clip)

    def _begin_segments(self, clip: _Clip, value: dict[str, Any]) -> None:
        clip.segments = value["segments"]
        whole, frames = clip.size, max(1, value["frames"])
        tasks = []
        for segment in clip.segments:
            size = whole * (segment["stop"] - segment["first"]) / frames
            if segment["index"] in value["done"]:  # by an earlier run
                clip.size -= round(size)
                continue
            tasks.append(
                self._task(
                    "segment",
                    clip,
                    id=f"segment {segment['index']} {clip.item.name}",
                    size=size,
                    segment=segment,
                    segments=len(clip.segments),
                )
            )
        clip.left = {task.id for task in tasks}
        self._ready.extendleft(reversed(tasks or [self._task("join", clip, segments=clip.segments)]))

    def _settle_plate(self, task: Task, missing: Outcome | None) -> None:
        key = task.id.removeprefix("plate ")
        self._plates[key] = missing
        self._untouched.extendleft(reversed(self._parked.pop(key, [])))

    def _finish(self, clip: _Clip) -> None:
        clip.state = "done"
        self._clear(clip.item)
        self._tell(now=True)

    def _clear(self, item: Item) -> None:
        """Forget the unfinished work of a clip that is done; what cannot be removed now is when the next run looks."""
        with contextlib.suppress(OSError):
            files.remove_tree(self._workspace.work(item))
            files.remove(self._workspace.failure(item))

    def _fail(self, clip: _Clip, outcome: Outcome) -> None:
        if clip.state != "waiting":
            return
        clip.state, clip.outcome = "failed", outcome
        self._ready = deque(task for task in self._ready if task.item != clip.item)
        record = asdict(outcome) | {"attempts": clip.attempts}
        write_record(self._workspace.failure(clip.item), record)
        work = self._workspace.work(clip.item)
        if not any(work.glob("segment-*.json")) and not any(work.glob("pending-*.json")):
            with contextlib.suppress(OSError):  # so that it may be tried with another order
                files.remove_tree(work)
        self._tell(now=True)

    def _clip_of(self, task: Task) -> _Clip:
        assert task.item is not None
        return self._clips[task.item.name]

    # -- what is told ----------------------------------------------------------------------------

    def _tell(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._told < _EVERY:
            return
        self._told = moment
        states = [clip.state for name, clip in self._clips.items() if not self._only or name in self._only]
        seconds = max(moment - self._started, 1e-9)
        self._progress(
            Progress(
                files_done=states.count("done") + states.count("skipped"),
                files_failed=states.count("failed"),
                files_total=len(states),
                frames=self._frames,
                frames_per_second=self._frames / seconds,
                seconds_left=self._seconds_left(seconds),
                workers=tuple(self._worker_states()),
            )
        )

    def _seconds_left(self, seconds: float) -> float | None:
        """From the bytes of clip that were made so far, parts of running tasks included."""
        now: defaultdict[str, float] = defaultdict(float)
        for running in self._running.values():
            if running.expected and running.task.item is not None:
                now[running.task.item.name] += running.task.size * min(1.0, running.frames / running.expected)
        done = left = 0.0
        for clip in self._clips.values():
            made = clip.size if clip.state == "done" else clip.made + now[clip.item.name]
            done += made
            left += max(0.0, clip.size - made) if clip.state == "waiting" else 0.0
        return seconds * left / done if done > 0 else None

    def _worker_states(self) -> Iterable[WorkerState]:
        for running in sorted(self._running.values(), key=lambda running: running.worker):
            if running.worker:
                task = running.task
                name = "" if task.item is None else task.item.name
                yield WorkerState(running.worker, name, task.label, running.frames, running.expected)

    def report(self) -> BatchReport:
        """Say what became of each clip."""
        results = tuple(self._result(clip) for clip in self._clips.values())
        seconds = time.monotonic() - self._started
        return BatchReport(
            str(self._workspace.root), results, self._frames, seconds, self._describe, self._notes
        )

    def _result(self, clip: _Clip) -> ClipResult:
        result = ClipResult(clip.item, clip.state, attempts=clip.attempts, command=self._command(clip.item))
        if clip.state in ("done", "skipped"):
            with contextlib.suppress(DamagedInputError):  # just now; the next run tells
                return replace(result, manifest=read_manifest(self._workspace.output(clip.item)))
        if clip.outcome is not None:
            outcome = clip.outcome
            return replace(result, error=outcome.error, kind=outcome.kind, exit_code=outcome.exit_code)
        return result


def _is_hopeless(task: Task, outcome: Outcome) -> bool:
    """Whether a failure is one of a disk, which the next clip would share."""
    if outcome.kind == OutputError.__name__:
        return True
    gone = task.item is not None and task.size > 0 and not Path(task.item.clip).exists()
    return outcome.kind == InputError.__name__ and gone


def _size_of(clip: str) -> int:
    path = Path(clip)
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        return path.stat().st_size
    except OSError:
        return 0
