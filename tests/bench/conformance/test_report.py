"""Every check finds its defect, and a correct task and all built-in tasks pass."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bench.conformance import CheckResult, TaskReport, check_task
from bench.conformance.report import CHECKS, run_checks
from bench.conformance.session import TaskSession, sample_evenly
from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.registry import BUILT_IN, load_task
from bench.run.data import load_task_data
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
"""Test rows for tasks whose source is not always available."""

SLOW = ("gsm8k", "humaneval", "mbpp", "rg:<generator>")

DEFECTS = [
    ("OrderOfSet", "splits", "the splits differ in another process"),
    ("DifferentOnReload", "splits", "the splits differ when loaded again"),
    ("EmptySplit", "splits", "a split is empty"),
    ("IgnoresFile", "bad data", "broken.jsonl was accepted"),
    ("ErrorWithoutFile", "bad data", "does not name the file"),
    ("CrashesOnFile", "bad data", "raised IndexError"),
    ("EndsWithAssistant", "prompts", ", prompt default"),
    ("NoDefaultFirst", "prompts", "expected 'default' first"),
    ("ChangingPrompt", "prompts", ", prompt please"),
    ("WrongGold", "gold answers", 'which is not right as a reply (read as "4'),
    ("OrderDependentScore", "determinism", "'"),
    ("BatchDependentScore", "determinism", "'"),
    ("RewardsEmpty", "empty answers", "'' has reward 0.1"),
    ("RaisesOnUnicode", "absurd answers", "raised UnicodeEncodeError"),
    ("AcceptsLongText", "absurd answers", "is right"),
    ("AcceptsPrefix", "cut-off answers", "are right: "),
    ("OneVoteForAll", "votes", "as an answer with the other verdict"),
    ("NeverVotes", "votes", "is right and does not vote"),
    ("EmptyVotes", "votes", "'' votes"),
    ("InvertedSignal", "signal", "lower signal than noise"),
    ("SignalOutOfRange", "signal", "has signal 7"),
    ("LeaksAnswer", "leaks", "100% of prompts contain their own answer, 0% another's"),
    ("AcceptsPrompt", "leaks", "scored as answers, 100% of prompts are right for their own example, 0% for another"),
    ("RepeatsQuestions", "contamination", "pairs of equal questions are in two splits (support and "),
]


@pytest.fixture(autouse=True)
def _make_faulty_tasks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def run_check(name: str, check: str) -> CheckResult:
    """Run one check on one task, as `check_task` does."""
    name = f"faulty_tasks:{name}"
    task = load_task(name)
    splits = task.load()
    session = TaskSession(name, task, None, splits, sample_evenly(splits, 40))
    (finding,) = run_checks({check: CHECKS[check]}, session, lambda _: None)
    return finding


@pytest.mark.parametrize(("name", "check", "detail"), DEFECTS)
def test_each_defect_is_found_by_its_check(name: str, check: str, detail: str) -> None:
    finding = run_check(name, check)
    assert finding.passed is False
    assert detail in finding.detail


def test_near_duplicates_are_counted_by_pair_of_splits_and_do_not_fail() -> None:
    finding = run_check("NearlyRepeats", "contamination")
    assert finding.passed
    assert "0 pairs of equal questions are in two splits; 20 pairs of near duplicates are (" in finding.detail
    assert ", such as " in finding.detail


def test_every_check_is_tested_with_a_defect() -> None:
    assert {check for _, check, _ in DEFECTS} == set(CHECKS)


def test_a_correct_task_passes_every_check() -> None:
    report = check_task("faulty_tasks:Sound", load_task("faulty_tasks:Sound"))
    assert [f for f in report.findings if not f.passed] == []
    assert [f.check for f in report.findings] == list(CHECKS)
    assert report.passed
    assert report.splits == {"support": 20, "select": 10, "gate": 10, "test": 20}
    assert report == check_task("faulty_tasks:Sound", load_task("faulty_tasks:Sound"))


def test_checks_of_missing_optional_parts_do_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("faulty_tasks:Sound")
    monkeypatch.setattr(type(task), "gold", lambda *_: None)
    monkeypatch.setattr(type(task), "vote_by", None)
    monkeypatch.setattr(type(task), "signal_by", None)
    report = check_task("faulty_tasks:Sound", task, examined=4)
    not_applicable = {f.check for f in report.findings if f.passed is None}
    assert not_applicable == {"gold answers", "cut-off answers", "votes", "signal", "leaks"}
    assert report.passed


def test_a_report_passes_unless_a_check_failed() -> None:
    def make_report(*passed: bool | None) -> TaskReport:
        return TaskReport("t", "1", "0", {}, 1, tuple(CheckResult("c", p, "") for p in passed))

    assert make_report(True, None).passed
    assert not make_report(True, False).passed
    assert asdict(make_report(True))["findings"] == ({"check": "c", "passed": True, "detail": ""},)


def test_unavailable_data_are_an_error_and_not_a_finding() -> None:
    with pytest.raises(BenchError, match="registration"):
        check_task("rocstories", load_task("rocstories"))


def test_examples_are_drawn_evenly_from_all_splits() -> None:
    parts = [
        tuple(Example(f"{name}{n}", {}) for n in range(size)) for name, size in zip(SPLITS, (5, 1, 3, 9), strict=True)
    ]
    drawn = [e.id for e in sample_evenly(Splits(*parts), 8)]
    assert drawn == ["support0", "select0", "gate0", "test0", "support1", "gate1", "test1", "support2"]
    assert len(sample_evenly(Splits(*parts), 100)) == 18


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BUILT_IN["task"]]
)
def test_built_in_tasks_pass(name: str) -> None:
    data = ROWS / DATA[name] if name in DATA else None
    name = name.replace("<generator>", "chain_sum")
    report = check_task(name, load_task(name), data, examined=12)
    assert [f for f in report.findings if f.passed is False] == []


def test_all_reference_answers_of_a_file_are_judged_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    rows = [f'{{"unique_id": "{n}", "problem": "p{n}", "answer": "{n}"}}\n' for n in range(30)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(rows))
    load_task_data(RunConfig(task="math500", data=str(data), model="tiny-adder"))
    assert list((tmp_path / "cache" / "golds").iterdir())
    task = load_task("math500")
    monkeypatch.setattr(type(task), "gold", lambda self, e: "x" if e.id == "17" else rf"\boxed{{{e.fields['answer']}}}")
    splits = task.load(data)
    session = TaskSession("math500", task, data, splits, sample_evenly(splits, 2))
    (finding,) = run_checks({"gold answers": CHECKS["gold answers"]}, session, lambda _: None)
    assert finding.passed is False
    assert finding.detail.startswith(f"{data}, line 18: field 'answer' is \"17\", which is not right as a reply")
