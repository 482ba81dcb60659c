"""`bench plan`: estimate the costs of runs before they run."""

from __future__ import annotations

from typing import Any

import click

from bench.cli.options import config_option, json_option, output_json, run_options

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

    options.pop("output", None)
    rows = [_plan(config) for config in expand(**options)]
    if as_json:
        output_json({"plans": rows})
        return
    for row in rows:
        _print(row)


def _plan(config: Any) -> dict[str, Any]:
    from bench.compute.budget import budget_evaluations
    from bench.errors import Refused
    from bench.models.source import resolve
    from bench.registry import load_method
    from bench.run.data import load_task_data

    evaluations = budget_evaluations(config.budget)
    method_class = load_method(config.method)
    method = method_class(method_class.Config.model_validate(config.method_config))
    task_data = load_task_data(config)
    splits, examples = task_data.splits, task_data.splits.support
    row: dict[str, Any] = {
        "method": config.method,
        "task": config.task,
        "adapt_on": config.adapt_on,
        "subject": config.task_label,
        "model": config.model,
        "budget": config.budget,
        "seed": config.seed,
        "evaluations": evaluations,
        "splits": splits.sizes,
        "evaluation_flops_estimate": _evaluation_flops(resolve(config.model).config(), task_data.adapted_on, examples),
    }
    try:
        method.spread(config.processes)
        if reason := method.supports(task_data.traits):
            raise Refused(reason)
        planned = method.plan(evaluations, task_data.traits)
    except Refused as error:
        return row | {"refused": str(error), "lines": [], "notes": []}
    lines = [{"account": p.account, "what": p.what, "evaluations": p.evaluations} for p in planned.lines]
    return row | {"refused": None, "lines": lines, "notes": list(planned.notes)}


def _evaluation_flops(config: dict[str, Any] | None, task: Any, examples: Any) -> float | None:
    if config is None:
        return None
    from bench.compute.flops import ModelShape, generation_flops

    shape = ModelShape.from_config(config)
    texts = ["".join(m["content"] for m in task.messages(example)) for example in examples]
    prompt = max(1, round(sum(map(len, texts)) / len(texts) / CHARACTERS_PER_TOKEN))
    return float(generation_flops(shape, prompt, task.expected_new_tokens))


def _print(row: dict[str, Any]) -> None:
    click.secho(
        f"{row['method']} on {row['subject']}, {row['model']}, budget {row['budget']}, seed {row['seed']}", bold=True
    )
    if row["refused"]:
        click.echo(f"  refused: {row['refused']}")
    flops = row["evaluation_flops_estimate"]
    for line in row["lines"]:
        cost = f"{line['evaluations'] * flops:10.2e} FLOPs" if flops else ""
        click.echo(f"  {line['account']:<8}{line['evaluations']:>10,} evaluations {cost}  {line['what']}")
    total = sum(line["evaluations"] for line in row["lines"])
    if row["lines"]:
        click.echo(f"  {'total':<8}{total:>10,} of {row['evaluations']:,} evaluations")
    if flops is None:
        click.echo("  FLOPs: unknown until the model's config.json is on this machine")
    for note in row["notes"]:
        click.echo(f"  note: {note}")
    sizes = ", ".join(f"{name} {size}" for name, size in row["splits"].items())
    click.echo(f"  splits: {sizes}; the {row['splits']['test']} test evaluations are not billed to the budget")
