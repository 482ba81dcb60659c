"""Options shared by several commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

RUN = click.Path(path_type=Path, exists=True, file_okay=False)
"""Path to a run directory."""
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
"""Keys of a configuration file, mapped to parameters of `bench run`."""


def run_options(command: F) -> F:
    """Add the options that define runs."""
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
            help="Method, see `bench list methods`; repeatable.",
        ),
        click.option(
            "-t",
            "--task",
            "tasks",
            multiple=True,
            required=True,
            help="Task, see `bench list tasks`; repeatable.",
        ),
        click.option(
            "-M",
            "--model",
            "models",
            multiple=True,
            default=[DEFAULT_MODEL],
            show_default=True,
            help="Model: a name from `bench list models`, a checkpoint folder, a GGUF file or a hub id; repeatable.",
        ),
        click.option(
            "-b",
            "--budget",
            "budgets",
            multiple=True,
            default=["smoke"],
            show_default=True,
            help=f"Adaptation budget in model-prompt evaluations: {budgets}, or a number; repeatable.",
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
            help="Setting of a method, such as `corp.attempts=0`, see `bench list methods -v`; repeatable.",
        ),
        click.option(
            "--vary",
            "variations",
            multiple=True,
            metavar="KEY=V1|V2|...",
            help="Setting with several values, such as `corp.gate=off|both`. Each value is a separate run; repeatable.",
        ),
        click.option("-L", "--limit", type=click.IntRange(min=1), help="Use only the first N test examples."),
        click.option(
            "--max-new-tokens", type=click.IntRange(min=1), help="Maximum tokens per answer. Default: the task's limit."
        ),
        click.option(
            "--data",
            type=click.Path(exists=True, dir_okay=False),
            help="File with the task's rows. Default: the task's own source.",
        ),
        click.option(
            "--adapt-on",
            metavar="TASK",
            help="Adapt on this task instead of --task. All examples of --task are then test examples.",
        ),
        click.option(
            "--adapt-data",
            type=click.Path(exists=True, dir_okay=False),
            help="File with the rows of --adapt-on. Default: that task's own source.",
        ),
        click.option(
            "--prompt",
            type=click.Choice(["auto", "chat", "completion"]),
            default="auto",
            show_default=True,
            help="Prompt style. auto: chat if the tokenizer has a chat template, else completion.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["transformers", "vllm"]),
            default="transformers",
            show_default=True,
            help="Inference backend. vllm must be installed in a separate environment.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            show_default=True,
            help="Precision of the weights. auto: the checkpoint's, or float32 where the hardware only emulates it.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="Torch device, such as cpu or cuda:1. auto: a GPU if there is one.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            help="Number of prompts to decode together. Default: chosen by the engine.",
        ),
        click.option(
            "--strategy",
            default="greedy",
            show_default=True,
            metavar="greedy|maj@K|bon@K|pass@K",
            help="Test-time strategy: greedy decoding; majority vote over K samples (maj); best of K samples by the "
            "task's signal (bon); greedy plus the probability that one of K samples is right (pass).",
        ),
        click.option(
            "--launch",
            type=click.Choice(["accelerate"]),
            help="Train in several processes with `accelerate launch` (grpo, ppo and cat).",
        ),
        click.option(
            "--launch-config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Accelerate config file, as written by `accelerate config`. Default: accelerate's own path.",
        ),
        click.option(
            "--allow-unsandboxed",
            is_flag=True,
            help="Run model-written code even if the sandbox is weaker than required.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


class _EngineCount(click.IntRange):
    """Number of engines; None for `auto`."""

    name = "count"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


def engine_options(command: F) -> F:
    """Add the options for the number and location of engines. They do not change results."""
    command = click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Existing Ray cluster for the engines: `HOST:6379` or `auto`. Default: start one on this machine.",
    )(command)
    return click.option(
        "--engines",
        type=_EngineCount(),
        default="auto",
        show_default=True,
        help="Number of engines that evaluate in parallel. Each gets its own GPU, or its share of the CPU cores. auto: "
        "one per core as memory allows; one for a GPU, vLLM or a tiny model. Results are the same.",
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
    help="TOML file with these options. Options on the command line override it.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def output_json(value: Any) -> None:
    """Print a value as one JSON document on stdout."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))
