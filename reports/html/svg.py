"""Where things lie in a plot: scales, ticks and marks, from numbers to positions. Templates draw them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

LETTER = 7.0
"""Width that a character of a label is given, in user units."""
LINE = 15.0
"""Height of a label."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Tick:
    """A place on an axis.

    Attributes:
        at: Its position.
        value: The number there.
        text: What stands beside it.
    """

    at: float
    value: float
    text: str


@dataclass(frozen=True)
class Scale:
    """From values to positions, linear or logarithmic.

    Attributes:
        low: Value at `start`; positive where `log`.
        high: Value at `end`; greater than `low`.
        start: Position.
        end: Position; less than `start` for an axis that points up.
        log: Whether equal ratios are equally long.
        percent: Whether values are shares, which ticks give in per cent.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    percent: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, to a hundredth."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)

    def ticks(self, most: int = 6) -> tuple[Tick, ...]:
        """Return round values within the scale, about `most` at most."""
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
    """Return a scale over finite values with some room at both ends; positive values where `log`."""
    seen = [math.log10(value) if log else value for value in values]
    low, high = min(seen), max(seen)
    largest = 1.0 if log else max(abs(low), abs(high))
    # Values that differ by less are alike, and floating point could not tell their ticks apart.
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
    """Where a text starts, on its baseline, and the path that leads to it; empty where it stands beside its mark."""

    x: float
    y: float
    leader: str = ""


@dataclass(frozen=True)
class Mark:
    """A figure with its interval.

    Attributes:
        x: Position.
        y: Position.
        low: Position of the interval's lower bound.
        high: Position of its upper bound.
        said: What hovering or focus tells.
        strong: Whether it stands out.
        name: Label; empty for none.
        data: Numbers behind it, by name.
        label: Where that stands, if there was room for it.
    """

    x: float
    y: float
    low: float
    high: float
    said: str
    strong: bool = False
    name: str = ""
    data: dict[str, float] = field(default_factory=dict)
    label: Label | None = None


@dataclass(frozen=True)
class Bar:
    """A bar from the axis up, with what hovering tells."""

    x: float
    y: float
    width: float
    height: float
    said: str


@dataclass(frozen=True)
class Rule:
    """A horizontal line of reference."""

    y: float
    text: str = ""


@dataclass(frozen=True)
class Plot:
    """Everything that a template draws.

    Attributes:
        title: What the plot shows, for a heading and for those who do not see it.
        width: In user units, which are pixels where there is room.
        height: The same.
        left: Where the plotting area starts.
        right: Where it ends.
        top: Where it starts.
        bottom: Where it ends.
        x_title: Of the horizontal axis.
        x_ticks: Along the bottom.
        y_ticks: Along the left.
        path: A line, as an SVG path; empty for none.
        fine: A second, fainter one.
        rules: Lines of reference.
        bars: Of a histogram.
        marks: Figures with intervals.
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
    fine: str = ""
    rules: tuple[Rule, ...] = ()
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()


def line(points: Sequence[tuple[float, float]]) -> str:
    """Return a path through positions."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def staircase(points: Sequence[tuple[float, float]], end: float) -> str:
    """Return a path that keeps each height until the next position, and the last one up to `end`."""
    if not points:
        return ""
    steps = "".join(f"H{x:g}V{y:g}" for x, y in points[1:])
    return f"M{points[0][0]:g} {points[0][1]:g}{steps}H{end:g}"


def strokes(points: Sequence[tuple[float, float]], end: float) -> list[Box]:
    """Return what the lines of a staircase cover."""
    ends = [*(x for x, _ in points[1:]), end]
    flat = [(x, y - 1, then, y + 1) for (x, y), then in zip(points, ends, strict=True)] if points else []
    steep = [(x - 1, y, x + 1, before) for (_, before), (x, y) in pairwise(points)]
    return [*flat, *steep]


def labels(marks: Sequence[Mark], area: Box, lines: Sequence[Box] = ()) -> list[Label | None]:
    """Return where each mark's name stands, off marks, names and lines: beside the mark, or at the end of a leader."""
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
"""Of a label: how far off, to the right or the left, and how many lines down."""


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
