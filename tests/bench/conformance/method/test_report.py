"""Every check finds its defect and no other, and all built-in methods pass."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.conformance.method import MethodReport, check_method
from bench.conformance.method.checks import check_refusals
from bench.conformance.method.report import CHECKS
from bench.conformance.method.session import MethodSession
from bench.errors import Refused, UsageError
from bench.registry import BUILT_IN, load_method

HERE = Path(__file__).parent

DEFECTS = [
    ("Crashing", "end", "ZeroDivisionError: on purpose"),
    ("UnseededNoise", "same seed", "different "),
    ("IgnoresSeed", "other seed", "both seeds give the same result"),
    ("FailsOnOtherSeed", "other seed", "with seed 1 ended with status failed: ZeroDivisionError: on purpose"),
    ("IgnoresStop", "budget", "256: stopped at its budget: the method continued after it was stopped"),
    ("IgnoresAllowance", "budget", "1: stopped at its budget"),
    (
        "RaisesLimit",
        "budget",
        "1: stopped at its budget: the method continued after it was stopped, or bypassed the meter",
    ),
    ("EvaluatesOnTest", "test unseen", "evaluated on the split 'test'"),
    ("BypassesContext", "test unseen", "generated an answer to a test prompt"),
    ("LoadsData", "test unseen", "loaded the task's data"),
    ("TrainsOnGate", "test unseen", "trained on a prompt outside the support split"),
    ("LoadsAnotherModel", "artifact", "answers differ"),
    ("UnmeteredModel", "ledger", "3 tokens went through an unmetered model"),
    ("UnmeteredTraining", "ledger", "training: 0 tokens booked, 3 observed"),
    ("RefusesWithoutReason", "refusals", "without a select split is refused without a reason"),
    ("ClaimsSupport", "refusals", "not refused, and the run failed: ValueError"),
    ("PlansTooMuch", "refusals", "the plan for a budget of 1 spends 2"),
    ("AcceptsAnySetting", "refusals", "a setting that does not exist is accepted"),
    ("KeepsOwnState", "resume", "the resumed run ended with status failed"),
    ("UnseededVariant", "variants", "{'noisy': True}: different "),
    ("ChangesBase", "weights", "the digest of the base changed"),
]

QUICK = [name for name, check, _ in DEFECTS if check in ("end", "test unseen")][:2]
"""Methods whose first run fails. Most checks need a finished run and skip them, so these take about a second."""

TRAINED = {"lr": 1e-3}
SETTINGS: dict[str, dict[str, Any]] = {
    "corp": {"sigmas": [0.003], "smallest_population": 3},
    "cat": TRAINED,
    "dump": TRAINED,
    "drpt": {**TRAINED, "general": str(HERE / "general.jsonl")},
    "expert-iteration": TRAINED,
    "grpo": TRAINED,
    "pcl": TRAINED,
    "ppo": TRAINED,
    "riskpo": TRAINED,
    "vcpo": TRAINED,
}
"""Settings with which a small budget yields a model that differs from the base, so that its answers can be compared."""
ALIKE = {
    *("cat", "dump", "f-tis", "kdrl", "pcl", "prefix-rft", "riskpo", "vcpo", "vpo"),  # GRPO's
    *("drpt", "expert-iteration"),  # that of SFT
}
"""Methods that train through the trainer of another method, whose checks always run."""
LONG = pytest.mark.skipif("BENCH_ALL_METHODS" not in os.environ, reason="minutes; set BENCH_ALL_METHODS=1")


@pytest.fixture(autouse=True)
def _make_faulty_methods_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def check_faulty(name: str) -> MethodReport:
    return check_method(f"faulty_methods:{name}")


def failed(report: MethodReport) -> dict[str, str]:
    return {finding.check: finding.detail for finding in report.findings if finding.passed is False}


@pytest.mark.parametrize(
    ("name", "check", "detail"),
    [defect if defect[0] in QUICK else pytest.param(*defect, marks=pytest.mark.slow) for defect in DEFECTS],
)
def test_each_defect_is_found_by_its_check_only(name: str, check: str, detail: str) -> None:
    found = failed(check_faulty(name))
    assert set(found) == {check}
    assert detail in found[check]


@pytest.mark.slow
def test_an_unknown_setting_is_detected_next_to_a_required_one() -> None:
    report = check_method("faulty_methods:RequiredSetting", {"sigma": 0.01})
    assert failed(report) == {"refusals": "a setting that does not exist is accepted"}


@pytest.mark.slow
def test_a_method_that_trains_and_does_not_say_so_is_detected(tmp_path: Path) -> None:
    passed, detail = check_refusals(MethodSession("faulty_methods:TrainsUnannounced", {}, 64, tmp_path))
    assert not passed
    assert detail.startswith("it trains by gradients and has trains = False")


def test_every_check_is_tested_with_a_defect() -> None:
    assert {check for _, check, _ in DEFECTS} == set(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Sound", "CustomArtifact"])
def test_a_correct_method_passes_every_check(name: str) -> None:
    report = check_faulty(name)
    assert failed(report) == {}
    assert [f.check for f in report.findings if f.passed is None] == ["variants"]  # it names none
    assert [f.check for f in report.findings] == list(CHECKS)
    assert (report.passed, report.version, report.budget) == (True, "1", 256)


@pytest.mark.slow
def test_a_method_without_randomness_passes() -> None:
    report = check_faulty("NoRandomness")
    assert [f.check for f in report.findings if f.passed is not True] == ["other seed", "variants"]
    assert report.passed
    (artifact,) = (f.detail for f in report.findings if f.check == "artifact")
    assert artifact == "1 loaded, same 24 answers each (the base's answers)"


@pytest.mark.slow
def test_a_budget_refused_during_the_run_is_reported() -> None:
    report = check_faulty("RefusesMidway")
    assert report.passed
    (budget,) = (f.detail for f in report.findings if f.check == "budget")
    assert budget.endswith("1: refused; 131: refused")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG if name in ALIKE else ()) for name in BUILT_IN["method"]]
)
def test_built_in_methods_pass(name: str) -> None:
    report = check_method(name, SETTINGS.get(name))
    assert failed(report) == {}
    by_check = {f.check: f for f in report.findings}
    deterministic = name in ("base", "prompt-search")
    assert ("changed" in by_check["end"].detail) != (deterministic or name == "landscape")
    skipped = (["other seed"] if deterministic else []) + ([] if load_method(name).variants else ["variants"])
    assert [f.check for f in report.findings if f.passed is None] == skipped
    assert "killed at step" in by_check["resume"].detail


@pytest.mark.parametrize(
    ("name", "settings", "budget", "error", "message"),
    [
        ("crop", {}, 256, UsageError, "did you mean 'corp'"),
        ("corp", {"sigma": 1}, 256, UsageError, "sigma: unknown field"),
        ("corp", {}, 20, Refused, "give it 76 or more"),
    ],
)
def test_a_method_that_cannot_be_checked_is_an_error(
    name: str, settings: dict[str, Any], budget: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_method(name, settings, budget=budget)
