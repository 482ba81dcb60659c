"""TRL's SFTTrainer, driven by a `Loop`: on the gold answers of the support split, or on rows that a method gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from bench.errors import Refused
from methods.training.cat_weights import Array
from methods.training.loop import LogCallback, Loop, silence
from methods.training.trainers import micro_batch, shared_arguments

if TYPE_CHECKING:
    from methods.training.config import TrainingConfig

IGNORED = -100
"""Label of tokens without a loss."""
Weigh = Callable[[Array], Array]
"""Returns the weight of each gold answer of a batch, given the model's probability of it."""
Example = dict[str, list[int]]
"""Prompt and answer as `input_ids`, and as `labels`, which are `IGNORED` for the tokens without a loss."""
Examples = Callable[[], Sequence[Example]]
"""Returns the examples of the step that has begun, `schedule.batch` of them in all processes together; none for a step
without an update. All processes call it, and each trains on its part."""


class Tuner(SFTTrainer):
    """Supervised fine-tuning. The prompt has no loss.

    The examples of a step are asked for when it begins, because a method may make them with the weights that the step
    before has left. The passes that this takes are part of the step.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
        weigh: Weights of the answers, which are relative to the batch; None for cross-entropy.
        examples: Source of the examples; None for the gold answers of the support split, in the loop's order.

    Raises:
        Refused: If answers are weighed, and a process's part of a batch does not fit one pass.
    """

    def __init__(
        self,
        config: TrainingConfig,
        loop: Loop,
        folder: str,
        weigh: Weigh | None = None,
        examples: Examples | None = None,
    ) -> None:
        training, batch = loop.training, loop.schedule.batch
        steps = 4 * loop.schedule.train // batch + 1
        per_process = batch // training.ranks.world_size
        if weigh is not None and per_process > (most := training.batch_size):
            raise Refused(
                f"a batch of {per_process} gold answers does not fit one pass of {most}, and weights are relative to "
                f"the batch; take a --set batch of at most {most * training.ranks.world_size}, or a larger --batch-size"
            )
        micro = micro_batch(per_process, training.batch_size)
        self._loop, self._micro, self._examples = loop, micro, examples or golds(loop)
        arguments = SFTConfig(
            **shared_arguments(loop, folder),
            max_steps=steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=per_process // micro,
            max_grad_norm=config.clip,
            max_length=None,
            loss_type="nll",
        )
        unread: Example = {"input_ids": [0], "labels": [0]}  # the trainer takes its number of steps from a data set
        super().__init__(
            model=training.model,
            args=arguments,
            train_dataset=Dataset.from_list([unread]).select([0] * (steps * batch)),
            processing_class=training.tokenizer,
            compute_loss_func=gold_loss(weigh),
            callbacks=[LogCallback(loop, {"loss": "loss", "grad_norm": "norm", "entropy": "entropy"})],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        silence(self)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Begin a step, and return its passes: this process's part of its examples."""
        rows, ranks = self._begin(), self._loop.training.ranks
        starts = range(self._micro * ranks.rank, len(rows), self._micro * ranks.world_size)
        passes = [self.data_collator(list(rows[start : start + self._micro])) for start in starts]
        return super().get_batch_samples(iter(passes), num_batches, device)

    def _begin(self) -> Sequence[Example]:
        """Begin steps, and end those without an update, until one has examples."""
        while True:
            self._loop.begin_step()
            if rows := self._examples():
                return rows
            self._loop.end_step({})


def example(prompt: Sequence[int], answer: Sequence[int]) -> Example:
    """Return an example from the token ids of a prompt and of an answer with its end."""
    return {"input_ids": [*prompt, *answer], "labels": [IGNORED] * len(prompt) + [*answer]}


def golds(loop: Loop) -> Examples:
    """Return the gold answers of the support split as a source: in a new random order each epoch."""
    tokenizer, batch = loop.training.tokenizer, loop.schedule.batch
    rows = []
    for prompt in loop.training.prompts:
        gold = tokenizer.encode(prompt.gold, add_special_tokens=False)
        rows.append(example(prompt.token_ids, [*gold, tokenizer.eos_token_id]))
    order: Iterator[int] = loop.order(batch)
    return lambda: [rows[index] for index in islice(order, batch)]


def gold_loss(weigh: Weigh | None) -> Callable[..., torch.Tensor]:
    """Return a loss function for gold answers: the negative log-likelihood per token, weighted by answer.

    Args:
        weigh: See `Tuner`.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        targets = labels[:, 1:]
        kept = targets != IGNORED
        logits = outputs.logits[:, :-1].float()
        tokens = torch.log_softmax(logits, dim=-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        likelihood = (tokens * kept).sum(dim=-1)
        if weigh is not None:
            p = likelihood.detach().double().exp().clamp(max=1.0).cpu().numpy()
            likelihood = torch.as_tensor(weigh(p)).to(likelihood) * likelihood
        count = kept.sum() if num_items_in_batch is None else num_items_in_batch
        return -likelihood.sum() / count

    return loss
