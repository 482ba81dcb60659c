"""`bench plan`: estimate the costs of runs before they run."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import click

from bench.cli.config_file import config_option
from bench.cli.options import json_option, output_json, run_options, say
from bench.cli.outputs import PlanLineOutput, PlanOutput, PlanOutputs

if TYPE_CHECKING:
    from bench.compute.budget import Budget
    from bench.records.config import RunConfig
    from bench.run.grid import GridRun
    from methods.interface import Plan


@click.command(epilog="\b\nExample:\n  bench plan -m corp -m grpo -t gsm8k -b small")
@run_options
@config_option
@json_option
def plan(as_json: bool, **options: Any) -> None:
    """Show how methods would spend their budgets.

    No weights are loaded. The evaluations come from the method's plan. The FLOPs come from the model's shape, the
    prompts in its own tokens, and the length of an answer. Where that length is not known, the plan says what it
    assumes; a run measures the cost of one evaluation before it adapts.
    """
    from bench.run.grid import expand

    plans = [_plan(run) for run in expand(**options)]
    if as_json:
        output_json(PlanOutputs(plans=tuple(plans)))
        return
    for found in plans:
        _print(found)


def _plan(run: GridRun) -> PlanOutput:
    from bench.compute.budget import parse_budget
    from bench.registry import load_method
    from bench.run.data import load_task_data
    from bench.run.estimate import estimate
    from bench.run.plan import plan_run
    from bench.run.prepare import further_models, missing_libraries, refused_because

    config = run.config
    budget = parse_budget(config.budget)
    method = load_method(config.method)(run.settings)
    further_models(method)  # a name that can be none is an error here, as it is in a run
    task_data = load_task_data(config)
    estimated = estimate(config, task_data)
    cost = estimated.flops
    evaluations, unknown = _evaluations(budget, cost)
    found = PlanOutput(
        method=config.method,
        settings=run.settings.model_dump(mode="json", exclude_defaults=True),
        task=config.task,
        adapt_on=config.adapt_on,
        subject=config.task_label,
        model=config.model,
        budget=config.budget,
        seed=config.seed,
        evaluations=evaluations,
        splits=task_data.splits.sizes,
        evaluation_flops_estimate=cost,
        prompt_tokens=estimated.prompt_tokens,
        new_tokens=estimated.new_tokens,
        exact=estimated.tokenized and estimated.known,
        notes=unknown,
    )
    refused = (
        refused_because(config, method, task_data.traits, budget)
        or estimated.refused
        or estimated.too_long
        or _unmovable(run)
        or _too_small(budget, cost)
        or missing_libraries(method)
    )
    if refused:
        return found.model_copy(update={"refused": refused})
    if evaluations is None:
        return found
    planned = plan_run(method, config, evaluations, task_data.traits)
    lines = [PlanLineOutput(account=p.account, what=p.what, evaluations=p.evaluations) for p in planned.lines]
    if planned.gate.evaluations:
        lines.append(
            PlanLineOutput(account="gate", what=planned.gate.what, evaluations=planned.gate.evaluations, at_most=True)
        )
    notes = (*unknown, *estimated.notes, *task_data.notes, *planned.notes, *_rounding(config, planned.method))
    return found.model_copy(update={"lines": tuple(lines), "notes": notes})


def _unmovable(run: GridRun) -> str | None:
    """Return why the method's noise moves nothing of the model; None if it does, or the model is not here."""
    from bench.errors import Refused
    from bench.models.endpoint import source_of
    from bench.run.prepare import check_moves

    if (folder := source_of(run.config).local()) is None:
        return None
    try:
        check_moves(run.settings, folder)
    except Refused as error:
        return str(error)
    except ImportError:  # the model's library is not on this machine
        pass
    return None


def _too_small(budget: Budget, cost: float | None) -> str | None:
    """Return why a budget in FLOPs pays for nothing; None if it does, or that is not known."""
    if budget.unit != "flops" or cost is None or budget.amount >= cost:
        return None
    return (
        f"--budget {budget.text}: one evaluation of the base on this task costs an estimated {cost:.3g} FLOPs; give a "
        "larger budget"
    )


def _evaluations(budget: Budget, cost: float | None) -> tuple[int | None, tuple[str, ...]]:
    """Return a budget in evaluations, and what a plan cannot know of it.

    Args:
        budget: Budget of the run.
        cost: Estimated FLOPs of one evaluation; None if unknown.
    """
    if budget.unit == "evaluations":
        return budget.amount, ()
    if budget.unit == "seconds":
        return None, (
            f"{budget.text} of device time: a run measures how many FLOPs that is before it adapts; a plan "
            "without a model cannot know it",
        )
    if cost is None:
        return None, (f"{budget.text}: the evaluations that it pays for depend on the model, which is not known here",)
    evaluations = int(budget.amount / cost)
    return evaluations, (
        f"{budget.text} pay for about {evaluations:,} evaluations at an estimated {cost:.3g} FLOPs each; a run "
        "measures this cost, and plans with it",
    )


def _rounding(config: RunConfig, planned: Plan) -> list[str]:
    """Return a warning if the run's dtype would round the planned training away.

    Empty if that cannot be told: the model, or the libraries that choose the dtype, are not on this machine.
    """
    from bench.errors import UsageError
    from bench.models.endpoint import source_of
    from bench.records.rows import FAITHFUL
    from bench.run.prepare import resolved_device, resolved_dtype
    from bench.weights.rounding import kept

    if planned.reach is None or (folder := source_of(config).local()) is None:
        return []
    dtype: str = config.dtype
    if dtype == "auto":
        if importlib.util.find_spec("torch") is None:
            return []
        try:
            dtype = resolved_dtype(dtype, resolved_device(config.device), folder)
        except UsageError:  # a plan for another machine
            return []
    found = kept(folder, planned.reach, dtype)
    if found is None or found.cosine >= FAITHFUL:
        return []
    return [
        f"{dtype} rounds most of this training away: the planned steps move a weight by at most about "
        f"{planned.reach:.1g}, which changes {found.changed:.0%} of the weights (a cosine of {found.cosine:.2f} with "
        "the move as trained); take --dtype float32 for all methods, more steps or a higher learning rate"
    ]


def _print(plan: PlanOutput) -> None:
    from reports.leaderboard.naming import short

    settings = ", ".join(f"{name}={short(value)}" for name, value in plan.settings.items())
    method = f"{plan.method} ({settings})" if settings else plan.method
    say(f"{method} on {plan.subject}, {plan.model}, budget {plan.budget}, seed {plan.seed}", bold=True, hang=2)
    if plan.refused:
        say(f"  refused: {plan.refused}", hang=4)
    flops = plan.evaluation_flops_estimate
    for line in plan.lines:
        cost = f"{line.evaluations * flops:10.2e} FLOPs" if flops else ""
        limit = "up to" if line.at_most else ""
        say(f"  {line.account:<8}{limit:>5}{line.evaluations:>10,} evaluations {cost}  {line.what}", hang=10)
    total = sum(line.evaluations for line in plan.lines)
    limit = "up to" if any(line.at_most for line in plan.lines) else ""
    if plan.lines:
        assert plan.evaluations is not None
        say(f"  {'total':<8}{limit:>5}{total:>10,} of {plan.evaluations:,} evaluations")
    for note in plan.notes:
        say(f"  note: {note}", hang=4)
    sizes = ", ".join(f"{name} {size}" for name, size in plan.splits.items())
    say(f"  splits: {sizes}; the {plan.splits['test']} test evaluations are not billed to the budget", hang=4)
