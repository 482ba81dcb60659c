"""CoRP's settings, and its schedule for a budget. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.settings import setting
from bench.weights.noise import NoiseKind
from methods.corp.recentering import LowRankEnergy
from methods.interface import MethodConfig, Plan, PlanLine
from methods.search.population import Several
from methods.search.race import RACING_NOTE

Share = Annotated[float, Field(gt=0, lt=1)]
Gates = Literal["off", "stage2", "both"]
"""Stages with a gate."""


RELEASED = "the released code (arXiv 2605.31494)"


class CorpConfig(MethodConfig):
    """Settings of CoRP.

    The entries of a grid (quantiles, betas, alphas, etas) are in order of priority: a small budget evaluates only the
    first ones.
    """

    sigmas: Several[PositiveFloat] = setting(
        (5e-4, 1e-3, 2e-3),
        "Standard deviations of the perturbations, of which each candidate draws one uniformly.",
        unit="weights",
        source=RELEASED,
    )
    quantiles: Several[Annotated[float, Field(ge=0, le=1)]] = setting(
        (0.7, 0.5, 0.9),
        "Grid of elite thresholds q of stage 1, as quantiles of the rewards.",
        source=f"{RELEASED}; the order is our choice",
    )
    betas: Several[Annotated[float, Field(ge=0)]] = setting(
        (20.0, 5.0, 50.0, 2.0, 10.0, 1.0, 0.5),
        "Grid of inverse temperatures of stage 1.",
        unit="1 / reward",
        source=f"{RELEASED}; the order is our choice",
    )
    alphas: Several[PositiveFloat] = setting(
        (2.0, 4.0, 1.0, 8.0, 0.5, 16.0),
        "Grid of step lengths of stage 1.",
        unit="norm of the direction's mean displacement",
        source=f"{RELEASED}; the order is our choice",
    )
    rank: PositiveInt = setting(8, "Maximum number of principal directions.", source=RELEASED)
    attempts: NonNegativeInt = setting(
        3, "Maximum number of recentering rounds in stage 2; 0 skips stage 2.", source=RELEASED
    )
    patience: PositiveInt = setting(2, "Number of consecutive rejections that end stage 2.", source=RELEASED)
    acceptances: PositiveInt = setting(2, "Number of acceptances that end stage 2.", source=RELEASED)
    isotropic: Annotated[float, Field(ge=0.05, le=0.95)] = setting(
        0.5, "Initial share lambda of isotropic energy in a local candidate of stage 2.", source=RELEASED
    )
    penalty: Annotated[float, Field(ge=0)] = setting(
        2.0, "Cost of a regression in stage 2.", unit="fixes", source=RELEASED
    )
    ess_start: Annotated[float, Field(ge=1)] = setting(
        16.0, "Target effective sample size of the first round of stage 2.", unit="candidates", source=RELEASED
    )
    ess_end: Annotated[float, Field(ge=1)] = setting(
        4.0, "Target effective sample size of the last round of stage 2.", unit="candidates", source=RELEASED
    )
    etas: Several[PositiveFloat] = setting(
        (1.0, 2.0, 0.5),
        "Grid of step sizes of stage 2, relative to the current one.",
        source=f"{RELEASED}; the order is our choice",
    )
    line_search: Several[PositiveFloat] = setting(
        (2.0, 0.5),
        "Factors that are tried on the length of the chosen proposal of stage 2, which is itself the factor 1.",
        source=RELEASED,
    )
    z: Annotated[float, Field(ge=0)] = setting(
        1.0,
        "Number of standard errors that the gain must exceed at a gate; at the default error rate 1 never binds, "
        "because the error-rate test is stricter.",
        source=RELEASED,
    )
    error_rate: Share = setting(
        0.05,
        "Family-wise error rate: the probability that a run without any true effect changes the model, over all its "
        "gates.",
        source="our choice; the released gate has no such bound",
    )
    select_share: Share = setting(
        0.15,
        "Share of the budget for the choice among stage-1 proposals.",
        source="our choice, from the proportions of the released schedule",
    )
    gate_share: Share = setting(
        0.15, "Share of the budget for the gates.", source="our choice: more than released, for more power"
    )
    recentering_share: Share = setting(
        0.2,
        "Share of the budget for stage 2 without its gates.",
        source="our choice, from the proportions of the released schedule",
    )
    gate_slack: Annotated[float, Field(ge=1)] = setting(
        1.25,
        "Maximum FLOPs of a proposal at the gate, above which it is rejected because its answers cost more.",
        unit="FLOPs of the model that it would replace",
        source="our choice",
    )
    smallest_population: Annotated[int, Field(ge=3)] = setting(
        8, "Minimum number of candidates of a population.", source="our choice"
    )
    noise: NoiseKind = setting(
        "iid",
        "`iid`: noise is independent across tensors; `tied`, an ablation: the generator is re-seeded for every tensor, "
        "as in the released code, so tensors of one shape share their noise.",
        source="arXiv 2605.31494",
    )
    gate: Gates = setting(
        "both",
        "Stages with a gate; `stage2` and `off` are ablations, in which a stage without a gate commits the choice of "
        "the select split, and the gate's cost goes to the population.",
        source="our choice; `stage2` is as released",
    )
    low_rank_energy: LowRankEnergy = setting(
        "matched",
        "`matched`: the low-rank part of a local candidate carries the share 1 - lambda of the energy; `as_released`, "
        "an ablation: about 2e-7 of the isotropic energy, as in the released code.",
        source="arXiv 2605.31494",
    )
    reweight: bool = setting(
        True,
        "Whether pass 2 re-weights the elite by alignment and dispersion; without it, an ablation, the weights of "
        "pass 1 are used.",
        source="arXiv 2605.31494 and its released code",
    )
    racing: bool = setting(
        False,
        "Whether stage-1 candidates that are unlikely to reach the elite of the lowest quantile are dropped early, and "
        "the savings spent on further candidates.",
        source="our choice; racing is not in the paper",
    )
    confidence: Annotated[float, Field(gt=0, le=1)] = setting(
        0.95,
        "Expected share of the true elite that each elimination of the race keeps.",
        source="measured here (docs/ablations.md)",
    )


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
