"""Distillation and reinforcement learning in one loss (KDRL, arXiv 2506.02208): GRPO that stays close to a teacher.

The objective is J = J_GRPO - beta KL(policy || teacher), over the policy's own answers. The divergence is estimated by
k2: half the squared log-ratio of each sampled token, (log policy - log teacher)^2 / 2. The gradient goes through it. It
is averaged over the tokens of the batch, as GRPO's loss is. Both models are read at the temperature of the rollouts.
`beta` falls linearly to `beta_end` over the planned steps.

With `on_wrong` only the tokens of wrong answers count in the divergence, and the teacher reads these answers alone. The
paper calls it masking by response. The mean stays one over all tokens of the batch.

At `beta = beta_end = 0` the method is `grpo`, bit for bit, and no teacher is loaded or billed. A teacher reads the
token ids of the policy, so it needs the base's tokenizer. Its passes are billed at its own size, as `reference`.

Differences from the paper: its teacher is a stronger model. Here the base takes that place by default, which makes the
divergence a penalty on leaving the base. The loss of GRPO is that of `grpo` by default. The slope of beta follows from
the number of planned steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeFloat, model_validator

from bench.settings import setting
from methods.interface import Dimension, Plan
from methods.space import Space
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import GroupMethod
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop

PAPER = "KDRL (arXiv 2506.02208)"
TEACHER = 1
"""Cost of one answer's pass through a teacher of the base's size, in evaluations."""


class KdrlConfig(GroupConfig):
    """Settings of KDRL, in addition to those of every method that compares the answers of a group."""

    teacher: str | None = setting(
        None,
        "Teacher, given like `--model`, with the tokenizer of the base; null: the base itself. The run's id depends on "
        "this name and on the model's content.",
        source="our choice",
    )
    beta: NonNegativeFloat = setting(2e-3, "Weight of the divergence from the teacher in the first step.", source=PAPER)
    beta_end: NonNegativeFloat = setting(1e-3, "Weight of the divergence from the last planned step on.", source=PAPER)
    on_wrong: bool = setting(
        False, "Whether only wrong answers count in the divergence from the teacher.", source="our choice"
    )

    @model_validator(mode="after")
    def _used(self) -> KdrlConfig:
        if not self.distils and (self.teacher is not None or self.on_wrong):
            name = "on_wrong" if self.teacher is None else "teacher"
            raise ValueError(f"{name}={getattr(self, name)}: beta and beta_end are 0, so no teacher would be run")
        return self

    @property
    def distils(self) -> bool:
        """Whether the divergence from the teacher has a weight in any step."""
        return bool(self.beta or self.beta_end)


class Kdrl(GroupMethod):
    """GRPO with a penalty on the divergence from a teacher."""

    name = "kdrl"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = KdrlConfig
    config: KdrlConfig
    space: ClassVar[Space] = {**GroupMethod.space, "beta": Dimension(1e-3, 1e-1)}
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GroupMethod.variants,
        {"teacher": "tiny-adder", "on_wrong": True, "beta": 0.1, "lr": 1e-3},
    )

    def __init__(self, config: KdrlConfig) -> None:
        super().__init__(config)
        self.models = () if config.teacher is None else (config.teacher,)

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations, with a teacher of the base's size."""
        return super().cost + TEACHER * self.config.distils

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys, and note that the size of the teacher is not known yet."""
        plan = super().plan(evaluations, task)
        if self.config.teacher is None:
            return plan
        note = (
            f"the plan counts the teacher {self.config.teacher} as if it had the size of the base, and the run is "
            "billed for its own; with a larger one there are fewer steps, and beta does not fall to beta_end"
        )
        return replace(plan, notes=(*plan.notes, note))

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer, with the divergence in its loss if that has a weight."""
        from methods.training.kdrl_trainer import TaughtGroupTrainer
        from methods.training.trainers import GroupTrainer

        trainer = TaughtGroupTrainer if self.config.distils else GroupTrainer
        trainer(self.config, loop, folder).train()


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """Return the weight of a step, on the line from the first planned step to the last one.

    Args:
        first: Weight of the first step.
        last: Weight of the last planned step, and of any after it.
        step: Number of steps done.
        steps: Number of planned steps.
    """
    return first + (last - first) * min(1.0, step / max(1, steps - 1))
