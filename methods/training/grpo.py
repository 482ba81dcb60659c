"""Group relative policy optimisation (GRPO, arXiv 2402.03300) with TRL's GRPOTrainer.

docs/training.md lists every setting that differs from the baseline released with RandOpt, with its reason.

As released: groups of 8, constant learning rate 1e-6, rollouts at temperature 1, clip range 0.2, gradient norm clipped
to 1, no KL penalty (and so no reference model), advantages normalised by the group's mean and standard deviation.
TRL's defaults: loss type `dapo`, AdamW's betas. Weight decay is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Training
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

ROLLOUT, UPDATE = 1, 3
"""Cost of one answer, in evaluations: generating it; a forward and a backward pass over it."""


class Grpo(GradientMethod):
    """Group relative policy optimisation: TRL's GRPOTrainer with the task's scorer as reward."""

    name = "grpo"
    version = "4"
    Config: ClassVar[type[TrainingConfig]] = GrpoConfig
    config: GrpoConfig
    batch = 64
    cost = ROLLOUT + UPDATE
    what = "answers, in groups"

    @property
    def multiple(self) -> int:
        """Size of a group, because a batch consists of whole groups."""
        return self.config.group

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the policy."""
        return [(training.model, self.config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer."""
        from methods.training.trainers import GroupTrainer

        GroupTrainer(self.config, loop, folder).train()
