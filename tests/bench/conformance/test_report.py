"""Every check finds the defect that it is for, a sound task has none, and our own tasks are sound."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bench.conformance import CheckResult, TaskReport, check_task
from bench.conformance.report import CHECKS, run_checks
from bench.conformance.session import TaskSession, spread
from bench.errors import BenchError
from bench.registry import BUILT_IN, load_task
from tasks.interface import SPLITS, Example, Splits

HERE = Path(__file__).parent
ROWS = HERE.parents[1] / "tasks" / "data"
DATA = {
    "gsm8k": "gsm8k.jsonl",
    "jsonl": "jsonl.jsonl",
    "math500": "problems.jsonl",
    "mbpp": "mbpp.jsonl",
    "olympiadbench": "problems.jsonl",
    "rocstories": "rocstories.jsonl",
    "uspto50k": "uspto50k.jsonl",
}
"""Rows that we wrote ourselves, for tasks without a source that is always there."""

DEFECTS = [
    ("Unsettled", "splits", "another process gets others"),
    ("Wandering", "splits", "loaded again, they are others"),
    ("Empty", "splits", "one is empty"),
    ("Deaf", "bad data", "broken.jsonl was accepted"),
    ("Vague", "bad data", "does not name the file"),
    ("Crashing", "bad data", "raised IndexError"),
    ("Monologue", "prompts", "in default"),
    ("Unnamed", "prompts", "expected 'default' first"),
    ("Fickle", "prompts", "in please"),
    ("Mistaken", "gold answers", ": 4"),
    ("Moody", "determinism", "'"),
    ("Sociable", "determinism", "'"),
    ("Generous", "empty answers", "'' is worth 0.1"),
    ("Fragile", "absurd answers", "raised UnicodeEncodeError"),
    ("Credulous", "absurd answers", "is right"),
    ("Hasty", "cut-off answers", "are right: "),
    ("Unanimous", "votes", "of an answer with another verdict"),
    ("Abstaining", "votes", "is right and does not vote"),
    ("Noisy", "votes", "'' votes"),
    ("Backwards", "signal", "less than noise"),
    ("Boundless", "signal", "has 7"),
    ("Leaky", "leaks", "the answer stands in 100% of its own prompts, 0% of others"),
    ("Echoing", "leaks", "given as answers, 100% of prompts are right for their own question, 0% for another"),
    ("Repeating", "contamination", "of 20 test questions, "),
]


@pytest.fixture(autouse=True)
def _candidates_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def found(name: str, check: str) -> CheckResult:
    """What one check finds on one candidate, found as `check_task` does."""
    name = f"faulty_tasks:{name}"
    task = load_task(name)
    splits = task.load()
    session = TaskSession(name, task, None, splits, spread(splits, 40))
    (finding,) = run_checks({check: CHECKS[check]}, session, lambda _: None)
    return finding


@pytest.mark.parametrize(("name", "check", "detail"), DEFECTS)
def test_a_defect_is_found_by_the_check_that_is_for_it(name: str, check: str, detail: str) -> None:
    finding = found(name, check)
    assert finding.passed is False
    assert detail in finding.detail


def test_every_check_has_a_defect_that_it_finds() -> None:
    assert {check for _, check, _ in DEFECTS} == set(CHECKS)


def test_a_sound_task_passes_every_check() -> None:
    certificate = check_task("faulty_tasks:Sound", load_task("faulty_tasks:Sound"))
    assert [f for f in certificate.findings if not f.passed] == []
    assert [f.check for f in certificate.findings] == list(CHECKS)
    assert certificate.passed
    assert certificate.splits == {"support": 20, "select": 10, "gate": 10, "test": 20}
    assert certificate == check_task("faulty_tasks:Sound", load_task("faulty_tasks:Sound"))


def test_a_task_without_gold_votes_or_signal_is_not_failed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("faulty_tasks:Sound")
    monkeypatch.setattr(type(task), "gold", lambda *_: None)
    monkeypatch.setattr(type(task), "vote_by", None)
    monkeypatch.setattr(type(task), "signal_by", None)
    certificate = check_task("faulty_tasks:Sound", task, examined=4)
    unexamined = {f.check for f in certificate.findings if f.passed is None}
    assert unexamined == {"gold answers", "cut-off answers", "votes", "signal", "leaks"}
    assert certificate.passed


def test_one_failure_fails_the_exam_and_nothing_to_examine_does_not() -> None:
    def certificate(*passed: bool | None) -> TaskReport:
        return TaskReport("t", "1", "0", {}, 1, tuple(CheckResult("c", p, "") for p in passed))

    assert certificate(True, None).passed
    assert not certificate(True, False).passed
    assert asdict(certificate(True))["findings"] == ({"check": "c", "passed": True, "detail": ""},)


def test_data_that_cannot_be_had_is_an_error_and_no_finding() -> None:
    with pytest.raises(BenchError, match="registration"):
        check_task("rocstories", load_task("rocstories"))


def test_examples_are_drawn_from_all_splits_alike() -> None:
    parts = [
        tuple(Example(f"{name}{n}", {}) for n in range(size)) for name, size in zip(SPLITS, (5, 1, 3, 9), strict=True)
    ]
    drawn = [e.id for e in spread(Splits(*parts), 8)]
    assert drawn == ["support0", "select0", "gate0", "test0", "support1", "gate1", "test1", "support2"]
    assert len(spread(Splits(*parts), 100)) == 18


@pytest.mark.parametrize("name", BUILT_IN["task"])
def test_our_own_tasks_pass(name: str) -> None:
    data = ROWS / DATA[name] if name in DATA else None
    name = name.replace("<generator>", "chain_sum")
    certificate = check_task(name, load_task(name), data, examined=12)
    assert [f for f in certificate.findings if f.passed is False] == []
