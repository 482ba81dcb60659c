"""The board as text: rich tables for a terminal, Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reports.board import Group, Line

COLUMNS = (
    "",
    "seeds",
    "accuracy",
    "95 %",
    "vs base",
    "95 %",
    "p",
    "adaptation evaluations",
    "FLOPs",
    "of budget",
    "passes an answer",
    "FLOPs an answer",
)
WIDE = 120
"""Characters from which a terminal shows all columns; a narrower one leaves out those of `BY_THE_WAY`."""
BY_THE_WAY = ("seeds", "adaptation evaluations", "FLOPs", "of budget")


def cells(line: Line) -> tuple[str, ...]:
    """Return one line of the table as text."""
    if line.accuracy is None:
        return (line.name, *[""] * (len(COLUMNS) - 1))
    a, d = line.accuracy, line.difference
    adapted = d is not None
    return (
        line.name,
        ",".join(map(str, line.seeds)),
        f"{100 * a.value:.1f} %",
        f"{100 * a.low:.1f} to {100 * a.high:.1f}",
        f"{100 * d.value:+.1f}" if d else "",
        f"{100 * d.low:+.1f} to {100 * d.high:+.1f}" if d else "",
        f"{d.p_value:.2g}" if d and d.p_value is not None else "",
        f"{line.evaluations:,.0f}" if adapted else "",
        f"{line.flops:.3g}" if adapted else "",
        f"{100 * line.spent:.1f} %" if adapted else "",
        f"{line.passes:g}",
        f"{line.answer_flops:.3g}",
    )


def _title(group: Group) -> str:
    asked = "" if group.strategy == "greedy" else f", {group.strategy}"
    return f"{group.task}, {group.model}, budget {group.budget}{asked}, {group.items} test items"


def print_board(console: Console, groups: Sequence[Group]) -> None:
    """Print a table a group."""
    hidden = BY_THE_WAY if console.width < WIDE else ()
    for group in groups:
        table = Table(
            title=escape(_title(group)), title_justify="left", box=None, pad_edge=False, collapse_padding=True
        )
        shown = [i for i, column in enumerate(COLUMNS) if column not in hidden]
        rows = [[cells(line)[i] for i in shown] for line in group.lines]
        for i in shown:
            # A name gives way where it is narrow; a figure is never cut, so its heading is stacked.
            heading = COLUMNS[i] if i == 0 else COLUMNS[i].replace(" ", "\n").replace("95\n%", "95 %")
            table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        for note in group.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        console.print()


def markdown(groups: Sequence[Group]) -> str:
    """Return a table a group."""
    parts = []
    for group in groups:
        rows = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *map(cells, group.lines)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        parts.append("\n\n".join([f"## {_title(group)}", table, *group.notes]))
    return "\n\n".join(parts)
