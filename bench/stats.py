"""Intervals and tests for accuracies and for paired comparisons of two answers to the same test items.

All of them treat test items as the sample. Where a method ran under several seeds, an item's outcomes are averaged
first, so that answers to one item count once; what is said holds for those seeds, not for seeds at large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binomtest
from scipy.stats import t as student_t


class Interval(NamedTuple):
    """A two-sided confidence interval, bounds included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How often two answers to the same items were right, cross-tabulated: before against after.

    Attributes:
        both_right: Right before and after.
        fixes: Wrong before, right after.
        regressions: Right before, wrong after.
        both_wrong: Wrong before and after.
    """

    both_right: int
    fixes: int
    regressions: int
    both_wrong: int

    @property
    def n(self) -> int:
        """Number of items."""
        return self.both_right + self.fixes + self.regressions + self.both_wrong

    @property
    def difference(self) -> float:
        """Accuracy after minus accuracy before, in [-1, 1]; NaN for no items."""
        return (self.fixes - self.regressions) / self.n if self.n else math.nan


def paired_counts(before: Sequence[bool] | NDArray[Any], after: Sequence[bool] | NDArray[Any]) -> PairedCounts:
    """Cross-tabulate correctness before and after, item by item.

    Args:
        before: Shape (n,), whether each item was right; booleans, or zeros and ones; no rewards.
        after: Shape (n,), the same items in the same order.

    Raises:
        ValueError: The lengths differ, or a value is neither true nor false.
    """
    old, new = _correctness("before", before), _correctness("after", after)
    if old.shape != new.shape:
        raise ValueError(f"before has {old.size} items, after has {new.size}: they must be the same items")
    return PairedCounts(
        both_right=int(np.sum(old & new)),
        fixes=int(np.sum(~old & new)),
        regressions=int(np.sum(old & ~new)),
        both_wrong=int(np.sum(~old & ~new)),
    )


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval for one proportion (Wilson 1927, JASA 22:209), without continuity correction.

    No trials say nothing: the interval of n = 0 is (0, 1).

    Raises:
        ValueError: `successes` is not in 0..n, or `confidence` is not in (0, 1).
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes is {successes}: an integer from 0 to n, {n}, is needed")
    if n == 0:
        return Interval(0.0, 1.0)
    bounds = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def mcnemar_exact(fixes: int, regressions: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """P-value of McNemar's exact test that fixes and regressions are equally likely.

    Binomial in the discordant pairs, given their number (McNemar 1947, Psychometrika 12:153); pairs that
    agree carry no information. Without discordant pairs the p-value is 1.

    Args:
        fixes: Items wrong before and right after.
        regressions: Items right before and wrong after.
        alternative: "two-sided", or "greater" for fixes being likelier than regressions.

    Raises:
        ValueError: A count is negative.
    """
    _check_discordant(fixes, regressions)
    discordant = fixes + regressions
    return float(binomtest(fixes, discordant, 0.5, alternative).pvalue) if discordant else 1.0


def paired_difference_interval(fixes: int, regressions: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval for accuracy after minus accuracy before on the same n items.

    Tango 1998 (Statistics in Medicine 17:891): it inverts the score test that at difference 0 is McNemar's
    z = (fixes - regressions) / sqrt(fixes + regressions), so interval and asymptotic test agree. How the
    pairs that agree divide into right and wrong does not matter, unlike in Newcombe's square-and-add
    interval (1998, Statistics in Medicine 17:2635). It stays in [-1, 1], and without discordant pairs it is
    -z^2 / (n + z^2) to z^2 / (n + z^2). The interval of n = 0 is (-1, 1).

    Args:
        fixes: Items wrong before and right after.
        regressions: Items right before and wrong after.
        n: All items, concordant ones included.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: A count is negative, `n` is below their sum, or `confidence` is not in (0, 1).
    """
    _check_confidence(confidence)
    _check_discordant(fixes, regressions)
    if fixes + regressions > n:
        raise ValueError(f"n is {n}: at least fixes + regressions, {fixes + regressions}, are needed")
    if n == 0:
        return Interval(-1.0, 1.0)
    z = float(ndtri((1 + confidence) / 2))
    return Interval(_tango_low(fixes, regressions, n, z), -_tango_low(regressions, fixes, n, z))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval and, for a difference, the p-value of there being none."""

    value: float
    low: float
    high: float
    p_value: float | None = None


def pass_at_k(samples: NDArray[np.int_], right: NDArray[np.int_], k: int) -> NDArray[np.float64]:
    """Estimate, item by item, the chance that at least one of k sampled answers is right.

    1 - C(n - c, k) / C(n, k), unbiased for n >= k independent answers of which c are right (Chen et al. 2021, arXiv
    2107.03374, equation 1), as a product of ratios, which no factorial overflows.

    Args:
        samples: Shape (items,), n: answers that were judged.
        right: Shape (items,), c: how many of them were right.
        k: Answers that may be given.

    Returns:
        Shape (items,), in [0, 1]; NaN where n is below k.

    Raises:
        ValueError: `k` is below 1, or `right` is not in 0..n.
    """
    n, c = np.asarray(samples), np.asarray(right)
    if k < 1 or not ((c >= 0) & (c <= n)).all():
        raise ValueError(f"k is {k}, right is {c}: at least 1, and integers from 0 to the samples, are needed")
    draws = np.arange(k)
    left, wrong = n[..., None] - draws, (n - c)[..., None] - draws  # before each draw, without replacement
    missed = np.prod(np.maximum(wrong, 0) / np.maximum(left, 1), axis=-1)
    return np.where(n >= k, 1.0 - missed, np.nan)


def coverage_over_items(values: NDArray[np.float64], answers: float) -> Estimate:
    """Estimate the mean of items' pass@k.

    The interval of `accuracy_over_seeds`, with the spread of the items' estimates in place of that over seeds.

    Args:
        values: Shape (items,), at least one, from `pass_at_k`.
        answers: Samples an item divided by k: how many independent draws of k answers they can count for at most.
    """
    return _wilson_of_means(values, answers)


def accuracy_over_seeds(correct: NDArray[Any]) -> Estimate:
    """Estimate the mean accuracy of several seeds on the same items.

    Wilson's score interval at the effective number of items p (1 - p) / SE^2, SE clustered by item (Dean & Pagano
    2015, Statistics in Medicine 34:3481): between n, where all seeds answer alike, and n times the seeds. One seed
    gives Wilson's interval as it is.

    Args:
        correct: Shape (items, seeds), zeros and ones, at least one of each axis.
    """
    return _wilson_of_means(correct.mean(axis=1), correct.shape[1])


def _wilson_of_means(means: NDArray[np.float64], most: float) -> Estimate:
    """Wilson's interval for the mean of items' shares, each of which counts for 1 to `most` trials."""
    n = means.size
    p = float(means.mean())
    spread = float(means.var(ddof=1)) if n > 1 else 0.0
    effective = min(max(n, n * p * (1 - p) / spread), n * most) if spread > 0 and most > 1 else n
    z2 = float(ndtri(0.975)) ** 2
    centre = (p + z2 / (2 * effective)) / (1 + z2 / effective)
    half = math.sqrt(z2 * (p * (1 - p) + z2 / (4 * effective)) / effective) / (1 + z2 / effective)
    return Estimate(p, max(centre - half, 0.0), min(centre + half, 1.0))


def difference_over_seeds(before: NDArray[Any], after: NDArray[Any], *, resamples: int = 20_000) -> Estimate:
    """Estimate accuracy after minus accuracy before, paired by item, over several seeds.

    One seed gives Tango's interval and McNemar's exact test. Several give a t interval over the items' mean
    differences, never narrower than Tango's where nothing changed, and the randomisation test that flips the signs of
    whole items (Fisher 1935), with a fixed generator; its p-value is at least 1 / (resamples + 1).

    Args:
        before: Shape (items,) or (items, seeds), zeros and ones.
        after: Shape (items, seeds), zeros and ones.
        resamples: Sign flips.
    """
    if after.shape[1] == 1:
        counts = paired_counts(before.reshape(len(after), -1)[:, 0], after[:, 0])
        low, high = paired_difference_interval(counts.fixes, counts.regressions, counts.n)
        return Estimate(counts.difference, low, high, mcnemar_exact(counts.fixes, counts.regressions))
    return mean_difference(after.mean(axis=1) - before.reshape(len(after), -1).mean(axis=1), resamples=resamples)


def mean_difference(differences: NDArray[np.float64], *, resamples: int = 20_000) -> Estimate:
    """Estimate the mean of items' differences: a t interval, and the randomisation test that flips their signs.

    Args:
        differences: Shape (items,), in [-1, 1].
        resamples: Sign flips.
    """
    moved = differences[differences != 0]
    mean, n = float(differences.mean()), differences.size
    half = float(differences.std(ddof=1) / math.sqrt(n) * student_t.ppf(0.975, n - 1)) if n > 1 else math.inf
    # Items that did not move say little of those that may: no narrower than the score interval without a change.
    z2 = float(ndtri(0.975)) ** 2
    half = max(half, z2 / (n + z2))
    rng, extreme, block = np.random.default_rng(0), 0, 1000
    for start in range(0, resamples, block):
        signs = rng.choice([-1.0, 1.0], (min(block, resamples - start), moved.size))
        extreme += int(np.count_nonzero(np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9))
    p_value = (1 + extreme) / (1 + resamples) if moved.size else 1.0
    return Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0), p_value)


def _tango_low(fixes: int, regressions: int, n: int, z: float) -> float:
    """The difference below the estimate at which the score statistic equals z."""

    def excess(difference: float) -> float:
        # The likeliest share of regressions, given the difference: the larger root of 2n q^2 + b q + c = 0.
        b = (2 * n - fixes + regressions) * difference - fixes - regressions
        c = -regressions * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return fixes - regressions - n * difference - z * math.sqrt(max(variance, 0.0))

    # At the estimate itself the variance is 0 if no pair is discordant or all are one way, and the equation
    # then has a second root there that is no bound: end just below.
    below = max((fixes - regressions) / n - 1e-12, -1.0)
    return float(brentq(excess, -1.0, below, xtol=1e-13))


def _correctness(name: str, values: Sequence[bool] | NDArray[Any]) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: one value an item, shape (n,), is needed")
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} has the value {wrong[0]!r}: true or false is needed, not a reward")
    return array.astype(np.bool_)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a number between 0 and 1 is needed")


def _check_discordant(fixes: int, regressions: int) -> None:
    if fixes < 0 or regressions < 0:
        raise ValueError(f"fixes is {fixes}, regressions is {regressions}: counts of at least 0 are needed")
