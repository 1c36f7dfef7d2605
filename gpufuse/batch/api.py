"""A batch from Python: from a source of clips to their outputs, manifests and report."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufuse import files
from gpufuse.batch.orders import Item, Options
from gpufuse.batch.results import BatchReport, OnProgress
from gpufuse.batch.tasks import Ended, Task
from gpufuse.batch.workers import LocalWorkers, Workers, cores, default_workers
from gpufuse.errors import ConfigError, DeviceError
from gpufuse.settings import Settings

if TYPE_CHECKING:
    from gpufuse.batch.rehearsal import Rehearsal

__all__ = ["BatchOrder", "dry_run", "rehearsed", "run", "run_order"]


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Everything a batch is asked for, but for who does it.

    Attributes
    ----------
    source : str
    day : str or None
    folder : str
    camera : str or None
    settings : Settings
    areas : str or None
    options : Options
    only : tuple of str
        Names of outputs to which the batch is limited.
    """

    source: str
    day: str | None
    folder: str
    camera: str | None
    settings: Settings
    areas: str | None
    options: Options
    only: tuple[str, ...] = ()

    def listing(self) -> tuple[list[Item], tuple[str, ...]]:
        """Find the clips.

        Returns
        -------
        (list of Item, tuple of str)
            The clips, and notes on what was left out.

        Raises
        ------
        InputError, ConfigError
        """
        from gpufuse.batch.listing import list_items

        found = list_items(
            self.source,
            self.day,
            camera=self.camera,
            settings=self.settings,
            areas=self.areas,
            folder=self.folder,
        )
        items = list(found.items)
        unknown = sorted(set(self.only) - {item.name for item in items})
        if unknown:
            raise ConfigError(
                f"only: expected names of outputs, found none of the name {unknown[0]!r}; they look like "
                f"{items[0].name!r}"
            )
        return items, found.notes

    def command(self, item: Item) -> str:
        """Return the words that repeat one clip of this batch."""
        words = ["gpufuse", "batch", self.source]
        for name, value in (("--day", self.day), ("--camera", self.camera), ("--areas", self.areas)):
            if value is not None:
                words += [name, value]
        words += ["-o", self.folder]
        default, standard = Options(), Settings()
        for field in dataclasses.fields(Options):
            value = getattr(self.options, field.name)
            if value != getattr(default, field.name) and field.name != "overwrite":
                flag = f"--{field.name.replace('_', '-')}"
                words += [flag] if value is True else [flag, "none" if value is None else f"{value}"]
        changed = [
            f"{field.name}={'auto' if value is None else value}"
            for field in dataclasses.fields(Settings)
            if (value := getattr(self.settings, field.name)) != getattr(standard, field.name)
        ]
        words += ["--set", *changed] if changed else []
        return shlex.join([*words, "--only", item.name])


def run(
    source: str | Path,
    day: str | Path | None = None,
    folder: str | Path = "enhanced",
    *,
    camera: str | None = None,
    settings: Settings | None = None,
    areas: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    only: Sequence[str] = (),
    progress: OnProgress = lambda progress: None,
    **options: Any,
) -> BatchReport:
    """Enhance every clip of a source, those that earlier runs have made left out.

    Parameters
    ----------
    source : path
        A folder, a glob, a clip, or a list of clips (``.csv`` or ``.toml``), see `gpufuse.batch.listing.list_items`.
    day : path, optional
        Picture or clip of the day for all clips, or a pattern like ``days/{camera}.png``; may be left out where a list
        names the days.
    folder : path
        For outputs, manifests and report; made where missing.
    camera : str, optional
        Pattern over a clip's path that says what the fields of `day` are: ``{camera}/...``.
    settings : Settings, optional
    areas : path, optional
        User areas for all clips.
    workers : int, optional
        Processes at one time: by default one for each GPU, or for each two cores.
    scheduler : str, optional
        Address of a Dask cluster, ``tcp://host:port``, whose workers see the same files under the same names. By
        default the processes are started here.
    only : sequence of str
        Names of outputs to which the batch is limited.
    progress : callable
        Called with `gpufuse.batch.Progress`.
    **options
        As of `gpufuse.batch.Options`.

    Returns
    -------
    BatchReport
        With a result for each clip. Clips that fail are no exception: see its ``failed``, or call its
        ``raise_for_failures``.

    Raises
    ------
    ConfigError, InputError
        For wrong options, or a source without clips.
    DeviceError
        If a GPU is demanded and cannot be used, or the cluster is not there.
    OutputError
        If the folder cannot be written, another batch runs in it, or it holds outputs of other settings.
    KeyboardInterrupt
        When it is interrupted; the same call goes on.

    Examples
    --------
    >>> import gpufuse.batch
    >>> gpufuse.batch.run("missing", "day.png", "out", device="cpu")
    Traceback (most recent call last):
    ...
    gpufuse.errors.InputError: 'missing': expected a folder, a glob, a clip or a list, found none; check the path
    """
    order = _order(source, day, folder, camera, settings, areas, only, options)
    items, notes = order.listing()
    return run_order(order, items, notes, workers=workers, scheduler=scheduler, progress=progress)


def _order(
    source: str | Path,
    day: str | Path | None,
    folder: str | Path,
    camera: str | None,
    settings: Settings | None,
    areas: str | Path | None,
    only: Sequence[str],
    options: dict[str, Any],
) -> BatchOrder:
    known = [field.name for field in dataclasses.fields(Options)]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"options: expected some of {', '.join(known)}, got {name!r}; check its spelling"
            )
    return BatchOrder(
        str(source),
        None if day is None else str(day),
        str(folder),
        camera,
        settings or Settings(),
        None if areas is None else str(areas),
        Options(**options),
        tuple(only),
    )


def run_order(
    order: BatchOrder,
    items: list[Item],
    notes: tuple[str, ...],
    *,
    workers: int | None,
    scheduler: str | None,
    progress: OnProgress,
) -> BatchReport:
    """Run a batch whose clips were found.

    Parameters
    ----------
    order : BatchOrder
    items, notes
        As of its `listing`.
    workers, scheduler, progress
        As of `run`.

    Returns
    -------
    BatchReport

    Raises
    ------
    GpufuseError, KeyboardInterrupt
        As `run`.
    """
    from gpufuse.batch.coordinator import run_items

    _checked_count(workers)
    if order.options.register and importlib.util.find_spec("cv2") is None:
        raise ConfigError(
            "register: expected OpenCV to be installed, found it missing; pip install 'gpufuse[register]'"
        )

    def made(lock: files.Lock) -> Workers:
        if scheduler is None:
            return local_workers(order, workers, held=(lock.descriptor,))
        from gpufuse.batch.cluster import ClusterWorkers

        return ClusterWorkers(scheduler, order.folder)

    return run_items(
        items,
        order.folder,
        order.options,
        made,
        progress=progress,
        command=order.command,
        notes=notes,
        only=order.only,
    )


def _checked_count(workers: int | None) -> int | None:
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: expected at least 1, got {workers}; leave it out for the default")
    return workers


def local_workers(order: BatchOrder, count: int | None, held: Sequence[int] = ()) -> LocalWorkers:
    """Return workers on this machine, one for each GPU where GPUs compute.

    Parameters
    ----------
    order : BatchOrder
    count : int or None
        Processes at one time.
    held : sequence of int
        Descriptors that they hold.

    Returns
    -------
    LocalWorkers

    Raises
    ------
    DeviceError
        If a GPU is demanded and cannot be used.
    """
    gpus: list[str] = []
    if order.options.device != "cpu":
        found = _found_device(order)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        named = [name.strip() for name in visible if name.strip()]
        gpus = (named or [f"{number}" for number in range(found["count"])])[: found["count"]]
    return LocalWorkers(count or default_workers(cores(), len(gpus)), gpus, held)


def _found_device(order: BatchOrder) -> dict[str, Any]:
    """Ask a process of its own for the device: this one stays off the GPUs."""
    workers = LocalWorkers(1)
    try:
        workers.submit(Task("device", "device", order.folder, options=order.options))
        while True:
            for event in workers.wait(1.0):
                if not isinstance(event, Ended):
                    continue
                if event.outcome.state != "done":
                    raise DeviceError(event.outcome.error)
                return event.outcome.value
    finally:
        workers.stop()


def rehearsed(order: BatchOrder, *, workers: int | None = None) -> Rehearsal:
    """Count what a batch would do, and estimate its time and disk space.

    Parameters
    ----------
    order : BatchOrder
    workers : int, optional

    Returns
    -------
    Rehearsal

    Raises
    ------
    ConfigError, InputError, DeviceError
        As `run`.
    """
    from gpufuse.batch.rehearsal import rehearse

    items, notes = order.listing()
    items = [item for item in items if not order.only or item.name in order.only]
    count = _checked_count(workers) or local_workers(order, None).count
    return rehearse(items, order.folder, order.options, workers=count, notes=notes)


def dry_run(
    source: str | Path,
    day: str | Path | None = None,
    folder: str | Path = "enhanced",
    *,
    camera: str | None = None,
    settings: Settings | None = None,
    areas: str | Path | None = None,
    workers: int | None = None,
    only: Sequence[str] = (),
    **options: Any,
) -> Rehearsal:
    """Count what `run` would do with the same words, and estimate its time and disk space; nothing is written.

    Parameters
    ----------
    source, day, folder, camera, settings, areas, workers, only
        As of `run`.
    **options
        As of `gpufuse.batch.Options`.

    Returns
    -------
    Rehearsal

    Raises
    ------
    ConfigError, InputError, DeviceError
        As `run`.
    """
    order = _order(source, day, folder, camera, settings, areas, only, options)
    return rehearsed(order, workers=workers)
