"""Prompt curriculum learning (PCL, Gao et al. 2025, arXiv 2510.01135): GRPO on prompts of intermediate difficulty.

Each step considers k m candidates, trains on the m whose expected reward is closest to one half, and updates the
expectation with the mean rewards of these.

Differences from the paper:

- The expected reward is a ridge regression on the policy's last hidden state after the prompt
  (`methods.training.difficulty`), and not a language model of its own: it must learn from the few dozen prompts of a
  small budget.
- The candidates are the next ones of a random order of all prompts that is new in each epoch, as in `grpo`. So each
  prompt is considered equally often. With k = 1 there is nothing to choose, and this equals `grpo`, step for step.
- All other settings are those of `grpo` here.

The passes over the candidates are forward passes over prompts without answers, billed as `train`, phase `logprobs`.
With several processes, each makes all of them, and each is billed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from bench.settings import setting
from methods.interface import Context, Training
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.grpo import Grpo

if TYPE_CHECKING:
    from methods.training.difficulty import IntermediateDifficulty


class PclConfig(GrpoConfig):
    """Settings of prompt curriculum learning, in addition to those of GRPO."""

    candidates: PositiveInt = setting(
        4, "Number of candidates per chosen prompt, the paper's k.", unit="prompts", source="our choice"
    )
    threshold: NonNegativeFloat = setting(
        0.5, "Target of the expected reward.", unit="reward", source="arXiv 2510.01135"
    )
    ridge: PositiveFloat = setting(
        0.1, "Strength of the ridge penalty of the expected reward.", source="our choice, like the regression itself"
    )
    memory: Annotated[float, Field(gt=0, le=1)] = setting(
        0.95,
        "Factor by which the weight of an observation decays per step, because the policy changes.",
        source="our choice",
    )


class Pcl(Grpo):
    """GRPO on prompts that the policy is expected to solve about half of the time."""

    name = "pcl"
    version = "2"
    Config: ClassVar[type[TrainingConfig]] = PclConfig
    config: PclConfig

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations: GRPO's, plus its share of the passes over the candidates.

        Each process makes all of these passes.
        """
        passes = self.processes * self.config.candidates / self.config.group
        return super().cost + (passes if self.config.candidates > 1 else 0)

    @property
    def what(self) -> str:  # type: ignore[override]
        """Content of a step in a few words."""
        return f"answers, in groups, each prompt the best of {self.config.candidates}"

    def curriculum(self, context: Context, training: Training) -> IntermediateDifficulty:
        """Return the curriculum of this run."""
        from methods.training.difficulty import IntermediateDifficulty

        config = self.config
        return IntermediateDifficulty(
            training, context.seed, config.candidates, config.threshold, config.ridge, config.memory
        )
