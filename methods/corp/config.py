"""CoRP's settings, and its schedule for a budget. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.settings import setting
from bench.weights.noise import NoiseKind
from methods.corp.recentering import LowRankEnergy
from methods.interface import GATE_SETTINGS, Plan, PlanLine
from methods.search.population import NoiseConfig, Several
from methods.search.race import RACING_NOTE

Share = Annotated[float, Field(gt=0, lt=1)]

RELEASED = "the released code (arXiv 2605.31494)"
SKIPPED = "budget or select split are too small for a local population and a decision"


class CorpConfig(NoiseConfig):
    """Settings of CoRP.

    The entries of a grid (quantiles, betas, alphas, etas) are in order of priority: a small budget evaluates only the
    first ones.
    """

    retired = GATE_SETTINGS

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
        "Number of standard errors that the mean constructive gain must exceed at a decision of stage 2.",
        source=RELEASED,
    )
    select_share: Share = setting(
        0.15,
        "Share of the budget for the choice among stage-1 proposals.",
        source="our choice, from the proportions of the released schedule",
    )
    recentering_share: Share = setting(
        0.2,
        "Share of the budget for stage 2.",
        source="our choice, from the proportions of the released schedule",
    )
    smallest_population: Annotated[int, Field(ge=3)] = setting(
        8, "Minimum number of candidates of a population.", source="our choice"
    )
    noise: NoiseKind = setting(
        "iid",
        "`iid`: noise is independent across tensors; `tied`, an ablation: the generator is re-seeded for every tensor, "
        "as in the released code, so tensors of one shape share their noise; `lowrank`: noise of rank 1 in each linear "
        "layer, and none elsewhere, as in arXiv 2511.16652; `lowrank-2`, `lowrank-4`: of rank 2 or 4.",
        source="arXiv 2605.31494",
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
        select: Number of select examples that score a proposal: the first ones of the split.
        decision: Number of further select examples on which stage 2 decides; 0 if it is skipped.
        sample: Evaluations for the population of stage 1.
        proposals: Evaluations for the proposals of stage 1, including the base.
        recentering: Evaluations for stage 2; 0 if it is skipped.
        attempts: Maximum number of rounds of stage 2.
        rounds: Number of rounds that take place even if all are rejected or all accepted. They share the budget.
    """

    support: int
    select: int
    decision: int
    sample: int
    proposals: int
    recentering: int
    attempts: int
    rounds: int

    @property
    def population(self) -> int:
        """Planned number of stage-1 candidates."""
        return self.sample // self.support


LOCAL_SHARE = 0.6
"""Share of a stage-2 round for its local population. The rest goes to proposals. Chosen here."""
DECISION_SHARE = 0.25
"""Share of stage 2 for its decisions. Chosen here."""
DECISION_SLACK = 1.25
"""Maximum FLOPs of a proposal at a decision, in FLOPs of the model that it would replace. Chosen here."""


def make_schedule(evaluations: int, sizes: Mapping[str, int], config: CorpConfig) -> CorpSchedule:
    """Return the schedule for a budget.

    The population is about as large as the number of support examples, as in the released settings (500 and 500), up
    to the size of the split. Stage 2 is skipped, and its share goes to stage 1, if a round could not score
    `smallest_population` candidates, or the select split has too few examples to decide on others than those that
    choose.

    Args:
        evaluations: Budget in evaluations.
        sizes: Number of examples by split.
        config: Settings.

    Raises:
        Refused: If stage 1 alone could not score `smallest_population` candidates.
    """
    schedule = _divide(evaluations, sizes, config, config.attempts)
    wanted = config.smallest_population * schedule.select * schedule.rounds
    local = LOCAL_SHARE * (1 - DECISION_SHARE) * schedule.recentering
    if local < wanted or min(schedule.select, schedule.decision) < config.smallest_population:
        schedule = _divide(evaluations, sizes, config, 0)
    if schedule.population < config.smallest_population:
        needed = math.ceil(config.smallest_population**2 / (1 - config.select_share))
        raise Refused(
            f"corp cannot use a budget of {evaluations} evaluations: it buys {schedule.population} candidates and "
            f"smallest_population is {config.smallest_population}; give it {needed} or more"
        )
    return schedule


def _divide(evaluations: int, sizes: Mapping[str, int], config: CorpConfig, attempts: int) -> CorpSchedule:
    recentering = int(evaluations * config.recentering_share) if attempts else 0
    proposals = int(evaluations * config.select_share)
    sample = evaluations - proposals - recentering
    rounds = min(attempts, config.patience, config.acceptances)
    most = sizes["select"] // 2 if attempts else sizes["select"]
    select = min(most, max(config.smallest_population, round(2 * math.sqrt(proposals))))
    decision = int(DECISION_SHARE * recentering / (DECISION_SLACK * (1 + rounds)))
    return CorpSchedule(
        support=min(sizes["support"], max(config.smallest_population, math.isqrt(sample))),
        select=select,
        decision=min(sizes["select"] - select, decision),
        sample=sample,
        proposals=proposals,
        recentering=recentering,
        attempts=attempts,
        rounds=rounds,
    )


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
            f"{schedule.select} select examples; commits the best if it scores above the base",
            schedule.proposals,
        ),
    ]
    notes = []
    if schedule.attempts:
        lines.append(
            PlanLine(
                "sample",
                f"stage 2: up to {schedule.attempts} recentering rounds on {schedule.select} select examples, each "
                f"decided on {schedule.decision} others",
                schedule.recentering,
            )
        )
    elif config.attempts:
        notes.append(f"stage 2 does not run: {SKIPPED}")
    else:
        notes.append("stage 2 does not run: attempts = 0")
    if config.racing:
        notes.append(RACING_NOTE)
    return Plan(tuple(lines), tuple(notes))
