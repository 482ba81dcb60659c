"""Choice of prompts of intermediate difficulty by an expected reward that is learned during training.

The expectation is a ridge regression of the mean reward on the policy's last hidden state after the prompt. It runs the
trainable copy inside a training step, so the harness bills its passes. The regression's own arithmetic is not billed,
like an optimiser's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.interface import Training
from methods.training.curriculum import endless_order

Array = NDArray[np.floating]


class IntermediateDifficulty:
    """Chooses the candidates whose expected reward is closest to a threshold.

    Args:
        training: The trainable copy and its prompts.
        seed: Seed of the run.
        candidates: Number of candidates per chosen prompt.
        threshold: Target of the expected reward, and its estimate before any observation.
        ridge: Strength of the ridge penalty.
        memory: Factor by which the weight of an observation decays per step, in (0, 1].
    """

    def __init__(
        self, training: Training, seed: int, candidates: int, threshold: float, ridge: float, memory: float
    ) -> None:
        self._training, self._seed = training, seed
        self._candidates, self._threshold, self._ridge, self._memory = candidates, threshold, ridge, memory
        size = training.model.config.get_text_config().hidden_size + 1
        self._products, self._moments = np.zeros((size, size)), np.zeros(size)
        self._steps: list[list[float]] = []  # per step: expected reward, reward, absolute error, error of the threshold
        self._latest: tuple[Array, Array] | None = None

    def choose(self, step: int, count: int) -> list[int]:
        """Return the next candidates that are closest to the threshold, in their order."""
        prompts = len(self._training.prompts)
        size = max(count, min(prompts, self._candidates * count))
        pool = list(islice(endless_order(self._seed, prompts, step * size), size))
        if size == count:
            self._latest = None
            return pool
        pool = list(dict.fromkeys(pool))  # where one epoch ends and the next begins, a prompt may occur twice
        features = self._features(pool)
        expected = np.clip(self._threshold + features @ self._weights(), 0.0, 1.0)
        kept = np.sort(np.argsort(np.abs(expected - self._threshold), kind="stable")[:count])
        self._latest = features[kept], expected[kept]
        return [pool[place] for place in kept]

    def learn(self, chosen: Sequence[int], rewards: Sequence[float], advantages: Sequence[float]) -> None:
        """Add the mean reward of each prompt to the regression. Without a choice there is nothing to learn."""
        if self._latest is None:
            return
        features, expected = self._latest
        observed = np.asarray(rewards, dtype=np.float64)
        scored = ~np.isnan(observed)
        features, expected, observed = features[scored], expected[scored], observed[scored]
        self._products = self._memory * self._products + features.T @ features
        self._moments = self._memory * self._moments + features.T @ (observed - self._threshold)
        if observed.size:
            errors = np.abs(expected - observed), np.abs(self._threshold - observed)
            self._steps.append([float(column.mean()) for column in (expected, observed, *errors)])

    def _weights(self) -> Array:
        return np.linalg.solve(self._products + self._ridge * np.eye(len(self._moments)), self._moments)

    def _features(self, indices: Sequence[int]) -> Array:
        """Return the last hidden state after each prompt, scaled to norm 1, and a constant 1: [prompts, hidden + 1]."""
        size = self._training.batch_size
        parts = [self._pass(indices[start : start + size]) for start in range(0, len(indices), size)]
        hidden = torch.cat(parts).double().cpu().numpy()
        hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
        return np.hstack([hidden, np.ones((len(indices), 1))])

    def _pass(self, indices: Sequence[int]) -> torch.Tensor:
        training = self._training
        prompts = [list(training.prompts[index].token_ids) for index in indices]
        width, pad = max(map(len, prompts)), training.tokenizer.pad_token_id
        # Padding on the right does not affect the hidden states before it.
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
        """Return the regression and the log of its predictions."""
        products, moments = torch.from_numpy(self._products), torch.from_numpy(self._moments)
        return {"products": products, "moments": moments, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._products, self._moments = state["products"].cpu().numpy(), state["moments"].cpu().numpy()
        self._steps = [list(step) for step in state["steps"]]

    def report(self) -> dict[str, Any]:
        """Return one value per step: expected and observed reward, and the errors of estimate and threshold."""
        columns = zip(*self._steps, strict=True) if self._steps else [[]] * 4
        names = ("expected", "reward", "error", "error_of_threshold")
        return {name: [float(f"{v:.6g}") for v in column] for name, column in zip(names, columns, strict=True)}
