"""One pass of a metered decoder: the tokens in it, what its profile promises, and what has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial

import numpy as np

from bench.compute.ledger import Phase, Work
from bench.compute.profile import AttentionLayer, attended_in_layer


class Pass:
    """One forward pass through a decoder, and its backward pass. Products are multiply-adds with padding.

    Args:
        phase: Phase of the pass.
        rows: Number of sequences.
        width: Number of columns of the batch.
        context: Number of columns in the cache.
        mask: Mask of the real tokens of the batch, and of the cache if it covers that; None if all are real.
        layers: Number of decoder layers.

    Attributes:
        valid: Mask of the real tokens of the batch, shape (rows, width); None if all are real.
        real: Number of tokens without padding.
        run: Number of tokens with padding.
        promised: Products that the model's profile promises.
        ran: Products that have run, but for those of late layers.
        late: Products of layers that run for the last columns only, by their number. They are not promised.
        queries: Number of last columns that each layer runs for.
        gradients: Products of each layer's backward pass; zero if its graph is built only during recomputation.
        recomputed: Products that were computed again and are not recorded yet.
        recomputed_gradients: Products of the gradients that follow these, if no hook knew them before.
    """

    def __init__(self, phase: Phase, rows: int, width: int, context: int, mask: np.ndarray | None, layers: int) -> None:
        self.phase, self.rows, self.width, self.context = phase, rows, width, context
        self.valid = None if mask is None else mask[:, -width:]
        self._ends = np.full(rows, context)  # real tokens of each row, of cache and batch
        if mask is not None and self.valid is not None:
            # If the mask does not cover the cache, the whole cache is context.
            before = mask[:, :-width].sum(1) if mask.shape[1] > width else self._ends
            self._ends = before + self.valid.sum(1)
        self._lengths: dict[int, Counter[tuple[int, int]]] = {}
        self.real = self._real(width)
        self.run = rows * width
        self.promised = self.ran = 0
        self.late: Counter[int] = Counter()
        self.queries = [width] * layers
        self.gradients = [0] * layers
        self.recomputed = self.recomputed_gradients = 0
        self._positions: dict[tuple[int | None, bool, int], tuple[int, int]] = {}

    def lengths(self, queries: int) -> Counter[tuple[int, int]]:
        """Return the number of rows by their real tokens before the last columns, and in them."""
        if queries not in self._lengths:
            if self.valid is None:
                found = Counter({(self.context + self.width - queries, queries): self.rows})
            else:
                new = self.valid[:, -queries:].sum(1)
                found = Counter(zip((self._ends - new).tolist(), new.tolist(), strict=True))
            self._lengths[queries] = found
        return self._lengths[queries]

    def attended(self, calls: Iterable[AttentionLayer], queries: int) -> tuple[int, int]:
        """Return the FLOPs of calls of attention for the last columns: of real tokens, and of all tokens."""
        real = padded = 0
        for call in calls:
            key = call.window, call.chunked, queries
            if key not in self._positions:
                in_layer = partial(attended_in_layer, call.window, chunked=call.chunked)
                self._positions[key] = (
                    sum(in_layer(*length) * rows for length, rows in self.lengths(queries).items()),
                    in_layer(self.context + self.width - queries, queries) * self.rows,
                )
            real += call.pair * self._positions[key][0]
            padded += call.pair * self._positions[key][1]
        return real, padded

    def work(self, products: int, queries: int | None = None, **counts: int) -> Work:
        """Return products as work.

        Args:
            products: Multiply-adds with padding.
            queries: Number of last columns that they are for; None for all. Their share of real tokens is real work.
            counts: Other fields of the work.
        """
        columns = self.width if queries is None else queries
        real = products * self._real(columns) // (self.rows * columns)
        return Work(products=real, padded_products=products, **counts)

    def _real(self, queries: int) -> int:
        return sum(new * rows for (_, new), rows in self.lengths(queries).items())

    def take_recomputed(self) -> tuple[int, int]:
        """Return the products that were computed again and those of their gradients, and forget them."""
        taken = self.recomputed, self.recomputed_gradients
        self.recomputed = self.recomputed_gradients = 0
        return taken
