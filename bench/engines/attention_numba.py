"""Attention of single tokens to stored keys and values, as compiled loops on the CPU.

A token reads its own sequence's columns and no others, so its result does not depend on the rest of the batch. A
batched product reads every row up to the longest one's end, at half the speed of memory.

The functions release the GIL and share no state, so several threads can work on slices of the tokens.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bench.compiled import compiled

Stored = NDArray[Any]
"""Buffer [rows, key-value heads, columns, head_dim]: float32, or bfloat16 stored as uint16."""
Indices = NDArray[np.int64]

ZERO, HALF_WORD, MASKED = np.float32(0), np.uint32(16), np.float32(-np.inf)

_compiled = compiled(fastmath={"reassoc", "contract", "nsz"})
"""Sums may be reordered, for vector instructions; infinities and NaN stay what they are."""


def scores(
    query: NDArray[np.float32], keys: Stored, row: Indices, first: Indices, last: Indices, out: NDArray[np.float32]
) -> None:
    """Write the products of each token's queries with the keys of its row, and -inf for all other columns.

    Args:
        query: Scaled queries [tokens, heads, head_dim].
        keys: Stored keys. Heads that follow one another share a key-value head.
        row: Row of each token.
        first: First column that each token attends to.
        last: Last column that each token attends to.
        out: Array [tokens, heads, columns]; overwritten.
    """
    _scores(query, keys, row, first, last, out)


def mix(
    weights: NDArray[np.float32], values: Stored, row: Indices, first: Indices, last: Indices, out: NDArray[np.float32]
) -> None:
    """Write the sums of each token's values, weighted.

    Args:
        weights: Array [tokens, heads, columns].
        values: Stored values.
        row: Row of each token.
        first: First column that each token attends to.
        last: Last column that each token attends to.
        out: Array [tokens, heads, head_dim]; overwritten.
    """
    _mix(weights, values, row, first, last, out)


def _float32(value):
    raise NotImplementedError  # compiled code calls one of the functions below, depending on the dtype


@numba.extending.overload(_float32, inline="always")
def _float32_by_dtype(value):
    if value == numba.float32:
        return lambda value: value
    return lambda value: np.uint32(np.uint32(value) << HALF_WORD).view(np.float32)


@_compiled
def _scores(query, keys, row, first, last, out):
    heads, width = query.shape[1], query.shape[2]
    shared = heads // keys.shape[1]
    for t in range(query.shape[0]):
        start, end = first[t], last[t] + 1
        out[t, :, :start] = MASKED
        out[t, :, end:] = MASKED
        for group in range(keys.shape[1]):
            key = keys[row[t], group]
            for column in range(start, end):
                for head in range(group * shared, group * shared + shared):
                    total = ZERO
                    for d in range(width):
                        total += query[t, head, d] * _float32(key[column, d])
                    out[t, head, column] = total


@_compiled
def _mix(weights, values, row, first, last, out):
    heads, width = out.shape[1], out.shape[2]
    shared = heads // values.shape[1]
    for t in range(out.shape[0]):
        out[t] = ZERO
        for group in range(values.shape[1]):
            value = values[row[t], group]
            total = out[t, group * shared : group * shared + shared]
            for column in range(first[t], last[t] + 1):
                for head in range(shared):
                    weight = weights[t, group * shared + head, column]
                    for d in range(width):
                        total[head, d] += weight * _float32(value[column, d])
