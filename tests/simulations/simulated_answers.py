"""Coverage of intervals and error rates of tests on simulated answers with known truth.

Each result is a share of simulated tables. Items differ: a method changes half of them three times as often as the
other half. If `seed_sd` is not 0, seeds differ too: each seed has its own true accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from bench.stats.paired import paired_difference_interval
from bench.stats.proportions import Estimate, Interval, wilson_interval
from bench.stats.variance_components import accuracy_over_seeds, difference_over_seeds

ITEMS = (50, 164, 1319)
"""Numbers of items: a pilot, HumanEval, and the test split of GSM8K."""
ACCURACIES = (0.02, 0.1, 0.5, 0.9)
CONCENTRATION = 2.0
"""Concentration a + b of the Beta distribution of items' difficulties, used with several seeds."""

Method = Callable[[int, int, int], Interval]
"""Function from numbers of fixes, regressions and items to an interval of the difference."""


@dataclass(frozen=True)
class SimulatedEffect:
    """Simulated effect of a method on a base model.

    Attributes:
        accuracy: True accuracy of the base.
        fix: Probability that a wrong item is right afterwards.
        regress: Probability that a right item is wrong afterwards.
        seed_sd: Standard deviation of the true difference over seeds.
    """

    accuracy: float
    fix: float
    regress: float
    seed_sd: float = 0.0

    @property
    def difference(self) -> float:
        """True accuracy afterwards minus that of the base."""
        return (1 - self.accuracy) * self.fix - self.accuracy * self.regress


def change(accuracy: float, difference: float, seed_sd: float = 0.0) -> SimulatedEffect:
    """Return an effect with a given true difference in accuracy.

    The share of items that regress is 5 %, but at most a quarter of the base's right items and of its wrong items.

    Raises:
        ValueError: If the difference is too large for a base of this accuracy.
    """
    regressions = min(0.05, accuracy / 4, (1 - accuracy) / 4)
    found = SimulatedEffect(accuracy, (regressions + difference) / (1 - accuracy), regressions / accuracy, seed_sd)
    if not 0 <= found.fix <= 0.5:
        raise ValueError(f"difference is {difference}: a base of accuracy {accuracy} has no room for it")
    return found


def tables(
    effect: SimulatedEffect, n: int, seeds: int, count: int, seed: int = 0
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield correctness before, shape (items,), and after, shape (items, seeds), for `count` simulated tables."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        before = rng.random(n) < effect.accuracy
        item_factor = 0.5 + (rng.random((n, 1)) < 0.5)
        shift = effect.seed_sd * rng.standard_normal(seeds) / (1 - effect.accuracy)
        flip_rate = np.where(before[:, None], effect.regress, np.maximum(effect.fix + shift, 0.0)) * item_factor
        yield before, before[:, None] ^ (rng.random((n, seeds)) < flip_rate)


def exact_coverage(n: int, accuracy: float) -> tuple[float, float]:
    """Return the exact coverage of Wilson's interval, and the probability of the counts at its edge.

    Counts are integers, so the coverage can only change by the probability of whole counts. The counts at the edge are
    the outermost ones whose interval covers the accuracy, and the first ones whose interval does not. No interval can
    be expected to be closer to its nominal coverage than their probability allows.
    """
    counts = np.arange(n + 1)
    mass = np.diff(bdtr(counts, n, accuracy), prepend=0.0)
    covered = np.array([_covers(_wilson(int(k), n), accuracy) for k in counts])
    edge = np.zeros(n + 1, dtype=bool)
    jumps = np.flatnonzero(covered[1:] != covered[:-1])
    edge[jumps] = edge[jumps + 1] = True
    return float(mass[covered].sum()), float(mass[edge].sum())


def accuracy_coverage(n: int, accuracy: float, *, seeds: int, count: int, seed_sd: float = 0.0) -> float:
    """Return the coverage of `accuracy_over_seeds`.

    With one seed, all items are equally difficult. With several seeds, items have random difficulties, every seed
    answers the same items, and each seed shifts the accuracy by a random amount.
    """
    rng, hits = np.random.default_rng(1), 0
    a, b = CONCENTRATION * accuracy, CONCENTRATION * (1 - accuracy)
    for _ in range(count):
        if seeds == 1:
            right = int(rng.binomial(n, accuracy))
            found = Estimate(0.0, *_wilson(right, n))
        else:
            odds = rng.beta(a, b, n)[:, None] + seed_sd * rng.standard_normal(seeds)
            found = accuracy_over_seeds(rng.random((n, seeds)) < odds)
        hits += found.low <= accuracy <= found.high
    return hits / count


def difference_coverage(
    n: int, effect: SimulatedEffect, *, count: int, method: Method = paired_difference_interval
) -> float:
    """Return the coverage of an interval of the difference for one seed."""
    rng, hits = np.random.default_rng(2), 0
    fixed, lost = (1 - effect.accuracy) * effect.fix, effect.accuracy * effect.regress
    cached = cache(method)
    for fixes, regressions, _ in rng.multinomial(n, (fixed, lost, 1 - fixed - lost), count):
        low, high = cached(int(fixes), int(regressions), n)
        hits += low - 1e-9 <= effect.difference <= high + 1e-9
    return hits / count


def significant(n: int, effect: SimulatedEffect, *, seeds: int, count: int, level: float = 0.05) -> tuple[float, float]:
    """Return the share of tables with a significant difference, and the coverage of its interval."""
    found = hits = 0
    for before, after in tables(effect, n, seeds, count):
        estimate = difference_over_seeds(before, after)
        found += (1.0 if estimate.p_value is None else estimate.p_value) <= level
        hits += estimate.low - 1e-9 <= effect.difference <= estimate.high + 1e-9
    return found / count, hits / count


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


@cache
def _wilson(right: int, n: int) -> Interval:
    return wilson_interval(right, n)
