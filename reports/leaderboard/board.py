"""The board: finished runs side by side. What every rendering shows, terminal, Markdown, CSV, JSON or HTML.

Rows are compared and ranked only within a group: one task, model, budget and item set. Every accuracy stands beside
what it cost, and a run that did not end well is a row with its reason. Sorted, without a date: the same records give
the same board to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.stats import Estimate

MATCHED = 0.95
"""Share of the group's budget that a row must have spent for its compute to be called matched."""


@dataclass(frozen=True)
class Rate:
    """What a PFLOP, 1e15 model FLOPs, costs: money, energy, whatever the reader pays in."""

    amount: float
    unit: str

    def price(self, flops: float) -> float:
        """Return what so many FLOPs cost."""
        return self.amount * flops / 1e15


@dataclass(frozen=True)
class SeedRun:
    """One run of a line.

    Attributes:
        id: Its identity.
        seed: Of the method.
        status: How it ended.
        reason: Why, where it did not end well.
        accuracy: Of this run alone; None where it did not end well.
        flops: What adaptation spent.
        seconds: Wall-clock time of the attempt that ended it.
    """

    id: str
    seed: int
    status: str
    reason: str | None = None
    accuracy: float | None = None
    flops: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Line:
    """One row of a table: a thing to deploy, or what became of the attempt at one. Costs are means over seeds.

    Attributes:
        name: Method, row label and the settings in which its runs differ from others of the method in this group.
        method: Registered name.
        label: Of the row; empty where a run has one.
        bound: Whether it adapts nothing, as the base and what samples it: what every other row must beat.
        rank: One more than the number of rows that are better beyond chance; None without an accuracy.
        accuracy: Over seeds and items; None if no seed ended well.
        difference: Against the base on the same items; None for the base itself.
        corrected: The p-value of the difference, corrected for all rows of the group (Holm).
        evaluations: Forward passes of adaptation: model-prompt evaluations.
        flops: FLOPs of adaptation.
        share: Part of the group's budget that was spent, the least over seeds.
        matched: Whether that is all but 5 % at most; None for a method that plans to spend nothing.
        passes: Forward passes of one answer.
        answer_flops: FLOPs of one answer.
        answer_tokens: New tokens of one answer.
        seconds: Wall-clock time of a run; None where it is not known.
        runs: Its runs, by seed.
    """

    name: str
    method: str
    label: str = ""
    bound: bool = False
    rank: int | None = None
    accuracy: Estimate | None = None
    difference: Estimate | None = None
    corrected: float | None = None
    evaluations: float = 0.0
    flops: float = 0.0
    share: float = 0.0
    matched: bool | None = None
    passes: float = 0.0
    answer_flops: float = 0.0
    answer_tokens: float = 0.0
    seconds: float | None = None
    runs: tuple[SeedRun, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that ended well."""
        return tuple(run.seed for run in self.runs if run.accuracy is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Status and reason of the others."""
        bad = [run for run in self.runs if run.accuracy is None]
        return tuple(f"seed {run.seed}: {run.status}: {run.reason}" for run in bad)

    @property
    def status(self) -> str:
        """One word where all seeds ended alike, else how many ended well."""
        ended = {run.status for run in self.runs} or {"ok"}
        return ended.pop() if len(ended) == 1 else f"{len(self.seeds)} of {len(self.runs)} ok"


@dataclass(frozen=True)
class Group:
    """What may be compared: one task or pair of tasks, model, budget and item set.

    Attributes:
        task: Name, or `mbpp to humaneval`.
        model: Name.
        budget: Name of the budget, or its size in evaluations.
        budget_flops: Its size; the largest where runs measured it differently.
        strategy: How test answers come about.
        item_set: Tells item sets apart; empty where no run ended well.
        items: How many test items.
        lines: The base, then other rows that adapt nothing, then the rest as sorted; those without an accuracy last.
        notes: What a reader must know of the group, in sentences.
        settings: Prompt style, precision and item limit, where they were asked for.
    """

    task: str
    model: str
    budget: str
    budget_flops: float
    strategy: str
    item_set: str
    items: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    settings: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """An accuracy against the compute behind it: adaptation, and the answers to the test items.

    Attributes:
        name: Of the line.
        budget: Of its group; empty for one that adapts nothing, whatever the budget.
        flops: FLOPs of adaptation and of answering every test item once.
        accuracy: With its interval.
        front: Whether no point of the curve is better at no more compute.
    """

    name: str
    budget: str
    flops: float
    accuracy: Estimate
    front: bool


@dataclass(frozen=True)
class Curve:
    """Accuracy against compute for one task, model, strategy and item set, over all budgets.

    Attributes:
        points: From the least compute to the most.
        area: Under the Pareto front: mean over log compute, from the first point to the last, of the best accuracy that
            was had for no more; None where there is one point.
        settings: Of its groups.
    """

    task: str
    model: str
    strategy: str
    item_set: str
    items: int
    points: tuple[CurvePoint, ...]
    area: float | None
    settings: str = ""


@dataclass(frozen=True)
class Profile:
    """How often, over tasks, a method is within a margin of the best one there; for one model and budget.

    Attributes:
        tasks: At least two.
        margins: Differences in accuracy.
        shares: By name of the line: the share of tasks, for each margin.
    """

    model: str
    budget: str
    strategy: str
    tasks: tuple[str, ...]
    margins: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Board:
    """Everything a leaderboard shows.

    Attributes:
        groups: In the order of task, model and size of the budget.
        curves: In the order of task and model.
        profiles: Of models and budgets with several tasks.
        rate: What the reader pays for a PFLOP; None leaves prices out.
    """

    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    profiles: tuple[Profile, ...]
    rate: Rate | None = None
