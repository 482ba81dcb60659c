"""Supervised fine-tuning on the support split's gold answers, with TRL's SFTTrainer.

This is the row that a table of post-training methods must not miss: the same examples and the same budget, and no
search and no sampling. Prompts are formatted as for every method, and the loss is the cross-entropy of the gold answer
and its end alone. It equals `cat` with `on=sft` and `objective=pass@1`, step for step.

The method needs gold answers, so it is refused on a task without them, and under a reward that replaces the task's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Plan, Training
from methods.training.config import SftConfig, TrainingConfig
from methods.training.gradient import GradientMethod
from methods.training.group import UPDATE
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop


class Sft(GradientMethod):
    """Supervised fine-tuning on gold answers: TRL's SFTTrainer."""

    name = "sft"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = SftConfig
    config: SftConfig
    batch = 64
    shards: ClassVar[bool] = True
    cost = UPDATE
    what = "gold answers"

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if there are no gold answers to train on, else None."""
        return task.refused_golds and f"it trains on gold answers, and {task.refused_golds}"

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys, and how often they pass over the support split."""
        plan, schedule = super().plan(evaluations, task), self.schedule(evaluations, task)
        epochs = schedule.steps * schedule.batch / task.sizes["support"]
        return replace(plan, notes=(*plan.notes, f"the steps pass over the support split about {epochs:.2g} times"))

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the model."""
        return [(training.model, self.config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's SFTTrainer."""
        from methods.training.tuner import Tuner

        Tuner(self.config, loop, folder).train()
