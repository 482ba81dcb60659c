"""Table of a leaderboard as plain data: the rows of one group, and their values.

Rows are compared only within a group: one task, model, budget, item set and ruleset. Every accuracy comes with its
cost. A failed run is a row that gives the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import computed_field

from bench.records.tuning import CUSTOM, DECLARED, PUBLISHED
from bench.stats import Interval

MATCHED = 0.95
"""Share of the group's budget that a row must have spent for its compute to be called matched."""
LEVEL = 0.05
"""Family-wise error rate of a table: of its intervals against the base, and of its letters."""

Verdict = Literal["better", "worse", "cannot be told"]


@dataclass(frozen=True)
class OverSeeds:
    """Mean over seeds and items, the value of each seed, and an interval where one covers.

    Attributes:
        value: Mean.
        low: Lower bound of the interval; None where no interval has its coverage (`bench.stats.interval_holds`), or
            where nothing differs from the base.
        high: Upper bound, or None.
        p_value: For a difference with an interval, the p-value for no difference.
        seeds: Value of each seed, in the order of the seeds.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    seeds: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else Interval(self.low, self.high)


@dataclass(frozen=True)
class SeedRun:
    """One run (one seed) of a line.

    Attributes:
        id: Identity of the run.
        seed: Seed of the method.
        status: How the run ended, such as `ok` or `refused`.
        reason: Reason for a status other than `ok`.
        accuracy: Accuracy of this run alone; None if it failed.
        flops: FLOPs that adaptation spent.
        seconds: Wall-clock seconds of the run's last attempt; None if unknown.
    """

    id: str
    seed: int
    status: str
    reason: str | None = None
    accuracy: float | None = None
    flops: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Gated:
    """What the harness's gate made of a row.

    Attributes:
        kept: Number of seeds whose result was kept.
        seeds: Number of seeds that were gated.
        low: Lower bound of the exact 95 % interval of the share that is kept (Clopper-Pearson).
        high: Upper bound.
        difference: Accuracy of the gated results minus the base's, on the same items, with a simultaneous interval as
            `LeaderboardRow.difference` has; None if none was kept.
        detectable: Gain that the gate keeps in 80 % of runs at the observed share of regressions, the largest over
            seeds; None if there is none, or nothing was tested.
    """

    kept: int
    seeds: int
    low: float
    high: float
    difference: OverSeeds | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class LeaderboardRow:
    """A leaderboard row: an artifact, or a run that has none, with its status and reason. Costs are means over seeds.

    Attributes:
        name: Method and row label, plus the settings that differ between this method's rows in the group, and
            `(gated by its method)` for a row with `own_gate`.
        method: Registered name of the method.
        label: Label of the row within its runs, such as `k=5`; empty if a run has only one row.
        bound: Whether the row involves no adaptation (the base, or sampling from the base). Such rows bound the table:
            every other row should beat them.
        is_base: Whether this is the base's own row, as it was tested in the runs of the table.
        own_gate: Whether the method's own gate, which earlier versions had, chose between its result and the base. Such
            a row is not as trained, and has no letters.
        returned_base: Whether every seed returned the base. Such a row is compared with nothing.
        letters: Letters such as `ab`. Two rows share one exactly if they are not significantly different. None if the
            row is not compared.
        accuracy: Accuracy over seeds and items, with its own 95 % interval; None if every seed failed, or no item has a
            judged answer under every seed.
        judged: Number of items that accuracy and difference are over: those with a judged answer under every seed.
        difference: Accuracy minus the base's, or minus that of the board's `against`, on the same items, with a
            simultaneous interval: all intervals of the group hold together in 95 % of groups. The p-value is corrected
            in the same way, and is at most .05 exactly if the interval excludes 0. None for the row that the others
            are compared with, and against the base if every seed returned it. A row with a failed seed has no p-value.
        gated: What the gate made of the row, which shows the results as trained; None without a gate.
        ungated: Reasons why runs of the row have no gate.
        evaluations: Model-prompt evaluations (forward passes) of adaptation.
        flops: FLOPs of adaptation.
        share: Fraction of the group's budget that was spent, or reserved for the gate; the smallest over seeds.
        matched: Whether `share` is at least `MATCHED`; None for a method that plans to spend nothing.
        passes: Forward passes per answer.
        answer_flops: FLOPs per answer.
        answer_tokens: New tokens per answer.
        thought_tokens: Tokens of a thought per answer, in the rows where it is known; None if in none.
        seconds: Wall-clock seconds per run; None if unknown.
        kept: Cosine of the move of the weights and what the group's dtype kept of it; the lowest over seeds. None if
            no run has one.
        runs: The runs behind the row, by seed.
        settings: Settings and versions of the method as sorted JSON, by which profiles join rows of several tasks.
    """

    name: str
    method: str
    label: str = ""
    bound: bool = False
    is_base: bool = False
    own_gate: bool = False
    returned_base: bool = False
    letters: str | None = None
    accuracy: OverSeeds | None = None
    judged: int = 0
    difference: OverSeeds | None = None
    gated: Gated | None = None
    ungated: tuple[str, ...] = ()
    evaluations: float = 0.0
    flops: float = 0.0
    share: float = 0.0
    matched: bool | None = None
    passes: float = 0.0
    answer_flops: float = 0.0
    answer_tokens: float = 0.0
    thought_tokens: float | None = None
    seconds: float | None = None
    kept: float | None = None
    runs: tuple[SeedRun, ...] = ()
    settings: str = "{}"

    @property
    def failed(self) -> int:
        """Number of runs without an accuracy."""
        return sum(run.accuracy is None for run in self.runs)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict | None:
        """Whether the row is better or worse than the base, or than the board's `against`, from the interval.

        None for a row without a difference, and for one with a failed seed: those that ended do not speak for it.
        """
        if self.difference is None or self.failed:
            return None
        bounds = self.difference.interval
        if bounds is None or bounds.low <= 0 <= bounds.high:
            return "cannot be told"
        return "better" if bounds.low > 0 else "worse"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds whose runs succeeded."""
        return tuple(run.seed for run in self.runs if run.accuracy is not None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def problems(self) -> tuple[str, ...]:
        """Status and reason of the runs without an accuracy, such as `seeds 1, 2: failed: out of memory`."""
        seeds: dict[str, list[int]] = {}
        for run in self.runs:
            if run.accuracy is None:
                seeds.setdefault(f"{run.status}: {run.reason}", []).append(run.seed)
        return tuple(f"seed{'s' * (len(s) > 1)} {', '.join(map(str, s))}: {why}" for why, s in seeds.items())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> str:
        """Common status of all runs, or how many of them are ok, such as `2 of 3 ok`."""
        ended = {run.status for run in self.runs} or {"ok"}
        return ended.pop() if len(ended) == 1 else f"{len(self.seeds)} of {len(self.runs)} ok"


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: same task (or pair of tasks), model, budget, item set and ruleset.

    Attributes:
        task: Name of the task, or `mbpp to humaneval` for adaptation on mbpp and test on humaneval.
        model: Name of the base model.
        budget: Name of the budget, or its size in evaluations.
        budget_flops: Budget in FLOPs; the largest if the runs measured different values.
        strategy: Test-time strategy: `greedy`, `maj@K`, `bon@K` or `pass@K`.
        item_set: First 12 characters of the hash of the test item ids; empty if every run failed.
        items: Number of test items.
        lines: The base, then other rows without adaptation, then the rest in sort order; failed runs come last.
        notes: Remarks for the reader, one sentence each.
        settings: Reward, prompts, gate, prompt style, precision and item limit, where they differ from the defaults.
        tests: Whether the rows are tests of finished runs, which the transfer matrix joins.
        ruleset: Rules that the rows were made by: `published`, `tuned K`, `custom` or `declared`. Rows of the last two
            have no letters.
        controlled: Whether the runs replaced the reward or the prompts. Profiles over tasks leave such groups out.
        comparisons: Number of different comparisons with the base that have an interval, as trained and gated, or of
            those with the board's `against`, as trained. Rows with the same answers are one, and copies are none. Each
            interval has the level 1 - .05 / comparisons.
    """

    task: str
    model: str
    budget: str
    budget_flops: float
    strategy: str
    item_set: str
    items: int
    lines: tuple[LeaderboardRow, ...]
    notes: tuple[str, ...] = ()
    settings: str = ""
    ruleset: str = PUBLISHED
    controlled: bool = False
    tests: bool = False
    comparisons: int = 0

    @property
    def same_rules(self) -> bool:
        """Whether the rows were made by the same rules, so that they may be compared with one another."""
        return self.ruleset not in (CUSTOM, DECLARED)
