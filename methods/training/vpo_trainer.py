"""TRL's GRPOTrainer with the rewards of sets of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.seeds import derive
from methods.training.loop import Loop
from methods.training.trainers import GroupTrainer
from methods.training.vpo import rewards_of_sets

if TYPE_CHECKING:
    from methods.training.vpo import VpoConfig


class SetTrainer(GroupTrainer):
    """GRPO on sets of answers: each answer has the reward of its set.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: VpoConfig, loop: Loop, folder: str) -> None:
        super().__init__(config, loop, folder)
        self._config = config

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, answers: Any) -> torch.Tensor:
        found = super()._calculate_rewards(inputs, prompts, completions, answers)
        own = self._loop.parts([row["example"] for row in inputs], answers)
        parts = [each for part in self._training.ranks.gather(own) for each in part]
        groups = [parts[start : start + self._group] for start in range(0, len(parts), self._group)]
        rng = np.random.default_rng(derive(self._loop.seed, "vpo weights", self._loop.step))
        rewards = rewards_of_sets(groups, self._config.m, self._config.draws, rng)
        return torch.as_tensor(rewards.reshape(found.shape)).to(found)
