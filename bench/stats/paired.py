"""Paired comparison of two models on the same items: counts, McNemar's exact test and Tango's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtrc, ndtri

from bench.stats.proportions import Interval, check_confidence


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """Contingency table of correctness before and after, on the same items.

    Attributes:
        both_right: Number of items right before and after.
        fixes: Number of items wrong before and right after.
        regressions: Number of items right before and wrong after.
        both_wrong: Number of items wrong before and after.
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
        """Accuracy after minus accuracy before, in [-1, 1]; NaN if there are no items."""
        return (self.fixes - self.regressions) / self.n if self.n else math.nan


def paired_counts(before: Sequence[bool] | NDArray[Any], after: Sequence[bool] | NDArray[Any]) -> PairedCounts:
    """Count items by correctness before and after.

    Args:
        before: Correctness of each item, shape (n,): booleans, or zeros and ones, but not rewards.
        after: Correctness of the same items in the same order, shape (n,).

    Raises:
        ValueError: If the lengths differ, or a value is neither true nor false.
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


def mcnemar_exact(fixes: int, regressions: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Return the p-value of McNemar's exact test of the hypothesis that fixes and regressions are equally likely.

    The test is binomial, given the number of discordant pairs (McNemar 1947, Psychometrika 12:153). Concordant pairs
    are not used. Without discordant pairs the p-value is 1.

    Args:
        fixes: Number of items wrong before and right after.
        regressions: Number of items right before and wrong after.
        alternative: Alternative hypothesis: "two-sided", or "greater" if fixes are likelier than regressions.

    Raises:
        ValueError: If a count is negative.
    """
    _check_discordant(fixes, regressions)
    tail = max(fixes, regressions) if alternative == "two-sided" else fixes
    if tail == 0:
        return 1.0
    upper = float(bdtrc(tail - 1, fixes + regressions, 0.5))  # P(at least `tail` successes)
    return min(1.0, 2 * upper) if alternative == "two-sided" else upper


def mcnemar_size(discordant: int, level: float) -> float:
    """Return the exact size of the one-sided exact test: its false-positive rate at a nominal level.

    The size is at most the level. It is usually smaller, because the p-value takes only discrete values.

    Args:
        discordant: Number of discordant pairs.
        level: Nominal significance level.
    """
    tails = bdtrc(np.arange(discordant + 1) - 1.0, discordant, 0.5)
    tails[0] = 1.0  # P(at least 0 successes)
    return float(max(tails[tails <= level], default=0.0))


def paired_difference_interval(fixes: int, regressions: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Tango's score interval for accuracy after minus accuracy before on the same n items.

    Tango 1998 (Statistics in Medicine 17:891). The interval inverts the score test, which at difference 0 is McNemar's
    z = (fixes - regressions) / sqrt(fixes + regressions), so interval and asymptotic test agree. It does not depend on
    how many concordant items are right, unlike Newcombe's square-and-add interval (1998, Statistics in Medicine
    17:2635). It stays in [-1, 1]. Without discordant pairs it is -z^2 / (n + z^2) to z^2 / (n + z^2); for n = 0 it is
    (-1, 1).

    Args:
        fixes: Number of items wrong before and right after.
        regressions: Number of items right before and wrong after.
        n: Number of all items, including concordant ones.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: If a count is negative, `n` is below their sum, or `confidence` is not in (0, 1).
    """
    check_confidence(confidence)
    _check_discordant(fixes, regressions)
    if fixes + regressions > n:
        raise ValueError(f"n is {n}: at least fixes + regressions, {fixes + regressions}, are needed")
    return tango_interval(fixes, regressions, n, float(ndtri((1 + confidence) / 2))) if n else Interval(-1.0, 1.0)


def tango_interval(fixes: float, regressions: float, n: float, z: float) -> Interval:
    """Return Tango's interval for a normal quantile z.

    Args:
        fixes: Number of items wrong before and right after; may be an effective number of correlated items.
        regressions: Number of items right before and wrong after; may be an effective number.
        n: Number of all items, above 0; may be an effective number.
        z: Normal quantile, such as 1.96.
    """
    return Interval(_tango_low(fixes, regressions, n, z), -_tango_low(regressions, fixes, n, z))


def _tango_low(fixes: float, regressions: float, n: float, z: float) -> float:
    """Return the lower bound: the difference at which the score statistic equals z."""

    def excess(difference: float) -> float:
        # Maximum-likelihood share of regressions, given the difference: the larger root of 2n q^2 + b q + c = 0.
        b = (2 * n - fixes + regressions) * difference - fixes - regressions
        c = -regressions * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return fixes - regressions - n * difference - z * math.sqrt(max(variance, 0.0))

    # If there are only fixes, only regressions or neither, the variance at the estimate is 0. The estimate is then a
    # second root, which is not a bound, so the search ends just below it.
    below = max((fixes - regressions) / n - 1e-12, -1.0)
    return float(brentq(excess, -1.0, below, xtol=1e-13))


def _correctness(name: str, values: Sequence[bool] | NDArray[Any]) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: one value per item, shape (n,), is needed")
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} has the value {wrong[0]!r}: true or false is needed, not a reward")
    return array.astype(np.bool_)


def _check_discordant(fixes: int, regressions: int) -> None:
    if fixes < 0 or regressions < 0:
        raise ValueError(f"fixes is {fixes}, regressions is {regressions}: counts of at least 0 are needed")
