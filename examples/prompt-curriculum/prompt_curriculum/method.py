"""Prompt curriculum learning (Gao et al. 2025, arXiv 2510.01135): GRPO on prompts of intermediate difficulty.

Each step draws random candidates and trains on those whose expected reward is closest to one half. The expectation
comes from a value estimate that learns from the rewards of earlier steps.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from methods.interface import Context, Training, setting
from methods.training import Grpo, GrpoConfig
from prompt_curriculum.curriculum import IntermediateDifficulty


class PclConfig(GrpoConfig):
    """Settings of prompt curriculum learning, in addition to those of GRPO."""

    candidates: PositiveInt = setting(
        4, "Number of candidates per chosen prompt, the paper's k.", unit="prompts", source="our choice"
    )
    threshold: NonNegativeFloat = setting(
        0.5, "Target of the expected reward.", unit="reward", source="arXiv 2510.01135"
    )
    ridge: PositiveFloat = setting(
        0.1, "Strength of the ridge penalty of the value estimate.", source="our choice, like the estimate itself"
    )
    memory: Annotated[float, Field(gt=0, le=1)] = setting(
        0.95,
        "Factor by which the weight of an observation decays per step, because the policy changes.",
        source="our choice",
    )


class PromptCurriculum(Grpo):
    """GRPO on prompts that the policy is expected to solve about half of the time."""

    name = "pcl"
    version = "1"
    Config: ClassVar[type[GrpoConfig]] = PclConfig
    config: PclConfig

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations: GRPO's, plus its share of the passes over the candidates."""
        return super().cost + self.config.candidates / self.config.group

    @property
    def what(self) -> str:
        """Content of a step in a few words."""
        return f"answers, in groups, each prompt the best of {self.config.candidates}"

    def curriculum(self, context: Context, training: Training) -> IntermediateDifficulty:
        """Return the curriculum of this run."""
        config = self.config
        return IntermediateDifficulty(
            training, context.seed, config.candidates, config.threshold, config.ridge, config.memory
        )
