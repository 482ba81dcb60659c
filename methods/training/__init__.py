"""Post-training by gradients: TRL's trainers, within the budget and by the meter of every other method.

Public to methods of other people: `Grpo` and its settings to build on, and `Curriculum` to choose its prompts by.
"""

from methods.training.config import GrpoConfig
from methods.training.curriculum import Curriculum
from methods.training.grpo import Grpo

__all__ = ["Curriculum", "Grpo", "GrpoConfig"]
