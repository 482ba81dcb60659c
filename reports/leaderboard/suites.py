"""Number of a suite's planned runs that are on record. A board of a part of a suite can look better than the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from bench.records.config import RunConfig
from bench.records.run_key import run_key
from reports.leaderboard.summaries import SuiteCoverage
from reports.record import Record

if TYPE_CHECKING:
    from bench.run.grid import GridRun

Suites = Mapping[str, Sequence["GridRun"]]
"""Planned runs by name of suite."""
NO_SUITES: Suites = MappingProxyType({})


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


def _named(config: RunConfig) -> str:
    """Return a run without its seed in words, such as `corp on addition, tiny-adder, budget 2048`."""
    tuned = f", {config.tune} trials" if config.tune else ""
    named = f"{config.method} on {config.task_label}, {config.model}, budget {config.budget}{tuned}"
    return ", ".join([named, *config.controls])
