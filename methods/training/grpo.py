"""Group relative policy optimisation (arXiv 2402.03300), by TRL's GRPOTrainer.

Every setting that differs from the baseline released with RandOpt stands in docs/training.md, with its reason.
As released: groups of 8, learning rate 1e-6 (constant), rollouts at temperature 1, clip .2, gradients clipped to 1, no
KL penalty and so no reference model, advantages by the group's mean and deviation. TRL's own: loss `dapo`, AdamW with
its default betas and without weight decay, dropout off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Training
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

ROLLOUT, UPDATE = 1, 3
"""Cost of one answer in evaluations: drawing it, and a forward and a backward pass over it."""


class Grpo(GradientMethod):
    """Group relative policy optimisation: TRL's GRPOTrainer with the task's scorer as reward."""

    name = "grpo"
    version = "2"
    Config: ClassVar[type[TrainingConfig]] = GrpoConfig
    config: GrpoConfig
    batch = 64
    cost = ROLLOUT + UPDATE
    what = "answers, in groups"

    @property
    def multiple(self) -> int:
        """A batch is made of whole groups."""
        return self.config.group

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Train the policy alone."""
        return [(training.model, self.config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's trainer."""
        from methods.training.trainers import GroupTrainer

        GroupTrainer(self.config, loop, folder).train()
