"""Run all conformance checks of a method, and report their results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import computed_field

from bench.conformance.method import checks
from bench.conformance.method.session import MODEL, MethodSession
from bench.conformance.report import CheckResult, run_checks
from bench.errors import Refused
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
    "variants": checks.check_variants,
    "weights": checks.check_weights,
}


@dataclass(frozen=True)
class MethodReport:
    """Results of all checks of a method.

    Attributes:
        method: Name that the method was loaded by.
        version: Version of the method.
        settings: Given settings; all others have their defaults.
        model: Name of the model that was adapted.
        task: Name of the task that it was adapted to.
        budget: Budget of each run, in evaluations.
        findings: Results, in the order of the checks.
    """

    method: str
    version: str
    settings: Mapping[str, Any]
    model: str
    task: str
    budget: int
    findings: tuple[CheckResult, ...]

    @computed_field  # type: ignore[prop-decorator]
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
    """Run all checks of a method, with a small model and a small task. This takes seconds.

    A pass does not prove that the method has no defects. In particular, a method that cheats on purpose runs in the
    same process as the checks and could hide it.

    Args:
        name: Name to load the method by, because one check loads it in another process.
        settings: Settings of the method that are not defaults.
        budget: Budget of each run, in evaluations.
        progress: Callback that gets the name of each check before it starts.

    Raises:
        UsageError: If the method cannot be loaded, or its settings are invalid.
        Refused: If the method refuses the task or the budget of the checks.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = MethodSession(name, dict(settings or {}), budget, Path(folder))
        progress("reference run")
        _ = session.model_files
        if session.reference.result.status == "refused":
            raise Refused(f"--method {name}: {session.reference.result.reason}")
        findings = run_checks(CHECKS, session, progress)
    version = session.method().version
    return MethodReport(name, version, session.settings, MODEL, Addition.name, budget, findings)
