"""Build the lines of one method and setting from its runs: one line per artifact that it returned. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import ADAPTATION
from bench.records.rows import GateRecord, Row
from bench.records.schema import Result
from bench.records.source import DeclaredSource
from bench.stats import accuracy_over_seeds, difference_over_seeds, exact_interval, interval_holds
from reports.leaderboard.group import LEVEL, MATCHED, Gated, LeaderboardRow, OverSeeds, SeedRun
from reports.record import Record, outcomes


@dataclass(frozen=True)
class Comparison:
    """Answers of a row and of the base to the same items, from which their difference follows.

    Attributes:
        before: Correctness of the base's answers, shape [items, seeds].
        now: Correctness of the row's answers, shape [items, seeds].
        changed: Whether each seed is something else than the base, shape [seeds]; None if no seed could be the base,
            and for one seed as trained, whose interval holds for its model.
        clusters: Cluster of each item, shape [items]; None if items are independent.
    """

    before: NDArray[np.float64]
    now: NDArray[np.float64]
    changed: NDArray[np.bool_] | None = None
    clusters: NDArray[np.int_] | None = None

    @property
    def key(self) -> tuple[bytes, ...]:
        """Content of the comparison: rows with equal keys are one hypothesis."""
        return tuple(part.tobytes() for part in (self.before, self.now, self.changed) if part is not None)

    @property
    def tested(self) -> bool:
        """Whether an interval has its coverage, and some answer is judged otherwise than the base's."""
        return self._holds and bool((self.before != self.now).any())

    @property
    def _holds(self) -> bool:
        enough = interval_holds(self.now.shape[1], None if self.changed is None else int(self.changed.sum()))
        return enough and (self.clusters is None or len(set(self.clusters.tolist())) > 1)

    @property
    def accuracy(self) -> OverSeeds:
        """Accuracy of the row, with an interval of its own where one has its coverage."""
        by_seed = self.now.mean(axis=0)
        found = OverSeeds(float(by_seed.mean()), seeds=tuple(by_seed.tolist()))
        if not self._holds:
            return found
        made = accuracy_over_seeds(self.now, self.clusters, before=self.before, changed=self.changed)
        return replace(found, low=made.low, high=made.high)

    def difference(self, comparisons: int) -> OverSeeds:
        """Return the difference from the base, with an interval that holds together with all others.

        Args:
            comparisons: Number of different comparisons in the group, over which Bonferroni's correction is made.
        """
        by_seed = self.now.mean(axis=0) - self.before.mean(axis=0)
        found = OverSeeds(float(by_seed.mean()), seeds=tuple(by_seed.tolist()))
        if not self.tested:
            return found
        confidence = 1 - LEVEL / comparisons
        made = difference_over_seeds(
            self.before, self.now, confidence=confidence, clusters=self.clusters, changed=self.changed
        )
        corrected = min(comparisons * (made.p_value or 0.0), 1.0)
        return replace(found, low=made.low, high=made.high, p_value=corrected)


@dataclass(frozen=True)
class ScoredRow:
    """A line with the answers behind it, from which letters and differences follow.

    Attributes:
        line: The line, still without `letters` and differences.
        judged: Whether each item of the group counts: an answer to it was judged under every seed, and so was the
            base's; shape [items]. None if every seed failed.
        correct: 1 for each correct answer, else 0; shape [items, seeds], over all items of the group. None if every
            seed failed.
        trained: Comparison of the results as trained with the base; None without one, or if every seed returned it.
        gated: Comparison of the gated results with the base; None without a gate, or if no seed was kept.
    """

    line: LeaderboardRow
    judged: NDArray[np.bool_] | None = None
    correct: NDArray[np.float64] | None = None
    trained: Comparison | None = None
    gated: Comparison | None = None


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
        flops=float(adaptation(record)[1]),
        seconds=result.timing.total if result.timing else None,
    )


def make_rows(
    name: str, records: Sequence[Record], limit: float, clusters: Sequence[int] | None = None
) -> list[ScoredRow]:
    """Make one line per row label. If every run failed, make one line without an accuracy.

    Args:
        name: Name of the method with its settings.
        records: Runs of the method with these settings.
        limit: The group's budget in FLOPs.
        clusters: Cluster of each test item; None if items are independent.
    """
    labels = list(dict.fromkeys(row.label for record in records for row in record.result.artifacts))
    if not labels:
        runs = tuple(run_of(record, "") for record in records)
        first = records[0].result
        return [ScoredRow(LeaderboardRow(name, first.config.method, own_gate=has_own_gate(first), runs=runs))]
    return [_scored_row(f"{name} {label}".strip(), label, records, limit, clusters) for label in labels]


def _scored_row(
    name: str, label: str, records: Sequence[Record], limit: float, clusters: Sequence[int] | None
) -> ScoredRow:
    found = [(record, text) for record in records if (text := record.of_label(label)) is not None]
    finished = [record for record, _ in found]
    rows: list[Row] = [next(row for row in r.result.artifacts if row.label == label) for r in finished]
    now = _verdicts([text for _, text in found])
    before = _verdicts([record.base for record in finished])
    judged = np.asarray((now >= 0).all(axis=1) & (before >= 0).all(axis=1))
    groups = np.asarray(clusters)[judged] if clusters else None
    changed = np.array([row.changed for row in rows])
    evaluations, flops = zip(*map(adaptation, finished), strict=True)
    share = min(map(_used, finished)) / limit if limit else 0.0
    declared = isinstance(finished[0].result.source, DeclaredSource)
    budgeted = declared or any(record.result.budget and record.result.budget.adapts for record in finished)
    seconds = [record.result.timing.total for record in finished if record.result.timing]
    decisions = _decisions(label, finished)
    trained = as_trained(before[judged], now[judged], changed, groups, adapts=budgeted)
    line = LeaderboardRow(
        name=name,
        method=records[0].result.config.method,
        label=label,
        bound=not budgeted,
        own_gate=has_own_gate(records[0].result),
        returned_base=not changed.any(),
        accuracy=trained.accuracy if judged.any() else None,
        judged=int(judged.sum()),
        gated=_gated(decisions) if judged.any() and decisions else None,
        ungated=tuple(dict.fromkeys(r.result.ungated for r in finished if r.result.ungated)),
        evaluations=fmean(evaluations),
        flops=fmean(flops),
        share=share,
        matched=share >= MATCHED if budgeted and not declared else None,
        passes=fmean(row.cost.evaluations for row in rows),
        answer_flops=fmean(row.cost.flops for row in rows),
        answer_tokens=fmean(row.cost.new_tokens for row in rows),
        thought_tokens=thought_tokens(rows),
        seconds=fmean(seconds) if seconds else None,
        kept=min((row.move.cosine for row in rows if row.move and row.move.cosine is not None), default=None),
        runs=tuple(run_of(record, label) for record in records),
    )
    if not judged.any():
        return ScoredRow(line)
    old, new = before[judged], now[judged]
    accepted = np.array([decision.accepted for decision in decisions], dtype=bool)
    gated = Comparison(old, np.where(accepted, new, old), accepted, groups) if accepted.any() else None
    return ScoredRow(line, judged, (now == 1).astype(float), trained if changed.any() else None, gated)


def thought_tokens(rows: Sequence[Row]) -> float | None:
    """Return the mean number of tokens of a thought per answer, in the rows where it is known; None if in none."""
    known = [row.thoughts.tokens for row in rows if row.thoughts]
    return fmean(known) if known else None


def as_trained(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    changed: NDArray[np.bool_],
    clusters: NDArray[np.int_] | None = None,
    *,
    adapts: bool = True,
) -> Comparison:
    """Return the comparison of a row as trained with the base.

    A method that adapts may return the base under a seed. That it did not under these few says little of others, so the
    share of changed seeds has its interval in either case.

    Args:
        before: Correctness of the base's answers, shape [items, seeds].
        now: Correctness of the row's answers, shape [items, seeds].
        changed: Whether each seed is something else than the base, shape [seeds].
        clusters: Cluster of each item, shape [items]; None if items are independent.
        adapts: Whether the row's method adapts. One that does not cannot abstain.
    """
    return Comparison(before, now, changed if adapts and len(changed) > 1 else None, clusters)


def _decisions(label: str, records: Sequence[Record]) -> list[GateRecord]:
    """Return the gate's decision about each run's row; none if one of the runs was not gated."""
    found = [row.gate for record in records for row in record.result.gated if row.label == label and row.gate]
    return found if len(found) == len(records) else []


def _gated(decisions: Sequence[GateRecord]) -> Gated:
    """Return what the gate made of a row's runs, without their difference from the base."""
    kept, seeds = sum(decision.accepted for decision in decisions), len(decisions)
    detectable = max((decision.detectable for decision in decisions if decision.detectable is not None), default=None)
    return Gated(kept, seeds, *exact_interval(kept, seeds), detectable=detectable)


def _verdicts(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the verdicts as numbers, shape [items, seeds]."""
    return np.stack([outcomes(text) for text in texts], axis=1).astype(np.float64)


def _used(record: Record) -> float:
    """Return the FLOPs that the method could not spend again: it spent them, or they were reserved for the gate."""
    spent, gate, budget = adaptation(record)[1], record.result.ledger.get("gate"), record.result.budget
    if budget is None or record.result.config.gate == "off":
        return spent
    return spent - (gate.flops if gate else 0) + budget.planned.get("gate", 0) * budget.evaluation_flops


def adaptation(record: Record) -> tuple[int, int]:
    """Return the forward passes and the FLOPs that were billed to the budget.

    Of a model that was trained elsewhere, the passes are not known, and count as 0; the FLOPs are those declared.
    """
    if isinstance(source := record.result.source, DeclaredSource):
        return 0, source.flops
    billed = [row for account, row in record.result.ledger.items() if account in ADAPTATION]
    return sum(row.work.evaluations for row in billed), sum(row.flops for row in billed)
