"""TRL's trainers with compute-aligned weights."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from bench.distributed import ProcessGroup
from bench.errors import Refused
from bench.strategy import Strategy, parse_strategy
from methods.training.loop import Loop, Steps, quiet
from methods.training.trainers import GroupTrainer, shared_arguments
from methods.training.weights import (
    Array,
    best_rl,
    majority,
    majority_rl,
    majority_sft,
    normalised,
    pass_rl,
    pass_sft,
    rival_threshold,
)

if TYPE_CHECKING:
    from methods.training.config import CatConfig

IGNORED = -100
"""Label of what is not trained on."""
NO_VOTE = -1.0


class AlignedGroupTrainer(GroupTrainer):
    """GRPO whose advantages are multiplied by what an answer counts for the objective.

    Whether an answer is right and what it votes for travel with its reward, so that the trainer gathers them over
    processes as it does rewards.

    Args:
        config: Settings.
        loop: Decides on steps, and owns what is trained.
        folder: For what the trainer may want to write.
    """

    def __init__(self, config: CatConfig, loop: Loop, folder: str) -> None:
        self._objective = parse_strategy(config.objective)

        # None of what could not be judged, as its reward is: only then does the trainer leave an answer out.
        def correct(**_: Any) -> list[float | None]:
            return [None if score.status == "infrastructure" else float(score.correct) for score in loop.judged]

        def vote(example: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
            votes = loop.training.votes(example, completion_ids)
            # 24 bits are what a float32 holds; two answers of one group share them once in millions.
            numbers = [NO_VOTE if v is None else float(crc32(repr(v).encode()) >> 8) for v in votes]
            judged = [score.status != "infrastructure" for score in loop.judged]
            return [number if counts else None for number, counts in zip(numbers, judged, strict=True)]

        votes = self._objective.kind == "maj"
        super().__init__(config, loop, folder, [correct, vote] if votes else [correct])

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._gathered: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        return self._gathered

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        columns = self._gathered.double().cpu().numpy().T.reshape(self._gathered.shape[1], -1, self._group)
        weights = torch.as_tensor(group_weights(self._objective, columns)).to(output["advantages"])
        start = self.accelerator.process_index * len(inputs)
        output["advantages"] = output["advantages"] * weights[start : start + len(inputs)]
        return output


def group_weights(objective: Strategy, columns: Array) -> Array:
    """Return the weight of each answer of a batch, of mean 1.

    Args:
        objective: What is trained for.
        columns: [2 or 3, groups, group]: reward, whether right, and for a majority a number for each vote; NaN for
            answers that could not be judged, which are no part of their group.

    Returns:
        [groups * group].
    """
    kind, n = objective
    reward, right = columns[:2]
    judged = np.maximum((~np.isnan(right)).sum(axis=1), 1)
    p = np.nansum(right, axis=1) / judged
    if kind == "bon":
        # An answer that could not be judged ranks with the worst; its advantage is 0.
        return normalised(best_rl(np.nan_to_num(reward, nan=-np.inf), n).ravel())
    if kind == "pass":
        weights = pass_rl(p, n)
    else:
        weights = majority_rl(p, n, rival_threshold(n, _rival(columns[2], right) / judged))
    return normalised(np.repeat(weights, reward.shape[1]))


def _rival(votes: Array, right: Array) -> Array:
    """How many of each group gave its commonest wrong answer."""
    wrong = np.where((right > 0) | (votes == NO_VOTE), np.nan, votes)
    same = wrong[:, :, None] == wrong[:, None, :]
    count: Array = same.sum(axis=2).max(axis=1)
    return count


class AlignedTuner(SFTTrainer):
    """Supervised fine-tuning on gold answers, each counted by what it adds to the objective.

    Args:
        config: Settings.
        loop: Decides on steps, and owns what is trained.
        folder: For what the trainer may want to write.
    """

    def __init__(self, config: CatConfig, loop: Loop, folder: str) -> None:
        training, batch = loop.training, loop.schedule.batch
        steps = 4 * loop.schedule.train // batch + 1
        share = batch // training.ranks.world_size
        if share > (most := training.batch_size):
            raise Refused(
                f"a batch of {share} gold answers does not fit one pass of {most}, and weights are relative to the "
                f"batch; take a --set batch of at most {most * training.ranks.world_size}, or a larger --batch-size"
            )
        rows = []
        for posed in training.prompts:
            gold = [*training.tokenizer.encode(posed.gold, add_special_tokens=False), training.tokenizer.eos_token_id]
            labels = [IGNORED] * len(posed.token_ids) + gold
            rows.append({"input_ids": [*posed.token_ids, *gold], "labels": labels})
        order = list(islice(loop.order(batch), steps * batch))
        arguments = SFTConfig(
            **shared_arguments(training, folder),
            max_steps=steps,
            per_device_train_batch_size=share,
            max_grad_norm=config.clip,
            train_sampling_strategy="sequential",
            max_length=None,
            loss_type="nll",
        )
        super().__init__(
            model=training.model,
            args=arguments,
            train_dataset=Dataset.from_list(rows).select(order),
            processing_class=training.tokenizer,
            compute_loss_func=aligned_loss(parse_strategy(config.objective), training.ranks),
            callbacks=[Steps(loop, {"loss": "loss", "grad_norm": "norm", "entropy": "entropy"})],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        quiet(self)


def aligned_loss(objective: Strategy, ranks: ProcessGroup) -> Callable[..., torch.Tensor]:
    """Return the loss of a batch of gold answers: their weighted negative log-likelihood a token.

    Args:
        objective: What is trained for.
        ranks: The processes that have the batch's parts, over all of which weights have mean 1.
    """
    kind, n = objective

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        targets = labels[:, 1:]
        kept = targets != IGNORED
        logits = outputs.logits[:, :-1].float()
        tokens = torch.log_softmax(logits, dim=-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        likelihood = (tokens * kept).sum(dim=-1)
        p = likelihood.detach().double().exp().clamp(max=1.0).cpu().numpy()
        weights = pass_sft(p, n) if kind == "pass" else majority_sft(p, n, majority(n))
        parts = ranks.gather(weights)
        weights = normalised(np.stack(parts))[ranks.rank]
        count = kept.sum() if num_items_in_batch is None else num_items_in_batch
        return -(torch.as_tensor(weights).to(likelihood) * likelihood).sum() / count

    return loss
