"""RandOpt (Gan & Isola, arXiv 2603.12228): try random perturbations, keep the best K, let them vote.

Each candidate is the base plus one i.i.d. Gaussian perturbation, scored greedily on the same support examples. The K
best answer together, by plurality; K = 1 is a single model at the price of one forward pass. One search yields a row
for every K asked for.

What differs from the released code, and why: noise is i.i.d. over tensors, where released generators are re-seeded for
each; members are written from a kept base, so those that vote are those that were scored, bit for bit; the mean shaped
reward is called reward, and accuracy is another number; the test split is no part of the search; the population is what
the budget buys, and at small budgets so are the examples that score it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from bench.errors import Refused, UsageError, usage_error
from bench.records.files import write_atomically
from bench.seeds import derive
from bench.weights.noise import NOISE_VERSION, NoiseKind
from bench.weights.points import Point
from methods.interface import (
    Artifact,
    Context,
    Deployment,
    Evaluation,
    Method,
    MethodConfig,
    Plan,
    PlanLine,
    SingleModel,
)
from methods.search.population import Candidate, Several, score_population
from methods.search.race import RACING_NOTE, Racing, race_population
from methods.voting import ask_once, elect
from tasks.interface import TaskTraits, Vote

FEWEST_EXAMPLES = 8
"""Examples below which a score says next to nothing."""
SHARES = 40
"""Candidates that a budget must at least buy before scores take more than the fewest examples.

What a search leaves unspent is less than two candidates, so this keeps it below 5 %.
"""


class RandOptConfig(MethodConfig):
    """Settings of RandOpt. The values are those of the paper (arXiv 2603.12228) unless a line says otherwise.

    Attributes:
        population: Candidates; None for as many as the budget buys. The paper's 5000 are what the budget `paper` buys.
        examples: Support examples that score a candidate, at most.
        sigmas: Scales of the perturbations, drawn uniformly.
        top_k: Ensemble sizes; each is a row of the result. 1 and 50 are the paper's.
        score_on: What ranks candidates: the shaped reward, as released, or the share of correct answers.
        racing: Whether candidates that can hardly reach the largest top_k are dropped early, which pays for more of
            them; the record then scores finalists alone. Ours.
        confidence: Share of those who would reach it that each decision of the race is expected to keep. Ours.
    """

    population: PositiveInt | None = None
    examples: PositiveInt = 200
    sigmas: Several[PositiveFloat] = (5e-4, 1e-3, 2e-3)
    top_k: Several[PositiveInt] = (1, 5, 10, 50)
    score_on: Literal["reward", "correct"] = "reward"
    racing: bool = False
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.95


@dataclass(frozen=True)
class RandOptSchedule:
    """What a budget buys, at the cost of the base's answers.

    Attributes:
        population: Candidates.
        examples: Support examples that score each of them.
        top_k: Ensemble sizes that the population can fill.
        left_out: Those that it cannot.
    """

    population: int
    examples: int
    top_k: tuple[int, ...]
    left_out: tuple[int, ...]


def make_schedule(evaluations: int, support: int, config: RandOptConfig) -> RandOptSchedule:
    """Turn a budget into a schedule: as many candidates as examples that score them, up to the published 200.

    Args:
        evaluations: The budget.
        support: Size of the support split.
        config: Settings.

    Raises:
        Refused: If it buys no choice between two candidates, or fills none of the ensembles.
    """
    if config.population is None:
        wanted = min(math.isqrt(evaluations), evaluations // SHARES)
    else:
        wanted = evaluations // config.population
    examples = min(max(wanted, FEWEST_EXAMPLES), config.examples, support)
    bought = evaluations // examples
    if config.population is not None and bought < config.population:
        raise Refused(
            f"population {config.population} on {examples} support examples needs {config.population * examples} "
            f"evaluations; the budget has {evaluations}: choose a population of {bought} or less"
        )
    population = bought if config.population is None else config.population
    if population < 2:
        raise Refused(
            f"a budget of {evaluations} evaluations buys {population} candidates on {examples} support examples; "
            f"randopt needs {2 * examples} or more, to choose between two"
        )
    top_k, left_out = _fillable(config.top_k, population)
    return RandOptSchedule(population, examples, top_k, left_out)


def _fillable(sizes: Sequence[int], population: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ensemble sizes in ascending order that a population can fill, and those that it cannot."""
    ascending = sorted(set(sizes))
    fits = tuple(k for k in ascending if k <= population)
    if not fits:
        raise Refused(f"top_k {ascending[0]}: a population of {population} cannot fill it; choose a smaller top_k")
    return fits, tuple(ascending[len(fits) :])


@dataclass(frozen=True)
class Ensemble(Artifact):
    """The K best members of a population and their vote: an answer costs K forward passes.

    Attributes:
        members: Points by descending score.
        known: Votes that were asked for already, shared by the ensembles of one search.
        report: On what basis votes were cast; see `methods.voting.elect`.
    """

    members: tuple[Point, ...]
    known: dict[tuple[str, str], Vote | None] = field(default_factory=dict, repr=False, compare=False)
    report: dict[str, Any] = field(default_factory=dict, compare=False)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Let every member answer, and vote."""
        deployment.prepare(self.members, examples)
        answers = [deployment.answer(point, examples) for point in self.members]
        chosen, report = elect(answers, ask_once(deployment.votes, examples, answers, self.known))
        self.report.update(report)
        return chosen

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write members.json: K seeds with their amplitudes, the base's digest and the version of the noise."""
        content = _EnsembleFile(
            base=deployment.base_digest(),
            noise=NOISE_VERSION,
            members=tuple(_Member(kind=point.noise, amplitudes=dict(point.amplitudes)) for point in self.members),
        )
        write_atomically(folder / "members.json", content.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the ensemble that was saved in a folder: the same points, hence bit-identical weights.

        Args:
            folder: With members.json.
            base: Digest of the base that its members are to be built on.

        Raises:
            UsageError: If there is no such file, or it cannot be read.
            Refused: If it was built on another base, or refers to noise that this version does not draw.
        """
        path = folder / "members.json"
        try:
            content = _EnsembleFile.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; expected a folder that an ensemble was saved in") from error
        except ValidationError as error:
            raise usage_error(str(path), error) from error
        for name, saved, wanted in (("base", content.base, base), ("noise", content.noise, NOISE_VERSION)):
            if saved != wanted:
                raise Refused(f"{path}: {name} is {saved}, and here it is {wanted}; its members would be other models")
        return cls(tuple(Point(member.amplitudes, member.kind) for member in content.members))


class _Member(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: NoiseKind
    amplitudes: dict[int, float]


class _EnsembleFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    noise: str
    members: Annotated[tuple[_Member, ...], Field(min_length=1)]


class RandOpt(Method):
    """Random perturbations of the weights, the best alone and the best K in a vote."""

    name = "randopt"
    version = "1"
    Config = RandOptConfig
    config: RandOptConfig

    def supports(self, task: TaskTraits) -> str | None:
        """Refuse to let answers vote that cannot."""
        if task.vote_by is None and max(self.config.top_k) > 1:
            return (
                "its answers do not vote (the task has no vote key), and top_k is "
                f"{', '.join(map(str, self.config.top_k))}; `--set randopt.top_k=1` keeps the best candidate alone"
            )
        return None

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the population that this budget buys."""
        schedule = make_schedule(evaluations, task.sizes["support"], self.config)
        what = f"about {schedule.population} candidates on {schedule.examples} support examples"
        notes = [f"an answer of the best K together takes K passes: {', '.join(f'{k}' for k in schedule.top_k)}"]
        if schedule.left_out:
            left_out = ", ".join(map(str, schedule.left_out))
            notes.append(f"top_k {left_out} is left out: the population cannot fill it")
        if self.config.racing:
            notes.append(RACING_NOTE)
        return Plan((PlanLine("sample", what, schedule.population * schedule.examples),), tuple(notes))

    def adapt(self, context: Context) -> Mapping[str, Artifact]:
        """Score the population; return its best, and its best K in a vote, by label.

        Raises:
            Refused: If candidates turned out so dear that the population fills none of the ensembles.
        """
        config = self.config
        evaluations = round(context.budget / context.evaluation_flops)
        schedule = make_schedule(evaluations, context.task.sizes["support"], config)

        def draw(index: int) -> Point:
            scale = derive(context.seed, "randopt", "sigma", index) % len(config.sigmas)
            return Point({derive(context.seed, "randopt", "population", index): config.sigmas[scale]})

        name, examples, budget = "population", range(schedule.examples), context.remaining
        if config.racing:
            racing = Racing(lambda size: min(size, schedule.top_k[-1]), config.confidence, self._values)
            population = race_population(
                context, name, draw, "support", examples, racing, budget=budget, limit=config.population
            )
        else:
            population = score_population(
                context, name, draw, "support", examples, budget=budget, limit=config.population
            )
        scores = np.array([self._score(candidate) for candidate in population])
        ranked = np.argsort(-scores, kind="stable")[: int((~np.isnan(scores)).sum())]  # equals keep sampling order
        context.report.update(_describe(population, scores, ranked, schedule))
        top_k, left_out = _fillable(config.top_k, ranked.size)
        context.report["left_out"] = list(left_out)
        members = [population[i].displacement for i in ranked[: top_k[-1]]]
        known: dict[tuple[str, str], Vote | None] = {}
        return {f"k={k}": SingleModel(members[0]) if k == 1 else Ensemble(tuple(members[:k]), known) for k in top_k}

    def _values(self, evaluation: Evaluation) -> NDArray[np.float64]:
        if self.config.score_on == "reward":
            return evaluation.rewards
        return np.where(np.isnan(evaluation.rewards), np.nan, evaluation.correct)

    def _score(self, candidate: Candidate) -> float:
        if not candidate.finalist:
            return math.nan
        evaluation = candidate.evaluation
        return evaluation.reward if self.config.score_on == "reward" else evaluation.accuracy


def _describe(
    population: Sequence[Candidate], scores: np.ndarray, ranked: np.ndarray, schedule: RandOptSchedule
) -> dict[str, Any]:
    """The search for the record: every score, and by sigma how it fared, since the best sigma is a model's own."""
    sigmas = np.array([candidate.displacement.norm for candidate in population])
    by_sigma = {}
    for sigma in np.unique(sigmas):
        found = scores[(sigmas == sigma) & ~np.isnan(scores)]
        if found.size:
            by_sigma[f"{sigma:g}"] = {
                "candidates": int(found.size),
                "mean": float(found.mean()),
                "max": float(found.max()),
            }
    return {
        "population": len(population),
        "examples": schedule.examples,
        "sigmas": sigmas.tolist(),
        "scores": [None if math.isnan(score) else float(score) for score in scores],
        "ranked": ranked.tolist(),
        "by_sigma": by_sigma,
    }
