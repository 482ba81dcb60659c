"""Forecasts for the user: what the gate of a run can detect, and which budget would decide more.

They never affect a result.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bench.amounts import counted
from bench.compute.budget import BUDGETS
from bench.errors import Refused
from bench.records.config import RunConfig
from bench.records.rows import Row
from bench.run.plan import REGRESSIONS, GatePlan, plan_run
from bench.stats.gate import GateDesign, detectable_gain, keep_probability
from methods.interface import Method
from tasks.interface import TaskTraits

GAIN, OFTEN = 0.1, 0.9
"""Gain in accuracy, and share of runs in which a gate that decides well keeps it."""


def gate_forecast(gate: GatePlan) -> str:
    """Return what a run's gate can detect, or why there is none."""
    return f"gate: {gate.what}" if gate.items else f"no gate: {gate.ungated}"


def deciding_budget(method: Method, config: RunConfig, evaluations: int, task: TaskTraits) -> str | None:
    """Return what would let a gate decide more: the smallest named budget whose gate keeps most gains.

    The gate is the one of `bench plan`. None for a run that has no gate at any budget.

    Example: `budget small (4,096 evaluations): its gate keeps a gain of 10 points in 9 of 10 runs`.

    Args:
        method: Configured method.
        config: Configuration of the run.
        evaluations: Budget of the run in evaluations.
        task: Traits of the task that it adapts on.
    """
    kept = f"a gain of {100 * GAIN:g} points in {10 * OFTEN:g} of 10 runs"
    most = 0
    for name, amount in {"": evaluations, **{n: size for n, size in BUDGETS.items() if size > evaluations}}.items():
        try:
            items = plan_run(method, config, amount, task).gate.items
        except Refused:
            continue
        most = max(most, items)
        if items and keep_probability(GateDesign(items), REGRESSIONS + GAIN, REGRESSIONS) >= OFTEN:
            if name:
                return f"budget {name} ({amount:,} evaluations): its gate keeps {kept}"
            return f"this gate keeps {kept}; five seeds (-s 0 -s 1 -s 2 -s 3 -s 4) show how much seeds differ"
    if not most:
        return None
    gain = detectable_gain(GateDesign(most), REGRESSIONS, OFTEN)
    largest = "no gain" if gain is None else f"a gain of {100 * gain:.1f} points"
    file = config.adapt_data if config.adapt_on else config.data
    larger = f"add rows to {file}" if file else "adapt on a task with more gate items (--adapt-on)"
    return (
        f"no named budget: its gate has at most {most} items and keeps {largest} in {10 * OFTEN:g} of 10 runs; {larger}"
    )


def never_right(rows: Sequence[Row], folder: Path) -> str | None:
    """Return what to do about a base with no right answer, and no reward, in any answer that a record has.

    None if any answer of the base or of an artifact earned anything, on the test or the gate split: there is then
    something to reinforce.

    Args:
        rows: Rows of the record, the base first.
        folder: Run directory.
    """
    tested = [row.accuracy for row in rows]
    gates = [row.gate for row in rows if row.gate is not None]
    if not tested or not tested[0].items or any(found.correct or found.mean_reward for found in tested):
        return None
    if any(gate.fixes or gate.regressions for gate in gates):
        return None
    return (
        f"the base has no right answer to {counted(tested[0].items, 'test item')}, and none has a reward, which gives "
        f"a method nothing to reinforce; look at its answers: bench show {shlex.quote(str(folder))} -n 5"
    )
