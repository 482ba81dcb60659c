"""Compact letter display: rows on the same items share a letter exactly if they are not significantly different."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, stdtr

from bench.stats.multiplicity import holm
from bench.stats.variance_components import Clusters, mean_variance, summed

MOST_LETTERS = len(string.ascii_lowercase)
"""Largest number of different letters of a display: nobody can read more. Their number can double with each pair."""


def pairwise_p_values(tables: Sequence[NDArray[Any]], clusters: Clusters = None) -> NDArray[np.float64]:
    """Return p-values of all pairwise differences in accuracy on the same items, without multiplicity correction.

    This is the test of `difference_over_seeds` for all pairs at once, in which both rows may have several seeds. Its
    variance is that of the items' differences, with the items added there, plus both rows' variances over seeds. Two
    rows with one seed each have at least the p-value of McNemar's exact test, unless items come in clusters.

    Args:
        tables: Correctness of each row, shape (items, seeds of the row), with at least two items.
        clusters: Cluster of each item; None if items are independent.

    Returns:
        Two-sided p-values, shape (rows, rows).
    """
    means = np.array([table.mean(axis=1) for table in tables], dtype=np.float64)
    n = means.shape[1]
    found = [mean_variance(np.asarray(table), clusters) for table in tables]
    centred = summed(means.T - means.mean(axis=1), clusters).T
    products = centred @ centred.T
    own = np.diag(products)
    apart = means.mean(axis=1)[:, None] - means.mean(axis=1)[None, :]
    squares = np.maximum(own[:, None] + own[None, :] - 2 * products, 0.0) + 1 + 2 * n * apart**2 / (n + 2)
    items = squares / (n + 2) ** 2
    seeds, uncertainty = (np.array([getattr(f, name) for f in found]) for name in ("seeds", "uncertainty"))
    variance = items + seeds[:, None] + seeds[None, :]
    summed_uncertainty = uncertainty[:, None] + uncertainty[None, :] + items**2 / max(centred.shape[1] - 1, 1)
    p_values = 2 * stdtr(variance**2 / summed_uncertainty, -np.abs(apart) * n / (n + 2) / np.sqrt(variance))
    if clusters is None:
        single = np.flatnonzero([table.shape[1] == 1 for table in tables])
        if single.size:
            pairs = np.ix_(single, single)
            p_values[pairs] = np.maximum(p_values[pairs], _exact(means[single]))
    np.fill_diagonal(p_values, 1.0)
    return np.asarray(np.minimum(p_values, 1.0))


def _exact(correct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-values of McNemar's exact test for all pairs of rows of zeros and ones, shape (rows, items)."""
    # Right in the first row and wrong in the second.
    only = np.rint(correct @ (1 - correct).T).astype(np.int64)
    most = np.maximum(only, only.T)
    return np.where(most > 0, np.minimum(2 * bdtrc(np.maximum(most - 1, 0), only + only.T, 0.5), 1.0), 1.0)


def different_pairs(p_values: NDArray[np.float64], level: float = 0.05) -> NDArray[np.bool_]:
    """Return which pairs of rows differ significantly, with Holm's correction over all pairs.

    Args:
        p_values: p-values of all pairwise differences, shape (rows, rows).
        level: Family-wise error rate.
    """
    first, second = np.triu_indices(len(p_values), 1)
    differ = np.zeros(p_values.shape, dtype=bool)
    differ[first, second] = differ[second, first] = holm(p_values[first, second]) <= level
    return differ


def compact_letters(differ: NDArray[np.bool_]) -> list[str] | None:
    """Return the letters of each row, such as `["a", "ab", "b"]` if only the first and the last row differ.

    This is the insert-and-absorb algorithm of Piepho (2004, Journal of Computational and Graphical Statistics 13:456).
    A letter stands for a set of rows without a significant difference. At first there is one set of all rows. Each
    significant pair splits every set that contains both rows, and a set within another one is dropped.

    Args:
        differ: Whether each pair of rows differs significantly, symmetric, shape (rows, rows). The best row comes
            first: letters are given in the order of the rows.

    Returns:
        Letters of each row; None if more than `MOST_LETTERS` are needed, or eight times as many on the way.
    """
    rows = len(differ)
    sets = {frozenset(range(rows))}
    for i, j in zip(*np.triu(differ, 1).nonzero(), strict=True):
        pair = {int(i), int(j)}
        split = {members for members in sets if pair <= members}
        parts = {members - {row} for members in split for row in pair}
        sets -= split
        sets |= {part for part in parts if not any(part < other for other in parts | sets)}
        if len(sets) > 8 * MOST_LETTERS:
            return None
    if len(sets) > MOST_LETTERS:
        return None
    lettered = list(zip(string.ascii_lowercase, sorted(sets, key=sorted), strict=False))
    return ["".join(letter for letter, members in lettered if row in members) for row in range(rows)]
