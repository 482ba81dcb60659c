"""Holding a method's exam, and the certificate that comes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.conformance.method import checks
from bench.conformance.method.session import MODEL, MethodSession
from bench.conformance.report import CheckResult, run_checks
from tasks.addition import Addition

BUDGET = 256

CHECKS: Mapping[str, checks.Check] = {
    "end": checks.check_end,
    "same seed": checks.check_same_seed,
    "other seed": checks.check_other_seed,
    "budget": checks.check_budget,
    "test unseen": checks.check_test,
    "artifact": checks.check_artifact,
    "ledger": checks.check_ledger,
    "refusals": checks.check_refusals,
    "resume": checks.check_resume,
    "weights": checks.check_weights,
}


@dataclass(frozen=True)
class MethodReport:
    """What all checks found on one version of a method.

    Attributes:
        method: What the method was loaded by.
        version: The method's.
        settings: Those that were given; others had their defaults.
        model: What was adapted.
        task: What it was adapted to.
        budget: In evaluations.
        findings: In the order of the exam.
    """

    method: str
    version: str
    settings: Mapping[str, Any]
    model: str
    task: str
    budget: int
    findings: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(finding.passed is not False for finding in self.findings)


def check_method(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    budget: int = BUDGET,
    progress: Callable[[str], object] = lambda _: None,
) -> MethodReport:
    """Have a method sit the exam, on a model and a task that take seconds.

    It finds what is wrong with a method, and not that nothing is: code that means to cheat runs in the same process.

    Args:
        name: What the method is loaded by: another process loads it once more.
        settings: Of the method, where they are not the defaults.
        budget: Of a run, in evaluations.
        progress: Told the name of each check before it begins.

    Raises:
        UsageError: If the method cannot be loaded, or its settings are none.
        Refused: If it takes neither the exam's task nor its budget.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = MethodSession(name, dict(settings or {}), budget, Path(folder))
        progress("reference run")
        _ = session.model_files, session.reference
        findings = run_checks(CHECKS, session, progress)
    version = session.method().version
    return MethodReport(name, version, session.settings, MODEL, Addition.name, budget, findings)
