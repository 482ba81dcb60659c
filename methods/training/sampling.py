"""Answers sampled from the model in training, for methods that do not sample through a trainer of TRL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from trl.trainer.utils import pad

from methods.training.loop import Loop


class Sampled(NamedTuple):
    """A sampled answer with its score.

    Attributes:
        prompt: Index of its prompt in `Training.prompts`.
        tokens: Token ids of the answer, its end included.
        correct: Whether it is right; False where it could not be judged.
        truncated: Whether it was cut off at the limit on its length.
    """

    prompt: int
    tokens: tuple[int, ...]
    correct: bool
    truncated: bool


def sample(loop: Loop, prompts: Sequence[int], temperature: float) -> list[Sampled]:
    """Sample one answer to each prompt from the present weights, and score it for the row of this step.

    Each of several processes samples its part, and all return all answers, in the order of the prompts.

    Args:
        loop: Training loop, within a step.
        prompts: Indices in `Training.prompts`; an index may occur several times. Their number is a multiple of the
            number of processes.
        temperature: Softmax temperature.
    """
    training = loop.training
    ranks, part, size = training.ranks, len(prompts) // training.ranks.world_size, training.batch_size
    own, found = prompts[part * ranks.rank : part * (ranks.rank + 1)], []
    for start in range(0, part, size):
        rows = own[start : start + size]
        tokens = [torch.tensor(training.prompts[index].token_ids) for index in rows]
        training.model.generate(
            input_ids=pad(tokens, training.tokenizer.pad_token_id, "left").to(training.model.device),
            attention_mask=pad([torch.ones_like(ids) for ids in tokens], 0, "left").to(training.model.device),
            max_new_tokens=training.max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_p=1.0,
            top_k=0,
        )
        rollouts = training.rollouts
        scores = loop.score([training.prompts[index].id for index in rows], [each.answer for each in rollouts])
        for index, rollout, score in zip(rows, rollouts, scores, strict=True):
            found.append(Sampled(index, rollout.answer, score.correct, rollout.truncated))
    return [each for answers in ranks.gather(found) for each in answers]
