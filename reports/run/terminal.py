"""Terminal output for one run: tables, or plain text when piped."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.compute.ledger import ADAPTATION
from bench.console import PlainTable, fold, heading
from bench.plain import line
from bench.records.pricing import Repricing
from bench.records.rows import Row
from bench.records.samples import Sample
from bench.records.schema import Result, Timing
from reports.run.history import configuration, curves, gate_summary, gates
from reports.run.summary import (
    decided,
    lost_moves,
    named_rows,
    noise_shares,
    origin,
    row_name,
    run_title,
    spent,
    statements,
    trials,
)

SIGNIFICANT = 0.05
"""Significance level at which a row without a gate is taken for better than the base."""

# By default rich colours numbers, breaks lines, and replaces the `:100:` of `a[:100:]` by an emoji.
_VERBATIM: dict[str, Any] = {"highlight": False, "soft_wrap": True, "emoji": False}


def print_run(console: Console, folder: Path, result: Result, more: str | None = None) -> None:
    """Print a run's results and costs, what its gate decided, its directory, and the next command to run.

    Args:
        console: Console to print to.
        folder: Run directory.
        result: Record of the run.
        more: What would let the gate decide more; None if that is not known.
    """
    config = result.config
    console.print()
    _print(console, run_title(config), "bold")
    if result.status != "ok":
        console.print(f"[red]{result.status}[/red]: {escape(str(result.reason))}", **_VERBATIM)
    for text in origin(result):
        _print(console, text)
    if rows := named_rows(result):
        console.print(_accuracies(rows))
        for text in statements(rows):
            _print(console, text)
        for text in lost_moves(result):
            _print(console, f"warning: {text}", "yellow")
    for text in noise_shares(result.report):
        _print(console, text)
    for label, reason in result.untested.items():
        _print(console, f"{config.method} {label}".strip() + f" was not tested: {reason}")
    if result.ungated:
        _print(console, f"no gate: {result.ungated}")
    for text in trials(result.tuning):
        _print(console, text)
    for text in _reported(result):
        console.print(text, **_VERBATIM)
    if result.ledger:
        console.print(_ledger(result))
        for text in _unbilled(result):
            _print(console, text)
    if result.budget:
        _print(console, spent(result.budget))
    if found := decided(result):
        _print(console, f"gate:   {found}")
    if more:
        _print(console, f"more:   {more}")
    # These are copied, so they stay in one line.
    for text in (f"record: {folder}", f"next:   {_next(folder, result)}"):
        console.print(line(text), markup=False, **_VERBATIM)
    console.print()


def _print(console: Console, text: str, style: str = "") -> None:
    """Print one line, whatever the text holds. A terminal folds it at its words."""
    shown = fold(line(text), console.width, 2) if console.is_terminal else line(text)
    console.print(shown, style=style, markup=False, **_VERBATIM)


def print_history(console: Console, result: Result) -> None:
    """Print a run's configuration, its rewards over time, and a summary of its gate."""
    named = [f"{name + ':':<11}{text}" for name, text in configuration(result).items()]
    for text in (*named, *curves(result.report), *gate_summary(result.report)):
        _print(console, text)


def print_times(console: Console, timing: Timing, limit: float | None = None) -> None:
    """Print where a run spent its time, by kind of work and by phase, and how fast it generated.

    Args:
        console: Console to print to.
        timing: Times of the run's last attempt.
        limit: FLOP per second that the machine reaches in a matrix product of the run's dtype; None if not measured.
    """
    own = timing.total - sum(timing.kinds.values())
    for title, seconds in (
        ("by kind of work", {**timing.kinds, "the harness itself": own}),
        ("by phase", timing.stages),
    ):
        table = _table("", "seconds", "share")
        for name, value in seconds.items():
            table.add_row(name, f"{value:.1f}", f"{value / timing.total:.1%}" if timing.total else "")
        console.print(title, style="bold")
        console.print(table)
    generating = timing.kinds.get("generation", 0.0)
    if timing.new_tokens and timing.generation_flops and generating > 0:
        rate = timing.generation_flops / generating
        share = f", {rate / limit:.1%} of what this machine reaches in matrix products" if limit else ""
        text = f"generation: {timing.new_tokens / generating:,.1f} tokens/s, {rate:.3g} FLOP/s{share}"
        console.print(text, highlight=False, soft_wrap=True)


def print_repricing(console: Console, found: Repricing) -> None:
    """Print FLOPs by name, as recorded and under the present formula."""
    table = _table("", "recorded", "repriced", "ratio")
    for name, price in {"formula version": found.flops_version, **found.figures}.items():
        old, new = price.recorded, price.repriced
        ratio = f"{new / old:.4g}" if old and new is not None and price is not found.flops_version else ""
        table.add_row(name, *("unknown" if value is None else f"{value:.6g}" for value in (old, new)), ratio)
    console.print(table)


def _table(*columns: str) -> PlainTable:
    return PlainTable(columns, left=("", "account"))


def _accuracies(rows: list[tuple[str, Row]]) -> PlainTable:
    table = _table("", "accuracy", "95 % interval", "correct", "passes per answer", "FLOPs per answer", "excluded")
    for name, row in rows:
        accuracy, cost = row.accuracy, row.cost
        table.add_row(
            name,
            f"{100 * accuracy.accuracy:.1f} %",
            f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}",
            f"{accuracy.correct}/{accuracy.items}",
            f"{cost.evaluations:g}",
            f"{cost.flops:.3g}",
            str(accuracy.excluded),
        )
    return table


def _reported(result: Result) -> list[str]:
    lines = []
    for gate in gates(result.report):
        verdict = "[green]kept[/green]" if gate.accepted else "not kept"
        lines.append(f"the method's report: {escape(line(gate.stage))}: {verdict}; {escape(line(gate.reason))}")
    training = result.report.get("training")
    if isinstance(training, dict) and (collapse := training.get("collapse")):
        lines.append(f"the method's report: training: {escape(line(str(collapse)))}")
    return lines


def _ledger(result: Result) -> PlainTable:
    table = _table("account", "evaluations", "forward tokens", "backward passes", "moves", "FLOPs", "of budget")
    limit = result.budget.flops if result.budget else 0
    for name, row in result.ledger.items():
        work = row.work
        share = f"{100 * row.flops / limit:.1f} %" if limit and name in ADAPTATION else "not billed"
        counts = (work.evaluations, work.tokens, work.backward_passes, work.weight_moves)
        table.add_row(name, *(f"{count:,}" for count in counts), f"{row.flops:.3g}", share)
    return table


def _unbilled(result: Result) -> list[str]:
    """Return what each account took besides FLOPs: noise for moves of the weights, and time."""
    noise = {name: row.work.noise_values for name, row in result.ledger.items() if row.work.noise_values}
    seconds = result.timing.accounts if result.timing else {}
    lines = {
        "noise values drawn for moves (no model FLOPs)": [f"{name} {count:.3g}" for name, count in noise.items()],
        "seconds": [f"{name} {value:,.1f}" for name, value in seconds.items()],
    }
    return [f"{title}: {', '.join(parts)}" for title, parts in lines.items() if parts]


def _next(directory: Path, result: Result) -> str:
    folder = shlex.quote(str(directory))
    if result.status == "failed":
        return f"fix the cause, then bench resume {folder}"
    if result.status == "refused":
        return "change what the reason names, and start the run again; a refused run is not resumed with other options"
    if result.source is None and any(_is_better(row) for row in result.gated or result.artifacts):
        return f"bench export {folder} -o my-model"
    return f"bench show {folder}"


def _is_better(row: Row) -> bool:
    """Return whether a row was shown to be better than the base: by its gate, or by the test split without a gate."""
    if row.gate is not None:
        return row.gate.accepted
    gain = row.comparison
    return row.changed and gain is not None and gain.difference > 0 and gain.p_value < SIGNIFICANT


def print_samples(console: Console, result: Result, samples: list[Sample]) -> None:
    """Print answers to test examples, each with its row and verdict, behind the question and the reference answer.

    A question is printed once for answers that follow each other.
    """
    asked = None
    for sample in samples:
        if sample.question and (sample.id, sample.prompt) != asked:
            asked = sample.id, sample.prompt
            heading(console, f"{sample.id}, prompt {sample.prompt_id}")
            console.print(sample.question, markup=False, **_VERBATIM)
            if sample.gold is not None:
                console.print(f"(reference answer: {sample.gold})", markup=False, style="dim", **_VERBATIM)
        verdict = {True: "right", False: "wrong", None: "not judged"}[sample.correct]
        name = row_name(result, result.rows[sample.row])
        heading(console, f"{sample.id}, {name}: {verdict}")
        console.print(sample.text, markup=False, **_VERBATIM)
        if sample.detail:
            console.print(f"({sample.detail})", markup=False, style="dim", **_VERBATIM)
