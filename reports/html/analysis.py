"""Plots of the results of `bench analyze`, and of a run's ledger. Reads nothing but the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.compute.ledger import ADAPTATION, Account
from bench.errors import BenchError
from bench.records.files import read
from bench.records.schema import AccountRow
from bench.weights.noise import PLAIN
from reports.analysis.results import (
    Density,
    GatePower,
    GatePowers,
    Geometry,
    Share,
    SplitHalf,
    Statistic,
    SubspaceOverlap,
)
from reports.analysis.terminal import overlap_verdict, transfer_verdict
from reports.html.geometry import geometry_sections
from reports.html.population import BOTTOM, LEFT, RIGHT, TOP, Section, bar, curve_plot, named_bars, panel
from reports.html.svg import Mark, Plot, Rule, Scale, Tick, line, spanning
from reports.html.table import percent

ResultType = TypeVar("ResultType")


@dataclass(frozen=True)
class Analyses:
    """Results of `bench analyze` for one run; None for an analysis that was not run.

    Attributes:
        split_half: Result of `bench analyze split-half`.
        density: Result of `bench analyze density`.
        gate: Result of `bench analyze gate`.
        geometry: Result of `bench analyze geometry`, of this run among others.
    """

    split_half: SplitHalf | None = None
    density: Density | None = None
    gate: GatePowers | None = None
    geometry: Geometry | None = None


NONE = Analyses()


def read_analyses(folder: Path) -> Analyses:
    """Read the analyses saved in a run directory.

    A file that cannot be read, such as one of another version, is ignored; running the analysis again replaces it.
    """
    saved = folder / "analysis"
    return Analyses(
        _read(saved / "split-half.json", SplitHalf),
        _read(saved / "density.json", Density),
        _read(saved / "gate.json", GatePowers),
        _read(saved / "geometry.json", Geometry),
    )


def _read(path: Path, shape: type[ResultType]) -> ResultType | None:
    try:
        return TypeAdapter(shape).validate_json(read(path)) if path.exists() else None
    except (ValidationError, BenchError):
        return None


def analysis_sections(found: Analyses) -> list[Section]:
    """Return one section per analysis that was run."""
    sections = []
    if found.split_half:
        sections.append(_split_half(found.split_half))
    if found.density:
        sections.append(_density(found.density))
    if found.gate:
        sections.extend(map(_gate, found.gate.rows))
    if found.geometry:
        sections.extend(geometry_sections(found.geometry))
    return sections


def _split_half(found: SplitHalf) -> Section:
    facts = [("permutations", f"{found.permutations:,}"), ("same candidates", overlap_verdict(found.reproduced))]
    plots = _nulls("same candidates, other examples", found.reproduced)
    if found.shared:
        facts.append((f"other candidates, {found.shared.dimensions} dimensions", overlap_verdict(found.shared)))
        plots += _nulls("other candidates, other examples", found.shared)
    if found.transfer:
        facts.append(("steps along a direction", transfer_verdict(found)))
        plots.append(_transfer(found))
    return Section("Split halves", tuple(facts), tuple(plots))


def _nulls(what: str, overlap: SubspaceOverlap) -> list[Plot]:
    return [
        _null(f"Mean squared cosine of the top {overlap.rank}, {what}", overlap.subspace),
        _null(f"Cosine of the mean directions, {what}", overlap.mean),
    ]


def _null(title: str, found: Statistic) -> Plot:
    """Plot the null distribution as a histogram, with a mark at the observed value."""
    low, high = found.edges
    x = spanning([low, high, found.value], LEFT, RIGHT)
    y = Scale(0, max(found.counts) * 1.08, BOTTOM, TOP)
    width = (high - low if high > low else 1.0) / len(found.counts)
    bars = tuple(
        bar(x(low + i * width), x(low + (i + 1) * width), y(float(n)), f"{n} permutations")
        for i, n in enumerate(found.counts)
        if n and high > low
    )
    tooltip = f"observed {found.value:.4g}, p {found.p_value:.3g}"
    mark = Mark(x=x(found.value), y=BOTTOM, low=BOTTOM, high=TOP, tooltip=tooltip, strong=found.p_value <= 0.05)
    return panel(f"{title}: {tooltip}", x, y, "rewards permuted; mark: observed", bars=bars, marks=(mark,))


def _transfer(found: SplitHalf) -> Plot:
    steps = found.transfer
    x = Scale(0.5, len(steps) + 0.5, LEFT, RIGHT)
    bounds = [b for step in steps for b in (step.gain.low, step.gain.high, step.random - step.base, 0.0)]
    y = spanning(bounds, BOTTOM, TOP, percent=True)
    marks = []
    for place, step in enumerate(steps, start=1):
        random = step.random - step.base
        tooltip = f"σ = {step.sigma:.3g}: {step.randoms} random steps, {100 * random:+.1f} points on average"
        marks.append(Mark(x(place + 0.15), y(random), y(random), y(random), tooltip))
        tooltip = (
            f"σ = {step.sigma:.3g}: step along a half's direction, {100 * step.gain.value:+.1f} points, "
            f"p {step.p_value:.3g}"
        )
        marks.append(
            Mark(x(place - 0.15), y(step.gain.value), y(step.gain.low), y(step.gain.high), tooltip, strong=True)
        )
    title = "Gain of a step along one half's direction, on the other half's examples; hollow: random steps"
    plot = panel(title, x, y, "σ, in this order", marks=tuple(marks), rules=(Rule(y(0.0), "base"),))
    return replace(plot, x_ticks=tuple(Tick(x(i), i, f"{step.sigma:.3g}") for i, step in enumerate(steps, start=1)))


def _density(found: Density) -> Section:
    facts = [("base", f"{percent(found.base)} of {found.examples} examples")]
    if found.noise != str(PLAIN):
        facts.append(("noise", found.noise))
    for special in found.specialisation:
        value = special.correlation
        text = f"{value.value:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
        facts.append((f"gains against {special.other}, σ = {special.sigma:.3g}", text))
    thresholds = sorted({share.threshold for share in found.shares})
    plots = [_curve([s for s in found.shares if s.threshold == threshold]) for threshold in thresholds]
    return Section("Density of good perturbations", tuple(facts), tuple(plots))


def _curve(shares: list[Share]) -> Plot:
    """Plot the shares of one threshold against scale, with a line at the share that noise alone would give."""
    x = spanning([share.sigma for share in shares], LEFT, RIGHT, log=True)
    y = spanning([0.0, *(s.share.high for s in shares), *(s.null for s in shares)], BOTTOM, TOP, percent=True)
    marks = tuple(
        Mark(
            x(s.sigma),
            y(s.share.value),
            y(s.share.low),
            y(s.share.high),
            f"σ = {s.sigma:.3g}: {percent(s.share.value)} of {s.candidates}, noise alone {percent(s.null)}",
            strong=s.p_value <= 0.05,
            data={"share": s.share.value, "null": s.null},
        )
        for s in shares
    )
    path = line([(x(s.sigma), y(s.null)) for s in shares])
    title = f"Perturbations that gain {100 * shares[0].threshold:g} points or more; line: noise alone"
    plot = panel(title, x, y, "σ", path=path, marks=marks)
    return replace(plot, x_ticks=tuple(Tick(x(s.sigma), s.sigma, f"{s.sigma:.3g}") for s in shares))


def _gate(found: GatePower) -> Section:
    facts = [
        ("answers changed", percent(found.flip_rate)),
        ("false positives", f"probability {percent(found.keeps_noise)}; allowed: {percent(found.level)}"),
    ]
    for chance, gain in found.detectable.items():
        size = "no gain" if gain is None else f"{100 * gain:+.1f} points"
        facts.append((f"gain kept with probability {float(chance):.0%}", size))
    title = "Probability that the gate keeps the result"
    gains = [100 * gain for gain in found.gains]
    heading = f"Power of the gate, {found.label}" if found.label else "Power of the gate"
    return Section(heading, tuple(facts), (curve_plot(title, gains, found.power, "true gain, points"),))


def ledger_plot(ledger: Mapping[Account, AccountRow]) -> Plot | None:
    """Plot the FLOPs of each account as a bar, in the order of the ledger. Return None for an empty ledger."""
    booked = [
        (name, float(row.flops), f"{name}: {row.flops:.3g} FLOPs" + ("" if name in ADAPTATION else ", not billed"))
        for name, row in ledger.items()
        if row.flops
    ]
    return named_bars("Where the compute went, in FLOPs", "account", booked) if booked else None
