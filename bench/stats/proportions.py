"""Single proportions: Wilson's interval of an accuracy, and pass@k. The sample is the test items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri


class Interval(NamedTuple):
    """A two-sided, closed confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its 95 % confidence interval.

    Attributes:
        value: Point estimate.
        low: Lower bound.
        high: Upper bound.
        p_value: For a difference, the p-value of the hypothesis that it is 0; otherwise None.
    """

    value: float
    low: float
    high: float
    p_value: float | None = None


def exact_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the exact interval for one proportion (Clopper & Pearson 1934, Biometrika 26:404).

    It covers the proportion at least as often as stated for every n, which Wilson's does not for a few seeds. The
    interval for n = 0 is (0, 1).

    Args:
        successes: Number of successes.
        n: Number of trials.
        confidence: Nominal coverage.
    """
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Interval(low, high)


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for one proportion (1927, JASA 22:209), without continuity correction.

    The interval for n = 0 is (0, 1).

    Args:
        successes: Number of successes.
        n: Number of trials; may be an effective number of correlated trials, and need not be an integer.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: If `successes` is not in 0..n, or `confidence` is not in (0, 1).
    """
    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes is {successes}: a number from 0 to n, {n}, is needed")
    return wilson(successes / n, n, float(ndtri((1 + confidence) / 2))) if n else Interval(0.0, 1.0)


def wilson(p: float, n: float, z: float) -> Interval:
    """Return Wilson's interval for a normal quantile z.

    Args:
        p: Share of successes.
        n: Number of trials, above 0; may be an effective number.
        z: Normal quantile, such as 1.96.
    """
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt((p * (1 - p) + z * z / (4 * n)) / n) / (1 + z * z / n)
    # For p = 0 and p = 1 one bound equals p exactly, which rounding may miss.
    return Interval(max(centre - half, 0.0) if p > 0 else 0.0, min(centre + half, 1.0) if p < 1 else 1.0)


def pass_at_k(samples: NDArray[np.int_], right: NDArray[np.int_], k: int) -> NDArray[np.float64]:
    """Estimate pass@k of each item: the probability that at least one of k sampled answers is right.

    The estimate 1 - C(n - c, k) / C(n, k) is unbiased for n >= k independent answers of which c are right (Chen et al.
    2021, arXiv 2107.03374, equation 1). It is computed as a product of ratios, to avoid the overflow of factorials.

    Args:
        samples: Number n of scored answers of each item, shape (items,).
        right: Number c of right answers of each item, shape (items,).
        k: Number of answers per item in pass@k.

    Returns:
        Estimates in [0, 1], shape (items,); NaN for items with n < k.

    Raises:
        ValueError: If `k` is below 1, or `right` is not in 0..n.
    """
    n, c = np.asarray(samples), np.asarray(right)
    if k < 1 or not ((c >= 0) & (c <= n)).all():
        raise ValueError(f"k is {k}, right is {c}: at least 1, and integers from 0 to the samples, are needed")
    draws = np.arange(k)
    left, wrong = n[..., None] - draws, (n - c)[..., None] - draws  # left before each draw without replacement
    missed: NDArray[Any] = np.prod(np.maximum(wrong, 0) / np.maximum(left, 1), axis=-1)
    return np.where(n >= k, 1.0 - missed, np.nan)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless a confidence level lies strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a number between 0 and 1 is needed")
