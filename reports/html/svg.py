"""Geometry of plots: scales, ticks, marks and labels. The templates turn them into SVG. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

LETTER = 7.0
"""Estimated width of one character of a label, in user units."""
LINE = 15.0
"""Height of a label, in user units."""
Box = tuple[float, float, float, float]
"""Rectangle: left, top, right, bottom."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Tick:
    """Tick of an axis.

    Attributes:
        at: Position along the axis.
        value: Value at that position.
        text: Label of the tick.
    """

    at: float
    value: float
    text: str


@dataclass(frozen=True)
class Scale:
    """Linear or logarithmic map from values to positions: `Scale(0, 10, 100, 200)(5)` is 150.

    Attributes:
        low: Value at `start`; positive if `log` is set.
        high: Value at `end`; greater than `low`.
        start: Position of `low`.
        end: Position of `high`; less than `start` for an axis that points up.
        log: Whether the scale is logarithmic.
        percent: Whether values are fractions, whose ticks are labelled in per cent.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    percent: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, rounded to 0.01."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)

    def ticks(self, most: int = 6) -> tuple[Tick, ...]:
        """Return ticks at round values within the scale, at most about `most` of them."""
        values = _decades(self.low, self.high, most) if self.log else _steps(self.low, self.high, most)
        return tuple(Tick(self(value), value, self._text(value)) for value in values)

    def _text(self, value: float) -> str:
        if self.percent:
            return f"{100 * value:g} %"
        if (not self.log and 1e-3 <= abs(value) < 1e5) or value == 0:
            return f"{value:g}"
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        factor = value / 10**exponent
        power = "10" + str(exponent).translate(_SUPERSCRIPTS)
        return power if abs(factor - 1) < 1e-9 else f"{factor:.3g}·{power}"


def spanning(
    values: Sequence[float], start: float, end: float, *, log: bool = False, percent: bool = False, margin: float = 0.06
) -> Scale:
    """Return a scale that covers all values, with some room at both ends.

    Args:
        values: Finite values; positive if `log` is set.
        start: Position of the low end.
        end: Position of the high end.
        log: Whether the scale is logarithmic.
        percent: Whether values are fractions, whose ticks are labelled in per cent.
        margin: Room at either end, as a fraction of the range of the values.
    """
    seen = [math.log10(value) if log else value for value in values]
    low, high = min(seen), max(seen)
    largest = 1.0 if log else max(abs(low), abs(high))
    # If the values are this close, floating point could not tell their ticks apart, so they are treated as equal.
    alike = high - low <= 1e-6 * largest
    room = (0.3 if log else 0.05 * largest or 0.5) if alike else margin * (high - low)
    bounds = [10**v if log else v for v in (low - room, high + room)]
    return Scale(bounds[0], bounds[1], start, end, log, percent)


def _steps(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [float(f"{factor}e{e}") for e in exponents for factor in factors]
        values = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(values) <= most:
            return values if len(values) > 1 else _steps(low, high, most)
    return values[:: math.ceil(len(values) / most)]


@dataclass(frozen=True)
class Label:
    """Position of a mark's label.

    Attributes:
        x: Start of the text.
        y: Baseline of the text.
        leader: SVG path of the line from the mark to the text; empty if the text is right beside its mark.
    """

    x: float
    y: float
    leader: str = ""


@dataclass(frozen=True)
class Mark:
    """Point with an interval.

    Attributes:
        x: Horizontal position.
        y: Vertical position.
        low: Vertical position of the interval's lower bound.
        high: Vertical position of its upper bound.
        tooltip: Text shown on hover and on focus.
        strong: Whether the point is highlighted.
        name: Text of the label; empty for no label.
        data: Values behind the point, by name, for the page's data attributes.
        label: Position of the label; None if there was no room for it.
    """

    x: float
    y: float
    low: float
    high: float
    tooltip: str
    strong: bool = False
    name: str = ""
    data: dict[str, float] = field(default_factory=dict)
    label: Label | None = None


@dataclass(frozen=True)
class Bar:
    """Bar from the axis up, or cell of a heat map, with the text shown on hover.

    Attributes:
        x: Left edge.
        y: Top edge.
        width: Width.
        height: Height.
        tooltip: Text shown on hover.
        shade: Shade of a cell, from 0 to 1; None for a bar.
    """

    x: float
    y: float
    width: float
    height: float
    tooltip: str
    shade: float | None = None


@dataclass(frozen=True)
class Rule:
    """Horizontal reference line with its label."""

    y: float
    text: str = ""


@dataclass(frozen=True)
class Plot:
    """Plot as the template draws it.

    Attributes:
        title: Title, also read by screen readers.
        width: Width in user units, which are pixels on a wide screen.
        height: Height in user units.
        left: Left edge of the plotting area.
        right: Right edge of the plotting area.
        top: Top edge of the plotting area.
        bottom: Bottom edge of the plotting area.
        x_title: Title of the horizontal axis.
        x_ticks: Ticks of the horizontal axis.
        y_ticks: Ticks of the vertical axis.
        path: Line, as an SVG path; empty for none.
        rules: Horizontal reference lines.
        bars: Bars of a histogram, or cells of a heat map.
        marks: Points with intervals.
    """

    title: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_title: str = ""
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    path: str = ""
    rules: tuple[Rule, ...] = ()
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()


def line(points: Sequence[tuple[float, float]]) -> str:
    """Return the SVG path of a line through points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def staircase(points: Sequence[tuple[float, float]], end: float) -> str:
    """Return the SVG path of a step function: each height lasts to the next point, and the last one to `end`."""
    if not points:
        return ""
    steps = "".join(f"H{x:g}V{y:g}" for x, y in points[1:])
    return f"M{points[0][0]:g} {points[0][1]:g}{steps}H{end:g}"


def strokes(points: Sequence[tuple[float, float]], end: float) -> list[Box]:
    """Return the rectangles that the lines of a staircase cover."""
    ends = [*(x for x, _ in points[1:]), end]
    flat = [(x, y - 1, then, y + 1) for (x, y), then in zip(points, ends, strict=True)] if points else []
    steep = [(x - 1, y, x + 1, before) for (_, before), (x, y) in pairwise(points)]
    return [*flat, *steep]


def labels(marks: Sequence[Mark], area: Box, lines: Sequence[Box] = ()) -> list[Label | None]:
    """Place the label of each mark so that it covers no mark, label or line.

    Each label takes the first free place of `_PLACES`: beside its mark, or farther off at the end of a leader line.
    Highlighted marks choose first.

    Args:
        marks: Points to label; one without a name gets no label.
        area: Rectangle that the labels must stay in.
        lines: Rectangles that they must not cover.

    Returns:
        Position of each mark's label; None if there is no room.
    """
    taken: list[Box] = [*lines, *((m.x - 5, m.y - 5, m.x + 5, m.y + 5) for m in marks)]
    taken += [(m.x - 2, m.high, m.x + 2, m.low) for m in marks]
    found: list[Label | None] = [None] * len(marks)
    for i in sorted(range(len(marks)), key=lambda i: not marks[i].strong):
        mark, width = marks[i], LETTER * len(marks[i].name)
        for far, right, down in _PLACES if mark.name else ():
            start = mark.x + right * (9 + 7 * far)
            x, y = start if right > 0 else start - width, mark.y + down * LINE
            box = (x, y - LINE / 2, x + width, y + LINE / 2)
            inside = area[0] <= box[0] and box[2] <= area[2] and area[1] <= box[1] and box[3] <= area[3]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                leader = line([(mark.x, mark.y), (start - 3 * right, y)]) if far else ""
                found[i] = Label(round(x, 2), round(y + LINE / 4, 2), leader)
                break
    return found


_PLACES = (
    *((0, right, down) for down in (0.0, -0.8, 0.8) for right in (1, -1)),
    *((far, right, down * far) for far in range(1, 9) for down in (-1.0, 1.0) for right in (1, -1)),
)
"""Candidate places of a label: distance from the mark, side (1 right, -1 left), and lines below the mark."""


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
