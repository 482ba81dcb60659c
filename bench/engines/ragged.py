"""Forward passes over many sequences at once, without padding, and the keys and values of these sequences.

A pass runs the new tokens of all its sequences as one row [1, tokens]: whole prompts that enter the batch, or a few
tokens of each sequence in it. Only attention knows which token belongs to which sequence. Keys and values lie in one
buffer per layer, with a row for each sequence and a column for each position:

    position    0  1  2  3  4  5
    sequence 0  a  b  c  d  e  .
    sequence 1  p  q  r  .  .  .

Columns past a sequence's end may hold tokens that were thrown away. They are masked, and overwritten later.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from bench.compute.profile import ComputeProfile, attended_in_layer
from bench.engines.attention import (
    among_prompts,
    computed_among_prompts,
    is_compiled,
    to_stored,
    to_stored_by_torch,
)
from bench.errors import BenchError

ATTENTION = "bench_ragged"
"""Name of `_attend` in transformers. No mask function has this name, so the model makes no masks of its own."""
SLACK = 32
"""Columns added when the buffers are too narrow. They are made narrower when more than twice as many are spare."""


class RaggedBatch:
    """A model's sequences that are decoded together. They enter and leave one by one.

    Args:
        model: Causal language model after `use_ragged_attention`.
        capacity: Maximum number of sequences.

    """

    joins = True

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._expected = model.config.get_text_config().num_hidden_layers
        self._columns = 0
        self.compiled = is_compiled(model.device, model.dtype)

    def enter(self, prompts: Sequence[Sequence[int]], contexts: Sequence[int]) -> Pass:
        """Return the pass of whole prompts, which take the next rows.

        Args:
            prompts: Token ids.
            contexts: Number of tokens of each sequence that is in the batch already, by row.
        """
        self._make_room(len(contexts), max([*contexts, *map(len, prompts)]))
        return Pass(prompts, [0] * len(prompts), self._model.device, entering=True, first=len(contexts))

    def step(self, tokens: Sequence[Sequence[int]], contexts: Sequence[int]) -> Pass:
        """Return the pass of the next tokens of all sequences.

        Args:
            tokens: Token ids of each row: at least one, and one alone unless attention is `compiled`.
            contexts: Number of tokens before them, by row; tokens stored after these are forgotten.

        Raises:
            ValueError: If attention is not compiled and a row has several tokens.
        """
        self._make_room(len(contexts), max(c + len(new) for c, new in zip(contexts, tokens, strict=True)))
        if not self.compiled and any(len(new) > 1 for new in tokens):
            raise ValueError("several tokens of a sequence in one step need compiled attention")
        return Pass(tokens, contexts, self._model.device)

    def attended(self, running: Pass, profile: ComputeProfile, sequences: Sequence[int] | None = None) -> int:
        """Return the number of positions that a pass computes attention with, including masked ones, in units.

        Args:
            running: The pass.
            profile: Costs of the model.
            sequences: Numbers of the sequences in the pass that count. Default: all.
        """
        chosen = range(len(running.tokens)) if sequences is None else sequences
        if not running.entering and not self.compiled:
            return sum(profile.kinds.values()) * len(chosen) * self._columns
        return sum(
            weight * self._attended_in_layer(running, kind.window, chosen) for kind, weight in profile.kinds.items()
        )

    def _attended_in_layer(self, running: Pass, window: int | None, sequences: Sequence[int]) -> int:
        if running.entering:
            return len(sequences) * computed_among_prompts(self._model.device, running.width, window)
        return sum(attended_in_layer(window, running.before[i], len(running.tokens[i])) for i in sequences)

    def run(self, running: Pass) -> Tensor:
        """Run a pass that `enter` or `step` returned last.

        Returns:
            Logits [prompts, vocabulary] after each prompt, or [tokens, vocabulary] after each token of a step.

        Raises:
            BenchError: If the model has layers whose attention is not transformers' interface.
        """
        token = _RUNNING.set((self, running))
        try:
            output = self._model(
                input_ids=running.ids,
                position_ids=running.positions,
                logits_to_keep=running.ends if running.entering else 0,
                use_cache=False,
            )
        finally:
            _RUNNING.reset(token)
        if len(self._layers) != self._expected:
            raise BenchError(f"{type(self._model).__name__}: some layers do not attend through transformers' interface")
        logits: Tensor = output.logits[0]
        return logits

    def move(self, source: int, target: int) -> None:
        """Move a sequence to another row."""
        if source != target:
            for keys, values in self._layers.values():
                keys[target], values[target] = keys[source], values[source]

    def _make_room(self, rows: int, columns: int) -> None:
        """Give the buffers at least so many columns, and keep what the first rows hold.

        The buffers are only a little wider than needed, because a product reads whole buffers: in half precision torch
        would copy a part of one.
        """
        if not rows:
            self._layers.clear()
        elif columns <= self._columns <= columns + 2 * SLACK:
            return
        kept, self._columns = min(columns, self._columns), columns + SLACK
        for layer, (keys, values) in self._layers.items():  # one by one, so that little is held twice
            self._layers[layer] = self._moved(keys, rows, kept), self._moved(values, rows, kept)

    def _moved(self, buffer: Tensor, rows: int, kept: int) -> Tensor:
        moved = buffer.new_zeros(*buffer.shape[:2], self._columns, buffer.shape[3])
        moved[:rows, :, :kept] = buffer[:rows, :, :kept]
        return moved

    def buffers(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the buffers of a layer, [capacity, heads, columns, head_dim] each."""
        if layer not in self._layers:
            key_buffer, value_buffer = (
                states.new_zeros(self._capacity, states.shape[1], self._columns, states.shape[3])
                for states in (key, value)
            )
            self._layers[layer] = key_buffer, value_buffer
        return self._layers[layer]


class Pass:
    """Tokens of one forward pass, and where each belongs.

    Args:
        tokens: New tokens of each sequence.
        before: Number of tokens before them, by sequence.
        device: Device of the model.
        entering: Whether the sequences are whole prompts.
        first: Row of the first sequence.

    Attributes:
        rows: Rows of the sequences.
        width: Largest number of new tokens.
        computed: Number of tokens that are computed.
        ids: Token ids [1, tokens].
        positions: Position of each token in its sequence [1, tokens].
        row: Number of each token's sequence in this pass [tokens].
        offset: Number of each token among the new ones of its sequence [tokens].
        ends: Index of the last token of each sequence [sequences].
        contexts: `before` as a tensor [sequences].
    """

    spare_heads = 0

    def __init__(
        self,
        tokens: Sequence[Sequence[int]],
        before: Sequence[int],
        device: torch.device,
        *,
        entering: bool = False,
        first: int = 0,
    ) -> None:
        self.tokens, self.before, self.entering = tokens, before, entering
        self.rows = slice(first, first + len(tokens))
        counts = [len(new) for new in tokens]
        self.width, self._even = max(counts), min(counts) == max(counts)
        self.computed = sum(counts)
        places = [(i, j) for i, count in enumerate(counts) for j in range(count)]
        self.row, self.offset = torch.tensor(places, device=device).T.contiguous()
        self.ends = torch.tensor(counts, device=device).cumsum(0) - 1
        self.contexts = torch.tensor(before, device=device)
        self.ids = torch.tensor([[token for new in tokens for token in new]], device=device)
        self.positions = (self.contexts[self.row] + self.offset)[None]

    def by_sequence(self, states: Tensor) -> Tensor:
        """Convert states [1, heads, tokens, width] to [sequences, heads, new tokens, width], filled up with zeros."""
        flat = states[0].transpose(0, 1)
        if self._even:
            return flat.reshape(len(self.tokens), self.width, *flat.shape[1:]).transpose(1, 2)
        filled = flat.new_zeros(len(self.tokens), self.width, *flat.shape[1:])
        filled[self.row, self.offset] = flat
        return filled.transpose(1, 2)

    def flat(self, states: Tensor) -> Tensor:
        """Convert states [sequences, new tokens, heads, width] back to [1, tokens, heads, width]."""
        return states.flatten(0, 1)[None] if self._even else states[self.row, self.offset][None]


_RUNNING: ContextVar[tuple[RaggedBatch, Pass] | None] = ContextVar("running", default=None)
"""Batch and pass that attention belongs to; None if each row is one whole sequence, and nothing is stored."""


def use_ragged_attention(model: PreTrainedModel) -> None:
    """Let a model attend by `RaggedBatch` alone."""
    AttentionInterface.register(ATTENTION, _attend)
    model.set_attn_implementation(ATTENTION)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Store the new keys and values, and attend to those of each token's own sequence.

    Args:
        module: Attention layer.
        query: Tensor [1, heads, tokens, head_dim].
        key: Tensor [1, key-value heads, tokens, head_dim].
        value: Tensor of the same shape as `key`.
        attention_mask: Not used.
        scaling: Factor of the attention scores; None for 1 / sqrt(head_dim).
        sliding_window: Maximum number of positions attended to; None for all.
        kwargs: Not used: dropout and the like.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if (current := _RUNNING.get()) is None:
        return among_prompts(query, key, value, scale, sliding_window).transpose(1, 2).contiguous(), None
    batch, running = current
    keys, values = batch.buffers(int(module.layer_idx), key, value)
    rows, row, position = running.rows, running.row, running.positions[0]
    if running.entering:
        query, key, value = (running.by_sequence(states) for states in (query, key, value))
        for buffer, states in ((keys, key), (values, value)):
            buffer[rows, :, : states.shape[2]] = states
            buffer[rows, :, states.shape[2] :] = 0.0  # an earlier sequence's infinity times a weight of 0 would be NaN
        answer = among_prompts(query, key, value, scale, sliding_window).transpose(1, 2)
        return running.flat(answer).contiguous(), None
    keys[row, :, position], values[row, :, position] = key[0].transpose(0, 1), value[0].transpose(0, 1)
    attend = to_stored if batch.compiled else to_stored_by_torch
    return attend(query[0].transpose(0, 1), keys, values, row, position, scale, sliding_window)[None], None
