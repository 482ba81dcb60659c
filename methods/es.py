"""Evolution strategies (ES) on the weights of a language model (Qiu et al., arXiv 2509.24372).

Each iteration draws candidates theta + sigma * eps_i, scores them by greedy decoding, standardises the rewards to z_i,
and moves theta by step / n * sum_i z_i eps_i. The factor 1 / sigma of the gradient estimate is part of the step, as in
the paper. The last iterate is the result: no iterate is chosen by its score.

The candidates of an iteration are points around theta. The weights of theta are kept, so a candidate costs the noise of
one seed. See `bench.weights.points`.

Differences from the paper, with reasons:

- The budget determines the number of iterations. Below about 60,000 evaluations it also limits the number of examples,
  and below that the population.
- If the support split is larger than the number of examples per iteration, the iterations use its slices in turn. The
  paper scores the same 200 examples each time. New examples keep ES from overfitting to one set.
- Each iteration may spend an equal share of the remaining budget, which buys about the published population. So the
  last iteration ends with the budget.

`AnchoredEs` adds weight decay towards the base (Schweighofer et al., arXiv 2605.30148). After each update, the
displacement from the base shrinks by the factor 1 - decay:

    theta <- theta_0 + (1 - decay) (theta + update - theta_0)

Most of an update is a random walk in directions that the reward does not constrain. Old steps fade, so the walk stays
near the base, and with it what the model knew before. The factor is that of the paper's L2 penalty, decay = alpha *
lambda. Differences from the paper, with reasons:

- The decay multiplies amplitudes. All noise seeds keep their directions, so it needs no weights and no evaluations.
  But the weights of an iterate are then computed from the noise of all earlier candidates, once per iteration, where
  `Es` adds that of the last update.
- The setting is the decay of one step, and does not change with `step`, so the two can be tuned apart.
- The L1 penalty is left out, as it is no function of the amplitudes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.seeds import derive
from bench.settings import setting
from bench.weights.points import Point, combine
from methods.interface import Artifact, Context, Dimension, Method, Plan, PlanLine, SingleModel
from methods.search.population import NoiseConfig, score_population
from methods.space import Space
from tasks.interface import TaskTraits

WANTED_ITERATIONS = 10
"""Number of iterations that a budget must buy before an iteration uses more than `MIN_EXAMPLES` examples."""
MIN_ITERATIONS = 3
MIN_EXAMPLES = 8
MIN_CANDIDATES = 5


PAPER = "arXiv 2509.24372"


class EsConfig(NoiseConfig):
    """Settings of ES."""

    population: Annotated[int, Field(ge=2)] = setting(
        30, "Approximate number of candidates per iteration; a small budget buys fewer.", source=PAPER
    )
    examples: PositiveInt = setting(
        200,
        "Number of support examples that score an iteration; a small budget or split has fewer.",
        unit="examples",
        source=PAPER,
    )
    sigma: PositiveFloat = setting(1e-3, "Standard deviation of the perturbations.", unit="weights", source=PAPER)
    step: PositiveFloat = setting(
        5e-4,
        "Step size, the paper's alpha: the update is step / n * sum_i z_i eps_i.",
        unit="weights",
        source=PAPER,
    )
    antithetic: bool = setting(
        False,
        "Whether the perturbations are drawn in pairs of opposite sign, as in arXiv 2511.16652.",
        source=PAPER,
    )


@dataclass(frozen=True)
class EsSchedule:
    """Schedule that a budget buys, estimated at the cost of the base's answers.

    Attributes:
        iterations: Number of updates.
        population: Approximate number of candidates per iteration.
        examples: Number of support examples that score an iteration.
        slices: Number of disjoint slices of that size in the support split. The iterations use them in turn.
    """

    iterations: int
    population: int
    examples: int
    slices: int

    def slice(self, iteration: int) -> range:
        """Return the indices of the support examples of an iteration, counted from 0."""
        start = (iteration % self.slices) * self.examples
        return range(start, start + self.examples)


def make_schedule(evaluations: int, support: int, config: EsConfig) -> EsSchedule:
    """Return the schedule for a budget.

    A smaller budget first reduces the examples, then the iterations, then the population.

    Args:
        evaluations: Budget in evaluations.
        support: Size of the support split.
        config: Settings.

    Raises:
        Refused: If the budget does not buy `MIN_ITERATIONS` iterations of `MIN_CANDIDATES` candidates.
    """
    least = min(MIN_EXAMPLES, support, config.examples)
    wanted = evaluations // (WANTED_ITERATIONS * config.population)
    examples = min(max(wanted, least), config.examples, support)
    affordable = evaluations // (MIN_ITERATIONS * examples)
    population = min(config.population, affordable)
    if population < min(MIN_CANDIDATES, config.population):
        needed = MIN_ITERATIONS * least * min(MIN_CANDIDATES, config.population)
        raise Refused(
            f"es cannot use a budget of {evaluations} evaluations: {MIN_ITERATIONS} iterations of "
            f"{min(MIN_CANDIDATES, config.population)} candidates on {least} examples take {needed}"
        )
    return EsSchedule(evaluations // (population * examples), population, examples, support // examples)


class Es(Method):
    """Evolution strategies: move along random perturbations, weighted by their standardised rewards."""

    name = "es"
    version = "2"
    Config = EsConfig
    config: EsConfig
    space: ClassVar[Space] = {"sigma": Dimension(1e-4, 3e-2), "step": Dimension(1e-4, 5e-2)}

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the iterations that this budget buys."""
        schedule = make_schedule(evaluations, task.sizes["support"], self.config)
        what = (
            f"{schedule.iterations} iterations of about {schedule.population} candidates on {schedule.examples} "
            f"support examples"
        )
        notes = ["the last iterate is the result; none is chosen by its score"]
        if schedule.slices > 1:
            notes.append(f"iterations use {schedule.slices} slices of the support split in turn")
        published = (self.config.population, self.config.examples)
        if (schedule.population, schedule.examples) != published:
            notes.append(f"this budget or split is too small for {published[0]} candidates on {published[1]} examples")
        return Plan((PlanLine("sample", what, evaluations),), tuple(notes))

    def adapt(self, context: Context) -> Artifact:
        """Run the planned iterations; return the model at the last iterate."""
        evaluations = round(context.budget / context.evaluation_flops)
        schedule = make_schedule(evaluations, context.task.sizes["support"], self.config)
        theta = Point()
        trajectory: list[dict[str, Any]] = []
        context.report.update(sigma=self.config.sigma, step=self.config.step, trajectory=trajectory)
        for iteration in range(schedule.iterations):
            examples = schedule.slice(iteration)
            candidates = score_population(
                context,
                f"iteration {iteration + 1} of {schedule.iterations}",
                self._sampler(context.seed, iteration),
                "support",
                examples,
                budget=context.remaining // (schedule.iterations - iteration),
                place=theta.step,
            )
            rewards = np.array([candidate.evaluation.reward for candidate in candidates])
            update = es_update(
                [candidate.displacement for candidate in candidates],
                rewards,
                sigma=self.config.sigma,
                step=self.config.step,
            )
            theta = self.moved(theta, update)
            trajectory.append(_describe(rewards, examples) | {"update_norm": update.norm, "norm": theta.norm})
        return SingleModel(theta)

    def moved(self, theta: Point, update: Point) -> Point:
        """Return the next iterate."""
        return theta.step(update)

    def _sampler(self, seed: int, iteration: int) -> Callable[[int], Point]:
        sigma, noise = self.config.sigma, self.config.drawn

        def draw(index: int) -> Point:
            if self.config.antithetic:
                return Point({derive(seed, "es", iteration, index // 2): -sigma if index % 2 else sigma}, noise)
            return Point({derive(seed, "es", iteration, index): sigma}, noise)

        return draw


class AnchoredEsConfig(EsConfig):
    """Settings of anchored ES."""

    decay: Annotated[float, Field(ge=0, lt=1)] = setting(
        5e-3,
        "Share of the displacement from the base that is taken back after each update; 0 is es.",
        source="arXiv 2605.30148, code: alpha 5e-4 times the recommended lambda 10",
    )


class AnchoredEs(Es):
    """Evolution strategies whose displacement from the base decays after each update."""

    name = "anchored-es"
    version = "1"
    Config = AnchoredEsConfig
    config: AnchoredEsConfig
    space: ClassVar[Space] = {**Es.space, "decay": Dimension(1e-4, 1e-1)}

    def moved(self, theta: Point, update: Point) -> Point:
        """Return the next iterate, nearer to the base by the decay."""
        moved = super().moved(theta, update)
        return (1 - self.config.decay) * moved if self.config.decay else moved


def es_update(displacements: Sequence[Point], rewards: NDArray[np.float64], *, sigma: float, step: float) -> Point:
    """Return the update step / n * sum_i z_i eps_i, where z are the standardised rewards.

    See arXiv 2509.24372, algorithm 1. The update is zero if all rewards are equal, because they then give no direction.

    Args:
        displacements: Displacements sigma * eps_i, [candidates].
        rewards: Mean reward per candidate, [candidates]; a candidate with NaN is left out.
        sigma: Standard deviation of the displacements.
        step: Step size, the paper's alpha; the 1 / sigma of the gradient estimate is part of it.
    """
    scored = np.flatnonzero(~np.isnan(rewards))
    if scored.size == 0 or np.ptp(rewards[scored]) == 0.0:
        return Point()
    scores = (rewards[scored] - rewards[scored].mean()) / rewards[scored].std()
    factors = step / (scored.size * sigma) * scores
    return combine(zip(factors.tolist(), (displacements[i] for i in scored.tolist()), strict=True))


def _describe(rewards: NDArray[np.float64], examples: range) -> dict[str, Any]:
    """Return the record of one iteration."""
    scored = rewards[~np.isnan(rewards)]
    statistics = {"mean": scored.mean(), "max": scored.max(), "sd": scored.std()} if scored.size else {}
    return {
        "examples": [examples.start, examples.stop],
        "candidates": int(scored.size),
        **{name: float(value) for name, value in statistics.items()},
    }
