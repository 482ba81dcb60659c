"""Terminal output of `bench compare`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.amounts import counted
from bench.console import PlainTable, heading
from bench.plain import line
from bench.stats import Estimate
from reports.comparison.compare import ChangedItem, RunComparison

SIDES = 160
"""Maximum width of two answers beside each other, in characters."""
LISTED = 40
"""Maximum number of item ids to print; --json has all of them."""


def print_comparison(console: Console, found: RunComparison, samples: int) -> None:
    """Print a comparison: accuracies, test of the difference, and the ids of the items that changed.

    Args:
        console: Console to print to.
        found: The comparison.
        samples: Number of fixes, and of regressions, to print with both answers.
    """
    headings = ("", "accuracy", "95 %", "adaptation FLOPs", "passes per answer", "FLOPs per answer")
    table = PlainTable(headings, title=found.task)
    sides = (("first", found.first), ("second", found.second))
    for name, side in sides:
        _print(console, f"{name}: {side.name}")
        a = side.accuracy
        interval = f"{100 * a.low:.1f} to {100 * a.high:.1f}"
        costs = (f"{side.adaptation_flops:.3g}", f"{side.cost.evaluations:g}", f"{side.cost.flops:.3g}")
        table.add_row(name, f"{100 * a.value:.1f} %", interval, *costs)
    console.print(table)
    _print(console, "")
    _print(console, f"{counted(found.items, 'item')} judged for both, {found.excluded} not")
    _print(console, f"both right {found.both_right}, both wrong {found.both_wrong}")
    p_value = found.difference.p_value
    counts = f"{counted(len(found.fixes), 'fix', 'fixes')}, {counted(len(found.regressions), 'regression')}"
    _print(console, f"{counts}: {_points(found.difference)} points, exact McNemar p = {p_value:.3g}")
    if found.reward:
        r = found.reward
        _print(console, f"shaped reward (not accuracy): {r.value:+.4f} ({r.low:+.4f} to {r.high:+.4f}, bootstrap)")
    for name, changes in (("fixes", found.fixes), ("regressions", found.regressions)):
        if changes:
            more = f" and {len(changes) - LISTED} more" if len(changes) > LISTED else ""
            _print(console, f"{name}: {', '.join(change.id for change in changes[:LISTED])}{more}")
    _print_changes(console, "fix", found.fixes[:samples])
    _print_changes(console, "regression", found.regressions[:samples])


def _print_changes(console: Console, name: str, changes: Sequence[ChangedItem]) -> None:
    for change in changes:
        heading(console, f"{change.id}: {name}")
        if change.question:
            console.print(change.question, markup=False, highlight=False, emoji=False, soft_wrap=True)
        if change.gold is not None:
            text = f"(reference answer: {change.gold})"
            console.print(text, markup=False, style="dim", highlight=False, emoji=False, soft_wrap=True)
        # A pipe has no width, and two long answers would not be beside each other.
        table = Table(box=None, pad_edge=False, show_edge=False, width=min(console.width, SIDES))
        for side in ("first", "second"):
            table.add_column(side, ratio=1, overflow="fold")
        table.add_row(escape(change.first), escape(change.second))
        console.print(table, highlight=False, emoji=False)


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"


def _print(console: Console, text: str) -> None:
    console.print(line(text), markup=False, highlight=False, emoji=False, soft_wrap=not console.is_terminal)
