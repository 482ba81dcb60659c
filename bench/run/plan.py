"""Plan of a run: a part of the budget is reserved for the gate, another pays for trials, and the method plans the rest.

The gate decides whether the result of a method is kept, by its answers to held-out items, the same for every method.
`bench.run.gate` runs it; `bench.stats.gate` is its test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bench.amounts import counted
from bench.compute.ledger import BilledAccount
from bench.errors import Refused
from bench.records.config import RunConfig
from bench.run.tuning import Rung, describe, plan_tuning, untunable
from bench.stats.gate import GateDesign, detectable_gain
from bench.strategy import run_strategy
from methods.interface import Method, Plan, PlanLine
from tasks.interface import TaskTraits

GATE_SHARE = 0.25
"""Maximum share of the budget that is reserved for the gate."""
SLACK = 1.25
"""Evaluations reserved for one of a result, because its answers may be longer than the base's."""
FEWEST_ITEMS = 5
"""With 4 items no result can be kept: 4 fixes and no regression happen with p = 1/16 > 5 % by chance."""
REGRESSIONS, POWER = 0.05, 0.8
"""Share of regressions and power for which a plan states the detectable gain."""


@dataclass(frozen=True)
class GatePlan:
    """Size of a run's gate.

    Attributes:
        items: Maximum number of items that base and result answer; 0 without a gate.
        evaluations: Evaluations reserved for it. They stay unspent if they are too few for a gate, so that all methods
            adapt with the same budget.
        ungated: Reason why there is no gate; None if there is one.
        results: Number of artifacts that answer the items.
    """

    items: int
    evaluations: int
    ungated: str | None = None
    results: int = 1

    @property
    def what(self) -> str:
        """Description for the plan, such as `base and result on at most 56 items; detects a gain of +21.2 ...`."""
        if not self.items:
            return "reserved as for every method, and unspent: too few evaluations for a gate"
        gain = detectable_gain(GateDesign(self.items), REGRESSIONS, POWER)
        detects = "detects no gain" if gain is None else f"detects a gain of {100 * gain:+.1f} points"
        several = self.results > 1
        answering = f"each of {self.results} results" if several else "result"
        shared = "; all are paid from the same reserve, so fewer results leave more items to each" if several else ""
        return (
            f"base and {answering} on at most {counted(self.items, 'item')}; {detects} in {POWER:.0%} of runs if "
            f"{REGRESSIONS:.0%} of the items regress{shared}"
        )


@dataclass(frozen=True)
class RunPlan:
    """Plan of a run.

    Attributes:
        method: The method's plan of the final run.
        evaluations: Budget of trials and final run, in evaluations.
        gate: The gate, which gets the rest.
        rungs: Trials that choose the method's settings; empty without tuning.
    """

    method: Plan
    evaluations: int
    gate: GatePlan
    rungs: tuple[Rung, ...] = ()

    @property
    def lines(self) -> tuple[PlanLine, ...]:
        """Trials and phases of the method, in order."""
        return (*describe(self.rungs), *self.method.lines)

    @property
    def planned(self) -> dict[BilledAccount, int]:
        """Planned evaluations by account."""
        found: dict[BilledAccount, int] = {}
        for line in self.lines:
            found[line.account] = found.get(line.account, 0) + line.evaluations
        return found | ({"gate": self.gate.evaluations} if self.gate.evaluations else {})

    @property
    def notes(self) -> tuple[str, ...]:
        """The method's notes, and why there is no gate."""
        return (*self.method.notes, *([f"no gate: {self.gate.ungated}"] if self.gate.ungated else []))


def plan_run(method: Method, config: RunConfig, evaluations: int, task: TaskTraits) -> RunPlan:
    """Return the plan of a run.

    Args:
        method: Configured method.
        config: Configuration of the run.
        evaluations: Budget of the run in evaluations.
        task: Traits of the task.

    Raises:
        Refused: If the method refuses its part of the budget, or the budget cannot pay for the trials.
    """
    if config.tune and (reason := untunable(method, task)):
        raise Refused(f"--tune {config.tune}: {reason}")
    share = int(GATE_SHARE * evaluations)
    try:
        rungs, whole = _plan(method, config, evaluations, 0, task)
    except Refused:
        if config.tune and config.gate == "harness" and task.sizes.get("gate"):
            _plan(method, config, evaluations, share, task)  # its reason says what would do beside a gate
        raise
    gate = _plan_gate(whole, config, share, task)
    if not gate.evaluations:
        return RunPlan(whole, evaluations, gate, rungs)
    reserved = gate.evaluations
    fewer, plan = _plan(method, config, evaluations, reserved, task)
    gate = _plan_gate(plan, config, reserved, task)  # an answer may take other numbers of passes now
    return RunPlan(plan, evaluations - reserved, replace(gate, evaluations=reserved), fewer)


def _plan(
    method: Method, config: RunConfig, evaluations: int, reserved: int, task: TaskTraits
) -> tuple[tuple[Rung, ...], Plan]:
    """Return the trials, and the method's plan for what gate and trials leave."""
    left = evaluations - reserved
    share = GATE_SHARE if reserved else 0.0
    try:
        rungs = plan_tuning(method, left, task, config.tune, lambda part: math.ceil(part / (1 - share)))
        return rungs, method.plan(left - sum(rung.trials * rung.evaluations for rung in rungs), task)
    except Refused as error:
        if not reserved:
            raise
        raise Refused(
            f"{error} (of the budget of {evaluations} evaluations, {reserved} are reserved for the gate; --gate off "
            "leaves them to the method)"
        ) from error


def _plan_gate(plan: Plan, config: RunConfig, reserved: int, task: TaskTraits) -> GatePlan:
    """Return the gate that some evaluations pay for: each item is answered by the base and by each artifact.

    Nothing is reserved if no method could be gated on this task, or this one has nothing to gate.
    """
    if config.gate == "off":
        return GatePlan(0, 0, "--gate off")
    if not task.sizes.get("gate"):
        return GatePlan(0, 0, "the task has no gate split")
    if task.sizes["gate"] < FEWEST_ITEMS:
        return GatePlan(0, 0, f"the gate split has {counted(task.sizes['gate'], 'item')}; a gate needs {FEWEST_ITEMS}")
    if not plan.passes:
        return GatePlan(0, 0, f"{config.method} leaves the base unchanged")
    strategy = run_strategy(config.strategy)
    samples = strategy.k if strategy and strategy.kind != "pass" else 1
    # A strategy deploys the artifacts that are one model. A method that has none is refused when it returns.
    passes = [each for each in plan.passes if each <= 1] or plan.passes if strategy else plan.passes
    item = samples * (1 + SLACK * sum(passes))
    items = min(task.sizes["gate"], int(reserved / item))
    if items < FEWEST_ITEMS:
        needs = f"{FEWEST_ITEMS}, which take {math.ceil(FEWEST_ITEMS * item)} evaluations"
        reason = f"too few items to keep any result: it needs {needs}; {reserved} are reserved, and stay unspent"
        return GatePlan(0, reserved, reason)
    return GatePlan(items, math.ceil(items * item), results=len(passes))
