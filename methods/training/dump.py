"""Distribution-level curriculum (DUMP, Wang et al. 2025, arXiv 2504.09710): GRPO that chooses categories of prompts.

The categories of the examples (`Task.category`) are the arms of a bandit. With n answers so far, n_c of them to prompts
of category c, and L_c the mean size of the advantages of the last 300 of these:

    score_c = L_c + sqrt(2 ln(n + 1) / (n_c + 1)),   P(c) = softmax(score / 0.1)

Each prompt of a step is drawn in two stages: its category by P, and then the next prompt of this category in a random
order that is new in each epoch. L_c is 0 for a category without an answer.

Differences from the paper and its released code:

- Prompts of a category are passed over in order, and not drawn with replacement. With a single category the order is
  that of `grpo`, so the method equals `grpo`, step for step.
- The window consists of whole groups of answers: 38 groups of 8 for 300 answers.
- Answers that could not be scored are not counted.
- All other settings are those of `grpo` here.

The method costs what `grpo` costs, since it makes no pass of its own. A task with a single category is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PositiveFloat, PositiveInt

from bench.settings import setting
from methods.interface import Context, Training, derive
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.curriculum import epoch_order
from methods.training.grpo import Grpo
from tasks.interface import TaskTraits


class DumpConfig(GrpoConfig):
    """Settings of the curriculum over categories, in addition to those of GRPO."""

    window: PositiveInt = setting(
        300,
        "Number of the last answers of a category whose advantages count.",
        unit="answers",
        source="the released code of arXiv 2504.09710",
    )
    source_temperature: PositiveFloat = setting(
        0.1,
        "Temperature of the softmax over the scores of the categories.",
        source="the released code of arXiv 2504.09710",
    )


class Dump(Grpo):
    """GRPO on the categories of prompts with the largest advantages, chosen as the arms of a bandit."""

    name = "dump"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = DumpConfig
    config: DumpConfig

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if there is one category only, in addition to the reasons of `grpo`; else None."""
        if task.categories < 2:
            return (
                "it chooses among categories of examples, and the support split has one only; take grpo, or a task "
                "with several, such as addition, math500, or jsonl with a field category (--fields category=NAME)"
            )
        return super().supports(task)

    def curriculum(self, context: Context, training: Training) -> CategoryBandit:
        """Return the curriculum of this run."""
        config = self.config
        categories = [prompt.category for prompt in training.prompts]
        return CategoryBandit(categories, context.seed, config.group, config.window, config.source_temperature)


def chances(advantages: ArrayLike, answers: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return the probability of each category.

    Args:
        advantages: Mean size of the advantages of each category's latest answers.
        answers: Number of answers to prompts of each category.
        temperature: Temperature of the softmax.
    """
    count = np.asarray(answers, dtype=np.float64)
    scores = np.asarray(advantages) + np.sqrt(2 * np.log(count.sum() + 1) / (count + 1))
    weights = np.exp((scores - scores.max()) / temperature)
    found: NDArray[np.float64] = weights / weights.sum()
    return found


class CategoryBandit:
    """Draws the category of each prompt by the upper confidence bound of its advantages. See the module's docstring.

    Args:
        categories: Category of each prompt.
        seed: Seed of the run.
        group: Number of answers per prompt.
        window: Number of a category's latest answers whose advantages count.
        temperature: Temperature of the softmax over the scores.
    """

    def __init__(
        self, categories: Sequence[str | None], seed: int, group: int, window: int, temperature: float
    ) -> None:
        self._names = list(dict.fromkeys(categories))
        self._arms = [self._names.index(category) for category in categories]  # one per prompt
        self._sizes = [self._arms.count(arm) for arm in range(len(self._names))]
        self._seed, self._group, self._temperature = seed, group, temperature
        self._kept = math.ceil(window / group)
        self._drawn = [0] * len(self._names)  # number of prompts of each category that were chosen
        self._answered = [0] * len(self._names)  # number of those with a scored answer
        self._windows: list[list[float]] = [[] for _ in self._names]  # the latest of these prompts' advantages

    def choose(self, step: int, count: int) -> list[int]:
        """Draw a category for each prompt, and return the next prompts of these categories."""
        draws = np.random.default_rng(derive(self._seed, "dump categories", step))
        return [self._next(arm) for arm in draws.choice(len(self._names), size=count, p=self._chances()).tolist()]

    def _chances(self) -> NDArray[np.float64]:
        answers = np.array(self._answered) * self._group
        return chances([_mean(window) for window in self._windows], answers, self._temperature)

    def _next(self, arm: int) -> int:
        epoch, place = divmod(self._drawn[arm], self._sizes[arm])
        self._drawn[arm] += 1
        order = epoch_order(self._seed, len(self._arms), epoch)
        return [prompt for prompt in order if self._arms[prompt] == arm][place]

    def learn(self, chosen: Sequence[int], rewards: Sequence[float], advantages: Sequence[float]) -> None:
        """Add the advantages of a step to the windows of the categories."""
        for prompt, reward, advantage in zip(chosen, rewards, advantages, strict=True):
            if not math.isnan(reward):
                arm = self._arms[prompt]
                self._answered[arm] += 1
                self._windows[arm] = [*self._windows[arm], advantage][-self._kept :]

    def state(self) -> dict[str, Any]:
        """Return the counts and windows."""
        return {"drawn": self._drawn, "answered": self._answered, "windows": self._windows}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._drawn, self._answered = list(state["drawn"]), list(state["answered"])
        self._windows = [list(window) for window in state["windows"]]

    def report(self) -> dict[str, Any]:
        """Return for each category its size, how many prompts were drawn, and its present advantage and probability.

        Example: `{"categories": [{"category": "one carry", "prompts": 190, "drawn": 31, "advantage": 0.8, ...}]}`.
        """
        rows = zip(self._names, self._sizes, self._drawn, self._windows, self._chances(), strict=True)
        return {
            "categories": [
                {
                    "category": name,
                    "prompts": size,
                    "drawn": drawn,
                    "advantage": float(f"{_mean(window):.6g}"),
                    "chance": float(f"{chance:.6g}"),
                }
                for name, size, drawn, window, chance in rows
            ]
        }


def _mean(window: Sequence[float]) -> float:
    return sum(window) / len(window) if window else 0.0
