"""Ranks of table rows on the same items, with ties if the difference is not significant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.stats.multiplicity import holm
from bench.stats.variance_components import MeanVariance


def pairwise_p_values(means: NDArray[np.float64], variances: Sequence[MeanVariance]) -> NDArray[np.float64]:
    """Return p-values of all pairwise differences in accuracy on the same items, without multiplicity correction.

    This is the score test of `difference_over_seeds` for all pairs at once. Its variance is the sum of the items'
    squared differences, which for one seed are McNemar's discordant pairs, and of both rows' variances over seeds.

    Args:
        means: Accuracy of each item over the row's seeds, shape (rows, items), with at least two items.
        variances: Variance of each row's mean, from `mean_variance`.

    Returns:
        Two-sided p-values, shape (rows, rows).
    """
    n = means.shape[1]
    products = means @ means.T
    own = np.diag(products)
    items = np.maximum(own[:, None] + own[None, :] - 2 * products, 0.0) / n**2
    seeds = np.array([v.seeds for v in variances])
    uncertainty = np.array([v.uncertainty for v in variances])
    variance = items + seeds[:, None] + seeds[None, :]
    total = means.mean(axis=1)
    # Rows with equal answers differ by rounding errors only.
    apart = variance > 1e-12
    score = np.abs(total[:, None] - total[None, :]) / np.sqrt(np.where(apart, variance, 1.0))
    # The small constants give rows without a variance over seeds practically infinite degrees of freedom.
    summed = uncertainty[:, None] + uncertainty[None, :]
    degrees_of_freedom = variance**2 / (summed + 1e-9 * variance**2 + 1e-300)
    return np.where(apart, 2 * stdtr(degrees_of_freedom, -score), 1.0)


def tied_ranks(values: NDArray[np.float64], p_values: NDArray[np.float64], level: float = 0.05) -> list[int]:
    """Return the rank of each row: 1 plus the number of rows that are significantly better.

    All pairs form one family with Holm correction. Ranks are not transitive: rows of the same rank may differ
    significantly from different rows.

    Args:
        values: Values, shape (rows,); higher is better.
        p_values: p-values of all pairwise differences, shape (rows, rows).
        level: Family-wise error rate.
    """
    first, second = np.triu_indices(values.size, 1)
    differ = np.zeros(p_values.shape, dtype=bool)
    differ[first, second] = differ[second, first] = holm(p_values[first, second]) <= level
    better = differ & (values[None, :] > values[:, None])
    return [1 + int(count) for count in better.sum(axis=1)]
