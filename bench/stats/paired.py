"""Two answers to the same items: how often they differ, whether that is chance, and how large the difference may be."""

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
    tail = max(fixes, regressions) if alternative == "two-sided" else fixes
    if tail == 0:
        return 1.0
    upper = float(bdtrc(tail - 1, fixes + regressions, 0.5))  # the chance of at least so many
    return min(1.0, 2 * upper) if alternative == "two-sided" else upper


def mcnemar_size(discordant: int, level: float) -> float:
    """Chance that the one-sided exact test rejects at a level where fixes and regressions are equally likely.

    Never more than the level, and less where no count has just that tail.
    """
    tails = bdtrc(np.arange(discordant + 1) - 1.0, discordant, 0.5)
    tails[0] = 1.0  # at least none
    return float(max(tails[tails <= level], default=0.0))


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
    check_confidence(confidence)
    _check_discordant(fixes, regressions)
    if fixes + regressions > n:
        raise ValueError(f"n is {n}: at least fixes + regressions, {fixes + regressions}, are needed")
    return tango_interval(fixes, regressions, n, float(ndtri((1 + confidence) / 2))) if n else Interval(-1.0, 1.0)


def tango_interval(fixes: float, regressions: float, n: float, z: float) -> Interval:
    """Tango's interval at a quantile z; the counts may be effective numbers of correlated pairs, n above 0."""
    return Interval(_tango_low(fixes, regressions, n, z), -_tango_low(regressions, fixes, n, z))


def _tango_low(fixes: float, regressions: float, n: float, z: float) -> float:
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


def _check_discordant(fixes: int, regressions: int) -> None:
    if fixes < 0 or regressions < 0:
        raise ValueError(f"fixes is {fixes}, regressions is {regressions}: counts of at least 0 are needed")
