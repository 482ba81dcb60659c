"""Renderings of the leaderboard as text: tables for a terminal, Markdown, CSV, and data for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from rich.console import Console

from bench.console import PlainTable
from bench.plain import csv_cell, line
from bench.plain import markdown as md
from bench.stats import Estimate
from reports.leaderboard.board import Board
from reports.leaderboard.columns import (
    GROUP_FIELDS,
    LEFT,
    ROW_FIELDS,
    Column,
    area_text,
    columns,
    curve_title,
    fitting,
    profile_title,
    title,
)
from reports.leaderboard.group import Group
from reports.leaderboard.naming import interval_text
from reports.leaderboard.summaries import Curve
from reports.leaderboard.transfer import EXPLAINED as TRANSFER_EXPLAINED
from reports.leaderboard.transfer import print_transfers

CURVE_COLUMNS = ("row", "budget", "total FLOPs", "accuracy", "95 %", "front")
CURVE_TEXTS = ("row", "budget", "front")
EXPLAINED = (
    "The order of rows is no ranking; what can be told apart stands under verdict and letters. "
    "verdict: better or worse than {base} exactly if the simultaneous interval excludes 0, and then p is at most .05. "
    "letters: two rows share one exactly if they are not significantly different (all pairs, Holm, 5 %). "
    "95 %: interval of this row alone, over items, and over seeds where a row has five or more. "
    "simultaneous 95 %: interval of the difference from {base}; all intervals of a table hold together in 95 % of "
    "tables (Bonferroni over its different comparisons). "
    "corrected p: test of no difference from {base}, with the same correction. "
    "seeds: the values of the seeds, where an interval would not cover (two to four seeds, or fewer than two that are "
    "not the base) or no verdict differs from the base's. Such a row is not tested and has no letters, and neither has "
    "a row whose seeds all returned the base. An interval of one seed holds for the model of that seed. A method that "
    "adapts can return the base, so intervals over seeds allow for the share of seeds that would. A row of which seeds "
    "failed shows those that ended, and has no test and no letters. "
    "records: each is checked against itself. That its run took place cannot be seen in a record; `bench audit` "
    "repeats it (docs/trust.md)."
)
"""Legend below the tables."""


def explained(board: Board, shown: Callable[[str], str] = line) -> str:
    """Return the legend below the tables, which names the row that the others are compared with, as `shown` does."""
    return EXPLAINED.format(base=shown(board.against) or "the base")


def print_board(console: Console, board: Board) -> None:
    """Print one table per group, with the columns that fit the console, and one per curve."""
    shown = columns(board)
    for group in board.groups:
        console.print(group_table(group, shown, console.width))
        for note in group.notes:
            console.print(line(note), markup=False, highlight=False)
        console.print()
    for curve in board.curves:
        if len(curve.points) < 2:
            continue
        console.print(PlainTable(CURVE_COLUMNS, list(_curve_rows(curve)), CURVE_TEXTS, title=curve_title(curve)))
        console.print(area_text(curve), markup=False, highlight=False)
        console.print()
    print_transfers(console, board.transfers)
    for sentence in board.completeness:
        console.print(line(sentence), markup=False, highlight=False)
    if board.groups:
        console.print(explained(board), markup=False, highlight=False, style="dim")


def group_table(group: Group, shown: tuple[Column, ...], width: int) -> PlainTable:
    """Return the table of one group, with the columns that fit a width."""
    made = fitting(shown, group.lines, width)
    return PlainTable(made.headings, list(made.rows), made.left, made.folds, title(group))


def _curve_rows(curve: Curve) -> list[list[str]]:
    return [
        [
            p.name,
            p.budget,
            f"{p.flops:.3g}",
            f"{100 * p.accuracy.value:.1f} %",
            interval_text(p.accuracy),
            "yes" if p.front else "",
        ]
        for p in curve.points
    ]


def markdown(board: Board) -> str:
    """Return the board as Markdown: one table per group, per curve and per profile."""
    shown = columns(board)
    parts: list[list[str]] = []
    for group in board.groups:
        heads = [c.heading for c in shown], [c.key in LEFT for c in shown]
        rows = [[column.text(row) for column in shown] for row in group.lines]
        parts.append([f"## {md(title(group))}", _pipes(*heads, rows), *map(md, group.notes)])
    for curve in board.curves:
        table = _pipes(CURVE_COLUMNS, [name in CURVE_TEXTS for name in CURVE_COLUMNS], _curve_rows(curve))
        parts.append([f"## {md(curve_title(curve))}", table, md(area_text(curve))])
    for profile in board.profiles:
        at = [i for i, margin in enumerate(profile.margins) if margin in (0.0, 0.01, 0.05, 0.1)]
        names = ["", *(f"within {100 * profile.margins[i]:g}" for i in at)]
        rows = [[name, *(_share(shares[i]) for i in at)] for name, shares in profile.shares.items()]
        parts.append([f"## {md(profile_title(profile))}", _pipes(names, [True, *[False] * len(at)], rows)])
    for transfer in board.transfers:
        table = _pipes(transfer.headings, [True, True, *[False] * (len(transfer.headings) - 2)], transfer.texts)
        parts.append([f"## {md(transfer.title)}", table, *map(md, transfer.notes), TRANSFER_EXPLAINED])
    return "\n\n".join([*chain.from_iterable(parts), *map(md, board.completeness), explained(board, md)])


def _share(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _pipes(headings: Sequence[str], left: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        headings: Headings of the columns.
        left: Whether each column is aligned to the left; otherwise it is to the right.
        rows: Texts of the cells by row.
    """
    lines = [map(md, headings), ("---" if each else "---:" for each in left), *(map(md, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_csv(board: Board) -> str:
    """Return all rows of all groups as one CSV table of plain values.

    Unknown values are left empty. For example:

        task,model,budget,ruleset,strategy,item_set,items,name,accuracy,low,high,...
        addition,tiny-adder,2048,published,greedy,ddf26b57e40c,1000,base,0.524,0.49301327402101147,...
    """
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(_records(board))
    return file.getvalue()


def as_tsv(board: Board) -> str:
    """Return the table of `as_csv` with tabs between the values and without quotes, as `cut` and `awk` read it.

    A tab in a text is written as two characters, `\\t`, as in `bench.plain.line`.
    """
    return "".join("\t".join(map(str, row)) + "\n" for row in _records(board))


def _records(board: Board) -> list[list[object]]:
    """Return the names of the fields, and the values of each row, as cells of a file that may hold any text."""
    shown = dict(chain.from_iterable(column.fields.items() for column in columns(board)))
    if not board.columns:
        shown |= ROW_FIELDS
    rows = [
        [getattr(group, name) for name in GROUP_FIELDS] + [value(row) for value in shown.values()]
        for group in board.groups
        for row in group.lines
    ]
    return [[*GROUP_FIELDS, *shown], *(list(map(csv_cell, row)) for row in rows)]


@dataclass(frozen=True)
class BoardOutput(Board):
    """The board as data for JSON.

    Attributes:
        unfinished: Run directories that were left out because they have no result yet.
        unreadable: Reason for each record that was left out because it cannot be read.
    """

    unfinished: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
