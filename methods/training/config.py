"""Settings of the gradient methods, and their schedule for a budget. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from bench.errors import Refused, UsageError
from bench.settings import setting
from bench.strategy import parse_strategy
from methods.interface import Lora, MethodConfig, Plan, PlanLine

Share = Annotated[float, Field(gt=0, lt=1)]

WANTED_STEPS = 32
"""The batch shrinks until the budget buys this many steps. With few large steps, much could stay unspent."""
LARGE_STEP = 0.05
"""Share of the budget. If a step costs more, the plan warns that as much may stay unspent."""


RELEASED = "the baseline released with RandOpt (arXiv 2603.12228)"


class TrainingConfig(MethodConfig):
    """Settings of every gradient method."""

    lr: PositiveFloat = setting(
        1e-6,
        "Learning rate, constant; the default suits models of a billion parameters, and a small model trained from "
        "scratch needs more (3e-5 for tiny-adder, measured in docs/training.md).",
        source=RELEASED,
    )
    batch: PositiveInt | None = setting(
        None,
        f"Number of answers per step; null: the method's own, or fewer if the budget would not buy {WANTED_STEPS} "
        "steps of that size.",
        unit="answers",
        source="our choice (docs/training.md)",
    )
    temperature: PositiveFloat = setting(1.0, "Softmax temperature of the rollouts.", source=RELEASED)
    clip: PositiveFloat = setting(1.0, "Maximum norm of the gradient.", source=RELEASED)
    truncated: Literal["train", "mask", "punish"] = setting(
        "train",
        "Treatment of answers that were cut off at the limit on their length: `train` takes them like others; with "
        "`mask` they count in their group, but have no loss, as DAPO (arXiv 2503.14476) recommends; with `punish` "
        "their reward is 0.",
        source="TRL, whose `mask_truncated_completions` and `missing_eos_penalty` are off",
    )
    lora: Lora | None = setting(
        None,
        "Adapters to train in place of all parameters, such as `lora.rank=16`; null: full fine-tuning.",
        source=RELEASED,
    )
    gate: bool = setting(
        True,
        "Whether the trained model is kept only if it beats the base on the gate split; without a gate, a model worse "
        "than the base can be kept.",
        source="our choice: a gain must show on examples that were not trained on",
    )
    gate_share: Share = setting(
        0.15, "Maximum share of the budget for the gate.", source="our choice, the same as in `corp`"
    )
    gate_slack: Annotated[float, Field(ge=1)] = setting(
        1.25,
        "FLOPs reserved for the trained model at the gate, because its answers may be longer.",
        unit="FLOPs of the base",
        source="our choice",
    )
    error_rate: Share = setting(
        0.05,
        "Significance level of the gate: the probability that it keeps a model without any true gain.",
        source="our choice, the same as in `corp`",
    )
    saves: PositiveInt = setting(
        10,
        "Number of times that the state is saved over the planned steps, to resume from.",
        source="our choice",
    )


class GrpoConfig(TrainingConfig):
    """Settings of GRPO, in addition to those of every gradient method."""

    group: Annotated[int, Field(ge=2)] = setting(
        8, "Number of answers per prompt, whose mean reward is the baseline.", unit="answers", source=RELEASED
    )


class PpoConfig(TrainingConfig):
    """Settings of PPO, in addition to those of every gradient method."""

    value_lr: PositiveFloat | None = setting(
        None,
        "Learning rate of the value model, constant; null: ten times `lr`.",
        source=f"{RELEASED}, as a ratio",
    )
    mini_batches: PositiveInt = setting(
        4,
        "Number of optimiser steps per batch.",
        source=f"{RELEASED}: 128 answers in mini-batches of 32",
    )

    @field_validator("truncated")
    @classmethod
    def _maskable(cls, truncated: str) -> str:
        if truncated == "mask":
            raise ValueError("PPO has no loss per answer that could be left out; expected train or punish")
        return truncated


class CatConfig(GrpoConfig):
    """Settings of compute-aligned training, in addition to those of GRPO."""

    objective: str = setting(
        "pass@8",
        "Test-time strategy to train for, with its number N of answers: `pass@N`, `maj@N` or `bon@N`.",
        source="our choice",
    )
    on: Literal["rl", "sft"] = setting(
        "rl",
        "`rl` multiplies GRPO's advantages by the weights; `sft` multiplies the log-likelihood of gold answers.",
        source="our choice",
    )

    @model_validator(mode="after")
    def _sampled(self) -> CatConfig:
        if self.on == "sft" and self.truncated != "train":
            raise ValueError(f"truncated={self.truncated}: on=sft samples no answers; expected truncated=train")
        return self

    @field_validator("objective")
    @classmethod
    def _known(cls, objective: str) -> str:
        try:
            parse_strategy(objective)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return objective


@dataclass(frozen=True)
class TrainingSchedule:
    """Schedule that a budget buys, in model-prompt evaluations of the base. The meter enforces the budget itself.

    Attributes:
        gate: Number of gate examples; 0 without a gate.
        looks: Evaluations for the gate: the base, and the trained model with slack.
        train: Evaluations for training.
        batch: Number of answers per step.
        step: Evaluations per step.
        steps: Planned number of steps.
        save_every: Number of steps between two saves.
    """

    gate: int
    looks: int
    train: int
    batch: int
    step: float
    steps: int
    save_every: int


def make_schedule(
    evaluations: int, sizes: Mapping[str, int], config: TrainingConfig, *, batch: int, multiple: int, cost: float
) -> TrainingSchedule:
    """Return the schedule for a budget.

    Args:
        evaluations: Budget in evaluations.
        sizes: Number of examples by split.
        config: Settings.
        batch: Number of answers per step if the budget buys enough steps.
        multiple: Number that must divide the batch, such as the size of a group.
        cost: Cost of one answer of a step with all its passes, in evaluations.

    Raises:
        Refused: If the budget does not buy one step and one gate example, if there is a gate but the task has no gate
            split, or if `multiple` does not divide the batch.
    """
    gate = 0
    if config.gate:
        if not sizes["gate"]:
            raise Refused("the task has no gate split for the trained model to pass; take --set gate=false")
        gate = min(sizes["gate"], int(evaluations * config.gate_share / (1 + config.gate_slack)))
    looks = math.ceil(gate * (1 + config.gate_slack))
    train = evaluations - looks
    if config.batch is None:
        affordable = int(train / (WANTED_STEPS * cost))
        batch = max(multiple, min(batch, affordable) // multiple * multiple)
    elif config.batch % multiple:
        raise Refused(f"batch {config.batch} must be a multiple of {multiple}")
    else:
        batch = config.batch
    step = batch * cost
    steps = int(train / step)
    if steps < 1 or (config.gate and gate < 1):
        needed = math.ceil(step)
        if config.gate:  # its cost is rounded up, and it needs at least one example
            least = max((step + 1) / (1 - config.gate_share), (1 + config.gate_slack) / config.gate_share)
            needed = math.floor(least) + 1
        what = "training step and gate" if config.gate else "training step"
        raise Refused(
            f"a budget of {evaluations} evaluations buys no {what}: one step of {batch} answers costs about "
            f"{step:.0f}; give it {needed} or more, or a smaller batch"
        )
    return TrainingSchedule(gate, looks, train, batch, step, steps, math.ceil(steps / config.saves))


def describe(schedule: TrainingSchedule, evaluations: int, what: str) -> Plan:
    """Return a schedule as a plan.

    Args:
        schedule: The schedule.
        evaluations: Budget in evaluations.
        what: Content of one step in a few words, such as `64 answers, in groups`.
    """
    lines = [PlanLine("train", f"about {schedule.steps} steps of {what}", schedule.train)]
    notes = []
    if schedule.gate:
        lines.append(PlanLine("gate", f"base and trained model on {schedule.gate} gate examples", schedule.looks))
    else:
        notes.append("no gate: the trained model is kept even if it is worse than the base")
    if schedule.step > LARGE_STEP * evaluations:
        notes.append(
            f"one step takes {schedule.step / evaluations:.0%} of the budget; training stops at the last one that "
            "fits, so up to that much may stay unspent"
        )
    return Plan(tuple(lines), tuple(notes))
