"""Choosing prompts of intermediate difficulty by a value estimate that is learned as training goes.

The estimate is a ridge regression of the mean reward on the policy's own last hidden state at the end of the prompt.
Its passes are those of the trainable copy inside a step, so the harness bills them; the regression's own arithmetic is
like an optimiser's and is not billed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.interface import Training, derive

Array = NDArray[np.floating]


class Intermediate:
    """Takes of random candidates those whose expected reward is nearest to a threshold.

    Args:
        training: Whose policy is asked, and whose prompts are chosen.
        seed: Of the run.
        candidates: For each prompt that is chosen.
        threshold: The expected reward that is sought; also what is expected before anything was seen.
        ridge: Of the regression.
        memory: What an observation still counts a step later.
    """

    def __init__(
        self, training: Training, seed: int, candidates: int, threshold: float, ridge: float, memory: float
    ) -> None:
        self._training, self._seed = training, seed
        self._candidates, self._threshold, self._ridge, self._memory = candidates, threshold, ridge, memory
        size = training.model.config.hidden_size + 1
        self._products, self._moments = np.zeros((size, size)), np.zeros(size)
        self._steps: list[list[float]] = []  # of each step: expected reward, reward, error, error of no estimate
        self._asked: tuple[Array, Array] | None = None

    def choose(self, step: int, count: int) -> list[int]:
        """Return the candidates nearest to the threshold, in the order in which they were drawn."""
        prompts = len(self._training.prompts)
        draws = np.random.default_rng(derive(self._seed, "pcl candidates", step))
        pool = draws.choice(prompts, size=max(count, min(prompts, self._candidates * count)), replace=count > prompts)
        features = self._features(pool.tolist())
        expected = np.clip(self._threshold + features @ self._weights(), 0.0, 1.0)
        kept = np.sort(np.argsort(np.abs(expected - self._threshold), kind="stable")[:count])
        self._asked = features[kept], expected[kept]
        return [int(place) for place in pool[kept]]

    def learn(self, chosen: Sequence[int], rewards: Sequence[float]) -> None:
        """Add the mean reward of each prompt to the regression; earlier steps count less."""
        assert self._asked is not None
        features, expected = self._asked
        seen = np.asarray(rewards, dtype=np.float64)
        judged = ~np.isnan(seen)
        features, expected, seen = features[judged], expected[judged], seen[judged]
        self._products = self._memory * self._products + features.T @ features
        self._moments = self._memory * self._moments + features.T @ (seen - self._threshold)
        if seen.size:
            errors = np.abs(expected - seen), np.abs(self._threshold - seen)
            self._steps.append([float(column.mean()) for column in (expected, seen, *errors)])

    def _weights(self) -> Array:
        return np.linalg.solve(self._products + self._ridge * np.eye(len(self._moments)), self._moments)

    def _features(self, places: Sequence[int]) -> Array:
        """The policy's last hidden state after each prompt, scaled to length 1, and a one; [prompts, hidden + 1]."""
        size = self._training.batch_size
        parts = [self._pass(places[start : start + size]) for start in range(0, len(places), size)]
        hidden = torch.cat(parts).double().cpu().numpy()
        hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
        return np.hstack([hidden, np.ones((len(places), 1))])

    def _pass(self, places: Sequence[int]) -> torch.Tensor:
        training = self._training
        prompts = [list(training.prompts[place].token_ids) for place in places]
        width, pad = max(map(len, prompts)), training.tokenizer.pad_token_id
        # Padded on the right: what stands behind the last token changes nothing before it.
        ids = torch.tensor([prompt + [pad] * (width - len(prompt)) for prompt in prompts])
        mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts])
        device = training.model.device
        with torch.no_grad():
            output = training.model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                use_cache=False,
                output_hidden_states=True,
                logits_to_keep=1,
            )
        last = [len(prompt) - 1 for prompt in prompts]
        state: torch.Tensor = output.hidden_states[-1][range(len(prompts)), last]
        return state

    def state(self) -> dict[str, Any]:
        """Return the regression, and what it foretold so far."""
        products, moments = torch.from_numpy(self._products), torch.from_numpy(self._moments)
        return {"products": products, "moments": moments, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved regression."""
        self._products, self._moments = state["products"].cpu().numpy(), state["moments"].cpu().numpy()
        self._steps = [list(step) for step in state["steps"]]

    def report(self) -> dict[str, Any]:
        """Return by step the expected and the seen reward of what was chosen, and the error of either guess."""
        columns = zip(*self._steps, strict=True) if self._steps else [[]] * 4
        names = ("expected", "reward", "error", "error_of_threshold")
        return {name: [float(f"{v:.6g}") for v in column] for name, column in zip(names, columns, strict=True)}
