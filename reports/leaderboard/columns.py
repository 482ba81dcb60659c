"""Columns of the leaderboard's tables: heading, text and value of each, shared by all renderings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import reduce
from typing import Any, Literal

from bench.amounts import counted
from bench.console import fits
from bench.errors import UsageError
from reports.leaderboard.board import Board, Rate
from reports.leaderboard.group import Group, LeaderboardRow
from reports.leaderboard.naming import interval_text, seeds_text
from reports.leaderboard.summaries import SPAN, Curve, Profile


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Attributes:
        key: Name of the column, which chooses it.
        heading: Name of the column for a reader.
        text: Text of a cell.
        value: Value of a cell, for sorting; None for an empty cell.
        needed: Priority on a narrow terminal: the columns with the lowest number are dropped first, 9 is never dropped.
            Accuracy, its difference, the verdict and the costs of adaptation and of an answer have 9.
        parts: Fields of the column in CSV, such as `low` and `high` of an interval. Empty: one field, with the key and
            the value.
    """

    key: str
    heading: str
    text: Callable[[LeaderboardRow], str]
    value: Callable[[LeaderboardRow], Any]
    needed: int = 9
    parts: Mapping[str, Callable[[LeaderboardRow], Any]] = field(default_factory=dict)

    @property
    def fields(self) -> Mapping[str, Callable[[LeaderboardRow], Any]]:
        """Fields of the column in CSV, with the function of each value."""
        return self.parts or {self.key: self.value}


def columns(board: Board) -> tuple[Column, ...]:
    """Return the columns of a board's tables: those that the board names, else all that apply to it.

    A board with a rate has prices, one with a gated row the gate's columns, and one with thoughts their length. Of a
    board whose rows are compared with another row than the base, the gate's differences are left out.

    Raises:
        UsageError: If the board names a column that it does not have.
    """
    rate, against = board.rate, board.against
    prices = () if rate is None else (_price(rate, "adaptation", 1), _price(rate, "answer", 1000))
    known = {column.key: column for column in (*_COLUMNS, *prices)}
    if against:
        known["difference"] = replace(known["difference"], heading=f"vs {against}")
        del known["gated_difference"]
    if board.columns:
        return tuple(replace(known[key], needed=9) for key in _chosen(board, list(known)))
    lines = [line for group in board.groups for line in group.lines]
    gated = any(line.gated for line in lines)
    thoughts = any(line.thought_tokens for line in lines)
    absent = {*(() if gated else GATED), *(() if thoughts else (THOUGHTS,))}
    return tuple(column for key, column in known.items() if key not in absent)


def _chosen(board: Board, known: Sequence[str]) -> list[str]:
    """Return the keys of the columns to show: the row's name, and those that were chosen, in their order."""
    names = board.columns
    if not all(names):
        raise UsageError(
            f"--columns {shlex.quote(','.join(names))}: a name is empty; expected names and a comma between two"
        )
    for name in names:
        if name not in known:
            raise UsageError(f"--columns {shlex.quote(name)}: {_problem(name.lower(), known, board)}")
    return list(dict.fromkeys(names if "name" in names else ("name", *names)))


def _problem(name: str, known: Sequence[str], board: Board) -> str:
    """Say why a name, in small letters, is not that of a column, and what to choose."""
    if name in (*GROUP_FIELDS, *ROW_FIELDS):
        where = "whatever columns are chosen" if name in GROUP_FIELDS else "where no columns are chosen"
        return f"a field of CSV and no column; CSV has it {where}"
    column = next((column.key for column in _COLUMNS if name in column.fields), name)
    if column in ("adaptation_price", "answer_price"):
        return "a price needs --rate, such as --rate '0.002 USD'"
    if column == "gated_difference" and board.against:
        return "with --against, what the gate made of the rows is not compared; leave out one of the two"
    if column in known and column != name:
        return f"a field of CSV that belongs to the column {column!r}; give its name"
    near = get_close_matches(name, known, n=1)
    return "no such column; " + (f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}")


def _price(rate: Rate, what: Literal["adaptation", "answer"], times: int) -> Column:
    def value(line: LeaderboardRow) -> float | None:
        flops = line.flops if what == "adaptation" else line.answer_flops
        return rate.price(times * flops) if line.accuracy else None

    def text(line: LeaderboardRow) -> str:
        price = value(line)
        return "" if price is None else f"{price:.3g}"

    heading = f"{rate.unit} {what}" if times == 1 else f"{rate.unit} {times} {what}s"
    return Column(f"{what}_price", heading, text, value)


def title(group: Group) -> str:
    """Return the title of a group.

    Example: `addition, tiny-adder, budget smoke, published settings, 20 test items (ddf26b57e40c)`.
    """
    settings = "" if group.strategy == "greedy" else f", {group.strategy}"
    settings += f", {group.settings}" if group.settings else ""
    item_set = f" ({group.item_set})" if group.item_set else ""
    budget = f"budget {group.budget}, {rules(group.ruleset)}"
    return f"{group.task}, {group.model}, {budget}{settings}, {group.items} test items{item_set}"


def rules(ruleset: str) -> str:
    """Return a ruleset as headings say it, such as `published settings` or `settings tuned in 5 trials`."""
    name, _, trials = ruleset.partition(" ")
    known = {
        "published": "published settings",
        "custom": "custom settings (not compared)",
        "declared": "trained elsewhere (not compared)",
    }
    return known.get(name) or f"settings tuned in {trials} trials"


def curve_title(curve: Curve) -> str:
    """Return the title of a curve."""
    parts = (rules(curve.ruleset), curve.strategy, curve.settings)
    settings = "".join(f", {part}" for part in parts if part not in ("", "greedy"))
    return f"Accuracy against FLOPs, {curve.task}, {curve.model}{settings}: adaptation and {curve.answers:,} answers"


def area_text(curve: Curve) -> str:
    """Return the area under a curve's front with the range of compute that it is taken over."""
    return (
        f"Area under the front: {100 * curve.area:.1f} %, the mean over log compute from {curve.low:.3g} FLOPs, which "
        f"{curve.answers:,} answers of the base cost, to {SPAN} times as much."
    )


def profile_title(profile: Profile) -> str:
    """Return the title of a profile."""
    settings = "".join(f", {part}" for part in (profile.strategy, profile.settings) if part not in ("", "greedy"))
    return (
        f"Share of the {len(profile.tasks)} tasks on which a row is within this many points of the best row, with 95 % "
        f"bootstrap intervals over seeds: {profile.model}, budget {profile.budget}, {rules(profile.ruleset)}{settings}"
    )


BELOW = {
    "interval": "accuracy",
    "difference_interval": "difference",
    "letters": "verdict",
    "answer_flops": "flops",
    "answer_price": "adaptation_price",
    "gated_difference": "gated",
    "passes": "evaluations",
    "matched": "share",
    "seeds": "seconds",
}
"""Columns that a narrow terminal shows in the second line of another column's cells, by key."""
LEFT = ("name", "verdict", "letters", "status")
"""Columns that are aligned to the left, where the form is of text; all others are to the right."""
FOLDED = ("name", "interval", "difference_interval", "gated", "gated_difference", "seeds", "status")
"""Columns whose texts may be folded."""


@dataclass(frozen=True)
class Layout:
    """Columns as a terminal shows them.

    Attributes:
        headings: Headings; one of two columns has two lines.
        rows: Cells by row; one of two columns has two lines.
        left: Headings that are aligned to the left.
        folds: Headings of the columns whose texts may be folded.
    """

    headings: list[str]
    rows: list[list[str]]
    left: list[str]
    folds: list[str]


def fitting(shown: Sequence[Column], lines: Sequence[LeaderboardRow], width: int) -> Layout:
    """Return the columns that fit a width: with one line for each row, or with two if one has no place for all needed.

    If two have none either, all columns are returned: `bench.console.PlainTable` makes paragraphs of them.

    Args:
        shown: All columns.
        lines: Rows of the table.
        width: Width of the terminal in characters.
    """
    single = [(column,) for column in shown]
    keys = [column.key for column in shown]
    pairs: list[tuple[Column, ...]] = [
        (column, *(other for other in shown if BELOW.get(other.key) == column.key))
        for column in shown
        if BELOW.get(column.key) not in keys
    ]
    for cells, broken in ((single, False), (pairs, False), (pairs, True)):
        for level in range(10):
            kept = [cell for cell in cells if max(column.needed for column in cell) >= level]
            made = _layout(kept, lines)
            if fits(made.headings, made.rows, width, made.folds, broken=broken):
                return made
    return _layout(single, lines)


def _layout(cells: Sequence[tuple[Column, ...]], lines: Sequence[LeaderboardRow]) -> Layout:
    headings = ["\n".join(column.heading for column in cell) for cell in cells]
    named = list(zip(headings, cells, strict=True))
    return Layout(
        headings,
        [["\n".join(column.text(row) for column in cell).rstrip("\n") for cell in cells] for row in lines],
        [heading for heading, cell in named if cell[0].key in LEFT],
        [heading for heading, cell in named if any(column.key in FOLDED for column in cell)],
    )


def _where(
    shown: Callable[[LeaderboardRow], bool], text: Callable[[LeaderboardRow], str]
) -> Callable[[LeaderboardRow], str]:
    """Return a text function that leaves the cell empty where `shown` is false."""
    return lambda line: text(line) if shown(line) else ""


def _scored(line: LeaderboardRow) -> bool:
    return line.accuracy is not None


def _adapted(line: LeaderboardRow) -> bool:
    return _scored(line) and not line.bound


def _metered(line: LeaderboardRow) -> bool:
    return _adapted(line) and line.evaluations > 0


def _accuracy(line: LeaderboardRow) -> str:
    if line.accuracy:
        return f"{100 * line.accuracy.value:.1f} %"
    return "not judged" if line.status == "ok" else line.status


def _beside(line: LeaderboardRow, text: str) -> str:
    """Return an interval, or the values of the seeds, with the number of seeds behind it if some failed."""
    return (
        f"{text} (of the {counted(len(line.seeds), 'seed')} that ended, of {len(line.runs)})"
        if text and line.failed
        else text
    )


def _difference(line: LeaderboardRow) -> str:
    return f"{100 * line.difference.value:+.1f}" if line.difference else ""


def _difference_interval(line: LeaderboardRow) -> str:
    if line.returned_base:
        return "returned the base"
    return _beside(line, interval_text(line.difference, "+") or seeds_text(line.difference)) if line.difference else ""


def _p_value(line: LeaderboardRow) -> str:
    value = line.difference.p_value if line.difference else None
    if value is None:
        return ""
    return f"{value:.2g}" if value >= 1e-4 else "<.0001"


def _compute(line: LeaderboardRow) -> str:
    return {True: "matched", False: "not matched", None: ""}[line.matched]


def _kept(line: LeaderboardRow) -> str:
    """Return how many seeds the gate kept, such as `kept 1 of 3 (1 to 91 %)`, with the interval of the share."""
    if not (found := line.gated):
        return ""
    interval = f" ({100 * found.low:.0f} to {100 * found.high:.0f} %)" if found.kept else ""
    return f"kept {found.kept} of {found.seeds}{interval}"


def _gated_difference(line: LeaderboardRow) -> str:
    found = line.gated and line.gated.difference
    return f"{100 * found.value:+.1f} ({interval_text(found, '+') or seeds_text(found)})" if found else ""


def _field(*path: str) -> Callable[[LeaderboardRow], Any]:
    """Return a function of a value in a row, such as that of `accuracy.low`; None where the row has no accuracy."""
    return lambda line: reduce(lambda found, name: None if found is None else getattr(found, name), path, line)


def _scored_field(name: str) -> Callable[[LeaderboardRow], Any]:
    return lambda line: getattr(line, name) if line.accuracy else None


GATED = ("gated", "gated_difference")
"""Keys of the columns of the harness's gate."""
THOUGHTS = "thought_tokens"
"""Key of the column for the length of thoughts."""
GROUP_FIELDS = ("task", "model", "budget", "ruleset", "strategy", "item_set", "items")
"""Fields of a group, with which every row of CSV begins."""
ROW_FIELDS: Mapping[str, Callable[[LeaderboardRow], Any]] = {
    "own_gate": lambda line: line.own_gate,
    "returned_base": lambda line: line.returned_base,
    "reason": lambda line: "; ".join(line.problems),
}
"""Fields that belong to no column, with which a row of CSV ends if no columns were chosen."""

_COLUMNS = (
    Column("name", "method", _field("name"), _field("name")),
    Column("accuracy", "accuracy", _accuracy, _field("accuracy", "value")),
    Column(
        "interval",
        "95 %",
        lambda line: _beside(line, interval_text(line.accuracy)),
        _field("accuracy", "low"),
        parts={"low": _field("accuracy", "low"), "high": _field("accuracy", "high")},
    ),
    Column("difference", "vs base", _difference, _field("difference", "value")),
    Column(
        "difference_interval",
        "simultaneous 95 %",
        _difference_interval,
        _field("difference", "low"),
        parts={
            "difference_low": _field("difference", "low"),
            "difference_high": _field("difference", "high"),
            "difference_seeds": lambda line: " ".join(map(repr, line.difference.seeds)) if line.difference else None,
        },
    ),
    Column("p", "corrected p", _p_value, _field("difference", "p_value"), 7),
    Column("verdict", "verdict", lambda line: line.verdict or "", _field("verdict")),
    Column("letters", "letters", lambda line: line.letters or "", _field("letters")),
    Column(
        "gated",
        "gated",
        _kept,
        _field("gated", "kept"),
        5,
        parts={
            "gated": _field("gated", "kept"),
            "gated_seeds": _field("gated", "seeds"),
            "gated_share_low": _field("gated", "low"),
            "gated_share_high": _field("gated", "high"),
        },
    ),
    Column(
        "gated_difference",
        "gated vs base",
        _gated_difference,
        _field("gated", "difference", "value"),
        5,
        parts={
            "gated_difference": _field("gated", "difference", "value"),
            "gated_difference_low": _field("gated", "difference", "low"),
            "gated_difference_high": _field("gated", "difference", "high"),
        },
    ),
    Column(
        "evaluations",
        "adaptation passes",
        _where(_metered, lambda line: f"{line.evaluations:,.0f}"),
        _scored_field("evaluations"),
        3,
    ),
    Column("flops", "adaptation FLOPs", _where(_adapted, lambda line: f"{line.flops:.3g}"), _scored_field("flops")),
    Column(
        "share",
        "of budget",
        _where(_metered, lambda line: f"{100 * line.share:.1f} %"),
        _scored_field("share"),
        4,
    ),
    Column("matched", "compute", _compute, _field("matched"), 4),
    Column("passes", "passes per answer", _where(_scored, lambda line: f"{line.passes:g}"), _scored_field("passes"), 6),
    Column(
        "answer_flops",
        "FLOPs per answer",
        _where(_scored, lambda line: f"{line.answer_flops:.3g}"),
        _scored_field("answer_flops"),
    ),
    Column(
        THOUGHTS,
        "thought tokens per answer",
        _where(lambda line: line.thought_tokens is not None, lambda line: f"{line.thought_tokens:.1f}"),
        _scored_field("thought_tokens"),
        5,
    ),
    Column(
        "seconds",
        "wall seconds",
        _where(lambda line: line.seconds is not None, lambda line: f"{line.seconds:,.0f}"),
        _field("seconds"),
        2,
    ),
    Column(
        "seeds",
        "seeds",
        lambda line: ",".join(map(str, line.seeds)),
        lambda line: list(line.seeds),
        1,
        parts={"seeds": lambda line: " ".join(map(str, line.seeds))},
    ),
    Column("status", "status", _field("status"), _field("status"), 1),
)
