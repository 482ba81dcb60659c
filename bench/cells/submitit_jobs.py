"""Cells as jobs of submitit: Slurm, or child processes of this machine by submitit's local executor."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.cells.batch import Batch
from bench.cells.job import GRACE, CellJob, Ended
from bench.cells.signals import WARNINGS
from bench.engines.placement import cores
from bench.errors import Refused, UsageError
from bench.imports import child_environment

INSTALL = "pip install -c requirements/cpu.txt '.[slurm]'"
REQUEUES = 1000
"""Number of times that a job may reach its time limit. It goes on from its journal each time."""
FOREVER = 60 * 24 * 3650
"""Time limit in minutes of a local job, which has none."""
OWN = {"array", "error", "nodes", "ntasks", "ntasks_per_node", "open_mode", "output", "signal", "time"}
"""Options of sbatch that are set here. One task executes a cell."""


class Requeued:
    """Cell as submitit calls it. A job that is stopped near its time limit goes back into the queue.

    Args:
        job: The cell.
    """

    def __init__(self, job: CellJob) -> None:
        self._job = job

    def __call__(self) -> Ended:
        """Execute the cell. If a signal stopped it, let submitit do what it does at that signal."""
        handlers = {number: signal.getsignal(number) for number in WARNINGS}
        ended = self._job()
        handler = handlers.get(signal.Signals(ended.number)) if ended.number else None
        if ended.number and callable(handler):
            handler(ended.number, None)  # at the warning of a time limit this exits
        return ended

    def checkpoint(self) -> Any:
        """Return what the job does when it runs again: the same, as the journal has all finished work."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def require_submitit(option: str) -> None:
    """Check that submitit is installed.

    Args:
        option: Option that needs it.

    Raises:
        Refused: If it is not installed.
    """
    if find_spec("submitit") is None:
        raise Refused(f"{option} needs submitit: {INSTALL}")


def sbatch_options(given: Sequence[str]) -> dict[str, str]:
    """Return the options of sbatch by name, such as `{"partition": "gpu"}` for `partition=gpu`.

    Raises:
        UsageError: If one has no value, or is set by bench.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        if not equals or not key or not value:
            raise UsageError(f"--slurm {text}: expected KEY=VALUE with an option of sbatch, such as partition=gpu")
        if key in OWN:
            instead = "give --time-limit" if key == "time" else "bench sets it; leave it out"
            raise UsageError(f"--slurm {text}: {instead}")
        found[key] = value
    return found


class SubmititJobs:
    """Jobs of a submitit executor. See `bench.cells.loop.Jobs`.

    Args:
        executor: Executor, such as `submitit.LocalExecutor`.
    """

    name = "submitit"
    outlive = False

    def __init__(self, executor: Any) -> None:
        log = logging.getLogger("submitit")
        for handler in log.handlers[:]:
            if handler.name == "submitit_out":  # it writes to standard output, the place of results
                log.removeHandler(handler)
        self._executor = executor
        self._jobs: dict[int, Any] = {}
        self._logs: dict[int, Path] = {}

    def room(self) -> int | None:
        """Return how many more cells may be submitted now; None for any number."""
        return None

    def submit(self, cells: Sequence[CellJob]) -> Mapping[int, str]:
        """Submit cells, as one array where there are several. Return the id of each one's job."""
        with _environment(), self._executor.batch():
            jobs = {cell.number: self._executor.submit(Requeued(cell)) for cell in cells}
        return self._keep(jobs)

    def ended(self) -> Mapping[int, Ended | None]:
        """Return how jobs ended since the last call; None for one whose worker died."""
        found = {number: self._end_of(job) for number, job in self._jobs.items() if job.done()}
        for number in found:
            del self._jobs[number]
        return found

    def log(self, number: int) -> Path | None:
        """Return the file with the messages of a cell's last job."""
        return self._logs.get(number)

    def stop(self) -> None:
        """Stop all jobs."""
        for job in self._jobs.values():
            job.cancel()

    def close(self) -> None:
        """Release nothing: a job of submitit holds files alone."""

    def _keep(self, jobs: Mapping[int, Any]) -> Mapping[int, str]:
        self._jobs |= jobs
        self._logs |= {number: job.paths.stderr for number, job in jobs.items()}
        return {number: job.job_id for number, job in jobs.items()}

    def _end_of(self, job: Any) -> Ended | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            ended: Ended = job.result()
        except FailedJobError as error:
            *_, trace, _ = str(error).split("-" * 22)
            return Ended(kind="failed", reason=f"its job failed: {trace.strip().splitlines()[-1]}")
        except UncompletedJobError:
            return None
        return ended


class LocalJobs(SubmititJobs):
    """Jobs in child processes of this machine. Each has its own share of the cores, and of the GPUs.

    Args:
        batch: Folder of the jobs.
        at_once: Number of cells that run at the same time; None for one per GPU, or else one per core.
        gpus: Number of GPUs that the cells share; 0 if they use none.
    """

    name = "local"

    def __init__(self, batch: Batch, at_once: int | None, gpus: int) -> None:
        from submitit import LocalExecutor

        super().__init__(LocalExecutor(batch.path / "jobs", max_num_timeout=REQUEUES))
        self._shares = shares(at_once or gpus or cores(), gpus)
        self._free = list(range(len(self._shares)))
        self._places: dict[int, int] = {}

    def room(self) -> int:
        """Return how many more cells may be submitted now."""
        return len(self._free)

    def submit(self, cells: Sequence[CellJob]) -> Mapping[int, str]:
        """Start a process for each cell. Ctrl-C in the terminal reaches this process alone, which stops the others."""
        names: dict[int, str] = {}
        for cell in cells:
            self._places[cell.number] = place = self._free.pop(0)
            own, gpu = self._shares[place]
            visible = {"gpus_per_node": 1, "visible_gpus": (gpu,)} if gpu is not None else {}
            self._executor.update_parameters(timeout_min=FOREVER, **visible)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                with _environment():
                    job = self._executor.submit(Requeued(replace(cell, cores=own)))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            names |= self._keep({cell.number: job})
        return names

    def ended(self) -> Mapping[int, Ended | None]:
        """Return how jobs ended since the last call; None for one whose worker died."""
        found = super().ended()
        self._free += [self._places.pop(number) for number in found]
        return found

    def stop(self) -> None:
        """Stop all jobs in good order, and wait for their ends. Kill those that take longer than `GRACE`."""
        for job in self._jobs.values():
            # submitit hands SIGTERM on. Its own `cancel` sends SIGINT, which is blocked in these processes.
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        until = time.monotonic() + GRACE
        while time.monotonic() < until and not all(job.done() for job in self._jobs.values()):
            time.sleep(0.1)
        _kill([int(job.job_id) for job in self._jobs.values() if not job.done()])

    def _end_of(self, job: Any) -> Ended | None:
        # submitit waits for a result that a slow file system may still bring; here there is none to wait for.
        return super()._end_of(job) if job.paths.result_pickle.exists() else None


class SlurmJobs(SubmititJobs):
    """Jobs of Slurm: an array with a task for each cell.

    Args:
        batch: Folder of the jobs.
        at_once: Number of cells that run at the same time at most; None leaves it to Slurm.
        time_limit: Time limit of a job in minutes. A job that reaches it goes back into the queue.
        options: Further options of sbatch, such as `{"partition": "gpu"}`.
    """

    name = "slurm"
    outlive = True
    LOOK = 60.0
    """Seconds between two calls of sacct."""

    def __init__(self, batch: Batch, at_once: int | None, time_limit: int, options: Mapping[str, str]) -> None:
        from submitit import SlurmExecutor

        super().__init__(SlurmExecutor(batch.path / "jobs", max_num_timeout=REQUEUES))
        parallel = {} if at_once is None else {"array_parallelism": at_once}
        named = {"job_name": "bench"} | dict(options)
        self._executor.update_parameters(time=time_limit, additional_parameters=named, **parallel)
        self._looked = time.monotonic()

    def ended(self) -> Mapping[int, Ended | None]:
        """Return how jobs ended since the last call; None for one whose worker died."""
        if self._jobs and time.monotonic() - self._looked > self.LOOK:
            next(iter(self._jobs.values())).watcher.update()  # one call for all jobs
            self._looked = time.monotonic()
        return super().ended()

    def _end_of(self, job: Any) -> Ended | None:
        if not job.paths.result_pickle.exists() and job.state.startswith("CANCELLED"):
            return Ended(kind="stopped", reason=f"its job {job.job_id} was cancelled; all finished work is saved")
        return super()._end_of(job)


def require_slurm() -> None:
    """Check that this machine can submit jobs to Slurm.

    Raises:
        Refused: If it cannot.
    """
    missing = [program for program in ("sbatch", "srun", "sacct") if shutil.which(program) is None]
    if missing:
        raise Refused(
            f"--cells-on slurm: this machine has no {missing[0]}; start the command where Slurm's programs are, or "
            "give --cells-on local"
        )


def shares(places: int, gpus: int) -> list[tuple[tuple[int, ...], int | None]]:
    """Return the cores and the GPU of each of several places. Where cores are too few, places share them.

    Args:
        places: Number of places.
        gpus: Number of GPUs; 0 for none.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [((), place % gpus if gpus else None) for place in range(places)]
    own = sorted(os.sched_getaffinity(0))
    each = max(1, len(own) // places)
    found = []
    for place in range(places):
        first = place * each % len(own)
        found.append((tuple(own[first : first + each]), place % gpus if gpus else None))
    return found


def _kill(processes: Sequence[int]) -> None:
    """Kill processes with all that they have started, and wait for their ends."""
    import psutil

    found = []
    for number in processes:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(number)
            root.suspend()  # it starts no further one
            found += [root, *root.children(recursive=True)]
    for each in found:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(found, timeout=5)


@contextmanager
def _environment() -> Iterator[None]:
    """Let jobs that a block submits import what this process can import."""
    before = dict(os.environ)
    os.environ.update(child_environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
