"""Check that answers are trained on under the distribution that they were sampled from.

The ratio of a token is its probability in an update pass by its probability when it was sampled. Before the first
update of the weights both passes have the same weights, so the ratio is 1 up to rounding. Any other value means that
sampling and training differ: a penalty, a cut-off of unlikely tokens, another temperature, or dropout.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from bench.distributed import local
from bench.errors import BenchError
from methods.interface import Training

TOLERANCE, MIXED_TOLERANCE = 1e-4, 0.05
"""Maximum mean distance of the ratio from 1, with arithmetic in float32 and in bfloat16, which has 8 bits."""
ROUNDED_TOLERANCE = 0.2
"""The same for answers of an engine whose weights are rounded to half precision, while those in training are not.

The random model of the tests, whose weights are large, has .054 (bfloat16, 16 steps) and up to .092 in a step.
"""


class Ratio(NamedTuple):
    """Sums over the tokens of a batch before the first update.

    Attributes:
        tokens: Number of tokens.
        total: Sum of the ratios.
        distance: Sum of the distances of the ratios from 1.
    """

    tokens: int = 0
    total: float = 0.0
    distance: float = 0.0

    def plus(self, other: Ratio) -> Ratio:
        """Return the sums over both batches."""
        return Ratio(self.tokens + other.tokens, self.total + other.total, self.distance + other.distance)

    def report(self) -> dict[str, float] | None:
        """Return the mean ratio and its mean distance from 1; None without sampled tokens.

        Example: `{"mean": 1.0, "distance": 2.1e-07, "tokens": 96}`.
        """
        if not self.tokens:
            return None
        mean, distance = self.total / self.tokens, self.distance / self.tokens
        return {"mean": float(f"{mean:.7g}"), "distance": float(f"{distance:.3g}"), "tokens": self.tokens}

    def check(self, *, mixed: bool, rollout_dtype: str | None = None) -> None:
        """Raise an error if the ratio is not 1.

        Args:
            mixed: Whether the arithmetic is in bfloat16.
            rollout_dtype: Dtype of the engine that sampled; None if the model in training sampled.

        Raises:
            BenchError: If the mean distance from 1 exceeds the tolerance.
        """
        tolerance = MIXED_TOLERANCE if mixed else TOLERANCE
        remedy = "Look for code of the checkpoint that acts in one of the two only, such as noise in training"
        if rollout_dtype not in (None, "float32"):
            tolerance, remedy = ROUNDED_TOLERANCE, f"The engine samples in {rollout_dtype}: take --dtype float32"
        if self.tokens and not self.distance / self.tokens <= tolerance:
            raise BenchError(
                f"before the first update the probability ratio of sampled tokens has a mean of "
                f"{self.total / self.tokens:.4g} and a mean distance from 1 of {self.distance / self.tokens:.3g}; "
                f"expected at most {tolerance}. Answers are sampled from another distribution than they are trained "
                f"under. {remedy}"
            )


class RatioCheck:
    """Measures the ratio in the update passes of a model until its first update.

    A step of the optimiser that has nothing to measure and moves nothing is no update: a step of dpo without a pair, or
    one whose answers are all masked.

    Args:
        training: The trainable copy.
        optimizer: Optimiser, whose first update ends the measurement.
        temperature: Softmax temperature of the rollouts.

    Attributes:
        ratio: Ratios so far in this process.
    """

    def __init__(self, training: Training, optimizer: torch.optim.Optimizer, temperature: float) -> None:
        self._training, self._temperature = training, temperature
        self.ratio = Ratio()
        self._handle = training.model.register_forward_hook(self._measure, with_kwargs=True)
        optimizer.register_step_pre_hook(self._end)

    def restart(self) -> None:
        """Measure anew, until the next update."""
        self._handle.remove()
        self.ratio = Ratio()
        self._handle = self._training.model.register_forward_hook(self._measure, with_kwargs=True)

    def _end(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """End the measurement at an update."""
        gradients = (local(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        # Another process may have measured all that there was, so a gradient ends it as well.
        if self.ratio.tokens or any(bool(gradient.any()) for gradient in gradients):
            self._handle.remove()

    def _measure(self, _: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        known = {(*rollout.prompt, *rollout.answer): rollout for rollout in self._training.rollouts}
        logits = output.logits.detach()
        first = given["input_ids"].shape[1] - logits.shape[1]  # trainers may ask for the last logits only
        for row, (ids, mask) in enumerate(zip(given["input_ids"], given["attention_mask"].bool(), strict=True)):
            places = mask.nonzero()[:, 0]
            if (rollout := known.get((*ids[places].tolist(),))) is None:
                continue
            sampled = len(rollout.prompt) + rollout.prefix
            targets = places[sampled:]
            before = places[sampled - 1 : -1] - first
            scores = torch.log_softmax(logits[row, before].float() / self._temperature, dim=-1)
            logprobs = scores.gather(-1, ids[targets][:, None])[:, 0]
            ratio = (logprobs - rollout.logprobs).double().exp()
            self.ratio = self.ratio.plus(Ratio(len(ratio), float(ratio.sum()), float((ratio - 1).abs().sum())))
