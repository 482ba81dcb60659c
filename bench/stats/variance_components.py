"""Estimates over several seeds on the same items, with two random factors: items and seeds.

Answers to the same item under several seeds are correlated, and so are all answers of one seed. Both variance
components of the mean are estimated. The score intervals for one seed are then applied to an effective number of items:
the number of independent items that would give the same variance. Results for a single seed hold for this seed only.
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
class MeanVariance:
    """Mean of a table of items and seeds, and the variance of this mean.

    Attributes:
        mean: Mean over items and seeds.
        items: Variance component of the sampled items, which includes the answers to them.
        seeds: Additional variance component of the sampled seeds; 0 for one seed.
        uncertainty: Half of the sampling variance of `variance`; 0 if `variance` is treated as known.
    """

    mean: float
    items: float
    seeds: float = 0.0
    uncertainty: float = 0.0

    @property
    def variance(self) -> float:
        """Variance of the mean; its square root is the standard error."""
        return self.items + self.seeds

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite 1946, Biometrics Bulletin 2:110)."""
        return self.variance**2 / self.uncertainty if self.uncertainty else math.inf


def mean_variance(values: NDArray[Any]) -> MeanVariance:
    """Estimate the mean of a table and its variance, with items and seeds as crossed random factors.

    The variance components are those of a two-way layout without replication, from its mean squares (Searle, Casella &
    McCulloch 1992, Variance Components, section 4.4). A negative component is set to 0, but keeps its uncertainty. The
    items' component is that of the score test: it is divided by the number of items, and treated as known.

    Args:
        values: Value of each item under each seed, shape (items, seeds), with at least one of each.
    """
    n, seeds = values.shape
    by_item, by_seed = values.mean(axis=1), values.mean(axis=0)
    mean = float(by_item.mean())
    scale = float(np.square(values, dtype=np.float64).mean())
    items = _positive(float(by_item.var()), scale) / n
    if seeds == 1 or n == 1:
        return MeanVariance(mean, items)
    between = n * _positive(float(by_seed.var(ddof=1)), scale)
    squares = float(np.square(values, dtype=np.float64).sum()) - n * seeds * mean**2
    degrees_of_freedom = (n - 1) * (seeds - 1)
    within = max(squares - n**2 * seeds * items - (seeds - 1) * between, 0.0) / degrees_of_freedom
    over_seeds = _positive(between - within, scale) / (n * seeds)
    uncertainty = (between**2 / (seeds - 1) + within**2 / degrees_of_freedom) / (n * seeds) ** 2
    # At least seeds - 1 degrees of freedom.
    return MeanVariance(mean, items, over_seeds, min(uncertainty, (items + over_seeds) ** 2 / (seeds - 1)))


def _positive(value: float, scale: float) -> float:
    """Return a variance, or 0 if it is negative or a rounding error of values whose squares have this mean."""
    return value if value > 1e-12 * scale else 0.0


def accuracy_over_seeds(correct: NDArray[Any]) -> Estimate:
    """Estimate the mean accuracy of several seeds on the same items.

    The interval is Wilson's score interval for the effective number of items p (1 - p) / variance (Dean & Pagano 2015,
    Statistics in Medicine 34:3481), with Student's quantile. For one seed it is Wilson's interval.

    Args:
        correct: Correctness as zeros and ones, shape (items, seeds), with at least one of each.
    """
    found, n = mean_variance(correct), correct.shape[0]
    p = found.mean
    effective = _effective(p * (1 - p), found.variance, n, correct.size)
    return Estimate(p, *wilson(p, effective, _quantile(found)))


def coverage_over_items(values: NDArray[np.float64], answers: float) -> Estimate:
    """Estimate the mean pass@k over items.

    The interval is that of `accuracy_over_seeds`, with the variance of the items' estimates.

    Args:
        values: pass@k of each item, from `pass_at_k`, shape (items,), with at least one item.
        answers: Samples per item divided by k. It limits the effective number of independent draws of k answers.
    """
    n, p = values.size, float(values.mean())
    effective = _effective(p * (1 - p), float(values.var()) / n, n, n * answers)
    return Estimate(p, *wilson(p, effective, float(ndtri(0.975))))


def difference_over_seeds(before: NDArray[Any], after: NDArray[Any]) -> Estimate:
    """Estimate accuracy after minus accuracy before, paired by item, over several seeds.

    One seed gives Tango's interval and McNemar's exact test. Several seeds give Tango's interval for the effective
    number of items, with Student's quantile, and the larger of two p-values: that of the same score, and that of
    McNemar's exact test for effective counts. If `before` has one column, it is the same for every seed.

    Args:
        before: Correctness before as zeros and ones, shape (items,), (items, 1) or (items, seeds).
        after: Correctness after as zeros and ones, shape (items, seeds).
    """
    n, seeds = after.shape
    old = before.reshape(n, -1)
    if seeds == 1:
        counts = paired_counts(old[:, 0], after[:, 0])
        low, high = paired_difference_interval(counts.fixes, counts.regressions, n)
        return Estimate(counts.difference, low, high, mcnemar_exact(counts.fixes, counts.regressions))
    change = after - old.astype(np.float64)
    found = mean_variance(change)
    fixes, regressions = float((change > 0).mean()), float((change < 0).mean())
    effective = _effective(fixes + regressions - found.mean**2, found.variance, n, n * seeds)
    bounds = tango_interval(fixes * effective, regressions * effective, effective, _quantile(found))
    if fixes == regressions:
        return Estimate(found.mean, *bounds, 1.0)
    score = abs(fixes - regressions) * math.sqrt(effective / (fixes + regressions))
    p_value = 2 * float(stdtr(found.degrees_of_freedom, -score) if found.uncertainty else ndtr(-score))
    # If few items change, the score test rejects too often. A binomial tail for effective counts does not.
    many, few = effective * max(fixes, regressions), effective * min(fixes, regressions)
    return Estimate(found.mean, *bounds, max(p_value, min(1.0, 2 * float(betainc(many, few + 1, 0.5)))))


def mean_difference(differences: NDArray[np.float64], *, resamples: int = 20_000) -> Estimate:
    """Estimate the mean of the items' differences, with a t interval and a sign-flip randomisation test.

    The test is Fisher's (1935), with a fixed random generator. Its p-value is at least 1 / (resamples + 1).

    Args:
        differences: Difference of each item, shape (items,), in [-1, 1].
        resamples: Number of random sign flips.
    """
    moved = differences[differences != 0]
    mean, n = float(differences.mean()), differences.size
    half = float(differences.std(ddof=1) / math.sqrt(n) * stdtrit(n - 1, 0.975)) if n > 1 else math.inf
    # The t interval is too narrow if few items change, so it is at least as wide as the score interval for no change.
    z2 = float(ndtri(0.975)) ** 2
    half = max(half, z2 / (n + z2))
    rng, extreme, block = np.random.default_rng(0), 0, 1000
    for start in range(0, resamples, block):
        signs = rng.choice([-1.0, 1.0], (min(block, resamples - start), moved.size))
        extreme += int(np.count_nonzero(np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9))
    p_value = (1 + extreme) / (1 + resamples) if moved.size else 1.0
    return Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0), p_value)


def _quantile(found: MeanVariance) -> float:
    return float(stdtrit(found.degrees_of_freedom, 0.975) if found.uncertainty else ndtri(0.975))


def _effective(single: float, variance: float, n: int, most: float) -> float:
    """Return the effective number of trials: how many independent trials give a mean of this variance.

    Args:
        single: Variance of a single trial.
        variance: Variance of the mean.
        n: Number to return if one of the two is 0.
        most: Upper limit.
    """
    return min(single / variance, most) if variance > 0 and single > 0 else n
