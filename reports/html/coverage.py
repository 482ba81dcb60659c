"""Plot of pass@k against k for the rows of one run. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records.rows import Row
from reports.html.population import Section
from reports.html.svg import Mark, Plot, Tick, labels, line, spanning
from reports.html.table import interval, percent

WIDTH, HEIGHT = 720.0, 340.0


def coverage_sections(rows: Sequence[tuple[str, Row]]) -> list[Section]:
    """Return the section with the curves of pass@k; none if no row has several k.

    Args:
        rows: Rows of the run with their names.
    """
    curves = [(name, row) for name, row in rows if row.curve and row.gate is None]
    return [Section("pass@k", (), (_plot(curves),))] if curves else []


def _plot(curves: Sequence[tuple[str, Row]]) -> Plot:
    left, right, top, bottom = 62.0, WIDTH - 16, 16.0, HEIGHT - 52
    found = [c for _, row in curves for c in row.coverages]
    x = spanning([c.k for c in found], left, right, log=True)
    y = spanning([bound for c in found for bound in (c.low, c.high)], bottom, top, percent=True)
    marks = [
        Mark(
            x=x(c.k),
            y=y(c.value),
            low=y(c.low),
            high=y(c.high),
            tooltip=f"{name}: pass@{c.k} {percent(c.value)} ({interval(c.low, c.high)})",
            strong=name != "base",
            name=name if c is row.coverage else "",
            data={"k": c.k, "value": c.value, "low": c.low, "high": c.high},
        )
        for name, row in curves
        for c in row.coverages
    ]
    places = labels(marks, (left, top, right, bottom))
    return Plot(
        title="Probability that one of k sampled answers is right, with 95 % intervals",
        width=WIDTH,
        height=HEIGHT,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_title="k",
        x_ticks=tuple(Tick(x(k), k, str(k)) for k in sorted({c.k for c in found})),
        y_ticks=y.ticks(6),
        path="".join(line([(x(c.k), y(c.value)) for c in row.coverages]) for _, row in curves),
        marks=tuple(replace(mark, label=place) for mark, place in zip(marks, places, strict=True)),
    )
