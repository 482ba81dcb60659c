"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

RUN = click.Path(path_type=Path, exists=True, file_okay=False)
"""A run directory."""
GRID_KEYS = {
    "method": "methods",
    "task": "tasks",
    "model": "models",
    "budget": "budgets",
    "seed": "seeds",
    "data": "data",
    "adapt_on": "adapt_on",
    "adapt_data": "adapt_data",
    "limit": "limit",
    "max_new_tokens": "max_new_tokens",
    "prompt": "prompt",
    "engine": "engine",
    "dtype": "dtype",
    "device": "device",
    "batch_size": "batch_size",
    "allow_unsandboxed": "allow_unsandboxed",
    "strategy": "strategy",
    "launch": "launch",
    "launch_config": "launch_config",
    "engines": "engines",
    "ray_address": "ray_address",
    "output": "output",
}
"""Keys of a configuration file, to the parameters of `bench run`."""


def run_options(command: F) -> F:
    """Add the options that describe runs."""
    from bench.compute.budget import BUDGETS
    from bench.models.embedded import DEFAULT_MODEL

    budgets = ", ".join(f"{name} ({size:,})" for name, size in BUDGETS.items())
    options = [
        click.option(
            "-m",
            "--method",
            "methods",
            multiple=True,
            default=["corp"],
            show_default=True,
            help="Method; repeatable. `bench list methods` shows them.",
        ),
        click.option(
            "-t",
            "--task",
            "tasks",
            multiple=True,
            required=True,
            help="Task; repeatable. `bench list tasks` shows them.",
        ),
        click.option(
            "-M",
            "--model",
            "models",
            multiple=True,
            default=[DEFAULT_MODEL],
            show_default=True,
            help="Embedded name, checkpoint folder, GGUF file or hub id; repeatable.",
        ),
        click.option(
            "-b",
            "--budget",
            "budgets",
            multiple=True,
            default=["smoke"],
            show_default=True,
            help=f"Model-prompt evaluations for adaptation: {budgets}, or a number; repeatable.",
        ),
        click.option(
            "-s",
            "--seed",
            "seeds",
            multiple=True,
            type=click.IntRange(min=0),
            default=[0],
            show_default=True,
            help="Seed of the method; repeatable.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="A method's setting, `corp.attempts=0`; repeatable. `bench list methods -v` shows them.",
        ),
        click.option(
            "--vary",
            "variations",
            multiple=True,
            metavar="KEY=V1|V2|...",
            help="A method's setting in several values, `corp.gate=off|both`; each is a cell of the grid; repeatable.",
        ),
        click.option("-L", "--limit", type=click.IntRange(min=1), help="Read only so many test examples."),
        click.option(
            "--max-new-tokens", type=click.IntRange(min=1), help="Answers end here, and not where the task says."
        ),
        click.option("--data", type=click.Path(exists=True, dir_okay=False), help="File with the task's rows."),
        click.option(
            "--adapt-on",
            metavar="TASK",
            help="Task to adapt on, in place of --task, which is then only tested on, as a whole.",
        ),
        click.option(
            "--adapt-data", type=click.Path(exists=True, dir_okay=False), help="File with the rows of --adapt-on."
        ),
        click.option(
            "--prompt",
            type=click.Choice(["auto", "chat", "completion"]),
            default="auto",
            show_default=True,
            help="Prompt style; auto follows the tokenizer.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["transformers", "vllm"]),
            default="transformers",
            show_default=True,
            help="What generates; vllm needs an environment of its own.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            show_default=True,
            help="Precision of the weights; auto keeps the checkpoint's.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto takes a GPU if there is one."),
        click.option("--batch-size", type=click.IntRange(min=1), help="Prompts decoded together."),
        click.option(
            "--strategy",
            default="greedy",
            show_default=True,
            metavar="greedy|maj@K|bon@K|pass@K",
            help="How test answers come about: of K samples the commonest, or the one of the best signal; or greedily, "
            "and beside it the chance that one of K samples is right.",
        ),
        click.option(
            "--launch",
            type=click.Choice(["accelerate"]),
            help="Train in several processes, which `accelerate launch` starts; for grpo, ppo and cat.",
        ),
        click.option(
            "--launch-config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="What `accelerate config` wrote, num_processes above all; by default where it writes by default.",
        ),
        click.option(
            "--allow-unsandboxed",
            is_flag=True,
            help="Judge model-written code although the sandbox is weaker than required.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def engine_options(command: F) -> F:
    """Add the options that say where answers are computed, on which no outcome depends."""
    command = click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster for the engines, `HOST:6379` or `auto`, in place of a new one here.",
    )(command)
    return click.option(
        "--engines",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Engines that score candidates at the same time, each on its part of the cores or a GPU of its own.",
    )(command)


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        from bench.run.grid import load_grid_file

        ctx.default_map = {**(ctx.default_map or {}), **load_grid_file(path, GRID_KEYS)}


config_option = click.option(
    "-C",
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file of these options; the command line wins over it.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print data instead of tables.")


def output_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))
