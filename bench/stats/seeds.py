"""Several seeds on the same items: two levels of chance, the items drawn and the seeds drawn.

Answers to one item under several seeds are correlated, and so are all answers of one seed. Both are layers of variance
of the mean, and the score intervals of one seed are applied to as many independent items as would vary as much. Of one
seed nothing can be said of others: its figures hold for that seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri, stdtr, stdtrit

from bench.stats.paired import mcnemar_exact, paired_counts, paired_difference_interval, tango_interval
from bench.stats.proportions import Estimate, wilson


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the mean of a table of items and seeds may lie from what it estimates.

    Attributes:
        mean: Over items and seeds.
        items: Variance of the mean that comes of the items drawn, and of answers to them.
        seeds: Variance that comes of the seeds drawn, beyond that; 0 for one seed.
        doubt: How uncertain the sum of the two is: its variance, halved.
    """

    mean: float
    items: float
    seeds: float = 0.0
    doubt: float = 0.0

    @property
    def variance(self) -> float:
        """Of the mean."""
        return self.items + self.seeds

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite 1946, Biometrics Bulletin 2:110)."""
        return self.variance**2 / self.doubt if self.doubt else math.inf


def spread(values: NDArray[Any]) -> Spread:
    """Estimate the variance of a table's mean, items and seeds both random and crossed, every seed on every item.

    Variance components of the two-way layout without replication by its mean squares (Searle, Casella & McCulloch 1992,
    Variance Components, section 4.4). A negative one is 0, and as uncertain as it was; the items' is that of a score
    test, which is divided by their number and certain.

    Args:
        values: Shape (items, seeds), at least one of each.
    """
    n, seeds = values.shape
    by_item, by_seed = values.mean(axis=1), values.mean(axis=0)
    mean = float(by_item.mean())
    items = float(by_item.var()) / n
    if seeds == 1 or n == 1:
        return Spread(mean, items)
    between = n * float(by_seed.var(ddof=1))
    squares = float(np.square(values, dtype=np.float64).sum()) - n * seeds * mean**2
    freedom = (n - 1) * (seeds - 1)
    within = max(squares - n**2 * seeds * items - (seeds - 1) * between, 0.0) / freedom
    beyond = max(between - within, 0.0) / (n * seeds)
    doubt = (between**2 / (seeds - 1) + within**2 / freedom) / (n * seeds) ** 2
    # As few degrees of freedom as there are between seeds, and no fewer.
    return Spread(mean, items, beyond, min(doubt, (items + beyond) ** 2 / (seeds - 1)))


def accuracy_over_seeds(correct: NDArray[Any]) -> Estimate:
    """Estimate the mean accuracy of several seeds on the same items.

    Wilson's score interval at the effective number of items p (1 - p) / variance (Dean & Pagano 2015, Statistics in
    Medicine 34:3481), with Student's quantile. One seed gives Wilson's interval as it is.

    Args:
        correct: Shape (items, seeds), zeros and ones, at least one of each axis.
    """
    found, n = spread(correct), correct.shape[0]
    p = found.mean
    effective = _effective(p * (1 - p), found.variance, n, correct.size)
    return Estimate(p, *wilson(p, effective, _quantile(found)))


def coverage_over_items(values: NDArray[np.float64], answers: float) -> Estimate:
    """Estimate the mean of items' pass@k.

    The interval of `accuracy_over_seeds`, with the spread of the items' estimates in place of that over seeds.

    Args:
        values: Shape (items,), at least one, from `pass_at_k`.
        answers: Samples an item divided by k: how many independent draws of k answers they can count for at most.
    """
    n, p = values.size, float(values.mean())
    effective = _effective(p * (1 - p), float(values.var()) / n, n, n * answers)
    return Estimate(p, *wilson(p, effective, float(ndtri(0.975))))


def difference_over_seeds(before: NDArray[Any], after: NDArray[Any]) -> Estimate:
    """Estimate accuracy after minus accuracy before, paired by item, over several seeds.

    One seed gives Tango's interval and McNemar's exact test. Several give Tango's interval at the effective number of
    items, with Student's quantile, and the larger of two p-values: of the same score, and of McNemar's exact test at
    effective counts. Where `before` has one column it is the same for every seed, and fixed.

    Args:
        before: Shape (items,), or (items, 1), or (items, seeds), zeros and ones.
        after: Shape (items, seeds), zeros and ones.
    """
    n, seeds = after.shape
    old = before.reshape(n, -1)
    if seeds == 1:
        counts = paired_counts(old[:, 0], after[:, 0])
        low, high = paired_difference_interval(counts.fixes, counts.regressions, n)
        return Estimate(counts.difference, low, high, mcnemar_exact(counts.fixes, counts.regressions))
    change = after - old.astype(np.float64)
    found = spread(change)
    fixes, regressions = float((change > 0).mean()), float((change < 0).mean())
    effective = _effective(fixes + regressions - found.mean**2, found.variance, n, n * seeds)
    bounds = tango_interval(fixes * effective, regressions * effective, effective, _quantile(found))
    if fixes == regressions:
        return Estimate(found.mean, *bounds, 1.0)
    score = abs(fixes - regressions) * math.sqrt(effective / (fixes + regressions))
    p_value = 2 * float(stdtr(found.freedom, -score) if found.doubt else ndtr(-score))
    # Where few items move the score promises too much; a binomial tail at effective counts does not.
    many, few = effective * max(fixes, regressions), effective * min(fixes, regressions)
    return Estimate(found.mean, *bounds, max(p_value, min(1.0, 2 * float(betainc(many, few + 1, 0.5)))))


def mean_difference(differences: NDArray[np.float64], *, resamples: int = 20_000) -> Estimate:
    """Estimate the mean of items' differences: a t interval, and the randomisation test that flips their signs.

    Fisher 1935, with a fixed generator; the p-value is at least 1 / (resamples + 1).

    Args:
        differences: Shape (items,), in [-1, 1].
        resamples: Sign flips.
    """
    moved = differences[differences != 0]
    mean, n = float(differences.mean()), differences.size
    half = float(differences.std(ddof=1) / math.sqrt(n) * stdtrit(n - 1, 0.975)) if n > 1 else math.inf
    # Items that did not move say little of those that may: no narrower than the score interval without a change.
    z2 = float(ndtri(0.975)) ** 2
    half = max(half, z2 / (n + z2))
    rng, extreme, block = np.random.default_rng(0), 0, 1000
    for start in range(0, resamples, block):
        signs = rng.choice([-1.0, 1.0], (min(block, resamples - start), moved.size))
        extreme += int(np.count_nonzero(np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9))
    p_value = (1 + extreme) / (1 + resamples) if moved.size else 1.0
    return Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0), p_value)


def _quantile(found: Spread) -> float:
    return float(stdtrit(found.freedom, 0.975) if found.doubt else ndtri(0.975))


def _effective(single: float, variance: float, n: int, most: float) -> float:
    """How many independent trials of a variance vary as much as a mean; n where nothing varies."""
    return min(single / variance, most) if variance > 0 and single > 0 else n
