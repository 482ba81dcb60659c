"""CoRP's configuration, and how a budget turns into a schedule. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bench.errors import Refused
from methods.interface import MethodConfig, Plan, PlanLine

Share = Annotated[float, Field(gt=0, lt=1)]


class CorpConfig(MethodConfig):
    """Settings of CoRP. Grids stand in order of priority: a small budget affords the first entries only.

    The values are those of the released code (arXiv 2605.31494) unless a line says otherwise.

    Attributes:
        sigmas: Scales of the perturbations, drawn uniformly.
        quantiles: Elite thresholds q of stage 1.
        betas: Inverse temperatures of stage 1.
        alphas: Steps along a direction, in units of its mean displacement.
        rank: Principal directions kept.
        attempts: Recentering rounds of stage 2 at most; 0 leaves stage 2 out.
        patience: Rejections in a row that end stage 2.
        acceptances: Acceptances that end stage 2.
        isotropic: Initial share lambda of isotropic energy in a local candidate.
        penalty: What one regression costs against one fix in stage 2.
        ess_start: Effective sample size that stage 2 aims at first.
        ess_end: Effective sample size that it aims at in the last round.
        etas: Step sizes of stage 2, relative to the current one.
        line_search: Final scaling of a stage-2 proposal.
        z: Standard errors that a gain must exceed at the gate as well; the released criterion, which at 1 never
            decides, since the error rate asks for more.
        error_rate: Probability that a run without any true effect changes the model, over all gates together. Ours;
            the released gate has no such bound.
        select_share: Share of the budget for choosing among proposals. Ours, from the released proportions.
        gate_share: Share of the budget for the gate. Ours; larger than released, since power is bought here.
        recentering_share: Share of the budget for stage 2. Ours, from the released proportions.
        gate_slack: FLOPs that a proposal may take at the gate, relative to the model that it would replace; one that
            needs more is rejected, since its answers are dearer than what it replaces. Ours.
        smallest_population: Candidates below which a population is not worth consolidating. Ours.
    """

    sigmas: tuple[PositiveFloat, ...] = (5e-4, 1e-3, 2e-3)
    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.7, 0.5, 0.9)
    betas: tuple[Annotated[float, Field(ge=0)], ...] = (20.0, 5.0, 50.0, 2.0, 10.0, 1.0, 0.5)
    alphas: tuple[PositiveFloat, ...] = (2.0, 4.0, 1.0, 8.0, 0.5, 16.0)
    rank: PositiveInt = 8
    attempts: NonNegativeInt = 3
    patience: PositiveInt = 2
    acceptances: PositiveInt = 2
    isotropic: Annotated[float, Field(ge=0.05, le=0.95)] = 0.5
    penalty: Annotated[float, Field(ge=0)] = 2.0
    ess_start: Annotated[float, Field(ge=1)] = 16.0
    ess_end: Annotated[float, Field(ge=1)] = 4.0
    etas: tuple[PositiveFloat, ...] = (1.0, 2.0, 0.5)
    line_search: tuple[PositiveFloat, ...] = (2.0, 0.5)
    z: Annotated[float, Field(ge=0)] = 1.0
    error_rate: Share = 0.05
    select_share: Share = 0.15
    gate_share: Share = 0.15
    recentering_share: Share = 0.2
    gate_slack: Annotated[float, Field(ge=1)] = 1.25
    smallest_population: Annotated[int, Field(ge=3)] = 8


@dataclass(frozen=True)
class Schedule:
    """How much of what a budget buys, in model-prompt evaluations of the base; the meter decides in the end.

    Attributes:
        support: Support examples that score a candidate.
        select: Select examples that score a proposal.
        gate: Gate examples that decide.
        sample: Evaluations for the population of stage 1.
        proposals: Evaluations for the proposals of stage 1, the base included.
        looks: Evaluations for the gate, the base included.
        recentering: Evaluations for stage 2 without its gates; 0 if it is left out.
        attempts: Rounds of stage 2 at most.
        rounds: Rounds that take place even if all are rejected, or all accepted; they share the budget.
        first_level: Error rate of the stage-1 gate.
        later_level: Error rate of each stage-2 gate.
    """

    support: int
    select: int
    gate: int
    sample: int
    proposals: int
    looks: int
    recentering: int
    attempts: int
    rounds: int
    first_level: float
    later_level: float

    @property
    def population(self) -> int:
        """Candidates that stage 1 is planned to score."""
        return self.sample // self.support


LOCAL_SHARE = 0.6
"""Part of a stage-2 round for its local population; the rest goes to proposals."""


def make_schedule(evaluations: int, sizes: dict[str, int], config: CorpConfig) -> Schedule:
    """Turn a budget into a schedule.

    As many candidates as examples that score them, as in the released settings (500 on 500), up to what the task has.
    Stage 2 is left out, and stage 1 gets its share, where a round could not score a population worth consolidating.

    Raises:
        Refused: If not even stage 1 can.
    """
    schedule = _divide(evaluations, sizes, config, config.attempts)
    wanted = config.smallest_population * schedule.select * schedule.rounds
    if LOCAL_SHARE * schedule.recentering < wanted:
        schedule = _divide(evaluations, sizes, config, 0)
    if schedule.population < config.smallest_population:
        needed = math.ceil(config.smallest_population**2 / (1 - config.select_share - config.gate_share))
        raise Refused(
            f"corp cannot use a budget of {evaluations} evaluations: it buys {schedule.population} candidates and "
            f"smallest_population is {config.smallest_population}; give it {needed} or more"
        )
    return schedule


def _divide(evaluations: int, sizes: dict[str, int], config: CorpConfig, attempts: int) -> Schedule:
    recentering = int(evaluations * config.recentering_share) if attempts else 0
    proposals, looks = int(evaluations * config.select_share), int(evaluations * config.gate_share)
    sample = evaluations - proposals - looks - recentering
    rounds = min(attempts, config.patience, config.acceptances)
    gate = min(sizes["gate"], int(looks / (1 + config.gate_slack * (1 + rounds))))
    # Where the split is smaller than the share would buy, the population takes what the gate leaves.
    saved = looks - math.ceil(gate * (1 + config.gate_slack * (1 + rounds)))
    first = config.error_rate / 2 if attempts else config.error_rate
    return Schedule(
        support=min(sizes["support"], max(config.smallest_population, math.isqrt(sample))),
        select=min(sizes["select"], max(config.smallest_population, round(2 * math.sqrt(proposals)))),
        gate=gate,
        sample=sample + saved,
        proposals=proposals,
        looks=looks - saved,
        recentering=recentering,
        attempts=attempts,
        rounds=rounds,
        first_level=first,
        later_level=(config.error_rate - first) / attempts if attempts else 0.0,
    )


def describe(schedule: Schedule, config: CorpConfig) -> Plan:
    """Return the schedule as a plan for people."""
    lines = [
        PlanLine(
            "sample",
            f"stage 1: about {schedule.population} candidates on {schedule.support} support examples",
            schedule.sample,
        ),
        PlanLine(
            "select",
            f"stage 1: base and {max(schedule.proposals // schedule.select - 1, 0)} proposals on "
            f"{schedule.select} select examples",
            schedule.proposals,
        ),
    ]
    notes = []
    if schedule.attempts:
        lines.append(
            PlanLine(
                "sample",
                f"stage 2: up to {schedule.attempts} recentering rounds on {schedule.select} select examples",
                schedule.recentering,
            )
        )
    else:
        notes.append("stage 2 is left out: this budget buys no local population worth consolidating")
    lines.append(
        PlanLine(
            "gate",
            f"base and at most {1 + schedule.attempts} proposals on {schedule.gate} gate examples",
            schedule.looks,
        )
    )
    smallest = _smallest_clean_win(schedule.first_level)
    notes.append(
        f"the stage-1 gate keeps a change at p <= {schedule.first_level:.3g}: at least {smallest} fixes without a "
        f"regression among {schedule.gate} examples"
    )
    return Plan(tuple(lines), tuple(notes))


def _smallest_clean_win(level: float) -> int:
    return math.ceil(-math.log2(level))
