"""Meter that records work, and refuses work that exceeds the budget.

An engine calls `reserve` with the work of its next step before the step runs, so a run stops before it exceeds the
budget. Only how many proposed tokens are right is known after a step. They are reserved then, and are not used if the
meter refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Ledger, Work, model_flops
from bench.compute.profile import ComputeProfile
from bench.errors import BenchError


class OverBudget(BenchError):
    """The next step would exceed the run's budget. It ends the adaptation, and the run's status is `over_budget`."""


class AllowanceSpent(Exception):
    """The next step would exceed the allowance that a method set for one evaluation. The run continues.

    Attributes:
        refused: Work of that step.
    """

    def __init__(self, refused: Work) -> None:
        super().__init__(refused)
        self.refused = refused


class Meter:
    """Records work in the open account, and enforces the adaptation budget.

    Example:
        with meter.account("sample"):
            engine.generate(prompts, sampling, meter)

    Args:
        profile: Compute profile of the metered model.
        limit: Adaptation budget in model FLOPs; None while it is not known.

    Attributes:
        tripped: Whether any step was refused because it exceeded the budget.
        listeners: Functions that are called after each recorded step.
    """

    def __init__(self, profile: ComputeProfile, limit: int | None = None) -> None:
        self.profile = profile
        self.limit = limit
        self.ledger = Ledger()
        self.tripped = False
        self.listeners: list[Callable[[], None]] = []
        self._spent = 0
        self._account: Account | None = None
        self._into: AdaptationAccount | None = None
        self._start = 0  # what was spent before the open part of the budget
        self._allowance: int | None = None
        self._opened = Work()

    @property
    def spent(self) -> int:
        """Adaptation FLOPs recorded so far."""
        return self._spent

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs that are left in the budget.

        Raises:
            RuntimeError: If the budget is not set.
        """
        if self.limit is None:
            raise RuntimeError("the meter has no budget yet")
        return self.limit - self._spent

    @property
    def available(self) -> int | None:
        """FLOPs that are left for the open block; None if nothing limits it."""
        limits = [] if self._allowance is None else [self._allowance]
        if self._account in ADAPTATION and self.limit is not None:
            limits.append(self.remaining)
        return min(limits, default=None)

    def covers(self, work: Work) -> bool:
        """Return whether this work fits into the open block's remaining FLOPs."""
        return self.available is None or self.flops(work) <= self.available

    def flops(self, work: Work) -> int:
        """Return the model FLOPs of this work on the metered model."""
        return model_flops(self.profile, work)

    @contextmanager
    def account(self, name: Account, allowance: int | None = None) -> Iterator[None]:
        """Record all work of this block in one account.

        Args:
            name: Name of the account.
            allowance: Maximum FLOPs of this block, above which `reserve` raises `AllowanceSpent`; None for no maximum.

        Raises:
            RuntimeError: If another account is open.
        """
        if self._account is not None:
            raise RuntimeError(f"account {self._account!r} is open; accounts do not nest")
        self._account, self._allowance, self._opened = self.booked_to(name), allowance, Work()
        try:
            yield
        finally:
            self._account = None

    @contextmanager
    def part(self, limit: int, into: AdaptationAccount) -> Iterator[None]:
        """Limit the adaptation work of this block to a part of the budget, and book all of it to one account.

        Within the block, `remaining` and `tripped` are those of the part, and `limit` is where it ends. A block that is
        stopped there does not stop the rest of the run.

        Args:
            limit: Maximum FLOPs of this block.
            into: Account for all adaptation work of the block, whatever account it is booked to.

        Raises:
            RuntimeError: If the budget is not set.
        """
        part = self._spent + min(limit, self.remaining)
        outer = self.limit, self.tripped, self._into, self._start
        self.limit, self.tripped, self._into, self._start = part, False, into, self._spent
        try:
            yield
        finally:
            self.limit, self.tripped, self._into, self._start = outer

    def booked_to(self, account: Account) -> Account:
        """Return the account that work for an account is booked to: that of the open part, if there is one."""
        return self._into if self._into is not None and account in ADAPTATION else account

    @property
    def opened(self) -> Work:
        """Work recorded since the current or last account was opened."""
        return self._opened

    def reserve(self, work: Work) -> None:
        """Record work that is about to be done.

        Raises:
            OverBudget: If the work exceeds the budget. Nothing is recorded, and all later adaptation work is refused.
            AllowanceSpent: If the work exceeds the block's allowance, which is checked first. Nothing is recorded.
            RuntimeError: If no account is open.
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
                f"the next step costs {cost:.3g} FLOPs and {self.remaining:.3g} of {self.limit - self._start:.3g} are "
                "left"
            )
        if self._allowance is not None:
            self._allowance -= cost
        self.replay(self._account, work)
        self._opened += work

    def replay(self, account: Account, work: Work) -> None:
        """Record work that an earlier attempt of this run did, as read from its journal."""
        account = self.booked_to(account)
        self.ledger.book(account, work)
        if account in ADAPTATION:
            self._spent += self.flops(work)
        for listener in self.listeners:
            listener()
