"""Prompt curriculum learning (Gao et al. 2025, arXiv 2510.01135): GRPO on prompts of intermediate difficulty.

Of each step's random candidates those are trained on whose expected reward is nearest to one half, as a value estimate
has it that learns from the rewards of the steps before.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from methods.interface import Context, Training
from methods.training import Grpo, GrpoConfig
from prompt_curriculum.curriculum import Intermediate


class PclConfig(GrpoConfig):
    """Settings of prompt curriculum learning; those of GRPO but for these.

    Attributes:
        candidates: Of which each prompt is chosen: the paper's k, whose value is ours.
        threshold: The expected reward that is sought; one half, as in the paper.
        ridge: Strength of the estimate's prior. Ours, like the estimate.
        memory: What an observation still counts a step later; the policy moves. Ours.
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
        """GRPO's, and a pass over each candidate's prompt, shared by the answers of a group."""
        return Grpo.cost + self.config.candidates / self.config.group

    @property
    def what(self) -> str:  # type: ignore[override]
        """What a step is made of."""
        return f"answers, in groups, each prompt the best of {self.config.candidates}"

    def curriculum(self, context: Context, training: Training) -> Intermediate:
        """Return what chooses the prompts."""
        config = self.config
        return Intermediate(training, context.seed, config.candidates, config.threshold, config.ridge, config.memory)
