"""TRL's trainers, adapted so that a `Loop` can drive them. TRL's own computations are unchanged."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from transformers.utils import ModelOutput

from bench.seeds import derive
from methods.training.cat_weights import Array
from methods.training.loop import LogCallback, Loop, StepCallback, silence
from methods.training.losses import LOSSES, Loss, leave_one_out

# TRL imports its own modes of vLLM where vLLM is installed. They fail with the releases that this project supports, and
# are not used: an engine of the harness samples in their place.
with patch("trl.import_utils.is_vllm_available", lambda *_, **__: False):
    from trl import GRPOConfig, GRPOTrainer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

if TYPE_CHECKING:
    from methods.training.config import GroupConfig, PpoConfig


GROUP_COLUMNS = {"loss": "loss", "grad_norm": "norm", "frac_reward_zero_std": "flat"}
"""Columns of GRPOTrainer's log and their names in a row."""
VALUE_COLUMNS = {"loss/policy_avg": "loss", "loss/value_avg": "value_loss", "grad_norm": "norm"}
"""Columns of PPOTrainer's log and their names in a row."""


Advantages = Callable[[Array, NDArray[np.float32]], NDArray[np.floating[Any]]]
"""Returns the advantages of a batch of answers, [groups, group]. All processes call it with the whole batch.

Its first argument is the value of each answer by each reward function, the task's first, [functions, groups, group],
where NaN marks an answer that could not be scored. Its second is the advantages of GRPOTrainer, [groups, group]."""


Prefix = Callable[[str, int], Sequence[int]]
"""Returns the token ids that an answer begins with, given the id of its example and its place in the group."""


class GroupTrainer(GRPOTrainer):
    """GRPOTrainer on a task.

    Prompts are formatted as for every method, the reward is the task's scorer, and answers end where the base's
    decoding would end them.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
        rewards: Further reward functions with weight 0, whose values the trainer gathers over all processes.
        loss: Name of the loss.
        updates: Number of optimiser steps per batch, each on another part of its answers.
        scaled: Whether advantages are divided by the standard deviation of their group's rewards; None: as the loss has
            it.
        advantages: Returns the advantages to train on; None for those of the loss, as they are.
        prefix: Returns what each answer begins with; None if answers are sampled from their first token on.
        options: Further options of GRPOConfig.

    Attributes:
        columns: Columns of the trainer's log, with their names in a row.
    """

    columns: ClassVar[Mapping[str, str]] = GROUP_COLUMNS

    def __init__(
        self,
        config: GroupConfig,
        loop: Loop,
        folder: str,
        rewards: Sequence[Any] = (),
        *,
        loss: Loss = "dapo",
        updates: int = 1,
        scaled: bool | None = None,
        advantages: Advantages | None = None,
        prefix: Prefix | None = None,
        **options: Any,
    ) -> None:
        training, batch = loop.training, loop.schedule.batch
        loop.check_ratio()
        per_process, rule = batch // training.ranks.world_size, LOSSES[loss]
        self._loop, self._training, self._group = loop, training, config.group
        self._advantages = [f for f in (leave_one_out if rule.leave_one_out else None, advantages) if f is not None]
        self._prefix = prefix
        self._masked = config.truncated == "mask"
        steps = 4 * loop.schedule.train // batch + 1  # more than the budget buys, even if answers become short
        micro = micro_batch(per_process // updates, training.batch_size)
        arguments = GRPOConfig(
            **shared_arguments(loop, folder),
            max_steps=steps * updates,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=per_process // updates // micro,
            steps_per_generation=per_process // micro,
            num_generations=config.group,
            max_completion_length=training.max_new_tokens,
            temperature=config.temperature,
            top_p=1.0,
            top_k=0,
            max_grad_norm=config.clip,
            shuffle_dataset=False,  # the loop orders the prompts
            reward_weights=[1.0, *(0.0 for _ in rewards)],
            scale_rewards="group" if (rule.scaled if scaled is None else scaled) else "none",
            router_aux_loss_coef=0.0,  # the loss is that of GRPO; some mixtures of experts have no other
            **(rule.arguments() | options),
        )
        each = batch // config.group
        order = list(islice(loop.order(each), steps * each))
        self._rows = [{"prompt": p.prompt, "example": p.id} for p in training.prompts]

        def reward(example: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
            return loop.rewards(example, completion_ids)

        super().__init__(
            model=training.model,
            reward_funcs=[reward, *rewards],
            args=arguments,
            train_dataset=Dataset.from_list(self._rows).select(order),
            processing_class=training.tokenizer,
            callbacks=[StepCallback(loop, self._columns(), updates)],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        silence(self)

    def _columns(self) -> Mapping[str, str]:
        """Return the columns, with the trainer's entropy if the engine that samples returns none."""
        return self.columns if self._training.rollout_dtype is None else {**self.columns, "entropy": "entropy"}

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # Not in the data set, because the trainer fetches a batch before the previous step is done.
        if (chosen := self._loop.choose(self._loop.schedule.batch // self._group)) is not None:
            start = self.accelerator.process_index * len(inputs)
            rows = [self._rows[index] for index in chosen for _ in range(self._group)]
            inputs = rows[start : start + len(inputs)]
        self._examples = [row["example"] for row in inputs]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        found = self.accelerator.gather(output["advantages"]).view(-1, self._group)
        if self._advantages:
            rewards = self._gathered.double().cpu().numpy().T.reshape(self._gathered.shape[1], -1, self._group)
            for advantages in self._advantages:
                found = torch.as_tensor(advantages(rewards, found.cpu().numpy())).to(found)
            start = self.accelerator.process_index * len(inputs)
            output["advantages"] = found.flatten()[start : start + len(inputs)]
        if self._masked:
            # Not the trainer's own setting, which takes an answer that ends at a stop string for a truncated one.
            kept = torch.tensor([[not rollout.truncated] for rollout in self._loop.rollouts])
            kept = kept.to(output["completion_mask"])
            mask = output["completion_mask"] * kept
            output |= {"completion_mask": mask, "num_items_in_batch": self.accelerator.gather(mask.sum()).sum()}
            found = found * self.accelerator.gather(kept).view(-1, self._group)  # what has no loss teaches nothing
        self._loop.advantages = found.abs().mean(dim=1).tolist()
        return output

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._gathered: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        return self._gathered

    def _generate_single_turn(self, prompt_ids: Any, images: Any, fields: Any) -> tuple[list[list[int]], Any]:
        if self._prefix is not None:
            start = self.accelerator.process_index * len(prompt_ids)
            prefixes = [list(self._prefix(e, (start + i) % self._group)) for i, e in enumerate(self._examples)]
            if any(prefixes):
                prompt_ids = [[*ids, *prefix] for ids, prefix in zip(prompt_ids, prefixes, strict=True)]
                fields = fields | {"prefix_lengths": torch.tensor(list(map(len, prefixes)))}
        # The trainer would take tokens after an end that it does not know, such as a stop string, for the answer's.
        _, logprobs = super()._generate_single_turn(prompt_ids, images, fields)
        return [list(rollout.answer) for rollout in self._training.rollouts], logprobs


class PolicyValueTrainer(PPOTrainer):
    """PPOTrainer on a task.

    PPOTrainer has no hook before a step and cannot resume. Its data loader is replaced by `Batches`, which does both.

    Args:
        config: Settings.
        loop: Training loop with the policy and the value model.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: PpoConfig, loop: Loop, folder: str) -> None:
        training, batch = loop.training, loop.schedule.batch
        per_process = batch // training.ranks.world_size
        loop.check_ratio()
        policy, value = loop.modules
        reward = TaskReward(loop)
        arguments = PPOConfig(
            **shared_arguments(loop, folder),
            total_episodes=loop.schedule.train * batch,
            per_device_train_batch_size=per_process,
            # Must be 1: with accumulation, the trainer's mini-batches would not step the optimiser.
            gradient_accumulation_steps=1,
            num_mini_batches=config.mini_batches,
            num_ppo_epochs=1,
            local_rollout_forward_batch_size=per_process,
            response_length=training.max_new_tokens,
            stop_token="eos",
            temperature=config.temperature,
            kl_coef=0.0,
            cliprange=0.2,
            gamma=1.0,
            lam=1.0,
            num_sample_generations=0,
        )
        super().__init__(
            args=arguments,
            processing_class=training.tokenizer,
            model=policy,
            ref_model=NoReference(policy.config.get_text_config().vocab_size),
            reward_model=reward,
            train_dataset=Dataset.from_list([{"input_ids": list(p.token_ids)} for p in training.prompts]),
            value_model=value,
            optimizers=(loop.optimizer, loop.scheduler),
            callbacks=[LogCallback(loop, VALUE_COLUMNS)],
        )
        self._norms: list[float] = []
        loop.optimizer.register_step_pre_hook(lambda optimizer, *_: self._norms.append(_clip(optimizer, config.clip)))
        self.dataloader = Batches(loop, reward, self.data_collator)
        silence(self)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log a step, with the mean norm of the policy's gradient."""
        logs["grad_norm"] = sum(self._norms) / len(self._norms)
        self._norms.clear()
        super().log(logs, *args, **kwargs)

    def train(self) -> None:
        """Train. The trainer collects garbage twice per step, so objects that exist already are exempted for speed."""
        gc.freeze()
        try:
            super().train()
        finally:
            gc.unfreeze()


class Batches:
    """Data loader that starts each step of the loop and yields this process's prompts.

    Args:
        loop: Training loop.
        reward: Reward module, which is told the examples of each batch.
        collate: Function that pads a batch.
    """

    def __init__(self, loop: Loop, reward: TaskReward, collate: Any) -> None:
        self._loop, self._reward, self._collate = loop, reward, collate

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        loop, batch, ranks = self._loop, self._loop.schedule.batch, self._loop.training.ranks
        per_process, order = batch // ranks.world_size, loop.order(batch)
        while True:
            loop.begin_step()
            indices = loop.choose(batch) or list(islice(order, batch))
            own = indices[per_process * ranks.rank : per_process * (ranks.rank + 1)]
            prompts = [loop.training.prompts[i] for i in own]
            self._reward.examples = [p.id for p in prompts]
            yield self._collate([{"input_ids": list(p.token_ids)} for p in prompts])


class TaskReward(nn.Module):
    """The task's scorer as a reward model.

    PPOTrainer expects a backbone and a head. Here the last hidden state of the backbone is the reward, and the head is
    the identity.

    Args:
        loop: Training loop, which scores the answers.

    Attributes:
        examples: Ids of the examples of the batch, in order.
    """

    base_model_prefix = "scorer"

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self.examples: list[str] = []
        self.scorer, self.score = self._rewards, nn.Identity()

    def _rewards(self, input_ids: torch.Tensor, **_: Any) -> ModelOutput:
        """Return the rewards of the answers sampled last, which are the rows' answers."""
        rewards = self._loop.rewards(self.examples, [rollout.answer for rollout in self._loop.training.rollouts])
        known = [reward for reward in rewards if reward is not None]
        mean = sum(known) / len(known) if known else 0.0  # a neutral reward for unscored answers
        filled = [mean if reward is None else reward for reward in rewards]
        column = torch.tensor(filled, device=input_ids.device)[:, None, None]
        return ModelOutput(hidden_states=(column.expand(-1, input_ids.shape[1], 1),))


class NoReference(nn.Module):
    """Stand-in for the reference model, which PPOTrainer requires even if the KL penalty is 0.

    Args:
        vocabulary: Size of the vocabulary.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def forward(self, input_ids: torch.Tensor, **_: Any) -> ModelOutput:
        """Return zero logits."""
        return ModelOutput(logits=torch.zeros(*input_ids.shape, self._vocabulary, device=input_ids.device))


def shared_arguments(loop: Loop, folder: str) -> dict[str, Any]:
    """Return the arguments that all trainers share."""
    training = loop.training
    return {
        "seed": derive(loop.seed, "trainer") % 2**32,
        "output_dir": folder,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # keep non-finite values, which are divergence
        "save_strategy": "no",  # the loop saves the state
        "bf16": training.mixed,
        "use_cpu": training.model.device.type == "cpu",
        "gradient_checkpointing": False,  # recomputation would be billed
        "ddp_find_unused_parameters": False,  # every step uses all parameters
    }


def micro_batch(batch: int, most: int) -> int:
    """Return the largest divisor of `batch` that is at most `most`, the size of one pass."""
    return next(size for size in range(min(batch, most), 0, -1) if batch % size == 0)


def _clip(optimizer: torch.optim.Optimizer, norm: float) -> float:
    """Clip the gradients of each model, and return the norm of the policy's before that."""
    norms = [float(nn.utils.clip_grad_norm_(group["params"], norm)) for group in optimizer.param_groups]
    return norms[0]
