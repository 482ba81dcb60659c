"""Engines as Ray actors, on a cluster started for the run or on an existing one.

On an existing cluster, only our own actors are stopped at the end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.engines.interface import Engine, Job
from bench.engines.pool import ALL_DIED, EngineInfo, JobResult, run_job
from bench.errors import BenchError, UsageError

OBJECTS = 100 << 20
"""Bytes of Ray's object store on a cluster of our own; jobs and answers are small."""


@contextmanager
def started(load: Callable[[], Engine], count: int, address: str | None, device: str) -> Iterator[RayWorkers]:
    """Start engines on a cluster, and stop them when the block ends.

    Args:
        load: Function that returns an engine; called in each actor.
        count: Number of engines.
        address: Address of the cluster; None starts one on this machine.
        device: Torch device; on `cuda` every engine gets its own GPU.

    Raises:
        UsageError: If the cluster cannot be reached or has too few GPUs.
    """
    import ray

    with connected(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes)) if device.startswith("cuda") else None
        if gpus is not None and gpus < count:
            raise UsageError(f"--engines {count}: each takes a GPU, and the cluster has {gpus}")
        threads = cores_each([int(node.get("CPU", 0)) for node in nodes], count)
        options = {"num_cpus": threads, "num_gpus": 0 if gpus is None else 1}
        actors = [ray.remote(**options)(_Actor).remote() for _ in range(count)]
        try:
            yield RayWorkers(actors, load, max(1, threads))
        finally:
            for actor in actors:
                ray.kill(actor)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect this process to a Ray cluster while a block runs, or start one of its own.

    Args:
        address: Address of the cluster; None starts one on this machine.

    Raises:
        UsageError: If the cluster cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    # By default Ray sends usage statistics to its developers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECTS}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else own),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"--ray-address {address or 'local'}: {str(error).splitlines()[0]}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray takes the signal, and would exit at once
            signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        ray.shutdown()  # on an existing cluster this only disconnects


def cores_each(nodes: Sequence[int], engines: int) -> int:
    """Return the largest number of cores per engine with which all engines fit on the nodes; 0 if they must share.

    Args:
        nodes: Number of cores of each node.
        engines: Number of engines.
    """
    fitting = (each for each in range(max(nodes, default=0), 0, -1) if sum(n // each for n in nodes) >= engines)
    return next(fitting, 0)


class _Actor:
    """Ray actor that holds one engine in its own process."""

    def load(self, load: Callable[[], Engine], threads: int) -> EngineInfo:
        import torch

        torch.set_num_threads(threads)
        self._engine = load()
        return EngineInfo.of(self._engine)

    def prepare(self, jobs: Sequence[Job]) -> None:
        self._engine.prepare(jobs, lambda job, completions, work: None)

    def run_job(self, job: Job, limit: int | None) -> JobResult:
        return run_job(self._engine, job, limit)


class RayWorkers:
    """Engines in Ray actors. See `bench.engines.pool.Workers`.

    Args:
        actors: Handles of the Ray actors.
        load: Function that returns an engine.
        threads: Torch threads of each actor.
    """

    def __init__(self, actors: Sequence[Any], load: Callable[[], Engine], threads: int) -> None:
        self._actors = dict(enumerate(actors))
        self._running: dict[Any, tuple[int, Job]] = {}
        self._loading = [actor.load.remote(load, threads) for actor in actors]

    @property
    def alive(self) -> Sequence[int]:
        """Numbers of the workers whose process is alive.

        Raises:
            BenchError: If no worker is left.
        """
        if not self._actors:
            raise BenchError(ALL_DIED)
        return tuple(self._actors)

    def describe(self) -> EngineInfo:
        """Wait until all engines are loaded, and return their common description.

        Raises:
            BenchError: If the engines differ.
        """
        import ray

        first, *others = (_result(partial(ray.get, ref)) for ref in self._loading)
        if differing := [other for other in others if other != first]:
            raise BenchError(f"engines of this cluster differ: {first} and {differing[0]}")
        return first

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Announce the next jobs to all workers."""
        for actor in self._actors.values():
            actor.prepare.remote(jobs)

    def start(self, worker: int, job: Job, limit: int | None) -> None:
        """Queue a job on one worker."""
        self._running[self._actors[worker].run_job.remote(job, limit)] = worker, job

    def wait(self) -> tuple[int, Job, JobResult | Exception | None]:
        """Wait until a job ends; return its worker, the job and its result, or None if the worker died."""
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
    """Return an actor's result, or raise its exception with the actor's traceback as the cause."""
    from ray.exceptions import RayTaskError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
