"""Interface for the choice of prompts, step by step. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from bench.seeds import derive

ORDER = "training order"
"""Random stream of the order of prompts."""


class Curriculum(Protocol):
    """Chooses the prompts of each training step and learns from their rewards.

    `choose` is called inside the metered part of a step, so passes that it makes through the model are billed. With
    several processes, each has its own curriculum. All receive the same rewards, and all must choose the same prompts.

    Example:
        ```python
        class HardestFirst:  # prefers the prompts with the lowest reward so far
            def __init__(self, prompts: int) -> None:
                self.rewards = [0.0] * prompts

            def choose(self, step, count):
                return sorted(range(len(self.rewards)), key=self.rewards.__getitem__)[:count]

            def learn(self, chosen, rewards, advantages):
                for index, reward in zip(chosen, rewards):
                    self.rewards[index] = 1.0 if math.isnan(reward) else reward

            def state(self):
                return {"rewards": self.rewards}

            def restore(self, state):
                self.rewards = list(state["rewards"])

            def report(self):
                return {"mean_reward": sum(self.rewards) / len(self.rewards)}


        class HardGrpo(Grpo):
            name, version = "hard-grpo", "1"

            def curriculum(self, context, training):
                return HardestFirst(len(training.prompts))
        ```
    """

    def choose(self, step: int, count: int) -> Sequence[int]:
        """Return the indices in `Training.prompts` of the prompts of a step.

        Args:
            step: Number of steps done. Derive random numbers from it and the run's seed alone, so that a resumed run
                draws the same ones.
            count: Number of prompts to choose.
        """

    def learn(self, chosen: Sequence[int], rewards: Sequence[float], advantages: Sequence[float]) -> None:
        """Update from a step.

        Args:
            chosen: Indices returned by `choose`.
            rewards: Mean reward of the answers to each of these prompts, as it was trained on: 0 for an answer that was
                punished. NaN if none was scored.
            advantages: Mean size of the advantages that the answers to each prompt were trained with, 0 for an answer
                that was masked; NaN for a trainer without groups.
        """

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`: tensors and plain values, in dictionaries and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""

    def report(self) -> dict[str, Any]:
        """Return plain JSON values for the record."""


def epoch_order(seed: int, prompts: int, epoch: int, stream: str = ORDER) -> list[int]:
    """Return the random order in which an epoch passes over all prompts, as indices.

    Args:
        seed: Seed of the run.
        prompts: Number of prompts.
        epoch: Number of the epoch, from 0.
        stream: Name of the random stream.
    """
    order: list[int] = np.random.default_rng(derive(seed, stream, epoch)).permutation(prompts).tolist()
    return order


def endless_order(seed: int, prompts: int, start: int, stream: str = ORDER) -> Iterator[int]:
    """Yield indices of prompts, epoch after epoch.

    Args:
        seed: Seed of the run.
        prompts: Number of prompts.
        start: Number of indices to leave out at the beginning.
        stream: Name of the random stream.
    """
    for epoch in range(start // prompts, 1 << 62):
        yield from epoch_order(seed, prompts, epoch, stream)[max(0, start - epoch * prompts) :]


def mean_rewards(rewards: Sequence[float | None], prompts: int) -> list[float]:
    """Return the mean reward of each prompt's answers, [prompts]; NaN for a prompt without a scored answer.

    Args:
        rewards: Rewards of all answers, those to one prompt in sequence; None where unscored.
        prompts: Number of prompts.
    """
    each = len(rewards) // prompts
    groups = ([r for r in rewards[start : start + each] if r is not None] for start in range(0, len(rewards), each))
    return [sum(group) / len(group) if group else float("nan") for group in groups]
