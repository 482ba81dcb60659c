"""Accuracy against compute in characters. Pure."""

from __future__ import annotations

import math
from string import ascii_uppercase
from textwrap import wrap

from reports.leaderboard.board import Curve, CurvePoint

GUTTER = 8
"""Characters of the axis: accuracy in per cent."""


def heading(curve: Curve) -> str:
    """Name a curve for a reader."""
    asked = "".join(f", {part}" for part in (curve.strategy, curve.settings) if part not in ("", "greedy"))
    return f"Accuracy against FLOPs, {curve.task}, {curve.model}{asked}: adaptation and {curve.items} answers"


def draw(curve: Curve, width: int, height: int) -> list[str]:
    """Return lines of at most `width` characters: a plot, its axis, and what its letters stand for.

    Compute is on a logarithmic scale. A letter is a point, upper case on the Pareto front; bars are 95 % intervals.
    Where points fall on one another the first of the legend is seen.

    Args:
        curve: At least two points.
        width: At least 40.
        height: Of the plot alone.
    """
    columns = _columns(curve, width - GUTTER - 1)
    low = min(p.accuracy.low for p in curve.points)
    high = max(p.accuracy.high for p in curve.points)
    canvas = [[" "] * (width - GUTTER - 1) for _ in range(height)]

    def row(accuracy: float) -> int:
        return round((high - accuracy) / (high - low) * (height - 1)) if high > low else 0

    letters = [_letter(i, p) for i, p in enumerate(curve.points)]
    for p, x in zip(curve.points, columns, strict=True):
        for y in range(row(p.accuracy.high), row(p.accuracy.low) + 1):
            canvas[y][x] = "|"
    for p, x, letter in reversed(list(zip(curve.points, columns, letters, strict=True))):
        canvas[row(p.accuracy.value)][x] = letter
    ticks = {round(i * (height - 1) / 4) for i in range(5)}
    lines = wrap(heading(curve), width)
    for y, cells in enumerate(canvas):
        tick = f"{100 * (high - (high - low) * y / (height - 1)):5.1f} %" if y in ticks else ""
        lines.append(f"{tick:>{GUTTER - 1}} |{''.join(cells)}".rstrip())
    lines.append(" " * GUTTER + "+" + "-" * (width - GUTTER - 1))
    first, last = f"{curve.points[0].flops:.3g}", f"{curve.points[-1].flops:.3g}"
    lines.append(" " * GUTTER + first + last.rjust(width - GUTTER - len(first)))
    return [*lines, *_legend(curve, letters, width)]


def _columns(curve: Curve, width: int) -> list[int]:
    logs = [math.log(max(p.flops, 1.0)) for p in curve.points]
    span = max(logs) - min(logs)
    return [round((x - min(logs)) / span * (width - 1)) if span else 0 for x in logs]


def _letter(i: int, point: CurvePoint) -> str:
    letter = ascii_uppercase[i % 26]
    return letter if point.front else letter.lower()


def _legend(curve: Curve, letters: list[str], width: int) -> list[str]:
    entries = [f"{a} {p.name} {p.budget}".strip() for a, p in zip(letters, curve.points, strict=True)]
    lines = [""]
    for entry in entries:
        if lines[-1] and len(lines[-1]) + 3 + len(entry) > width:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + entry
    if curve.area is not None:
        lines.append(f"capitals: the Pareto front; the area under it is {100 * curve.area:.1f} %")
    return lines
