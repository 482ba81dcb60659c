"""Every check finds the defect that it is for and no other one, and our own methods pass them all."""

from pathlib import Path
from typing import Any

import pytest

from bench.conformance.method import MethodReport, check_method
from bench.conformance.method.report import CHECKS
from bench.errors import Refused, UsageError
from bench.registry import BUILT_IN

HERE = Path(__file__).parent

DEFECTS = [
    ("Crashing", "end", "ZeroDivisionError: on purpose"),
    ("Restless", "same seed", "another artifact"),
    ("Stubborn", "other seed", "the same for each seed"),
    ("Superstitious", "other seed", "with seed 1 it failed: ZeroDivisionError: on purpose"),
    ("Overdrawn", "budget", "256: stopped at its budget: the method went on after it was stopped"),
    ("Lavish", "budget", "1: stopped at its budget"),
    ("Forging", "budget", "1: stopped at its budget: the method went on after it was stopped, or around the meter"),
    ("Curious", "test unseen", "asked for the split 'test'"),
    ("Sly", "test unseen", "had the engine answer a test prompt"),
    ("Reading", "test unseen", "loaded the task's data"),
    ("Cramming", "test unseen", "trained on a prompt that is not of the support split"),
    ("Forgetful", "artifact", "answers are others"),
    ("Moonlighting", "ledger", "3 tokens went through a model that nobody metered"),
    ("Unbilled", "ledger", "training: 0 tokens booked, 3 seen"),
    ("Silent", "refusals", "without a gate split is refused without a reason"),
    ("Boastful", "refusals", "not refused, and the run failed: ValueError"),
    ("Promising", "refusals", "of a budget of 1 it plans to spend 2"),
    ("Lenient", "refusals", "a setting that does not exist is accepted"),
    ("Diarist", "resume", "resumed, it failed"),
    ("Heavy", "weights", "the base was "),
]

TRAINED = {"lr": 1e-3, "gate": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "corp": {"gate": "off", "sigmas": [0.01]},
    "cat": TRAINED,
    "grpo": TRAINED,
    "ppo": TRAINED,
}
"""With which so small a budget ends in another model than the base, whose answers there are to compare."""


@pytest.fixture(autouse=True)
def _faulty_methods_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def sat(name: str) -> MethodReport:
    return check_method(f"faulty_methods:{name}")


def failed(certificate: MethodReport) -> dict[str, str]:
    return {finding.check: finding.detail for finding in certificate.findings if finding.passed is False}


@pytest.mark.parametrize(("name", "check", "detail"), DEFECTS)
def test_a_defect_is_found_by_the_check_that_is_for_it_and_by_no_other(name: str, check: str, detail: str) -> None:
    found = failed(sat(name))
    assert set(found) == {check}
    assert detail in found[check]


def test_a_setting_that_has_to_be_given_hides_none_that_does_not_exist() -> None:
    certificate = check_method("faulty_methods:Demanding", {"sigma": 0.01})
    assert failed(certificate) == {"refusals": "a setting that does not exist is accepted"}


def test_every_check_has_a_defect_that_it_finds() -> None:
    assert {check for _, check, _ in DEFECTS} == set(CHECKS)


@pytest.mark.parametrize("name", ["Sound", "Wordy"])
def test_a_sound_method_passes_every_check(name: str) -> None:
    certificate = sat(name)
    assert [f for f in certificate.findings if not f.passed] == []
    assert [f.check for f in certificate.findings] == list(CHECKS)
    assert (certificate.passed, certificate.version, certificate.budget) == (True, "1", 256)


def test_a_method_that_draws_nothing_is_not_failed_for_it() -> None:
    certificate = sat("Idle")
    assert [f.check for f in certificate.findings if f.passed is not True] == ["other seed"]
    assert certificate.passed
    (artifact,) = (f.detail for f in certificate.findings if f.check == "artifact")
    assert artifact == "1 loaded, 24 answers each as before, which are the base's"


def test_a_budget_that_is_given_up_is_said() -> None:
    certificate = sat("Hesitant")
    assert certificate.passed
    (budget,) = (f.detail for f in certificate.findings if f.check == "budget")
    assert budget.endswith("1 is given up on the way; 131 is given up on the way")


@pytest.mark.parametrize("name", BUILT_IN["method"])
def test_our_own_methods_pass(name: str) -> None:
    certificate = check_method(name, SETTINGS.get(name))
    assert failed(certificate) == {}
    by_check = {f.check: f for f in certificate.findings}
    draws_nothing = name in ("base", "prompt-search")
    assert ("changed" in by_check["end"].detail) != (draws_nothing or name == "landscape")
    assert [f.check for f in certificate.findings if f.passed is None] == (["other seed"] if draws_nothing else [])
    assert "killed at step" in by_check["resume"].detail


@pytest.mark.parametrize(
    ("name", "settings", "budget", "error", "message"),
    [
        ("crop", {}, 256, UsageError, "did you mean 'corp'"),
        ("corp", {"sigma": 1}, 256, UsageError, "sigma: Extra inputs"),
        ("corp", {}, 20, Refused, "give it 92 or more"),
    ],
)
def test_what_cannot_be_examined_is_an_error(
    name: str, settings: dict[str, Any], budget: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_method(name, settings, budget=budget)
