"""Sentences about one run, shared by terminal and HTML page. They are plain text; the caller escapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.amounts import counted
from bench.records.config import RunConfig
from bench.records.rows import GateRecord, PairedComparison, Row
from bench.records.schema import BudgetInfo, Result
from bench.records.source import NOT_METERED, DeclaredSource, RunSource
from bench.records.tuning import Tuning


def run_title(config: RunConfig) -> str:
    """Return the title of a run, such as `corp on addition, tiny-adder, budget smoke, seed 0`."""
    title = f"{method_name(config)} on {config.task_label}, {config.model_label}"
    if not isinstance(config.source, DeclaredSource):
        title += f", budget {config.budget}, seed {config.seed}"
    title += f", {config.tune} trials" if config.tune else ""
    title = ", ".join([title, *config.controls])
    return title if config.strategy == "greedy" else f"{title}, {config.strategy}"


def method_name(config: RunConfig) -> str:
    """Return the name of a run's method; for a model that was trained elsewhere, its name with a mark."""
    return f"{config.method} {NOT_METERED}" if isinstance(config.source, DeclaredSource) else config.method


def origin(result: Result) -> list[str]:
    """Return a sentence on where the model of a test came from; none for a run.

    Examples: `artifacts of run 558a005b, adapted on addition; ...`,
    `my-model: trained elsewhere for 1e+15 FLOPs, as declared and not metered`.
    """
    source = result.source
    if isinstance(source, RunSource):
        return [
            f"artifacts of run {source.id[:8]}, adapted on {source.task}; its costs of adaptation and the decisions of "
            "its gate are carried over"
        ]
    if isinstance(source, DeclaredSource):
        return [f"{source.name}: trained elsewhere for {source.flops:.4g} FLOPs, as declared and not metered"]
    return []


def named_rows(result: Result) -> list[tuple[str, Row]]:
    """Return the rows to show with their names, such as `base` and `randopt k=5`.

    A control has only the base's, because its own rows repeat it.
    """
    base = [("base", row) for row in result.rows[:1]]
    return base if result.is_control else base + [(row_name(result, row), row) for row in result.rows[1:]]


def row_name(result: Result, row: Row) -> str:
    """Return the name of a row, such as `base`, `randopt k=5`, or `randopt k=5, gated` after the gate."""
    if row.kind == "base":
        return "base"
    name = f"{method_name(result.config)} {row.label}".strip()
    return f"{name}, gated" if row.kind == "gated" else name


def statements(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return the sentences on the rows of a run: comparisons with the base, moves, pass@k, cut answers, thoughts."""
    return [*comparisons(rows), *moves(rows), *coverages(rows), *truncations(rows), *thoughts(rows)]


def comparisons(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row that compares it with the base."""
    return [_comparison(name, row, row.comparison) for name, row in rows if row.comparison is not None]


def _comparison(name: str, row: Row, c: PairedComparison) -> str:
    if row.gate is not None:
        whose = "as trained" if row.gate.accepted else "the base's"
        return f"{name}: {row.gate.reason}; answers and cost are {whose}{_detectable(row.gate)}"
    if not row.changed:
        return f"{name} returned the base model unchanged, so its answers and cost are the base's"
    return (
        f"{name}: {100 * c.difference:+.1f} points ({100 * c.low:+.1f} to {100 * c.high:+.1f}) on the same "
        f"{counted(c.items, 'item')}: {counted(c.fixes, 'fix', 'fixes')}, {counted(c.regressions, 'regression')}, "
        f"exact McNemar p = {c.p_value:.3g}"
    )


def _detectable(gate: GateRecord) -> str:
    if gate.detectable is None:
        return ""
    return (
        f" (detectable gain on {counted(gate.max_items, 'item')}: {100 * gate.detectable:+.1f} points in 80 % of runs)"
    )


def truncations(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row with answers that ended at the length limit."""
    return [
        f"{name}: {100 * row.truncated:.1f} % of the answers ended at the length limit"
        for name, row in rows
        if row.truncated and row.gate is None
    ]


def thoughts(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row whose answers begin with thoughts."""
    lines = []
    for name, row in rows:
        if not (found := row.thoughts) or not found.tokens or row.gate is not None:
            continue
        ended = f"{found.cut} ended at the limit, " if found.cut else ""
        lines.append(f"{name}: {found.tokens:.1f} tokens of thought per answer; {ended}{found.unended} never ended")
    return lines


def moves(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence for each row on where its move from the base went, if its record says so.

    Example: `es: 71.2 % of the move's energy in mlp, 28.8 % in attention; 9.3 % of the weights were left out`.
    """
    lines = []
    for name, row in rows:
        if (move := row.move) is None or not move.energy or row.gate is not None:
            continue
        left_out = f"; {100 * move.untouched:.1f} % of the weights were left out" if move.untouched else ""
        lines.append(f"{name}: {_energies(move.energy, 'the move')}{left_out}")
    return lines


def noise_shares(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence on where a run's noise goes, and how many weights it leaves out. Empty for plain noise.

    Example: `noise lowrank: 66.2 % of the noise's energy in mlp, 33.8 % in attention; 0.7 % of the weights are left
    out`.
    """
    found = report.get("noise")
    if not isinstance(found, dict):
        return []
    energy, share = found.get("energy"), found.get("untouched")
    parts = [_energies(energy, "the noise")] if isinstance(energy, dict) and energy else []  # older records have none
    parts += [f"{100 * share:.1f} % of the weights are left out"] if isinstance(share, float) and share else []
    return [f"noise {found.get('kind')}: {'; '.join(parts)}"] if parts else []


def _energies(shares: Mapping[str, Any], whose: str) -> str:
    known = {kind: share for kind, share in shares.items() if isinstance(share, float) and share}
    ranked = sorted(known.items(), key=lambda item: -item[1])
    of_all = f" of {whose}'s energy"
    return ", ".join(
        f"{100 * share:.1f} %{'' if rank else of_all} in {kind}" for rank, (kind, share) in enumerate(ranked)
    )


def lost_moves(result: Result) -> list[str]:
    """Return one sentence for each artifact whose move the run's dtype does not hold.

    Example: `grpo: bfloat16 does not hold the move of the weights (cosine 0.31, 5.6 % of them changed); the tested
    model is not the one that was made, so take --dtype float32 for all methods`.
    """
    dtype = result.engine.get("dtype", result.config.dtype)
    return [
        f"{row_name(result, row)}: {dtype} does not hold the move of the weights (cosine {move.cosine:.2f}, "
        f"{100 * move.changed:.1f} % of them changed); the tested model is not the one that was made, so take --dtype "
        "float32 for all methods"
        for row in result.artifacts
        if (move := row.move) is not None and move.lost
    ]


def coverages(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return one sentence on pass@k for each row that measured it."""
    lines = []
    for name, row in rows:
        if (c := row.coverage) is None or row.gate is not None:
            continue
        each = [f"pass@{c.k} {100 * c.value:.1f} % ({100 * c.low:.1f} to {100 * c.high:.1f})" for c in row.coverages]
        line = f"{name}: {', '.join(each)}, from {counted(c.samples, 'sample')} for each of {counted(c.items, 'item')}"
        if d := c.difference:
            at = f" at k = {c.k}" if row.curve else ""
            bounds = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
            line += f"; {100 * d.difference:+.1f} points{at} ({bounds}), p = {d.p_value:.3g}"
        lines.append(line)
    return lines


def trials(tuning: Tuning | None) -> list[str]:
    """Return one sentence on what tuning chose, with the scores of the last rung; none without tuning."""
    if tuning is None:
        return []
    last = [trial for trial in tuning.trials if trial.rung == tuning.trials[-1].rung]
    scores = [
        f"{_settings(trial.settings)} {trial.reason}"
        if trial.score is None
        else f"{_settings(trial.settings)} {100 * trial.score:.1f} % of {trial.items}"
        for trial in sorted(last, key=lambda trial: trial.trial != tuning.trial)
    ]
    return [
        f"tuning chose {_settings(tuning.chosen)} of {len({trial.trial for trial in tuning.trials})} trials for "
        f"{tuning.flops:.4g} FLOPs; last rung, on select examples: {'; '.join(scores)}"
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items()) or "the published settings"


def spent(budget: BudgetInfo) -> str:
    """Return a sentence on how much of the budget adaptation spent."""
    return (
        f"adaptation spent {budget.spent:.4g} of {budget.flops:.4g} FLOPs ({100 * budget.share:.1f} %), the budget "
        f"{budget.name} of {budget.evaluations:,} evaluations at {budget.evaluation_flops:.3g} FLOPs each"
    )


def decided(result: Result) -> str | None:
    """Return what the gate decided, with the largest gain on its items. None without a gate.

    Example: `corp kept in place of the base (corp +11.2 points on 250 gate items)`.
    """
    gated = [(row_name(result, row).removesuffix(", gated"), row.gate) for row in result.rows if row.gate is not None]
    if not gated:
        return None
    kept = [name for name, gate in gated if gate.accepted]
    verdict = f"{', '.join(kept)} kept in place of the base" if kept else "the base stays"
    name, best = max(gated, key=lambda each: each[1].gain)
    tested = f"{100 * best.gain:+.1f} points on {best.items} gate items" if best.items else "was not tested"
    return f"{verdict} ({name} {tested})"
