"""Checks on runs that are written by hand. test_report.py runs them on methods with defects."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.compute.ledger import Work
from bench.conformance.method import checks
from bench.conformance.method.instrument import Instrument
from bench.conformance.method.session import MethodSession
from bench.records.schema import AccountRow, BudgetInfo

WORK = Work(evaluations=2, prefill_tokens=14, decode_tokens=4, padded_tokens=18, head_tokens=6)


def observed(status: str = "ok", *, spent: int = 70, work: Work = WORK, **outcome: Any) -> Any:
    """Run that booked WORK for 70 FLOPs, and whose engine was seen to compute `work`."""
    info = BudgetInfo(name="10", evaluations=10, evaluation_flops=10.0, flops=100, planned={}, spent=spent)
    result = SimpleNamespace(
        status=status,
        reason="a reason",
        traceback=None,
        budget=info,
        ledger={"sample": AccountRow(work=WORK, flops=70, hardware_flops=80)},
        artifacts=[SimpleNamespace(label="", changed=True)],
    )
    instrument = Instrument(work=work, embedded_tokens=work.padded_tokens, adapted=(1, 9), weights=("a" * 64, "a" * 64))
    return SimpleNamespace(result=result, instrument=instrument, outcome={"id": "x", "artifact": 1} | outcome)


def session(reference: Any, **rest: Any) -> MethodSession:
    return cast(MethodSession, SimpleNamespace(reference=reference, budget=10, **rest))


def test_end_reports_how_the_run_ended() -> None:
    assert checks.check_end(session(observed())) == (True, "artifact changed")
    assert checks.check_end(session(observed("failed"))) == (False, "failed: a reason")
    assert checks.check_end(session(observed("over_budget")))[0] is None


def test_same_seed_compares_everything_two_runs_share() -> None:
    assert checks.check_same_seed(session(observed(), repeated=observed()))[0] is True
    other = observed(artifact=2)
    assert checks.check_same_seed(session(observed(), repeated=other)) == (False, "different artifact")
    assert checks.check_same_seed(session(observed("failed")))[0] is None


def test_other_seed_must_differ_in_more_than_the_configuration() -> None:
    run = observed()
    assert checks.check_other_seed(session(run))[0] is None
    run.instrument.used_randomness = True
    same, different = observed(id="y"), observed(id="y", artifact=2)
    assert checks.check_other_seed(session(run, run=lambda name, seed: same))[0] is False
    assert checks.check_other_seed(session(run, run=lambda name, seed: different)) == (True, "different artifact")


def test_budget_counts_what_the_engine_computed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, budget: int) -> Any:
        return observed("refused")

    monkeypatch.setattr(checks, "_computed", lambda run: run.instrument.steps)
    run = observed()
    assert checks.check_budget(session(run, run=refuse)) == (True, "10: 70.0% spent; 1: refused; 131: refused")
    run.instrument.steps = 120
    assert checks.check_budget(session(run, run=refuse)) == (False, "10: 120.0% spent")
    failed = observed("failed")
    assert checks.check_budget(session(observed(), run=lambda name, budget: failed))[1] == "1: a reason; 131: a reason"


def test_test_quotes_the_first_violation() -> None:
    run = observed()
    assert checks.check_test(session(run)) == (True, "8 steps of computation, none on a test prompt")
    run.instrument.violations.append("evaluated on the split 'test'")
    assert checks.check_test(session(run)) == (False, "the method evaluated on the split 'test'")


def test_ledger_compares_the_booked_with_the_observed_work() -> None:
    assert checks.check_ledger(session(observed()))[0] is True
    passed, detail = checks.check_ledger(session(observed(spent=60)))
    assert (passed, detail) == (False, "the accounts sum to 70 FLOPs, but 60 are recorded as spent")
    more = WORK.model_copy(update={"decode_tokens": 5})
    assert checks.check_ledger(session(observed(work=more))) == (False, "decode_tokens: 4 booked, 5 observed")
    run = observed()
    run.instrument.embedded_tokens += 3
    assert checks.check_ledger(session(run)) == (False, "3 tokens went through an unmetered model")


def test_weights_must_be_the_same_in_memory_and_on_disk() -> None:
    files = {"model.safetensors": "1"}
    assert checks.check_weights(session(observed(), model_files=files, hashed_model=lambda: files))[0] is True
    changed = session(observed(), model_files=files, hashed_model=lambda: {"model.safetensors": "2"})
    assert checks.check_weights(changed) == (False, "the model's files changed")
    run = observed()
    run.instrument.weights = ("a" * 64, "b" * 64)
    passed, detail = checks.check_weights(session(run, model_files=files, hashed_model=lambda: files))
    assert (passed, detail) == (False, "the digest of the base changed from aaaaaaaaaaaa to bbbbbbbbbbbb")


@pytest.mark.parametrize("end", ["ok", "refused", "failed"])
def test_a_method_that_trains_is_also_tried_in_bfloat16_with_batches_of_several_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    trained = observed()
    trained.result.ledger["train"] = AccountRow(work=Work(backward_passes=1), flops=1, hardware_flops=1)
    seen = []

    def check(again: MethodSession) -> Any:
        seen.append((dict(again.settings), dict(again.options)))
        return (None, "unfinished") if again.options and end == "failed" else (True, "")

    def reference(self: MethodSession) -> Any:
        return observed(end) if self.options else trained

    monkeypatch.setattr(MethodSession, "reference", property(reference))
    variants = ({"rank": 2}, {"on": "sft"})
    monkeypatch.setattr(MethodSession, "method", lambda self: SimpleNamespace(variants=variants))
    monkeypatch.setattr(checks, "_resumes", check)
    monkeypatch.setattr(checks, "check_end", check)  # for a run that has not completed
    monkeypatch.setattr(checks, "check_same_seed", lambda _: (True, ""))
    passed, detail = checks.check_variants(MethodSession("m", {"lr": 1}, 10, tmp_path))
    plain = [({"lr": 1, **variant}, {}) for variant in variants]
    tried = [({"lr": 1, "rank": 2}, {"dtype": "bfloat16", "batch_size": 4})]
    assert seen == plain + ([] if end == "refused" else tried)
    assert passed == (end != "failed")
    assert ("'dtype': 'bfloat16', 'batch_size': 4}: unfinished" in detail) == (end == "failed")
