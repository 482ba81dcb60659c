"""One cell as a job: it ends as a run of a grid does, and goes on after a warning."""

import signal
from dataclasses import replace

import pytest
from cell_runs import Warned, grid, records
from filelock import FileLock

from bench.cells.batch import Batch
from bench.cells.job import CellJob, Ended, NotingDisplay
from bench.cells.status import cells_in
from bench.cells.submitit_jobs import Requeued
from bench.engines.placement import Engines
from bench.errors import Refused
from bench.records.schema import find_runs
from bench.run.progress import Snapshot
from bench.run.runner import Held
from bench.run.status import read_status

WARNED = f"{Warned.__module__}:{Warned.__name__}"


def job(run, output):
    batch = Batch.create(output)
    batch.write("local", [run.title], [run.key], {})
    return CellJob(0, run, output, batch, Engines())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that SIGUSR1 stopped, and the same run unbroken."""
    root = tmp_path_factory.mktemp("stopped")
    (run,) = grid([WARNED], seeds=[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARNED", str(root / "warned"))
        cell = job(run, root / "broken")
        first = cell()
        (folder,) = find_runs(root / "broken")
        status, states = read_status(folder), [each.state for each in cells_in([root / "broken"])]
        second = cell()
        unbroken = job(run, root / "unbroken")()
    return root, first, status, states, second, unbroken


def test_a_warning_leaves_a_run_that_goes_on(stopped):
    root, first, status, states, second, unbroken = stopped
    assert (first.kind, first.number) == ("stopped", signal.SIGUSR1)
    assert first.reason == "stopped by SIGUSR1; all finished work is saved"
    outcome = first.outcome(grid([WARNED], seeds=[0])[0])
    assert (outcome.state, outcome.exit_code) == ("stopped", 1)
    assert status.stopped
    assert states == ["stopped"]
    assert (second.kind, second.cached) == (None, False)
    assert unbroken.outcome(grid(seeds=[0])[0]).state == "done"
    assert read_status(find_runs(root / "broken")[0]) is None


def test_a_run_that_goes_on_equals_an_unbroken_one(stopped):
    root = stopped[0]
    assert records(root / "broken") == records(root / "unbroken")


def test_the_ends_of_a_job_are_those_of_a_run(tmp_path):
    (run,) = grid(seeds=[0])
    cell = job(run, tmp_path)
    first = replace(cell, track=("no_module:Own",))()
    assert first.outcome(run).state == "done"
    assert "tracker no_module:Own failed" in first.warnings[0]
    again = cell()
    assert again.outcome(run).state == "done before"
    (folder,) = find_runs(tmp_path)
    (folder / "result.json").unlink()
    with FileLock(folder / ".lock"):
        held = cell()
    assert held.kind == "held"
    assert isinstance(held.outcome(run).error, Held)
    lost = Ended(str(folder)).outcome(run)
    assert lost.state == "failed"
    assert "has not finished" in lost.reason


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    (run,) = grid(seeds=[0])
    cell = CellJob(0, run, tmp_path, Batch.create(tmp_path), Engines())
    ended = cell()
    assert ended.kind == "refused"
    assert "does not see this folder; give an --output on a file system that all workers share" in ended.reason
    assert isinstance(ended.outcome(run).error, Refused)


def test_a_stopped_job_lets_submitit_do_what_it_does_at_that_signal():
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: seen.append(number))
    try:
        assert Requeued(lambda: Ended(kind="stopped", number=signal.SIGUSR2))().number == signal.SIGUSR2
        Requeued(lambda: Ended(kind="stopped", number=signal.SIGUSR1))()
        Requeued(Ended)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [signal.SIGUSR2]


def test_a_display_of_another_process_hands_on_notes_and_shows_its_progress():
    notes = []
    display = NotingDisplay(notes.append, lambda: Snapshot(stage="population"))
    display.note("a fact")
    display.say("no fact")
    assert notes == ["a fact"]
    assert display.snapshot().stage == "population"
