"""The dry run: what a batch would do, how long it would take, and how much room it needs."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from gpufuse.batch.estimate import Estimate, Probe, common_size, estimate, plan_lines
from gpufuse.batch.orders import Item, Options, fingerprint
from gpufuse.batch.speed import measured_rate
from gpufuse.batch.state import found_state
from gpufuse.batch.tasks import Ended, Task
from gpufuse.batch.workers import LocalWorkers, cores
from gpufuse.batch.workspace import Workspace

__all__ = ["Rehearsal", "rehearse"]

_TOGETHER = 64  # clips that one process looks at
_MOST_TOLD = 10


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What a batch would do.

    Attributes
    ----------
    estimate : Estimate
    plan : tuple of str
        A table: what would be done for each camera.
    obstacles : tuple of str
        What is in the way of single clips, or of the whole batch.
    notes : tuple of str
        On the source.
    """

    estimate: Estimate
    plan: tuple[str, ...]
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it for the user, one figure a line."""
        more = len(self.obstacles) - _MOST_TOLD
        told = [*self.obstacles[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
        return [*self.notes, *self.plan, "", *self.estimate.lines(), *([""] if told else []), *told]


def rehearse(
    items: list[Item],
    folder: str | Path,
    options: Options,
    *,
    workers: int,
    notes: tuple[str, ...] = (),
) -> Rehearsal:
    """Look at the clips of a batch without making any; nothing is written.

    Parameters
    ----------
    items : list of Item
    folder : path
        The batch's; need not exist.
    options : Options
    workers : int
        Processes at one time.
    notes : tuple of str

    Returns
    -------
    Rehearsal

    Raises
    ------
    ConfigError
        If user areas cannot be read.
    """
    workspace = Workspace(Path(folder).absolute())
    done, obstacles = set(), []
    for item in items:
        found = found_state(workspace, item, fingerprint(item, options), overwrite=options.overwrite)
        if found.state == "done":
            done.add(item.name)
        elif found.state == "other order":
            obstacles.append(
                f"{item.name}: made with other settings ({found.difference}); the batch would refuse to mix them"
            )
        elif found.error is not None:
            obstacles.append(str(found.error))
    probes = probed((path for item in items for path in (item.clip, item.day)), options, workers)
    size = common_size([item for item in items if item.name not in done], probes)
    rate = None
    if size is not None:
        threads = max(1, cores() // workers)
        rate = measured_rate(*size, threads, settings=items[0].settings, device=options.device)
    found_estimate = estimate(items, probes, folder=folder, done=done, workers=workers, rate=rate)
    days = sorted({item.day for item in items})
    obstacles += [problem for day in days if (problem := probes[day].problem)]
    return Rehearsal(
        found_estimate,
        tuple(plan_lines(items, probes, done)),
        tuple(dict.fromkeys([*obstacles, *found_estimate.problems])),
        notes,
    )


def probed(paths: Iterable[str], options: Options, workers: int) -> dict[str, Probe]:
    """Look at the headers of clips and days, in processes that may die of them.

    Parameters
    ----------
    paths : iterable of str
    options : Options
    workers : int
        Processes at one time.

    Returns
    -------
    dict of str to Probe
    """
    wanted = list(dict.fromkeys(paths))
    pieces = deque(wanted[start : start + _TOGETHER] for start in range(0, len(wanted), _TOGETHER))
    running: dict[str, list[str]] = {}
    found: dict[str, Probe] = {}
    engine = LocalWorkers(workers)
    try:
        while pieces or running:
            while pieces and engine.room():
                piece = pieces.popleft()
                name = f"probe {len(found)} {piece[0]}"
                running[name] = piece
                engine.submit(Task(name, "probe", "", options=options, details={"paths": piece}))
            for event in engine.wait(1.0):
                if not isinstance(event, Ended):
                    continue
                piece, outcome = running.pop(event.task), event.outcome
                if outcome.state == "done":
                    probes = (Probe(**record) for record in outcome.value["probes"])
                    found.update(zip(piece, probes, strict=True))
                elif len(piece) == 1:  # it is this one
                    line = f"{Path(piece[0]).name}: {outcome.error.partition(': ')[2]}"
                    found[piece[0]] = Probe(None, 0, 0, None, 0, line)
                else:
                    middle = len(piece) // 2
                    pieces.extend((piece[:middle], piece[middle:]))
    finally:
        engine.stop()
    return found
