"""Race a population within a budget, batch by batch. The evaluations saved in one batch pay for the next batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.weights.points import Point
from methods.interface import AdaptationSplit, Context, Evaluation, Stage
from methods.search.elimination import slice_ends, survivors
from methods.search.population import LOOKAHEAD, Candidate, next_allowance

RACING_NOTE = "racing spends what it saves on further candidates; the plan cannot know how many"
"""Note in the plan of a method that races."""


@dataclass(frozen=True)
class Racing:
    """Settings of a race; see `methods.search.elimination`.

    Attributes:
        top: Function that returns, for a population size, how many of the best candidates matter to the method.
        confidence: Expected share of the true top that each elimination keeps, in (0, 1].
        values: Function that returns the value of an evaluation per example, [examples], in [0, 1]; NaN where unscored.
    """

    top: Callable[[int], int]
    confidence: float
    values: Callable[[Evaluation], NDArray[np.float64]]


def race_population(
    context: Context,
    name: str,
    draw: Callable[[int], Point],
    split: AdaptationSplit,
    examples: range,
    racing: Racing,
    *,
    budget: int,
    limit: int | None = None,
) -> list[Candidate]:
    """Race single perturbations of the base until a budget is spent.

    A batch has as many new candidates as the rest of the budget could score in full. Earlier candidates stay in the
    race with their scores. If later examples cost more than the first ones, the worst candidates are dropped, so that
    the best can be scored to the end. The report gets an entry `racing`, for example
    `{"confidence": 0.95, "cohorts": [20, 9, 3], "finalists": 7, "evaluations": 3968, "saved": 2432, "unpaid": 0}`:
    sizes of the batches, number of finalists, evaluations spent and saved, and candidates dropped for lack of budget.

    Args:
        context: Access to the run.
        name: Name of the phase on the progress display.
        draw: Function that returns the candidate with a given index, called once per index in ascending order.
        split: Split that scores the candidates.
        examples: Indices of the examples in that split.
        racing: Settings.
        budget: FLOPs for the population.
        limit: Maximum number of candidates. Default: as many as the budget buys.

    Returns:
        Finalists and eliminated candidates, in sampling order. Candidates that the end of the budget cut off are left
        out.
    """
    race = _Race(context, split, examples, racing, budget)
    with context.stage(name) as stage:
        while race.add_batch(draw, limit, stage):
            race.run(stage)
    context.report["racing"] = race.report()
    return race.candidates()


class _Race:
    """State of a race. Arrays and lists have one entry per candidate.

    Attributes:
        parts: Evaluations of each candidate, one per slice or run of slices.
        scored: Number of examples, from the first on, that each candidate was scored on.
        active: Whether each candidate is still in the race.
        costs: FLOPs of the evaluations of each slice.
        cut_off: Whether the budget has ended.
        unaffordable: Number of candidates dropped for lack of budget.
    """

    def __init__(self, context: Context, split: AdaptationSplit, examples: range, racing: Racing, budget: int) -> None:
        self.context, self.split, self.examples, self.racing = context, split, examples, racing
        self.ends = slice_ends(len(examples))
        self.budget = min(budget, context.remaining)
        self.points: list[Point] = []
        self.drawn: deque[Point] = deque()
        self.parts: list[list[Evaluation]] = []
        self.scored = np.zeros(0, dtype=np.int64)
        self.active = np.zeros(0, dtype=np.bool_)
        self.batches: list[int] = []
        self.spent = 0
        self.costs: list[list[int]] = [[] for _ in self.ends]
        self.cut_off = False
        self.unaffordable = 0

    def add_batch(self, draw: Callable[[int], Point], limit: int | None, stage: Stage) -> int:
        """Score a batch of new candidates on the first slice; return its size."""
        size, announced, before = 0, 0, self.spent
        while not self.cut_off and (limit is None or len(self.points) < limit):
            if (size + 1) * self._full_cost() > self.budget - before:
                break
            if not announced:
                affordable = int((self.budget - before) / self._full_cost()) - size
                announced = self._announce(
                    draw, affordable if limit is None else min(affordable, limit - len(self.points))
                )
            announced -= 1
            self.points.append(self.drawn.popleft())
            self.parts.append([])
            self.scored = np.append(self.scored, 0)
            self.active = np.append(self.active, True)
            self._score(len(self.points) - 1, 0, stage)
            size += not self.cut_off
        if size:
            self.batches.append(size)
        return size

    def _announce(self, draw: Callable[[int], Point], wanted: int) -> int:
        """Draw and announce candidates; return how many of them to score before the next announcement."""
        wanted = max(1, min(wanted, LOOKAHEAD))
        while len(self.drawn) < wanted:
            self.drawn.append(draw(len(self.points) + len(self.drawn)))
        self.context.prepare(list(self.drawn)[:wanted], self.split, examples=self._rest(0, 0))
        return (wanted + 1) // 2

    def run(self, stage: Stage) -> None:
        """Score the active candidates slice after slice, with an elimination before each slice."""
        for number in range(1, len(self.ends)):
            if self.cut_off:
                return
            self._eliminate()
            waiting = np.flatnonzero(self.active & (self.scored < self.ends[number])).tolist()
            means = {i: float(np.nan_to_num(self._values_of(self.parts[i])).mean()) for i in waiting}
            # Best first, so that the budget runs out on the worst.
            waiting.sort(key=lambda i: (-means[i], i))
            start = self.ends[number - 1]
            ready = [self.points[i] for i in waiting if self.scored[i] == start]
            self.context.prepare(ready, self.split, examples=self._rest(start, number))
            for taken, index in enumerate(waiting):
                if taken and not self._affordable(taken, number):
                    self.active[index] = False
                    self.unaffordable += 1
                else:
                    self._score(index, number, stage)

    def _rest(self, scored: int, number: int) -> range:
        """Return the examples up to the end of a slice for a candidate already scored on `scored` examples."""
        return self.examples[scored : self.ends[number]]

    def _affordable(self, taken: int, number: int) -> bool:
        """Return whether the budget covers one more candidate in this slice, and all taken so far in later slices."""
        each = sum(self.costs[number]) / len(self.costs[number]) if self.costs[number] else 0.0
        size = self.ends[number] - self.ends[number - 1]
        rest = len(self.examples) - self.ends[number]
        return each + (taken + 1) * each / size * rest <= self.budget - self.spent

    def _values_of(self, parts: Sequence[Evaluation]) -> NDArray[np.float64]:
        """Return the values of a candidate's evaluations, [examples scored]."""
        return np.concatenate([self.racing.values(part) for part in parts])

    def _full_cost(self) -> float:
        """Return the FLOPs of scoring one candidate in full: the measured mean, at first the base's cost."""
        scored = int(self.scored.sum())
        return len(self.examples) * (self.spent / scored if scored else self.context.evaluation_flops)

    def _score(self, index: int, number: int, stage: Stage) -> None:
        """Score a candidate up to the end of a slice, unless the budget has ended."""
        if self.cut_off:
            return
        part = self._rest(int(self.scored[index]), number)
        before = self.costs[number] or [int(self._full_cost() * len(part) / len(self.examples))]
        left = self.budget - self.spent
        allowance = next_allowance(left + sum(before), self.context.remaining, before)
        self.cut_off = not allowance
        if not allowance:
            return
        evaluation = self.context.evaluate(
            self.points[index], self.split, account="sample", examples=part, allowance=allowance
        )
        self.spent += evaluation.flops
        self.cut_off = not evaluation.complete
        if evaluation.complete:
            self.costs[number].append(evaluation.flops)
            self.parts[index].append(evaluation)
            self.scored[index] = self.ends[number]
            # The display compares full scores only: partial ones cover other examples.
            stage.advance(_joined(self.parts[index]).reward if number == len(self.ends) - 1 else None)

    def _eliminate(self) -> None:
        values = np.full((len(self.points), len(self.examples)), np.nan)
        for row, parts, scored in zip(values, self.parts, self.scored, strict=True):
            if parts:
                row[:scored] = self._values_of(parts)
        top = self.racing.top(len(self.points))
        self.active = survivors(values, self.scored, self.active, self.ends, top=top, confidence=self.racing.confidence)

    def candidates(self) -> list[Candidate]:
        """Return the finalists and the eliminated candidates, in sampling order."""
        finished = self.scored == len(self.examples)
        return [
            Candidate(self.points[i], _joined(self.parts[i]), bool(finished[i]))
            for i in np.flatnonzero(finished | ~self.active).tolist()
        ]

    def report(self) -> dict[str, Any]:
        """Return the record of the race; see `race_population`."""
        missing = len(self.examples) - self.scored
        return {
            "confidence": self.racing.confidence,
            "cohorts": self.batches,
            "finalists": int(np.count_nonzero(missing == 0)),
            "evaluations": int(self.scored.sum()),
            "saved": int(missing[~self.active].sum()),
            "unpaid": self.unaffordable,
        }


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    """Return one evaluation that covers the examples of several."""
    return Evaluation(
        rewards=np.concatenate([part.rewards for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
        flops=sum(part.flops for part in parts),
    )
