"""Build the leaderboard from records. Pure functions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.compute.budget import parse_budget
from bench.compute.flops import FLOPS_VERSION
from bench.records.schema import Result
from bench.records.source import NOT_METERED, DeclaredSource, RunSource
from bench.records.tuning import CUSTOM, DECLARED, PUBLISHED
from bench.stats import compact_letters, different_pairs, pairwise_p_values
from reports.leaderboard.board import Board, Rate
from reports.leaderboard.curves import curves_of, profiles_of
from reports.leaderboard.group import LEVEL, Group, LeaderboardRow
from reports.leaderboard.naming import short
from reports.leaderboard.notes import notes_of
from reports.leaderboard.rows import ScoredRow, accuracy_of, has_own_gate, make_rows, run_of
from reports.leaderboard.transfer import make_transfers
from reports.record import Record, outcomes

OWN_GATE = "(gated by its method)"
"""End of the names of rows that a gate of the method's own chose."""
ENGINE = "engine "
"""Start of the names of engine settings, beside a method's own."""
SORTS: Mapping[str, Callable[[LeaderboardRow], Any]] = {
    "accuracy": lambda line: -line.accuracy.value if line.accuracy else 0.0,
    "difference": lambda line: -line.difference.value if line.difference else 0.0,
    "name": lambda line: line.name,
    "flops": lambda line: line.flops,
    "passes": lambda line: line.passes,
    "answer-flops": lambda line: line.answer_flops,
    "seconds": lambda line: np.inf if line.seconds is None else line.seconds,
}
"""Sort keys for the rows of a group: best or cheapest first."""


def make_board(
    records: Sequence[Record],
    *,
    sort: str = "accuracy",
    rate: Rate | None = None,
    answers: int | None = None,
) -> Board:
    """Group comparable runs and make a table of each group. A run that is given twice counts once.

    Args:
        records: Records of finished runs.
        sort: Order of the rows, a key of `SORTS`.
        rate: Price of one PFLOP; None for a board without prices.
        answers: Number of deployed answers that curves of accuracy against compute count; None for the number of test
            items.
    """
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in sorted({record.result.id: record for record in records}.values(), key=_order):
        groups[_comparable(record.result)].append(record)
    ordered = sorted(groups.items(), key=lambda item: [f"{p:012}" if isinstance(p, int) else str(p) for p in item[0]])
    made = tuple(_group(part, sort) for _, members in ordered for part in _by_items(members))
    profiles, most = profiles_of(made)
    return Board(made, curves_of(made, answers), profiles, rate, transfers=make_transfers(records), most_tasks=most)


def _order(record: Record) -> tuple[Any, ...]:
    config = record.result.config
    return config.method, json.dumps(config.method_config, sort_keys=True), config.seed, record.result.id


def _comparable(result: Result) -> tuple[Any, ...]:
    """Return the parts of a run's configuration that must be equal for two runs to be compared."""
    config = result.config
    return (
        config.task_label,
        config.model,
        parse_budget(config.budget).unit,
        parse_budget(config.budget).amount,
        _ruleset_order(result.ruleset),
        config.strategy,
        (result.versions.task, result.versions.adapt_on, result.versions.flops) if result.versions else (),
        result.content_hash,
        config.limit,
        config.max_new_tokens,
        config.prompt,
        _dtype(result),
        config.gate,
        config.controls,
        "" if config.source is None else config.source.kind,
    )


def _ruleset_order(ruleset: str) -> int:
    """Return 0 for `published`, the number of trials for `tuned K`, and larger numbers for `custom` and `declared`."""
    if ruleset in (PUBLISHED, CUSTOM, DECLARED):
        return {PUBLISHED: 0, CUSTOM: 10**9, DECLARED: 10**9 + 1}[ruleset]
    return int(ruleset.removeprefix("tuned "))


def _dtype(result: Result) -> str:
    """Return the dtype that a run computed in; records of earlier versions have `auto` in their configuration."""
    return str(result.engine.get("dtype", result.config.dtype))


def _by_items(records: Sequence[Record]) -> list[list[Record]]:
    """Split records by base weights and test items. A failed run, which has neither, joins the first part."""
    keys = [(r.result.model.digest, r.items) if r.result.model and r.items else None for r in records]
    kinds: list[tuple[str, str] | None] = [*sorted(set(filter(None, keys)))] or [None]
    return [[r for r, key in zip(records, keys, strict=True) if (key or kinds[0]) == kind] for kind in kinds]


def _group(records: Sequence[Record], sort: str) -> Group:
    config = records[0].result.config
    budgets = [budget for record in records if (budget := record.result.budget)]
    # A time is other FLOPs in every run, and runs that adapt nothing cannot spend theirs.
    limit = max(budget.flops for budget in [b for b in budgets if b.adapts or b.spent] or budgets) if budgets else 0
    variants: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if not record.result.is_control:
            variants[record.result.config.method, _settings(record.result)].append(record)
    variants = _with_unstarted(variants)
    names = _names(list(variants))
    for key, members in variants.items():
        if has_own_gate(members[0].result):
            names[key] += f" {OWN_GATE}"
        elif isinstance(members[0].result.source, DeclaredSource):
            names[key] += f" {NOT_METERED}"
    tested = next((record for record in records if record.items), None)
    stems = tested.clusters if tested else None
    tables = [table for key, members in variants.items() for table in make_rows(names[key], members, limit, stems)]
    base = _base(records, stems)
    tables.sort(key=lambda t: (t.line.accuracy is None, not t.line.bound, SORTS[sort](t.line), t.line.name))
    ruleset = records[0].result.ruleset
    made = [*base, *tables]
    comparisons = len({c.key for each in made for c in (each.trained, each.gated) if c and c.tested})
    lines = [_compared(each, max(comparisons, 1)) for each in made]
    if ruleset not in (CUSTOM, DECLARED):
        lines = [replace(line, letters=own) for line, own in zip(lines, _letters(made, lines, stems), strict=True)]
    notes = notes_of(records, lines, _dtype(records[0].result))
    if comparisons > 1:
        level = 100 * (1 - LEVEL / comparisons)
        notes = (f"simultaneous 95 %: {comparisons} different comparisons with the base, each at {level:.2f} %", *notes)
    return Group(
        task=config.task_label,
        model=config.model,
        budget=config.budget,
        budget_flops=float(limit),
        strategy=config.strategy,
        item_set=tested.items[:12] if tested else "",
        items=len(tested.base) if tested else 0,
        lines=tuple(lines),
        notes=notes,
        ruleset=ruleset,
        comparisons=comparisons,
        settings=", ".join([*config.controls, *_group_settings(records[0].result)]),
        controlled=bool(config.controls),
        tests=isinstance(config.source, RunSource),
    )


def _group_settings(result: Result) -> list[str]:
    """Return the settings of a group that differ from the defaults, such as `["no gate", "limit 1000"]`."""
    config = result.config
    values = (
        ("no", "gate" if config.gate == "off" else None),
        ("prompt", config.prompt),
        ("dtype", _dtype(result)),
        ("limit", config.limit),
        ("new tokens", config.max_new_tokens),
        ("artifacts of", "finished runs" if isinstance(config.source, RunSource) else None),
        ("FLOPs version", _old_flops_version(result)),
    )
    return [f"{name} {value}" for name, value in values if value not in (None, "auto")]


def _old_flops_version(result: Result) -> int | None:
    """Return the version of the FLOPs formula of a run, or None if it is the current one."""
    return result.versions.flops if result.versions and result.versions.flops != FLOPS_VERSION else None


def _settings(result: Result) -> str:
    """Return all settings, other than the seed, in which runs of a method can differ, as sorted JSON."""
    versions = result.versions.model_dump(exclude={"task", "adapt_on", "flops"}) if result.versions else {}
    engine = {f"{ENGINE}{name}": value for name, value in result.engine.items()}
    launch = {f"launch {name}": value for name, value in result.config.launched.items()}
    named = {f"{name} version": value for name, value in versions.items()}
    return json.dumps({**result.config.method_config, **named, **engine, **launch}, sort_keys=True)


def _with_unstarted(variants: Mapping[tuple[str, str], list[Record]]) -> dict[tuple[str, str], list[Record]]:
    """Let runs that ended before they had an engine join a variant that agrees with them in everything else."""
    started = {key: list(records) for key, records in variants.items() if records[0].result.engine}
    for key, records in variants.items():
        if records[0].result.engine:
            continue
        mine = json.loads(key[1])
        agreeing = (k for k in started if k[0] == key[0] and mine == _without_engine(k[1]))
        started.setdefault(next(agreeing, key), []).extend(records)
    return started


def _without_engine(settings: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(settings).items() if not name.startswith(ENGINE)}


def _names(variants: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name each variant of a method by the settings in which it differs from the others, such as `corp rank=4`."""
    names = {}
    for method, settings in variants:
        siblings = [json.loads(other) for name, other in variants if name == method]
        mine = json.loads(settings)
        # A run that ended before it had an engine says nothing of engines.
        differing = [
            f"{k}={short(v)}"
            for k, v in mine.items()
            if any(other.get(k) != v for other in siblings if k in other or not k.startswith(ENGINE))
        ]
        names[method, settings] = " ".join([method, *differing])
    return names


def _base(records: Sequence[Record], clusters: Sequence[int] | None) -> list[ScoredRow]:
    """Return the base's line: its row in the first run that has one, since all runs test it on the same items.

    The runs behind the line are the controls. A control that failed is a line of its method, as any failed run is.
    """
    runs = tuple(run_of(record, None) for record in records if record.result.is_control)
    for record in records:
        if row := record.result.base:
            answers = outcomes(record.base)[:, None]
            judged = answers[:, 0] >= 0
            stems = np.asarray(clusters)[judged] if clusters else None
            accuracy = accuracy_of(answers[judged].astype(float), np.array([False]), stems)
            line = LeaderboardRow(
                "base",
                "base",
                bound=True,
                accuracy=accuracy,
                passes=row.cost.evaluations,
                answer_flops=row.cost.flops,
                answer_tokens=row.cost.new_tokens,
                runs=runs,
            )
            return [ScoredRow(line, (answers == 1).astype(float))]
    return []


def _compared(row: ScoredRow, comparisons: int) -> LeaderboardRow:
    """Return a row's line with its differences from the base, as trained and gated."""
    line = row.line
    if row.trained:
        line = replace(line, difference=row.trained.difference(comparisons))
    if row.gated and line.gated:
        line = replace(line, gated=replace(line.gated, difference=row.gated.difference(comparisons)))
    return line


def _letters(
    rows: Sequence[ScoredRow], lines: Sequence[LeaderboardRow], clusters: Sequence[int] | None
) -> list[str | None]:
    """Return the letters of each row, from tests of all pairs of rows with different answers.

    The base has letters, and every row as trained that is tested against the base. Only here does an item that was not
    judged count as wrong.
    """
    different: dict[tuple[int, bytes], NDArray[np.float64]] = {}
    keys: list[tuple[int, bytes] | None] = []
    for row, line in zip(rows, lines, strict=True):
        tested = line.is_base or (row.trained is not None and row.trained.tested and not line.own_gate)
        keys.append((row.correct.shape[1], row.correct.tobytes()) if tested and row.correct is not None else None)
        if keys[-1] and row.correct is not None:
            different[keys[-1]] = row.correct
    ordered = sorted(different, key=lambda key: -different[key].mean())
    differ = np.zeros((1, 1), dtype=bool)
    if len(ordered) > 1:
        differ = different_pairs(pairwise_p_values([different[key] for key in ordered], clusters), LEVEL)
    letters = dict(zip(ordered, compact_letters(differ), strict=False))
    return [letters[key] if key else None for key in keys]
