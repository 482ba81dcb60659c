"""Renderings of the leaderboard as text: tables for a terminal, Markdown, CSV, and data for JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reports.leaderboard.board import Board, Curve, Group
from reports.leaderboard.columns import Column, columns, curve_title, fitting, rules, title

CURVE_COLUMNS = ("", "budget", "total FLOPs", "accuracy", "95 %", "front")
CURVE_TEXTS = ("", "budget", "front")
EXPLAINED = (
    "#: rank, one plus the number of rows that are significantly better (all pairs, Holm, 5 %). 95 %: confidence "
    "interval over items, and over seeds where a row has several. p: test of no difference from the base, corrected "
    "for the table (Holm). A row whose seeds all returned the base is not tested, and has no rank."
)
"""Legend below the tables."""


def print_board(console: Console, board: Board) -> None:
    """Print one table per group, with the columns that fit the console, and one per curve."""
    shown = columns(board)
    for group in board.groups:
        console.print(_table(group, shown, console.width))
        for note in group.notes:
            console.print(note, markup=False, highlight=False)
        console.print()
    for curve in board.curves:
        if len(curve.points) < 2:
            continue
        console.print(curve_title(curve), style="italic", markup=False, highlight=False)
        console.print(_curve_table(curve))
        if curve.area is not None:
            console.print(_area(curve), markup=False, highlight=False)
        console.print()
    for line in board.completeness:
        console.print(line, markup=False, highlight=False)
    if board.groups:
        console.print(EXPLAINED, markup=False, highlight=False, style="dim")


def _table(group: Group, shown: tuple[Column, ...], width: int) -> Table:
    rows = [[column.text(line) for column in shown] for line in group.lines]
    table = Table(title=escape(title(group)), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    kept = fitting(shown, rows, width)
    for i in kept:
        # On a narrow terminal names are folded. Numbers never are, so their headings take several lines instead.
        name = shown[i].key == "name"
        heading = shown[i].heading if shown[i].heading == "95 %" else shown[i].heading.replace(" ", "\n")
        left = shown[i].key in ("name", "status")
        table.add_column(heading, justify="left" if left else "right", no_wrap=not name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[i]) for i in kept))
    return table


def _curve_table(curve: Curve) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in CURVE_COLUMNS:
        text = heading in CURVE_TEXTS
        table.add_column(heading, justify="left" if text else "right", no_wrap=bool(heading), overflow="fold")
    for row in _curve_rows(curve):
        table.add_row(*map(escape, row))
    return table


def _curve_rows(curve: Curve) -> list[list[str]]:
    return [
        [
            p.name,
            p.budget,
            f"{p.flops:.3g}",
            f"{100 * p.accuracy.value:.1f} %",
            f"{100 * p.accuracy.low:.1f} to {100 * p.accuracy.high:.1f}",
            "yes" if p.front else "",
        ]
        for p in curve.points
    ]


def _area(curve: Curve) -> str:
    return "" if curve.area is None else f"Area under the front: {100 * curve.area:.1f} %."


def markdown(board: Board) -> str:
    """Return the board as Markdown: one table per group, per curve and per profile."""
    shown = columns(board)
    parts = []
    for group in board.groups:
        heads = [[c.heading for c in shown], ["---" if c.key in ("name", "status") else "---:" for c in shown]]
        rows = [[column.text(line) for column in shown] for line in group.lines]
        parts.append("\n\n".join([f"## {title(group)}", _pipes([*heads, *rows]), *group.notes]))
    for curve in board.curves:
        heads = [[*CURVE_COLUMNS], ["---" if name in CURVE_TEXTS else "---:" for name in CURVE_COLUMNS]]
        table = _pipes([*heads, *_curve_rows(curve)])
        parts.append("\n\n".join(filter(None, ["## " + curve_title(curve), table, _area(curve)])))
    for profile in board.profiles:
        at = [i for i, margin in enumerate(profile.margins) if margin in (0.0, 0.01, 0.05, 0.1)]
        heads = [["", *(f"within {100 * profile.margins[i]:g}" for i in at)], ["---", *["---:"] * len(at)]]
        rows = [[name, *(f"{100 * shares[i]:.0f} %" for i in at)] for name, shares in profile.shares.items()]
        name = (
            f"## Share of tasks within this many points of the best row: {profile.model}, budget {profile.budget}, "
            f"{rules(profile.ruleset)}, {len(profile.tasks)} tasks"
        )
        parts.append("\n\n".join([name, _pipes([*heads, *rows])]))
    return "\n\n".join([*parts, *board.completeness, EXPLAINED])


def _pipes(rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    )


def as_csv(board: Board) -> str:
    """Return all rows of all groups as one CSV table of plain values.

    Unknown values are left empty. For example:

        task,model,budget,ruleset,strategy,item_set,items,rank,name,accuracy,low,high,...
        addition,tiny-adder,2048,published,greedy,ddf26b57e40c,1000,3,base,0.524,0.49301327402101147,...
    """
    file = io.StringIO()
    where = ("task", "model", "budget", "ruleset", "strategy", "item_set", "items")
    fields = list(_values(board.groups[0], 0, board)) if board.groups else []
    writer = csv.DictWriter(file, [*where, *fields], lineterminator="\n")
    writer.writeheader()
    for group in board.groups:
        for row in range(len(group.lines)):
            values = {name: getattr(group, name) for name in where} | _values(group, row, board)
            writer.writerow({key: "" if value is None else value for key, value in values.items()})
    return file.getvalue()


def _values(group: Group, row: int, board: Board) -> dict[str, Any]:
    line = group.lines[row]
    values: dict[str, Any] = {}
    for column in columns(board):
        if column.key == "interval":
            values |= {"low": column.value(line), "high": line.accuracy.high if line.accuracy else None}
        elif column.key == "difference_interval":
            high = line.difference.high if line.difference else None
            values |= {"difference_low": column.value(line), "difference_high": high}
        else:
            values[column.key] = column.value(line)
    if "gated" in values:
        found = {"gated_seeds": "seeds", "gated_share_low": "low", "gated_share_high": "high"}
        values |= {name: getattr(line.gated, part) if line.gated else None for name, part in found.items()}
    values |= {"own_gate": line.own_gate, "returned_base": line.returned_base}
    values["seeds"] = " ".join(map(str, line.seeds))
    values["reason"] = "; ".join(line.problems)
    return values


@dataclass(frozen=True)
class BoardOutput(Board):
    """The board as data for JSON.

    Attributes:
        unfinished: Run directories that were left out because they have no result yet.
        unreadable: Reason for each record that was left out because it cannot be read.
    """

    unfinished: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
