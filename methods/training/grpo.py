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

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.group import GroupMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop


class Grpo(GroupMethod):
    """Group relative policy optimisation: TRL's GRPOTrainer with the task's scorer as reward."""

    name = "grpo"
    version = "4"
    Config: ClassVar[type[TrainingConfig]] = GrpoConfig
    config: GrpoConfig
    shards: ClassVar[bool] = True
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GroupMethod.variants,
        {"loss": "gspo", "steps_per_batch": 2, "lr": 1e-3},
    )

    @property
    def updates(self) -> int:  # type: ignore[override]
        """Number of optimiser steps per batch."""
        return self.config.steps_per_batch

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer."""
        from methods.training.trainers import GroupTrainer

        GroupTrainer(self.config, loop, folder, loss=self.config.loss, updates=self.config.steps_per_batch).train()
