"""Sampling of answers from a model in training: by the method's settings alone, and with the probability of each token.

A checkpoint may say more than its weights do. Its generation_config.json can change the distribution that `generate`
samples from, and its config.json can ask for dropout. Neither is part of a run's settings, so neither has an effect.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from bench.engines.interface import Finish, TokenIds
from methods.interface import Rollout

Finished = Callable[[TokenIds, Sequence[int]], Finish | None]


def without_own_settings(model: PreTrainedModel, pad_id: int) -> PreTrainedModel:
    """Remove the checkpoint's own settings of sampling and dropout from a model, in place.

    Its generation config keeps the ids of begin and end, so `generate` falls back on nothing that a trainer left out.

    Args:
        model: The model.
        pad_id: Token id of padding.
    """
    own = model.generation_config
    # NaN logits mean divergence, which the loss reports. Without this setting, sampling from them would crash.
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=pad_id, remove_invalid_values=True
    )
    model.config.pad_token_id = pad_id
    _without_dropout(model)
    return model


def _without_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0: of modules, of functions called by modules, and in configurations.

    A model may keep a probability under any name, such as `attention_dropout`, `resid_pdrop` or `layerdrop`. All names
    in use contain `drop`.
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        _zero(module)
        for value in list(vars(module).values()):
            if isinstance(value, PreTrainedConfig):
                _zero(value)


def _zero(owner: nn.Module | PreTrainedConfig) -> None:
    for name, value in list(vars(owner).items()):
        if isinstance(value, PreTrainedConfig):  # the configuration of a part, such as the text model
            _zero(value)
        elif "drop" in name.lower() and isinstance(value, float) and value:
            setattr(owner, name, 0.0)


def with_positions(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model with learned positions number the tokens of a padded batch as `generate` does, in place.

    Trainers that give no positions would otherwise train on others than were sampled with. Other models compute
    positions from the mask, or attend by distances alone.

    Args:
        model: The model. Adapters must be added afterwards.
    """
    embedding, length = model.get_input_embeddings(), getattr(model.config, "max_position_embeddings", None)
    learned = any(
        isinstance(module, nn.Embedding) and module is not embedding and module.num_embeddings == length
        for module in model.modules()
    )
    if learned and "position_ids" in inspect.signature(model.forward).parameters:
        model.register_forward_pre_hook(_add_positions, with_kwargs=True)
    return model


def _add_positions(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = given.get("attention_mask")
    if mask is not None and given.get("position_ids") is None and given.get("past_key_values") is None:
        given = given | {"position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}
    return args, given


class Sampler:
    """Replaces a model's `generate`: in eval mode, with the engine's ends of answers, and with a record of each token.

    Args:
        model: The model. Adapters must be added afterwards.
        finish: Returns why an answer ends, given the token ids of its prompt and its own, or None if it goes on.
        whole: Returns the context in which the model's weights can be read without the other processes.

    Attributes:
        rollouts: Answers of the last call, one per row.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        finish: Finished,
        whole: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._model, self._finish, self._generate = model, finish, model.generate
        self._processors, self._whole = model._get_logits_processor, whole
        self.rollouts: list[Rollout] = []
        model.generate = self._sample

    def _sample(
        self,
        *args: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        prefix_lengths: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        rows = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        given = [0] * len(rows) if prefix_lengths is None else prefix_lengths.tolist()
        prompts = [row[: len(row) - count] for row, count in zip(rows, given, strict=True)]
        prefixes = [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]
        tokens, ends = _Tokens(), _Ended(self._finish, prompts, prefixes, input_ids.shape[1])
        # Appended to the list that `generate` makes, because it would put a processor of the caller before its own.
        self._model._get_logits_processor = lambda *a, **k: LogitsProcessorList([*self._processors(*a, **k), tokens])
        training = self._model.training
        self._model.eval()
        try:
            with self._whole():
                found = self._generate(
                    *args,
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    stopping_criteria=StoppingCriteriaList([ends]),
                    synced_gpus=False,  # no process waits for the answers of another
                    **kwargs,
                )
        finally:
            self._model.train(training)
            self._model._get_logits_processor = self._processors
        sequences = found if isinstance(found, torch.Tensor) else found.sequences
        logprobs, entropies = tokens.columns(sequences)
        start, self.rollouts = input_ids.shape[1], []
        for row, (reason, length) in enumerate(zip(ends.reasons, ends.lengths, strict=True)):
            answer = (*prefixes[row], *sequences[row, start : start + length].tolist())
            columns = logprobs[row, :length], entropies[row, :length]
            truncated, prefix = reason == "length", len(prefixes[row])
            self.rollouts.append(Rollout(prompts[row], answer, *columns, truncated=truncated, prefix=prefix))
        return found


class Samples(Protocol):
    """What has replaced a model's `generate`: a sampler here, or that of `bench.run.engine_rollouts`."""

    rollouts: list[Rollout]


@dataclass(frozen=True)
class SamplingModel:
    """A trainable model whose `generate` is a sampler's. Implements `methods.interface.Peer`.

    Attributes:
        model: The model, with adapters if they were requested.
        sampler: Its sampler.
    """

    model: PreTrainedModel
    sampler: Samples

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """Answers that the last call of the model's `generate` sampled, one per row."""
        return self.sampler.rollouts


class _Ended(StoppingCriteria):
    """Stopping criterion that ends an answer where the engine would.

    Attributes:
        reasons: Why each answer ended; None for one that goes on.
        lengths: Number of sampled tokens of each answer, its end included.
    """

    def __init__(self, finish: Finished, prompts: Sequence[TokenIds], prefixes: Sequence[TokenIds], start: int) -> None:
        self._finish, self._prompts, self._prefixes, self._start = finish, prompts, prefixes, start
        self.reasons: list[Finish | None] = [None] * len(prompts)
        self.lengths = [0] * len(prompts)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        for row, ids in enumerate(input_ids[:, self._start :].tolist()):
            if self.reasons[row] is None:
                reason = self._finish(self._prompts[row], [*self._prefixes[row], *ids])
                self.lengths[row], self.reasons[row] = len(ids), reason
        return torch.tensor([reason is not None for reason in self.reasons], device=input_ids.device)


class _Tokens(LogitsProcessor):
    """Last logits processor, which sees the distribution that each token is drawn from. Changes nothing."""

    def __init__(self) -> None:
        self._last: torch.Tensor | None = None
        self._logprobs: list[torch.Tensor] = []
        self._entropies: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._draw(input_ids)
        self._last = torch.log_softmax(scores.float(), dim=-1)
        self._entropies.append(torch.special.entr(self._last.exp()).sum(dim=-1))
        return scores

    def _draw(self, input_ids: torch.Tensor) -> None:
        if self._last is not None:
            self._logprobs.append(self._last.gather(-1, input_ids[:, -1:])[:, 0])

    def columns(self, sequences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probability and entropy of each position of the answers, two tensors of [rows, positions]."""
        self._draw(sequences)
        return torch.stack(self._logprobs, dim=1), torch.stack(self._entropies, dim=1)
