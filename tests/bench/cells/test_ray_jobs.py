"""Cells as tasks of Ray: workers that die, tasks that fail, and tasks that are stopped."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.cells.job import Ended
from bench.cells.ray_jobs import RayJobs, execute
from bench.errors import UsageError


@dataclass(frozen=True)
class Cell:
    """Cell that kills its process in its first attempt, fails, or waits until it is stopped."""

    number: int
    folder: Path
    does: str

    def __call__(self):
        from bench.cells.job import Ended

        marker = self.folder / f"began {self.number}"
        if not marker.exists():
            (self.folder / f"half {self.number}").write_text(str(os.getpid()))
            (self.folder / f"half {self.number}").rename(marker)
            if self.does == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
        while self.does == "stays":
            with suppress(KeyboardInterrupt):
                time.sleep(0.05)
        if self.does == "fails":
            raise ZeroDivisionError("division by zero")
        try:
            for _ in range(1200 if self.does == "waits" else 0):
                time.sleep(0.05)
        except KeyboardInterrupt:
            return Ended(kind="stopped", reason="stopped by SIGINT")
        return Ended(reason=self.does)


def ends(jobs, count):
    found = {}
    until = time.monotonic() + 120
    while len(found) < count and time.monotonic() < until:
        found |= jobs.ended()
    return found


def test_a_task_returns_how_its_cell_ended(tmp_path):
    assert execute(Cell(0, tmp_path, "ends")) == Ended(reason="ends")


@pytest.mark.slow
def test_tasks_die_fail_and_are_stopped(tmp_path, capsys, monkeypatch):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    before = signal.getsignal(signal.SIGTERM)
    jobs = RayJobs(None, 2, 1, gpu=False)
    try:
        assert signal.getsignal(signal.SIGTERM) == before
        dies, fails, waits = (Cell(number, tmp_path, does) for number, does in enumerate(("dies", "fails", "waits")))
        jobs.submit([dies, fails])
        assert jobs.room() == 0
        assert ends(jobs, 2) == {
            0: None,
            1: Ended(kind="failed", reason="its task failed: division by zero"),
        }
        jobs.submit([dies])
        assert ends(jobs, 1) == {0: Ended(reason="dies")}
        jobs.submit([waits])
        while not (tmp_path / "began 2").exists():
            time.sleep(0.05)
        jobs.stop()
        (stopped,) = ends(jobs, 1).values()
        assert stopped.kind == "stopped"
        monkeypatch.setattr("bench.cells.ray_jobs.GRACE", 1.0)
        jobs.submit([Cell(3, tmp_path, "stays")])
        while not (tmp_path / "began 3").exists():
            time.sleep(0.05)
        jobs.stop()
        assert [each.kind for each in ends(jobs, 1).values()] == ["stopped"]
        process, until = int((tmp_path / "began 3").read_text()), time.monotonic() + 20
        while psutil.pid_exists(process) and time.monotonic() < until:
            time.sleep(0.05)
        assert not psutil.pid_exists(process)
        with pytest.raises(UsageError, match="--engines 4096: a cell takes a core for each"):
            RayJobs(None, None, 4096, gpu=False)
    finally:
        jobs.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert not ray.is_initialized()
    assert capsys.readouterr().out == ""  # Ray says there that a worker died
