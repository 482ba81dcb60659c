"""Facts and final values of a run for trackers, from its configuration and its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.records.config import RunConfig
from bench.records.paths import without_address, without_paths
from bench.records.rows import Row
from bench.records.schema import Result
from bench.track.interface import Scalar, TrackedRun

PRIVATE = {"endpoint", "declared_shape"}
"""Fields that trackers do not get: the address of a server, and a whole file."""


def tracked(folder: Path, config: RunConfig, identity: str) -> TrackedRun:
    """Return the facts about a run, without paths and addresses: many trackers are public.

    Args:
        folder: Run directory.
        config: Configuration of the run.
        identity: Run id.
    """
    public = config.model_copy(update={"launch": config.launched or None})
    method = f"test of {config.method}" if config.source else config.method
    tags = {"method": method, "task": config.task_label, "model": Path(config.model).name, "budget": config.budget}
    tags |= {"seed": str(config.seed)}
    return TrackedRun(
        id=identity,
        name=" ".join([method, config.task_label, Path(config.model).name, config.budget, folder.absolute().name]),
        config=dict(_flat("", without_paths(public.model_dump(mode="json", exclude=PRIVATE)))),
        tags=tags,
    )


def final(result: Result) -> dict[str, Scalar]:
    """Return the final values of a run by key.

    Example: `{"status": "ok", "final/base/accuracy": 0.53, "final/es/accuracy": 0.55, "final/es/gain": 0.02, ...}`.
    """
    values: dict[str, Scalar] = {"status": result.status}
    if result.reason is not None:
        endpoint = result.config.endpoint
        values["reason"] = without_paths(without_address(result.reason, endpoint) if endpoint else result.reason)
    if result.saved is not None:
        values["artifact/sha256"] = result.saved.sha256
    if result.budget is not None:
        values["final/budget/flops"] = float(result.budget.flops)
        values["final/budget/share"] = result.budget.share
    for account, booked in result.ledger.items():
        values[f"final/account/{account}"] = float(booked.flops)
    for row in result.rows:
        name = "base" if row.kind == "base" else row.label or result.config.method
        where = f"final/{name}/gated" if row.kind == "gated" else f"final/{name}"
        values |= {f"{where}/{key}": value for key, value in _row(row)}
    return values


def _row(row: Row) -> Iterator[tuple[str, Scalar]]:
    yield "accuracy", row.accuracy.accuracy
    yield "accuracy_low", row.accuracy.low
    yield "accuracy_high", row.accuracy.high
    yield "items", float(row.accuracy.items)
    if row.comparison is not None:
        yield "gain", row.comparison.difference
        yield "gain_low", row.comparison.low
        yield "gain_high", row.comparison.high
        yield "p_value", row.comparison.p_value
    yield "answer_flops", row.cost.flops
    yield "answer_evaluations", row.cost.evaluations
    if row.coverage is not None:
        yield f"pass@{row.coverage.k}", row.coverage.value
    if row.gate is not None:
        yield "accepted", float(row.gate.accepted)
    if row.weights is not None:
        yield "weights_sha256", row.weights


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    """Yield the plain values in nested dictionaries, with their keys joined by dots. A list is one text."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), each)
    else:
        yield prefix, value if isinstance(value, Scalar) else str(value)
