"""Work of the passes of a batch, booked to the meters of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.batches import Batch, Pass
from bench.engines.local import BatchRow

Rows = Sequence[BatchRow[Any]]


class Booking:
    """Books each pass of a batch before it runs.

    Args:
        profile: Costs of the model.
        batch: The batch. It must tell its sequences' work apart if there are several meters.
        meters: Meter of each owner of rows.
        products: Multiply-adds that each owner's displacement adds to a token.
        computed: Multiply-adds that the hardware adds to each token, for all displacements of the batch.
    """

    def __init__(
        self, profile: ComputeProfile, batch: Batch, meters: Sequence[Meter], products: Sequence[int], computed: int
    ) -> None:
        self._profile, self._batch, self._meters = profile, batch, meters
        self._products, self._computed_products = products, computed

    def enter(self, rows: Rows, running: Pass) -> None:
        """Book whole prompts."""

        def work(owner: int, chosen: Sequence[int]) -> Work:
            lengths = [len(rows[i].prompt) for i in chosen]
            return Work(
                evaluations=len(lengths),
                prefill_tokens=sum(lengths),
                head_tokens=len(lengths),
                attended=sum(self._profile.attended(0, n, kept=1) for n in lengths),
                products=self._products[owner] * sum(lengths),
            ) + self._computed(chosen, running)

        self._each(rows, work)

    def step(self, rows: Rows, contexts: Sequence[int], running: Pass) -> None:
        """Book the next token of each row, and what the hardware computes for those that the rows propose."""

        def work(owner: int, chosen: Sequence[int]) -> Work:
            tokens = self._decoding(owner, [contexts[i] for i in chosen], [1] * len(chosen))
            return tokens + self._computed(chosen, running)

        self._each(rows, work)

    def keep(self, rows: Rows, contexts: Sequence[int], proposed: Sequence[list[int]], kept: Sequence[int]) -> None:
        """Book the proposed tokens that stay, after their pass.

        Raises:
            OverBudget: If they exceed the budget. Then none of them is kept.
            AllowanceSpent: Likewise for the open block's allowance.
        """
        for owner, chosen in self._by_owner(rows).items():
            meter, count = self._meters[owner], sum(len(proposed[i]) for i in chosen)
            more = self._decoding(owner, [contexts[i] + 1 for i in chosen], [kept[i] for i in chosen])
            if not meter.covers(more):  # the next line raises, and nothing of what was proposed is kept
                meter.reserve(Work(discarded_head_tokens=count))
            meter.reserve(more + Work(discarded_head_tokens=count - sum(kept[i] for i in chosen)))

    def _computed(self, chosen: Sequence[int], running: Any) -> Work:
        """Return what the hardware computes in a pass for some of its sequences."""
        if len(self._meters) == 1:
            tokens, attended = running.computed, self._batch.attended(running, self._profile)
        else:
            tokens = sum(len(running.tokens[i]) for i in chosen)
            attended = self._batch.attended(running, self._profile, chosen)
        return Work(
            padded_tokens=tokens,
            padded_attended=attended,
            discarded_head_tokens=running.spare_heads,
            padded_products=self._computed_products * tokens,
        )

    def _decoding(self, owner: int, contexts: Sequence[int], counts: Sequence[int]) -> Work:
        """Return the model's work for some more tokens of each row, without what the hardware adds."""
        return Work(
            decode_tokens=sum(counts),
            head_tokens=sum(counts),
            attended=sum(self._profile.attended_singly(c, n) for c, n in zip(contexts, counts, strict=True)),
            products=self._products[owner] * sum(counts),
        )

    def _each(self, rows: Rows, work: Callable[[int, Sequence[int]], Work]) -> None:
        for owner, chosen in self._by_owner(rows).items():
            self._meters[owner].reserve(work(owner, chosen))

    def _by_owner(self, rows: Rows) -> dict[int, Sequence[int]]:
        """Return the numbers of each owner's rows."""
        if len(self._meters) == 1:
            return {0: range(len(rows))}
        found: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            found.setdefault(row.owner, []).append(i)
        return dict(found)
