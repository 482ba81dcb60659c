"""What the gradient methods have in common in their configuration, and how a budget turns into steps. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from bench.errors import Refused, UsageError
from bench.strategy import parse_strategy
from methods.interface import Lora, MethodConfig, Plan, PlanLine

Share = Annotated[float, Field(gt=0, lt=1)]

STEPS = 32
"""Steps that a batch must leave room for, so that stopping at the last one that fits leaves little unspent."""
COARSE = 0.05
"""Part of the budget; where one step takes more, the plan says that the budget may not be used up."""


class TrainingConfig(MethodConfig):
    """Settings of every gradient method; the values are those released with RandOpt unless a line says otherwise.

    Attributes:
        lr: Learning rate, constant. That of models of a billion parameters; a model trained from scratch needs more.
        batch: Answers a step; None for the method's own, or fewer where the budget would not buy 32 steps.
        temperature: Of the rollouts.
        clip: Norm that gradients are clipped to.
        lora: Adapters in place of full fine-tuning, as `lora.rank=16`; None as released.
        gate: Whether the trained model is kept only if it beats the base on the gate split. Ours: every method here
            must show its gain on examples that trained nothing. Without it training may end below the base unseen.
        gate_share: Share of the budget for the gate at most. Ours, that of corp.
        gate_slack: FLOPs kept for the trained model at the gate, relative to the base's: it may answer longer. Ours.
        error_rate: Probability that the gate keeps a model without any true gain. Ours, that of corp.
        saves: Times that the state is saved over the planned steps. Ours.
    """

    lr: PositiveFloat = 1e-6
    batch: PositiveInt | None = None
    temperature: PositiveFloat = 1.0
    clip: PositiveFloat = 1.0
    lora: Lora | None = None
    gate: bool = True
    gate_share: Share = 0.15
    gate_slack: Annotated[float, Field(ge=1)] = 1.25
    error_rate: Share = 0.05
    saves: PositiveInt = 10


class GrpoConfig(TrainingConfig):
    """Settings of GRPO.

    Attributes:
        group: Answers to one prompt, whose mean reward is the baseline of each.
    """

    group: Annotated[int, Field(ge=2)] = 8


class PpoConfig(TrainingConfig):
    """Settings of PPO.

    Attributes:
        value_lr: Learning rate of the value model; None for ten times the policy's, the released ratio.
        mini_batches: Optimiser steps a batch.
    """

    value_lr: PositiveFloat | None = None
    mini_batches: PositiveInt = 4


class CatConfig(GrpoConfig):
    """Settings of compute-aligned training.

    Attributes:
        objective: The strategy and its number of answers: `pass@N`, `maj@N` or `bon@N`.
        on: What is weighted: GRPO's advantages, or the likelihood of gold answers.
    """

    objective: str = "pass@8"
    on: Literal["rl", "sft"] = "rl"

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
    """How much of what a budget buys, in model-prompt evaluations of the base; the meter decides in the end.

    Attributes:
        gate: Gate examples that decide; 0 without a gate.
        looks: Evaluations for the gate: the base, and the trained model with slack.
        train: Evaluations for training.
        batch: Answers a step.
        step: Evaluations a step.
        steps: Steps that training is planned to take.
        save_every: Steps between two saves.
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
    """Turn a budget into steps.

    Args:
        evaluations: The budget.
        sizes: Examples by split.
        config: Settings.
        batch: Answers a step where the budget buys enough steps.
        multiple: What a batch must be a multiple of, such as the size of a group.
        cost: Evaluations that one answer of a step costs, all its passes together.

    Raises:
        Refused: If the budget does not buy one step and one gate example, the task has no gate split and a gate is
            wanted, or the batch is no multiple.
    """
    gate = 0
    if config.gate:
        if not sizes["gate"]:
            raise Refused("the task has no gate split for the trained model to pass; take --set gate=false")
        gate = min(sizes["gate"], int(evaluations * config.gate_share / (1 + config.gate_slack)))
    looks = math.ceil(gate * (1 + config.gate_slack))
    train = evaluations - looks
    if config.batch is None:
        affordable = int(train / (STEPS * cost))
        batch = max(multiple, min(batch, affordable) // multiple * multiple)
    elif config.batch % multiple:
        raise Refused(f"batch {config.batch} is no multiple of {multiple}, which is needed")
    else:
        batch = config.batch
    step = batch * cost
    steps = int(train / step)
    if steps < 1 or (config.gate and gate < 1):
        needed = math.ceil(step)
        if config.gate:  # its looks are rounded up, and it needs an example
            least = max((step + 1) / (1 - config.gate_share), (1 + config.gate_slack) / config.gate_share)
            needed = math.floor(least) + 1
        what = "training step and gate" if config.gate else "training step"
        raise Refused(
            f"a budget of {evaluations} evaluations buys no {what}: one step of {batch} answers costs about "
            f"{step:.0f}; give it {needed} or more, or a smaller batch"
        )
    return TrainingSchedule(gate, looks, train, batch, step, steps, math.ceil(steps / config.saves))


def describe(schedule: TrainingSchedule, evaluations: int, what: str) -> Plan:
    """Return a schedule as a plan for people.

    Args:
        schedule: It.
        evaluations: The budget.
        what: One step, in a few words.
    """
    lines = [PlanLine("train", f"about {schedule.steps} steps of {what}", schedule.train)]
    notes = []
    if schedule.gate:
        lines.append(PlanLine("gate", f"base and trained model on {schedule.gate} gate examples", schedule.looks))
    else:
        notes.append("no gate: the trained model is kept whatever it has become")
    if schedule.step > COARSE * evaluations:
        notes.append(
            f"one step takes {schedule.step / evaluations:.0%} of the budget; training stops at the last that fits, "
            "so that as much may be left unspent"
        )
    return Plan(tuple(lines), tuple(notes))
