"""Terminal output of `bench analyze`: tables, or plain text when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rich.console import Console

from bench.compute.ledger import ADAPTATION
from bench.console import PlainTable
from bench.records.schema import Result
from bench.stats import Estimate, holm
from bench.weights.noise import PLAIN
from reports.analysis.gate import CHANCES
from reports.analysis.results import Density, Drift, GatePowers, Geometry, SplitHalf, Statistic, SubspaceOverlap

T = TypeVar("T")

LEVEL = 0.05
_VERBATIM: dict[str, Any] = {"highlight": False, "soft_wrap": True, "emoji": False, "markup": False}


def print_split_half(console: Console, found: SplitHalf) -> None:
    """Print the overlap of the halves, and the effect of steps along their directions."""
    _overlap(console, "Same candidates, other examples (amplitudes)", found.reproduced)
    if found.shared:
        title = f"Other candidates, other examples (sketch of {found.shared.dimensions} dimensions)"
        _overlap(console, title, found.shared)
    if found.transfer:
        console.print("A step along one half's direction, on the other half's examples", style="bold")
        table = _table("sigma", "base", "step", "gain", "95 %", "random", "excess", "95 %", "p")
        for step in found.transfer:
            table.add_row(
                f"{step.sigma:.3g}",
                f"{100 * step.base:.1f}",
                f"{100 * step.moved:.1f}",
                *_points(step.gain),
                f"{100 * step.random:.1f}",
                *_points(step.excess),
                f"{step.p_value:.3f}",
            )
        console.print(table)
        console.print(transfer_verdict(found), **_VERBATIM)
    for note in found.notes:
        console.print(note, **_VERBATIM)


def _overlap(console: Console, title: str, overlap: SubspaceOverlap) -> None:
    console.print(title, style="bold")
    table = _table("", "observed", "null mean", "null 95 %", "p")
    for name, tested in ((f"mean squared cosine, top {overlap.rank}", overlap.subspace), ("cosine", overlap.mean)):
        figures = (tested.value, tested.null_mean, tested.null_high)
        table.add_row(name, *(f"{figure:.4f}" for figure in figures), f"{tested.p_value:.4f}")
    console.print(table)
    ones, twos = overlap.effective
    halves = f"{overlap.candidates[0]} and {overlap.candidates[1]} candidates, effectively {ones:.1f} and {twos:.1f}"
    console.print(f"{halves}; {overlap_verdict(overlap)}", **_VERBATIM)


def overlap_verdict(overlap: SubspaceOverlap) -> str:
    """Return a sentence on whether the overlap is significant. Holm's correction covers both statistics."""
    tests: tuple[Statistic, ...] = (overlap.subspace, overlap.mean)
    adjusted = float(min(holm([t.p_value for t in tests])))
    verdict = "the overlap is larger than by chance" if adjusted <= LEVEL else "the overlap is no larger than by chance"
    return f"{verdict} (p {adjusted:.3g} for both together)"


def transfer_verdict(found: SplitHalf) -> str:
    """Return a sentence on whether a step beats random steps. Holm's correction covers all lengths."""
    adjusted = float(min(holm([step.p_value for step in found.transfer])))
    verdict = "a step beats random steps" if adjusted <= LEVEL else "no step is significantly better than random steps"
    randoms = min(step.randoms for step in found.transfer)
    return f"{verdict} (p {adjusted:.3g} for all lengths together; each compared with {randoms} or more random steps)"


def print_density(console: Console, found: Sequence[Density]) -> None:
    """Print one table per run, and the correlations of gains between tasks."""
    for one in found:
        size = f", {one.parameters:,} parameters in matrices" if one.parameters else ""
        noise = f", noise {one.noise}" if one.noise != str(PLAIN) else ""
        title = f"{one.task}, {one.model}{size}{noise}: base {100 * one.base:.1f} % of {one.examples}"
        console.print(title, style="bold", **_VERBATIM)
        table = _table("sigma", "gain", "of", "share", "95 %", "null mean", "null 95 %", "p", "held-out gain")
        for share in one.shares:
            table.add_row(
                f"{share.sigma:.3g}",
                f">= {100 * share.threshold:g}",
                str(share.candidates),
                f"{100 * share.share.value:.1f}",
                f"{100 * share.share.low:.1f} to {100 * share.share.high:.1f}",
                f"{100 * share.null:.1f}",
                f"{100 * share.null_high:.1f}",
                f"{share.p_value:.3f}",
                "" if share.elsewhere is None else f"{100 * share.elsewhere:+.1f}",
            )
        console.print(table)
        for special in one.specialisation:
            value = special.correlation
            console.print(
                f"sigma {special.sigma:.3g}: gains here and on {special.other} correlate by {value.value:+.2f} "
                f"({value.low:+.2f} to {value.high:+.2f}) over {special.candidates} perturbations; "
                f"reliability of the scores {special.reliability[0]:.2f} and {special.reliability[1]:.2f}",
                **_VERBATIM,
            )


def print_gate(console: Console, found: GatePowers) -> None:
    """Print the false-positive rate and the power of a run's gate."""
    table = _table("row", "items", "at most", "changed", "keeps noise", *(f"{c:.0%} power" for c in CHANCES))
    for row in found.rows:
        gains = ("none" if gain is None else f"{100 * gain:+.1f}" for gain in row.detectable.values())
        changed, noise = f"{row.flip_rate:.1%}", f"{row.keeps_noise:.2%}"
        table.add_row(row.label or "result", str(row.items), str(row.max_items), changed, noise, *gains)
    console.print(table)
    for row in found.rows:
        console.print(f"{row.label or 'result'}: {row.reason}", **_VERBATIM)
    console.print(
        "keeps noise: probability of keeping a result that changes as many answers without a gain; power: true gain in "
        "points that is kept with this probability",
        **_VERBATIM,
    )


def print_ledger(console: Console, result: Result) -> None:
    """Print one bar of FLOPs per account, its seconds and its noise. Accounts outside the budget have a lighter bar."""
    limit = result.budget.flops if result.budget else 0
    most = max((row.flops for row in result.ledger.values()), default=0) or 1
    width = max(10, min(console.width, 80) - 63)
    table = _table("account", "FLOPs", "of budget", "padding", "seconds", "noise", "")
    seconds = result.timing.accounts if result.timing else {}
    for name, row in result.ledger.items():
        billed = name in ADAPTATION
        share = f"{row.flops / limit:.1%}" if limit and billed else "not billed"
        padding = f"{row.hardware_flops / row.flops - 1:.0%}" if row.flops else ""
        bar = ("█" if billed else "░") * max(1, round(width * row.flops / most))
        took = f"{seconds[name]:,.1f}" if name in seconds else ""
        noise = f"{row.work.noise_values:.3g}" if row.work.noise_values else ""
        table.add_row(name, f"{row.flops:.3g}", share, padding, took, noise, bar)
    console.print(table)


def print_geometry(console: Console, found: Geometry) -> None:
    """Print size, direction and effect of the moves."""
    title = f"Moves from {found.model} ({found.weights:,} weights, {found.dtype}), and their energy by kind of layer"
    console.print(title, style="bold", **_VERBATIM)
    table = _table("model", "norm", "of base", *(part.kind for part in found.moves[0].layers))
    table.add_row(
        "share of weights", "", "", *(f"{part.weights / found.weights:.1%}" for part in found.moves[0].layers)
    )
    for move in found.moves:
        relative = "" if move.relative is None else f"{move.relative:.2%}"
        table.add_row(move.name, f"{move.norm:.4g}", relative, *(f"{part.share:.1%}" for part in move.layers))
    console.print(table)
    if len(found.moves) > 1:
        console.print("Cosines between the moves", style="bold")
        table = _table("model", *(move.name for move in found.moves[1:]))
        for i, (move, cosines) in enumerate(zip(found.moves[:-1], found.cosines, strict=False)):
            table.add_row(move.name, *[""] * i, *(f"{cosine:+.2g}" for cosine in cosines[i + 1 :]))
        console.print(table)
        console.print(f"two random directions: 0, with a standard deviation of {found.null_sd:.2g}", **_VERBATIM)
    for (task, prompts), drifts in _grouped(found.drifts, lambda drift: (drift.task, drift.prompts)):
        title = f"Divergence from the base, nats per token (95 %), on {prompts} prompts of {task}; {tested_on(drifts)}"
        console.print(title, style="bold", **_VERBATIM)
        table = _table("model", "KL(base || model)", "KL(model || base)")
        for drift in drifts:
            table.add_row(drift.name, nats(drift.from_base), nats(drift.to_base))
        console.print(table)
    for (task, items), lines in _grouped(found.lines, lambda line: (line.task, line.items)):
        title = f"Accuracy in % on {items} test items of {task}, along the line from the first model to the second"
        console.print(title, style="bold", **_VERBATIM)
        table = _table("model", *(f"{place:.3g}" for place in lines[0].places), "barrier", "95 %")
        for line in lines:
            right = (f"{100 * value:.1f}" for value in line.accuracy)
            table.add_row(f"{line.start} to {line.end}", *right, *_points(line.barrier))
        console.print(table)
    for sentence in (*geometry_verdicts(found), *found.notes):
        console.print(sentence, **_VERBATIM)


def _grouped(rows: Sequence[T], key: Callable[[T], Any]) -> list[tuple[Any, list[T]]]:
    """Return the rows by their key, in the order in which the keys first occur."""
    found: dict[Any, list[T]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.items())


def nats(estimate: Estimate) -> str:
    """Return a divergence with its interval, such as `0.0353 (0.032 to 0.039)`."""
    return f"{estimate.value:.3g} ({estimate.low:.2g} to {estimate.high:.2g})"


def tested_on(drifts: Sequence[Drift]) -> str:
    """Return which of the models were tested on the task of these drifts, such as `tested on it: corp, es`."""
    return f"tested on it: {', '.join(drift.name for drift in drifts if drift.on_task) or 'no model'}"


def geometry_verdicts(found: Geometry) -> list[str]:
    """Return sentences on the barriers, on the items that were used, and on the compute."""
    barred = [line for line in found.lines if line.barrier.low > 0]
    lines = ", ".join(f"{line.start} to {line.end} on {line.task} (at {line.barrier_at:.3g})" for line in barred)
    computed = found.computed
    return [
        f"barrier larger than noise: {lines or 'on no line'}; a barrier is the largest drop, in points, below the "
        "straight line between the accuracies of the ends",
        "the prompts are test items, answered after the runs had ended; nothing of it reaches a run",
        f"account {computed.account}: {computed.flops:.3g} FLOPs, {computed.evaluations:,} answers; recorded with the "
        "analysis, and billed to no budget",
    ]


def _table(*columns: str) -> PlainTable:
    return PlainTable(columns, left=("", "row", "account", "model"))


def _points(estimate: Estimate) -> tuple[str, str]:
    return f"{100 * estimate.value:+.1f}", f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}"
