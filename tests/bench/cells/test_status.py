"""Status files of runs, and the states of cells that follow from them."""

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from cell_runs import grid, status
from filelock import FileLock

from bench.cells.batch import Batch, Waiting, waiting
from bench.cells.status import cell_statuses, cells_in
from bench.errors import BenchError
from bench.records.files import write_atomically
from bench.run.progress import ProgressDisplay, Snapshot
from bench.run.status import LOCK, SILENCE, STATUS, is_executed, job_name, read_status, reported


def long_ago():
    return (datetime.now(UTC) - timedelta(seconds=SILENCE + 5)).isoformat(timespec="seconds")


@pytest.fixture(scope="module")
def gone():
    """Number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def folder(tmp_path):
    """A run that has begun."""
    made = tmp_path / "seed-0-12345678"
    (run,) = grid(seeds=[0])
    write_atomically(made / "config.json", run.config.model_dump_json())
    return made


def states(folder):
    (found,) = cell_statuses([folder])
    return found.state


def test_the_status_is_there_while_the_run_is_executed_and_only_then(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "81")
    with reported(tmp_path, ProgressDisplay(quiet=True), lambda: None):
        found = read_status(tmp_path)
        assert (found.pid, found.host, found.job, found.stopped) == (os.getpid(), platform.node(), "slurm 81", False)
        assert is_executed(tmp_path, found)
    assert read_status(tmp_path) is None
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "80")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert job_name() == "slurm 80_3"


def test_the_status_follows_the_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.run.status.INTERVAL", 0.01)
    display = ProgressDisplay(quiet=True)
    with reported(tmp_path, display, lambda: None), display.stage("population", 64) as stage:
        stage.advance(0.25, steps=12)
        until = time.monotonic() + 30
        while read_status(tmp_path).now.steps != "12/64" and time.monotonic() < until:
            time.sleep(0.01)
        assert read_status(tmp_path).now == Snapshot("population", "12/64", 0.25)


def test_an_interrupted_run_leaves_its_last_status(tmp_path):
    with pytest.raises(KeyboardInterrupt), reported(tmp_path, ProgressDisplay(quiet=True), lambda: None):
        raise KeyboardInterrupt
    assert read_status(tmp_path).stopped


def test_a_status_that_cannot_be_written_costs_no_run(tmp_path):
    def check():
        raise BenchError("the folder was removed")

    with reported(tmp_path / "removed", ProgressDisplay(quiet=True), check):
        pass
    assert not (tmp_path / "removed").exists()


def test_a_dead_process_is_not_running(folder, gone):
    write = (folder / STATUS).write_text
    assert states(folder) == "unfinished"
    write(status().model_dump_json())
    assert states(folder) == "running"
    write(status(pid=gone).model_dump_json())
    assert states(folder) == "dead"
    write(status(pid=gone, host="another").model_dump_json())
    assert states(folder) == "running"
    write(status(stopped=True).model_dump_json())
    assert states(folder) == "stopped"
    write("{}")
    assert states(folder) == "unfinished"


@pytest.mark.parametrize("host", [platform.node(), "another"])
def test_the_lock_decides_about_a_status_of_long_ago(folder, host):
    (folder / STATUS).write_text(status(host=host, updated=long_ago()).model_dump_json())
    assert states(folder) == "dead"
    with FileLock(folder / LOCK):
        (found,) = cell_statuses([folder])
    assert found.state == "running"
    assert found.silent > SILENCE
    assert (found.stage, found.steps, found.where) == ("es", "1/3", f"{os.getpid()} on {host}")


def test_an_unreadable_run_says_why(folder):
    (folder / "config.json").write_text("[]")
    (found,) = cell_statuses([folder])
    assert found.state == "unreadable"
    assert "config.json" in found.reason


def test_cells_that_have_not_begun_wait_as_long_as_somebody_may_begin_them(tmp_path, gone):
    batch = Batch.create(tmp_path)
    batch.write("local", ["a", "b"], ["A", "B"], {1: "4711"})
    batch.begin(0, tmp_path / "run")
    assert list(waiting(tmp_path)) == [Waiting("b", "B", "4711", expected=True)]
    assert [(cell.name, cell.state, cell.where) for cell in cells_in([tmp_path])] == [("b", "waiting", "job 4711")]
    path = batch.path / "cells.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": gone}))
    assert list(waiting(tmp_path)) == []
    path.write_text(json.dumps(json.loads(path.read_text()) | {"on": "slurm"}))
    assert list(waiting(tmp_path)) == [Waiting("b", "B", "4711", expected=False)]
    assert [cell.state for cell in cells_in([tmp_path])] == ["submitted"]
    batch.close(keep=True)
    assert batch.path.exists()
    assert list(waiting(tmp_path)) == []
    batch.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_submitted_cell_that_was_made_otherwise_or_again_is_not_shown(tmp_path, gone):
    es, base, other = grid(["es", "base"], [0]) + grid(seeds=[1])
    old, new = (Batch(tmp_path / ".cells" / f"2026010{day}-120000-1") for day in (1, 2))
    for batch, runs in ((old, [es, base, other]), (new, [base])):
        batch.write("slurm", [run.title for run in runs], [run.key for run in runs], {})
        path = batch.path / "cells.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": gone}))
    assert [cell.title for cell in waiting(tmp_path)] == [base.title, es.title, other.title]
    made = es.config.model_copy(update={"method_config": es.settings.model_dump(mode="json")})  # as a run records it
    write_atomically(tmp_path / "seed-0-12345678" / "config.json", made.model_dump_json())
    assert [(cell.name, cell.state) for cell in cells_in([tmp_path]) if cell.folder is None] == [
        (base.title, "submitted"),
        (other.title, "submitted"),
    ]
