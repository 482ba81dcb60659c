"""Scoring of a population within a budget, shared by all methods that search by random perturbations."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from bench.seeds import derive
from bench.settings import setting
from bench.weights.noise import PLAIN, Noise, NoiseKind, NoiseModules, NoiseScale
from methods.interface import AdaptationSplit, Context, Evaluation, MethodConfig, Place, Point

MIN_EXAMPLES = 8
"""Minimum number of examples per candidate; a score on fewer is mostly noise."""
WANTED_POPULATION = 40
"""Number of candidates that a budget must buy before they are scored on more than `MIN_EXAMPLES` examples.

A search leaves less than the cost of two candidates unspent. With 40 candidates that is below 5 % of the budget.
"""
LOOKAHEAD = 32
"""Maximum number of candidates that are drawn and announced ahead."""


class Candidate(NamedTuple):
    """A scored member of a population.

    Attributes:
        displacement: Displacement from the centre of the search.
        evaluation: Its evaluation, which is complete.
        finalist: False if it was eliminated in a race. The evaluation then covers the first part of the examples only.
    """

    displacement: Point
    evaluation: Evaluation
    finalist: bool = True


class NoiseConfig(MethodConfig):
    """Settings of the noise that a search draws."""

    noise: NoiseKind = setting(
        "iid",
        "`iid`: noise is independent for each weight; `tied`, an ablation: the generator is re-seeded for every "
        "tensor, so tensors of one shape share their noise; `lowrank`: noise of rank 1 in each linear layer, and none "
        "elsewhere; `lowrank-2`, `lowrank-4`: of rank 2 or 4.",
        source="`iid`: arXiv 2603.12228; `tied`: its released code; `lowrank`: arXiv 2511.16652",
        later=True,
    )
    scale: NoiseScale = setting(
        "plain",
        "`plain`: noise has the same variance in all tensors that move; `modular`: the variance of each tensor follows "
        "from its size and its place in the model, with the same energy in all (docs/ablations.md).",
        source="arXiv 2603.12228; `modular`: the norm of arXiv 2405.14813",
        later=True,
    )
    modules: NoiseModules = setting(
        "all",
        "Tensors that noise moves: `all`, `attention`, `recurrence`, `mlp`, `embeddings` (with the output head), "
        "several of these joined by `|`, or a regular expression that is searched in the tensors' names.",
        source="arXiv 2603.12228",
        later=True,
    )

    @property
    def drawn(self) -> Noise:
        """Noise of each seed."""
        return Noise(self.noise, self.scale, self.modules)


def balanced_examples(evaluations: int) -> int:
    """Return the number of examples per candidate with which a budget buys about as many candidates as examples."""
    return min(math.isqrt(evaluations), evaluations // WANTED_POPULATION)


def perturbation(seed: int, sigmas: Sequence[float], index: int, noise: Noise = PLAIN) -> Point:
    """Return a candidate of RandOpt's population: noise with one of the standard deviations, drawn uniformly.

    Args:
        seed: Seed of the population.
        sigmas: Standard deviations.
        index: Index of the candidate.
        noise: Noise of the seed.
    """
    scale = derive(seed, "randopt", "sigma", index) % len(sigmas)
    return Point({derive(seed, "randopt", "population", index): sigmas[scale]}, noise)


def ranking(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the scores that are not NaN, best first. Ties keep sampling order."""
    return np.argsort(-scores, kind="stable")[: int((~np.isnan(scores)).sum())]


def _from_base(displacement: Point) -> Place:
    return displacement


def score_population(
    context: Context,
    name: str,
    draw: Callable[[int], Point],
    split: AdaptationSplit,
    examples: range,
    *,
    budget: int,
    limit: int | None = None,
    place: Callable[[Point], Place] = _from_base,
) -> list[Candidate]:
    """Evaluate displacements from a centre until a budget is spent.

    A candidate is started only if the rest of the budget covers the mean cost of the candidates before it. If it turns
    out to cost more than the rest, it is cut off: its cost is spent, and it is left out of the result.

    Args:
        context: Access to the run.
        name: Name of the phase on the progress display.
        draw: Function that returns the displacement of the candidate with a given index. It is called once per index,
            in ascending order, and may be called for more candidates than the budget reaches.
        split: Split that scores the candidates.
        examples: Indices of the examples in that split.
        budget: FLOPs for the population.
        limit: Maximum number of candidates. Default: as many as the budget buys.
        place: Function that returns the point at a displacement from the centre. Default: the centre is the base.

    Returns:
        Candidates in sampling order.
    """
    scored: list[Candidate] = []
    spent: list[int] = []
    planned_cost = len(examples) * context.evaluation_flops
    planned = int(budget / planned_cost)

    def affordable() -> int:
        """Return how many further candidates the budget covers at their mean cost, before the first at the base's."""
        mean = sum(spent) / len(spent) if spent else planned_cost
        return int(min(budget - sum(spent), context.remaining) / max(1, mean))

    with context.stage(name, planned if limit is None else min(planned, limit)) as stage:
        waiting = ((displacement, place(displacement)) for displacement in map(draw, _indices(limit)))
        announce = partial(context.prepare, split=split, examples=examples)
        for displacement, point in _announced(waiting, affordable, announce):
            allowance = next_allowance(budget, context.remaining, spent)
            if not allowance:
                break
            evaluation = context.evaluate(point, split, account="sample", examples=examples, allowance=allowance)
            if not evaluation.complete:
                break
            spent.append(evaluation.flops)
            scored.append(Candidate(displacement, evaluation))
            stage.advance(evaluation.reward)
    return scored


def next_allowance(budget: int, remaining: int, spent: Sequence[int]) -> int:
    """Return the FLOPs that the next evaluation may spend; 0 if it should not be started.

    It should be started if the rest of the budget covers the mean cost of the previous ones. The first is always
    started.

    Args:
        budget: FLOPs for all evaluations of this kind.
        remaining: FLOPs left of the run's whole budget.
        spent: FLOPs of each previous evaluation of this kind.
    """
    allowance = min(budget - sum(spent), remaining)
    return allowance if allowance > 0 and allowance >= (sum(spent) / len(spent) if spent else 0) else 0


def _indices(limit: int | None) -> Iterable[int]:
    return count() if limit is None else range(limit)


def _announced(
    waiting: Iterator[tuple[Point, Place]], affordable: Callable[[], int], announce: Callable[[list[Place]], None]
) -> Iterator[tuple[Point, Place]]:
    """Yield displacements with their points, and announce the points ahead.

    Candidates that share a batch are computed together, so one that is announced and never requested costs time.
    """
    ahead: deque[tuple[Point, Place]] = deque()
    due = 0
    for index in count():
        if index == due:
            wanted = max(index == 0, min(LOOKAHEAD, affordable()))  # the first is always started
            drawn = list(islice(waiting, max(0, wanted - len(ahead))))
            ahead.extend(drawn)
            if drawn:
                announce([point for _, point in ahead])
            due = index + max(1, len(ahead) // 2)
        if not ahead:
            return
        yield ahead.popleft()


T = TypeVar("T")


def _several(value: object) -> object:
    if isinstance(value, str):
        return [_number(part) for part in map(str.strip, value.split(",")) if part]
    return [value] if isinstance(value, (int, float)) else value


def _number(text: str) -> object:
    """Return the number in a text; a text without a number stays as it is, and pydantic refuses it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


Several = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_several)]
"""Type of a setting with one or more values: a list, a single value, or text such as `1,5,10`."""
