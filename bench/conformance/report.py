"""Holding the exam, and the certificate that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.conformance import data as of_data
from bench.conformance import scoring
from bench.conformance.session import Check, Observation, TaskSession, spread
from tasks.interface import Task

SCORED_EXAMPLES = 40

SessionType = TypeVar("SessionType")
"""Session type that a set of checks inspects."""

CHECKS: Mapping[str, Check] = {
    "splits": of_data.check_splits,
    "bad data": of_data.check_bad_data,
    "prompts": of_data.check_prompts,
    "gold answers": scoring.check_gold,
    "determinism": scoring.check_determinism,
    "empty answers": scoring.check_empty,
    "absurd answers": scoring.check_absurd,
    "cut-off answers": scoring.check_cut_off,
    "votes": scoring.check_votes,
    "signal": scoring.check_signal,
    "leaks": of_data.check_leaks,
    "contamination": of_data.check_contamination,
}


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        check: Its name.
        passed: Whether it holds; None where the task gives it nothing to examine.
        detail: What was examined and, if it does not hold, the first of what is wrong.
    """

    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class TaskReport:
    """What all checks found on one version of a task and its data.

    Attributes:
        task: What the task was loaded by.
        version: The task's.
        content_hash: Of its splits.
        splits: Examples by split.
        examined: Examples whose answers were scored.
        findings: In the order of the exam.
    """

    task: str
    version: str
    content_hash: str
    splits: Mapping[str, int]
    examined: int
    findings: tuple[CheckResult, ...]

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
    """Have a task sit the exam. It finds what is wrong with a task, and not that nothing is.

    Args:
        name: What the task is loaded by: another process loads it once more.
        task: The task, allowed to judge what it has to.
        data: File with its rows; None for its own source.
        examined: Examples whose answers are scored, drawn evenly from all splits.
        progress: Told the name of each check before it begins.

    Raises:
        BenchError: If the task's data cannot be had.
    """
    splits = task.load(data)
    session = TaskSession(name, task, data, splits, spread(splits, examined))
    findings = run_checks(CHECKS, session, progress)
    return TaskReport(name, task.version, splits.content_hash, splits.sizes, len(session.examples), findings)


def run_checks(
    checks: Mapping[str, Callable[[SessionType], Observation]], session: SessionType, progress: Callable[[str], object]
) -> tuple[CheckResult, ...]:
    """Return what each check found of whoever sits; one that raises has failed, as the code is anybody's."""
    findings = []
    for name, check in checks.items():
        progress(name)
        try:
            findings.append(CheckResult(name, *check(session)))
        except Exception as error:
            findings.append(CheckResult(name, False, f"raised {type(error).__name__}: {error}"[:300]))
    return tuple(findings)
