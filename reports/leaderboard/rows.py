"""Build the lines of one method and setting from its runs: one line per artifact that it returned. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import ADAPTATION
from bench.records.rows import Row
from bench.records.schema import Result
from bench.records.source import DeclaredSource
from bench.stats import MeanVariance, accuracy_over_seeds, difference_over_seeds, exact_interval, mean_variance
from reports.leaderboard.board import MATCHED, Gated, LeaderboardRow, SeedRun
from reports.record import Record, outcomes


@dataclass(frozen=True)
class ScoredRow:
    """A line with the answers behind it, from which rank and correction follow.

    Attributes:
        line: The line, still without `rank` and `corrected`.
        correct: 1 for each correct answer, else 0; shape [items, seeds], over all items of the group. None if every
            seed failed.
    """

    line: LeaderboardRow
    correct: NDArray[np.float64] | None = None

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean correctness of each item over seeds, shape [items]."""
        assert self.correct is not None
        means: NDArray[np.float64] = self.correct.mean(axis=1)
        return means

    @property
    def variance(self) -> MeanVariance:
        """Variance of the mean accuracy over items and seeds."""
        assert self.correct is not None
        return mean_variance(self.correct)


def has_own_gate(result: Result) -> bool:
    """Return whether a gate of the method's own chose between its result and the base.

    Earlier versions had such a gate in place of the harness's. Its setting is part of their records: `gate` is true for
    grpo, ppo and cat, and `both` or `stage2` for corp.
    """
    return result.config.gate == "off" and result.config.method_config.get("gate") in (True, "both", "stage2")


def run_of(record: Record, label: str | None) -> SeedRun:
    """Return the run of a record.

    Args:
        record: Record of the run.
        label: Label of the artifact whose accuracy to take; None for the base's accuracy.
    """
    result = record.result
    rows = {row.label: row.accuracy.accuracy for row in result.artifacts}
    base = result.base.accuracy.accuracy if result.base else None
    return SeedRun(
        id=result.id,
        seed=result.config.seed,
        status=result.status,
        reason=result.reason,
        accuracy=base if label is None else rows.get(label),
        flops=float(_adaptation(record)[1]),
        seconds=result.timing.total if result.timing else None,
    )


def make_rows(name: str, records: Sequence[Record], limit: float) -> list[ScoredRow]:
    """Make one line per row label. If every run failed, make one line without an accuracy.

    Args:
        name: Name of the method with its settings.
        records: Runs of the method with these settings.
        limit: The group's budget in FLOPs.
    """
    labels = list(dict.fromkeys(row.label for record in records for row in record.result.artifacts))
    if not labels:
        runs = tuple(run_of(record, "") for record in records)
        first = records[0].result
        return [ScoredRow(LeaderboardRow(name, first.config.method, own_gate=has_own_gate(first), runs=runs))]
    return [_scored_row(f"{name} {label}".strip(), label, records, limit) for label in labels]


def _scored_row(name: str, label: str, records: Sequence[Record], limit: float) -> ScoredRow:
    found = [(record, text) for record in records if (text := record.of_label(label)) is not None]
    finished = [record for record, _ in found]
    rows: list[Row] = [next(row for row in r.result.artifacts if row.label == label) for r in finished]
    now = _verdicts([text for _, text in found])
    before = _verdicts([record.base for record in finished])
    judged = (now >= 0).all(axis=1) & (before >= 0).all(axis=1)
    evaluations, flops = zip(*map(_adaptation, finished), strict=True)
    share = min(map(_used, finished)) / limit if limit else 0.0
    declared = isinstance(finished[0].result.source, DeclaredSource)
    budgeted = declared or any(record.result.budget and record.result.budget.adapts for record in finished)
    returned_base = not any(row.changed for row in rows)
    compared = judged.any() and not returned_base
    seconds = [record.result.timing.total for record in finished if record.result.timing]
    line = LeaderboardRow(
        name=name,
        method=records[0].result.config.method,
        label=label,
        bound=not budgeted,
        own_gate=has_own_gate(records[0].result),
        returned_base=returned_base,
        accuracy=accuracy_over_seeds(now[judged]) if judged.any() else None,
        difference=difference_over_seeds(before[judged], now[judged]) if compared else None,
        gated=_gated(label, finished, before[judged], now[judged]) if judged.any() else None,
        ungated=tuple(dict.fromkeys(r.result.ungated for r in finished if r.result.ungated)),
        evaluations=fmean(evaluations),
        flops=fmean(flops),
        share=share,
        matched=share >= MATCHED if budgeted and not declared else None,
        passes=fmean(row.cost.evaluations for row in rows),
        answer_flops=fmean(row.cost.flops for row in rows),
        answer_tokens=fmean(row.cost.new_tokens for row in rows),
        seconds=fmean(seconds) if seconds else None,
        kept=min((row.move.cosine for row in rows if row.move and row.move.cosine is not None), default=None),
        runs=tuple(run_of(record, label) for record in records),
    )
    return ScoredRow(line, (now == 1).astype(float) if judged.any() else None)


def _gated(
    label: str, records: Sequence[Record], before: NDArray[np.float64], now: NDArray[np.float64]
) -> Gated | None:
    """Return what the gate made of a row's runs; None if one of them was not gated.

    Args:
        label: Label of the row.
        records: Its runs.
        before: Verdicts on the base's answers, shape [items, seeds].
        now: Verdicts on the row's answers, shape [items, seeds].
    """
    decisions = [row.gate for record in records for row in record.result.gated if row.label == label and row.gate]
    if len(decisions) < len(records):
        return None
    accepted = np.array([decision.accepted for decision in decisions])
    kept, seeds = int(accepted.sum()), len(decisions)
    difference = difference_over_seeds(before, np.where(accepted, now, before)) if kept else None
    detectable = max((d.detectable for d in decisions if d.detectable is not None), default=None)
    return Gated(kept, seeds, *exact_interval(kept, seeds), difference, detectable)


def _verdicts(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the verdicts as numbers, shape [items, seeds]."""
    return np.stack([outcomes(text) for text in texts], axis=1).astype(np.float64)


def _used(record: Record) -> float:
    """Return the FLOPs that the method could not spend again: it spent them, or they were reserved for the gate."""
    spent, gate, budget = _adaptation(record)[1], record.result.ledger.get("gate"), record.result.budget
    if budget is None or record.result.config.gate == "off":
        return spent
    return spent - (gate.flops if gate else 0) + budget.planned.get("gate", 0) * budget.evaluation_flops


def _adaptation(record: Record) -> tuple[int, int]:
    """Return the forward passes and the FLOPs that were billed to the budget.

    Of a model that was trained elsewhere, the passes are not known, and count as 0; the FLOPs are those declared.
    """
    if isinstance(source := record.result.source, DeclaredSource):
        return 0, source.flops
    billed = [row for account, row in record.result.ledger.items() if account in ADAPTATION]
    return sum(row.work.evaluations for row in billed), sum(row.flops for row in billed)
