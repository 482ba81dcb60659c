"""Test statistics of a record, computed from scored answers, and the file of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.files import write_atomically
from bench.records.schema import Accuracy, AnswerCost, PairedComparison, Row, Sample
from bench.stats import mcnemar_exact, paired_counts, paired_difference_interval, wilson_interval
from tasks.interface import Example, Score

Answers = tuple[Sequence[str], Sequence[Score]]
"""Answer texts and their scores."""


def accuracy(judged: Sequence[Score], excluded: int = 0) -> Accuracy:
    """Return the accuracy of scored answers with its 95 % Wilson interval.

    Args:
        judged: Scores of all answers that could be judged; at least one.
        excluded: Number of answers that could not be judged.
    """
    correct, n = sum(s.correct for s in judged), len(judged)
    low, high = wilson_interval(correct, n)
    return Accuracy(
        correct=correct,
        items=n,
        excluded=excluded,
        accuracy=correct / n,
        low=low,
        high=high,
        mean_reward=sum(s.reward for s in judged) / n,
    )


def compare(before: Sequence[Score], now: Sequence[Score]) -> PairedComparison:
    """Compare scored answers to the same examples, item by item."""
    counts = paired_counts([s.correct for s in before], [s.correct for s in now])
    low, high = paired_difference_interval(counts.fixes, counts.regressions, counts.n)
    return PairedComparison(
        items=counts.n,
        fixes=counts.fixes,
        regressions=counts.regressions,
        difference=counts.difference,
        low=low,
        high=high,
        p_value=mcnemar_exact(counts.fixes, counts.regressions),
    )


def make_row(
    label: str,
    base: Sequence[Score],
    now: Sequence[Score],
    cost: AnswerCost,
    *,
    changed: bool,
    report: dict[str, Any],
) -> Row:
    """Return a result row, computed over the examples that could be judged for both the base and the artifact.

    Args:
        label: Label of the artifact.
        base: Scores of the base, one per test example.
        now: Scores of the artifact, one per test example.
        cost: Cost of one answer of the artifact.
        changed: Whether the artifact differs from the base.
        report: The artifact's own report.

    Raises:
        BenchError: If there are no such examples.
    """
    judged = [
        i for i, pair in enumerate(zip(base, now, strict=True)) if all(s.status != "infrastructure" for s in pair)
    ]
    if not judged:
        raise BenchError("no test answer could be judged; see `bench doctor`")
    before, after = [base[i] for i in judged], [now[i] for i in judged]
    return Row(
        label=label,
        accuracy=accuracy(after, len(now) - len(judged)),
        cost=cost,
        comparison=compare(before, after),
        changed=changed,
        report=report,
    )


def write_samples(
    path: Path,
    examples: Sequence[Example],
    prompt_sha256: Callable[[Example], str],
    rows: Mapping[str, Answers],
    base: Answers,
) -> None:
    """Write samples.jsonl: one line per row and test example. See `bench.records.schema.Sample`.

    Raises:
        WriteFailed: If the file cannot be written.
    """
    lines = []
    for label, now in rows.items():
        for example, text, score, base_text, base_score in zip(examples, *now, *base, strict=True):
            judged = score.status != "infrastructure"
            sample = Sample(
                row=label,
                id=example.id,
                prompt_sha256=prompt_sha256(example),
                text=text,
                answer=score.answer,
                correct=score.correct if judged else None,
                reward=score.reward if judged else None,
                status=score.status,
                detail=score.detail,
                base_text=base_text,
                base_correct=base_score.correct if base_score.status != "infrastructure" else None,
            )
            lines.append(sample.model_dump_json() + "\n")
    write_atomically(path, "".join(lines))
