"""Run all conformance checks of a task, and report their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import computed_field

from bench.conformance import data as data_checks
from bench.conformance import scoring
from bench.conformance.session import Check, Observation, TaskSession, sample_evenly
from tasks.interface import Task

SCORED_EXAMPLES = 40

SessionType = TypeVar("SessionType")
"""Type of the session that a set of checks inspects."""

CHECKS: Mapping[str, Check] = {
    "splits": data_checks.check_splits,
    "bad data": data_checks.check_bad_data,
    "prompts": data_checks.check_prompts,
    "gold answers": scoring.check_gold,
    "determinism": scoring.check_determinism,
    "empty answers": scoring.check_empty,
    "absurd answers": scoring.check_absurd,
    "cut-off answers": scoring.check_cut_off,
    "votes": scoring.check_votes,
    "signal": scoring.check_signal,
    "leaks": data_checks.check_leaks,
    "contamination": data_checks.check_contamination,
}


@dataclass(frozen=True)
class CheckResult:
    """Result of one check, such as `CheckResult("splits", False, "support 20, select 0; a split is empty")`.

    Attributes:
        check: Name of the check.
        passed: Whether the check passed; None if it does not apply.
        detail: Observed values or, on failure, the first defects.
    """

    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class TaskReport:
    """Results of all checks of a task.

    Attributes:
        task: Name that the task was loaded by.
        version: Version of the task.
        content_hash: Content hash of its splits.
        splits: Number of examples by split.
        examined: Number of examples whose answers were scored.
        findings: Results, in the order of the checks.
    """

    task: str
    version: str
    content_hash: str
    splits: Mapping[str, int]
    examined: int
    findings: tuple[CheckResult, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(finding.passed is not False for finding in self.findings)


def check_task(
    name: str,
    task: Task,
    data: Path | None = None,
    *,
    examined: int = SCORED_EXAMPLES,
    progress: Callable[[str], object] = lambda _: None,
) -> TaskReport:
    """Run all checks of a task. A pass does not prove that the task has no defects.

    Args:
        name: Name to load the task by, because one check loads it in another process.
        task: Task, already admitted to the sandbox if it runs code.
        data: File with the task's rows; None for its own source.
        examined: Number of examples whose answers are scored, drawn evenly from all splits.
        progress: Callback that gets the name of each check before it starts.

    Raises:
        BenchError: If the task's data cannot be loaded.
    """
    splits = task.load(data)
    session = TaskSession(name, task, data, splits, sample_evenly(splits, examined))
    findings = run_checks(CHECKS, session, progress)
    return TaskReport(name, task.version, splits.content_hash, splits.sizes, len(session.examples), findings)


def run_checks(
    checks: Mapping[str, Callable[[SessionType], Observation]], session: SessionType, progress: Callable[[str], object]
) -> tuple[CheckResult, ...]:
    """Run all checks. An exception counts as a failure, because the checked code is third-party."""
    findings = []
    for name, check in checks.items():
        progress(name)
        try:
            findings.append(CheckResult(name, *check(session)))
        except Exception as error:
            findings.append(CheckResult(name, False, f"raised {type(error).__name__}: {error}"[:300]))
    return tuple(findings)
