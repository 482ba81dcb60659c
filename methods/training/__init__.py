"""Gradient training with TRL's trainers, within the budget and under the meter.

Third-party methods may build on `Grpo` and `GrpoConfig`, and choose prompts with a `Curriculum`. The package
examples/prompt-curriculum does both.
"""

from methods.training.config import GrpoConfig
from methods.training.curriculum import Curriculum
from methods.training.grpo import Grpo

__all__ = ["Curriculum", "Grpo", "GrpoConfig"]
