"""Landscape around the base: random perturbations at several scales, scored example by example, for `bench analyze`.

This is a diagnostic, not a competitor: it returns the base. It measures, under the same meter as every method, how
common good perturbations are and whether they share structure. The scales alternate, and a candidate depends only on
the seed and its index, so runs on two tasks score the same perturbations.

At the end, the candidates are split into halves, and so are the examples. For each half of the candidates, the method
takes the mean direction weighted by the rewards on one half of the examples. It then evaluates steps along that
direction on the other half of the examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.seeds import derive
from bench.settings import setting
from bench.weights.cloud import MIN_CANDIDATES, halve, halve_examples, make_cloud
from bench.weights.points import Point, combine
from methods.interface import Artifact, Context, Method, Plan, PlanLine, SingleModel
from methods.search.population import Candidate, NoiseConfig, Several, score_population
from tasks.interface import TaskTraits

MIN_EXAMPLES = 8
STEP_SLACK = 1.25
"""FLOPs reserved per step, relative to the base's, because a perturbed model may give longer answers."""


class LandscapeConfig(NoiseConfig):
    """Settings of the landscape."""

    sigmas: Several[PositiveFloat] = setting(
        (5e-4, 1e-3, 2e-3),
        "Standard deviations of the perturbations, used in turn.",
        unit="weights",
        source="RandOpt (arXiv 2603.12228) and CoRP (arXiv 2605.31494)",
    )
    examples: Annotated[int, Field(ge=2)] = setting(
        200,
        "Maximum number of support examples that score a candidate; at least 2, to form halves.",
        unit="examples",
        source="RandOpt (arXiv 2603.12228)",
    )
    population: PositiveInt | None = setting(
        None, "Number of candidates; null: as many as the budget buys.", source="our choice: the budget decides"
    )


@dataclass(frozen=True)
class LandscapeSchedule:
    """Schedule that a budget buys, estimated at the cost of the base's answers.

    Attributes:
        population: Number of candidates.
        examples: Number of support examples that score each candidate.
    """

    population: int
    examples: int


def make_schedule(evaluations: int, support: int, config: LandscapeConfig) -> LandscapeSchedule:
    """Return the schedule for a budget: about as many examples as candidates, up to `config.examples`.

    Args:
        evaluations: Budget in evaluations.
        support: Size of the support split.
        config: Settings.

    Raises:
        Refused: If a half would have fewer than `MIN_CANDIDATES` candidates per scale.
    """
    scales = len(config.sigmas)
    # Fixed cost in units of all examples: the base, and for each half one step per scale on half of the examples.
    fixed = 1 + STEP_SLACK * scales
    fewest = 2 * scales * MIN_CANDIDATES
    least = config.population or fewest
    if least < fewest:
        raise Refused(f"landscape.population {least}: two halves of {scales} scales need at least {fewest} candidates")
    affordable = int(evaluations / (least + fixed))
    shared = affordable if config.population else min(math.isqrt(evaluations), affordable)
    examples = min(max(shared, MIN_EXAMPLES), config.examples, support)
    bought = int(evaluations / examples - fixed)
    population = min(bought, config.population or bought)
    if population < least:
        raise Refused(
            f"landscape cannot use a budget of {evaluations} evaluations: it buys {max(population, 0)} candidates on "
            f"{examples} support examples, and {least} are needed; give it "
            f"{math.ceil((least + fixed) * examples)} or more"
        )
    return LandscapeSchedule(population, examples)


class Landscape(Method):
    """Score random perturbations at several scales, example by example; return the base."""

    name = "landscape"
    version = "1"
    Config = LandscapeConfig
    config: LandscapeConfig

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the support split has fewer than two examples, else None."""
        return None if task.sizes["support"] > 1 else "it halves the support split, and the task has one example there"

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the population and the steps that this budget buys."""
        schedule = make_schedule(evaluations, task.sizes["support"], self.config)
        n, scales = schedule.examples, len(self.config.sigmas)
        lines = (
            PlanLine("sample", f"the base on {n} support examples", n),
            PlanLine("sample", f"about {schedule.population} candidates on the same examples", schedule.population * n),
            PlanLine("sample", f"{2 * scales} steps along halves' directions on half of them", scales * n),
        )
        return Plan(
            lines, ("a diagnostic: the base is returned unchanged; bench analyze reads what was scored",), passes=()
        )

    def adapt(self, context: Context) -> Artifact:
        """Score the base, the population and the steps along the directions of its halves; return the base."""
        evaluations = round(context.budget / context.evaluation_flops)
        schedule = make_schedule(evaluations, context.task.sizes["support"], self.config)
        examples, sigmas = range(schedule.examples), self.config.sigmas
        with context.stage("base", 1) as stage:
            base = context.evaluate(Point(), "support", account="sample", examples=examples)
            stage.advance(base.reward)

        def draw(index: int) -> Point:
            seed = derive(context.seed, self.name, "population", index)
            return Point({seed: sigmas[index % len(sigmas)]}, self.config.drawn)

        reserve = int(STEP_SLACK * len(sigmas) * base.flops)
        budget = context.remaining - reserve
        population = score_population(
            context, "population", draw, "support", examples, budget=budget, limit=self.config.population
        )
        context.report.update(
            population=len(population),
            examples=len(examples),
            base=base.accuracy,
            sigmas=[candidate.displacement.norm for candidate in population],
            scores=[_plain(candidate.evaluation.reward) for candidate in population],
            steps=self._transfer(context, population, len(examples)),
        )
        return SingleModel()

    def _transfer(self, context: Context, population: list[Candidate], count: int) -> list[dict[str, Any]]:
        """Evaluate steps along each half's mean direction on the other half of the examples, within the budget."""
        found: list[dict[str, Any]] = []
        scored = [c for c in population if not np.isnan(c.evaluation.rewards).all()]
        first = halve(np.array([c.displacement.norm for c in scored]))
        halves = halve_examples(count)
        with context.stage("steps", 2 * len(self.config.sigmas)) as stage:
            for half, mask in enumerate((first, ~first)):
                members = [c for c, member in zip(scored, mask.tolist(), strict=True) if member]
                direction = mean_direction(members, halves[half])
                if direction is None:
                    continue
                other = halves[1 - half]
                steps = [sigma * direction for sigma in self.config.sigmas]
                context.prepare(steps, "support", examples=other)
                for sigma, point in zip(self.config.sigmas, steps, strict=True):
                    if context.remaining <= 0:
                        return found
                    evaluation = context.evaluate(
                        point, "support", account="sample", examples=other, allowance=context.remaining
                    )
                    if not evaluation.complete:
                        return found
                    stage.advance(evaluation.reward)
                    step = {"sigma": sigma, "half": half, "examples": [other.start, other.stop]}
                    found.append(step | {"point": point.digest, "accuracy": _plain(evaluation.accuracy)})
        return found


def mean_direction(members: list[Candidate], examples: range) -> Point | None:
    """Return the mean displacement of candidates, weighted by their rewards and scaled to norm 1.

    Args:
        members: Candidates.
        examples: Indices of the examples whose rewards count.

    Returns:
        None if fewer than `MIN_CANDIDATES` candidates have a score on these examples.
    """
    part = slice(examples.start, examples.stop)
    scored = [c for c in members if not np.isnan(c.evaluation.rewards[part]).all()]
    if len(scored) < MIN_CANDIDATES:
        return None
    rewards = np.array([np.nanmean(c.evaluation.rewards[part]) for c in scored])
    gram = np.diag(np.square([c.displacement.norm for c in scored]))
    cloud = make_cloud(rewards, gram, rank=1)
    elite = [scored[i].displacement for i in cloud.elite]
    return 1 / cloud.norm * combine(zip(cloud.weights.tolist(), elite, strict=True))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
