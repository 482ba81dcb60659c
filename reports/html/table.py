"""A table as the template takes it: texts for readers, values to sort by, and small pictures within cells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import Estimate

WHISKER = 140.0
"""Width of an interval drawn in a cell."""


@dataclass(frozen=True)
class Whisker:
    """An interval drawn in a cell; positions from 0 to `WHISKER`, and `base` is the line of reference, if any."""

    low: float
    at: float
    high: float
    base: float | None


@dataclass(frozen=True)
class Link:
    """Text that leads somewhere; nowhere where `href` is empty."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class HtmlCell:
    """One cell.

    Attributes:
        text: What it says.
        value: What its column is sorted by; None comes last.
        fine: What is said beside it in small print.
        whisker: An interval to draw.
        bar: A share, 0 to 1, to draw as a bar; None for no bar.
        faint: Whether the bar stands back.
        links: In place of the text.
    """

    text: str = ""
    value: float | str | None = None
    fine: str = ""
    whisker: Whisker | None = None
    bar: float | None = None
    faint: bool = False
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Heading:
    """The head of a column.

    Attributes:
        text: What it says.
        number: Whether figures stand below it, to be aligned to the right.
        head: Whether the column names the rows.
        descending: Whether sorting starts with the greatest.
        sortable: Whether a reader may sort by it.
    """

    text: str
    number: bool = True
    head: bool = False
    descending: bool = False
    sortable: bool = True


@dataclass(frozen=True)
class HtmlTable:
    """A table with its caption."""

    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[HtmlCell, ...], ...]


def whiskers(estimates: Sequence[Estimate | None], base: float | None) -> list[Whisker | None]:
    """Draw the intervals of a column on one scale."""
    told = [e for e in estimates if e]
    bounds = [*(e.low for e in told), *(e.high for e in told), *([base] if base is not None else [])]
    low, high = min(bounds, default=0.0), max(bounds, default=1.0)

    def at(value: float) -> float:
        return round(4 + (value - low) / (high - low) * (WHISKER - 8), 2) if high > low else WHISKER / 2

    line = None if base is None else at(base)
    return [Whisker(at(e.low), at(e.value), at(e.high), line) if e else None for e in estimates]


def percent(share: float) -> str:
    """Return a share in per cent."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float, sign: str = "") -> str:
    """Return the bounds of an interval of shares in per cent; `+` as sign for differences."""
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"
