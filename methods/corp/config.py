"""CoRP's settings, and its schedule for a budget. Pure functions."""

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
"""Stages with a gate."""


class CorpConfig(MethodConfig):
    """Settings of CoRP.

    Defaults are those of the released code (arXiv 2605.31494) unless a line says otherwise. The entries of a grid
    (quantiles, betas, alphas, etas) are in order of priority: a small budget evaluates only the first ones.

    Attributes:
        sigmas: Standard deviations of the perturbations, in units of the weights. Each candidate draws one uniformly.
        quantiles: Grid of elite thresholds q of stage 1, as quantiles of the rewards. Order chosen here.
        betas: Grid of inverse temperatures of stage 1, per unit of reward. Order chosen here.
        alphas: Grid of step lengths, in units of the norm of the direction's mean displacement. Order chosen here.
        rank: Maximum number of principal directions.
        attempts: Maximum number of recentering rounds in stage 2; 0 skips stage 2.
        patience: Number of consecutive rejections that end stage 2.
        acceptances: Number of acceptances that end stage 2.
        isotropic: Initial share lambda of isotropic energy in a local candidate of stage 2.
        penalty: Cost of a regression in stage 2, in units of a fix.
        ess_start: Target effective sample size of the first round of stage 2, in candidates.
        ess_end: Target effective sample size of the last round of stage 2, in candidates.
        etas: Grid of step sizes of stage 2, relative to the current one. Order chosen here.
        line_search: Factors that are tried on the length of the chosen proposal of stage 2. As released; the proposal
            itself is the factor 1.
        z: Number of standard errors that the gain must exceed at a gate. At the released 1 and the default error rate
            it never binds; the error-rate test is stricter.
        error_rate: Family-wise error rate: the probability that a run without any true effect changes the model, over
            all its gates. Default chosen here; the released gate has no such bound.
        select_share: Share of the budget for the choice among stage-1 proposals. Default chosen here, from the
            proportions of the released schedule.
        gate_share: Share of the budget for the gates. Default chosen here: more than released, for more power.
        recentering_share: Share of the budget for stage 2 without its gates. Default chosen here, from the proportions
            of the released schedule.
        gate_slack: Maximum FLOPs of a proposal at the gate, relative to the model that it would replace. A proposal
            that needs more is rejected, because its answers cost more. Chosen here.
        smallest_population: Minimum number of candidates of a population. Chosen here.
        noise: `iid`: noise is independent across tensors, as in the paper. `tied`, an ablation: the generator is
            re-seeded for every tensor, as in the released code, so tensors of one shape share their noise.
        gate: Stages with a gate. `both`: the default, chosen here. `stage2`, an ablation: as released, stage 1 commits
            its best proposal without comparing it with the base. `off`, an ablation: no gate. A stage without a gate
            commits the choice of the select split, and the gate's cost goes to the population.
        low_rank_energy: `matched`: the low-rank part of a local candidate carries the share 1 - lambda of the energy,
            as in the paper. `as_released`, an ablation: about 2e-7 of the isotropic energy, as in the released code.
        reweight: Pass 2 re-weights the elite by alignment and dispersion, as in the paper and the released code. `off`,
            an ablation: the weights of pass 1 are used.
        racing: Drop stage-1 candidates early that are unlikely to reach the elite of the lowest quantile, and spend the
            savings on further candidates. Not in the paper; off by default.
        confidence: Expected share of the true elite that each elimination of the race keeps, in (0, 1]. Default
            measured here (docs/ablations.md).
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
    """Schedule that a budget buys, in model-prompt evaluations of the base. The meter enforces the budget itself.

    Attributes:
        support: Number of support examples that score a candidate.
        select: Number of select examples that score a proposal.
        gate: Number of gate examples of a decision; 0 if no stage has a gate.
        sample: Evaluations for the population of stage 1.
        proposals: Evaluations for the proposals of stage 1, including the base.
        looks: Evaluations for the gates, including those of the model to be replaced.
        recentering: Evaluations for stage 2 without its gates; 0 if stage 2 is skipped.
        attempts: Maximum number of rounds of stage 2.
        rounds: Number of rounds that take place even if all are rejected or all accepted. They share the budget.
        first_level: Significance level of the stage-1 gate; None if stage 1 has no gate.
        later_level: Significance level of each stage-2 gate; None if stage 2 has no gate or is skipped.
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
        """Planned number of stage-1 candidates."""
        return self.sample // self.support


LOCAL_SHARE = 0.6
"""Share of a stage-2 round for its local population. The rest goes to proposals. Chosen here."""


def make_schedule(evaluations: int, sizes: Mapping[str, int], config: CorpConfig) -> CorpSchedule:
    """Return the schedule for a budget.

    The population is about as large as the number of support examples, as in the released settings (500 and 500), up
    to the size of the split. Stage 2 is skipped, and its share goes to stage 1, if a round could not score
    `smallest_population` candidates.

    Args:
        evaluations: Budget in evaluations.
        sizes: Number of examples by split.
        config: Settings.

    Raises:
        Refused: If stage 1 alone could not score `smallest_population` candidates.
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
    gated = first is not None or later is not None
    # Passes over the gate examples: the base if stage 1 has a gate; then the model that stage 1 proposes (or commits
    # without a gate); then one proposal per round.
    later_passes = config.gate_slack * (1 + rounds)
    gate = min(sizes["gate"], int(looks / (1 + later_passes))) if gated else 0
    # The gates cost less if the split is small or a stage has no gate. The population gets the rest.
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
    """Split the error rate over all gates (Bonferroni).

    If both stages have gates, stage 1 gets half of it and the rounds of stage 2 share the rest.
    """
    first_gated, later_gated = config.gate == "both", config.gate != "off" and attempts > 0
    first = config.error_rate / (2 if later_gated else 1) if first_gated else None
    later = (config.error_rate - (first or 0.0)) / attempts if later_gated else None
    return first, later


def describe(schedule: CorpSchedule, config: CorpConfig) -> Plan:
    """Return the schedule as a plan.

    Args:
        schedule: Schedule of `config`.
        config: Settings.
    """
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
        notes.append("stage 2 is left out: this budget is too small for a local population")
    if schedule.looks:
        to_beat = "base" if schedule.first_level is not None else "the model of stage 1"
        proposals = (schedule.first_level is not None) + (schedule.later_level is not None) * schedule.attempts
        what = f"{to_beat} and at most {proposals} proposals on {schedule.gate} gate examples"
        lines.append(PlanLine("gate", what, schedule.looks))
    if schedule.first_level is not None:
        smallest = _smallest_clean_win(schedule.first_level)
        notes.append(
            f"the stage-1 gate accepts a change at p <= {schedule.first_level:.3g}: at least {smallest} fixes and "
            f"no regression on {schedule.gate} examples"
        )
    if config.gate != "both":
        which = "stage 1" if config.gate == "stage2" else "each stage"
        notes.append(f"gate = {config.gate}: {which} commits its best proposal, even a harmful one")
    if config.racing:
        notes.append(RACING_NOTE)
    return Plan(tuple(lines), tuple(notes))


def _smallest_clean_win(level: float) -> int:
    """Return the number of fixes without a regression that an exact one-sided McNemar test accepts: 2^-n <= level."""
    return math.ceil(-math.log2(level))
