"""Common base of the methods that sample groups of answers and compare the answers of a group."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from methods.interface import Training
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.gradient import GradientMethod

ROLLOUT, LOGPROBS, UPDATE = 1, 1, 3
"""Cost of one answer, in evaluations: generating it; its log-probabilities before the first of several updates; a
forward and a backward pass over it."""


class GroupMethod(GradientMethod):
    """Train on groups of answers, each group to one prompt. The method says what it makes of a group."""

    Config: ClassVar[type[TrainingConfig]] = GroupConfig
    config: GroupConfig
    batch = 64
    what = "answers, in groups"

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations."""
        return ROLLOUT + UPDATE + (LOGPROBS if self.updates > 1 else 0)

    @property
    def multiple(self) -> int:
        """Number that must divide the batch, which has whole groups, and equal parts for processes and updates."""
        return math.lcm(self.config.group, self.processes * self.updates)

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the policy."""
        return [(training.model, self.config.lr)]
