"""How a method built on a trainer here chooses what it trains on, step by step. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Curriculum(Protocol):
    """Chooses the prompts of each step, and is told what came of them.

    It is asked inside the metered part of a step, so that passes it makes through the session's models are billed. Of
    several processes each has one, and all must choose alike: they are told the same.
    """

    def choose(self, step: int, count: int) -> Sequence[int]:
        """Return so many places in `Training.prompts`: what this step trains on.

        Args:
            step: Steps done. Random draws must follow from it and the run's seed alone, or a resumed run draws others.
            count: Prompts a step.
        """

    def learn(self, chosen: Sequence[int], rewards: Sequence[float]) -> None:
        """Take note of a step's outcome.

        Args:
            chosen: As returned by `choose`.
            rewards: The mean reward of the answers to each; NaN where none could be judged.
        """

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as tensors and plain values in dictionaries and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""

    def report(self) -> dict[str, Any]:
        """Return what goes on record of it, as plain JSON values."""


def mean_rewards(rewards: Sequence[float | None], prompts: int) -> list[float]:
    """Return the mean reward of each prompt's answers, which stand together; None is one that could not be judged."""
    each = len(rewards) // prompts
    groups = ([r for r in rewards[start : start + each] if r is not None] for start in range(0, len(rewards), each))
    return [sum(group) / len(group) if group else float("nan") for group in groups]
