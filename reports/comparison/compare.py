"""Compare two runs on the same test items, item by item."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from bench.errors import UsageError
from bench.records.rows import AnswerCost
from bench.records.samples import Sample, read_samples
from bench.records.schema import Result
from bench.stats import (
    Estimate,
    mcnemar_exact,
    paired_counts,
    paired_difference_interval,
    wilson_interval,
)
from reports.reading import read_record


@dataclass(frozen=True)
class ComparedRow:
    """One of the two compared rows.

    Attributes:
        name: Method, row label, model, budget and seed.
        run: Id of the run.
        accuracy: Accuracy on the compared items.
        cost: Cost of one answer.
        adaptation_flops: FLOPs of adaptation.
    """

    name: str
    run: str
    accuracy: Estimate
    cost: AnswerCost
    adaptation_flops: int


@dataclass(frozen=True)
class ChangedItem:
    """Item that only one of the two runs answered correctly.

    Attributes:
        id: Id of the test item.
        first: Answer of the first run.
        second: Answer of the second run.
        question: Prompt that the first run answered; empty if its record is of an earlier version, or no model
            generated the answer on its own.
        gold: Reference answer; None if the task has none, and in records of earlier versions.
    """

    id: str
    first: str
    second: str
    question: str = ""
    gold: str | None = None


@dataclass(frozen=True)
class RunComparison:
    """Comparison of the second run with the first on the same items.

    Attributes:
        task: Name of the task.
        first: The first run.
        second: The second run.
        items: Number of items judged for both runs.
        excluded: Number of items that only one run answered, or that were not judged for both.
        both_right: Number of items that both answered correctly.
        both_wrong: Number of items that neither answered correctly.
        fixes: Items that the first run got wrong and the second right.
        regressions: Items that the first run got right and the second wrong.
        difference: Difference in accuracy, with Tango's interval and McNemar's exact p-value.
        reward: Mean difference in shaped reward, with its bootstrap interval; None if no item has rewards from both.
    """

    task: str
    first: ComparedRow
    second: ComparedRow
    items: int
    excluded: int
    both_right: int
    both_wrong: int
    fixes: tuple[ChangedItem, ...]
    regressions: tuple[ChangedItem, ...]
    difference: Estimate
    reward: Estimate | None


def compare_runs(folders: Sequence[Path], labels: Sequence[str]) -> RunComparison:
    """Compare one row of each of two runs.

    Args:
        folders: Two run directories.
        labels: Labels of the rows to compare: none if each run has one row, one label for both, or one for each.

    Raises:
        UsageError: If it is not clear which row to compare, or the runs did not answer the same items.
        BenchError: If a record cannot be read or contradicts itself.
    """
    runs = [(read_record(folder).result, read_samples(folder)) for folder in folders]
    picked = [*labels, *labels][:2] if labels else [None, None]
    known = {row.label for result, _ in runs for row in result.artifacts}
    if unknown := [label for label in labels if label not in known]:
        raise UsageError(f"--row {unknown[0]}: neither run has such a row; {_rows(known)}")
    rows = [_pick(f, result, label) for f, (result, _), label in zip(folders, runs, picked, strict=True)]
    (first, second), (a, b) = [result for result, _ in runs], rows
    same = [(r.config.task_label, r.versions.task if r.versions else "", r.content_hash) for r in (first, second)]
    if same[0] != same[1]:
        raise UsageError(
            f"{folders[1]} answers {_describe(*same[1])}; {folders[0]} answers {_describe(*same[0])}; only runs on the "
            "same items can be compared"
        )
    before, after = ({s.id: s for s in samples if s.row == row} for (_, samples), row in zip(runs, rows, strict=True))
    if not any(_judged(before[i], after[i]) for i in before if i in after):
        raise UsageError(f"{folders[0]} and {folders[1]} have no test item in common that was judged for both")
    return compare(first, a, before, second, b, after)


def _rows(labels: Collection[str]) -> str:
    named = sorted(filter(None, labels))
    return f"expected one of {', '.join(named)}" if named else "each has one row, so leave out --row"


def _describe(task: str, version: str, content_hash: str | None) -> str:
    return f"{task}, version {version or 'unknown'}, data {(content_hash or 'unknown')[:12]}"


def _pick(folder: Path, result: Result, label: str | None) -> int:
    """Return the index of the row as trained with a label, or of the only artifact's."""
    numbers = {row.label: number for number, row in enumerate(result.rows) if row.kind == "method"}
    if not numbers:
        raise UsageError(f"{folder}: ended with status {result.status} and has no answers: {result.reason}")
    if label in numbers:
        return numbers[label]
    if len(numbers) == 1:
        return next(iter(numbers.values()))
    given = "" if label is None else f"--row {label}: "
    raise UsageError(f"{given}{folder}: has rows {', '.join(numbers)}; choose with --row")


def _judged(first: Sample, second: Sample) -> bool:
    return first.correct is not None and second.correct is not None


def compare(
    first: Result, a: int, before: dict[str, Sample], second: Result, b: int, after: dict[str, Sample]
) -> RunComparison:
    """Compare row `a` of the first result with row `b` of the second, given their answers by item id."""
    ids = [i for i in before if i in after and _judged(before[i], after[i])]
    old, new = ([bool(samples[i].correct) for i in ids] for samples in (before, after))
    counts = paired_counts(old, new)
    p_value = mcnemar_exact(counts.fixes, counts.regressions)
    bounds = paired_difference_interval(counts.fixes, counts.regressions, counts.n)

    def changed(was: bool) -> tuple[ChangedItem, ...]:
        moved = [i for i, x, y in zip(ids, old, new, strict=True) if x is was and y is not was]
        return tuple(ChangedItem(i, before[i].text, after[i].text, before[i].question, before[i].gold) for i in moved)

    return RunComparison(
        task=first.config.task_label,
        first=_compared_row(first, a, sum(old), counts.n),
        second=_compared_row(second, b, sum(new), counts.n),
        items=counts.n,
        excluded=len(before.keys() | after.keys()) - counts.n,
        both_right=counts.both_right,
        both_wrong=counts.both_wrong,
        fixes=changed(False),
        regressions=changed(True),
        difference=Estimate(counts.difference, *bounds, p_value),
        reward=_reward([(before[i].reward, after[i].reward) for i in ids]),
    )


def _compared_row(result: Result, number: int, right: int, items: int) -> ComparedRow:
    config, row = result.config, result.rows[number]
    name = f"{config.method} {row.label}".strip()
    name = ", ".join([name, config.model_label, f"budget {config.budget}", f"seed {config.seed}", *config.controls])
    accuracy = Estimate(right / items, *wilson_interval(right, items))
    return ComparedRow(name, result.id, accuracy, row.cost, result.budget.spent if result.budget else 0)


def _reward(pairs: Sequence[tuple[float | None, float | None]]) -> Estimate | None:
    """Return the mean difference of rewards with its percentile bootstrap interval over items (Efron 1979).

    Accuracies need Tango's interval: the bootstrap is too narrow if few items differ.
    """
    gains = np.array([new - old for old, new in pairs if old is not None and new is not None])
    if not gains.size:
        return None
    if gains.size == 1:  # too few for scipy; every resample of one item is that item
        return Estimate(float(gains[0]), float(gains[0]), float(gains[0]))
    resampled = bootstrap((gains,), np.mean, n_resamples=10_000, batch=500, method="percentile", rng=0)
    low, high = resampled.confidence_interval
    return Estimate(float(gains.mean()), float(low), float(high))
