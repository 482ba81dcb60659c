"""Parts of a row that follow from its counts. Runs fill them in, and the check of records computes them again."""

from __future__ import annotations

from functools import lru_cache

from bench.records.rows import Accuracy, PairedComparison
from bench.stats import PairedCounts, mcnemar_exact, paired_difference_interval, wilson_interval


def accuracy_of(correct: int, items: int, excluded: int, mean_reward: float) -> Accuracy:
    """Return the accuracy of counted answers with its 95 % Wilson interval.

    Args:
        correct: Number of correct answers.
        items: Number of answers that could be judged; at least one.
        excluded: Number of the others.
        mean_reward: Mean shaped reward of the judged answers.
    """
    low, high = wilson_interval(correct, items)
    return Accuracy(
        correct=correct,
        items=items,
        excluded=excluded,
        accuracy=correct / items,
        low=low,
        high=high,
        mean_reward=mean_reward,
    )


@lru_cache(maxsize=4096)  # the records of a board repeat a few counts, and the interval is found by iteration
def comparison_of(counts: PairedCounts) -> PairedComparison:
    """Return the comparison of answers that were counted pair by pair."""
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
