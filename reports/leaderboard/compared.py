"""Compare the rows of a table with one of them: the base, or another row. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.stats import RowAnswers, pairwise_difference
from reports.leaderboard.group import LEVEL, LeaderboardRow, OverSeeds
from reports.leaderboard.rows import ScoredRow


def compared(
    rows: Sequence[ScoredRow], against: str, clusters: Sequence[int] | None, *, same_rules: bool
) -> tuple[list[ScoredRow], int, tuple[str, ...]]:
    """Return the rows with their differences, the number of different comparisons that have an interval, and notes.

    Args:
        rows: Rows of the table.
        against: Name of the row that the others are compared with; empty for the base.
        clusters: Cluster of each item; None if items are independent.
        same_rules: Whether the rows were made by the same rules. If not, they are compared with the base alone.
    """
    if not against:
        comparisons = len({c.key for row in rows for c in (row.trained, row.gated) if c and c.tested})
        return [replace(row, line=_with_base(row, max(comparisons, 1))) for row in rows], comparisons, ()
    other = next((row for row in rows if row.line.name == against), None)
    if other is None:
        return list(rows), 0, (f"no row is named {against} here, so nothing is compared",)
    if not same_rules:
        return list(rows), 0, ("rows by rules of their own are compared with the base alone",)
    untested = f"{against} has no letters, so no difference from it has an interval"
    return *_with_row(rows, other, clusters), () if tested(other) else (untested,)


def _with_base(row: ScoredRow, comparisons: int) -> LeaderboardRow:
    """Return a row's line with its differences from the base, as trained and gated.

    The seeds that failed are not like those that ended, so a row that lacks some has no test.
    """
    line = row.line
    if row.trained:
        found = row.trained.difference(comparisons)
        line = replace(line, difference=replace(found, p_value=None) if line.failed else found)
    if row.gated and line.gated:
        line = replace(line, gated=replace(line.gated, difference=row.gated.difference(comparisons)))
    return line


def _with_row(
    rows: Sequence[ScoredRow], other: ScoredRow, clusters: Sequence[int] | None
) -> tuple[list[ScoredRow], int]:
    """Return the rows with their differences from another row, as trained.

    A pair has an interval if both rows have letters. The base's difference from the other row is that row's from the
    base, with the other sign.
    """
    pairs = [_pair(row, other, clusters) for row in rows]
    comparisons = len({pair.key for pair in pairs if pair and pair.tested})
    made = []
    for row, pair in zip(rows, pairs, strict=True):
        found = pair.difference(max(comparisons, 1)) if pair else None
        if row.line.is_base and other.trained and tested(other):
            found = _negative(other.trained.difference(max(comparisons, 1)))
        made.append(replace(row, line=replace(row.line, difference=found)))
    return made, comparisons


def _negative(found: OverSeeds) -> OverSeeds:
    low, high = (None if bound is None else -bound for bound in (found.high, found.low))
    return replace(found, value=-found.value, low=low, high=high, seeds=tuple(-value for value in found.seeds))


def tested(row: ScoredRow) -> bool:
    """Return whether a row is tested against others: the base, and rows as trained that are tested against it.

    A row with failed seeds is not.
    """
    adapted = row.trained is not None and row.trained.tested
    return row.line.is_base or (adapted and not row.line.own_gate and not row.line.failed)


@dataclass(frozen=True)
class _Pair:
    """Answers of two rows to the items that were judged for both.

    Attributes:
        before: The row that the other is compared with.
        now: The row that is compared.
        testable: Whether both rows may be tested.
        clusters: Cluster of each item; None if items are independent.
    """

    before: RowAnswers
    now: RowAnswers
    testable: bool
    clusters: NDArray[np.int_] | None

    @property
    def key(self) -> tuple[bytes, ...]:
        """Content of the comparison: rows with equal keys are one hypothesis."""
        return tuple(part.tobytes() for part in (self.now.correct, self.now.base, self.now.changed) if part is not None)

    @property
    def tested(self) -> bool:
        """Whether the difference has an interval: both rows may be tested, and their answers differ."""
        several = len(self.now.correct) > 1 and (self.clusters is None or len(set(self.clusters.tolist())) > 1)
        return self.testable and several and not np.array_equal(self.now.correct, self.before.correct)

    def difference(self, comparisons: int) -> OverSeeds:
        """Return the difference, with an interval that holds together with all others.

        Args:
            comparisons: Number of different comparisons in the table, over which Bonferroni's correction is made.
        """
        by_seed = self.now.correct.mean(axis=0) - self.before.correct.mean()
        found = OverSeeds(float(by_seed.mean()), seeds=tuple(by_seed.tolist()))
        if not self.tested:
            return found
        made = pairwise_difference(self.before, self.now, confidence=1 - LEVEL / comparisons, clusters=self.clusters)
        return replace(found, low=made.low, high=made.high, p_value=min(comparisons * (made.p_value or 0.0), 1.0))


def _pair(row: ScoredRow, other: ScoredRow, clusters: Sequence[int] | None) -> _Pair | None:
    """Return the answers of two rows; None if no item was judged for both, or the row is the other or the base."""
    if row is other or row.line.returned_base or row.judged is None or other.judged is None:
        return None
    judged = row.judged & other.judged
    stems = None if clusters is None else np.asarray(clusters)[judged]
    testable = tested(row) and tested(other)
    return _Pair(_answers(other, judged), _answers(row, judged), testable, stems) if judged.any() else None


def _answers(row: ScoredRow, judged: NDArray[np.bool_]) -> RowAnswers:
    """Return the answers of a row to some of its judged items."""
    assert row.correct is not None
    if row.trained is None:
        return RowAnswers(row.correct[judged])
    among = judged[row.judged]
    return RowAnswers(row.trained.now[among], row.trained.before[among], row.trained.changed)
