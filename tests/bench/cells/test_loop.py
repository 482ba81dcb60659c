"""Grids whose cells are jobs: results as in one process, dead workers, interruptions."""

import logging
import time
from collections import Counter

import pytest
from cell_runs import grid, records

from bench.cells.batch import Batch
from bench.cells.job import Ended
from bench.cells.loop import TRIES, CellLoop, CellsGoOn
from bench.cells.submitit_jobs import SubmititJobs
from bench.engines.placement import Engines
from bench.records.schema import find_runs
from bench.run.grid import run_grid
from bench.run.progress import ProgressDisplay


class Mortal:
    """Place whose workers die so often before they begin, by cell. It then executes the cells here."""

    name = "local"
    outlive = False

    def __init__(self, deaths):
        self.deaths, self.waiting = Counter(deaths), {}

    def room(self):
        return 1 - len(self.waiting)

    def submit(self, cells):
        self.waiting |= {cell.number: cell for cell in cells}
        return {cell.number: f"job {cell.number}" for cell in cells}

    def ended(self):
        found = {}
        for number in list(self.waiting):
            cell = self.waiting.pop(number)
            self.deaths[number] -= 1
            found[number] = None if self.deaths[number] >= 0 else cell()
        return found

    def log(self, number):
        return None

    def stop(self):
        self.waiting.clear()

    def close(self):
        pass


class Interrupted(Mortal):
    """Place during whose work Ctrl-C is pressed."""

    def ended(self):
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr("bench.cells.loop.INTERVAL", 0.01)


class Noting(Mortal):
    """Place that notes the trackers of each cell."""

    def __init__(self):
        super().__init__({})
        self.track = []

    def submit(self, cells):
        self.track += [cell.track for cell in cells]
        return super().submit(cells)


def loop(runs, output, jobs, told=None, batch=None, track=()):
    ended = []
    made = CellLoop(
        runs,
        output,
        batch or Batch.create(output),
        jobs,
        Engines(),
        lambda number, progress: ProgressDisplay(quiet=True),
        lambda number, outcome: ended.append((number, outcome.state)),
        ([] if told is None else told).append,
        track,
    )
    return made, ended


def test_submitits_debug_executor_makes_the_records_of_one_process(tmp_path):
    submitit = pytest.importorskip("submitit")
    runs = grid(["base", "es"], seeds=[0])
    batch = Batch.create(tmp_path / "jobs")
    jobs = SubmititJobs(submitit.DebugExecutor(batch.path / "jobs"))
    made, ended = loop(runs, tmp_path / "jobs", jobs, batch=batch)
    assert [outcome.state for outcome in made.run()] == ["done", "done"]
    assert "submitit_out" not in [handler.name for handler in logging.getLogger("submitit").handlers]
    run_grid(runs, tmp_path / "here", lambda _: ProgressDisplay(quiet=True), lambda *_: None)
    assert records(tmp_path / "jobs") == records(tmp_path / "here")
    assert ended == [(0, "done"), (1, "done")]
    assert not (tmp_path / "jobs" / ".cells").exists()


def test_a_cell_whose_worker_dies_is_tried_again_and_one_that_always_dies_fails(tmp_path):
    told = []
    runs = grid(seeds=[0, 1])
    made, _ = loop(runs, tmp_path, Mortal({0: TRIES - 1, 1: TRIES}), told)
    done, failed = made.run()
    assert (done.state, failed.state) == ("done", "failed")
    assert failed.reason == f"its worker died {TRIES} times"
    assert told == [
        f"{runs[seed].title}: its worker died; it goes on in try {attempt} of {TRIES}"
        for seed in (0, 1)
        for attempt in (2, 3)
    ]
    assert len(find_runs(tmp_path)) == 1
    (kept,) = (tmp_path / ".cells").iterdir()  # with the logs of the workers
    assert not (kept / "cells.json").exists()


@pytest.mark.slow
def test_a_tracker_that_hangs_is_left_out_of_later_cells(tmp_path, monkeypatch, capsys):
    (tmp_path / "hanging.py").write_text("import time\n\n\ndef hangs():\n    time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("bench.track.live.LIMIT", 0.1)
    jobs = Noting()
    made, _ = loop(grid(seeds=[0, 1]), tmp_path / "runs", jobs, track=("hanging:hangs",))
    assert [outcome.state for outcome in made.run()] == ["done", "done"]
    assert jobs.track == [("hanging:hangs",), ()]
    assert capsys.readouterr().err.count("it did not end in time, and was stopped") == 1


def test_an_interruption_stops_the_jobs_and_keeps_those_of_slurm(tmp_path):
    jobs = Interrupted({})
    made, _ = loop(grid(), tmp_path, jobs)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert jobs.waiting == {}
    assert not (tmp_path / ".cells").exists()
    jobs = Interrupted({})
    jobs.outlive = True
    made, _ = loop(grid(), tmp_path, jobs)
    with pytest.raises(CellsGoOn) as stop:
        made.run()
    assert stop.value.jobs == ("job 0",)
    assert len(jobs.waiting) == 1
    assert len(list((tmp_path / ".cells").iterdir())) == 1


def test_warnings_of_a_job_reach_the_display_of_its_cell(tmp_path, capsys):
    class Warns(Mortal):
        def ended(self):
            found = dict.fromkeys(self.waiting, Ended(str(tmp_path), kind="refused", warnings=("a tracker failed",)))
            self.waiting.clear()
            return found

    made, _ = loop(grid(seeds=[0]), tmp_path, Warns({}), told := [])
    assert made.run()[0].state == "refused"
    assert (told, capsys.readouterr().err) == ([], "a tracker failed\n")


def test_the_same_cell_twice_is_executed_once(tmp_path):
    made, ended = loop(grid(seeds=[0, 0]), tmp_path, Mortal({}))
    began = time.time()
    assert [outcome.state for outcome in made.run()] == ["done", "done before"]
    assert ended == [(0, "done"), (1, "done before")]
    assert time.time() - began < 60
