"""Racing a population within a budget: cohort after cohort, each paid for by what those before it saved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.weights.points import Point
from methods.interface import AdaptationSplit, Context, Evaluation, Stage
from methods.search.elimination import slice_ends, stay
from methods.search.population import ANNOUNCED, Candidate, next_allowance

RACING_NOTE = "what racing saves pays for further candidates, in a number that shows while they are scored"
"""For plans."""


@dataclass(frozen=True)
class Racing:
    """How a population is raced; see `methods.search.elimination`.

    Attributes:
        top: Returns how many candidates of a population of a given size matter to the method.
        confidence: Share of those among them that each decision is expected to keep.
        values: Returns what an evaluation counts as, example by example; in [0, 1], NaN where it could not be judged.
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
    """Race single perturbations of the base while a budget lasts.

    A cohort is as large as what is left could pay in full; those before it stay in the contest with what they scored.
    Where later examples turn out dearer than the first, the worst of the field leave, so that what is left pays the
    best to the end. What racing saved, and how many left for want of budget, goes on record as `racing`.

    Args:
        context: Where to evaluate.
        name: What the progress display calls this phase.
        draw: Returns the candidate of an index; called in ascending order, once an index.
        split: Which examples score a candidate.
        examples: Which of them.
        racing: How to race.
        budget: FLOPs for the population.
        limit: Candidates at most; None for as many as the budget buys.

    Returns:
        Finalists and those that dropped out, in sampling order. Whoever the budget cuts off after all is left out.
    """
    race = _Race(context, split, examples, racing, budget)
    with context.stage(name) as stage:
        while race.enter(draw, limit, stage):
            race.run(stage)
    context.report["racing"] = race.report()
    return race.candidates()


class _Race:
    def __init__(self, context: Context, split: AdaptationSplit, examples: range, racing: Racing, budget: int) -> None:
        self.context, self.split, self.examples, self.racing = context, split, examples, racing
        self.ends = slice_ends(len(examples))
        self.budget = min(budget, context.remaining)
        self.points: list[Point] = []
        self.drawn: deque[Point] = deque()
        self.answers: list[list[Evaluation]] = []
        self.asked = np.zeros(0, dtype=np.int64)
        self.in_race = np.zeros(0, dtype=np.bool_)
        self.cohorts: list[int] = []
        self.spent = 0
        self.costs: list[list[int]] = [[] for _ in self.ends]
        self.cut_off = False
        self.unpaid = 0

    def enter(self, draw: Callable[[int], Point], limit: int | None, stage: Stage) -> int:
        """Ask a new cohort the first slice; return its size."""
        cohort, announced, before = 0, 0, self.spent
        while not self.cut_off and (limit is None or len(self.points) < limit):
            if (cohort + 1) * self._price() > self.budget - before:
                break
            if not announced:
                affordable = int((self.budget - before) / self._price()) - cohort
                announced = self._announce(
                    draw, affordable if limit is None else min(affordable, limit - len(self.points))
                )
            announced -= 1
            self.points.append(self.drawn.popleft())
            self.answers.append([])
            self.asked = np.append(self.asked, 0)
            self.in_race = np.append(self.in_race, True)
            self._ask(len(self.points) - 1, 0, stage)
            cohort += not self.cut_off
        if cohort:
            self.cohorts.append(cohort)
        return cohort

    def _announce(self, draw: Callable[[int], Point], wanted: int) -> int:
        """Draw and announce candidates ahead; return after how many of them to do so again."""
        wanted = max(1, min(wanted, ANNOUNCED))
        while len(self.drawn) < wanted:
            self.drawn.append(draw(len(self.points) + len(self.drawn)))
        self.context.prepare(list(self.drawn)[:wanted], self.split, examples=self._part(0, 0))
        return (wanted + 1) // 2

    def run(self, stage: Stage) -> None:
        """Ask whoever stays in the race slice after slice."""
        for place in range(1, len(self.ends)):
            if self.cut_off:
                return
            self._drop()
            waiting = np.flatnonzero(self.in_race & (self.asked < self.ends[place])).tolist()
            means = {i: float(np.nan_to_num(self._values_of(self.answers[i])).mean()) for i in waiting}
            # The best first, so that it is the worst whom the budget may not reach.
            waiting.sort(key=lambda i: (-means[i], i))
            start = self.ends[place - 1]
            ready = [self.points[i] for i in waiting if self.asked[i] == start]
            self.context.prepare(ready, self.split, examples=self._part(start, place))
            for taken, index in enumerate(waiting):
                if taken and not self._pays(taken, place):
                    self.in_race[index] = False
                    self.unpaid += 1
                else:
                    self._ask(index, place, stage)

    def _part(self, asked: int, place: int) -> range:
        """The examples that a slice asks whoever was asked so many before."""
        return self.examples[asked : self.ends[place]]

    def _pays(self, taken: int, place: int) -> bool:
        """Whether what is left takes one more through this slice, and it and those taken before through the rest."""
        each = sum(self.costs[place]) / len(self.costs[place]) if self.costs[place] else 0.0
        size = self.ends[place] - self.ends[place - 1]
        rest = len(self.examples) - self.ends[place]
        return each + (taken + 1) * each / size * rest <= self.budget - self.spent

    def _values_of(self, parts: Sequence[Evaluation]) -> NDArray[np.float64]:
        """What a candidate scored so far, example by example."""
        return np.concatenate([self.racing.values(part) for part in parts])

    def _price(self) -> float:
        """FLOPs of one candidate in full: as measured so far, or else the base's."""
        asked = int(self.asked.sum())
        return len(self.examples) * (self.spent / asked if asked else self.context.evaluation_flops)

    def _ask(self, index: int, place: int, stage: Stage) -> None:
        if self.cut_off:
            return
        part = self._part(int(self.asked[index]), place)
        before = self.costs[place] or [int(self._price() * len(part) / len(self.examples))]
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
            self.costs[place].append(evaluation.flops)
            self.answers[index].append(evaluation)
            self.asked[index] = self.ends[place]
            # Scores of the same examples alone compare.
            stage.advance(_joined(self.answers[index]).reward if place == len(self.ends) - 1 else None)

    def _drop(self) -> None:
        values = np.full((len(self.points), len(self.examples)), np.nan)
        for row, parts, asked in zip(values, self.answers, self.asked, strict=True):
            if parts:
                row[:asked] = self._values_of(parts)
        top = self.racing.top(len(self.points))
        self.in_race = stay(values, self.asked, self.in_race, self.ends, top=top, confidence=self.racing.confidence)

    def candidates(self) -> list[Candidate]:
        """Whoever finished or dropped out."""
        finished = self.asked == len(self.examples)
        return [
            Candidate(self.points[i], _joined(self.answers[i]), bool(finished[i]))
            for i in np.flatnonzero(finished | ~self.in_race).tolist()
        ]

    def report(self) -> dict[str, Any]:
        """What the race saved, for the record."""
        unasked = len(self.examples) - self.asked
        return {
            "confidence": self.racing.confidence,
            "cohorts": self.cohorts,
            "finalists": int(np.count_nonzero(unasked == 0)),
            "evaluations": int(self.asked.sum()),
            "saved": int(unasked[~self.in_race].sum()),
            "unpaid": self.unpaid,
        }


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    return Evaluation(
        rewards=np.concatenate([part.rewards for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
        flops=sum(part.flops for part in parts),
    )
