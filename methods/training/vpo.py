"""Vector policy optimisation (VPO, arXiv 2605.22817): train for sets of answers of which each is good at something.

An answer has a vector r of rewards, the parts that its task names: for programs the tests, for mathematics the strict
and the flexible extractor. The reward of a set of m answers is what its best answer is worth on average over weights w
of these parts:

    R(y_1, ..., y_m) = E over w ~ Dirichlet(1) of max over i of w . r(x, y_i)

The expectation is a mean over `draws` of w, which all sets of a prompt share. Each answer has the reward of its set,
and GRPO makes advantages of these.

Differences from the paper:

- A set is m independent answers to the prompt, which form it in the order of sampling. In the paper the model writes
  all m in one rollout, with delimiters between them, and so can avoid what it has already said.
- The standard deviation that divides advantages is that of the `group` answers with their sets' rewards. That of the
  sets is larger, by a factor that depends on `group` and m alone: 1.12 for 16 and 4.
- All other settings, and the loss, are those of `grpo` by default, with its differences from the released baselines.

At m = 1, with one part, VPO is `grpo`. With one part and a larger m, R is the reward of the best of m answers (max@m).
If `--reward` replaces the reward, the replaced one is the only part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from bench.settings import setting
from methods.interface import Plan
from methods.space import Choices, Space
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import GroupMethod
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop

Array = NDArray[np.float64]
Parts = dict[str, float] | None
"""Parts of the reward of one answer, such as `{"number": 0.0, "length": 1.0}`; None for an answer without a score."""


class VpoConfig(GroupConfig):
    """Settings of vector policy optimisation, in addition to those of every method that compares answers."""

    group: Annotated[int, Field(ge=2)] = setting(
        16, "Number of answers per prompt, whose sets are compared.", unit="answers", source="our choice: four sets"
    )
    m: PositiveInt = setting(4, "Number of answers in a set.", unit="answers", source="arXiv 2605.22817")
    draws: PositiveInt = setting(64, "Number of weights w, over which a set's reward is a mean.", source="our choice")

    @model_validator(mode="after")
    def _sets(self) -> VpoConfig:
        if self.group % self.m or self.group < 2 * self.m:
            raise ValueError(
                f"group={self.group}: cannot be divided into two or more sets of m={self.m} answers; expected "
                f"m * 2, m * 3, ..., such as {max(2, round(self.group / self.m)) * self.m}"
            )
        return self


class Vpo(GroupMethod):
    """Vector policy optimisation: GRPO on sets of answers, each rewarded by its best answer under random weights."""

    name = "vpo"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = VpoConfig
    config: VpoConfig
    what = "answers, in sets"
    space: ClassVar[Space] = {**GroupMethod.space, "m": Choices((1, 2, 4))}

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys, and what the parts of the reward are."""
        plan, m = super().plan(evaluations, task), self.config.m
        one = f"the reward has no parts here, so that of a set is the reward of the best of its {m} answers"
        note = one if task.rewards_by is None else f"the parts of a reward are {task.rewards_by}"
        return replace(plan, notes=(*plan.notes, note))

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer with the advantages of sets."""
        from methods.training.vpo_trainer import SetTrainer

        SetTrainer(self.config, loop, folder).train()


def rewards_of_sets(groups: Sequence[Sequence[Parts]], m: int, draws: int, rng: np.random.Generator) -> Array:
    """Return for each answer the reward of its set, [groups, group]; NaN for an answer without a score.

    Args:
        groups: Parts of the rewards of the answers to each prompt, [groups, group].
        m: Number of answers in a set.
        draws: Number of weights.
        rng: Generator of the weights.
    """
    found = []
    for group in groups:
        vectors = reward_vectors(group)
        weights = rng.dirichlet(np.ones(vectors.shape[1]), size=draws)
        each = np.repeat(set_rewards(vectors, m, weights), m)
        found.append(np.where(np.isnan(vectors).any(axis=1), np.nan, each))
    return np.stack(found)


def reward_vectors(group: Sequence[Parts]) -> Array:
    """Return the parts of a group's rewards, [answers, parts]; a row of NaN for an answer without a score.

    A part that an answer lacks is 0.
    """
    names = sorted({name for parts in group for name in parts or {}}) or ["reward"]
    unknown = [float("nan")] * len(names)
    return np.array([unknown if parts is None else [parts.get(name, 0.0) for name in names] for parts in group])


def set_rewards(vectors: Array, m: int, weights: Array) -> Array:
    """Return the reward of each set of m answers in a row, [answers / m]; NaN for a set without a scored answer.

    Args:
        vectors: Rewards, [answers, parts].
        m: Number of answers in a set.
        weights: Weights of the parts, [draws, parts].
    """
    worth = (vectors @ weights.T).reshape(-1, m, len(weights))
    best = np.where(np.isnan(worth), -np.inf, worth).max(axis=1)
    mean = best.mean(axis=1)
    return np.where(np.isinf(mean), np.nan, mean)
