"""Tables as the templates take them: text for readers, values for sorting, and small drawings inside cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import Estimate

WHISKER = 140.0
"""Width of a drawn interval, in pixels."""


@dataclass(frozen=True)
class Whisker:
    """Interval drawn in a cell.

    Attributes:
        low: Position of the lower bound, from 0 to `WHISKER`.
        at: Position of the estimate.
        high: Position of the upper bound.
        base: Position of the reference line; None for no line.
    """

    low: float
    at: float
    high: float
    base: float | None


@dataclass(frozen=True)
class Link:
    """Link with its text; plain text if `href` is empty."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class HtmlCell:
    """Cell of a table.

    Attributes:
        text: Text of the cell.
        value: Value to sort by; cells without one come last.
        fine: Additional text in small print.
        whisker: Interval to draw.
        bar: Fraction in [0, 1] to draw as a bar; None for no bar.
        faint: Whether the bar is drawn in a muted colour.
        links: Links to show in place of the text.
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
    """Heading of a column.

    Attributes:
        text: Text of the heading.
        number: Whether the column holds numbers, which are aligned to the right.
        head: Whether the column holds the names of the rows.
        descending: Whether the first click sorts the largest value to the top.
        sortable: Whether the reader can sort by this column.
        drawn: Whether the column holds drawings of another column's numbers, which a narrow screen leaves out.
    """

    text: str
    number: bool = True
    head: bool = False
    descending: bool = False
    sortable: bool = True
    drawn: bool = False


@dataclass(frozen=True)
class HtmlTable:
    """Table with its caption."""

    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[HtmlCell, ...], ...]


def whiskers(estimates: Sequence[Estimate | None], base: float | None) -> list[Whisker | None]:
    """Return the drawn intervals of a column, all on the same scale, with a reference line at `base`."""
    known = [e for e in estimates if e]
    bounds = [*(e.low for e in known), *(e.high for e in known), *([base] if base is not None else [])]
    low, high = min(bounds, default=0.0), max(bounds, default=1.0)

    def at(value: float) -> float:
        return round(4 + (value - low) / (high - low) * (WHISKER - 8), 2) if high > low else WHISKER / 2

    line = None if base is None else at(base)
    return [Whisker(at(e.low), at(e.value), at(e.high), line) if e else None for e in estimates]


def percent(share: float) -> str:
    """Format a fraction as a percentage: 0.524 becomes `52.4 %`."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float, sign: str = "") -> str:
    """Format an interval of fractions in per cent, such as `49.3 to 55.5`. Use `+` as `sign` for differences."""
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"
