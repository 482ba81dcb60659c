"""`bench plan`: estimate the costs of runs before they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli.config_file import config_option
from bench.cli.options import json_option, output_json, run_options
from bench.cli.outputs import PlanLineOutput, PlanOutput, PlanOutputs

if TYPE_CHECKING:
    from bench.run.grid import GridRun

CHARACTERS_PER_TOKEN = 3.5
"""Average for English and code with common tokenizers. Accurate enough for an estimate before the run measures."""


@click.command(epilog="\b\nExample:\n  bench plan -m corp -m grpo -t gsm8k -b small")
@run_options
@config_option
@json_option
def plan(as_json: bool, **options: Any) -> None:
    """Show how methods would spend their budgets.

    No model is loaded. The evaluations come from the method's plan. The FLOPs are estimated from the model's shape and
    typical lengths; a run measures the real cost of one evaluation before it adapts.
    """
    from bench.run.grid import expand

    plans = [_plan(run) for run in expand(**options)]
    if as_json:
        output_json(PlanOutputs(plans=tuple(plans)))
        return
    for found in plans:
        _print(found)


def _plan(run: GridRun) -> PlanOutput:
    from bench.compute.budget import budget_evaluations
    from bench.models.source import resolve
    from bench.registry import load_method
    from bench.run.data import load_task_data
    from bench.run.prepare import refused_because

    config = run.config
    evaluations = budget_evaluations(config.budget)
    method = load_method(config.method)(run.settings)
    task_data = load_task_data(config)
    splits, examples = task_data.splits, task_data.splits.support
    found = PlanOutput(
        method=config.method,
        task=config.task,
        adapt_on=config.adapt_on,
        subject=config.task_label,
        model=config.model,
        budget=config.budget,
        seed=config.seed,
        evaluations=evaluations,
        splits=splits.sizes,
        evaluation_flops_estimate=_evaluation_flops(resolve(config.model).config(), task_data.adapted_on, examples),
    )
    if refused := refused_because(config, method, task_data.traits, evaluations):
        return found.model_copy(update={"refused": refused})
    planned = method.plan(evaluations, task_data.traits)
    lines = [PlanLineOutput(account=p.account, what=p.what, evaluations=p.evaluations) for p in planned.lines]
    return found.model_copy(update={"lines": tuple(lines), "notes": planned.notes})


def _evaluation_flops(config: dict[str, Any] | None, task: Any, examples: Any) -> float | None:
    if config is None:
        return None
    from bench.compute.flops import ModelShape, generation_flops

    shape = ModelShape.from_config(config)
    texts = ["".join(m["content"] for m in task.messages(example)) for example in examples]
    prompt = max(1, round(sum(map(len, texts)) / len(texts) / CHARACTERS_PER_TOKEN))
    return float(generation_flops(shape, prompt, task.expected_new_tokens))


def _print(plan: PlanOutput) -> None:
    click.secho(f"{plan.method} on {plan.subject}, {plan.model}, budget {plan.budget}, seed {plan.seed}", bold=True)
    if plan.refused:
        click.echo(f"  refused: {plan.refused}")
    flops = plan.evaluation_flops_estimate
    for line in plan.lines:
        cost = f"{line.evaluations * flops:10.2e} FLOPs" if flops else ""
        click.echo(f"  {line.account:<8}{line.evaluations:>10,} evaluations {cost}  {line.what}")
    total = sum(line.evaluations for line in plan.lines)
    if plan.lines:
        click.echo(f"  {'total':<8}{total:>10,} of {plan.evaluations:,} evaluations")
    if flops is None:
        click.echo("  FLOPs: unknown until the model's config.json is on this machine")
    for note in plan.notes:
        click.echo(f"  note: {note}")
    sizes = ", ".join(f"{name} {size}" for name, size in plan.splits.items())
    click.echo(f"  splits: {sizes}; the {plan.splits['test']} test evaluations are not billed to the budget")
