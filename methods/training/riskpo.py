"""Risk-based policy optimisation (RiskPO, Ren et al. 2025, arXiv 2510.00911): GRPO on the low tail of bundles' scores.

B questions form a bundle. Their j-th answers are a paper, and the score s of a paper is the sum of its answers'
rewards. With q_lo and q_hi the quantiles of the scores at the levels alpha and beta, the paper's advantage is that of a
mixture of two risk measures, the conditional value at risk below q_lo and the range between both:

    A_CVaR = -(q_lo - s)+ / alpha
    A_RVaR = ((s - q_lo)+ - (s - q_hi)+ + q_lo - q_hi) / (beta - alpha)
    A = (omega A_CVaR + A_RVaR) / (omega + 1)

All answers of a paper have its advantage, divided by the standard deviation of the bundle's scores and by that of the
question's rewards. So the advantages are 0 above q_hi and negative below it, and papers with low scores have the
steepest ones. The quantiles are those of the first batch, and then follow the scores by stochastic gradient steps:
q <- q + rate * (level - share of the scores below q).

The same in one function: A = u(s) - u(q_hi), with u(s) = (omega min(s, q_lo) / alpha + clip(s, q_lo, q_hi) /
(beta - alpha)) / (omega + 1). With `baseline=mean`, the mean of u over the bundle's papers takes the place of u(q_hi).
No score lies beyond the quantiles of the levels 0 and 1, so they are -inf and inf. Therefore at omega = 0, alpha = 0,
beta = 1, B = 1, with baseline=mean and scaled=false, A = s - mean(s): GRPO without scaling, step for step.

Differences from the paper and its released code:

- A standard deviation below 0.001 counts as 1. The released code does so for a question, but divides the advantages of
  a bundle whose papers have equal scores by a millionth, and these would decide the whole step.
- Papers with an answer that could not be scored have advantage 0.
- The paper weighs sequences by clipped importance ratios. Here each batch takes one step, so all ratios are 1.
- All other settings, and the loss, are those of `grpo` by default here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bench.settings import setting
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import GroupMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

PAPER = "arXiv 2510.00911"
SMALLEST = 1e-3
"""Smallest standard deviation that advantages are divided by."""

Array = NDArray[np.float64]


class RiskPoConfig(GroupConfig):
    """Settings of RiskPO, in addition to those of every method that compares the answers of a group."""

    bundle: PositiveInt = setting(5, "Number of questions per bundle, the paper's B.", unit="questions", source=PAPER)
    omega: NonNegativeFloat = setting(1.5, "Weight of the tail below the quantile of level alpha.", source=PAPER)
    alpha: Annotated[float, Field(ge=0, lt=1)] = setting(0.2, "Level of the lower quantile.", source=PAPER)
    beta: Annotated[float, Field(gt=0, le=1)] = setting(
        0.8,
        "Level of the upper quantile, above which papers have advantage 0; 0.9 in the released run on GSM8K and MATH.",
        source=PAPER,
    )
    rate: PositiveFloat = setting(0.1, "Learning rate of the quantiles.", source=f"the released code of {PAPER}")
    baseline: Literal["quantile", "mean"] = setting(
        "quantile",
        "Score whose advantage is 0: that of the upper quantile, or with `mean` the bundle's mean.",
        source=PAPER,
    )
    scaled: bool = setting(
        True,
        "Whether advantages are divided by the standard deviations of the bundle and of the question.",
        source=f"the released code of {PAPER}",
    )

    @model_validator(mode="after")
    def _levels(self) -> RiskPoConfig:
        if self.alpha >= self.beta:
            raise ValueError(f"alpha={self.alpha:g}: expected less than beta={self.beta:g}")
        if self.alpha == 0 and self.omega > 0:
            raise ValueError(f"omega={self.omega:g}: there is no tail below level alpha=0; expected omega=0")
        if self.beta == 1 and self.baseline == "quantile":
            raise ValueError("baseline=quantile: beta=1 has no finite quantile; expected baseline=mean")
        return self


class RiskPo(GroupMethod):
    """GRPO whose advantages weigh the low tail of the scores of bundles of questions."""

    name = "riskpo"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = RiskPoConfig
    config: RiskPoConfig
    batch = 80
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *GroupMethod.variants,
        {"baseline": "mean", "bundle": 2, "lr": 1e-3},
    )
    what = "answers, in bundles of groups"

    @property
    def multiple(self) -> int:
        """Number that must divide the batch, which has whole bundles, and equal parts for processes."""
        return math.lcm(self.config.group * self.config.bundle, super().multiple)

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer with the advantages of the bundles."""
        from methods.training.trainers import GroupTrainer

        def advantages(columns: Array, plain: NDArray[np.float32]) -> Array:
            scores = paper_scores(columns[0], self.config.bundle)
            known = scores[~np.isnan(scores)]
            if not known.size:
                return np.zeros(plain.shape)
            quantiles = loop.memory.get("quantiles")
            if first := quantiles is None:
                quantiles = first_quantiles(known, (self.config.alpha, self.config.beta))
            loop.memory["quantiles"] = quantiles if first else tracked(quantiles, known, self.config)
            return bundle_advantages(columns[0], quantiles, self.config)

        GroupTrainer(self.config, loop, folder, scaled=False, advantages=advantages).train()


def paper_scores(rewards: Array, bundle: int) -> Array:
    """Return the score of each paper, [bundles, group]; NaN where an answer could not be scored.

    Args:
        rewards: Reward of each answer, [questions, group]; NaN where unscored.
        bundle: Number of questions per bundle.
    """
    scores: Array = rewards.reshape(-1, bundle, rewards.shape[1]).sum(axis=1)
    return scores


def first_quantiles(scores: Array, levels: Sequence[float]) -> list[float]:
    """Return the quantiles of a batch's scores. No score lies beyond those of the levels 0 and 1, -inf and inf."""
    ends = {0.0: -np.inf, 1.0: np.inf}
    return [ends.get(level, float(np.quantile(scores, level))) for level in levels]


def tracked(quantiles: Sequence[float], scores: Array, config: RiskPoConfig) -> list[float]:
    """Return the quantiles after a gradient step on a batch's scores."""
    levels = (config.alpha, config.beta)
    return [q + config.rate * (level - float((scores < q).mean())) for q, level in zip(quantiles, levels, strict=True)]


def utility(score: Array | float, quantiles: Sequence[float], config: RiskPoConfig) -> Any:
    """Return the value u of scores, of which the advantages are differences. See the module's docstring."""
    low, high = quantiles
    tail = config.omega * np.minimum(score, low) / config.alpha if config.omega else 0.0
    return (tail + np.clip(score, low, high) / (config.beta - config.alpha)) / (config.omega + 1)


def bundle_advantages(rewards: Array, quantiles: Sequence[float], config: RiskPoConfig) -> Array:
    """Return the advantage of each answer, [questions, group].

    Args:
        rewards: Reward of each answer, [questions, group]; NaN where unscored.
        quantiles: Quantiles of the scores at the levels alpha and beta.
        config: Settings.
    """
    scores = paper_scores(rewards, config.bundle)
    values = utility(scores, quantiles, config)
    found = values - (_mean(values) if config.baseline == "mean" else utility(quantiles[1], quantiles, config))
    if config.scaled:
        found = found / _deviation(scores)
    answers: Array = np.repeat(found, config.bundle, axis=0)
    if config.scaled:
        answers = answers / _deviation(rewards)
    return np.nan_to_num(answers, nan=0.0)


def _mean(values: Array) -> Array:
    """Return the mean of the known values of each row, [rows, 1]."""
    count = (~np.isnan(values)).sum(axis=1, keepdims=True)
    mean: Array = np.nansum(values, axis=1, keepdims=True) / np.maximum(count, 1)
    return mean


def _deviation(values: Array) -> Array:
    """Return the standard deviation of the known values of each row, [rows, 1]; 1 where there is next to none."""
    count = (~np.isnan(values)).sum(axis=1, keepdims=True)
    squares = np.nansum((values - _mean(values)) ** 2, axis=1, keepdims=True)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    return np.where(deviation > SMALLEST, deviation, 1.0)
