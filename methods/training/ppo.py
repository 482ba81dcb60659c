"""Proximal policy optimisation (PPO, arXiv 1707.06347) with TRL's PPOTrainer.

docs/training.md lists every setting that differs from the baseline released with RandOpt, with its reason.

As released: one epoch per batch in mini-batches of 32, constant learning rates of 1e-6 for the policy and 1e-5 for the
value model, rollouts at temperature 1, gamma = lambda = 1, clip range 0.2, gradient norm clipped to 1, no KL penalty.
TRL's defaults: value loss at weight 0.1, whitened advantages, AdamW's betas. Weight decay is 0.

PPOTrainer does not clip gradients, so the optimiser clips them here. PPOTrainer runs a reference model even if the
penalty is 0, so a stub that computes nothing replaces that model. All arithmetic is in float32. In bfloat16, PPOTrainer
would generate and value answers without autocast, but update the weights with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Training
from methods.training.config import PpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

ROLLOUT, VALUE, UPDATES = 1, 1, 6
"""Cost of one answer, in evaluations: generating it; its value; a forward and a backward pass of both models."""


class Ppo(GradientMethod):
    """Proximal policy optimisation with a value model: TRL's PPOTrainer with the task's scorer as reward."""

    name = "ppo"
    version = "4"
    Config: ClassVar[type[TrainingConfig]] = PpoConfig
    config: PpoConfig
    batch = 128
    cost = ROLLOUT + VALUE + UPDATES
    what = "answers"

    @property
    def multiple(self) -> int:
        """Number of mini-batches times processes, because each process has whole mini-batches."""
        return self.config.mini_batches * self.processes

    @property
    def updates(self) -> int:  # type: ignore[override]
        """Number of mini-batches."""
        return self.config.mini_batches

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the policy and the value model."""
        config = self.config
        return [(training.model, config.lr), (training.value_model(), config.value_lr or 10 * config.lr)]

    def refused_engine(self, engine: str) -> str | None:
        """Refuse every engine but the trainable copy itself."""
        if engine == "transformers":
            return None
        return "needs the logits of every sampled token (PPOTrainer), and vLLM returns none; use --engine transformers"

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's PPOTrainer."""
        from methods.training.trainers import PolicyValueTrainer

        PolicyValueTrainer(self.config, loop, folder).train()
