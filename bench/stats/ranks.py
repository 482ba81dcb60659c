"""Ranks of several rows on the same items, shared where the data cannot tell rows apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.stats.multiplicity import holm
from bench.stats.seeds import Spread


def pairwise_p_values(means: NDArray[np.float64], spreads: Sequence[Spread]) -> NDArray[np.float64]:
    """Test every pair of rows for a difference in accuracy on the same items; not corrected for their number.

    The score test of `difference_over_seeds` for all pairs at once: the items' squared differences, which for one seed
    are McNemar's discordant pairs, and the variance that each row's seeds add.

    Args:
        means: Shape (rows, items), at least two items: each item's accuracy over the row's seeds.
        spreads: Of each row's table.

    Returns:
        Shape (rows, rows), two-sided.
    """
    n = means.shape[1]
    products = means @ means.T
    own = np.diag(products)
    items = np.maximum(own[:, None] + own[None, :] - 2 * products, 0.0) / n**2
    seeds = np.array([s.seeds for s in spreads])
    doubt = np.array([s.doubt for s in spreads])
    variance = items + seeds[:, None] + seeds[None, :]
    total = means.mean(axis=1)
    # Rows that answer alike differ by rounding errors alone.
    apart = variance > 1e-12
    score = np.abs(total[:, None] - total[None, :]) / np.sqrt(np.where(apart, variance, 1.0))
    # A quantity too small to matter, so that rows without a variance of seeds have as good as infinitely many.
    freedom = variance**2 / (doubt[:, None] + doubt[None, :] + 1e-9 * variance**2 + 1e-300)
    return np.where(apart, 2 * stdtr(freedom, -score), 1.0)


def tied_ranks(values: NDArray[np.float64], p_values: NDArray[np.float64], level: float = 0.05) -> list[int]:
    """Rank rows, best first: one more than the number of rows that are better beyond chance.

    All pairs are one family, corrected after Holm. Rows of one rank need not tie with each other: of three, the first
    may beat the third alone.

    Args:
        values: Shape (rows,), higher is better.
        p_values: Shape (rows, rows), of no difference.
        level: Probability of calling any tie a difference.
    """
    first, second = np.triu_indices(values.size, 1)
    differ = np.zeros(p_values.shape, dtype=bool)
    differ[first, second] = differ[second, first] = holm(p_values[first, second]) <= level
    better = differ & (values[None, :] > values[:, None])
    return [1 + int(count) for count in better.sum(axis=1)]
