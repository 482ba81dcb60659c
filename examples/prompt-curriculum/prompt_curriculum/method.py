"""GRPO on the prompts with the lowest reward so far: a sample method, which needs no pass of its own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from methods.interface import Context, Training, setting
from methods.training import Grpo, GrpoConfig
from prompt_curriculum.curriculum import LowestReward


class HardestFirstConfig(GrpoConfig):
    """Settings of the sample method, in addition to those of GRPO."""

    candidates: PositiveInt = setting(
        4, "Number of candidates per chosen prompt.", unit="prompts", source="our choice, for the sample"
    )


class HardestFirst(Grpo):
    """GRPO on the prompts with the lowest reward so far."""

    name = "hardest-first"
    version = "1"
    Config: ClassVar[type[GrpoConfig]] = HardestFirstConfig
    config: HardestFirstConfig

    def curriculum(self, context: Context, training: Training) -> LowestReward:
        """Return the curriculum of this run."""
        return LowestReward(len(training.prompts), context.seed, self.config.candidates)
