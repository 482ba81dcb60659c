"""Variance-controlled policy optimisation (VCPO, arXiv 2602.17616): GRPO for answers of older weights.

Let w be the probability of an answer under the present weights by that under the weights that sampled it.

- Each optimiser step has the learning rate lr sqrt(ESS / B) (equation 5), where ESS = (sum w)^2 / sum w^2 is the
  effective sample size of its B answers.
- The baseline of a group is sum v R / sum v over its answers, with v = w^2 |grad log p|^2, which gives the estimate of
  the gradient the least variance.
- The gradient of an answer is multiplied by min(w, cap), in place of a clipped ratio. ESS and baseline take w itself.

As released for GSM8K: loss `grpo` and its advantages, divided by the deviation of the group; cap 8; groups of 8.

Differences from the paper:

- Answers are old because a batch takes several steps (`steps_per_batch`), not because they are sampled asynchronously.
  The first step of a batch is on-policy. As released, w comes from the log-probabilities of sampling, so no pass
  computes them.
- The exact |grad log p| of each answer would take a backward pass each. The squared norm of the gradient at the logits,
  sum over tokens of |onehot - p|^2, stands in its place: the forward pass gives it for free. It is exact up to a factor
  if the Jacobians of the logits are alike, and those of different tokens orthogonal.
- The parts of a batch are whole groups, in the order of the batch, because a baseline needs its group.
- An answer whose loss is masked (`truncated=mask`) has no gradient, so it counts neither in ESS nor in the baseline.

A part must fit one pass, because the step's learning rate and baselines must be known before its backward pass. With
`baseline=mean` and one step per batch, all weights are 1, and this equals `grpo` with the same `loss`, step for step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, field_validator

from bench.settings import setting
from methods.training.config import GrpoConfig, TrainingConfig
from methods.training.gradient import GradientMethod
from methods.training.group import ROLLOUT, UPDATE
from methods.training.grpo import Grpo
from methods.training.losses import Loss

if TYPE_CHECKING:
    from methods.training.loop import Loop

Array = NDArray[np.float64]

PAPER = "VCPO (arXiv 2602.17616)"


class VcpoConfig(GrpoConfig):
    """Settings of VCPO, in addition to those of GRPO."""

    loss: Loss = setting(
        "grpo",
        "How advantages are scaled, and how the values of tokens are averaged: `dapo`, `grpo` or `dr_grpo`.",
        source=f"{PAPER}, as released for GSM8K",
    )
    steps_per_batch: PositiveInt = setting(
        4, "Number of optimiser steps per batch, each on other groups of answers.", source="our choice, as in ppo"
    )
    baseline: Literal["weighted", "mean"] = setting(
        "weighted",
        "Baseline of a group's rewards; weighted: the one of least variance; mean: that of GRPO.",
        source=PAPER,
    )
    cap: PositiveFloat = setting(8.0, "Maximum weight of an answer.", source=PAPER)

    @field_validator("loss")
    @classmethod
    def _without_a_ratio(cls, loss: Loss) -> Loss:
        if loss in ("rloo", "gspo"):
            raise ValueError("VCPO weighs whole answers in a way of its own; expected dapo, grpo or dr_grpo")
        return loss


class Vcpo(Grpo):
    """Variance-controlled policy optimisation: GRPO with weights of answers, and steps as long as these allow."""

    name = "vcpo"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = VcpoConfig
    config: VcpoConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GradientMethod.variants,
        {"baseline": "mean", "steps_per_batch": 1, "lr": 1e-3},
    )
    cost = ROLLOUT + UPDATE

    @property
    def multiple(self) -> int:
        """Number that must divide the batch: each process takes whole groups in each update."""
        return self.config.group * self.processes * self.updates

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer with weights of answers."""
        from methods.training.vcpo_trainer import VarianceControlledTrainer

        VarianceControlledTrainer(self.config, loop, folder).train()


def effective_share(log_weights: Array) -> float:
    """Return ESS / B, the effective sample size as a share of the answers: 1 if all weights are equal.

    Args:
        log_weights: Logarithms of the answers' weights, [answers]. If there are none, the share is 1.
    """
    if not len(log_weights):
        return 1.0
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def recentred(advantages: Array, log_weights: Array, norms: Array, scored: NDArray[np.bool_]) -> Array:
    """Return the advantages over the baseline of least variance, given those over another baseline of each group.

    A baseline shifts all advantages of a group alike. The one of least variance makes the mean of the advantages,
    weighted by v = w^2 |grad log p|^2, zero.

    Args:
        advantages: Advantages of the answers, [groups, group].
        log_weights: Logarithms of their weights w.
        norms: Their squared gradient norms.
        scored: Whether each answer could be scored. The advantage of others is 0, and they do not count.
    """
    relative = np.exp(2 * (log_weights - log_weights.max(axis=1, keepdims=True))) * norms * scored
    total = relative.sum(axis=1, keepdims=True)
    shift = (relative * advantages).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    return (advantages - shift) * scored


def capped(log_weights: Array, cap: float) -> Array:
    """Return the weights, at most `cap`."""
    return np.exp(np.minimum(log_weights, math.log(cap)))
