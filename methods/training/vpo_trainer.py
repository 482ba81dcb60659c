"""TRL's GRPOTrainer with the advantages of sets of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.seeds import derive
from methods.training.loop import Loop
from methods.training.trainers import GroupTrainer
from methods.training.vpo import Array, Parts, advantages

if TYPE_CHECKING:
    from methods.training.vpo import VpoConfig


class SetTrainer(GroupTrainer):
    """GRPO on sets of answers.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: VpoConfig, loop: Loop, folder: str) -> None:
        self._config = config
        self._parts: list[Parts] = []
        super().__init__(config, loop, folder, advantages=self._of_sets)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, answers: Any) -> torch.Tensor:
        found = super()._calculate_rewards(inputs, prompts, completions, answers)
        parts = self._loop.parts([row["example"] for row in inputs], answers)
        self._parts = [each for part in self._training.ranks.gather(parts) for each in part]
        return found

    def _of_sets(self, columns: Array, _: NDArray[np.float32]) -> NDArray[np.float32]:
        size = columns.shape[2]
        groups = [self._parts[start : start + size] for start in range(0, len(self._parts), size)]
        rng = np.random.default_rng(derive(self._loop.seed, "vpo weights", self._loop.step))
        return advantages(groups, self._config.m, self._config.draws, rng)
