"""Summaries of a leaderboard as plain data: curves and profiles across tables, suites and withdrawn records."""

from __future__ import annotations

from dataclasses import dataclass

from bench.amounts import counted
from bench.records.tuning import PUBLISHED
from bench.stats import Estimate
from reports.leaderboard.group import OverSeeds

SPAN = 100
"""End of the compute over which the area under a front is taken, in costs of the base's answers. It is the same for all
boards, so that the area does not depend on which rows are there."""

TASKS = 5
"""Least number of tasks with different items in a performance profile. A share of fewer tasks says little of others."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy of a line against its total compute.

    Attributes:
        name: Name of the line.
        budget: Budget of the line's group; empty for a row without adaptation, which is the same at every budget.
        flops: FLOPs of adaptation plus those of the curve's answers.
        accuracy: Accuracy, with its confidence interval where one covers.
        front: Whether the point is on the Pareto front: no other point is more accurate at the same compute or less.
        base: Whether this is the base's point.
    """

    name: str
    budget: str
    flops: float
    accuracy: OverSeeds
    front: bool
    base: bool = False


@dataclass(frozen=True)
class Curve:
    """Accuracy against compute for one task, model, strategy and item set, over all budgets.

    Attributes:
        task: Name of the task.
        model: Name of the base model.
        strategy: Test-time strategy.
        item_set: See `Group`.
        answers: Number of deployed answers that the compute counts, beside adaptation.
        points: Points in order of compute.
        low: Compute at which the area begins: that many answers of the base.
        high: Compute at which the area ends: `SPAN` times as much.
        area: Area under the Pareto front: the best accuracy so far, averaged over log compute from `low` to `high`.
        settings: See `Group`.
        ruleset: See `Group`.
    """

    task: str
    model: str
    strategy: str
    item_set: str
    answers: int
    points: tuple[CurvePoint, ...]
    low: float
    high: float
    area: float
    settings: str = ""
    ruleset: str = PUBLISHED


@dataclass(frozen=True)
class Profile:
    """Performance profile: how often a method is within a margin of a task's best row, for one model and budget.

    Attributes:
        model: Name of the base model.
        budget: Name of the budget.
        strategy: Test-time strategy.
        tasks: Names of at least `TASKS` tasks with different items. Tasks with the same items are one, such as
            `addition and modular-addition`, and their accuracies are averaged.
        margins: Differences in accuracy, in [0, 1].
        shares: Fraction of tasks within each margin, by name of the line, with its bootstrap interval over seeds.
        ruleset: See `Group`.
        settings: See `Group`.
    """

    model: str
    budget: str
    strategy: str
    tasks: tuple[str, ...]
    margins: tuple[float, ...]
    shares: dict[str, tuple[Estimate, ...]]
    ruleset: str = PUBLISHED
    settings: str = ""


@dataclass(frozen=True)
class SuiteCoverage:
    """How many of a suite's planned runs are on record.

    Attributes:
        name: Name of the suite.
        planned: Number of planned runs.
        found: Number of them with a record.
        missing: The others without their settings, such as `corp on addition, tiny-adder, budget 2048, seed 1, 2`.
    """

    name: str
    planned: int
    found: int
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """Sentence such as `suite ci: 59 of 60 planned runs; missing: es on addition, tiny-adder, ...`."""
        missing = f"; missing: {'; '.join(self.missing)}" if self.missing else ""
        return f"suite {self.name}: {self.found} of {self.planned} planned runs{missing}"


@dataclass(frozen=True)
class Withdrawal:
    """Records that were on a board and are no more.

    Attributes:
        reason: What was wrong with them.
        records: The first 8 digits of their ids.
    """

    reason: str
    records: tuple[str, ...]

    @property
    def text(self) -> str:
        """Sentence such as `withdrawn: 2 records (listed in withdrawn.toml): a gate of its own decided each`."""
        return f"withdrawn: {counted(len(self.records), 'record')} (listed in withdrawn.toml): {self.reason}"
