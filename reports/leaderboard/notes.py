"""Sentences below a table of the board: what was not matched, kept or run, and what tuning chose. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from bench.compute.budget import parse_budget
from bench.records.rows import FAITHFUL
from reports.leaderboard.group import MATCHED, LeaderboardRow
from reports.leaderboard.naming import short
from reports.record import Record
from reports.run.history import stages

NOT_RUN = "did not run"
"""Start of the reason that a method reports for a stage without a run."""


def notes_of(records: Sequence[Record], lines: Sequence[LeaderboardRow], dtype: str) -> tuple[str, ...]:
    """Return the sentences below a table.

    Args:
        records: Records of the table.
        lines: Its rows.
        dtype: Type that the runs computed in.
    """
    notes = [f"{line.name}: {problem}" for line in lines for problem in line.problems]
    detectable = [
        f"{line.name} {100 * line.gated.detectable:+.1f}" if line.gated.detectable is not None else f"{line.name} none"
        for line in lines
        if line.gated
    ]
    if detectable:
        notes.append(
            "Gain that the gate keeps in 80 % of runs, in points, at the observed share of regressions: "
            f"{', '.join(detectable)}."
        )
    if records[0].result.config.gate != "off":
        notes += [f"{line.name}: no gate: {reason}" for line in lines for reason in line.ungated]
    if chosen := [line.name for line in lines if line.own_gate]:
        notes.append(
            f"a gate of the method's own kept the result or the base: {', '.join(chosen)}; such rows are not as "
            "trained, and have no letters"
        )
    answers = {record.base for record in records if record.base}
    if len(answers) > 1:
        notes.append("the base's answers differ between runs; each row is compared with the base of its own runs")
    items = max((len(record.base) for record in records), default=0)
    for line in lines:
        all_failed = line.runs and line.failed == len(line.runs)
        if not line.accuracy and not all_failed:
            notes.append(f"{line.name}: no accuracy, because no item has a judged answer under every seed")
        elif line.accuracy and line.judged < items:
            notes.append(
                f"{line.name}: {items - line.judged} of {items} items are left out, because an answer to them was not "
                f"judged under some seed; its figures are over the other {line.judged}"
            )
    unmatched = [line.name for line in lines if line.matched is False]
    if unmatched:
        notes.append(f"not matched in compute (spent less than 95 % of the budget): {', '.join(unmatched)}")
    if lost := [f"{line.name} ({line.kept:.2f})" for line in lines if line.kept is not None and line.kept < FAITHFUL]:
        notes.append(
            f"{dtype} does not hold the moves of these rows' weights (cosine below {FAITHFUL}, the "
            f"lowest over seeds): {', '.join(lost)}; the tested models are not those that were made, so compare the "
            "methods in float32"
        )
    scored = [line for line in lines if line.accuracy]
    most = max((line.passes for line in scored), default=1.0)
    if most > max((line.passes for line in scored if line.bound), default=1.0):
        notes.append(
            f"the most expensive row takes {most:g} passes per answer, and no row without adaptation takes as many; "
            "run self-consistency with as many samples to compare"
        )
    if any(len(line.seeds) == 1 for line in scored if not line.bound):
        notes.append("a row with one seed does not show the variation between seeds")
    return (*notes, *_device_time(records), *_without_bound(lines), *_stages(records, lines), *_chosen(records))


def _device_time(records: Sequence[Record]) -> Iterator[str]:
    """Yield how far the FLOPs of one device time lie apart, if rows that spent all of theirs can differ in compute."""
    budget = parse_budget(records[0].result.config.budget)
    flops = [b.flops for record in records if (b := record.result.budget) and (b.adapts or b.spent)]
    if budget.unit == "seconds" and flops and min(flops) < MATCHED * max(flops):
        yield (
            f"{budget.text} of device time became {min(flops):.2g} to {max(flops):.2g} FLOPs, as the machine was "
            "faster or slower: compare only rows that are called matched"
        )


def _without_bound(lines: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield which rows without adaptation are below the base. Such a row is no bound for methods that adapt."""
    base = next((line.accuracy.value for line in lines if line.is_base and line.accuracy), 0.0)
    below = [line.name for line in lines if line.bound and line.accuracy and line.accuracy.value < base]
    if below:
        yield f"bounds nothing, because it is below the base: {', '.join(below)} (docs/controls.md)"


def _chosen(records: Sequence[Record]) -> Iterator[str]:
    """Yield the settings that tuning chose, one note for each method."""
    chosen: dict[str, list[str]] = defaultdict(list)
    for result in (record.result for record in records):
        if result.tuning:
            named = " ".join(f"{name}={short(value)}" for name, value in result.tuning.chosen.items())
            chosen[result.config.method].append(f"{named or 'the published ones'} (seed {result.config.seed})")
    for method, found in chosen.items():
        yield f"{method}: tuning chose {', '.join(found)}"


def _stages(records: Sequence[Record], lines: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield which stages of a method ran and changed the model, such as `corp: stage 1 committed in 5 of 5 runs`."""
    reports = {record.result.id: record.result.report for record in records}
    for line in lines:
        found = [ran for each in line.runs if (ran := stages(reports.get(each.id, {})))]
        names = dict.fromkeys(_stage(part) for ran in found for part in ran)
        parts = []
        for name in names:
            own = [[part for part in ran if _stage(part) == name] for ran in found]
            if all(str(part.get("reason", "")).startswith(NOT_RUN) for run in own for part in run):
                parts.append(f"{name} {NOT_RUN}")
            else:
                committed = sum(any(part.get("committed") for part in ran) for ran in own)
                parts.append(f"{name} committed in {committed} of {len(found)} runs")
        if parts:
            yield f"{line.name}: {', '.join(parts)}"


def _stage(part: dict[str, Any]) -> str:
    """Return the stage of an entry: rounds of one stage belong together."""
    return str(part.get("stage", "")).partition(",")[0]
