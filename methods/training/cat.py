"""Compute-aligned training (CAT, arXiv 2604.24957): train for the test-time strategy that will use the model.

The objective is pass@N, majority vote of N, or best-of-N; the weights are in `methods.training.cat_weights`. Two forms:

- `on = rl`, on top of GRPO: the advantage of an answer is multiplied by a weight. For pass@N and majority votes the
  weight is estimated from the other answers of its group, without bias where the group has at least N answers; for
  best-of-N it is given by the answer's rank in the group. Weights have mean 1 over the groups whose rewards differ.
  Advantages are not divided by the group's standard deviation, because that would weight the prompts a second time.
  With `scaled=true` they are, as in GRPO, and at N = 1 this equals GRPO, step for step.
- `on = sft`, on the gold answers of the support split: the log-likelihood of an example is multiplied by a weight that
  depends on the model's present probability of the gold answer. Weights have mean 1 over the batch, which is run in
  one pass. At N = 1 this equals plain fine-tuning. Best-of-N is refused, because it needs a group of answers to rank.

The threshold of a majority is floor(N/2) + 1 votes in fine-tuning. In reinforcement learning it is the number of votes
that beats the most common wrong answer among the other answers of the group, so the weight is that of an estimated
threshold. All other settings are those of `grpo`, with the same differences from the released baselines. Its `loss`
decides how values are averaged and clipped; `scaled` alone decides whether advantages are scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bench.strategy import parse_strategy
from methods.interface import Plan
from methods.training.config import CatConfig, TrainingConfig
from methods.training.gradient import GradientMethod
from methods.training.group import UPDATE
from methods.training.grpo import Grpo
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop


MIN_PROMPTS = 4
"""Minimum number of prompts per batch. Weights are relative to the batch, so a single prompt would always weigh 1."""


class Cat(Grpo):
    """Compute-aligned training: GRPO or fine-tuning with weights for pass@N, majority vote or best-of-N."""

    name = "cat"
    version = "5"
    Config: ClassVar[type[TrainingConfig]] = CatConfig
    config: CatConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GradientMethod.variants,
        {"on": "sft", "objective": "pass@4", "lr": 1e-3},
    )

    @property
    def _samples(self) -> bool:
        """Whether the method samples answers from the model in training."""
        return self.config.on == "rl"

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations. Fine-tuning generates no answers."""
        return UPDATE if self.config.on == "sft" else super().cost

    @property
    def multiple(self) -> int:
        """Number that must divide the batch: `MIN_PROMPTS` examples, or as many groups."""
        return MIN_PROMPTS if self.config.on == "sft" else math.lcm(MIN_PROMPTS * self.config.group, super().multiple)

    @property
    def what(self) -> str:  # type: ignore[override]
        """Content of a step in a few words."""
        return "gold answers" if self.config.on == "sft" else super().what

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the objective needs a group, gold answers or votes that there are not, else None.

        Settings of rewards are checked as for every gradient method.
        """
        kind = parse_strategy(self.config.objective).kind
        if self.config.on == "sft" and kind == "bon":
            return "best-of-N ranks the answers of a group, and fine-tuning has only the gold one; take --set on=rl"
        if self.config.on == "sft" and task.refused_golds:
            return f"on=sft trains on gold answers, and {task.refused_golds}; take --set on=rl"
        if self.config.on == "rl" and kind == "maj" and task.vote_by is None:
            return "the objective maj@N needs votes, and the task has no vote key"
        return super().supports(task)

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys, and note if groups are too small for unbiased weights."""
        plan, (kind, n) = super().plan(evaluations, task), parse_strategy(self.config.objective)
        if self.config.on == "sft" or kind == "bon" or n <= self.config.group:
            return plan
        note = (
            f"a group of {self.config.group} answers has no unbiased weights for {self.config.objective}: they are "
            f"computed from the share of correct answers; --set group={n} has unbiased ones"
        )
        return replace(plan, notes=(*plan.notes, note))

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer or SFTTrainer with weights."""
        from methods.training.cat_trainers import AlignedGroupTrainer, AlignedTuner

        trainer = AlignedTuner if self.config.on == "sft" else AlignedGroupTrainer
        trainer(self.config, loop, folder).train()
