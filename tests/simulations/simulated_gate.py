"""Power and false acceptance of the gate and of one exact test, on simulated fixes and regressions.

A changed model answers a share of the items anew, the flip rate, each with the base's probability of a correct answer
on this item. These probabilities have a beta distribution with the given mean. A gain moves this share of the items
from regressions and unchanged answers to fixes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from bench.stats.gate import SPENDING, GateDesign, decide

LEVEL = 0.05
Counts = NDArray[np.int64]


def shares(flips: float, accuracy: float, gain: float) -> tuple[float, float]:
    """Return the shares of items that a change fixes and breaks.

    For probabilities with the beta distribution (4 accuracy, 4 (1 - accuracy)) the mean of p (1 - p) is 0.8 times
    accuracy (1 - accuracy). A gain makes both kinds of answers better: regressions fall in proportion to the accuracy,
    but not below 0.
    """
    regressions = max(flips * 0.8 * accuracy * (1 - accuracy) - gain * accuracy, 0.0)
    return regressions + gain, regressions


def tails(fixes: Counts, regressions: Counts) -> NDArray[np.float64]:
    """Return the one-sided p-value of McNemar's exact test for each pair of counts."""
    return np.where(fixes > 0, bdtrc(np.maximum(fixes - 1, 0), fixes + regressions, 0.5), 1.0)


def accepted(design: GateDesign, fixes: Counts, regressions: Counts) -> NDArray[np.bool_]:
    """Return which runs the gate keeps; cumulative counts have the shape (runs, looks).

    The gate spends at each look at least the p-value of the counts with which it keeps a change. So a run whose
    p-values all exceed the allowed error rates is rejected, and only the others are played look by look.
    """
    allowed = design.level * (np.array(design.looks) / design.items) ** SPENDING
    possible = np.flatnonzero((tails(fixes, regressions) <= allowed).any(axis=1))
    kept = np.zeros(len(fixes), dtype=bool)
    for run in possible:
        counts = list(zip(fixes[run].tolist(), regressions[run].tolist(), strict=True))
        decisions = (decide(design, counts[:look]) for look in range(1, len(counts) + 1))
        kept[run] = next(decision for decision in decisions if decision is not None).accepted
    return kept


def simulate(n: int, fixed: float, broken: float, runs: int) -> tuple[float, float]:
    """Return the shares of runs that one exact test on n items and the gate on up to 2n items keep."""
    design = GateDesign(2 * n, LEVEL)
    sizes = np.diff((0, *design.looks))
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(sizes, [fixed, broken, 1 - fixed - broken], (runs, sizes.size)).cumsum(axis=1)
    fixes, regressions = drawn[..., 0], drawn[..., 1]
    half = design.looks.index(n)
    return (
        float((tails(fixes[:, half], regressions[:, half]) <= LEVEL).mean()),
        float(accepted(design, fixes, regressions).mean()),
    )


def conditional_rates(n: int, split: int, flips: float, accuracy: float, sets: int, runs: int) -> NDArray[np.float64]:
    """Return the false-acceptance rate of each of several fixed gate splits, over the answers of a changed model.

    Args:
        n: Number of items of one exact test; the gate has up to 2n.
        split: Size of the gate split, from which each run draws 2n items.
        flips: Flip rate.
        accuracy: Mean accuracy of base and changed model over all possible items.
        sets: Number of gate splits.
        runs: Number of runs for each split.
    """
    design, rng, rates = GateDesign(2 * n, LEVEL), np.random.default_rng(n), []
    last = np.array(design.looks) - 1
    for _ in range(sets):
        odds = rng.beta(4 * accuracy, 4 * (1 - accuracy), split)
        base = rng.random(split) < odds
        items = rng.permuted(np.tile(np.arange(split), (runs, 1)), axis=1)[:, : 2 * n] if split > 2 * n else slice(None)
        odds, base = np.broadcast_to(odds[items], (runs, 2 * n)), np.broadcast_to(base[items], (runs, 2 * n))
        now = np.where(rng.random(odds.shape) < flips, rng.random(odds.shape) < odds, base)
        fixes, regressions = (np.cumsum(pairs, axis=1, dtype=np.int64)[:, last] for pairs in (now & ~base, base & ~now))
        rates.append(accepted(design, fixes, regressions).mean())
    return np.array(rates)
