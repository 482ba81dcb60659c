"""Compute profile of a causal language model: the few integers from which the FLOPs of any pass follow.

One multiply-add is two FLOPs. A forward pass of `new` tokens after `context` cached ones, with logits at its last
`kept` positions, costs

    FLOPs = token * new + head * kept + context_cost * (context + new) + sum over attention layers of pair * positions

where `positions` is the number of positions that the layer's queries attend to, under its window or chunk. All costs
that depend on positions are multiples of one `unit`, so that the last two terms are one integer, `attended`:

    FLOPs = token * new + head * kept + unit * attended

`attended` is additive over sequences and calls, so a ledger needs only this integer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import NamedTuple

from bench.errors import UsageError


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """One call of attention in a forward pass.

    Attributes:
        pair: FLOPs of one query position and one key position: 2 * heads * (key width + value width).
        window: Maximum number of positions that a token attends to, including itself; None for all before it.
        chunked: Whether the window is a chunk: a token attends to the earlier ones of its own block of `window`
            positions, and not to the last `window` positions.
        late: Whether the layer runs only for the positions whose logits are computed.
        layer: Index of the decoder layer that makes the call.
    """

    pair: int
    window: int | None = None
    chunked: bool = False
    late: bool = False
    layer: int = 0

    def __post_init__(self) -> None:
        check_size("pair", self.pair)
        if self.window is not None:
            check_size("window", self.window)
        elif self.chunked:
            raise UsageError("chunked is true and window is None: the size of the chunks is needed")


class Attends(NamedTuple):
    """Positions that a layer attends to. See `AttentionLayer`."""

    window: int | None
    chunked: bool
    late: bool


@dataclass(frozen=True)
class ComputeProfile:
    """Costs of a causal language model, in FLOPs.

    Example: one layer of width 4 with one head and 8 words costs `token=2 * weights`, `head=2 * 4 * 8` and has
    `layers=(AttentionLayer(pair=2 * (4 + 4)),)`.

    Attributes:
        token: Per token through the layers, with the experts it is sent to, scans and convolutions.
        head: Per position whose logits are computed: the output head, and layers that run for these positions only.
        context: Per position of the cache and of each call, its new ones included. Latent attention expands its whole
            cache at every call; other models cost nothing here.
        layers: Calls of attention, in the order of a pass.

    Raises:
        UsageError: If a cost is not an integer of at least 0.
    """

    token: int
    head: int
    context: int = 0
    layers: tuple[AttentionLayer, ...] = ()

    def __post_init__(self) -> None:
        for name in ("token", "head", "context"):
            cost = getattr(self, name)
            if not isinstance(cost, int) or cost < 0:
                raise UsageError(f"{name} is {cost!r}: an integer of at least 0 is needed")

    @cached_property
    def unit(self) -> int:
        """FLOPs of one attended position: the greatest common divisor of all costs that depend on positions."""
        return gcd(self.context, *(layer.pair for layer in self.layers)) or 1

    @property
    def products(self) -> int:
        """Multiply-adds of a token through layers and head, without what depends on positions."""
        return (self.token + self.head) // 2

    def attended(self, context: int, new: int, kept: int | None = None) -> int:
        """Return the positions that one call attends to, summed over tokens and layers, in units.

        Args:
            context: Number of tokens in the cache before the call.
            new: Number of tokens of the call. Each attends to the cache and to the new tokens up to itself.
            kept: Number of last positions whose logits are computed; None for all. It matters for `late` layers only.

        Raises:
            ValueError: If a count is negative, or more positions are kept than there are.
        """
        kept = new if kept is None else kept
        check_counts(context=context, new=new, kept=kept)
        if kept > new:
            raise ValueError(f"kept is {kept}: at most new, {new}, is possible")
        total = self.context // self.unit * (context + new) if new else 0
        for (window, chunked, late), weight in self.kinds.items():
            queries = kept if late else new
            total += weight * attended_in_layer(window, context + new - queries, queries, chunked)
        return total

    def attended_singly(self, context: int, new: int) -> int:
        """Return the positions that `new` calls of one token each attend to, as in generation token by token."""
        expanded = new * context + new * (new + 1) // 2
        return self.attended(context, new) + self.context // self.unit * (expanded - (context + new if new else 0))

    @cached_property
    def kinds(self) -> Mapping[Attends, int]:
        """Units of one attended position, summed over the layers that attend to the same positions."""
        kinds: Counter[Attends] = Counter()
        for layer in self.layers:
            kinds[Attends(layer.window, layer.chunked, layer.late)] += layer.pair // self.unit
        return kinds


def attended_in_layer(window: int | None, context: int, new_tokens: int, chunked: bool = False) -> int:
    """Return the number of positions that new tokens attend to in one layer.

    Args:
        window: Maximum number of positions that the layer attends to; None for all.
        context: Number of tokens in the cache before the first new one.
        new_tokens: Number of tokens passed through the layer.
        chunked: Whether the window is a chunk. See `AttentionLayer`.
    """
    if window is not None and chunked:
        return _in_chunks(window, context + new_tokens) - _in_chunks(window, context)
    unbounded = new_tokens if window is None else min(max(window - context, 0), new_tokens)
    rising = unbounded * context + unbounded * (unbounded + 1) // 2
    return rising + (new_tokens - unbounded) * (window or 0)


def _in_chunks(size: int, tokens: int) -> int:
    whole, rest = divmod(tokens, size)
    return whole * (size * (size + 1) // 2) + rest * (rest + 1) // 2


def check_counts(**counts: int) -> None:
    """Raise a `ValueError` if a count is negative."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} is {count}: a count of at least 0 is needed")


def check_size(name: str, size: object) -> int:
    """Return a size, or raise a `UsageError` if it is not a positive integer."""
    if not isinstance(size, int) or size < 1:
        raise UsageError(f"{name} is {size!r}: a positive integer is needed")
    return size
