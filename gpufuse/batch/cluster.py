"""The engine of a Dask cluster: tasks go to its workers, and each runs there in a child process of its own.

A task may run twice, for Dask starts it again where a worker was lost; its files are named so that this is harmless.
No Dask resources are demanded: with them a dying worker takes innocent tasks with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import secrets
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gpufuse import files
from gpufuse._version import __version__
from gpufuse.batch.children import Child
from gpufuse.batch.tasks import Advanced, Ended, Event, Outcome, Started, Task
from gpufuse.batch.workers import cores, wait_readable
from gpufuse.batch.workspace import Workspace, safely
from gpufuse.errors import ConfigError, DeviceError

__all__ = ["ClusterWorkers", "do_task"]

_CONNECT = 10.0  # seconds
_POLL = 1.0
_PATIENCE = 600.0  # seconds without a single worker


def do_task(
    record: dict[str, Any], topic: str, alive: str, version: str, shares: dict[str, int]
) -> dict[str, Any]:
    """Do a task on a worker of the cluster, in a child process.

    Parameters
    ----------
    record : dict
        As of `Task.to_json`.
    topic : str
        Where to tell how far it is.
    alive : str
        A file that is there as long as the result is wanted.
    version : str
        Of gpufuse where the batch runs.
    shares : dict of str to int
        For each host, tasks at one time.

    Returns
    -------
    dict
        As of `Outcome.to_json`.
    """
    from distributed import get_worker

    worker = get_worker()
    name = str(worker.name)
    if version != __version__:
        return _refused(
            f"cluster: expected gpufuse {version} on worker {name}, found {__version__}; install the same"
        )
    if not os.path.exists(alive):
        return _refused(
            f"cluster: expected worker {name} to see the batch's folder, found no {os.path.basename(alive)!r} in it; "
            "share the folder under the same name"
        )
    task = Task.from_json(record)
    at_once = shares.get(_host(worker.address), worker.state.nthreads)
    task = dataclasses.replace(task, threads=max(1, cores() // max(1, at_once)))
    worker.log_event(topic, {"task": task.id, "worker": name})
    child = Child(task, name)
    try:
        while True:
            wait_readable([child.output], _POLL)
            for event in child.listen():
                if isinstance(event, Ended):
                    return event.outcome.to_json()
                if isinstance(event, Advanced):
                    told = {"task": task.id, "worker": name, "done": event.done, "expected": event.expected}
                    worker.log_event(topic, told)
            if not os.path.exists(alive):
                return Outcome("died", error=f"{task.subject}: not wanted any more", killed=True).to_json()
    finally:
        child.end()


def _refused(line: str) -> dict[str, Any]:
    return Outcome("failed", {}, line, DeviceError.__name__, DeviceError.exit_code).to_json()


def _host(address: str) -> str:
    return address.rpartition("://")[2].rpartition(":")[0]


class ClusterWorkers:
    """The workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of its scheduler: ``tcp://host:port``.
    folder : path
        The batch's, which all workers see under the same name.

    Raises
    ------
    DeviceError
        If the cluster is not there.
    ConfigError
        If Dask is not installed.
    """

    def __init__(self, address: str, folder: str | Path) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ConfigError(
                "scheduler: expected Dask to be installed, found it missing; pip install 'gpufuse[cluster]'"
            ) from error
        self._address = address
        try:
            make: Any = distributed.Client
            self._client: Any = make(address, timeout=_CONNECT, set_as_default=False, name="gpufuse")
        except (OSError, ValueError, TypeError) as error:
            raise DeviceError(
                f"scheduler: expected a Dask scheduler at {address}, found none "
                f"({' '.join(str(error).split()) or type(error).__name__}); start one with 'dask scheduler'"
            ) from error
        token = secrets.token_hex(4)
        self._topic = f"gpufuse-{token}"
        self._events: queue.Queue[Event] = queue.Queue()
        self._futures: dict[str, Any] = {}
        self._count = 0
        self._seen = time.monotonic()  # when there were workers
        self._alive = Workspace(Path(folder).absolute()).running(
            f"{token}-{socket.gethostname()}-{os.getpid()}"
        )
        try:
            with safely(self._alive):
                files.create(self._alive)
            self._client.subscribe_topic(self._topic, self._hear)
        except BaseException:
            self.stop()
            raise

    def describe(self) -> str:
        """Say who works."""
        count = len(self._workers())
        return f"{count} worker{'s' * (count != 1)} of the cluster at {self._address}"

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1).get("workers", {})
        if workers:
            self._seen = time.monotonic()
        return workers  # none as well where the scheduler has gone, which `wait` tells

    def _shares(self) -> dict[str, int]:
        shares: Counter[str] = Counter()
        for address, facts in self._workers().items():
            shares[_host(address)] += facts["nthreads"]
        return dict(shares)

    def room(self) -> int:
        """Return how many more tasks the workers would begin, and one more for each worker, to have at hand."""
        at_once = sum(int(facts["nthreads"]) + 1 for facts in self._workers().values())
        return at_once - len(self._futures)

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster."""
        self._count += 1
        future = self._client.submit(
            do_task,
            task.to_json(),
            self._topic,
            str(self._alive),
            __version__,
            self._shares(),
            key=f"{self._topic}-{self._count}",
            pure=False,
        )
        self._futures[task.id] = future
        future.add_done_callback(lambda ended: self._events.put(Ended(task.id, "", _outcome_of(ended, task))))

    def _lost(self, found: str) -> DeviceError:
        return DeviceError(
            f"scheduler: expected the cluster at {self._address} to stay, found {found}; start it again and repeat "
            "the command: what is done is kept"
        )

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        _, told = event
        if "done" in told:
            self._events.put(Advanced(told["task"], told["worker"], told["done"], told["expected"]))
        else:
            self._events.put(Started(told["task"], told["worker"]))

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened.

        Raises
        ------
        DeviceError
            If the cluster has gone.
        """
        events: list[Event] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=seconds))
            while True:
                events.append(self._events.get_nowait())
        if self._client.status in ("closed", "closing", "failed"):
            raise self._lost("that its scheduler has gone")
        if time.monotonic() - self._seen > _PATIENCE and not self._workers():
            raise self._lost(f"no worker for {_PATIENCE / 60:.0f} minutes")
        for event in events:
            if isinstance(event, Ended):
                self._futures.pop(event.task, None)
        return events

    def stop(self) -> None:
        """Let the workers end their children, and leave the cluster."""
        with contextlib.suppress(OSError):
            files.remove(self._alive)
        client, self._client = self._client, None
        if client is None:
            return
        if self._futures:
            with contextlib.suppress(Exception):  # the cluster may have gone
                client.cancel(list(self._futures.values()))
            time.sleep(2 * _POLL)  # until they have noticed
        self._futures = {}
        client.close()


def _outcome_of(future: Any, task: Task) -> Outcome:
    """What became of a task; a worker that was lost is a process that was killed."""
    reason = "cancelled"
    try:
        if future.status == "finished":
            return Outcome(**future.result())
        error = future.exception() if future.status == "error" else None
    except Exception as lost:  # what was finished is gone with its worker
        reason, error = type(lost).__name__, None
    if error is not None:
        reason = type(error).__name__
        if reason != "KilledWorker":
            line = f"{task.subject}: expected a result from the cluster, found '{error}'; look at its logs"
            return Outcome("failed", {}, " ".join(line.split()), DeviceError.__name__, DeviceError.exit_code)
    line = (
        f"{task.subject}: expected its worker to finish, found it lost ({reason}); look at the cluster's logs"
    )
    return Outcome("died", {}, line, DeviceError.__name__, DeviceError.exit_code, killed=True)
