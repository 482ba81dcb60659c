"""Group-sequential exact gate: decides from fixes and regressions on held-out items whether a change is kept.

A fix is an item that the base answers wrongly and the changed model correctly; a regression is the reverse. Both are
discordant pairs. Under the hypothesis of no gain each discordant pair is a fix with probability at most 1/2,
independently of the others, however many pairs are discordant. So, given the numbers of discordant pairs at the looks,
the probability of keeping such a change is computed exactly, by dynamic programming over the number of fixes.

The gate looks at the counts after each quarter of its items. The error rate spent up to a look is at most
level * (share of the items seen)^1.5, of the power family of Kim & DeMets (1987, Biometrika 74:149). The gate also
stops early if a gain is unlikely to show any more. This futility rule is non-binding: the error rate holds without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, xlog1py, xlogy

from bench.amounts import counted

LOOKS = 4
SPENDING = 1.5
"""Exponent of the spending function. A larger one spends less of the error rate at the early looks: the gate then needs
more items on average, and has slightly more power."""

GAIN_ERROR = 0.0005
"""Error to within which the detectable gain is found."""

PATHS, GENERATOR = 2039, 393
"""Number of sequences of discordant pairs over which power and cost are averaged, and the lattice that chooses them."""


@dataclass(frozen=True)
class GateDesign:
    """Size and error rate of a gate, fixed before its first item is answered.

    Attributes:
        items: Maximum number of items, at least 1.
        level: Probability that a change without a gain is kept, at most; over all looks together, in (0, 1).
    """

    items: int
    level: float = 0.05

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"items is {self.items}: a gate needs at least 1 item")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}: a number between 0 and 1 is needed")

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """Number of items seen at each look, such as (68, 136, 204, 272); fewer than 4 items have one look each."""
        return tuple(sorted({math.ceil(self.items * look / LOOKS) for look in range(1, LOOKS + 1)}))


@dataclass(frozen=True)
class Look:
    """Counts at one look, over all items seen so far.

    Attributes:
        items: Number of items seen.
        fixes: Number of items wrong before and right now.
        regressions: Number of items right before and wrong now.
        needed: Number of fixes, among this number of discordant pairs, with which the change is kept. None if even
            fixes alone do not suffice.
    """

    items: int
    fixes: int
    regressions: int
    needed: int | None


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate and its reason.

    Attributes:
        accepted: Whether the change is kept.
        items: Number of items seen.
        fixes: Number of items wrong before and right now.
        regressions: Number of items right before and wrong now.
        gain: (fixes - regressions) / items. An item that could not be judged counts as unchanged.
        level: Error rate of the design.
        looks: Looks that were taken, in order.
        reason: Reason in words, such as "kept at look 2 of 4: 12 fixes against 1 regression, 11 were needed".
    """

    accepted: bool
    items: int
    fixes: int
    regressions: int
    gain: float
    level: float
    looks: tuple[Look, ...]
    reason: str


def decide(design: GateDesign, counts: Sequence[tuple[int, int]]) -> GateDecision | None:
    """Decide whether a change is kept.

    Args:
        design: Design of the gate.
        counts: Cumulative (fixes, regressions) at the looks taken so far, such as [(5, 1), (12, 1)] at look 2.

    Returns:
        The decision, or None if the gate needs the items of the next look. Never None at the last look.

    Raises:
        ValueError: If the counts are not those of 1 to all looks, decrease, or are too large for the items seen; or if
            the gate decided at an earlier look.
    """
    _check_counts(design, counts)
    discordant = tuple(fixes + regressions for fixes, regressions in counts)
    looks: list[Look] = []
    for items, (fixes, regressions) in zip(design.looks, counts, strict=False):
        needed = _bound(design, discordant[: len(looks) + 1]).needed
        looks.append(Look(items, fixes, regressions, needed))
        verdict = _verdict(design, looks[-1])
        if verdict is not None:
            break
    else:
        return None
    if len(looks) < len(counts):
        raise ValueError(f"counts has {len(counts)} looks, but the gate decided at look {len(looks)}: it ends there")
    accepted, why = verdict
    pairs = f"{counted(fixes, 'fix', 'fixes')} against {counted(regressions, 'regression')}"
    where = f"{'kept' if accepted else 'rejected'} at look {len(looks)} of {len(design.looks)}"
    gain = (fixes - regressions) / items
    return GateDecision(
        accepted, items, fixes, regressions, gain, design.level, tuple(looks), f"{where}: {pairs}, {why}"
    )


def keep_probability(design: GateDesign, fixes: float, regressions: float) -> float:
    """Return the probability that the gate keeps a change: its power if the change is a gain.

    Given the numbers of discordant pairs the probability is exact. It is averaged over `PATHS` sequences of these
    numbers, which are spread evenly over their distribution; the error is below half a percentage point.

    Args:
        design: Design of the gate.
        fixes: Share of all items that the change fixes.
        regressions: Share of all items that the change breaks.

    Raises:
        ValueError: If a share is negative, or their sum exceeds 1.
    """
    return _characteristics(design, fixes, regressions)[0]


def expected_items(design: GateDesign, fixes: float, regressions: float) -> float:
    """Return the expected number of items that the gate uses. For arguments and errors see `keep_probability`."""
    return _characteristics(design, fixes, regressions)[1]


@lru_cache(maxsize=256)
def detectable_gain(design: GateDesign, regressions: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest gain in accuracy that the gate keeps with a given probability, to within `GAIN_ERROR`.

    Args:
        design: Design of the gate.
        regressions: Share of all items that the change breaks.
        power: Probability of keeping the change, in (0, 1).

    Returns:
        The gain, such as 0.061 for 6.1 points; None if no gain is kept with this probability.

    Raises:
        ValueError: If `regressions` is not in [0, 1], or `power` not in (0, 1).
    """
    if not 0 < power < 1:
        raise ValueError(f"power is {power}: a number between 0 and 1 is needed")
    _check_shares(0.0, regressions)

    def excess(gain: float) -> float:
        return keep_probability(design, regressions + gain, regressions) - power

    low, high, most = 0.0, design.items**-0.5, 1 - 2 * regressions
    while high < most and excess(high) < 0:
        low, high = high, 2 * high
    high = min(high, most)
    if high <= 0 or excess(high) < 0:
        return None
    return float(brentq(excess, low, high, xtol=GAIN_ERROR)) if excess(low) < 0 else low


def _verdict(design: GateDesign, look: Look) -> tuple[bool, str] | None:
    """Return whether the change is kept and why, or None if the gate goes on."""
    if look.needed is not None and look.fixes >= look.needed:
        return True, f"{look.needed} {'was' if look.needed == 1 else 'were'} needed"
    if look.items == design.items:
        if look.needed is None:
            return False, "too few changed answers to show a gain"
        return False, f"{look.needed} {'was' if look.needed == 1 else 'were'} needed"
    if look.fixes < _fewest(look.items / design.items, look.fixes + look.regressions):
        return False, f"too few to show a gain on the remaining {counted(design.items - look.items, 'item')}"
    return None


def _fewest(seen: float, discordant: int) -> int:
    """Return the number of fixes below which the gate stops for futility.

    The bound is z = 2t - 1, where z = (fixes - regressions) / sqrt(discordant) and t is the share of the items seen:
    -1/2, 0 and 1/2 at the first three looks.
    """
    return math.ceil((discordant + (2 * seen - 1) * math.sqrt(discordant)) / 2)


@dataclass(frozen=True)
class _Bound:
    """Number of fixes needed at a look, given the discordant pairs at this and the earlier looks.

    Attributes:
        needed: Number of fixes with which a change is kept; None if even fixes alone do not suffice.
        undecided: Probability, if fixes and regressions are equally likely, that the change was not kept so far and has
            0, 1, ... fixes. Shape (discordant pairs + 1,).
        spent: Probability that the change was kept so far, under the same hypothesis.
    """

    needed: int | None
    undecided: NDArray[np.float64]
    spent: float


@lru_cache(maxsize=4096)
def _bound(design: GateDesign, discordant: tuple[int, ...]) -> _Bound:
    """Return the bound at the last of these looks.

    Args:
        design: Design of the gate.
        discordant: Cumulative numbers of discordant pairs at looks 1, 2, ...
    """
    *earlier, pairs = discordant
    before = _bound(design, tuple(earlier)) if earlier else _Bound(None, np.ones(1), 0.0)
    undecided = np.convolve(before.undecided, _binomial(pairs - (earlier[-1] if earlier else 0), 0.5))
    tails = np.cumsum(undecided[::-1])  # P(undecided so far, and at least pairs - i fixes)
    seen = design.looks[len(earlier)] / design.items
    allowed = design.level * seen**SPENDING - before.spent
    crossing = int(np.searchsorted(tails, allowed, side="right"))  # how many of the counts keep the change
    if not crossing:
        return _Bound(None, undecided, before.spent)
    needed = pairs + 1 - crossing
    undecided[needed:] = 0.0
    return _Bound(needed, undecided, before.spent + float(tails[crossing - 1]))


@lru_cache(maxsize=256)
def _characteristics(design: GateDesign, fixes: float, regressions: float) -> tuple[float, float]:
    """Return the operating characteristics: the probability that a change is kept, and the expected number of items."""
    _check_shares(fixes, regressions)
    rate = min(fixes + regressions, 1.0)
    share = min(fixes / rate, 1.0) if rate else 0.0
    steps = np.diff((0, *design.looks)).tolist()
    reached: dict[tuple[int, ...], _Reached] = {}
    kept = items = 0.0
    for path, weight in _paths(design.looks, rate):
        for look, step in enumerate(steps, 1):
            seen = path[:look]
            if seen not in reached:  # most paths begin as others do
                before = reached[seen[:-1]].undecided if look > 1 else np.ones(1)
                reached[seen] = _next(design, seen, before, share)
            items += weight * step * reached[seen].begun
            kept += weight * reached[seen].kept
    return kept, items


class _Reached(NamedTuple):
    """What a sequence of discordant pairs leads to.

    Attributes:
        begun: Probability that the gate answers the items of the last look.
        kept: Probability that the change is kept at the last look.
        undecided: Probability that the gate goes on and has seen 0, 1, ... fixes. Shape (discordant pairs + 1,).
    """

    begun: float
    kept: float
    undecided: NDArray[np.float64]


def _next(design: GateDesign, path: tuple[int, ...], undecided: NDArray[np.float64], share: float) -> _Reached:
    """Return what a sequence of discordant pairs leads to, from the probabilities before its last look.

    Args:
        design: Design of the gate.
        path: Cumulative numbers of discordant pairs at the looks so far.
        undecided: Probabilities of 0, 1, ... fixes before the last of these looks.
        share: Probability that a discordant pair is a fix.
    """
    *earlier, pairs = path
    after = np.convolve(undecided, _binomial(pairs - (earlier[-1] if earlier else 0), share))
    needed, kept = _bound(design, path).needed, 0.0
    if needed is not None:
        kept = float(after[needed:].sum())
        after[needed:] = 0.0
    after[: _fewest(design.looks[len(earlier)] / design.items, pairs)] = 0.0
    return _Reached(float(undecided.sum()), kept, after)


def _paths(looks: tuple[int, ...], rate: float) -> list[tuple[tuple[int, ...], float]]:
    """Return sequences of cumulative discordant pairs at the looks, and their weights.

    The increments are independent and binomial. The sequences are their quantiles at the points of a lattice rule of
    Korobov's form (Korobov 1959, Doklady Akademii Nauk 124:1207), which fills the unit cube evenly.
    """
    powers = [pow(GENERATOR, look, PATHS) for look in range(len(looks))]
    points = (np.outer(np.arange(PATHS), powers) % PATHS + 0.5) / PATHS
    increments = [
        np.searchsorted(np.cumsum(_binomial(size, rate))[:-1], points[:, look], side="right")
        for look, size in enumerate(np.diff((0, *looks)).tolist())
    ]
    paths, repeats = np.unique(np.cumsum(np.stack(increments, axis=1), axis=1), axis=0, return_counts=True)
    return [(tuple(path), count / PATHS) for path, count in zip(paths.tolist(), repeats.tolist(), strict=True)]


@lru_cache(maxsize=4096)
def _binomial(n: int, p: float) -> NDArray[np.float64]:
    """Return the probabilities of 0 to n successes in n trials, shape (n + 1,)."""
    k = np.arange(n + 1.0)
    pmf: NDArray[np.float64] = np.exp(
        gammaln(n + 1.0) - gammaln(k + 1) - gammaln(n - k + 1) + xlogy(k, p) + xlog1py(n - k, -p)
    )
    return pmf


def _check_counts(design: GateDesign, counts: Sequence[tuple[int, int]]) -> None:
    if not 1 <= len(counts) <= len(design.looks):
        raise ValueError(f"counts has {len(counts)} looks: 1 to {len(design.looks)}, those of the design, are needed")
    last = (0, 0, 0)
    for items, (fixes, regressions) in zip(design.looks, counts, strict=False):
        if fixes < last[1] or regressions < last[2]:
            raise ValueError(f"counts is {list(counts)}: cumulative counts of at least 0, which never fall, are needed")
        if fixes + regressions - last[1] - last[2] > items - last[0]:
            raise ValueError(f"counts is {list(counts)}: more items changed than the looks saw, {design.looks}")
        last = (items, fixes, regressions)


def _check_shares(fixes: float, regressions: float) -> None:
    if not (fixes >= 0 and regressions >= 0 and fixes + regressions <= 1 + 1e-12):
        raise ValueError(
            f"fixes is {fixes}, regressions is {regressions}: shares of at least 0 whose sum is at most 1 are needed"
        )
