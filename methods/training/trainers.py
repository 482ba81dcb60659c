"""TRL's trainers, each with the least around it that lets a loop drive it. What they compute is theirs."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import nn
from transformers.utils import ModelOutput
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer

from methods.training.loop import Loop, Steps, quiet

if TYPE_CHECKING:
    from methods.interface import Training
    from methods.training.config import GrpoConfig, PpoConfig


GROUP_COLUMNS = {"loss": "loss", "grad_norm": "norm", "entropy": "entropy", "frac_reward_zero_std": "flat"}
"""Of the trainer's log, kept under these names; `flat` is the share of groups of equal rewards, which teach nothing."""
VALUE_COLUMNS = {"loss/policy_avg": "loss", "loss/value_avg": "value_loss", "policy/entropy_avg": "entropy"}


class GroupTrainer(GRPOTrainer):
    """GRPOTrainer on a task: prompts as everybody asks them, the task's scorer as reward, answers ended as elsewhere.

    Args:
        config: Settings.
        loop: Decides on steps, and owns what is trained.
        folder: For what the trainer may want to write.
        rewards: More that is said of an answer beside its reward; the trainer carries it along with weight 0.
    """

    def __init__(self, config: GrpoConfig, loop: Loop, folder: str, rewards: Sequence[Any] = ()) -> None:
        training, batch = loop.training, loop.schedule.batch
        share = batch // training.ranks.world_size
        self._loop, self._training, self._group = loop, training, config.group
        steps = 4 * loop.schedule.train // batch + 1  # more than the budget buys, even of answers that grow short
        micro = micro_batch(share, training.batch_size)
        arguments = GRPOConfig(
            **shared_arguments(training, folder),
            max_steps=steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=share // micro,
            num_generations=config.group,
            max_completion_length=training.max_new_tokens,
            temperature=config.temperature,
            max_grad_norm=config.clip,
            shuffle_dataset=False,  # the loop's order is the order
            disable_dropout=True,
            reward_weights=[1.0, *(0.0 for _ in rewards)],
        )
        each = batch // config.group
        order = list(islice(loop.order(each), steps * each))
        self._rows = [{"prompt": p.prompt, "example": p.id} for p in training.prompts]

        def reward(example: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
            return [
                None if score.status == "infrastructure" else score.reward
                for score in loop.judge(example, completion_ids)
            ]

        super().__init__(
            model=training.model,
            reward_funcs=[reward, *rewards],
            args=arguments,
            train_dataset=Dataset.from_list(self._rows).select(order),
            processing_class=training.tokenizer,
            callbacks=[Steps(loop, GROUP_COLUMNS)],
            optimizers=(loop.optimizer, loop.scheduler),
        )
        quiet(self)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # Here and not in the data set: the trainer fetches a batch before the step ahead of it is done.
        if (chosen := self._loop.chosen(self._loop.schedule.batch // self._group)) is not None:
            start = self.accelerator.process_index * len(inputs)
            rows = [self._rows[place] for place in chosen for _ in range(self._group)]
            inputs = rows[start : start + len(inputs)]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return output

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        answers, logprobs = super()._generate_single_turn(*args, **kwargs)
        return [self._training.trimmed(answer) for answer in answers], logprobs


class PolicyValueTrainer(PPOTrainer):
    """PPOTrainer on a task. It has no hook before a step and cannot resume; its data loader is where both are done.

    Args:
        config: Settings.
        loop: Decides on steps, and owns policy and value model.
        folder: For what the trainer may want to write.
    """

    def __init__(self, config: PpoConfig, loop: Loop, folder: str) -> None:
        training, batch = loop.training, loop.schedule.batch
        share = batch // training.ranks.world_size
        policy, value = loop.modules
        reward = TaskReward(loop, training.tokenizer.pad_token_id)
        arguments = PPOConfig(
            **shared_arguments(training, folder),
            total_episodes=loop.schedule.train * batch,
            per_device_train_batch_size=share,
            # One: the trainer's mini-batches step its optimiser only where it accumulates nothing.
            gradient_accumulation_steps=1,
            num_mini_batches=config.mini_batches,
            num_ppo_epochs=1,
            local_rollout_forward_batch_size=share,
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
            ref_model=NoReference(policy.config.vocab_size),
            reward_model=reward,
            train_dataset=Dataset.from_list([{"input_ids": list(p.token_ids)} for p in training.prompts]),
            value_model=value,
            optimizers=(loop.optimizer, loop.scheduler),
            callbacks=[Steps(loop, VALUE_COLUMNS)],
        )
        loop.optimizer.register_step_pre_hook(lambda optimizer, *_: _clip(optimizer, config.clip))
        self.dataloader = Batches(loop, reward, self.data_collator)
        quiet(self)

    def train(self) -> None:
        """Train; the trainer collects garbage twice a step, which need not look at all that was loaded before."""
        gc.freeze()
        try:
            super().train()
        finally:
            gc.unfreeze()


class Batches:
    """This process's prompts of each step, in the loop's order; asks the loop whether there is a step.

    Args:
        loop: The loop.
        reward: Told which examples a batch poses.
        collate: Pads them.
    """

    def __init__(self, loop: Loop, reward: TaskReward, collate: Any) -> None:
        self._loop, self._reward, self._collate = loop, reward, collate

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        loop, batch, ranks = self._loop, self._loop.schedule.batch, self._loop.training.ranks
        share, order = batch // ranks.world_size, loop.order(batch)
        while True:
            loop.before()
            asked = (loop.chosen(batch) or list(islice(order, batch)))[share * ranks.rank : share * (ranks.rank + 1)]
            posed = [loop.training.prompts[i] for i in asked]
            self._reward.examples = [p.id for p in posed]
            yield self._collate([{"input_ids": list(p.token_ids)} for p in posed])


class TaskReward(nn.Module):
    """The task's scorer in the form of a reward model: a backbone whose last hidden state is the reward itself.

    Args:
        loop: Judges.
        pad: Id of padding, which ends an answer.

    Attributes:
        examples: What the batch poses, in order.
    """

    base_model_prefix = "scorer"

    def __init__(self, loop: Loop, pad: int) -> None:
        super().__init__()
        self._loop, self._pad = loop, pad
        self.examples: list[str] = []
        self.scorer, self.score = self._judged, nn.Identity()

    def _judged(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> ModelOutput:
        """Judge the answers in rows of padding, prompt, answer and padding."""
        prompts = {posed.id: len(posed.token_ids) for posed in self._loop.training.prompts}
        answers = []
        for example, ids, mask in zip(self.examples, input_ids.tolist(), attention_mask.tolist(), strict=True):
            start = mask.index(1) + prompts[example]
            end = mask.index(0, start) if 0 in mask[start:] else len(mask)
            answers.append(self._loop.training.trimmed(ids[start:end]))
        scores = self._loop.judge(self.examples, answers)
        judged = [score.reward for score in scores if score.status != "infrastructure"]
        mean = sum(judged) / len(judged) if judged else 0.0  # what could not be judged teaches nothing
        rewards = [mean if score.status == "infrastructure" else score.reward for score in scores]
        column = torch.tensor(rewards, device=input_ids.device)[:, None, None]
        return ModelOutput(hidden_states=(column.expand(-1, input_ids.shape[1], 1),))


class NoReference(nn.Module):
    """Stands where PPOTrainer wants a reference model although its penalty is 0: every token is equally likely.

    Args:
        vocabulary: Its size.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def forward(self, input_ids: torch.Tensor, **_: Any) -> ModelOutput:
        """Return equal logits."""
        return ModelOutput(logits=torch.zeros(*input_ids.shape, self._vocabulary, device=input_ids.device))


def shared_arguments(training: Training, folder: str) -> dict[str, Any]:
    """Return what both trainers are told alike."""
    return {
        "output_dir": folder,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # what is not finite is divergence, and must be seen
        "save_strategy": "no",  # the loop saves
        "bf16": training.mixed,
        "use_cpu": training.model.device.type == "cpu",
        "gradient_checkpointing": False,  # recomputation would be billed
        "ddp_find_unused_parameters": False,  # every step uses them all
    }


def micro_batch(batch: int, most: int) -> int:
    """Return the largest divisor of a batch that fits one pass."""
    return next(size for size in range(min(batch, most), 0, -1) if batch % size == 0)


def _clip(optimizer: torch.optim.Optimizer, norm: float) -> None:
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], norm)
