"""Compact letter display: rows on the same items share a letter exactly if they are not significantly different."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, stdtr, stdtrit

from bench.stats.multiplicity import holm
from bench.stats.proportions import Estimate, check_confidence
from bench.stats.variance_components import Clusters, agreeing, difference_over_seeds, mean_variance, mixtures, summed

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
    apart, variance, freedom = _pairs(tables, clusters)
    p_values = 2 * stdtr(freedom, -np.abs(apart) / np.sqrt(variance))
    if clusters is None:
        single = [at for at, table in enumerate(tables) if table.shape[1] == 1]
        if single:
            pairs = np.ix_(single, single)
            p_values[pairs] = np.maximum(p_values[pairs], _exact(np.array([tables[at][:, 0] for at in single])))
    np.fill_diagonal(p_values, 1.0)
    return np.asarray(np.minimum(p_values, 1.0))


@dataclass(frozen=True)
class RowAnswers:
    """Answers of one row to the items of a table.

    Attributes:
        correct: Correctness as zeros and ones, shape (items, seeds).
        base: Correctness of the base's answers, shape (items, 1) or (items, seeds). Needed with `changed`.
        changed: Whether each seed is something else than the base, shape (seeds,), with at least one that is; None if
            no seed could be the base.
    """

    correct: NDArray[Any]
    base: NDArray[Any] | None = None
    changed: NDArray[np.bool_] | None = None

    def tables(self, confidence: float) -> list[NDArray[np.float64]]:
        """Return the answers, or their two mixtures with the base's at the bounds of the share of changed seeds."""
        if self.changed is None or self.base is None:
            return [self.correct.astype(np.float64)]
        return mixtures(self.correct, self.base, self.changed, confidence)


def pairwise_difference(
    before: RowAnswers, after: RowAnswers, *, confidence: float = 0.95, clusters: Clusters = None
) -> Estimate:
    """Estimate the accuracy of one row minus that of another on the same items, for any numbers of seeds.

    The interval excludes 0 exactly if the p-value is at most 1 - confidence.

    - One seed each, on independent items: the interval of `difference_over_seeds`.
    - Otherwise: the interval of the test of `pairwise_p_values`.
    - If a seed of a row could be the unchanged base: the interval joins those of the row's two mixtures, and the
      p-value is the largest of theirs, or 1 if they disagree on the sign.

    Args:
        before: Answers of the row that is subtracted, to at least two items.
        after: Answers of the other row.
        confidence: Nominal coverage, in (0, 1).
        clusters: Cluster of each item; None if items are independent.
    """
    check_confidence(confidence)
    value = float(after.correct.mean() - before.correct.mean())
    pairs = [[one, two] for one in before.tables(confidence) for two in after.tables(confidence)]
    if len(pairs) == 1 and clusters is None and {table.shape[1] for table in pairs[0]} == {1}:
        return difference_over_seeds(*pairs[0], confidence=confidence)
    parts = [_pair(pair, confidence, clusters) for pair in pairs]
    same = len({part.value > 0 for part in parts}) == 1
    p_value = max(part.p_value or 0.0 for part in parts) if same else 1.0
    return agreeing(value, min(p.low for p in parts), max(p.high for p in parts), p_value, confidence)


def _pair(tables: Sequence[NDArray[np.float64]], confidence: float, clusters: Clusters) -> Estimate:
    """Estimate the mean of the second table minus that of the first."""
    apart, variance, freedom = (float(found[1, 0]) for found in _pairs(tables, clusters))
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    p_value = 2 * float(stdtr(freedom, -abs(apart) / error))
    return Estimate(apart, max(apart - half, -1.0), min(apart + half, 1.0), p_value)


def _pairs(
    tables: Sequence[NDArray[Any]], clusters: Clusters
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return differences, their variances and degrees of freedom for all pairs of rows, each of shape (rows, rows)."""
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
    return apart * n / (n + 2), variance, variance**2 / summed_uncertainty


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
