"""Jobs of submitit: child processes that die, that are stopped or queued again, and the options of Slurm."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.cells.batch import Batch
from bench.cells.job import Ended
from bench.cells.submitit_jobs import LocalJobs, sbatch_options, shares
from bench.errors import UsageError


@dataclass(frozen=True)
class Cell:
    """Cell that sends its process a signal in its first attempt, or waits to be stopped."""

    number: int
    folder: Path
    send: int | None = None
    cores: tuple[int, ...] = ()

    def __call__(self):
        from bench.cells.job import Ended
        from bench.cells.signals import Stopped, stopping

        marker = self.folder / f"began {self.number}"
        try:
            with stopping():
                if not marker.exists():
                    marker.touch()
                    if self.send == signal.SIGINT:  # wait for the end
                        time.sleep(60)
                    elif self.send is not None:
                        os.kill(os.getpid(), self.send)
                        time.sleep(60)
        except Stopped as stop:
            return Ended(kind="stopped", number=stop.number)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return Ended(reason=f"{len(self.cores)} cores, GPUs {visible!r}, {os.environ['PYTHONSAFEPATH']}")


@dataclass(frozen=True)
class Stubborn:
    """Cell that does not end at a signal, and has started a process."""

    number: int
    folder: Path
    cores: tuple[int, ...] = ()

    def __call__(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
            (self.folder / "half").write_text(f"{os.getpid()} {child.pid}")
            (self.folder / "half").rename(self.folder / "processes")
            time.sleep(600)


@pytest.fixture(scope="module", autouse=True)
def by_value():
    """Let other processes get the cells of this file, which they cannot import."""
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def is_alive(number):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    return False


def ends(jobs, count):
    found = {}
    until = time.monotonic() + 60
    while len(found) < count and time.monotonic() < until:
        time.sleep(0.05)
        found |= jobs.ended()
    return found


@pytest.mark.slow
def test_processes_die_go_back_into_the_queue_and_are_stopped(tmp_path):
    jobs = LocalJobs(Batch(tmp_path), 3, 2)
    assert jobs.room() == 3
    killed, warned = Cell(0, tmp_path, signal.SIGKILL), Cell(1, tmp_path, signal.SIGUSR2)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    names = jobs.submit([killed, warned, Cell(2, tmp_path, signal.SIGINT)])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert (list(names), jobs.room()) == ([0, 1, 2], 0)
    found = ends(jobs, 2)
    cores = len(shares(3, 2)[0][0])
    assert found == {0: None, 1: Ended(reason=f"{cores} cores, GPUs '1', 1")}  # submitit queued the second one again
    jobs.submit([killed])
    assert ends(jobs, 1) == {0: Ended(reason=f"{cores} cores, GPUs '0', 1")}
    while not (tmp_path / "began 2").exists():
        time.sleep(0.05)
    jobs.stop()
    assert jobs.ended() == {2: Ended(kind="stopped", number=signal.SIGTERM)}
    assert jobs.room() == 3


@pytest.mark.slow
def test_a_process_that_does_not_stop_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.cells.submitit_jobs.GRACE", 0.3)
    jobs = LocalJobs(Batch(tmp_path), 1, 0)
    jobs.submit([Stubborn(0, tmp_path)])
    processes = tmp_path / "processes"
    until = time.monotonic() + 60
    while not processes.exists() and time.monotonic() < until:
        time.sleep(0.05)
    jobs.stop()
    assert not any(is_alive(int(number)) for number in processes.read_text().split())
    assert jobs.ended() == {0: None}


def test_places_share_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7}, raising=False)
    assert shares(2, 0) == [((2, 3), None), ((5, 7), None)]
    assert shares(3, 2) == [((2,), 0), ((3,), 1), ((5,), 0)]
    assert shares(1, 1) == [((2, 3, 5, 7), 0)]
    assert [cores for cores, _ in shares(6, 0)] == [(2,), (3,), (5,), (7,), (2,), (3,)]


def test_options_of_sbatch_are_read_by_name():
    assert sbatch_options(["partition=gpu", "--cpus-per-task=4", "gres=gpu:a100:1"]) == {
        "partition": "gpu",
        "cpus_per_task": "4",
        "gres": "gpu:a100:1",
    }
    for text in ("gpu", "=gpu", "partition="):
        with pytest.raises(UsageError, match="expected KEY=VALUE"):
            sbatch_options([text])
    with pytest.raises(UsageError, match="--slurm time=3: give --time-limit"):
        sbatch_options(["time=3"])
    with pytest.raises(UsageError, match="bench sets it"):
        sbatch_options(["array=0-3"])
