"""CoRP's configuration, and how a budget turns into a schedule. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.weights.noise import NoiseKind
from methods.corp.recentering import LowRankEnergy
from methods.interface import MethodConfig, Plan, PlanLine
from methods.search.population import Several
from methods.search.race import RACING_NOTE

Share = Annotated[float, Field(gt=0, lt=1)]
Gates = Literal["off", "stage2", "both"]


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
        noise: `iid` over tensors, as the paper writes it; `tied` re-seeds the generator for every tensor, as the
            released code does, so that tensors of one shape share their noise. An ablation.
        gate: Which stages ask the gate: `both`, ours; `stage2`, as released, whose stage 1 commits its best proposal
            without ever scoring the base; `off`, neither. A stage without a gate commits what `select` chose, and what
            its gate would have cost goes to the population. An ablation.
        low_rank_energy: `matched` gives the low-rank part of a local candidate its share of the energy, as the paper
            writes it; `as_released` leaves it the share of about 2e-7 that the released code does. An ablation.
        reweight: Whether pass 2 re-weights the elite by alignment and dispersion, as in paper and released code; `off`
            leaves the weights of pass 1. An ablation.
        racing: Whether candidates of stage 1 that can hardly reach the elite of the lowest quantile are dropped early,
            which pays for more of them. Ours.
        confidence: Share of those who would reach it that each decision of the race is expected to keep. Ours.
    """

    sigmas: Several[PositiveFloat] = (5e-4, 1e-3, 2e-3)
    quantiles: Several[Annotated[float, Field(ge=0, le=1)]] = (0.7, 0.5, 0.9)
    betas: Several[Annotated[float, Field(ge=0)]] = (20.0, 5.0, 50.0, 2.0, 10.0, 1.0, 0.5)
    alphas: Several[PositiveFloat] = (2.0, 4.0, 1.0, 8.0, 0.5, 16.0)
    rank: PositiveInt = 8
    attempts: NonNegativeInt = 3
    patience: PositiveInt = 2
    acceptances: PositiveInt = 2
    isotropic: Annotated[float, Field(ge=0.05, le=0.95)] = 0.5
    penalty: Annotated[float, Field(ge=0)] = 2.0
    ess_start: Annotated[float, Field(ge=1)] = 16.0
    ess_end: Annotated[float, Field(ge=1)] = 4.0
    etas: Several[PositiveFloat] = (1.0, 2.0, 0.5)
    line_search: Several[PositiveFloat] = (2.0, 0.5)
    z: Annotated[float, Field(ge=0)] = 1.0
    error_rate: Share = 0.05
    select_share: Share = 0.15
    gate_share: Share = 0.15
    recentering_share: Share = 0.2
    gate_slack: Annotated[float, Field(ge=1)] = 1.25
    smallest_population: Annotated[int, Field(ge=3)] = 8
    noise: NoiseKind = "iid"
    gate: Gates = "both"
    low_rank_energy: LowRankEnergy = "matched"
    reweight: bool = True
    racing: bool = False
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.95


@dataclass(frozen=True)
class CorpSchedule:
    """How much of what a budget buys, in model-prompt evaluations of the base; the meter decides in the end.

    Attributes:
        support: Support examples that score a candidate.
        select: Select examples that score a proposal.
        gate: Gate examples that decide; 0 if no stage asks.
        sample: Evaluations for the population of stage 1.
        proposals: Evaluations for the proposals of stage 1, the base included.
        looks: Evaluations for the gate, those of the model to beat included.
        recentering: Evaluations for stage 2 without its gates; 0 if it is left out.
        attempts: Rounds of stage 2 at most.
        rounds: Rounds that take place even if all are rejected, or all accepted; they share the budget.
        first_level: Error rate of the stage-1 gate; None if that stage has none.
        later_level: Error rate of each stage-2 gate; None if that stage has none, or is left out.
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
    first_level: float | None
    later_level: float | None

    @property
    def population(self) -> int:
        """Candidates that stage 1 is planned to score."""
        return self.sample // self.support


LOCAL_SHARE = 0.6
"""Part of a stage-2 round for its local population; the rest goes to proposals."""


def make_schedule(evaluations: int, sizes: Mapping[str, int], config: CorpConfig) -> CorpSchedule:
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


def _divide(evaluations: int, sizes: Mapping[str, int], config: CorpConfig, attempts: int) -> CorpSchedule:
    recentering = int(evaluations * config.recentering_share) if attempts else 0
    proposals, looks = int(evaluations * config.select_share), int(evaluations * config.gate_share)
    sample = evaluations - proposals - looks - recentering
    rounds = min(attempts, config.patience, config.acceptances)
    first, later = _levels(config, attempts)
    asked = first is not None or later is not None
    # The base, then what stage 1 proposes or, unasked, leaves behind, then a proposal a round.
    later_passes = config.gate_slack * (1 + rounds)
    gate = min(sizes["gate"], int(looks / (1 + later_passes))) if asked else 0
    # What the gate leaves, since its split is small or a stage does not ask, the population takes.
    saved = looks - math.ceil(gate * ((first is not None) + later_passes))
    return CorpSchedule(
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
        later_level=later,
    )


def _levels(config: CorpConfig, attempts: int) -> tuple[float | None, float | None]:
    """Share the error rate out over all looks: half for stage 1 and the rest over the rounds, where both ask."""
    first_asks, later_asks = config.gate == "both", config.gate != "off" and attempts > 0
    first = config.error_rate / (2 if later_asks else 1) if first_asks else None
    later = (config.error_rate - (first or 0.0)) / attempts if later_asks else None
    return first, later


def describe(schedule: CorpSchedule, config: CorpConfig) -> Plan:
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
    if schedule.looks:
        to_beat = "base" if schedule.first_level is not None else "the model of stage 1"
        proposals = (schedule.first_level is not None) + (schedule.later_level is not None) * schedule.attempts
        what = f"{to_beat} and at most {proposals} proposals on {schedule.gate} gate examples"
        lines.append(PlanLine("gate", what, schedule.looks))
    if schedule.first_level is not None:
        smallest = _smallest_clean_win(schedule.first_level)
        notes.append(
            f"the stage-1 gate keeps a change at p <= {schedule.first_level:.3g}: at least {smallest} fixes without a "
            f"regression among {schedule.gate} examples"
        )
    if config.gate != "both":
        which = "stage 1" if config.gate == "stage2" else "each stage"
        notes.append(f"gate = {config.gate}: {which} commits its best proposal, better than what it replaces or not")
    if config.racing:
        notes.append(RACING_NOTE)
    return Plan(tuple(lines), tuple(notes))


def _smallest_clean_win(level: float) -> int:
    return math.ceil(-math.log2(level))
