"""Engines in child processes of this machine, each with its share of the cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for_connections
from threading import Thread
from typing import Any

import psutil

from bench.engines.interface import Engine, Job
from bench.engines.pool import ALL_DIED, EngineInfo, JobResult, run_job
from bench.errors import BenchError

PRELOADED = ["bench.engines.transformers", "transformers.models.auto.modeling_auto"]
"""Modules that the processes share instead of importing them one after the other."""

_engine: Engine
"""The engine of this child process."""


@contextmanager
def child_processes(loads: Sequence[Callable[[], Engine]], threads: int) -> Iterator[ProcessWorkers]:
    """Start engines in child processes, and end them afterwards.

    Args:
        loads: For each process a picklable function that returns its engine.
        threads: Torch threads of each.
    """
    workers = ProcessWorkers(len(loads))
    try:
        workers.load(loads, threads)
        yield workers
    finally:
        workers.close()


class ProcessWorkers:
    """Engines in child processes. See `bench.engines.pool.Workers`.

    Each process is an executor with one worker, so that the standard library queues jobs, brings exceptions home with
    their tracebacks, and notices a process that dies.

    Args:
        count: Number of processes.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("forkserver")
        self._executors = {i: ProcessPoolExecutor(1, context, _stay_with_parent) for i in range(count)}
        self._running: dict[Future[JobResult], tuple[int, Job]] = {}
        self._loading: list[Future[EngineInfo]] = []

    def load(self, loads: Sequence[Callable[[], Engine]], threads: int) -> None:
        """Start the processes, and begin to load their engines.

        Args:
            loads: For each process a picklable function that returns its engine.
            threads: Torch threads of each.
        """
        _start_server()
        for executor, load in zip(self._executors.values(), loads, strict=True):
            self._loading.append(executor.submit(_load, load, threads))

    @property
    def alive(self) -> Sequence[int]:
        """Numbers of the workers whose process is alive.

        Raises:
            BenchError: If no worker is left.
        """
        if not self._executors:
            raise BenchError(ALL_DIED)
        return tuple(self._executors)

    def describe(self) -> EngineInfo:
        """Wait until all engines are loaded, and return their common description.

        Raises:
            BenchError: If an engine's process died.
        """
        try:
            infos = [loading.result() for loading in self._loading]
        except BrokenProcessPool as error:
            raise BenchError("an engine's process died while it loaded the model; take fewer engines") from error
        return infos[0]

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Announce the next jobs to all workers."""
        for executor in self._executors.values():
            with suppress(BrokenProcessPool):  # it died since the last job; `start` and `wait` say so
                executor.submit(_prepare, jobs)

    def start(self, worker: int, job: Job, limit: int | None) -> None:
        """Queue a job on one worker."""
        try:
            future = self._executors[worker].submit(_run_job, job, limit)
        except BrokenProcessPool as error:  # it died since the last job; `wait` says so
            future = Future()
            future.set_exception(error)
        self._running[future] = worker, job

    def wait(self) -> tuple[int, Job, JobResult | Exception | None]:
        """Wait until a job ends; return its worker, the job and its result, or None if the worker died."""
        done = wait(self._running, return_when=FIRST_COMPLETED).done
        ready = next(future for future in self._running if future in done)  # in the order of their start
        worker, job = self._running.pop(ready)
        try:
            return worker, job, ready.result()
        except BrokenProcessPool:
            if (dead := self._executors.pop(worker, None)) is not None:
                dead.shutdown(wait=False)
            return worker, job, None
        except Exception as error:
            return worker, job, error

    def close(self) -> None:
        """End all processes, also in the middle of a job or of their start."""
        if len(self._loading) < len(self._executors):  # interrupted: no executor knows a process that is starting
            _end_server()
        for executor in self._executors.values():
            for process in list((executor._processes or {}).values()):
                process.kill()  # it holds nothing that is worth saving
            executor.shutdown(wait=True, cancel_futures=True)
        self._executors.clear()


def _start_server() -> None:
    """Start the server that forks the processes. It leaves Ctrl-C to this process, and so do those from their start."""
    forkserver.set_forkserver_preload(PRELOADED)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # what it starts inherits this
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    forkserver.connect_to_new_process = _ask_whole


def _ask_whole(fds: Sequence[int]) -> tuple[int, int]:
    """Ask the server for a process. On half a request, which a signal would leave, it ends with a traceback."""
    with ThreadPoolExecutor(1) as thread:  # signals interrupt the main thread alone
        return thread.submit(forkserver._forkserver.connect_to_new_process, fds).result()


def _end_server() -> None:
    """End the server and all processes that it forked. It would fork those that it was asked for, which then fail."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is None:
        return
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(server._forkserver_pid)
        process.suspend()  # it forks no more
        for each in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.kill()
    server._stop()


def _stay_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it dies, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for_connections([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _load(load: Callable[[], Engine], threads: int) -> EngineInfo:
    import torch

    global _engine
    torch.set_num_threads(threads)
    _engine = load()
    return EngineInfo.of(_engine)


def _prepare(jobs: Sequence[Job]) -> None:
    def ignore(*_: Any) -> None: ...

    _engine.prepare(jobs, ignore)


def _run_job(job: Job, limit: int | None) -> JobResult:
    return run_job(_engine, job, limit)
