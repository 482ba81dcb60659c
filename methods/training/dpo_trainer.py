"""TRL's DPOTrainer on pairs that each step samples, driven by a `Loop`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from transformers import GenerationConfig
from trl import DPOConfig, DPOTrainer

from methods.training.dpo import pairs
from methods.training.loop import Loop, StepCallback, silence
from methods.training.trainers import shared_arguments

if TYPE_CHECKING:
    from methods.training.dpo import DpoConfig

COLUMNS = {"loss": "loss", "grad_norm": "norm", "unpaired": "unpaired"}
"""Columns of the trainer's log and their names in a row."""
PLACEHOLDER = {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}
"""Row that stands for one step in the trainer's data set. The step replaces it by the pairs that it samples."""

Pair = dict[str, list[int]]
"""Token ids of a prompt, of its right answer and of its wrong one, under the names of `PLACEHOLDER`."""


class PairTrainer(DPOTrainer):
    """DPOTrainer whose steps sample their pairs. TRL's loss is unchanged.

    The trainer takes one placeholder from its data set for each step. The step then runs as many passes as its pairs
    need, and none without a pair.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: DpoConfig, loop: Loop, folder: str) -> None:
        training, batch = loop.training, loop.schedule.batch
        self._loop, self._config = loop, config
        loop.check_ratio()
        self._prompts = batch // config.group
        self._order = loop.order(self._prompts)
        self._part = 1.0
        self._sampling = GenerationConfig(
            do_sample=True,
            temperature=config.temperature,
            top_p=1.0,
            top_k=0,
            max_new_tokens=training.max_new_tokens,
            pad_token_id=training.tokenizer.pad_token_id,
            bos_token_id=training.tokenizer.bos_token_id,
            eos_token_id=training.tokenizer.eos_token_id,
            disable_compile=True,
        )
        steps = 4 * loop.schedule.train // batch + 1  # more than the budget buys, even if answers become short
        arguments = DPOConfig(
            **shared_arguments(loop, folder),
            max_steps=steps,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=1,
            beta=config.beta,
            max_length=None,  # TRL would cut longer sequences
            max_grad_norm=config.clip,
            router_aux_loss_coef=0.0,  # the loss is that of DPO
        )
        super().__init__(
            model=training.model,
            ref_model=training.teacher(),
            args=arguments,
            train_dataset=Dataset.from_list([PLACEHOLDER] * steps),
            processing_class=training.tokenizer,
            callbacks=[StepCallback(loop, COLUMNS)],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        silence(self)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # it holds token ids already

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Sample the pairs of a step, and run the forward and backward passes over them."""
        found = self._sampled()
        size = max(1, self._loop.training.batch_size // 2)  # a pair is two sequences
        loss = torch.zeros((), device=self.args.device)
        for start in range(0, len(found), size):
            part = found[start : start + size]
            self._part = len(part) / len(found)
            loss += super().training_step(model, self.data_collator(part), num_items_in_batch)
        return loss

    def compute_loss(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the mean over the pairs of a pass, weighted by their share of the step's pairs."""
        loss: torch.Tensor = super().compute_loss(*args, **kwargs)
        return loss * self._part

    def _sampled(self) -> list[Pair]:
        """Sample groups of answers, and return the pairs in them."""
        loop, group, truncated = self._loop, self._config.group, self._config.truncated
        chosen = loop.choose(self._prompts) or list(islice(self._order, self._prompts))
        prompts = [loop.training.prompts[index] for index in chosen for _ in range(group)]
        ids = loop.training.tokenizer.pad({"input_ids": [list(p.token_ids) for p in prompts]}, return_tensors="pt")
        with torch.no_grad():
            loop.training.model.generate(**ids.to(self.args.device), generation_config=self._sampling)
        rollouts = loop.training.rollouts
        scores = loop.score([prompt.id for prompt in prompts], [rollout.answer for rollout in rollouts])
        cut = np.array([rollout.truncated for rollout in rollouts])
        known = np.array([score.status != "infrastructure" for score in scores])
        right = np.array([score.correct for score in scores])
        if truncated == "punish":
            right &= ~cut
        elif truncated == "mask":
            known &= ~cut
        found = pairs((known & right).reshape(-1, group), (known & ~right).reshape(-1, group))
        with_pair = {one // group for one, _ in found}
        self._metrics["train"]["unpaired"].append(1 - len(with_pair) / self._prompts)
        return [
            {
                "prompt_ids": list(rollouts[one].prompt),
                "chosen_ids": list(rollouts[one].answer),
                "rejected_ids": list(rollouts[other].answer),
            }
            for one, other in found
        ]
