"""How intervals and tests do on simulated answers whose truth is known. Each figure is a share of tables.

Items differ: half of them a method changes three times as often as the others. Seeds differ where `seed_sd` says so:
each has a true accuracy of its own.
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
from bench.stats.seeds import accuracy_over_seeds, difference_over_seeds

ITEMS = (50, 164, 1319)
"""Of a pilot, of HumanEval, of GSM8K's test split."""
ACCURACIES = (0.02, 0.1, 0.5, 0.9)
CONCENTRATION = 2.0
"""Of the Beta distribution of items' difficulties, where seeds answer them again."""

Method = Callable[[int, int, int], Interval]
"""From fixes, regressions and items to an interval of the difference."""


@dataclass(frozen=True)
class SimulatedEffect:
    """What a method does to a base.

    Attributes:
        accuracy: Of the base.
        fix: Chance that a wrong item is right afterwards.
        regress: Chance that a right item is wrong afterwards.
        seed_sd: Standard deviation over seeds of the true difference.
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
    """Return a change of a size; 5 % of all items regress, or a quarter of what the base gets right, or wrong.

    Raises:
        ValueError: A base of that accuracy has no room for it.
    """
    regressions = min(0.05, accuracy / 4, (1 - accuracy) / 4)
    found = SimulatedEffect(accuracy, (regressions + difference) / (1 - accuracy), regressions / accuracy, seed_sd)
    if not 0 <= found.fix <= 0.5:
        raise ValueError(f"difference is {difference}: a base of accuracy {accuracy} has no room for it")
    return found


def tables(
    world: SimulatedEffect, n: int, seeds: int, count: int, seed: int = 0
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield answers before, shape (items,), and after, shape (items, seeds)."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        before = rng.random(n) < world.accuracy
        touched = 0.5 + (rng.random((n, 1)) < 0.5)
        shift = world.seed_sd * rng.standard_normal(seeds) / (1 - world.accuracy)
        chance = np.where(before[:, None], world.regress, np.maximum(world.fix + shift, 0.0)) * touched
        yield before, before[:, None] ^ (rng.random((n, seeds)) < chance)


def exact_coverage(n: int, accuracy: float) -> tuple[float, float]:
    """Return with what probability Wilson's interval covers an accuracy, and the probability of the counts at its edge.

    Counts are whole: the coverage jumps by the probability of the outermost counts that cover, and of the first that do
    not. So much no interval can help to be off.
    """
    counts = np.arange(n + 1)
    mass = np.diff(bdtr(counts, n, accuracy), prepend=0.0)
    covered = np.array([_covers(_wilson(int(k), n), accuracy) for k in counts])
    edge = np.zeros(n + 1, dtype=bool)
    jumps = np.flatnonzero(covered[1:] != covered[:-1])
    edge[jumps] = edge[jumps + 1] = True
    return float(mass[covered].sum()), float(mass[edge].sum())


def accuracy_coverage(n: int, accuracy: float, *, seeds: int, count: int, seed_sd: float = 0.0) -> float:
    """Return how often `accuracy_over_seeds` covers the true accuracy.

    Of one seed that of fresh items. Of several, items have difficulties of their own, and each seed answers them again,
    shifted by what the seed is worth.
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
    n: int, world: SimulatedEffect, *, count: int, method: Method = paired_difference_interval
) -> float:
    """Return how often an interval of one seed's difference covers the true one."""
    rng, hits = np.random.default_rng(2), 0
    fixed, lost = (1 - world.accuracy) * world.fix, world.accuracy * world.regress
    cached = cache(method)
    for fixes, regressions, _ in rng.multinomial(n, (fixed, lost, 1 - fixed - lost), count):
        low, high = cached(int(fixes), int(regressions), n)
        hits += low - 1e-9 <= world.difference <= high + 1e-9
    return hits / count


def significant(n: int, world: SimulatedEffect, *, seeds: int, count: int, level: float = 0.05) -> tuple[float, float]:
    """Return how often a difference is significant, and how often its interval covers the truth."""
    found = hits = 0
    for before, after in tables(world, n, seeds, count):
        estimate = difference_over_seeds(before, after)
        found += (1.0 if estimate.p_value is None else estimate.p_value) <= level
        hits += estimate.low - 1e-9 <= world.difference <= estimate.high + 1e-9
    return found / count, hits / count


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


@cache
def _wilson(right: int, n: int) -> Interval:
    return wilson_interval(right, n)
