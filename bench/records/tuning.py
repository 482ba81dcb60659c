"""Record of a run's tuning: its rules, its trials and the settings that they chose."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from bench.records.rows import Frozen
from bench.settings import form

PUBLISHED, CUSTOM, DECLARED = "published", "custom", "declared"
Ruleset = Annotated[
    str,
    form(
        r"^(published|tuned [1-9][0-9]*|custom|declared)$",
        "published, custom, declared, or tuned and the number of trials, such as tuned 8",
    ),
]
"""Rules that a run was made by. Only runs by the same rules are compared.

`published`: every setting in the method's search space has its default. `tuned K`: K trials within the budget chose
them. `custom`: a person chose them.
`declared`: a model that was trained elsewhere; what it took is not metered.
"""


class Trial(Frozen):
    """One trial of one rung.

    Example: `{"rung": 1, "trial": 3, "settings": {"lr": 3.2e-05}, "evaluations": 120, "flops": 84000000, "items": 24,
    "score": 0.625, "reward": 0.7, "reason": null}`.

    Attributes:
        rung: Number of the rung, from 1 on.
        trial: Number of the trial, the same in every rung; 0 is the published setting.
        settings: Settings that differ from the published ones, by name.
        evaluations: Budget of the trial in model-prompt evaluations.
        flops: FLOPs that it spent, its judged answers included.
        items: Number of select examples that judged it; 0 if it was not judged.
        score: Fraction of correct answers to them; None if it was not judged.
        reward: Mean shaped reward; None if it was not judged.
        reason: Reason why it was not judged; None if it was.
    """

    rung: PositiveInt
    trial: NonNegativeInt
    settings: dict[str, Any]
    evaluations: PositiveInt
    flops: NonNegativeInt
    items: NonNegativeInt
    score: Annotated[float, Field(ge=0, le=1)] | None
    reward: float | None
    reason: str | None


class Tuning(Frozen):
    """Tuning of a run, whose FLOPs are in the ledger's account `tune`.

    Attributes:
        trials: All trials, in the order that they ran.
        trial: Number of the chosen trial.
        chosen: Its settings, with which the final run was made; empty for the published ones.
        flops: FLOPs of all trials.
    """

    trials: tuple[Trial, ...]
    trial: NonNegativeInt
    chosen: dict[str, Any]
    flops: NonNegativeInt
