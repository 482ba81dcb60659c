"""Cells as tasks of Ray, on a cluster started for the grid or on an existing one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from bench.cells.job import GRACE, CellJob, Ended
from bench.engines.cluster import connected
from bench.errors import UsageError
from bench.plain import sentence

LOOK = 0.1
"""Seconds that one look at the tasks takes at most."""


def execute(job: CellJob) -> Ended:
    """Execute a cell. Ray calls this in a process that executes nothing else."""
    return job()


class RayJobs:
    """Tasks of Ray. See `bench.cells.loop.Jobs`.

    Args:
        address: Address of the cluster; None starts one on this machine.
        at_once: Number of cells that run at the same time at most; None leaves it to Ray.
        cpus: Cores of each cell.
        gpu: Whether each cell takes a GPU if the cluster has any.

    Raises:
        UsageError: If the cluster cannot be reached, or has no machine with so many cores.
    """

    name = "ray"
    outlive = False

    def __init__(self, address: str | None, at_once: int | None, cpus: int, *, gpu: bool) -> None:
        import ray

        self._at_once = at_once
        self._running: dict[Any, int] = {}
        self._connected = ExitStack()
        # Ray prints a message on standard output when a worker dies. That is the place of results, and bench says it.
        self._connected.enter_context(redirect_stdout(self._connected.enter_context(_nowhere())))
        try:
            self._connected.enter_context(connected(address))
        except BaseException:
            self.close()
            raise
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        if cpus > most:
            self.close()
            raise UsageError(
                f"--engines {cpus}: a cell takes a core for each, and no machine of the cluster has more than {most}"
            )
        gpus = int(gpu and any(node.get("GPU", 0) for node in nodes))
        # bench tries again itself: it says so, and counts. A process of its own for each cell holds nothing of others.
        self._remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(execute)

    def room(self) -> int | None:
        """Return how many more cells may be submitted now; None for any number."""
        return None if self._at_once is None else self._at_once - len(self._running)

    def submit(self, cells: Sequence[CellJob]) -> Mapping[int, str]:
        """Submit cells. Return the id of each one's task."""
        names = {}
        for cell in cells:
            task = self._remote.remote(cell)
            self._running[task] = cell.number
            names[cell.number] = task.task_id().hex()[:16]  # what tells tasks of a grid apart
        return names

    def ended(self) -> Mapping[int, Ended | None]:
        """Return how tasks ended since the last call; None for one whose worker died."""
        if not self._running:
            return {}
        import ray

        ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=LOOK)
        return {self._running.pop(task): _end_of(task) for task in ready}

    def log(self, number: int) -> Path | None:
        """Return None: Ray keeps the output of its workers."""
        return None

    def stop(self) -> None:
        """Stop all tasks in good order, as by Ctrl-C, and wait for their ends. Kill those that outlast `GRACE`."""
        import ray

        tasks = list(self._running)
        for force in (False, True):
            for task in tasks:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(task, force=force)
            if tasks:
                _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=GRACE)

    def close(self) -> None:
        """Disconnect from the cluster; stop it if it was started for the grid."""
        self._connected.close()


@contextmanager
def _nowhere() -> Iterator[TextIO]:
    with Path(os.devnull).open("w") as file:
        yield file


def _end_of(task: Any) -> Ended | None:
    import ray
    from ray.exceptions import RayError, RayTaskError, TaskCancelledError

    try:
        ended: Ended = ray.get(task)
    except TaskCancelledError:
        return Ended(kind="stopped", reason="its task was cancelled; all finished work is saved")
    except RayTaskError as error:
        return Ended(kind="failed", reason=f"its task failed: {sentence(str(error.cause))}")
    except RayError:  # its worker was killed, or its machine failed
        return None
    return ended
