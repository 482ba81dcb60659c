"""Coverage of intervals over seeds in worlds with gates, rare changes, several outcomes and clustered items.

A method adapts the base once a seed. In a world with abstention the result is kept with some probability, independently
of its gain; otherwise the seed has the base's answers. The intervals are those of the board's rows as trained, and the
board is not told the world. Coverage is counted among the tables that show an interval, as a reader sees no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, stdtr, stdtrit

from bench.stats import accuracy_over_seeds, difference_over_seeds, tango_interval
from reports.leaderboard.group import OverSeeds
from reports.leaderboard.rows import Comparison, as_trained

SEEDS = (2, 3, 5, 8, 10)
ITEMS = (50, 164, 1000)


@dataclass(frozen=True)
class World:
    """A method's true behaviour.

    Attributes:
        gains: True gains of a seed, of which each is equally likely.
        kept: Probability that a seed keeps what it learned: by its method, or by a gate. None if it always does.
        between: Whether gains are uniform between the two numbers of `gains` instead.
        accuracy: Accuracy of the base.
        lost: Share of all items that a changed model loses beside its gain or loss; as many are fixed.
        fixed_items: Share of the items that a method never changes; the others change more often.
    """

    gains: tuple[float, ...]
    kept: float | None = None
    between: bool = False
    accuracy: float = 0.5
    lost: float = 0.02
    fixed_items: float = 0.0

    @property
    def mean(self) -> float:
        """True mean difference from the base, over seeds and items."""
        return (1.0 if self.kept is None else self.kept) * float(np.mean(self.gains))

    def tables(
        self, n: int, seeds: int, count: int
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Yield correctness before [items, 1] and after [items, seeds], and which seeds are kept [seeds]."""
        rng = np.random.default_rng(n + seeds)
        for _ in range(count):
            before = rng.random((n, 1)) < self.accuracy
            kept = rng.random(seeds) < (1.0 if self.kept is None else self.kept)
            low, high = min(self.gains), max(self.gains)
            gain = rng.uniform(low, high, seeds) if self.between else rng.choice(self.gains, seeds)
            fix = (self.lost + np.maximum(gain, 0)) / (1 - self.accuracy)
            lose = (self.lost + np.maximum(-gain, 0)) / self.accuracy
            factor: NDArray[np.floating]
            if self.fixed_items:
                factor = (rng.random((n, 1)) >= self.fixed_items) / (1 - self.fixed_items)
            else:
                factor = 0.5 + (rng.random((n, 1)) < 0.5)
            flips = rng.random((n, seeds)) < np.where(before, lose, fix) * factor
            yield before, before ^ (flips & kept), kept


WORLDS = {
    "always kept, +5": World((0.05,)),
    "always kept, 0": World((0.0,)),
    **{f"kept {name}, +5": World((0.05,), kept) for name, kept in (("1/6", 1 / 6), ("1/2", 0.5), ("5/6", 5 / 6))},
    **{
        f"kept {name}, -3 to +10": World((-0.03, 0.1), kept, between=True)
        for name, kept in (("1/6", 1 / 6), ("1/2", 0.5), ("5/6", 5 / 6))
    },
    **{f"kept {name}, +15": World((0.15,), kept) for name, kept in (("1/2", 0.5), ("5/6", 5 / 6))},
    "+15 or -15": World((0.15, -0.15)),
    "rare changes, +0.2": World((0.002,), lost=0.001),
    "weak base (.02)": World((0.0,), accuracy=0.02, lost=0.01, fixed_items=0.5),
    "weak base (.1)": World((0.0,), accuracy=0.1, lost=0.05, fixed_items=0.5),
}
"""Worlds by name. Gains are in points."""

Method = Callable[[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]], OverSeeds | None]
"""Function from answers before, answers after and kept seeds to an estimate, or no interval."""


def _board(before: NDArray[np.bool_], after: NDArray[np.bool_], kept: NDArray[np.bool_]) -> Comparison:
    """Return what the board makes of a row's answers as trained."""
    return as_trained(np.broadcast_to(before, after.shape).astype(float), after.astype(float), kept)


def present(before: NDArray[np.bool_], after: NDArray[np.bool_], kept: NDArray[np.bool_]) -> OverSeeds | None:
    """Return the difference from the base, where the board shows an interval."""
    found = _board(before, after, kept)
    return found.difference(1) if kept.any() and found.tested else None


def accuracy(before: NDArray[np.bool_], after: NDArray[np.bool_], kept: NDArray[np.bool_]) -> OverSeeds | None:
    """Return the accuracy less the base's true one (.5), where the board shows an interval."""
    found = _board(before, after, kept).accuracy
    if found.low is None or found.high is None:
        return None
    return OverSeeds(found.value - 0.5, found.low - 0.5, found.high - 0.5)


def former(before: NDArray[np.bool_], after: NDArray[np.bool_], kept: NDArray[np.bool_]) -> OverSeeds | None:
    """Return the estimate of earlier versions: Tango's interval at effective counts, whatever the gate did."""
    n, seeds = after.shape
    change = after.astype(float) - before
    by_item, by_seed, mean = change.mean(axis=1), change.mean(axis=0), float(change.mean())
    items, between = by_item.var() / n, n * by_seed.var(ddof=1)
    squares, freedom = np.square(change).sum() - n * seeds * mean**2, (n - 1) * (seeds - 1)
    within = max(squares - n**2 * seeds * items - (seeds - 1) * between, 0.0) / freedom
    variance = items + max(between - within, 0.0) / (n * seeds)
    uncertainty = (between**2 / (seeds - 1) + within**2 / freedom) / (n * seeds) ** 2
    uncertainty = min(uncertainty, variance**2 / (seeds - 1))
    fixes, losses = float((change > 0).mean()), float((change < 0).mean())
    single = fixes + losses - mean**2
    effective = min(single / variance, n * seeds) if variance > 1e-15 and single > 0 else n
    df = variance**2 / uncertainty if uncertainty > 1e-30 else 1e9
    bounds = tango_interval(fixes * effective, losses * effective, effective, float(stdtrit(df, 0.975)))
    if fixes == losses:
        return OverSeeds(mean, *bounds, 1.0)
    p_value = 2 * float(stdtr(df, -abs(fixes - losses) * math.sqrt(effective / (fixes + losses))))
    many, few = effective * max(fixes, losses), effective * min(fixes, losses)
    return OverSeeds(mean, *bounds, max(p_value, min(1.0, 2 * float(betainc(many, few + 1, 0.5)))))


@dataclass(frozen=True)
class Rates:
    """Shares of simulated tables.

    Attributes:
        shown: Share of tables that show an interval.
        covered: Share of these whose interval covers the true mean; NaN if none shows one.
        significant: Share of all tables with p <= .05.
        width: Mean width of the intervals.
    """

    shown: float
    covered: float
    significant: float
    width: float


def rates(world: World, n: int, seeds: int, count: int, method: Method = present) -> Rates:
    """Return how often a method shows an interval, covers and rejects in a world."""
    shown = covered = significant = 0
    width = 0.0
    for before, after, kept in world.tables(n, seeds, count):
        found = method(before, after, kept)
        if found is None or found.low is None or found.high is None:
            continue
        shown += 1
        covered += found.low - 1e-9 <= world.mean <= found.high + 1e-9
        significant += (1.0 if found.p_value is None else found.p_value) <= 0.05
        width += found.high - found.low
    return Rates(shown / count, covered / shown if shown else math.nan, significant / count, width / max(shown, 1))


def joint_coverage(world: World, n: int, seeds: int, rows: int, count: int) -> float:
    """Return how often all simultaneous intervals of a table cover.

    Args:
        world: World of every row, without a gate.
        n: Number of items.
        seeds: Number of seeds of each row.
        rows: Number of rows, each compared with a base of its own.
        count: Number of simulated tables.
    """
    tables = world.tables(n, seeds, rows * count)
    covered = 0
    for _ in range(count):
        found = [_board(*next(tables)).difference(rows).interval for _ in range(rows)]
        covered += all(each is None or each.low <= world.mean <= each.high for each in found)
    return covered / count


def clustered_coverage(clusters: int, size: int, seeds: int, count: int, *, known: bool) -> tuple[float, float]:
    """Return the coverage of accuracy and of difference where items of a cluster share their stem.

    A stem decides for all its items how probable a right answer is, and whether the method changes it.

    Args:
        clusters: Number of clusters.
        size: Number of items of each cluster.
        seeds: Number of seeds.
        count: Number of simulated tables.
        known: Whether the intervals are told the clusters.
    """
    rng, hits = np.random.default_rng(clusters), np.zeros(2)
    labels = np.repeat(np.arange(clusters), size)
    for _ in range(count):
        right = np.repeat(0.3 + 0.4 * rng.random((clusters, 1)), size, axis=0)
        moved = np.repeat(rng.choice([-0.3, 0.0, 0.3], (clusters, 1), p=[0.2, 0.6, 0.2]), size, axis=0)
        draw = rng.random((clusters * size, 1))
        # A fifth of the answers of each seed are drawn anew.
        again = np.where(rng.random((clusters * size, seeds)) < 0.2, rng.random((clusters * size, seeds)), draw)
        before, after = draw < right, again < right + moved
        given = labels if known else None
        accuracy = accuracy_over_seeds(before, given)
        difference = difference_over_seeds(before, after, clusters=given)
        hits += (accuracy.low <= 0.5 <= accuracy.high, difference.low <= 0.0 <= difference.high)
    return float(hits[0] / count), float(hits[1] / count)
