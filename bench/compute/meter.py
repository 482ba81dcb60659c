"""The meter: books work before it is done, and refuses what a budget no longer covers.

An engine calls `reserve` with the exact work of its next step, so a run stops before the first token too many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.compute.flops import ModelShape
from bench.compute.ledger import ADAPTATION, Account, Ledger, Work, model_flops
from bench.errors import BenchError


class OverBudget(BenchError):
    """The next step would exceed the run's budget. Ends the adaptation; the record says so."""


class AllowanceSpent(Exception):
    """The next step would exceed the allowance that a method gave this one evaluation. An answer, not a failure.

    Attributes:
        refused: That step's work.
    """

    def __init__(self, refused: Work) -> None:
        super().__init__(refused)
        self.refused = refused


class Meter:
    """Books work to the open account and enforces the adaptation budget.

    Args:
        shape: The model whose work is metered.
        limit: Adaptation budget in model FLOPs, or None while it is not known yet.

    Attributes:
        tripped: Whether work beyond the budget was ever asked for.
        listeners: Called after each booking.
    """

    def __init__(self, shape: ModelShape, limit: int | None = None) -> None:
        self.shape = shape
        self.limit = limit
        self.ledger = Ledger()
        self.tripped = False
        self.listeners: list[Callable[[], None]] = []
        self._spent = 0
        self._account: Account | None = None
        self._allowance: int | None = None
        self._opened = Work()

    @property
    def spent(self) -> int:
        """Adaptation FLOPs booked so far."""
        return self._spent

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs that the budget still covers.

        Raises:
            RuntimeError: If no budget was set.
        """
        if self.limit is None:
            raise RuntimeError("the meter has no budget yet")
        return self.limit - self._spent

    @property
    def available(self) -> int | None:
        """FLOPs that the open block may still take; None if nothing limits it."""
        limits = [] if self._allowance is None else [self._allowance]
        if self._account in ADAPTATION and self.limit is not None:
            limits.append(self.remaining)
        return min(limits, default=None)

    def covers(self, work: Work) -> bool:
        """Whether the open block may still take some work."""
        return self.available is None or self.flops(work) <= self.available

    def flops(self, work: Work) -> int:
        """Return the model FLOPs of some work on this meter's model."""
        return model_flops(self.shape, work)

    @contextmanager
    def account(self, name: Account, allowance: int | None = None) -> Iterator[None]:
        """Book all work in this block to one account.

        Args:
            name: The account.
            allowance: FLOPs that this block may take; beyond it `reserve` raises `AllowanceSpent`.
        """
        if self._account is not None:
            raise RuntimeError(f"account {self._account!r} is open; accounts do not nest")
        self._account, self._allowance, self._opened = name, allowance, Work()
        try:
            yield
        finally:
            self._account = None

    @property
    def opened(self) -> Work:
        """Work booked since the current or last account was opened."""
        return self._opened

    def reserve(self, work: Work) -> None:
        """Book work that is about to be done.

        Raises:
            OverBudget: If the budget does not cover it; nothing is booked, and nothing more ever will be.
            AllowanceSpent: If the block's allowance does not cover it, whether or not the budget does; likewise.
        """
        if self._account is None:
            raise RuntimeError("work outside any account: open one with `Meter.account`")
        cost = self.flops(work)
        if self._allowance is not None and cost > self._allowance:
            raise AllowanceSpent(work)
        billed = self._account in ADAPTATION
        if billed and self.limit is not None and (self.tripped or cost > self.remaining):
            self.tripped = True
            raise OverBudget(
                f"the next step costs {cost:.3g} FLOPs and {self.remaining:.3g} of {self.limit:.3g} are left"
            )
        if self._allowance is not None:
            self._allowance -= cost
        self.replay(self._account, work)
        self._opened += work

    def replay(self, account: Account, work: Work) -> None:
        """Book work that an earlier attempt of this run did and journalled."""
        self.ledger.book(account, work)
        if account in ADAPTATION:
            self._spent += self.flops(work)
        for listener in self.listeners:
            listener()
