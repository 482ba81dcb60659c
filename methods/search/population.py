"""Scoring a population within a budget: the floor that every search by random perturbations stands on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BeforeValidator, Field

from bench.weights.points import Point
from methods.interface import AdaptationSplit, Context, Evaluation

ANNOUNCED = 32
"""Candidates that are drawn and announced ahead at most, and half of them at least."""


class Candidate(NamedTuple):
    """A scored member of a population.

    Attributes:
        displacement: From the centre of the search.
        evaluation: What it scored; complete.
        finalist: False if it dropped out of a race; the evaluation then covers the examples that it was asked.
    """

    displacement: Point
    evaluation: Evaluation
    finalist: bool = True


def score_population(
    context: Context,
    name: str,
    draw: Callable[[int], Point],
    split: AdaptationSplit,
    examples: range,
    *,
    budget: int,
    limit: int | None = None,
    centre: Point | None = None,
) -> list[Candidate]:
    """Evaluate displacements from a centre while a budget lasts.

    A candidate that the rest of the budget will probably not pay, at the mean cost of those before, is not begun. One
    that turns out dearer is cut off: what it took is spent, and it is left out.

    Args:
        context: Where to evaluate.
        name: What the progress display calls this phase.
        draw: Returns the displacement of the candidate of an index. Called in ascending order, once an index, and
            possibly for more candidates than the budget reaches.
        split: Which examples score a candidate.
        examples: Which of them.
        budget: FLOPs for the population.
        limit: Candidates at most; None for as many as the budget buys.
        centre: Where the search stands; None for the base.

    Returns:
        Candidates in sampling order.
    """
    found: list[Candidate] = []
    spent: list[int] = []
    planned = int(budget / (len(examples) * context.evaluation_flops))
    with context.stage(name, planned if limit is None else min(planned, limit)) as stage:
        for displacement, point in _announced(context, draw, centre or Point(), split, examples, limit):
            allowance = next_allowance(budget, context.remaining, spent)
            if not allowance:
                break
            evaluation = context.evaluate(point, split, account="sample", examples=examples, allowance=allowance)
            if not evaluation.complete:
                break
            spent.append(evaluation.flops)
            found.append(Candidate(displacement, evaluation))
            stage.advance(evaluation.reward)
    return found


def next_allowance(budget: int, remaining: int, spent: Sequence[int]) -> int:
    """Return the FLOPs that one more evaluation of a kind may take; 0 if it should not begin.

    It begins if they cover the mean cost of those before.

    Args:
        budget: FLOPs for all evaluations of this kind.
        remaining: FLOPs left of the whole budget.
        spent: FLOPs of those before; the first is always tried.
    """
    allowance = min(budget - sum(spent), remaining)
    return allowance if allowance > 0 and allowance >= (sum(spent) / len(spent) if spent else 0) else 0


def _announced(
    context: Context,
    draw: Callable[[int], Point],
    centre: Point,
    split: AdaptationSplit,
    examples: range,
    limit: int | None,
) -> Iterator[tuple[Point, Point]]:
    """Displacements and their points, announced."""
    waiting = map(draw, count() if limit is None else range(limit))
    ahead: deque[tuple[Point, Point]] = deque()
    for index in count():
        if index % (ANNOUNCED // 2) == 0:
            drawn = list(islice(waiting, ANNOUNCED - len(ahead)))
            ahead.extend((displacement, centre + displacement) for displacement in drawn)
            if drawn:
                context.prepare([point for _, point in ahead], split, examples=examples)
        if not ahead:
            return
        yield ahead.popleft()


T = TypeVar("T")


def _several(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, (int, float)) else value


Several = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_several)]
"""A setting of one or more values: a list, one value alone, or text such as `1,5,10`."""
