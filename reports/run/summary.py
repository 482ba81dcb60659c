"""Sentences about one run, shared by terminal and HTML page. They are plain text; the caller escapes them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.config import RunConfig
from bench.records.rows import PairedComparison, Row
from bench.records.schema import BudgetInfo, Result


def run_title(config: RunConfig) -> str:
    """Return the title of a run, such as `corp on addition, tiny-adder, budget smoke, seed 0`."""
    title = f"{config.method} on {config.task_label}, {config.model}, budget {config.budget}, seed {config.seed}"
    return title if config.strategy == "greedy" else f"{title}, {config.strategy}"


def named_rows(result: Result) -> list[tuple[str, Row]]:
    """Return the rows to show with their names, such as `base` and `randopt k=5`.

    A control has only the base's, because its own rows repeat it.
    """
    base = [("base", row) for row in result.rows[:1]]
    return base if result.is_control else base + [(row_name(result, row), row) for row in result.artifacts]


def row_name(result: Result, row: Row) -> str:
    """Return the name of an artifact's row, such as `randopt k=5`."""
    return f"{result.config.method} {row.label}".strip()


def comparisons(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row that compares it with the base."""
    return [_comparison(name, row, row.comparison) for name, row in rows if row.comparison is not None]


def _comparison(name: str, row: Row, c: PairedComparison) -> str:
    if not row.changed:
        return f"{name} returned the base model unchanged, so its answers and cost are the base's"
    return (
        f"{name}: {100 * c.difference:+.1f} points ({100 * c.low:+.1f} to {100 * c.high:+.1f}) on the same "
        f"{c.items} items: {c.fixes} fixes, {c.regressions} regressions, exact McNemar p = {c.p_value:.3g}"
    )


def truncations(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row with answers that ended at the length limit."""
    return [
        f"{name}: {100 * row.truncated:.1f} % of the answers ended at the length limit"
        for name, row in rows
        if row.truncated
    ]


def coverages(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence on pass@k for each row that measured it."""
    lines = []
    for name, row in rows:
        if (c := row.coverage) is None:
            continue
        line = f"{name}: pass@{c.k} {100 * c.value:.1f} % ({100 * c.low:.1f} to {100 * c.high:.1f}), from "
        line += f"{c.samples} samples for each of {c.items} items"
        if d := c.difference:
            line += (
                f"; {100 * d.difference:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f}), p = {d.p_value:.3g}"
            )
        lines.append(line)
    return lines


def spent(budget: BudgetInfo) -> str:
    """Return a sentence on how much of the budget adaptation spent."""
    return (
        f"adaptation spent {budget.spent:.4g} of {budget.flops:.4g} FLOPs ({100 * budget.share:.1f} %), the budget "
        f"{budget.name} of {budget.evaluations:,} evaluations at {budget.evaluation_flops:.3g} FLOPs each"
    )
