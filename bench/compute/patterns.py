"""Positions that a layer attends to, read from the mask function that the model gives to transformers.

A mask function says of any query and key position whether the one attends to the other, so a window is found however
long it is, without a mask of that length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import chunked_causal_mask_function, sdpa_mask

from bench.compute.profile import attended_in_layer
from bench.errors import UsageError

LONGEST = 2**18
"""Number of positions after which no window is looked for, unless the model names it."""


class Pattern(NamedTuple):
    """Positions that a query attends to. See `bench.compute.profile.AttentionLayer`."""

    window: int | None = None
    chunked: bool = False


class Mask:
    """A mask of one call, real though the model is on the meta device, and the function it was made with.

    Args:
        options: Arguments that transformers gives to a mask interface.

    Attributes:
        values: Boolean tensor [1, 1, queries, keys] on the CPU.
    """

    def __init__(self, **options: Any) -> None:
        options |= {"device": "cpu", "attention_mask": None, "allow_is_causal_skip": False}
        options.pop("dtype", None)
        self._local = options.get("local_size")
        try:
            values = sdpa_mask(**options)
        except RuntimeError:
            # The function of a chunk holds the number of padding tokens of each row, on the model's device.
            if self._local is None:
                raise
            options["mask_function"] = chunked_causal_mask_function(self._local, torch.zeros(1, dtype=torch.int))
            values = sdpa_mask(**options)
        if values is None or values.is_meta:
            raise UsageError("its attention mask depends on the tokens' values")
        self.values: Tensor = values.clone()
        self._function: Callable[..., Tensor] = options["mask_function"]

    def pattern(self, positions: int) -> Pattern:
        """Return the positions that each query attends to.

        Args:
            positions: Number of positions that the model is made for.

        Raises:
            UsageError: If they are neither all earlier ones, nor a sliding window, nor a chunk.
        """
        longest = max(min(positions, LONGEST), 3 * (self._local or 0) + 2)
        last = self._visible(longest - 1)
        candidates = [Pattern()]
        if last < longest:
            # A window's last row is full. A chunk's may not be, but the chunk before it is.
            candidates = [Pattern(last), Pattern(self._visible(longest - last - 1), chunked=True)]
        for candidate in candidates:
            if all(self._visible(row) == _expected(candidate, row) for row in _rows(candidate.window, longest)):
                return candidate
        raise UsageError("its attention mask is neither causal nor a sliding window nor a chunk")

    def _visible(self, row: int) -> int:
        """Return the number of positions that a query attends to; one more than there are if it sees a later one."""
        first, query, keys = torch.tensor(0), torch.tensor(row), torch.arange(row + 2)
        return int(self._function(first, first, query, keys[None, None, None, :]).sum())


def _expected(pattern: Pattern, row: int) -> int:
    return attended_in_layer(pattern.window, row, 1, pattern.chunked)


def _rows(window: int | None, longest: int) -> list[int]:
    """Return rows next to each power of two and each end of a window, in which any other pattern would differ."""
    ends = [2**k for k in range(longest.bit_length())] + [longest]
    ends += [] if window is None else [window, 2 * window, 3 * window]
    return sorted({row for end in ends for row in range(end - 2, end + 2) if 0 <= row < longest})
