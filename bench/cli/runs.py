"""Runs as `bench list runs` shows them: what was run, how it ended, and what it came to."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.errors import BenchError
from bench.records.config import RunConfig, read_config
from bench.records.migrations import parse
from bench.records.schema import Result, Status, read_result
from bench.records.tuning import Ruleset
from bench.settings import put


class ListedRow(BaseModel):
    """Result of one artifact of a run, as trained, and what the gate decided about it.

    Attributes:
        label: Label of the artifact within its run, such as `k=5`; empty if there is only one.
        accuracy: Accuracy on the test split, as trained.
        difference: Accuracy minus that of the base on the same items; None if they were not compared.
        p_value: p-value of the two-sided exact McNemar test of that difference; None if they were not compared.
        kept: Whether the gate kept it; None without a gate.
        gated: Accuracy after the gate: its own if it was kept, else the base's; None without a gate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    accuracy: float
    difference: float | None
    p_value: float | None
    kept: bool | None
    gated: float | None


class ListedRun(BaseModel):
    """Run directory. What an unfinished or unreadable run cannot tell is None.

    Attributes:
        name: Run directory.
        description: How it ended and its accuracies, in words; of an unreadable run, the reason.
        status: How the run ended; `unfinished` before its end; `unreadable` if its files are damaged, or of another
            version.
        id: Run id; None before the run's end.
        reason: Reason for a status other than `ok`; None if there is none.
        method: Name of the method.
        task: Name of the task.
        adapt_on: Task adapted on; None if that is the task itself.
        model: Base model, as given.
        budget: Budget, as given.
        seed: Seed of the method.
        strategy: Test-time strategy, such as `greedy` or `pass@8`.
        limit: Number of test examples; None for all.
        ruleset: Rules that the settings were chosen by, such as `published`.
        settings: Settings of the method, with those that tuning chose in their place.
        test_of: Id of the run whose artifacts a test by `bench test` answers with; None for a run.
        base: Accuracy of the base on the test split; None if nothing was tested.
        rows: Results of the run's artifacts; empty if nothing was tested.
        spent: Adaptation FLOPs that were booked.
        limit_flops: Adaptation FLOPs that the budget allows.
        started: Time at which the first attempt began, in UTC, such as `2026-11-29T08:09:13+00:00`; None if not known.
        seconds: Wall-clock time of the last attempt, in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    status: Status | Literal["unfinished", "unreadable"]
    id: str | None = None
    reason: str | None = None
    method: str | None = None
    task: str | None = None
    adapt_on: str | None = None
    model: str | None = None
    budget: str | None = None
    seed: int | None = None
    strategy: str | None = None
    limit: int | None = None
    ruleset: Ruleset | None = None
    settings: dict[str, Any] | None = None
    test_of: str | None = None
    base: float | None = None
    rows: tuple[ListedRow, ...] = ()
    spent: int | None = None
    limit_flops: int | None = None
    started: str | None = None
    seconds: float | None = None


def listed_run(folder: Path) -> ListedRun:
    """Return a run directory as it is listed. One that cannot be read hides no other, and says why it cannot."""
    try:
        if not (folder / "result.json").exists():
            config = _of_config(read_config(folder))
            ended: dict[str, Any] = {"status": "unfinished", "description": "not finished"}
        else:
            result = read_result(folder)
            config, ended = _of_config(result.config), _of_result(result)
    except BenchError as error:
        return ListedRun(name=str(folder), description=str(error), status="unreadable", reason=str(error))
    return ListedRun(name=str(folder), started=_started(folder), **(config | ended))


def _of_config(config: RunConfig) -> dict[str, Any]:
    names = ("method", "task", "adapt_on", "model", "budget", "seed", "strategy", "limit")
    source = config.source
    return {
        **{name: getattr(config, name) for name in names},
        "settings": config.method_config,
        "test_of": getattr(source, "id", None),
    }


def _of_result(result: Result) -> dict[str, Any]:
    settings = deepcopy(result.config.method_config)
    for name, value in (result.tuning.chosen if result.tuning else {}).items():
        put(settings, name.split("."), value)
    rows = [f"{row.label} accuracy {100 * row.accuracy.accuracy:.1f} %".strip() for row in result.artifacts]
    return {
        "id": result.id,
        "status": result.status,
        "description": ", ".join([result.status, *rows]),
        "reason": result.reason,
        "ruleset": result.ruleset,
        "settings": settings,
        "base": result.base.accuracy.accuracy if result.base else None,
        "rows": _rows(result),
        "spent": result.budget.spent if result.budget else None,
        "limit_flops": result.budget.flops if result.budget else None,
        "seconds": result.timing.total if result.timing else None,
    }


def _rows(result: Result) -> tuple[ListedRow, ...]:
    gated = {row.label: row for row in result.gated}
    found = []
    for row in result.artifacts:
        compared, after = row.comparison, gated.get(row.label)
        found.append(
            ListedRow(
                label=row.label,
                accuracy=row.accuracy.accuracy,
                difference=compared.difference if compared else None,
                p_value=compared.p_value if compared else None,
                kept=after.gate.accepted if after and after.gate else None,
                gated=after.accuracy.accuracy if after else None,
            )
        )
    return tuple(found)


def _started(folder: Path) -> str | None:
    """Return when the first attempt began; None if the run directory does not say."""
    try:
        started = parse(folder / "attempts" / "1.json").get("started")
    except BenchError:
        return None
    return started if isinstance(started, str) else None
