"""Forward passes over many sequences at once with the model's own attention and cache, for models of any family.

New prompts run as one batch, padded at the left, into a cache that the model makes. That cache is then joined to the
one of the sequences that are decoded already. Keys and values are aligned at the right, and states of convolutions and
recurrences have no positions:

    columns      0  1  2  3  4
    sequence 0   a  b  c  d  e
    sequence 1   .  .  p  q  r    joined to it

Sequences that end leave the cache, and columns that are padding in all others go. Not every cache can do so: see
`CachedBatch.joins`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, cache_utils
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from bench.compute.modules import cache_name
from bench.compute.profile import ComputeProfile
from bench.errors import BenchError

_KINDS = (
    "DummyLayer",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer",
    "LinearAttentionLayer",
)
JOINABLE = {kind for name in _KINDS if (kind := getattr(cache_utils, name, None))}  # earlier releases lack some
"""Kinds of cache layers that `_join` and `_trim` know. A kind that is derived from one of them may hold more."""


@dataclass(frozen=True, eq=False)
class PaddedPass:
    """Tokens of one forward pass, padded at the left.

    Attributes:
        rows: Row of each sequence in the pass. Other rows are sequences that have ended.
        entering: Whether the sequences are whole prompts.
        ids: Token ids [rows, width].
        mask: Whether each column holds a token, including the columns of the cache [rows, columns].
        positions: Position of each token in its sequence [rows, width].
        computed: Number of tokens that are computed, including padding and ended sequences.
        spare_heads: Number of positions whose logits are computed, and belong to no sequence.
    """

    rows: list[int]
    entering: bool
    ids: Tensor
    mask: Tensor
    positions: Tensor
    computed: int
    spare_heads: int


class CachedBatch:
    """A model's sequences that are decoded together, with the cache of `transformers`.

    Args:
        model: Causal language model.
        joins: Whether sequences enter and leave one by one. Otherwise all enter together, as prompts of one length, and
            their rows are computed until the last has ended. Such a batch needs no padding and works with any cache.
    """

    compiled = False

    def __init__(self, model: PreTrainedModel, *, joins: bool) -> None:
        self._model, self.joins = model, joins
        self._takes = inspect.signature(model.forward).parameters.keys()
        self._cache: Cache | None = None
        self._rows: list[int] = []  # row in the cache of each sequence
        self._size = self._columns = 0

    def enter(self, prompts: Sequence[Sequence[int]], contexts: Sequence[int]) -> PaddedPass:
        """Return the pass of whole prompts, which take the next rows.

        Args:
            prompts: Token ids.
            contexts: Number of tokens of each sequence that is in the batch already, by row.
        """
        self._keep(contexts)
        assert self.joins or not contexts, "the cache of this model takes no sequence in"
        width = max(map(len, prompts))
        filled = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        ids = torch.tensor(filled, device=self._model.device)
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=ids.device)
        positions = torch.arange(width, device=ids.device) - (width - lengths)
        return self._pass(list(range(len(prompts))), ids, positions >= 0, positions.clamp(min=0), entering=True)

    def step(self, tokens: Sequence[Sequence[int]], contexts: Sequence[int]) -> PaddedPass:
        """Return the pass of the next token of all sequences.

        Args:
            tokens: Token id of each row, in a sequence.
            contexts: Number of tokens before it, by row.
        """
        self._keep(contexts)
        ids = torch.zeros(self._size, 1, dtype=torch.int64, device=self._model.device)
        positions = torch.full_like(ids, max(contexts))
        rows = torch.tensor(self._rows, device=ids.device)
        ids[rows] = torch.tensor(tokens, device=ids.device)
        positions[rows] = torch.tensor(contexts, device=ids.device)[:, None]
        mask = torch.arange(self._columns + 1, device=ids.device) >= self._columns - positions
        return self._pass(list(self._rows), ids, mask, positions, entering=False)

    def _pass(self, rows: list[int], ids: Tensor, mask: Tensor, positions: Tensor, *, entering: bool) -> PaddedPass:
        heads = len(ids) if "logits_to_keep" in self._takes else ids.numel()
        return PaddedPass(rows, entering, ids, mask, positions, ids.numel(), heads - len(rows))

    def attended(self, running: PaddedPass, profile: ComputeProfile, sequences: Sequence[int] | None = None) -> int:
        """Return the number of positions that a pass computes attention with: all columns, masked or not.

        They are summed over tokens and layers, in the profile's units. Padding belongs to no sequence, so it is not
        told apart by `sequences`.
        """
        assert sequences is None
        rows, columns = running.mask.shape
        total = profile.context // profile.unit * rows * columns
        for kind, weight in profile.kinds.items():
            tokens = rows if kind.late else running.computed
            # The keys of a prompt are cut to the window only after its pass.
            cut = kind.window is not None and not running.entering
            total += weight * tokens * (min(columns, kind.window) if cut else columns)
        return total

    def run(self, running: PaddedPass) -> Tensor:
        """Run a pass that `enter` or `step` returned last.

        Returns:
            Logits [sequences, vocabulary] after each prompt, or after each token of a step.

        Raises:
            BenchError: If sequences are to enter one by one, and the model's cache cannot take them in.
        """
        given: dict[str, Any] = {"position_ids": running.positions, "logits_to_keep": 1}
        name = cache_name(self._model)
        if running.entering or name == "past_key_values":  # mamba would multiply a step's one token by the mask of all
            given["attention_mask"] = running.mask.long()
        given = {key: value for key, value in given.items() if key in self._takes}
        past = self._new_cache() if running.entering else self._cache
        output = self._model(input_ids=running.ids, use_cache=True, **given, **({} if past is None else {name: past}))
        if running.entering:
            self._enter(output[name] if past is None else past, *running.ids.shape)
        else:
            self._columns += 1
        logits: Tensor = output.logits[running.rows, -1]
        return logits

    def move(self, source: int, target: int) -> None:
        """Move a sequence to another row."""
        self._rows[target] = self._rows[source]

    def _new_cache(self) -> Cache | None:
        """Return an empty cache, or None for a model that makes one of its own kind."""
        return DynamicCache(config=self._model.config) if self._model._supports_default_dynamic_cache() else None

    def _enter(self, cache: Cache, size: int, columns: int) -> None:
        if self.joins and not is_joinable(cache):
            raise BenchError(f"{type(self._model).__name__}: sequences cannot enter or leave {type(cache).__name__}")
        self._rows += range(self._size, self._size + size)
        self._size += size
        if self._cache is None:
            self._cache = cache
        else:
            _join(self._cache, cache)
        self._columns = max(self._columns, columns)

    def _keep(self, contexts: Sequence[int]) -> None:
        """Remove sequences that have ended: those after the first rows."""
        del self._rows[len(contexts) :]
        if not contexts:
            self._cache, self._size, self._columns = None, 0, 0
        elif self.joins:
            assert self._cache is not None
            if self._rows != list(range(self._size)):
                self._cache.reorder_cache(torch.tensor(self._rows, device=self._model.device))
                self._size = len(self._rows)
                self._rows = list(range(self._size))
            _trim(self._cache, self._columns - max(contexts))
            self._columns = max(contexts)


def is_joinable(cache: Cache) -> bool:
    """Return whether sequences can enter and leave a cache: `_join` and `_trim` know all that it holds.

    Args:
        cache: Cache after a pass. A layer of states that then has none keeps them elsewhere.
    """
    return type(cache) is DynamicCache and all(
        type(layer) in JOINABLE and _holds_states(layer) for layer in cache.layers
    )


def _holds_states(layer: object) -> bool:
    return not isinstance(layer, LinearAttentionLayer) or any(
        state is not None for states in (layer.conv_states, layer.recurrent_states) for state in states.values()
    )


def _join(cache: Cache, other: Cache) -> None:
    """Append the sequences of another cache."""
    for layer, more in zip(cache.layers, other.layers, strict=True):
        if isinstance(layer, LinearAttentionLayer):
            for states, added in (
                (layer.conv_states, more.conv_states),
                (layer.recurrent_states, more.recurrent_states),
            ):
                states.update({i: torch.cat([s, added[i]]) for i, s in states.items() if s is not None})
        if isinstance(layer, DynamicLayer) and layer.keys is not None:
            layer.keys = _aligned(layer.keys, more.keys)
            layer.values = _aligned(layer.values, more.values)
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = max(layer.cumulative_length, more.cumulative_length)


def _aligned(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate keys or values [sequences, heads, columns, width], aligned at the right."""
    columns = max(first.shape[2], second.shape[2])
    return torch.cat([pad(states, (0, 0, columns - states.shape[2], 0)) for states in (first, second)])


def _trim(cache: Cache, columns: int) -> None:
    """Remove the first columns, which hold padding alone."""
    if not columns:
        return
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None:
            continue
        left = layer.get_seq_length() - columns
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = left
        layer.keys, layer.values = layer.keys[:, :, -left:], layer.values[:, :, -left:]
