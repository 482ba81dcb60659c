"""What `bench analyze` found of a run, and where its compute went, as plots. Pure but for reading the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.compute.ledger import ADAPTATION, Account
from bench.records.schema import AccountRow
from reports.analysis.results import Density, GatePower, Share, SplitHalf, Statistic, SubspaceOverlap
from reports.analysis.terminal import overlap_verdict, transfer_verdict
from reports.html.population import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Section, bar, curve_plot, panel
from reports.html.svg import Mark, Plot, Rule, Scale, Tick, line, spanning
from reports.html.table import percent

Found = TypeVar("Found")
WIDE = 620.0
"""Width of the ledger's picture, which has room for the names of all accounts."""


@dataclass(frozen=True)
class Analyses:
    """What was found beside a run; None for what nobody asked."""

    split_half: SplitHalf | None = None
    density: Density | None = None
    gate: GatePower | None = None


NONE = Analyses()


def read_analyses(folder: Path) -> Analyses:
    """Read what stands beside a run; what this version cannot read is left out, as it can be had again."""
    beside = folder / "analysis"
    return Analyses(
        _read(beside / "split-half.json", SplitHalf),
        _read(beside / "density.json", Density),
        _read(beside / "gate.json", GatePower),
    )


def _read(path: Path, shape: type[Found]) -> Found | None:
    try:
        return TypeAdapter(shape).validate_json(path.read_bytes()) if path.exists() else None
    except ValidationError:
        return None


def analysis_sections(found: Analyses) -> list[Section]:
    """Return everything that was found, to be drawn."""
    sections = []
    if found.split_half:
        sections.append(_split_half(found.split_half))
    if found.density:
        sections.append(_density(found.density))
    if found.gate:
        sections.append(_gate(found.gate))
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
    """Draw the null as a histogram, and what was observed as a mark on the axis."""
    low, high = found.edges
    x = spanning([low, high, found.value], LEFT, RIGHT)
    y = Scale(0, max(found.counts) * 1.08, BOTTOM, TOP)
    width = (high - low if high > low else 1.0) / len(found.counts)
    bars = tuple(
        bar(x(low + i * width), x(low + (i + 1) * width), y(float(n)), f"{n} permutations")
        for i, n in enumerate(found.counts)
        if n and high > low
    )
    said = f"observed {found.value:.4g}, p {found.p_value:.3g}"
    mark = Mark(x=x(found.value), y=BOTTOM, low=BOTTOM, high=TOP, said=said, strong=found.p_value <= 0.05)
    return panel(f"{title}: {said}", x, y, "rewards permuted; mark: observed", bars=bars, marks=(mark,))


def _transfer(found: SplitHalf) -> Plot:
    steps = found.transfer
    x = Scale(0.5, len(steps) + 0.5, LEFT, RIGHT)
    bounds = [b for step in steps for b in (step.gain.low, step.gain.high, step.random - step.base, 0.0)]
    y = spanning(bounds, BOTTOM, TOP, percent=True)
    marks = []
    for place, step in enumerate(steps, start=1):
        random = step.random - step.base
        said = f"σ = {step.sigma:.3g}: {step.randoms} random steps, {100 * random:+.1f} points on average"
        marks.append(Mark(x(place + 0.15), y(random), y(random), y(random), said))
        said = (
            f"σ = {step.sigma:.3g}: along a half's direction {100 * step.gain.value:+.1f} points, p {step.p_value:.3g}"
        )
        marks.append(Mark(x(place - 0.15), y(step.gain.value), y(step.gain.low), y(step.gain.high), said, strong=True))
    title = "Gain of a step along one half's direction on the other half's examples; hollow: of random steps"
    plot = panel(title, x, y, "σ, in this order", marks=tuple(marks), rules=(Rule(y(0.0), "base"),))
    return replace(plot, x_ticks=tuple(Tick(x(i), i, f"{step.sigma:.3g}") for i, step in enumerate(steps, start=1)))


def _density(found: Density) -> Section:
    facts = [("base", f"{percent(found.base)} of {found.examples} examples")]
    for special in found.specialisation:
        value = special.correlation
        text = f"{value.value:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
        facts.append((f"gains against {special.other}, σ = {special.sigma:.3g}", text))
    thresholds = sorted({share.threshold for share in found.shares})
    plots = [_curve([s for s in found.shares if s.threshold == threshold]) for threshold in thresholds]
    return Section("Density of good perturbations", tuple(facts), tuple(plots))


def _curve(shares: list[Share]) -> Plot:
    """Draw the shares of one threshold by scale, and what noise would produce as a line."""
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
        ("keeps noise", f"{percent(found.accepts_noise)} at most, of {percent(found.granted)} granted"),
    ]
    for chance, gain in found.detectable.items():
        told = "no gain" if gain is None else f"{100 * gain:+.1f} points"
        facts.append((f"kept with probability {float(chance):.0%}", told))
    title = "Probability that the last look keeps a proposal"
    gains = [100 * gain for gain in found.gains]
    return Section("Power of the gate", tuple(facts), (curve_plot(title, gains, found.power, "true gain, points"),))


def ledger_plot(ledger: Mapping[Account, AccountRow]) -> Plot | None:
    """Return a bar an account by its FLOPs, those within the budget first; None where nothing was booked."""
    told = [(name, row.flops) for name, row in ledger.items() if row.flops]
    if not told:
        return None
    x = Scale(0.5, len(told) + 0.5, LEFT, WIDE - 18)
    y = Scale(0, max(flops for _, flops in told) * 1.08, BOTTOM, TOP)
    bars = tuple(
        bar(
            x(i - 0.35),
            x(i + 0.35),
            y(flops),
            f"{name}: {flops:.3g} FLOPs" + ("" if name in ADAPTATION else ", not billed"),
        )
        for i, (name, flops) in enumerate(told, start=1)
    )
    return Plot(
        title="Where the compute went, in FLOPs",
        width=WIDE,
        height=HEIGHT,
        left=LEFT,
        right=WIDE - 18,
        top=TOP,
        bottom=BOTTOM,
        x_title="account",
        x_ticks=tuple(Tick(x(i), i, name) for i, (name, _) in enumerate(told, start=1)),
        y_ticks=y.ticks(4),
        bars=bars,
    )
