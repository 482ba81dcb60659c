"""Compute-aligned training (arXiv 2604.24957): training for what a test-time strategy of N answers will return.

Two forms share the weights of `methods.training.weights`:

- `on = rl`, on top of GRPO: an answer's advantage is multiplied by the weight of its prompt, at the share of right
  answers in its group, or for best-of-N by its own weight. Weights have mean 1 over the batch; at N = 1 this is GRPO,
  step for step. GRPO's own division by the group's deviation stays, so that weights act on what GRPO does.
- `on = sft`, on the gold answers of the support split where the task has them: an example's log-likelihood is
  multiplied by its weight at the probability that the model now gives to the gold answer. Weights have mean 1 over the
  batch, which goes through the model in one pass; at N = 1 this is plain fine-tuning. Best-of-N has no group of
  rewards to rank a gold answer in, and is refused.

A majority's threshold is floor(N/2) + 1 votes in fine-tuning, and in reinforcement learning what beats the group's
commonest wrong answer. Settings are those of `grpo`, and so are its differences from the released baselines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import Refused
from bench.strategy import parse_strategy
from methods.interface import Training
from methods.training.config import CatConfig, TrainingConfig
from methods.training.grpo import ROLLOUT, UPDATE, Grpo
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop


LEAST_PROMPTS = 4
"""Prompts a batch: weights are relative to it, so that it takes several to tell them apart."""


class Cat(Grpo):
    """Compute-aligned training: GRPO or fine-tuning, weighted for pass@N, a majority or best-of-N."""

    name = "cat"
    version = "2"
    Config: ClassVar[type[TrainingConfig]] = CatConfig
    config: CatConfig

    @property
    def cost(self) -> float:  # type: ignore[override]
        """Fine-tuning draws no answers."""
        return UPDATE if self.config.on == "sft" else ROLLOUT + UPDATE

    @property
    def multiple(self) -> int:
        """Fine-tuning has no groups."""
        return LEAST_PROMPTS * (1 if self.config.on == "sft" else self.config.group)

    @property
    def what(self) -> str:  # type: ignore[override]
        """What a step is made of."""
        return "gold answers" if self.config.on == "sft" else "answers, in groups"

    def supports(self, task: TaskTraits) -> str | None:
        """Refuse what the objective cannot be formed from."""
        kind = parse_strategy(self.config.objective).kind
        if self.config.on == "sft" and kind == "bon":
            return "best-of-N ranks the answers of a group, and fine-tuning has only the gold one; take --set on=rl"
        if self.config.on == "rl" and kind == "maj" and task.vote_by is None:
            return "its answers cannot vote, which the objective maj@N is about"
        return None

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Train the policy alone.

        Raises:
            Refused: If fine-tuning is asked for and the task has no gold answers.
        """
        if self.config.on == "sft" and any(posed.gold is None for posed in training.prompts):
            raise Refused("cat with on=sft trains on gold answers, and this task has none; take --set on=rl")
        return super().learners(training)

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's trainer with weights."""
        from methods.training.aligned import AlignedGroupTrainer, AlignedTuner

        trainer = AlignedTuner if self.config.on == "sft" else AlignedGroupTrainer
        trainer(self.config, loop, folder).train()
