"""HTML page of the leaderboard. Pure functions: the same records always give the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from bench.stats import Estimate, Interval
from reports.html.page import anchor, page_name, render
from reports.html.svg import Mark, Plot, Rule, labels, spanning, staircase, strokes
from reports.html.table import Heading, HtmlCell, HtmlTable, Link, percent, whiskers
from reports.leaderboard.board import Board
from reports.leaderboard.columns import Column, area_text, columns, curve_title, profile_title, title
from reports.leaderboard.group import Group, LeaderboardRow, OverSeeds, SeedRun
from reports.leaderboard.naming import interval_text
from reports.leaderboard.summaries import Curve, Profile
from reports.leaderboard.text import explained
from reports.leaderboard.transfer import EXPLAINED as TRANSFERS_EXPLAINED
from reports.leaderboard.transfer import Transfer, Transferred

INTERVALS = {"accuracy": "interval", "difference": "difference_interval"}
"""Columns shown in small print in another column's cells: key of that column to key of the interval."""
DESCENDING = ("accuracy", "difference", "gated", "gated_difference", "share")
WIDTH, HEIGHT = 720.0, 400.0
MARGINS = (0.0, 0.01, 0.05, 0.1)


def board_page(board: Board, pages: Collection[str] = ()) -> str:
    """Return the page of a leaderboard.

    Args:
        board: Leaderboard to show.
        pages: Ids of the runs that have a page of their own in `runs/`, to link to.
    """
    groups = [_group(board, number, group, pages) for number, group in enumerate(board.groups, start=1)]
    curves = [
        {"plot": curve_plot(c), "table": _points(c), "area": area_text(c)} for c in board.curves if len(c.points) > 1
    ]
    profiles = [_profile(profile) for profile in board.profiles]
    return render(
        "board.html",
        groups=groups,
        curves=curves,
        profiles=profiles,
        transfers=[{"table": _transfer(transfer), "notes": transfer.notes} for transfer in board.transfers],
        transfers_explained=TRANSFERS_EXPLAINED,
        explained=explained(board),
        completeness=board.completeness,
    )


def _transfer(transfer: Transfer) -> HtmlTable:
    names = ("method", "adapted on")
    headings = [Heading(text, text not in names, text == "method", text not in names) for text in transfer.headings]
    base, *rows = transfer.texts
    cells = [tuple(map(HtmlCell, base))]
    for texts, row in zip(rows, transfer.rows, strict=True):
        values = (row.name, row.adapted_on, *map(_gain, row.cells), _gain(row.others))
        cells.append(tuple(map(HtmlCell, texts, values)))
    return HtmlTable(transfer.title, tuple(headings), tuple(cells))


def _gain(cell: Transferred | None) -> float | None:
    return cell.difference.value if cell and cell.difference else None


def _group(board: Board, number: int, group: Group, pages: Collection[str]) -> Mapping[str, Any]:
    reasons = {f"{line.name}: {problem}" for line in group.lines for problem in line.problems}
    return {
        "id": f"group-{number}-{anchor(group.task)}",
        "heading": f"{group.task}, {group.model}",
        "fine": _fine(group),
        "table": _table(board, group, pages),
        # The table already gives the reasons of failed runs.
        "notes": [note for note in group.notes if note not in reasons],
    }


def _table(board: Board, group: Group, pages: Collection[str]) -> HtmlTable:
    by_key = {column.key: column for column in columns(board)}
    beside = {INTERVALS[key] for key in by_key if key in INTERVALS}
    shown = [column for key, column in by_key.items() if key not in beside]
    base = next((line.accuracy.value for line in group.lines if line.is_base and line.accuracy), None)
    drawn = whiskers([_drawn(line.accuracy) for line in group.lines], base)
    highest = max((line.answer_flops for line in group.lines), default=0.0)
    headings: list[Heading] = []
    for column in shown:
        text = column.key in ("name", "letters", "status", "matched", "seeds", "gated", "verdict")
        small = f" ({by_key[interval].heading})" if (interval := INTERVALS.get(column.key, "")) in by_key else ""
        headings.append(Heading(column.heading + small, not text, column.key == "name", column.key in DESCENDING))
        if column.key == "accuracy":
            headings.append(Heading("95 % intervals", number=False, sortable=False, drawn=True))
    rows = []
    for line, whisker in zip(group.lines, drawn, strict=True):
        cells: list[HtmlCell] = []
        for column in shown:
            cells.append(_cell(column, line, by_key, highest, pages))
            if column.key == "accuracy":
                cells.append(HtmlCell(whisker=whisker))
        rows.append(tuple(cells))
    return HtmlTable(_fine(group), tuple(headings), tuple(rows))


def _drawn(estimate: OverSeeds | None) -> Estimate | None:
    """Return an estimate that is drawn; None without an interval."""
    bounds = estimate and estimate.interval
    return Estimate(estimate.value, *bounds) if estimate and bounds else None


def _fine(group: Group) -> str:
    return title(group).removeprefix(f"{group.task}, {group.model}, ")


def _cell(
    column: Column, line: LeaderboardRow, by_key: Mapping[str, Column], highest: float, pages: Collection[str]
) -> HtmlCell:
    cell = HtmlCell(column.text(line), column.value(line))
    if (interval := INTERVALS.get(column.key, "")) in by_key:
        return replace(cell, fine=by_key[interval].text(line))
    if column.key == "answer_flops" and line.accuracy and highest:
        return replace(cell, bar=line.answer_flops / highest)
    if column.key == "seeds":
        return HtmlCell(value=float(len(line.seeds)), links=tuple(_link(run, pages) for run in line.runs))
    if column.key == "status":
        return replace(cell, fine="; ".join(line.problems))
    return cell


def _link(run: SeedRun, pages: Collection[str]) -> Link:
    return Link(str(run.seed), f"runs/{page_name(run.id)}" if run.id in pages else "")


def curve_plot(curve: Curve) -> Plot:
    """Return the plot of accuracy against compute: points with intervals, the Pareto front, and a line at the base."""
    left, right, top, bottom = 62.0, WIDTH - 16, 16.0, HEIGHT - 52
    x = spanning([max(p.flops, 1.0) for p in curve.points], left, right, log=True)
    bounds = [p.accuracy.interval or Interval(p.accuracy.value, p.accuracy.value) for p in curve.points]
    y = spanning([bound for pair in bounds for bound in pair], bottom, top, percent=True)
    several = len({p.budget for p in curve.points if p.budget}) > 1
    marks = [
        Mark(
            x=x(max(p.flops, 1.0)),
            y=y(p.accuracy.value),
            low=y(drawn.low),
            high=y(drawn.high),
            tooltip=(
                f"{f'{p.name} {p.budget}'.strip()}: {percent(p.accuracy.value)} "
                f"({interval_text(p.accuracy) or 'no interval'}) at {p.flops:.3g} FLOPs"
                + (", on the Pareto front" if p.front else "")
            ),
            strong=p.front,
            name=f"{p.name} {p.budget}".strip() if several else p.name,
            data={
                "flops": p.flops,
                "accuracy": p.accuracy.value,
                "low": drawn.low,
                "high": drawn.high,
            },
        )
        for p, drawn in zip(curve.points, bounds, strict=True)
    ]
    front = [(m.x, m.y) for m in marks if m.strong]
    # The base is a point as well as the reference line for all others.
    rules = tuple(Rule(y(p.accuracy.value)) for p in curve.points if p.base)
    lines = [*strokes(front, right), *((left, rule.y - 1, right, rule.y + 1) for rule in rules)]
    places = labels(marks, (left, top, right, bottom), lines)
    return Plot(
        title=curve_title(curve),
        width=WIDTH,
        height=HEIGHT,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_title="FLOPs",
        x_ticks=x.ticks(7),
        y_ticks=y.ticks(6),
        path=staircase(front, right),
        rules=rules,
        marks=tuple(replace(m, label=place) for m, place in zip(marks, places, strict=True)),
    )


def _points(curve: Curve) -> HtmlTable:
    headings = (
        Heading("row", number=False, head=True),
        Heading("budget", number=False),
        Heading("total FLOPs"),
        Heading("accuracy", descending=True),
        Heading("on the front", number=False),
    )
    rows = tuple(
        (
            HtmlCell(p.name, p.name),
            HtmlCell(p.budget, p.budget),
            HtmlCell(f"{p.flops:.3g}", p.flops),
            HtmlCell(percent(p.accuracy.value), p.accuracy.value, interval_text(p.accuracy)),
            HtmlCell("yes" if p.front else "", "yes" if p.front else None),
        )
        for p in curve.points
    )
    return HtmlTable(curve_title(curve), headings, rows)


def _profile(profile: Profile) -> HtmlTable:
    at = [i for i, margin in enumerate(profile.margins) if margin in MARGINS]
    texts = [f"within {100 * profile.margins[i]:g}" if profile.margins[i] else "best" for i in at]
    headings = (Heading("row", number=False, head=True), *(Heading(text, descending=True) for text in texts))
    rows = tuple((HtmlCell(name, name), *(_share(shares[i]) for i in at)) for name, shares in profile.shares.items())
    return HtmlTable(profile_title(profile), headings, rows)


def _share(share: Estimate) -> HtmlCell:
    return HtmlCell(f"{100 * share.value:.0f} %", share.value, f"{100 * share.low:.0f} to {100 * share.high:.0f}")
