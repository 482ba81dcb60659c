"""Prompt curriculum learning (Gao et al. 2025, arXiv 2510.01135): GRPO on prompts of intermediate difficulty.

Each step draws random candidates and trains on those whose expected reward is closest to one half. The expectation
comes from a value estimate that learns from the rewards of earlier steps.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from methods.interface import Context, Training
from methods.training import Grpo, GrpoConfig
from prompt_curriculum.curriculum import IntermediateDifficulty


class PclConfig(GrpoConfig):
    """Settings of prompt curriculum learning, in addition to those of GRPO.

    Attributes:
        candidates: Number of candidates per chosen prompt, the paper's k. Default chosen here.
        threshold: Target of the expected reward. Default 0.5 as in the paper.
        ridge: Strength of the ridge penalty of the value estimate. Default chosen here, like the estimate itself.
        memory: Factor by which the weight of an observation decays per step, because the policy changes. Default chosen
            here.
    """

    candidates: PositiveInt = 4
    threshold: NonNegativeFloat = 0.5
    ridge: PositiveFloat = 0.1
    memory: float = Field(default=0.95, gt=0, le=1)


class PromptCurriculum(Grpo):
    """GRPO on prompts that the policy is expected to solve about half of the time."""

    name = "pcl"
    version = "1"
    Config: ClassVar[type[GrpoConfig]] = PclConfig
    config: PclConfig

    @property
    def cost(self) -> float:  # type: ignore[override]
        """Estimated cost of one answer, in evaluations: GRPO's, plus its share of the passes over the candidates."""
        return Grpo.cost + self.config.candidates / self.config.group

    @property
    def what(self) -> str:  # type: ignore[override]
        """Content of a step in a few words."""
        return f"answers, in groups, each prompt the best of {self.config.candidates}"

    def curriculum(self, context: Context, training: Training) -> IntermediateDifficulty:
        """Return the curriculum of this run."""
        config = self.config
        return IntermediateDifficulty(
            training, context.seed, config.candidates, config.threshold, config.ridge, config.memory
        )
