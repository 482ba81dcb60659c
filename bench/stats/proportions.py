"""One proportion: how accurate a model is, with its interval. Test items are the sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri


class Interval(NamedTuple):
    """A two-sided confidence interval, bounds included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval and, for a difference, the p-value of there being none."""

    value: float
    low: float
    high: float
    p_value: float | None = None


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Score interval for one proportion (Wilson 1927, JASA 22:209), without continuity correction.

    No trials say nothing: the interval of n = 0 is (0, 1).

    Args:
        successes: How many trials went well.
        n: Trials; need not be whole, where it is the effective number of correlated ones.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: `successes` is not in 0..n, or `confidence` is not in (0, 1).
    """
    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes is {successes}: a number from 0 to n, {n}, is needed")
    return wilson(successes / n, n, float(ndtri((1 + confidence) / 2))) if n else Interval(0.0, 1.0)


def wilson(p: float, n: float, z: float) -> Interval:
    """Wilson's interval of a share p of n trials, which may be an effective number, at a quantile z."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt((p * (1 - p) + z * z / (4 * n)) / n) / (1 + z * z / n)
    # At the ends the bound is the share itself, which rounding may miss.
    return Interval(max(centre - half, 0.0) if p > 0 else 0.0, min(centre + half, 1.0) if p < 1 else 1.0)


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
    missed: NDArray[Any] = np.prod(np.maximum(wrong, 0) / np.maximum(left, 1), axis=-1)
    return np.where(n >= k, 1.0 - missed, np.nan)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless it is a probability between 0 and 1, ends excluded."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a number between 0 and 1 is needed")
