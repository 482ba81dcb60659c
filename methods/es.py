"""Evolution strategies on the weights of a language model (Qiu et al., arXiv 2509.24372): follow the scored noise.

Each iteration draws candidates theta + sigma * eps_i, scores them greedily, standardises the rewards to z_i, and moves
theta by step / n * sum_i z_i eps_i; the 1 / sigma of the gradient estimate is part of the step, as in the paper. The
last iterate is the result: there is no gate, and no iterate is chosen by its score.

What differs from the paper, and why: the number of iterations is what the budget buys, and below about 60,000
evaluations so are the examples and the population. Where the support split holds more examples than an iteration
scores, iterations go through it slice by slice, where the paper scores the same 200 each time: an iteration moves by
what its examples have in common with the rest, and reuse only lets it learn the examples. An iteration's population is
what its equal share of the remaining budget buys, about the published number, so that the last one ends the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.seeds import derive
from bench.weights.points import Point, combine
from methods.interface import Artifact, Context, Method, MethodConfig, Plan, PlanLine, SingleModel
from methods.search.population import score_population
from tasks.interface import TaskTraits

ITERATIONS = 10
"""Wanted before iterations take more than the fewest examples."""
FEWEST_ITERATIONS = 3
FEWEST_EXAMPLES = 8
FEWEST_CANDIDATES = 8


class EsConfig(MethodConfig):
    """Settings of ES. The values are those of the paper (arXiv 2509.24372) unless a line says otherwise.

    Attributes:
        population: Candidates of an iteration, about, where the budget allows: each takes an equal share of it.
        examples: Support examples that an iteration scores, where the budget allows.
        sigma: Scale of the perturbations.
        step: Length of the update for one candidate of standardised reward 1, times the population.
        antithetic: Draw perturbations in pairs of opposite sign. Not in the paper; from arXiv 2511.16652.
    """

    population: Annotated[int, Field(ge=2)] = 30
    examples: PositiveInt = 200
    sigma: PositiveFloat = 1e-3
    step: PositiveFloat = 5e-4
    antithetic: bool = False


@dataclass(frozen=True)
class EsSchedule:
    """What a budget buys, at the cost of the base's answers.

    Attributes:
        iterations: Updates.
        population: Candidates of each, about.
        examples: Support examples that score them.
        slices: Disjoint sets of so many examples that the support split holds; iterations take turns.
    """

    iterations: int
    population: int
    examples: int
    slices: int

    def slice(self, iteration: int) -> range:
        """Return the support examples of an iteration."""
        start = (iteration % self.slices) * self.examples
        return range(start, start + self.examples)


def make_schedule(evaluations: int, support: int, config: EsConfig) -> EsSchedule:
    """Turn a budget into a schedule: what it cannot buy goes from the examples first, then iterations, then candidates.

    Args:
        evaluations: The budget.
        support: Size of the support split.
        config: Settings.

    Raises:
        Refused: If it buys less than the fewest iterations of the fewest candidates.
    """
    fewest = min(FEWEST_EXAMPLES, support, config.examples)
    wanted = evaluations // (ITERATIONS * config.population)
    examples = min(max(wanted, fewest), config.examples, support)
    affordable = evaluations // (FEWEST_ITERATIONS * examples)
    population = min(config.population, affordable)
    if population < min(FEWEST_CANDIDATES, config.population):
        needed = FEWEST_ITERATIONS * fewest * min(FEWEST_CANDIDATES, config.population)
        raise Refused(
            f"es cannot use a budget of {evaluations} evaluations: {FEWEST_ITERATIONS} iterations of "
            f"{min(FEWEST_CANDIDATES, config.population)} candidates on {fewest} examples take {needed}"
        )
    return EsSchedule(evaluations // (population * examples), population, examples, support // examples)


class Es(Method):
    """Evolution strategies: steps along random perturbations, weighted by their rewards."""

    name = "es"
    version = "1"
    Config = EsConfig
    config: EsConfig

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the iterations that this budget buys."""
        schedule = make_schedule(evaluations, task.sizes["support"], self.config)
        what = (
            f"{schedule.iterations} iterations of about {schedule.population} candidates on {schedule.examples} "
            f"support examples"
        )
        notes = ["the last iterate is the result: nothing decides whether it is better than the base"]
        if schedule.slices > 1:
            notes.append(f"iterations take turns on {schedule.slices} slices of the support split")
        published = (self.config.population, self.config.examples)
        if (schedule.population, schedule.examples) != published:
            notes.append(f"this budget and split have no room for {published[0]} candidates on {published[1]} examples")
        return Plan((PlanLine("sample", what, evaluations),), tuple(notes))

    def adapt(self, context: Context) -> Artifact:
        """Go the planned number of steps; return where they end."""
        evaluations = round(context.budget / context.evaluation_flops)
        schedule = make_schedule(evaluations, context.task.sizes["support"], self.config)
        theta = Point()
        trajectory: list[dict[str, Any]] = []
        context.report.update(sigma=self.config.sigma, step=self.config.step, trajectory=trajectory)
        for iteration in range(schedule.iterations):
            examples = schedule.slice(iteration)
            found = score_population(
                context,
                f"iteration {iteration + 1} of {schedule.iterations}",
                self._drawer(context.seed, iteration),
                "support",
                examples,
                budget=context.remaining // (schedule.iterations - iteration),
                centre=theta,
            )
            rewards = np.array([candidate.evaluation.reward for candidate in found])
            update = es_update(
                [candidate.displacement for candidate in found],
                rewards,
                sigma=self.config.sigma,
                step=self.config.step,
            )
            theta += update
            trajectory.append(_describe(rewards, examples) | {"update_norm": update.norm, "norm": theta.norm})
        return SingleModel(theta)

    def _drawer(self, seed: int, iteration: int) -> Callable[[int], Point]:
        sigma = self.config.sigma

        def draw(index: int) -> Point:
            if self.config.antithetic:
                return Point({derive(seed, "es", iteration, index // 2): -sigma if index % 2 else sigma})
            return Point({derive(seed, "es", iteration, index): sigma})

        return draw


def es_update(displacements: Sequence[Point], rewards: NDArray[np.float64], *, sigma: float, step: float) -> Point:
    """Return step / n * sum_i z_i eps_i, with z the rewards' standard scores; arXiv 2509.24372, algorithm 1.

    No displacement where all rewards are equal, which say nothing of a direction.

    Args:
        displacements: [candidates], sigma * eps_i.
        rewards: [candidates]; NaN leaves a candidate out.
        sigma: Scale of the displacements.
        step: The paper's alpha; the gradient estimate's 1 / sigma is part of it.
    """
    judged = np.flatnonzero(~np.isnan(rewards))
    if judged.size == 0 or np.ptp(rewards[judged]) == 0.0:
        return Point()
    scores = (rewards[judged] - rewards[judged].mean()) / rewards[judged].std()
    factors = step / (judged.size * sigma) * scores
    return combine(zip(factors.tolist(), (displacements[i] for i in judged.tolist()), strict=True))


def _describe(rewards: NDArray[np.float64], examples: range) -> dict[str, Any]:
    judged = rewards[~np.isnan(rewards)]
    found = {"mean": judged.mean(), "max": judged.max(), "sd": judged.std()} if judged.size else {}
    return {
        "examples": [examples.start, examples.stop],
        "candidates": int(judged.size),
        **{name: float(value) for name, value in found.items()},
    }
