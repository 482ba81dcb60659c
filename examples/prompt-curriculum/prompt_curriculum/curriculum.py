"""Choice of the prompts with the lowest reward so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from methods.interface import derive


class LowestReward:
    """Chooses from random candidates those with the lowest reward so far. A prompt without one comes first.

    Args:
        prompts: Number of prompts.
        seed: Seed of the run.
        candidates: Number of candidates per chosen prompt.
    """

    def __init__(self, prompts: int, seed: int, candidates: int) -> None:
        self._seed, self._candidates = seed, candidates
        self._rewards = [-math.inf] * prompts
        self._means: list[float] = []  # mean reward of each step

    def choose(self, step: int, count: int) -> list[int]:
        """Return the candidates with the lowest rewards, the lowest first."""
        # From the run's seed and the step alone, so that a resumed run draws the same candidates.
        draws = np.random.default_rng(derive(self._seed, "hardest first", step))
        prompts = len(self._rewards)
        size = max(count, min(prompts, self._candidates * count))
        pool: list[int] = draws.choice(prompts, size=size, replace=size > prompts).tolist()
        return sorted(pool, key=self._rewards.__getitem__)[:count]

    def learn(self, chosen: Sequence[int], rewards: Sequence[float], advantages: Sequence[float]) -> None:
        """Remember the rewards of a step. A prompt without a scored answer keeps the one that it had."""
        scored = {index: reward for index, reward in zip(chosen, rewards, strict=True) if not math.isnan(reward)}
        for index, reward in scored.items():
            self._rewards[index] = reward
        if scored:
            self._means.append(sum(scored.values()) / len(scored))

    def state(self) -> dict[str, Any]:
        """Return all rewards so far."""
        return {"rewards": self._rewards, "means": self._means}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._rewards, self._means = list(state["rewards"]), list(state["means"])

    def report(self) -> dict[str, Any]:
        """Return how many prompts have a reward, and the mean reward of the chosen prompts, per step."""
        return {"seen": sum(map(math.isfinite, self._rewards)), "rewards": [float(f"{m:.6g}") for m in self._means]}
