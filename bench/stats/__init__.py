"""Confidence intervals, paired tests, letters and multiple-comparison corrections for accuracies on test items.

docs/statistics.md explains each number, and the coverage of the intervals in simulation.
"""

from bench.stats.letters import (
    MOST_LETTERS,
    RowAnswers,
    compact_letters,
    different_pairs,
    pairwise_difference,
    pairwise_p_values,
)
from bench.stats.multiplicity import holm
from bench.stats.paired import (
    PairedCounts,
    mcnemar_exact,
    mcnemar_size,
    paired_counts,
    paired_difference_interval,
    tango_interval,
)
from bench.stats.pareto import area_under_front, pareto_front
from bench.stats.profiles import performance_profile, profile_interval
from bench.stats.proportions import Estimate, Interval, exact_interval, pass_at_k, wilson_interval
from bench.stats.variance_components import (
    MeanVariance,
    accuracy_over_seeds,
    coverage_over_items,
    difference_over_seeds,
    interval_holds,
    mean_difference,
    mean_variance,
)

__all__ = [
    "MOST_LETTERS",
    "Estimate",
    "Interval",
    "MeanVariance",
    "PairedCounts",
    "RowAnswers",
    "accuracy_over_seeds",
    "area_under_front",
    "compact_letters",
    "coverage_over_items",
    "difference_over_seeds",
    "different_pairs",
    "exact_interval",
    "holm",
    "interval_holds",
    "mcnemar_exact",
    "mcnemar_size",
    "mean_difference",
    "mean_variance",
    "paired_counts",
    "paired_difference_interval",
    "pairwise_difference",
    "pairwise_p_values",
    "pareto_front",
    "pass_at_k",
    "performance_profile",
    "profile_interval",
    "tango_interval",
    "wilson_interval",
]
