"""Plots of one run's history: its population, training curves and gate. Pure functions.

Methods may put anything into their reports. Only parts in one of these shapes are plotted:

    {"rewards": [0.2, 0.4], "sigmas": [0.01, 0.02], "elite": [1], "weights": [1.0]}      a population
    {"training": {"curve": {"step": [1, 2], "reward": [0.1, 0.3]}}}                      training curves
    {"trajectory": [{"mean": 0.2, "max": 0.3}, {"mean": 0.4, "max": 0.6}]}               iterations
    {"rewards": {"default": 0.5, "swapped": 0.25}}                                       prompts
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from reports.html.svg import Bar, Mark, Plot, Rule, Scale, Tick, line, spanning
from reports.run.history import MethodDecision, ReportedPopulation, ReportedTraining, read_shape

WIDTH, HEIGHT = 340.0, 200.0
WIDE = 620.0
"""Width of a plot whose axis has names."""
LEFT, RIGHT, TOP, BOTTOM = 68.0, WIDTH - 18, 12.0, HEIGHT - 42
BINS = 20
ELITE = 60
"""Maximum number of elite weights to plot, largest first."""


@dataclass(frozen=True)
class Section:
    """Section of a page: a heading, named facts, and plots."""

    heading: str
    facts: tuple[tuple[str, str], ...]
    plots: tuple[Plot, ...]


class _Trajectory(BaseModel):
    trajectory: list[dict[str, Any]] = Field(min_length=2)


class _Prompts(BaseModel):
    rewards: dict[str, FiniteFloat] = Field(min_length=1)


def sections(report: Mapping[str, Any]) -> list[Section]:
    """Return the sections that can be plotted from a method's report, in the order of the run."""
    found = [
        _population(read_shape(ReportedPopulation, report.get("stage1", report))),
        _prompts(read_shape(_Prompts, report)),
        _iterations(read_shape(_Trajectory, report)),
        _training(read_shape(ReportedTraining, report.get("training"))),
    ]
    return [section for section in found if section and section.plots]


def _population(found: ReportedPopulation | None) -> Section | None:
    if found is None:
        return None
    by_sigma: dict[str, list[float]] = defaultdict(list)
    for reward, sigma in sorted(zip(found.rewards, found.sigmas, strict=True), key=lambda pair: pair[1]):
        if reward is not None:
            by_sigma[f"{sigma:g}"].append(reward)
    rewards = [reward for reward in found.rewards if reward is not None]
    if not rewards:
        return None
    facts = [("candidates", f"{len(found.rewards):,}"), ("scored in full", f"{len(rewards):,}")]
    facts += [("mean reward", f"{np.mean(rewards):.4g}"), ("best reward", f"{max(rewards):.4g}")]
    if found.elite:
        facts.append(("elite", str(len(found.elite))))
    named = {
        "effective sample size": found.effective_sample_size,
        "largest weight": found.largest_weight,
        "effective rank": found.effective_rank,
        "kappa": found.kappa,
        "norm of the direction": found.norm,
    }
    facts += [(name, f"{value:.4g}") for name, value in named.items() if value is not None]
    plots = _histograms(by_sigma, found.weight_by_sigma)
    if found.weights:
        plots.append(_weights(found))
    # Smaller eigenvalues are zero up to rounding errors.
    spectrum = sorted((v for v in found.eigenvalues if v > 1e-12 * max(found.eigenvalues)), reverse=True)
    if len(spectrum) > 1:
        numbers = [float(i) for i in range(1, len(spectrum) + 1)]
        plots.append(curve_plot("Eigenvalues of the weighted cloud", numbers, spectrum, "number", log=True))
    return Section("Population", tuple(facts), tuple(plots))


def _histograms(by_sigma: Mapping[str, Sequence[float]], weight: Mapping[str, float]) -> list[Plot]:
    """Plot one histogram of rewards per sigma, all with the same axes."""
    every = [reward for rewards in by_sigma.values() for reward in rewards]
    low, high = min(every), max(every)
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts = {sigma: np.histogram(rewards, edges)[0] for sigma, rewards in by_sigma.items()}
    x = Scale(float(edges[0]), float(edges[-1]), LEFT, RIGHT)
    y = Scale(0, max(int(c.max()) for c in counts.values()) * 1.08, BOTTOM, TOP)
    plots = []
    for sigma, count in counts.items():
        bars = tuple(
            bar(x(a), x(b), y(float(n)), f"{n} of reward {a:.3g} to {b:.3g}")
            for a, b, n in zip(edges[:-1].tolist(), edges[1:].tolist(), count.tolist(), strict=True)
            if n
        )
        carried = f", {100 * weight[sigma]:.0f} % of the weight" if sigma in weight else ""
        title = f"Rewards at σ = {sigma}: {len(by_sigma[sigma])} candidates{carried}"
        plots.append(panel(title, x, y, "reward", bars=bars))
    return plots


def _weights(found: ReportedPopulation) -> Plot:
    heavy = sorted(zip(found.weights, found.elite, strict=True), reverse=True)[:ELITE]
    x = Scale(0.5, len(heavy) + 0.5, LEFT, RIGHT)
    y = Scale(0, max(heavy[0][0], 1e-12) * 1.08, BOTTOM, TOP)
    bars = tuple(
        bar(x(place - 0.5), x(place + 0.5), y(weight), f"candidate {candidate}: weight {weight:.4g}")
        for place, (weight, candidate) in enumerate(heavy, start=1)
    )
    more = f", the {ELITE} heaviest of {len(found.weights)}" if len(found.weights) > ELITE else ""
    return panel(f"Weights of the elite{more}", x, y, "by weight", bars=bars)


def _prompts(found: _Prompts | None) -> Section | None:
    if found is None:
        return None
    facts = tuple((name, f"{reward:.4g}") for name, reward in found.rewards.items())
    x = Scale(0.5, len(facts) + 0.5, LEFT, RIGHT)
    y = Scale(0, max(*found.rewards.values(), 1e-12) * 1.08, BOTTOM, TOP)
    bars = tuple(
        bar(x(place - 0.3), x(place + 0.3), y(max(reward, 0.0)), f"{name}: {reward:.4g}")
        for place, (name, reward) in enumerate(found.rewards.items(), start=1)
    )
    return Section("Prompts", facts, (panel("Mean reward by prompt", x, y, "prompt, in this order", bars=bars),))


def _iterations(found: _Trajectory | None) -> Section | None:
    if found is None:
        return None
    names = {
        "mean": "mean reward",
        "max": "best reward",
        "sd": "standard deviation of rewards",
        "norm": "norm of the point",
    }
    plots = []
    for key, name in names.items():
        series = [entry.get(key) for entry in found.trajectory]
        plots += _curve(f"{name.capitalize()} by iteration", series, "iteration")
    return Section("Iterations", (), tuple(plots))


def _training(found: ReportedTraining | None) -> Section | None:
    if found is None:
        return None
    curves = {key: series for key, series in found.curve.items() if key != "step"}
    plots = [p for key, series in curves.items() for p in _curve(f"Training: {key.replace('_', ' ')}", series, "step")]
    return Section("Training", (), tuple(plots))


def _curve(title: str, series: Sequence[Any], x_title: str) -> list[Plot]:
    """Plot a series without its gaps. Return no plot for fewer than two numbers."""
    known = [
        (float(step), float(value))
        for step, value in enumerate(series, start=1)
        if isinstance(value, int | float) and np.isfinite(value)
    ]
    if len(known) < 2:
        return []
    return [curve_plot(title, [step for step, _ in known], [value for _, value in known], x_title)]


def curve_plot(title: str, xs: Sequence[float], ys: Sequence[float], x_title: str, *, log: bool = False) -> Plot:
    """Return a small plot of a line through points."""
    x = spanning(xs, LEFT, RIGHT, margin=0.0)
    y = spanning(ys, BOTTOM, TOP, log=log)
    path = line([(x(a), y(b)) for a, b in zip(xs, ys, strict=True)])
    return panel(f"{title}, {min(ys):.3g} to {max(ys):.3g}", x, y, x_title, path=path)


def gate_plot(looks: Sequence[MethodDecision]) -> Plot | None:
    """Plot the gain of each decision of the method with one standard error. Return None if no decision has a gain."""
    known = [(i, g, g.gain, g.standard_error or 0.0) for i, g in enumerate(looks, start=1) if g.gain is not None]
    if not known:
        return None
    x = Scale(0.5, len(looks) + 0.5, LEFT, RIGHT)
    bounds = [0.0, *(gain + sign * error for _, _, gain, error in known for sign in (-1, 1))]
    y = spanning(bounds, BOTTOM, TOP, percent=True)
    marks = tuple(
        Mark(
            x=x(i),
            y=y(gain),
            low=y(gain - error),
            high=y(gain + error),
            tooltip=f"{gate.stage}: {'kept' if gate.accepted else 'not kept'}; {gate.reason}",
            strong=gate.accepted,
            data={"gain": gain},
        )
        for i, gate, gain, error in known
    )
    title = "Paired gain, with one standard error; filled: the change was kept"
    plot = panel(title, x, y, "look", marks=marks, rules=(Rule(y(0.0), "no change"),))
    return replace(plot, x_ticks=tuple(tick for tick in plot.x_ticks if tick.value.is_integer()))


def bar(start: float, end: float, top: float, tooltip: str) -> Bar:
    """Return a bar of a panel, from its horizontal axis up to `top`."""
    gap = 1 if end - start > 3 else 0
    return Bar(round(start, 2), top, round(end - start - gap, 2), round(BOTTOM - top, 2), tooltip)


def panel(title: str, x: Scale, y: Scale, x_title: str, **drawn: Any) -> Plot:
    """Return a small plot, one of several side by side."""
    ticks = x.ticks(5), y.ticks(4)
    return Plot(title, WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, x_title, x_ticks=ticks[0], y_ticks=ticks[1], **drawn)


def named_bars(
    title: str,
    x_title: str,
    values: Sequence[tuple[str, float, str]],
    intervals: Sequence[tuple[float, float]] = (),
    *,
    percent: bool = False,
    width: float = WIDE,
) -> Plot:
    """Return a plot with a bar for each name.

    Args:
        title: Title of the plot.
        x_title: Title of its horizontal axis.
        values: Name, value and tooltip of each bar; none is negative.
        intervals: Interval of each value; empty for none.
        percent: Whether the values are fractions, whose ticks are labelled in per cent.
        width: Width of the plot, which must fit the names.
    """
    x = Scale(0.5, len(values) + 0.5, LEFT, width - 18)
    highest = max([value for _, value, _ in values] + [high for _, high in intervals]) or 1.0
    y = Scale(0, highest * 1.08, BOTTOM, TOP, percent=percent)
    numbered = list(enumerate(values, start=1))
    return Plot(
        title=title,
        width=width,
        height=HEIGHT,
        left=LEFT,
        right=width - 18,
        top=TOP,
        bottom=BOTTOM,
        x_title=x_title,
        x_ticks=tuple(Tick(x(i), i, name) for i, (name, _, _) in numbered),
        y_ticks=y.ticks(4),
        bars=tuple(bar(x(i - 0.35), x(i + 0.35), y(value), tooltip) for i, (_, value, tooltip) in numbered),
        marks=tuple(
            Mark(x(i), y(value), y(low), y(high), tooltip)
            for (i, (_, value, tooltip)), (low, high) in zip(numbered, intervals, strict=False)
        ),
    )
