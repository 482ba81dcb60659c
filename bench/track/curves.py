"""Curves of a run, from its journal and its training curve. Pure functions of both.

The journal has every booked work and every score in order, so the curves of a running, a resumed and a finished run
are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.compute.ledger import ADAPTATION, Account, Work
from bench.track.interface import SPENT, STEP, TRAINED, Point

POINTS = 1000
"""Maximum number of points of a curve: of two points closer than this part of the budget, the second one waits."""

Price = Callable[[Work], int]
"""Function that returns the FLOPs of work on the run's model."""


class Curves:
    """Curves of one run.

    Args:
        price: Prices the work of journal entries.
        evaluations: Budget in evaluations of the base model.
        budget: Budget in FLOPs.
        after: Last values that the tracker has of `SPENT` and `TRAINED`. No point up to them is returned again.
    """

    def __init__(self, price: Price, evaluations: int, budget: int, after: Mapping[str, float]) -> None:
        self._price, self._evaluation_flops = price, budget / evaluations
        self._scores = Scores()
        self.accounts: dict[Account, int] = {}
        self._budget = _Thinned(budget / POINTS, after.get(SPENT, -1.0))
        self._training = _Thinned(budget / POINTS, after.get(TRAINED, -1.0))
        self._best = -math.inf

    @property
    def spent(self) -> int:
        """FLOPs billed to the budget, by the entries so far."""
        return sum(self.accounts.get(account, 0) for account in ADAPTATION)

    def step(self, flops: float) -> int:
        """Return the step of a point: FLOPs in evaluations of the base model."""
        return round(flops / self._evaluation_flops)

    def entry(self, entry: Mapping[str, Any]) -> Iterator[Point]:
        """Return the points that follow from one more entry of the journal."""
        booked = booking(entry)
        if booked is None:
            return
        account, work = booked
        self.accounts[account] = self.accounts.get(account, 0) + self._price(work)
        values = {f"account/{name}": float(flops) for name, flops in self.accounts.items()}
        values |= self._scores.add(entry["key"], entry["value"])
        yield from self._points(self._budget, SPENT, float(self.spent), values)

    def row(self, flops: float, row: Mapping[str, float | None]) -> Iterator[Point]:
        """Return the points that follow from one more row of the training curve.

        Args:
            flops: FLOPs billed to the budget when the row was complete.
            row: Values by column; None and non-finite ones are left out.
        """
        finite = {name: value for name, value in row.items() if value is not None and math.isfinite(value)}
        # Rounded like the curve in the record, so that both are equal.
        values = {f"training/{name}": float(f"{value:.6g}") for name, value in finite.items()}
        if "reward" in finite:
            self._best = max(self._best, values["training/reward"])
            values["training/best"] = self._best
        yield from self._points(self._training, TRAINED, flops, values)

    def rest(self) -> Iterator[Point]:
        """Return the points that are waiting."""
        for thinned, key in ((self._budget, SPENT), (self._training, TRAINED)):
            if (waiting := thinned.rest()) is not None:
                yield self._point(key, *waiting)

    def _points(self, thinned: _Thinned, key: str, flops: float, values: dict[str, float]) -> Iterator[Point]:
        if (found := thinned.add(flops, values)) is not None:
            yield self._point(key, *found)

    def _point(self, key: str, flops: float, values: dict[str, float]) -> Point:
        step = self.step(flops)
        return Point(step, {STEP: float(step), key: flops, **values})


class _Thinned:
    """Points of a curve, without those that follow another one too closely.

    Args:
        width: Least distance of two points.
        after: Points up to here are left out.
    """

    def __init__(self, width: float, after: float) -> None:
        self._width, self._after = width, after
        self._last = -math.inf
        self._waiting: tuple[float, dict[str, float]] | None = None

    def add(self, place: float, values: dict[str, float]) -> tuple[float, dict[str, float]] | None:
        """Return the point if it is far enough from the last one; else None, and it waits."""
        earlier = self._waiting[1] if self._waiting else {}
        self._waiting = place, earlier | values
        if place - self._last < self._width:
            return None
        self._last = place
        return self.rest()

    def rest(self) -> tuple[float, dict[str, float]] | None:
        """Return the point that is waiting; None if there is none, or the tracker has it."""
        waiting, self._waiting = self._waiting, None
        return waiting if waiting and waiting[0] > self._after else None


class Scores:
    """Best score of the candidates so far, by split, from the scores in a journal.

    A candidate's score is its mean reward over all examples of a split that it has answered. Only candidates that have
    answered the most examples so far are compared, so that a lucky start of a race is not the best score.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str, str], dict[int, list[float]]] = {}  # answered, judged, sum of rewards
        self._best: dict[str, tuple[int, float]] = {}

    def add(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, float]:
        """Return the score and the best score after one more entry; empty if it has no scores, or is of a trial."""
        if "score" not in key or not value["complete"] or "trial" in key:
            return {}
        split, _, start = key["score"].partition(" ")
        candidate = self._parts.setdefault((split, key["point"], key["prompt"]), {})
        judged = [reward for reward in value["rewards"] if reward is not None]
        part = [len(value["rewards"]), len(judged), sum(judged)]
        candidate[int(start)] = max(candidate.get(int(start), part), part, key=lambda each: each[0])
        answered, count, rewards = map(sum, zip(*candidate.values(), strict=True))
        if not count:
            return {}
        found = round(answered), rewards / count
        self._best[split] = max(self._best.get(split, found), found)
        return {f"{split}/score": found[1], f"{split}/best": self._best[split][1]}


def booking(entry: Mapping[str, Any]) -> tuple[Account, Work] | None:
    """Return the account and the work that a journal entry books; None for an entry without work of its own."""
    key, value = entry.get("key"), entry["value"]
    # The end of a trial has the work of all its entries once more. Prefetched results are booked when they are used.
    if key is None or "work" not in value or "ended" in key:
        return None
    work = Work(**value["work"])
    if "timed" in key:
        return "setup", work + Work(**value["warm_up"])
    account: Account = "train" if "train" in key else key["account"]
    return ("tune" if "trial" in key and account in ADAPTATION else account), work
