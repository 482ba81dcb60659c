"""Columns of the leaderboard's tables: heading, text and value of each, shared by all renderings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.amounts import counted
from reports.leaderboard.board import Board, Rate
from reports.leaderboard.group import Group, LeaderboardRow
from reports.leaderboard.naming import interval_text, seeds_text
from reports.leaderboard.summaries import SPAN, Curve, Profile


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Attributes:
        key: Name of the column in CSV and JSON.
        heading: Name of the column for a reader.
        text: Text of a cell.
        value: Value of a cell, for CSV, JSON and sorting; None for an empty cell.
        needed: Priority on a narrow terminal: the columns with the lowest number are dropped first, 9 is never dropped.
    """

    key: str
    heading: str
    text: Callable[[LeaderboardRow], str]
    value: Callable[[LeaderboardRow], Any]
    needed: int = 9


def columns(board: Board) -> tuple[Column, ...]:
    """Return the columns of a board's tables, with prices if it has a rate, and with the gate's if a row was gated."""
    gated = any(line.gated for group in board.groups for line in group.lines)
    shown = tuple(column for column in _COLUMNS if gated or column not in GATED)
    rate = board.rate
    return shown if rate is None else (*shown, _price(rate, "adaptation", 1), _price(rate, "answer", 1000))


def _price(rate: Rate, what: Literal["adaptation", "answer"], times: int) -> Column:
    def value(line: LeaderboardRow) -> float | None:
        flops = line.flops if what == "adaptation" else line.answer_flops
        return rate.price(times * flops) if line.accuracy else None

    def text(line: LeaderboardRow) -> str:
        price = value(line)
        return "" if price is None else f"{price:.3g}"

    heading = f"{rate.unit} {what}" if times == 1 else f"{rate.unit} {times} {what}s"
    return Column(f"{what}_price", heading, text, value, 6)


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


FOLDED = {"name": 12, "difference_interval": 16}
"""Columns that may be folded into several lines, and their smallest width: names, and the values of several seeds."""


def fitting(shown: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the indices of the columns that fit into a width, with the columns of `FOLDED` at their smallest.

    Args:
        shown: All columns.
        rows: Texts of the cells, by row.
        width: Width of the terminal in characters.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)] if rows else [0] * len(shown)
    # A heading is printed with one word per line.
    widths = [max(w, *map(len, c.heading.split(" "))) for w, c in zip(widths, shown, strict=True)]
    widths = [min(w, FOLDED.get(c.key, w)) for w, c in zip(widths, shown, strict=True)]
    kept = list(range(len(shown)))
    for level in sorted({c.needed for c in shown} - {9}):
        if sum(widths[i] + 1 for i in kept) - 1 <= width:
            break
        kept = [i for i in kept if shown[i].needed > level]
    return kept


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


def _estimate(name: str, part: str) -> Callable[[LeaderboardRow], float | None]:
    return lambda line: getattr(getattr(line, name), part) if getattr(line, name) else None


def _field(name: str) -> Callable[[LeaderboardRow], Any]:
    return lambda line: getattr(line, name)


def _scored_field(name: str) -> Callable[[LeaderboardRow], Any]:
    return lambda line: getattr(line, name) if line.accuracy else None


GATED = (
    Column("gated", "gated", _kept, lambda line: line.gated.kept if line.gated else None, 5),
    Column(
        "gated_difference",
        "gated vs base",
        _gated_difference,
        lambda line: line.gated.difference.value if line.gated and line.gated.difference else None,
        5,
    ),
)
"""Columns of the harness's gate."""

_COLUMNS = (
    Column("letters", "letters", lambda line: line.letters or "", _field("letters"), 8),
    Column("name", "method", _field("name"), _field("name")),
    Column("accuracy", "accuracy", _accuracy, _estimate("accuracy", "value")),
    Column("interval", "95 %", lambda line: _beside(line, interval_text(line.accuracy)), _estimate("accuracy", "low")),
    Column("difference", "vs base", _difference, _estimate("difference", "value")),
    Column("difference_interval", "simultaneous 95 %", _difference_interval, _estimate("difference", "low")),
    Column("p", "corrected p", _p_value, _estimate("difference", "p_value"), 8),
    Column("verdict", "verdict", lambda line: line.verdict or "", _field("verdict"), 6),
    *GATED,
    Column(
        "evaluations",
        "adaptation passes",
        _where(_metered, lambda line: f"{line.evaluations:,.0f}"),
        _scored_field("evaluations"),
        3,
    ),
    Column("flops", "adaptation FLOPs", _where(_adapted, lambda line: f"{line.flops:.3g}"), _scored_field("flops"), 7),
    Column(
        "share",
        "of budget",
        _where(_metered, lambda line: f"{100 * line.share:.1f} %"),
        _scored_field("share"),
        4,
    ),
    Column("matched", "compute", _compute, _field("matched"), 4),
    Column("passes", "passes per answer", _where(_scored, lambda line: f"{line.passes:g}"), _scored_field("passes")),
    Column(
        "answer_flops",
        "FLOPs per answer",
        _where(_scored, lambda line: f"{line.answer_flops:.3g}"),
        _scored_field("answer_flops"),
    ),
    Column(
        "seconds",
        "wall seconds",
        _where(lambda line: line.seconds is not None, lambda line: f"{line.seconds:,.0f}"),
        _field("seconds"),
        2,
    ),
    Column("seeds", "seeds", lambda line: ",".join(map(str, line.seeds)), lambda line: list(line.seeds), 1),
    Column("status", "status", _field("status"), _field("status"), 1),
)
