"""The key-value cache of continuous batching: rows come and go while all of them write the same column.

A row's tokens lie right-aligned, so its newest one is always in the newest column and only its start is its own. A
finished row gives its place to the last one, so that a step computes nothing for rows that are done; a new prompt ends
where the others stand. The buffers are as wide as the rows need, and a little more, since matrix products would copy
a part of wider ones.
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
"""Columns added when the buffers are full; those that no row needs any more are dropped at the same time."""


class BatchCache(Cache):
    """A cache of up to `capacity` sequences.

    Attributes:
        capacity: Rows of the buffers.
        columns: Columns of the buffers.
        rows: Rows in use; they are the first ones.
        end: The column that the next token is written to.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self.columns = self.rows = self.end = 0
        self._starts: list[int] = []
        self._entering = slice(0, 0)
        super().__init__(layers=[_LayerCache(self) for _ in range(layers)])

    @property
    def begin(self) -> int:
        """The first column that a row in use needs."""
        return min(self._starts, default=self.end)

    @property
    def entering(self) -> slice:
        """Rows that the forward pass under way enters; empty while it is a step of all rows."""
        return self._entering

    def enter(self, lengths: list[int]) -> None:
        """Take rows for prompts of these lengths behind those in use; the next forward pass must be of exactly these.

        They must be padded on the left to the longest, and none be longer than the first that ever entered.
        """
        if not self.rows:
            self.end = max(lengths)
            self.columns = self.columns or self.end + SLACK
        assert max(lengths) <= self.end
        self._entering = slice(self.rows, self.rows + len(lengths))
        self._starts += [self.end - length for length in lengths]
        self.rows += len(lengths)

    def step(self, device: torch.device) -> torch.Tensor:
        """Open a column for one more token of every row; return the attention mask, [rows, columns]."""
        self._entering = slice(0, 0)
        if self.end == self.columns:
            self._move(self.begin)
        self.end += 1
        columns, starts = torch.arange(self.columns, device=device), torch.tensor(self._starts, device=device)
        return ((columns >= starts[:, None]) & (columns < self.end)).long()

    def leave(self, row: int) -> int:
        """Free a row; return the row that takes its place, which is the row itself if it was the last."""
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
    """One layer's keys and values, [rows, heads, columns, head_dim]."""

    def __init__(self, cache: BatchCache) -> None:
        super().__init__()
        self._cache = cast(BatchCache, proxy(cache))  # a cycle would keep the buffers until garbage is collected

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
            return key_states, value_states  # they attend to themselves alone
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
    """Let a model on a CPU decode with `grouped_attention` where it would use torch's fused kernel.

    For one query a row that kernel is slow: in bfloat16 20 times slower than two matrix products. And where the head is
    given the last of several positions, torch would copy its weights for each row, unless they lie together.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
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
    """Attend with one query a row as two batched matrix products; with more, as `sdpa` does.

    Args:
        module: The attention layer.
        query: [rows, heads, queries, head_dim].
        key: [rows, key-value heads, positions, head_dim]; heads that share one are computed together, not repeated.
        value: Likewise.
        attention_mask: Boolean, [rows, 1, queries, positions], or None where everything is attended to.
        scaling: Of the scores.
        kwargs: For `sdpa`.
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
