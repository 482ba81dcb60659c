"""Intervals and tests for accuracies and for answers to the same test items, and what tables of them need.

Which figure means what, and how well the intervals keep their word in simulation, is told in docs/statistics.md.
"""

from bench.stats.curves import area_under_front, pareto_front
from bench.stats.multiplicity import holm
from bench.stats.paired import (
    PairedCounts,
    mcnemar_exact,
    mcnemar_size,
    paired_counts,
    paired_difference_interval,
    tango_interval,
)
from bench.stats.profiles import performance_profile
from bench.stats.proportions import Estimate, Interval, pass_at_k, wilson_interval
from bench.stats.ranks import pairwise_p_values, tied_ranks
from bench.stats.seeds import (
    Spread,
    accuracy_over_seeds,
    coverage_over_items,
    difference_over_seeds,
    mean_difference,
    spread,
)

__all__ = [
    "Estimate",
    "Interval",
    "PairedCounts",
    "Spread",
    "accuracy_over_seeds",
    "area_under_front",
    "coverage_over_items",
    "difference_over_seeds",
    "holm",
    "mcnemar_exact",
    "mcnemar_size",
    "mean_difference",
    "paired_counts",
    "paired_difference_interval",
    "pairwise_p_values",
    "pareto_front",
    "pass_at_k",
    "performance_profile",
    "spread",
    "tango_interval",
    "tied_ranks",
    "wilson_interval",
]
