"""Plots of `bench analyze geometry`: cosines, layers, divergences, and accuracy along lines. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis.results import Drift, Geometry, Line, ModelMove
from reports.analysis.terminal import geometry_verdicts, nats, tested_on
from reports.html.population import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Section, named_bars, panel
from reports.html.svg import LETTER, Bar, Mark, Plot, Scale, Tick, line, spanning
from reports.html.table import percent

WIDTH = 460.0
"""Width of a plot with the names of models or of kinds of layer."""


def geometry_sections(found: Geometry) -> list[Section]:
    """Return the sections of an analysis: size and direction of the moves, divergence, and accuracy along lines."""
    barriers, items, compute = geometry_verdicts(found)
    moves = [("base", f"{found.model}, {found.weights:,} weights in {found.dtype}")]
    moves += [(move.name, _size(move)) for move in found.moves]
    moves += [("note", note) for note in found.notes]
    cosines = [("two random directions", f"cosine 0, with a standard deviation of {found.null_sd:.2g}")]
    cosines += [
        (f"{move.name}, {other.name}", f"{cosine:+.2g}, {cosine / found.null_sd:+.1f} standard deviations")
        for i, (move, row) in enumerate(zip(found.moves, found.cosines, strict=True))
        for other, cosine in zip(found.moves[i + 1 :], row[i + 1 :], strict=True)
    ]
    divergence = [
        (f"{each.name}, {each.task}", f"{nats(each.from_base)} from base, {nats(each.to_base)} to base")
        for each in found.drifts
    ]
    accuracy = spanning([value for each in found.lines for value in each.accuracy], BOTTOM, TOP, percent=True)
    tasks = dict.fromkeys(each.task for each in found.drifts)
    return [
        Section("Size of moves", tuple(moves), tuple(_layers(move, found.weights) for move in found.moves)),
        Section("Directions of moves", tuple(cosines), (_heat_map(found),)),
        Section(
            "Divergence from the base, nats per token",
            tuple(divergence),
            tuple(_divergence(task, [each for each in found.drifts if each.task == task]) for task in tasks),
        ),
        Section(
            "Accuracy between models",
            (("barriers", barriers), ("items", items), ("compute", compute)),
            tuple(_line(each, accuracy) for each in found.lines),
        ),
    ]


def _size(move: ModelMove) -> str:
    relative = "" if move.relative is None else f", {percent(move.relative)} of the base's norm"
    return f"norm {move.norm:.4g}{relative}"


def _layers(move: ModelMove, weights: int) -> Plot:
    bars = [
        (
            part.kind,
            part.share,
            f"{part.kind}: {percent(part.share)} of the energy, {percent(part.weights / weights)} of the weights",
        )
        for part in move.layers
    ]
    return named_bars(
        f"{move.name}: energy of the move by kind of layer", "kind of layer", bars, percent=True, width=WIDTH
    )


def _heat_map(found: Geometry) -> Plot:
    names = [move.name for move in found.moves]
    left = 16 + LETTER * max(map(len, names))
    x = Scale(0.5, len(names) + 0.5, left, WIDTH - 18)
    y = Scale(0.5, len(names) + 0.5, TOP, BOTTOM)
    cells = tuple(
        Bar(
            x(j + 0.5),
            y(i + 0.5),
            round(x(j + 1.5) - x(j + 0.5) - 1, 2),
            round(y(i + 1.5) - y(i + 0.5) - 1, 2),
            f"{one}, {two}: cosine {found.cosines[i][j]:+.2g}",
            round(abs(found.cosines[i][j]), 4),
        )
        for i, one in enumerate(names)
        for j, two in enumerate(names)
    )
    return Plot(
        title="Cosines between the moves; white: 0, full colour: 1 or -1",
        width=WIDTH,
        height=HEIGHT,
        left=left,
        right=WIDTH - 18,
        top=TOP,
        bottom=BOTTOM,
        x_ticks=tuple(Tick(x(i), i, name) for i, name in enumerate(names, start=1)),
        y_ticks=tuple(Tick(y(i), i, name) for i, name in enumerate(names, start=1)),
        bars=cells,
    )


def _divergence(task: str, drifts: list[Drift]) -> Plot:
    title = f"KL(base || model) on {drifts[0].prompts} prompts of {task}; {tested_on(drifts)}"
    bars = [(each.name, each.from_base.value, f"{each.name}: {nats(each.from_base)}") for each in drifts]
    return named_bars(title, "model", bars, [(each.from_base.low, each.from_base.high) for each in drifts], width=WIDTH)


def _line(found: Line, y: Scale) -> Plot:
    """Plot the accuracy at each place, with the straight line between the ends. All plots have one vertical scale."""
    x = Scale(-0.03, 1.03, LEFT, RIGHT)
    points = [(x(place), y(value)) for place, value in zip(found.places, found.accuracy, strict=True)]
    marks = tuple(
        Mark(px, py, py, py, f"{place:.3g}: {percent(value)}", strong=place in (0, 1))
        for (px, py), place, value in zip(points, found.places, found.accuracy, strict=True)
    )
    drop = found.barrier
    barrier = f"{100 * drop.value:+.1f} points ({100 * drop.low:+.1f} to {100 * drop.high:+.1f})"
    title = f"{found.start} to {found.end}, on {found.items} items of {found.task}: barrier {barrier}"
    plot = panel(title, x, y, "place on the line", path=line(points) + line([points[0], points[-1]]), marks=marks)
    return replace(plot, x_ticks=tuple(Tick(x(place), place, f"{place:.3g}") for place in found.places))
