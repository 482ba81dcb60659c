"""Estimates over several seeds on the same items, with two random factors: items and seeds.

Answers to the same item under several seeds are correlated, and so are all answers of one seed. Both variance
components of the mean are estimated. An interval over several seeds is a t interval with a few added items, so that it
is not too narrow if few items change: docs/statistics.md has its coverage. Results for a single seed hold for this seed
only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from bench.stats.paired import mcnemar_exact, paired_counts, paired_difference_interval
from bench.stats.proportions import Estimate, Interval, check_confidence, exact_interval, wilson, wilson_interval

SEEDS_NEEDED = 5
"""Least number of seeds, if there are several, from which an interval is made.

If a method ends in one of two outcomes with equal probability, n seeds agree by chance in 2^(1 - n) of cases: 50 % for
2 seeds, 25 % for 3, 12.5 % for 4 and 6.25 % for 5. No interval over fewer seeds covers such a method's mean."""
CHANGED_NEEDED = 2
"""Least number of seeds that do not have the base's answers by decision. One gain says nothing of the next one."""

Clusters = Sequence[int] | NDArray[np.int_] | None
"""Cluster of each item: items with the same number share a stem. None if all items are independent."""


@dataclass(frozen=True, slots=True)
class MeanVariance:
    """Mean of a table of items and seeds, and the variance of this mean.

    Attributes:
        mean: Mean over items and seeds.
        items: Variance component of the sampled items, which includes the answers to them.
        seeds: Additional variance component of the sampled seeds; 0 for one seed.
        uncertainty: Half of the sampling variance of the components that come from the differences between seeds.
        units: Number of independent items or clusters.
    """

    mean: float
    items: float
    seeds: float = 0.0
    uncertainty: float = 0.0
    units: int = 1

    @property
    def variance(self) -> float:
        """Variance of the mean; its square root is the standard error."""
        return self.items + self.seeds

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite 1946, Biometrics Bulletin 2:110)."""
        uncertainty = self.uncertainty + self.items**2 / max(self.units - 1, 1)
        return self.variance**2 / uncertainty if uncertainty else math.inf


def mean_variance(values: NDArray[Any], clusters: Clusters = None) -> MeanVariance:
    """Estimate the mean of a table and its variance, with items and seeds as crossed random factors.

    The variance components are those of a two-way layout without replication, from its mean squares (Searle, Casella &
    McCulloch 1992, Variance Components, section 4.4). A negative component is set to 0, but keeps its uncertainty. The
    items' component is the sum of the squared deviations of the clusters' sums, divided by the squared number of items
    (Liang & Zeger 1986, Biometrika 73:13); without clusters each item is one.

    Args:
        values: Value of each item under each seed, shape (items, seeds), with at least one of each.
        clusters: Cluster of each item; None if items are independent.

    Raises:
        ValueError: If there is not one cluster for each item, or only one in all.
    """
    n, seeds = values.shape
    by_item, by_seed = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    mean = float(by_item.mean())
    scale = float(np.square(values, dtype=np.float64).mean())
    sums = summed(by_item - mean, clusters)
    units = len(sums)
    items = _positive(float(np.square(sums).sum()) / n, scale) / n
    if seeds == 1 or units == 1:
        return MeanVariance(mean, items, units=units)
    between = _positive(float(by_seed.var(ddof=1)), scale)
    rest = float(np.square(summed(values - by_item - by_seed + mean, clusters)).sum())
    within = rest * units / ((units - 1) * (seeds - 1) * n**2)
    over_seeds = _positive(between - within, scale / n) / seeds
    uncertainty = (between**2 + within**2 / (units - 1)) / (seeds - 1) / seeds**2
    # Differences between seeds have seeds - 1 degrees of freedom or more.
    return MeanVariance(mean, items, over_seeds, min(uncertainty, (items + over_seeds) ** 2 / (seeds - 1)), units)


def summed(values: NDArray[np.float64], clusters: Clusters) -> NDArray[np.float64]:
    """Return the sums of each cluster's values; the values themselves without clusters.

    Args:
        values: Values, shape (items, columns).
        clusters: Cluster of each item, or None.

    Returns:
        Sums, shape (clusters, columns), in the order of the clusters' numbers.

    Raises:
        ValueError: If there is not one cluster for each item, or only one in all.
    """
    if clusters is None:
        return values
    if len(clusters) != len(values):
        raise ValueError(f"clusters has {len(clusters)} numbers: one for each of the {len(values)} items is needed")
    known, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    if len(known) == 1:
        raise ValueError("clusters has one number for all items: a variance needs at least two clusters")
    sums: NDArray[np.float64] = np.zeros((len(known), values.shape[1]))
    np.add.at(sums, numbers, values)
    return sums


def _positive(value: float, scale: float) -> float:
    """Return a variance, or 0 if it is negative or a rounding error of values whose squares have this mean."""
    return value if value > 1e-12 * scale else 0.0


def interval_holds(seeds: int, changed: int | None = None) -> bool:
    """Return whether an interval over seeds has its coverage.

    Args:
        seeds: Number of seeds. One seed has an interval, which holds for its model.
        changed: Number of seeds that are something else than the base; None if no seed could be the base.
    """
    if changed is None:
        return seeds == 1 or seeds >= SEEDS_NEEDED
    return seeds >= SEEDS_NEEDED and changed >= CHANGED_NEEDED


def accuracy_over_seeds(
    correct: NDArray[Any],
    clusters: Clusters = None,
    *,
    before: NDArray[Any] | None = None,
    changed: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate the mean accuracy of several seeds on the same items.

    - One seed on independent items: Wilson's interval.
    - Otherwise: a t interval after two right and two wrong items are added (Agresti & Coull 1998, American Statistician
      52:119).
    - If a seed could be the unchanged base: the mean is a mixture of the base's answers and of those of changed seeds.
      The interval joins the t intervals of two mixtures, whose weights are the bounds of the exact interval of the
      share of changed seeds.

    Args:
        correct: Correctness as zeros and ones, shape (items, seeds), with at least one of each.
        clusters: Cluster of each item; None if items are independent.
        before: Correctness of the base's answers, shape (items, 1) or (items, seeds). Needed with `changed`.
        changed: Whether each seed is something else than the base, shape (seeds,), with at least one that is; None if
            no seed could be the base.

    Raises:
        ValueError: If `changed` comes without `before` or has no true value.
    """
    n, seeds = correct.shape
    if changed is not None:
        if before is None or not changed.any():
            raise ValueError("changed needs before, and at least one seed that is not the base")
        parts = [_accuracy_bounds(table, clusters) for table in mixtures(correct, before, changed)]
        return Estimate(float(correct.mean()), min(p.low for p in parts), max(p.high for p in parts))
    if seeds == 1 and clusters is None:
        return Estimate(float(correct.mean()), *wilson_interval(int(correct.sum()), n))
    return Estimate(float(correct.mean()), *_accuracy_bounds(correct, clusters))


def mixtures(
    correct: NDArray[Any], before: NDArray[Any], changed: NDArray[np.bool_], confidence: float = 0.95
) -> list[NDArray[np.float64]]:
    """Return the two mixtures of the base's answers and those of the changed seeds.

    Their weights are the bounds of the exact interval of the share of changed seeds.

    Args:
        correct: Correctness as zeros and ones, shape (items, seeds).
        before: Correctness of the base's answers, shape (items, 1) or (items, seeds).
        changed: Whether each seed is something else than the base, shape (seeds,), with at least one that is.
        confidence: Nominal coverage of the share.

    Returns:
        Expected correctness, each of shape (items, changed seeds).
    """
    base = np.broadcast_to(before, correct.shape)[:, changed].astype(np.float64)
    weights = exact_interval(int(changed.sum()), len(changed), confidence)
    return [(1 - weight) * base + weight * correct[:, changed] for weight in weights]


def _accuracy_bounds(correct: NDArray[Any], clusters: Clusters) -> Interval:
    """Return the t interval of a mean accuracy, after two right and two wrong items are added."""
    found = _with_items(correct, (0.0, 0.0, 1.0, 1.0), clusters)
    half = _quantile(found, 0.95) * math.sqrt(found.variance)
    return Interval(max(found.mean - half, 0.0), min(found.mean + half, 1.0))


def coverage_over_items(values: NDArray[np.float64], answers: float) -> Estimate:
    """Estimate the mean pass@k over items.

    The interval is Wilson's score interval for the effective number of items p (1 - p) / variance (Dean & Pagano 2015,
    Statistics in Medicine 34:3481), with the variance of the items' estimates.

    Args:
        values: pass@k of each item, from `pass_at_k`, shape (items,), with at least one item.
        answers: Samples per item divided by k. It limits the effective number of independent draws of k answers.
    """
    n, p = values.size, float(values.mean())
    effective = _effective(p * (1 - p), float(values.var()) / n, n, n * answers)
    return Estimate(p, *wilson(p, effective, float(ndtri(0.975))))


def difference_over_seeds(
    before: NDArray[Any],
    after: NDArray[Any],
    *,
    confidence: float = 0.95,
    clusters: Clusters = None,
    changed: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate accuracy after minus accuracy before, paired by item, over one or several seeds.

    The interval excludes 0 exactly if the p-value is at most 1 - confidence.

    - One seed on independent items: Tango's interval, widened up to 0 where McNemar's exact test says so. The p-value
      is the larger of the exact test's and the score test's, to which Tango's interval belongs.
    - Otherwise: a t interval, and its test, after half an item is added to each of the four outcomes of an item
      (Agresti & Min 2005, Statistics in Medicine 24:729).
    - If a seed could be the unchanged base: the mean is the share of changed seeds times their mean gain. The interval
      has the extreme products of two intervals, the exact one of the share and that of the gain. The p-value is that of
      the gain.

    Args:
        before: Correctness before as zeros and ones, shape (items,), (items, 1) or (items, seeds). One column is the
            same for every seed.
        after: Correctness after as zeros and ones, shape (items, seeds).
        confidence: Nominal coverage, in (0, 1).
        clusters: Cluster of each item; None if items are independent.
        changed: Whether each seed is something else than the base, shape (seeds,), with at least one that is; None if
            no seed could be the base.

    Raises:
        ValueError: If `confidence` is not in (0, 1), there is not one cluster for each item, or no seed is changed.
    """
    check_confidence(confidence)
    n, seeds = after.shape
    change = after - before.reshape(n, -1).astype(np.float64)
    if changed is None:
        return _difference(change, confidence, clusters)
    if not changed.any():
        raise ValueError("changed has no true value: at least one seed that is not the base is needed")
    gain = _difference(change[:, changed], confidence, clusters)
    share = exact_interval(int(changed.sum()), seeds, confidence)
    products = [part * bound for part in share for bound in (gain.low, gain.high)]
    return Estimate(float(change.mean()), min(products), max(products), gain.p_value)


def _difference(change: NDArray[np.float64], confidence: float, clusters: Clusters) -> Estimate:
    """Estimate the mean of changes of -1, 0 or 1, shape (items, seeds)."""
    n, seeds = change.shape
    if seeds == 1 and clusters is None:
        counts = paired_counts(change[:, 0] < 0, change[:, 0] > 0)
        low, high = paired_difference_interval(counts.fixes, counts.regressions, n, confidence)
        changes = counts.fixes + counts.regressions
        score = abs(counts.fixes - counts.regressions) / math.sqrt(changes) if changes else 0.0
        p_value = max(mcnemar_exact(counts.fixes, counts.regressions), 2 * float(ndtr(-score)))
        return agreeing(counts.difference, low, high, p_value, confidence)
    # Two items with the sum of squares of half a fix and half a regression; the other two halves do not change.
    found = _with_items(change, (math.sqrt(0.5), -math.sqrt(0.5)), clusters)
    error = math.sqrt(found.variance)
    half = _quantile(found, confidence) * error
    p_value = 2 * float(stdtr(found.degrees_of_freedom, -abs(found.mean) / error))
    low, high = max(found.mean - half, -1.0), min(found.mean + half, 1.0)
    return agreeing(float(change.mean()), low, high, p_value, confidence)


def agreeing(value: float, low: float, high: float, p_value: float, confidence: float) -> Estimate:
    """Return an estimate whose interval contains 0 if its p-value is above 1 - confidence."""
    if p_value > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return Estimate(value, low, high, p_value)


def _with_items(values: NDArray[Any], added: Sequence[float], clusters: Clusters) -> MeanVariance:
    """Estimate mean and variance after items are added that have the same value under every seed."""
    extended = np.vstack([values, np.repeat(np.array(added)[:, None], values.shape[1], axis=1)])
    if clusters is not None:
        summed(values, clusters)  # refuses clusters that do not fit the items
        clusters = np.append(clusters, max(clusters) + 1 + np.arange(len(added)))
    found = mean_variance(extended, clusters)
    return replace(found, units=found.units - len(added))


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


def _quantile(found: MeanVariance, confidence: float) -> float:
    """Return Student's quantile of a two-sided interval."""
    tail, freedom = (1 + confidence) / 2, found.degrees_of_freedom
    return float(stdtrit(freedom, tail) if math.isfinite(freedom) else ndtri(tail))


def _effective(single: float, variance: float, n: int, most: float) -> float:
    """Return the effective number of trials: how many independent trials give a mean of this variance.

    Args:
        single: Variance of a single trial.
        variance: Variance of the mean.
        n: Number to return if one of the two is 0.
        most: Upper limit.
    """
    return min(single / variance, most) if variance > 0 and single > 0 else n
