"""TRL's SFTTrainer on the gold answers of the support split, driven by a `Loop`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from bench.errors import Refused
from methods.training.cat_weights import Array
from methods.training.loop import Loop, StepCallback, silence
from methods.training.trainers import micro_batch, shared_arguments

if TYPE_CHECKING:
    from methods.training.config import TrainingConfig

IGNORED = -100
"""Label of tokens without a loss."""
Weigh = Callable[[Array], Array]
"""Returns the weight of each gold answer of a batch, given the model's probability of it."""


class Tuner(SFTTrainer):
    """Supervised fine-tuning on gold answers. The prompt has no loss.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
        weigh: Weights of the answers, which are relative to the batch; None for cross-entropy.

    Raises:
        Refused: If answers are weighed, and a process's part of a batch does not fit one pass.
    """

    def __init__(self, config: TrainingConfig, loop: Loop, folder: str, weigh: Weigh | None = None) -> None:
        training, batch = loop.training, loop.schedule.batch
        steps = 4 * loop.schedule.train // batch + 1
        per_process = batch // training.ranks.world_size
        if weigh is not None and per_process > (most := training.batch_size):
            raise Refused(
                f"a batch of {per_process} gold answers does not fit one pass of {most}, and weights are relative to "
                f"the batch; take a --set batch of at most {most * training.ranks.world_size}, or a larger --batch-size"
            )
        micro = micro_batch(per_process, training.batch_size)
        rows = []
        for prompt in training.prompts:
            gold = [*training.tokenizer.encode(prompt.gold, add_special_tokens=False), training.tokenizer.eos_token_id]
            labels = [IGNORED] * len(prompt.token_ids) + gold
            rows.append({"input_ids": [*prompt.token_ids, *gold], "labels": labels})
        order = list(islice(loop.order(batch), steps * batch))
        arguments = SFTConfig(
            **shared_arguments(loop, folder),
            max_steps=steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=per_process // micro,
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
            compute_loss_func=gold_loss(weigh),
            callbacks=[StepCallback(loop, {"loss": "loss", "grad_norm": "norm", "entropy": "entropy"})],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        silence(self)


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
