"""Settings of the gradient methods, and their schedule for a budget. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from bench.errors import Refused, UsageError
from bench.settings import setting
from bench.strategy import parse_strategy
from methods.interface import GATE_SETTINGS, Lora, MethodConfig, Plan, PlanLine
from methods.training.losses import LOSSES, Loss

WANTED_STEPS = 32
"""The batch shrinks until the budget buys this many steps. With few large steps, much could stay unspent."""
LARGE_STEP = 0.05
"""Share of the budget. If a step costs more, the plan warns that as much may stay unspent."""


RELEASED = "the baseline released with RandOpt (arXiv 2603.12228)"


class TrainingConfig(MethodConfig):
    """Settings of every gradient method."""

    retired = GATE_SETTINGS

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
    clip: PositiveFloat = setting(1.0, "Maximum norm of the gradient.", source=RELEASED)
    lora: Lora | None = setting(
        None,
        "Adapters to train in place of all parameters, such as `lora.rank=16`; null: full fine-tuning.",
        source=RELEASED,
    )
    saves: PositiveInt = setting(
        10,
        "Number of times that the state is saved over the planned steps, to resume from.",
        source="our choice",
    )


class SftConfig(TrainingConfig):
    """Settings of supervised fine-tuning: those of every gradient method, with another default learning rate."""

    lr: PositiveFloat = setting(
        2e-5,
        "Learning rate, constant; the default suits models of a billion parameters.",
        source="TRL's SFTConfig",
    )


class RolloutConfig(TrainingConfig):
    """Settings of methods that sample answers and train on them."""

    temperature: PositiveFloat = setting(1.0, "Softmax temperature of the rollouts.", source=RELEASED)
    truncated: Literal["train", "mask", "punish"] = setting(
        "train",
        "Treatment of answers that were cut off at the limit on their length: `train` takes them like others; with "
        "`mask` they count in their group, but have no loss, as DAPO (arXiv 2503.14476) recommends; with `punish` "
        "their reward is 0.",
        source="TRL, whose `mask_truncated_completions` and `missing_eos_penalty` are off",
    )


class GroupConfig(RolloutConfig):
    """Settings of methods that compare the answers to one prompt, in addition to those of every one that samples."""

    group: Annotated[int, Field(ge=2)] = setting(
        8, "Number of answers per prompt, whose mean reward is the baseline.", unit="answers", source=RELEASED
    )


class GrpoConfig(GroupConfig):
    """Settings of GRPO, in addition to those of every method that compares the answers of a group."""

    loss: Loss = setting(
        "dapo",
        "How advantages are scaled, and how the values of tokens are averaged and clipped (docs/training.md).",
        source="TRL's GRPOConfig",
        later=True,
    )
    steps_per_batch: PositiveInt = setting(
        1,
        "Number of optimiser steps per batch, each on another part of its answers. With several, the log-probabilities "
        "before the first step take one more pass.",
        source="our choice (docs/training.md)",
        later=True,
    )

    @model_validator(mode="after")
    def _on_policy(self) -> Self:
        if self.loss == "rloo" and self.steps_per_batch > 1:
            raise ValueError(
                f"steps_per_batch={self.steps_per_batch}: rloo has no probability ratio, so it trains on answers of "
                "the present weights alone; expected steps_per_batch=1, another loss, or method vcpo"
            )
        return self


class PpoConfig(RolloutConfig):
    """Settings of PPO, in addition to those of every method that samples answers."""

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

    scaled: bool = setting(
        False,
        "Whether `rl` divides advantages by the standard deviation of their group's rewards, as GRPO does. That adds "
        "a weight of its own, 1 / sqrt(p (1 - p)), to those of the objective.",
        source="our choice (docs/training.md)",
    )

    @model_validator(mode="after")
    def _sampled(self) -> CatConfig:
        if self.on == "sft" and self.truncated != "train":
            raise ValueError(f"truncated={self.truncated}: on=sft samples no answers; expected truncated=train")
        if self.on == "sft" and self.scaled:
            raise ValueError("scaled=true: on=sft has no advantages; expected scaled=false")
        if self.on == "sft" and self.loss != "dapo":
            raise ValueError(f"loss={self.loss}: on=sft has the cross-entropy of gold answers; leave out the loss")
        if self.on == "sft" and self.steps_per_batch > 1:
            raise ValueError(f"steps_per_batch={self.steps_per_batch}: on=sft takes one step per batch; expected 1")
        if self.scaled and not LOSSES[self.loss].scaled:
            raise ValueError(f"scaled=true: loss={self.loss} scales no advantages; expected scaled=false")
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
        train: Evaluations for training.
        batch: Number of answers per step.
        step: Evaluations per step.
        steps: Planned number of steps.
        save_every: Number of steps between two saves.
    """

    train: int
    batch: int
    step: float
    steps: int
    save_every: int


def make_schedule(
    evaluations: int, config: TrainingConfig, *, batch: int, multiple: int, cost: float
) -> TrainingSchedule:
    """Return the schedule for a budget.

    Args:
        evaluations: Budget in evaluations.
        config: Settings.
        batch: Number of answers per step if the budget buys enough steps.
        multiple: Number that must divide the batch, such as the size of a group.
        cost: Cost of one answer of a step with all its passes, in evaluations.

    Raises:
        Refused: If the budget does not buy one step, or if `multiple` does not divide the batch.
    """
    if config.batch is None:
        affordable = int(evaluations / (WANTED_STEPS * cost))
        batch = max(multiple, min(batch, affordable) // multiple * multiple)
    elif config.batch % multiple:
        nearest = max(multiple, config.batch // multiple * multiple)
        raise Refused(f"batch {config.batch} must be a multiple of {multiple}, such as {nearest}")
    else:
        batch = config.batch
    step = batch * cost
    steps = int(evaluations / step)
    if steps < 1:
        raise Refused(
            f"a budget of {evaluations} evaluations buys no training step: one step of {batch} answers costs about "
            f"{step:.0f}; give it {math.ceil(step)} or more, or a smaller batch"
        )
    return TrainingSchedule(evaluations, batch, step, steps, math.ceil(steps / config.saves))


def describe(schedule: TrainingSchedule, evaluations: int, what: str, reach: float | None = None) -> Plan:
    """Return a schedule as a plan.

    Args:
        schedule: The schedule.
        evaluations: Budget in evaluations.
        what: Content of one step in a few words, such as `64 answers, in groups`.
        reach: See `Plan`.
    """
    lines = [PlanLine("train", f"about {schedule.steps} steps of {what}", schedule.train)]
    notes = []
    if schedule.step > LARGE_STEP * evaluations:
        notes.append(
            f"one step takes {schedule.step / evaluations:.0%} of the budget; training stops at the last one that "
            "fits, so up to that much may stay unspent"
        )
    return Plan(tuple(lines), tuple(notes), reach=reach)
