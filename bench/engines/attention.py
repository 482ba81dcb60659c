"""Attention of a ragged batch: among the tokens of prompts, and of a few tokens to stored keys and values.

torch's fused kernel is made for long sequences and GPUs. On a CPU the blocks of `among_prompts` take 40 to 65 % of its
time, and the compiled loops of `to_stored` a half, less with sequences of unequal lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, softmax

from bench.compute.profile import attended_in_layer
from bench.engines import attention_numba

BLOCK = 32
"""Queries of one product among prompts: few, so that little of what is masked is computed."""


def among_prompts(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
    """Attend causally among the tokens of each sequence.

    Args:
        query: Tensor [sequences, heads, tokens, head_dim].
        key: Tensor [sequences, key-value heads, tokens, head_dim]; consecutive query heads share one.
        value: Tensor of the same shape as `key`, but for its width.
        scale: Factor of the scores.
        window: Maximum number of positions attended to; None for all.

    Returns:
        Tensor of the shape of `query`, with the width of `value`.
    """
    sequences, heads, tokens, _ = query.shape
    groups, shared = sequences * key.shape[1], heads // key.shape[1]
    if query.device.type != "cpu" and (window is None or tokens <= window):
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    query = query.reshape(groups, shared, tokens, -1)
    key, value = key.reshape(groups, tokens, -1), value.reshape(groups, tokens, -1)
    answer = value.new_empty(groups, shared, tokens, value.shape[-1])
    for first, start, end in _blocks(tokens, window):
        scores = torch.bmm(
            query[:, :, start:end].flatten(1, 2).float() * scale, key[:, first:end].transpose(1, 2).float()
        )
        position = torch.arange(start, end, device=query.device)[:, None]
        begin = start if window is None else first  # without a window all earlier columns are attended to
        masked = _masked(position, torch.arange(begin, end, device=query.device), window)
        scores.view(groups, shared, end - start, -1)[..., begin - first :].masked_fill_(masked, float("-inf"))
        weights = softmax(scores, dim=-1).to(value.dtype)
        answer[:, :, start:end] = torch.bmm(weights, value[:, first:end]).view(groups, shared, end - start, -1)
    return answer.view(sequences, heads, tokens, -1)


def computed_among_prompts(device: torch.device, tokens: int, window: int | None) -> int:
    """Return the number of positions that the tokens of one sequence are computed with in `among_prompts`."""
    if device.type != "cpu" and (window is None or tokens <= window):
        return attended_in_layer(None, 0, tokens)
    return sum((end - start) * (end - first) for first, start, end in _blocks(tokens, window))


def _blocks(tokens: int, window: int | None) -> list[tuple[int, int, int]]:
    """Return for each block the first position that it attends to, its first token, and the end of both."""
    starts = range(0, tokens, BLOCK)
    return [(0 if window is None else max(0, i + 1 - window), i, min(tokens, i + BLOCK)) for i in starts]


def is_compiled(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether compiled loops serve on this device for keys and values of this dtype."""
    return device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)


def to_stored(
    query: Tensor, keys: Tensor, values: Tensor, row: Tensor, position: Tensor, scale: float, window: int | None
) -> Tensor:
    """Let single tokens attend to the stored keys and values of their rows, with compiled loops: see `is_compiled`.

    Args:
        query: Tensor [tokens, heads, head_dim].
        keys: Buffer [rows, key-value heads, columns, head_dim]; column i is position i.
        values: Buffer of the same shape as `keys`, but for its width.
        row: Row of each token.
        position: Position of each token, the last one that it attends to.
        scale: Factor of the scores.
        window: Maximum number of positions attended to; None for all.

    Returns:
        Tensor [tokens, heads, width of the values].
    """
    tokens, heads, _ = query.shape
    last = position.numpy()
    first = np.zeros_like(last) if window is None else np.maximum(last + 1 - window, 0)
    rows = row.numpy()
    scaled = (query.float() * scale).contiguous().numpy()
    scores = torch.empty(tokens, heads, int(last.max()) + 1)
    _in_threads(attention_numba.scores, scaled, _array(keys), rows, first, last, scores.numpy())
    weights = softmax(scores, dim=-1)
    answer = torch.empty(tokens, heads, values.shape[-1])
    _in_threads(attention_numba.mix, weights.numpy(), _array(values), rows, first, last, answer.numpy())
    return answer.to(query.dtype)


def to_stored_by_torch(
    query: Tensor, keys: Tensor, values: Tensor, row: Tensor, position: Tensor, scale: float, window: int | None
) -> Tensor:
    """Do the same as `to_stored` with torch's fused attention, for one token of each of the first rows, in order."""
    tokens, heads, width = query.shape
    keys, values = keys[:tokens], values[:tokens]
    # Heads that share a key become queries of one head, so that keys are not repeated.
    packed = query.reshape(tokens, keys.shape[1], -1, width)
    masked = _masked(position[:, None], torch.arange(keys.shape[2], device=query.device), window)
    answer = scaled_dot_product_attention(packed, keys, values, attn_mask=~masked[:, None, None], scale=scale)
    return answer.reshape(tokens, heads, -1)


def _masked(position: Tensor, column: Tensor, window: int | None) -> Tensor:
    masked = column > position
    return masked if window is None else masked | (column <= position - window)


def _array(stored: Tensor) -> np.ndarray:
    return (stored if stored.dtype == torch.float32 else stored.view(torch.uint16)).numpy()


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "attention")


def _in_threads(
    function: Callable[..., None],
    given: np.ndarray,
    stored: np.ndarray,
    row: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    out: np.ndarray,
) -> None:
    """Run a function of `attention_numba` on as many slices of the tokens as torch has threads."""
    count = min(torch.get_num_threads(), len(row))
    if count == 1:
        function(given, stored, row, first, last, out)
        return
    bounds = [len(row) * i // count for i in range(count + 1)]
    parts = [slice(*ends) for ends in pairwise(bounds)]
    running = [_threads(count).submit(function, given[p], stored, row[p], first[p], last[p], out[p]) for p in parts]
    for part in running:
        part.result()
