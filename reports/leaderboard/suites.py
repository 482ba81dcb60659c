"""Number of a suite's planned runs that are on record. A board of a part of a suite can look better than the whole."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bench.compute.budget import parse_budget
from bench.records.config import RunConfig
from reports.leaderboard.summaries import SuiteCoverage
from reports.record import Record

if TYPE_CHECKING:
    from bench.run.grid import GridRun

Suites = Mapping[str, Sequence["GridRun"]]
"""Planned runs by name of suite."""
NO_SUITES: Suites = MappingProxyType({})

IGNORED = {"data", "adapt_data", "batch_size", "device", "dtype", "allow_unsandboxed", "launch", "budget"}
"""Fields that a run resolves, or that say where it runs. The budget is compared by its size."""


def coverage(name: str, planned: Sequence[GridRun], records: Sequence[Record]) -> SuiteCoverage:
    """Return which planned runs have a record. A run that failed by an error, and not by its method, has none.

    Args:
        name: Name of the suite.
        planned: Its runs.
        records: Records of finished runs.
    """
    made: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.result.status != "failed":
            config = record.result.config
            made[run_key(config, config.method_config)].add(str(record.result.engine.get("dtype", "")))
    missing: dict[str, list[int]] = {}
    for run in planned:
        dtypes = made.get(run_key(run.config, run.settings.model_dump(mode="json")), set())
        if not dtypes or (run.config.dtype != "auto" and not dtypes & {"", run.config.dtype}):
            missing.setdefault(_named(run.config), []).append(run.config.seed)
    named = tuple(f"{what}, seed {', '.join(map(str, sorted(set(seeds))))}" for what, seeds in missing.items())
    return SuiteCoverage(name, len(planned), len(planned) - sum(map(len, missing.values())), named)


def run_key(config: RunConfig, settings: dict[str, Any]) -> str:
    """Return a text that is the same for a planned run and for the run that was made of it.

    Args:
        config: Configuration of the run.
        settings: Settings of its method, with all defaults.
    """
    fields = config.model_dump(mode="json", exclude=IGNORED)
    fields |= {"method_config": settings, "budget": parse_budget(config.budget).identity, "launch": config.launched}
    return json.dumps(fields, sort_keys=True)


def _named(config: RunConfig) -> str:
    """Return a run without its seed in words, such as `corp on addition, tiny-adder, budget 2048`."""
    tuned = f", {config.tune} trials" if config.tune else ""
    named = f"{config.method} on {config.task_label}, {config.model}, budget {config.budget}{tuned}"
    return ", ".join([named, *config.controls])
