import time

import pytest

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.prepare import prepare
from bench.run.prepare_test import config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.timekeeper import Phase, Timekeeper, clock, duration, ends_at

SHAPE = ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile()
PHASES = [
    Phase("training", ("train",), 0.0),
    Phase("answers", ("sample", "select"), 100.0),
    Phase("answers", ("gate",), 20.0, follows=True),
    Phase("answers", ("evaluation",), 10.0, follows=True),
    Phase("answers", ("inference",), 20.0, follows=True, times=2.0),
]


class Run:
    """A run whose clock a test sets."""

    def __init__(self, monkeypatch, tmp_path, phases=PHASES, prior=None):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.meter, self.journal = Meter(SHAPE), Journal(tmp_path / "journal.jsonl")
        self.keeper = Timekeeper(self.meter, self.journal, phases, lambda work: work.evaluations, prior)

    def step(self, account, evaluations, seconds):
        self.now += seconds
        with self.meter.account(account):
            self.meter.reserve(Work(evaluations=evaluations))
        self.keeper.step()
        return self.keeper.left


@pytest.fixture
def begun(monkeypatch, tmp_path):
    return Run(monkeypatch, tmp_path)


def test_the_first_step_is_a_warm_up_and_five_seconds_of_work_give_an_estimate(begun):
    assert begun.step("sample", 10, 29.0) is None
    assert begun.step("sample", 10, 4.0) is None
    assert begun.step("sample", 10, 4.0) == pytest.approx(0.4 * (70 + 20 + 10 + 20))
    begun.now += 2
    assert begun.keeper.left == pytest.approx(0.4 * 120 - 2)
    assert begun.keeper.measured == 8


def test_a_long_first_step_counts(begun):
    assert begun.step("sample", 10, 40.0) == pytest.approx(4 * 140)


def test_a_calibration_that_was_long_enough_gives_an_estimate_at_once(monkeypatch, tmp_path):
    assert Run(monkeypatch, tmp_path, prior={"answers": 0.5}).keeper.left == pytest.approx(0.5 * 150)


def test_answers_say_nothing_of_training_that_comes_first(monkeypatch, tmp_path):
    phases = [Phase("training", ("train",), 100.0), *PHASES[1:]]
    run = Run(monkeypatch, tmp_path, phases, {"answers": 0.5})
    assert run.keeper.left is None
    assert run.step("train", 10, 40.0) == pytest.approx(90 * 4 + 150 * 0.5)


def test_a_phase_that_has_begun_ends_those_before_it(begun):
    begun.step("sample", 10, 40.0)
    begun.step("gate", 5, 20.0)
    assert begun.keeper.left == pytest.approx(4 * (15 + 10 + 20))


def test_the_artifacts_take_as_much_as_the_base_took(begun):
    begun.step("sample", 10, 40.0)
    begun.step("evaluation", 30, 120.0)
    begun.step("inference", 10, 40.0)
    assert begun.keeper.left == pytest.approx(4 * (2 * 30 - 10))


def test_recalled_steps_are_done_and_took_no_time(monkeypatch, tmp_path):
    first = Run(monkeypatch, tmp_path)
    first.journal.append({"step": 1}, {})
    first.journal.close()
    run = Run(monkeypatch, tmp_path)
    run.journal.recall({"step": 1})
    assert run.step("sample", 60, 0.0) is None
    assert run.step("sample", 10, 40.0) == pytest.approx(4 * (30 + 50))


def test_time_before_a_stage_without_work_is_not_that_of_its_first_step(begun):
    begun.now += 1000
    begun.keeper.begin()
    assert begun.step("sample", 10, 40.0) == pytest.approx(4 * 140)


def test_a_step_without_work_gives_its_time_to_the_next(begun):
    begun.now += 20
    begun.keeper.step()
    assert begun.step("sample", 10, 20.0) == pytest.approx(4 * 140)


def test_times_read_well(monkeypatch):
    assert list(map(duration, (40.2, 119.0, 150.0, 7000.0, 12600.0))) == [
        "40 seconds",
        "119 seconds",
        "2 minutes",
        "117 minutes",
        "3.5 hours",
    ]
    assert list(map(clock, (None, 7.4, 3750))) == ["", "0:07", "1:02:30"]
    noon = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: noon)
    assert (ends_at(6.7 * 3600), ends_at(14.25 * 3600), ends_at(35 * 86400)) == ("18:42", "Nov 30, 02:15", "2027-01-03")
    assert ends_at(1e300).startswith("2977")


class Keeping(ProgressDisplay):
    """Quiet display that keeps the timekeeper of its run."""

    def keep_time(self, timekeeper):
        self.kept = timekeeper
        super().keep_time(timekeeper)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A run, and the timekeeper of its execution."""
    display = Keeping(quiet=True)
    config = RunConfig(method="es", task="addition", model="tiny-adder", dtype="float32", budget="300", limit=20)
    prepared = prepare(config, tmp_path_factory.mktemp("runs"), display)
    assert execute(prepared, display).status == "ok"
    return prepared, display.kept


@pytest.mark.slow
def test_a_run_does_the_work_that_it_was_planned_to_do(executed):
    _, kept = executed
    tuning, training, answers, gate, base, artifact = kept._parts()
    assert (tuning.done, training.done) == (0, 0)
    assert answers.planned == pytest.approx(answers.done, rel=0.1)
    assert 0 < gate.planned <= gate.done
    assert base.planned == pytest.approx(base.done, rel=0.1)
    assert artifact.planned == base.done
    assert artifact.left < 0.1 * artifact.planned


@pytest.mark.slow
def test_a_test_counts_its_answers(executed, tmp_path):
    prepared, _ = executed
    display = Keeping(quiet=True)
    test = prepare_test(config_of_run(prepared.folder, {"limit": 30}), tmp_path, display)
    assert execute(test, display).status == "ok"
    assert [(part.planned, part.left) for part in display.kept._parts()] == [(30, 0), (30, 0)]


@pytest.mark.slow
def test_a_resumed_run_measures_only_what_is_new(executed):
    prepared, kept = executed
    assert kept.measured > 0
    (prepared.folder / "result.json").unlink()
    display = Keeping(quiet=True)
    assert execute(prepared, display).status == "ok"
    assert display.kept.measured == 0
    assert [part.done for part in display.kept._parts()] == [part.done for part in kept._parts()]
