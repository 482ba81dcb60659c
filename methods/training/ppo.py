"""Proximal policy optimisation (arXiv 1707.06347), by TRL's PPOTrainer.

Every setting that differs from the baseline released with RandOpt stands in docs/training.md, with its reason.
As released: one pass over each batch in mini-batches of 32, learning rates of 1e-6 for the policy and ten times as much
for the value model (constant), rollouts at temperature 1, gamma = lambda = 1, clip .2, gradients clipped to 1, no KL
penalty. TRL's own: value loss at weight .1, advantages whitened, AdamW with its default betas and without weight decay,
dropout off. PPOTrainer clips no gradients and runs a reference model even if its penalty is 0: the optimiser clips
here, and nothing runs in the reference's place. It computes in float32 everywhere: in bfloat16 it would draw answers
and value them outside of autocast, and update inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Training
from methods.training.config import PpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

ROLLOUT, VALUE, UPDATES = 1, 1, 6
"""Cost of one answer in evaluations: drawing it, valuing it, and a forward and backward pass of both models."""


class Ppo(GradientMethod):
    """Proximal policy optimisation with a value model: TRL's PPOTrainer with the task's scorer as reward."""

    name = "ppo"
    version = "2"
    Config: ClassVar[type[TrainingConfig]] = PpoConfig
    config: PpoConfig
    batch = 128
    cost = ROLLOUT + VALUE + UPDATES
    what = "answers"

    @property
    def multiple(self) -> int:
        """A batch is made of whole mini-batches, in every process."""
        return self.config.mini_batches * self.processes

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Train policy and value model."""
        config = self.config
        return [(training.model, config.lr), (training.value_model(), config.value_lr or 10 * config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's trainer."""
        from methods.training.trainers import PolicyValueTrainer

        PolicyValueTrainer(self.config, loop, folder).train()
