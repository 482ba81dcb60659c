"""Wall-clock time of a run by kind of work and by account."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from bench.compute.ledger import Account, Work

Kind = Literal["loading", "moves", "generation", "judging", "training"]
"""Kinds of work: loading models and starting engines; moving weights; generating answers, or waiting for engines that
generate; scoring, including running programs; gradient training as a whole."""


class Clock:
    """Wall-clock time by kind of work. Time outside all spans is the harness's own.

    Attributes:
        seconds: Seconds so far, by kind.
        accounts: Seconds so far, by account. They include those of earlier attempts, which are in the journal.
        work: Work of the answers that were generated so far, not recalled from the journal.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.accounts: dict[Account, float] = {}
        self.work = Work()
        self._open = False

    @contextmanager
    def span(self, kind: Kind) -> Iterator[None]:
        """Book the time of a block to a kind. Nested spans book nothing, so no time counts twice."""
        if self._open:
            yield
            return
        self._open, started = True, time.perf_counter()
        try:
            yield
        finally:
            self._open = False
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - started

    def book(self, account: Account, seconds: float) -> None:
        """Add the time of journalled work to an account."""
        self.accounts[account] = self.accounts.get(account, 0.0) + seconds
