"""TRL's trainers with the weights of compute-aligned training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bench.distributed import ProcessGroup
from bench.strategy import Strategy, parse_strategy
from methods.training.cat_weights import (
    Array,
    best_rl,
    majority,
    majority_sft,
    normalised,
    others_rl,
    pass_sft,
    rival_threshold,
)
from methods.training.loop import Loop
from methods.training.trainers import GroupTrainer
from methods.training.tuner import Tuner, Weigh

if TYPE_CHECKING:
    from methods.training.config import CatConfig

NO_VOTE = -1.0
"""Number that stands for an answer without a vote."""


class AlignedGroupTrainer(GroupTrainer):
    """GRPO whose advantages are multiplied by the weights of the objective.

    Correctness and votes are passed to TRL as further reward functions with weight 0, so that TRL gathers them over all
    processes along with the rewards.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: CatConfig, loop: Loop, folder: str) -> None:
        objective = parse_strategy(config.objective)

        def weighed(columns: Array, advantages: NDArray[np.float32]) -> NDArray[np.float32]:
            return advantages * group_weights(objective, columns).astype(np.float32).reshape(advantages.shape)

        # The trainer leaves an unscored answer out only if all its reward functions give None.
        def correct(**_: Any) -> list[float | None]:
            return [None if score.status == "infrastructure" else float(score.correct) for score in loop.scores]

        def vote(example: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
            votes = loop.training.votes(example, completion_ids)
            # A float32 holds 24 bits exactly. Two different votes collide once in 2^24 pairs.
            numbers = [NO_VOTE if v is None else float(crc32(repr(v).encode()) >> 8) for v in votes]
            scored = [score.status != "infrastructure" for score in loop.scores]
            return [number if known else None for number, known in zip(numbers, scored, strict=True)]

        votes = objective.kind == "maj"
        columns = [correct, vote] if votes else [correct]
        super().__init__(
            config,
            loop,
            folder,
            columns,
            loss=config.loss,
            updates=config.steps_per_batch,
            scaled=config.scaled,
            advantages=weighed,
        )


def group_weights(objective: Strategy, columns: Array) -> Array:
    """Return the weight of each answer of a batch, with mean 1 over the groups whose rewards differ.

    Other groups give no gradient, so their weights do not matter.

    Args:
        objective: Strategy that the model is trained for.
        columns: Values per answer, [2 or 3, groups, group]: reward; whether correct; for a majority objective, a number
            that identifies the vote (`NO_VOTE` for none). NaN marks an unscored answer, which does not count in its
            group.

    Returns:
        Weights, [groups * group].
    """
    kind, n = objective
    reward, correct = columns[:2]
    scored = ~np.isnan(correct)
    highest = np.where(scored, reward, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(scored, reward, np.inf).min(axis=1, keepdims=True)
    if kind == "bon":
        # An unscored answer ranks last, and its advantage is 0.
        weights = best_rl(np.nan_to_num(reward, nan=-np.inf), n)
    else:
        right, wrong = scored & (correct > 0), scored & ~(correct > 0)
        others_right = right.sum(axis=1, keepdims=True) - right
        others_wrong = wrong.sum(axis=1, keepdims=True) - wrong
        k = np.ones(reward.shape)
        if kind == "maj":
            rivals = _rival_votes(columns[2], wrong)
            k = rival_threshold(n, rivals / np.maximum(others_right + others_wrong, 1))
        weights = others_rl(others_right, others_wrong, n, k)
    return normalised(weights, scored & (highest > lowest)).ravel()


def _rival_votes(votes: Array, wrong: NDArray[np.bool_]) -> Array:
    """Return the votes for the most common wrong answer among the other answers of a group, [groups, group]."""
    voting = wrong & (votes != NO_VOTE)
    same = voting[:, :, None] & voting[:, None, :] & (votes[:, :, None] == votes[:, None, :])
    # Entry [g, i, j]: votes for the answer of j, without that of i; 0 for j = i, which is not one of the others.
    without = same.sum(axis=1)[:, None, :] - same
    without[:, np.arange(votes.shape[1]), np.arange(votes.shape[1])] = 0
    count: Array = without.max(axis=2)
    return count


class AlignedTuner(Tuner):
    """Supervised fine-tuning on gold answers with the weights of the objective.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.

    Raises:
        Refused: If a process's part of a batch does not fit one pass.
    """

    def __init__(self, config: CatConfig, loop: Loop, folder: str) -> None:
        super().__init__(config, loop, folder, gold_weights(parse_strategy(config.objective), loop.training.ranks))


def gold_weights(objective: Strategy, ranks: ProcessGroup) -> Weigh:
    """Return a function that weighs gold answers by the model's probability of them.

    Args:
        objective: Strategy that the model is trained for.
        ranks: Training group. The weights have mean 1 over the parts of the batch in all its processes.
    """
    kind, n = objective

    def weigh(p: Array) -> Array:
        weights = pass_sft(p, n) if kind == "pass" else majority_sft(p, n, majority(n))
        return normalised(np.stack(ranks.gather(weights)))[ranks.rank]

    return weigh
