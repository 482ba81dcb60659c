"""Key-value cache for continuous batching: sequences enter and leave, and each step writes one common column.

Rows are right-aligned: the newest token of every row is in the newest column, and only the first column differs. The
last row moves into the place of a finished one, so that a step computes nothing for finished rows. The buffers are only
a little wider than the rows need, because a matrix product would have to copy a slice of a much wider buffer.

Example with two rows, of 5 and 3 tokens (`columns` 8, `end` 5):

    column  0  1  2  3  4  5  6  7
    row 0   a  b  c  d  e  .  .  .
    row 1   .  .  p  q  r  .  .  .
"""

from __future__ import annotations

from typing import Any, cast
from weakref import proxy

import torch
from torch.nn.functional import softmax
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SLACK = 64
"""Columns added when the buffers are full. Columns that no row needs any more are dropped at the same time."""


class BatchCache(Cache):
    """Key-value cache of up to `capacity` sequences.

    Attributes:
        capacity: Number of rows of the buffers.
        columns: Number of columns of the buffers.
        rows: Number of rows in use; these are the first rows.
        end: Column of the next token.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self.columns = self.rows = self.end = 0
        self._starts: list[int] = []
        self._entering = slice(0, 0)
        super().__init__(layers=[_LayerCache(self) for _ in range(layers)])

    @property
    def begin(self) -> int:
        """First column that a row in use needs."""
        return min(self._starts, default=self.end)

    @property
    def entering(self) -> slice:
        """Rows that the current forward pass prefills; empty during a decoding step."""
        return self._entering

    def enter(self, lengths: list[int]) -> None:
        """Allocate the next free rows for prompts of these lengths; the next forward pass must prefill exactly these.

        The prompts must be padded on the left to the longest of them. None may be longer than `end`.
        """
        if not self.rows:
            self.end = max(lengths)
            self.columns = self.columns or self.end + SLACK
        assert max(lengths) <= self.end
        self._entering = slice(self.rows, self.rows + len(lengths))
        self._starts += [self.end - length for length in lengths]
        self.rows += len(lengths)

    def step(self, device: torch.device) -> torch.Tensor:
        """Open a column for the next token of every row, and return the attention mask [rows, columns]."""
        self._entering = slice(0, 0)
        if self.end == self.columns:
            self._move(self.begin)
        self.end += 1
        columns, starts = torch.arange(self.columns, device=device), torch.tensor(self._starts, device=device)
        return ((columns >= starts[:, None]) & (columns < self.end)).long()

    def leave(self, row: int) -> int:
        """Free a row by moving the last row into its place; return the index that the moved row had."""
        last = self.rows - 1
        if row != last:
            for layer in self.layers:
                layer.keys[row] = layer.keys[last]
                layer.values[row] = layer.values[last]
        self._starts[row] = self._starts[last]
        self._starts.pop()
        self.rows = last
        return last

    def _move(self, dropped: int) -> None:
        kept = self.end - dropped
        self.columns = kept + SLACK
        for layer in self.layers:
            layer.keys, layer.values = (self._moved(buffer, dropped) for buffer in (layer.keys, layer.values))
        self._starts = [start - dropped for start in self._starts]
        self.end = kept

    def _moved(self, buffer: torch.Tensor, dropped: int) -> torch.Tensor:
        moved = buffer.new_zeros(*buffer.shape[:2], self.columns, buffer.shape[3])
        moved[: self.rows, :, : self.end - dropped] = buffer[: self.rows, :, dropped : self.end]
        return moved


class _LayerCache(CacheLayerMixin):
    """Keys and values of one layer, each [rows, heads, columns, head_dim]."""

    def __init__(self, cache: BatchCache) -> None:
        super().__init__()
        self._cache = cast(BatchCache, proxy(cache))  # a reference cycle would delay freeing the buffers

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        cache = self._cache
        self.keys, self.values = (
            states.new_zeros(cache.capacity, states.shape[1], cache.columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        cache = self._cache
        if cache.entering.stop:
            columns = slice(cache.end - key_states.shape[2], cache.end)
            self.keys[cache.entering, :, columns] = key_states
            self.values[cache.entering, :, columns] = value_states
            return key_states, value_states  # new prompts attend to their own tokens only
        self.keys[: cache.rows, :, cache.end - 1] = key_states[:, :, 0]
        self.values[: cache.rows, :, cache.end - 1] = value_states[:, :, 0]
        return self.keys[: cache.rows], self.values[: cache.rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (query_length if self._cache.entering.stop else self._cache.columns), 0

    def get_seq_length(self) -> int:
        return 0 if self._cache.entering.stop else self._cache.end - 1

    def get_max_length(self) -> int:
        return -1


def tune_for_decoding(model: PreTrainedModel) -> None:
    """Make a model faster at decoding: `grouped_attention` on a CPU, and contiguous input for the LM head.

    With one query per row torch's fused attention kernel is slow on a CPU: in bfloat16 it takes 20 times as long as two
    matrix products. If the LM head's input is a slice of the hidden states, torch copies the head's weights per row.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register("bench_grouped", grouped_attention)
        AttentionMaskInterface.register("bench_grouped", sdpa_mask)
        model.set_attn_implementation("bench_grouped")


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention as two batched matrix products for one query per row, and with `sdpa` for several.

    Args:
        module: Attention layer.
        query: Tensor [rows, heads, queries, head_dim].
        key: Tensor [rows, key-value heads, positions, head_dim]. Query heads that share a key are computed in one
            product, so keys are not repeated.
        value: Tensor of the same shape as `key`.
        attention_mask: Boolean tensor [rows, 1, queries, positions]; None attends to every position.
        scaling: Factor of the attention scores; None for 1 / sqrt(head_dim).
        kwargs: Further arguments of `sdpa`.
    """
    if query.shape[2] != 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, _, width = query.shape
    groups = rows * key.shape[1]
    packed = query.reshape(groups, -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.bmm(packed, key.reshape(groups, -1, width).transpose(1, 2)).float()
    if attention_mask is not None:
        allowed = attention_mask.expand(rows, key.shape[1], 1, -1).reshape(groups, 1, -1)
        scores = scores.masked_fill(~allowed, float("-inf"))
    weights = softmax(scores, dim=-1).to(value.dtype)
    answer = torch.bmm(weights, value.reshape(groups, -1, value.shape[-1]))
    return answer.reshape(rows, 1, heads, -1), None
