"""Status of a run that is being executed: `status.json` in its folder, for `bench status`. It never affects a result.

The process that executes the run writes the file now and then, and removes it once the run has a result. A process that
was killed leaves it behind. An example:

    {"host": "gpu-3", "pid": 4711, "job": "slurm 81_4", "started": "2026-01-31T12:00:00+00:00",
     "updated": "2026-01-31T12:03:20+00:00", "stopped": false,
     "now": {"stage": "population", "steps": "12/64", "best": 0.25, "spent": 0.31, "seconds_left": 41.0}}
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError
from bench.records.files import read, write_atomically
from bench.run.environment import process_exists
from bench.run.progress import ProgressDisplay, Snapshot

STATUS, LOCK = "status.json", ".lock"
"""Files in a run's folder: its status while it is executed, and the lock of the process that executes it."""
INTERVAL = 2.0
"""Seconds between two looks at the progress."""
HEARTBEAT = 20.0
"""Seconds after which the file is written even if the progress has not changed."""
SILENCE = 90.0
"""Seconds without a new status after which the lock decides whether a process still executes the run."""


class RunStatus(BaseModel):
    """Status of a run that is being executed, or was when its process ended.

    Attributes:
        host: Name of the machine.
        pid: Process on it.
        job: Job of a batch system, such as `slurm 81_4`; None if there is none.
        started: Time at which this attempt began, in UTC.
        updated: Time of this status, in UTC.
        stopped: Whether the attempt was interrupted in good order. All finished work is saved then.
        now: Progress of the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    job: str | None = None
    started: str
    updated: str
    stopped: bool = False
    now: Snapshot


def job_name() -> str | None:
    """Return the job of the batch system that this process belongs to, by the variables that it sets; None without."""
    names = os.environ
    if array := names.get("SLURM_ARRAY_JOB_ID"):
        return f"slurm {array}_{names.get('SLURM_ARRAY_TASK_ID', '')}"
    return f"slurm {names['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in names else None


@contextmanager
def reported(folder: Path, display: ProgressDisplay, check: Callable[[], None]) -> Iterator[None]:
    """Write the status of a run while a block executes it. Remove the file if the block ends without an exception.

    A status that cannot be written is left out, and the run goes on.

    Args:
        folder: Run directory. This process holds its lock.
        display: Display that knows the progress.
        check: Function that raises a BenchError if the folder is no longer that of the run.
    """
    first = RunStatus(
        host=platform.node(), pid=os.getpid(), job=job_name(), started=_time(), updated=_time(), now=Snapshot()
    )
    ended = threading.Event()

    def write(now: Snapshot, *, stopped: bool = False) -> None:
        with suppress(BenchError):
            check()
            status = first.model_copy(update={"now": now, "updated": _time(), "stopped": stopped})
            write_atomically(folder / STATUS, status.model_dump_json() + "\n")

    def watch() -> None:
        last, silent = first.now, 0.0
        while not ended.wait(INTERVAL):
            now, silent = display.snapshot(), silent + INTERVAL
            if now != last or silent >= HEARTBEAT:
                write(now)
                last, silent = now, 0.0

    write(first.now)
    watcher = threading.Thread(target=watch, name="run status", daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        ended.set()
        watcher.join()
        write(display.snapshot(), stopped=True)
        raise
    ended.set()
    watcher.join()
    with suppress(OSError):
        (folder / STATUS).unlink(missing_ok=True)


def read_status(folder: Path) -> RunStatus | None:
    """Return the last status of a run's folder; None if there is none, or it cannot be read."""
    path = folder / STATUS
    try:
        return RunStatus.model_validate_json(read(path)) if path.exists() else None
    except (BenchError, ValidationError):
        return None


def is_executed(folder: Path, status: RunStatus) -> bool:
    """Return whether the process that wrote a status still executes the run.

    On this machine a process that no longer exists does not. Elsewhere, and where a number was given to another
    process, a status of long ago makes the lock decide. A recent one is believed, because a look at the lock takes it
    for a moment, and a process that begins just then would find the run held.
    """
    if status.stopped or (status.host == platform.node() and not process_exists(status.pid)):
        return False
    return silence(status) < SILENCE or not _is_free(folder / LOCK)


def silence(status: RunStatus) -> float:
    """Return the age of a status in seconds, by the clock of this machine."""
    return (datetime.now(UTC) - datetime.fromisoformat(status.updated)).total_seconds()


def _is_free(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
