"""Build the leaderboard from records. Pure functions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.compute.flops import is_present_rule
from bench.records.schema import Result
from bench.records.source import NOT_METERED, DeclaredSource, RunSource
from bench.records.tuning import CUSTOM, DECLARED
from bench.stats import MOST_LETTERS, compact_letters, different_pairs, pairwise_p_values
from reports.leaderboard.board import Board, Rate
from reports.leaderboard.compared import compared, tested
from reports.leaderboard.curves import curves_of, profiles_of
from reports.leaderboard.group import LEVEL, Group, LeaderboardRow
from reports.leaderboard.grouping import (
    Clusters,
    by_items,
    clusters_of,
    comparable,
    distinct,
    dtype_of,
    names_of,
    one_per_seed,
    variants_of,
    without_engine,
)
from reports.leaderboard.notes import notes_of
from reports.leaderboard.rows import Comparison, ScoredRow, has_own_gate, make_rows, run_of, thought_tokens
from reports.leaderboard.transfer import make_transfers
from reports.record import UNJUDGED, Record, outcomes

OWN_GATE = "(gated by its method)"
"""End of the names of rows that a gate of the method's own chose."""
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
    against: str = "",
    columns: Sequence[str] = (),
) -> Board:
    """Group comparable runs and make a table of each group. A run that is given twice counts once.

    Args:
        records: Records of finished runs.
        sort: Order of the rows, a key of `SORTS`.
        rate: Price of one PFLOP; None for a board without prices.
        answers: Number of deployed answers that curves of accuracy against compute count; None for the number of test
            items.
        against: Name of the row that the others are compared with; empty for the base.
        columns: Keys of the columns to show; empty for all that apply.

    Raises:
        BenchError: If two results of one run differ, or two runs have different clusters of the same items.
    """
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    known = list(distinct({f"record {at}": record for at, record in enumerate(records)}).values())
    clusters = clusters_of(known)
    for record in sorted(known, key=_order):
        groups[comparable(record.result)].append(record)
    ordered = sorted(groups.items(), key=lambda item: [f"{p:012}" if isinstance(p, int) else str(p) for p in item[0]])
    made = tuple(_group(part, sort, clusters, against) for _, members in ordered for part in by_items(members))
    profiles, most = profiles_of(made)
    return Board(
        made,
        curves_of(made, answers),
        profiles,
        rate,
        transfers=make_transfers(known, clusters),
        columns=tuple(columns),
        against=against,
        most_tasks=most,
    )


def _order(record: Record) -> tuple[Any, ...]:
    config = record.result.config
    return config.method, json.dumps(config.method_config, sort_keys=True), config.seed, record.result.id


def _group(records: Sequence[Record], sort: str, clusters: Clusters, against: str) -> Group:
    config = records[0].result.config
    budgets = [budget for record in records if (budget := record.result.budget)]
    # A time is other FLOPs in every run, and runs that adapt nothing cannot spend theirs.
    limit = max((budget.flops for budget in [b for b in budgets if b.adapts or b.spent] or budgets), default=0)
    variants, names, repeated = variants_of(records), {}, []
    for key, name in names_of(variants).items():
        variants[key], found = one_per_seed(variants[key])
        repeated += [f"{name}: {sentence}" for sentence in found]
        names[key] = name
    for key, members in variants.items():
        if has_own_gate(members[0].result):
            names[key] += f" {OWN_GATE}"
        elif isinstance(members[0].result.source, DeclaredSource):
            names[key] += f" {NOT_METERED}"
    tested = next((record for record in records if record.items), None)
    stems = clusters.get(tested.item_set) if tested else None
    tables = [
        replace(table, line=replace(table.line, settings=without_engine(key[1])))
        for key, members in variants.items()
        for table in make_rows(names[key], members, limit, stems)
    ]
    base = _base(records, stems)
    ruleset = records[0].result.ruleset
    same_rules = ruleset not in (CUSTOM, DECLARED)
    scored, comparisons, left_out = compared([*base, *tables], against, stems, same_rules=same_rules)
    made = sorted(
        scored,
        key=lambda t: (not t.line.is_base, t.line.accuracy is None, not t.line.bound, SORTS[sort](t.line), t.line.name),
    )
    lines = [each.line for each in made]
    unlettered: list[str] = []
    if same_rules:
        letters = _letters(made, stems, against)
        if letters is None:
            unlettered = [f"no letters: the pairs that differ need more than {MOST_LETTERS}"]
        else:
            lines = [replace(line, letters=own) for line, own in zip(lines, letters, strict=True)]
    notes = (*left_out, *unlettered, *repeated, *notes_of(records, lines, dtype_of(records[0].result)))
    if comparisons > 1:
        level = 100 * (1 - LEVEL / comparisons)
        row = against or "the base"
        notes = (f"simultaneous 95 %: {comparisons} different comparisons with {row}, each at {level:.2f} %", *notes)
    return Group(
        task=config.task_label,
        model=config.model_label,
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
        ("dtype", dtype_of(result)),
        ("limit", config.limit),
        ("new tokens", config.max_new_tokens),
        ("artifacts of", "finished runs" if isinstance(config.source, RunSource) else None),
        ("FLOPs version", _old_flops_version(result)),
    )
    return [f"{name} {value}" for name, value in values if value not in (None, "auto")]


def _old_flops_version(result: Result) -> int | None:
    """Return the version of the FLOPs formula of a run, or None if it has the present one's numbers."""
    return result.versions.flops if result.versions and not is_present_rule(result.versions.flops) else None


def _base(records: Sequence[Record], clusters: Sequence[int] | None) -> list[ScoredRow]:
    """Return the base's line: its row in the first run that has one, since all runs test it on the same items.

    A run in which an answer of the base's was judged comes before those without. The runs behind the line are the
    controls. A control that failed is a line of its method, as any failed run is.
    """
    controls, _ = one_per_seed([record for record in records if record.result.is_control])
    runs = tuple(run_of(record, None) for record in controls)
    for record in sorted(records, key=lambda record: not set(record.base) - {UNJUDGED}):
        if row := record.result.base:
            answers = outcomes(record.base)[:, None]
            judged = answers[:, 0] >= 0
            stems = np.asarray(clusters)[judged] if clusters else None
            right = answers[judged].astype(float)
            accuracy = Comparison(right, right, clusters=stems).accuracy if judged.any() else None
            line = LeaderboardRow(
                "base",
                "base",
                bound=True,
                is_base=True,
                accuracy=accuracy,
                judged=int(judged.sum()),
                passes=row.cost.evaluations,
                answer_flops=row.cost.flops,
                answer_tokens=row.cost.new_tokens,
                thought_tokens=thought_tokens([row]),
                runs=runs,
            )
            return [ScoredRow(line, judged, (answers == 1).astype(float))]
    return []


def _letters(rows: Sequence[ScoredRow], clusters: Sequence[int] | None, against: str) -> list[str | None] | None:
    """Return the letters of each row, from tests of all pairs of rows with different answers.

    None if there are too many. The base has letters, and every row as trained that is tested against the base and has
    no failed seed. Only here does an item that was not judged count as wrong. Pairs that have a verdict are those that
    it tells apart: a row shares a letter with the row that it is compared with exactly if its verdict is `cannot be
    told`.

    Args:
        rows: Rows with their differences.
        clusters: Cluster of each item; None if items are independent.
        against: Name of the row that the others are compared with; empty for the base.
    """
    different: dict[tuple[int, bytes], NDArray[np.float64]] = {}
    keys: list[tuple[int, bytes] | None] = []
    for row in rows:
        known = row.correct if row.line.accuracy and tested(row) else None
        keys.append(None if known is None else (known.shape[1], known.tobytes()))
        if keys[-1] and row.correct is not None:
            different[keys[-1]] = row.correct
    ordered = sorted(different, key=lambda key: -different[key].mean())
    differ = np.zeros((1, 1), dtype=bool)
    if len(ordered) > 1:
        differ = different_pairs(pairwise_p_values([different[key] for key in ordered], clusters), LEVEL)
        named = (key for row, key in zip(rows, keys, strict=True) if row.line.name == (against or "base"))
        if (compared_with := next(named, None)) is not None:
            one = ordered.index(compared_with)
            for row, key in zip(rows, keys, strict=True):
                if key and key != compared_with and row.line.verdict is not None:
                    other = ordered.index(key)
                    differ[one, other] = differ[other, one] = row.line.verdict != "cannot be told"
    found = compact_letters(differ)
    if found is None:
        return None
    letters = dict(zip(ordered, found, strict=False))
    return [letters[key] if key else None for key in keys]
