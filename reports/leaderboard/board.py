"""Leaderboard as plain data: the content of every rendering (terminal, Markdown, CSV, JSON, HTML).

Boards are sorted and carry no date, so the same records always give the same board.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.leaderboard.group import Group
from reports.leaderboard.summaries import TASKS, Curve, Profile, SuiteCoverage, Withdrawal
from reports.leaderboard.transfer import Transfer


@dataclass(frozen=True)
class Rate:
    """Price of one PFLOP (1e15 model FLOPs), in any unit: money, energy, time.

    Attributes:
        amount: Price of one PFLOP.
        unit: Name of the unit, such as `USD`.
    """

    amount: float
    unit: str

    def price(self, flops: float) -> float:
        """Return the price of this many FLOPs."""
        return self.amount * flops / 1e15


@dataclass(frozen=True)
class Board:
    """Leaderboard.

    Attributes:
        groups: Tables, ordered by task, model and size of the budget.
        curves: Curves of accuracy against compute, ordered by task and model.
        profiles: Performance profiles of models and budgets with at least `TASKS` tasks of different items.
        rate: Price of one PFLOP; None for a board without prices.
        suites: Suites that the records belong to.
        withdrawals: Records that were withdrawn from this board.
        transfers: Transfer matrices, if there are tests of finished runs.
        columns: Keys of the columns that were chosen; empty for all that apply.
        against: Name of the row that the others are compared with; empty for the base.
        most_tasks: Largest number of tasks with different items that one model, budget and ruleset have.
    """

    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    profiles: tuple[Profile, ...]
    rate: Rate | None = None
    suites: tuple[SuiteCoverage, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    columns: tuple[str, ...] = ()
    against: str = ""
    most_tasks: int = 0

    @property
    def completeness(self) -> tuple[str, ...]:
        """Sentences about what the board lacks: a profile across tasks, runs of suites, and records withdrawn."""
        most = "is 1" if self.most_tasks == 1 else f"are {self.most_tasks}"
        profile = (
            f"no profile across tasks: it needs {TASKS} tasks with different items under one model, budget and ruleset,"
            f" and there {most} at most"
        )
        lacking = () if self.profiles or not self.groups else (profile,)
        return (*lacking, *(part.text for part in self.suites), *(part.text for part in self.withdrawals))
