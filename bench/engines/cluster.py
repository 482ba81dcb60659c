"""Engines as actors of a Ray cluster: this machine's own for as long as a run lasts, or one that is there already.

What was there before is there afterwards: of a cluster that others started, only the actors that were started here end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from bench.engines.interface import Engine, Job
from bench.engines.pool import Answered, Described, answer
from bench.errors import BenchError, Refused, UsageError

OBJECTS = 100 << 20
"""Bytes of shared memory for a cluster of our own; jobs and answers are small."""


@dataclass(frozen=True)
class Engines:
    """Where answers are computed. No part of what a run is: its outcome does not depend on it.

    Attributes:
        count: How many engines.
        address: Of a Ray cluster; None for this machine.
    """

    count: int = 1
    address: str | None = None

    @property
    def here(self) -> bool:
        """Whether one engine in this process does."""
        return self.count == 1 and self.address is None

    def require(self) -> None:
        """Check that what it takes is installed.

        Raises:
            Refused: If it is not.
        """
        if not self.here and find_spec("ray") is None:
            option = f"--engines {self.count}" if self.address is None else f"--ray-address {self.address}"
            raise Refused(f"{option} needs ray: pip install -c requirements/cpu.txt '.[ray]'")


@contextmanager
def started(load: Callable[[], Engine], engines: Engines, device: str) -> Iterator[RayWorkers]:
    """Start engines on a cluster, and end them afterwards.

    Args:
        load: Returns an engine; called in each actor.
        engines: How many, and where.
        device: As torch names it; every engine on `cuda` has a GPU of its own.

    Raises:
        UsageError: If the cluster cannot be reached, or has too few GPUs.
    """
    import ray

    with _connected(engines.address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes)) if device.startswith("cuda") else None
        if gpus is not None and gpus < engines.count:
            raise UsageError(f"--engines {engines.count}: each takes a GPU, and the cluster has {gpus}")
        threads = cores_each([int(node.get("CPU", 0)) for node in nodes], engines.count)
        options = {"num_cpus": threads, "num_gpus": 0 if gpus is None else 1}
        actors = [ray.remote(**options)(_Actor).remote() for _ in range(engines.count)]
        try:
            yield RayWorkers(actors, load, max(1, threads))
        finally:
            for actor in actors:
                ray.kill(actor)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    # Left to itself Ray would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECTS}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else own),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"--ray-address {address or 'local'}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()  # of a cluster that others started, this only takes leave


def cores_each(nodes: Sequence[int], engines: int) -> int:
    """Return how many cores each engine gets, so that all find room on these nodes; 0 if they must share.

    Args:
        nodes: Cores of each node.
        engines: How many engines.
    """
    fitting = (each for each in range(max(nodes, default=0), 0, -1) if sum(n // each for n in nodes) >= engines)
    return next(fitting, 0)


class _Actor:
    """An engine in a process of its own."""

    def load(self, load: Callable[[], Engine], threads: int) -> Described:
        import torch

        torch.set_num_threads(threads)
        self._engine = load()
        return Described(self._engine.shape, self._engine.digest, self._engine.settings)

    def prepare(self, jobs: Sequence[Job]) -> None:
        self._engine.prepare(jobs, lambda job, completions, work: None)

    def answer(self, job: Job, limit: int | None) -> Answered:
        return answer(self._engine, job, limit)


class RayWorkers:
    """Engines as actors. See `bench.engines.pool.Workers`.

    Args:
        actors: Theirs.
        load: Returns an engine.
        threads: For each of them.
    """

    def __init__(self, actors: Sequence[Any], load: Callable[[], Engine], threads: int) -> None:
        self._actors = dict(enumerate(actors))
        self._running: dict[Any, tuple[int, Job]] = {}
        self._loading = [actor.load.remote(load, threads) for actor in actors]

    @property
    def alive(self) -> Sequence[int]:
        """Those whose process has not died."""
        if not self._actors:
            raise BenchError("every engine's process has died, of too little memory perhaps; resume with fewer engines")
        return tuple(self._actors)

    def describe(self) -> Described:
        """Wait for all to be ready; return what they say of themselves.

        Raises:
            BenchError: If they do not all say the same.
        """
        import ray

        first, *others = (_result(partial(ray.get, ref)) for ref in self._loading)
        if differing := [other for other in others if other != first]:
            raise BenchError(f"engines of this cluster differ: {first} and {differing[0]}")
        return first

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Let all of them know what comes next."""
        for actor in self._actors.values():
            actor.prepare.remote(jobs)

    def start(self, worker: int, job: Job, limit: int | None) -> None:
        """Give one of them a job, after those that it has."""
        self._running[self._actors[worker].answer.remote(job, limit)] = worker, job

    def wait(self) -> tuple[int, Job, Answered | Exception | None]:
        """Wait for a job to end."""
        import ray
        from ray.exceptions import RayActorError

        (ready,), _ = ray.wait(list(self._running), num_returns=1)
        worker, job = self._running.pop(ready)
        try:
            return worker, job, _result(partial(ray.get, ready))
        except RayActorError:
            self._actors.pop(worker, None)
            return worker, job, None
        except Exception as error:
            return worker, job, error


def _result(get: Callable[[], Any]) -> Any:
    """Return what an actor returned, or raise what it raised, with the actor's own traceback as the cause."""
    from ray.exceptions import RayTaskError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
