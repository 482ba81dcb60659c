"""Group relative policy optimisation (GRPO, arXiv 2402.03300) with TRL's GRPOTrainer.

docs/training.md lists every setting that differs from the baseline released with RandOpt, with its reason.

As released: groups of 8, constant learning rate 1e-6, rollouts at temperature 1, clip range 0.2, gradient norm clipped
to 1, no KL penalty (and so no reference model), advantages normalised by the group's mean and standard deviation.
TRL's defaults: loss type `dapo`, AdamW's betas. Weight decay is 0.

The setting `loss` chooses another of TRL's losses, see `methods.training.losses`. `rloo` is REINFORCE with the mean of
the group's other answers as baseline (arXiv 2402.14740); TRL has it as a trainer of its own, which clips a ratio that
is 1 here. Of DAPO only the loss is meant: prompts are not drawn again where all answers have equal rewards, and the
setting `truncated` decides on answers at the limit of their length.

With several `steps_per_batch`, a batch is split into equal parts in random order, and each takes one optimiser step.
From the second on, the weights are not those that answers were sampled with, so the ratio and its clip matter. TRL
computes the log-probabilities before the first step in a pass of its own, which is billed as `logprobs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Training
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

ROLLOUT, LOGPROBS, UPDATE = 1, 1, 3
"""Cost of one answer, in evaluations: generating it; its log-probabilities before the first of several updates; a
forward and a backward pass over it."""


class Grpo(GradientMethod):
    """Group relative policy optimisation: TRL's GRPOTrainer with the task's scorer as reward."""

    name = "grpo"
    version = "4"
    Config: ClassVar[type[TrainingConfig]] = GrpoConfig
    config: GrpoConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GradientMethod.variants,
        {"loss": "gspo", "steps_per_batch": 2, "lr": 1e-3},
    )
    batch = 64

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations."""
        return ROLLOUT + UPDATE + (LOGPROBS if self.updates > 1 else 0)

    @property
    def what(self) -> str:
        """Content of a step in a few words."""
        return "answers, in groups" + (f", in {self.updates} updates" if self.updates > 1 else "")

    @property
    def multiple(self) -> int:
        """Number that must divide the batch, which has whole groups, and equal parts for processes and updates."""
        return math.lcm(self.config.group, self.processes * self.updates)

    @property
    def updates(self) -> int:  # type: ignore[override]
        """Number of optimiser steps per batch."""
        return self.config.steps_per_batch

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the policy."""
        return [(training.model, self.config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer."""
        from methods.training.trainers import GroupTrainer

        GroupTrainer(self.config, loop, folder).train()
