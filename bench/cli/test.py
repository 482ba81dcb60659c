"""`bench test`: answer a task with a model that was made before, without adapting again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.grid import run_grid
from bench.cli.options import RUN, engine_options, json_option, output_option, quiet_option, test_options
from bench.cli.run import engines_of
from bench.cli.track import track_option
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.records.config import RunConfig


@click.command(
    epilog="\b\nExamples:\n  bench test runs/addition/tiny-adder/es/small/seed-0-1a2b3c4d -t modular-addition"
    "\n  bench test runs/gsm8k/smollm2-135m/*/small/seed-* -t math500 -t humaneval -L 100"
    "\n  bench test --artifact ./my-model --declared-flops 1e15 -t gsm8k -M Qwen/Qwen2.5-0.5B-Instruct"
)
@click.argument("runs", nargs=-1, type=RUN)
@click.option(
    "--artifact", metavar="MODEL", help="Test a model that was trained elsewhere, in any form that --model takes."
)
@click.option(
    "--declared-flops",
    metavar="FLOPS",
    help="FLOPs that the training of --artifact took, such as 1e15 or 2pflops; shown as declared, not metered.",
)
@click.option("-M", "--model", help="Base that --artifact was trained from: a model of the same shape.")
@test_options
@output_option
@engine_options
@track_option
@quiet_option
@json_option
def test(
    runs: tuple[Path, ...],
    artifact: str | None,
    declared_flops: str | None,
    model: str | None,
    tasks: tuple[str, ...],
    allow_unsandboxed: bool,
    output: Path,
    quiet: bool,
    as_json: bool,
    engines: int | None,
    ray_address: str | None,
    track: tuple[str, ...],
    **fields: Any,
) -> int:
    """Test finished models on another task, prompt or strategy.

    Nothing is adapted again. RUNS are run directories. Their artifacts, and the base on the same items, answer each
    task. Options that are left out are as in the run, but another task brings its own data, limit and length of
    answers. Each test has a record of its own, with the run's costs of adaptation. Complete tests are not repeated.
    """
    from bench.run.grid import CHECKS, GridRun

    for task in tasks:
        CHECKS["task"](task)
    changes = {name: value for name, value in fields.items() if value is not None}
    if changes.get("data"):
        changes["data"] = str(Path(changes["data"]).absolute())
    if allow_unsandboxed:
        changes["allow_unsandboxed"] = True
    if artifact is None:
        configs = _of_runs(runs, tasks, changes, declared_flops, model)
    else:
        configs = _declared(artifact, runs, tasks, changes, declared_flops, model)
    grid = [GridRun(config) for config in configs]
    where = engines_of(engines, ray_address)
    return run_grid(grid, output, where, as_json=as_json, quiet=quiet, track=track).exit_code


def _of_runs(
    runs: tuple[Path, ...],
    tasks: tuple[str, ...],
    changes: dict[str, Any],
    declared_flops: str | None,
    model: str | None,
) -> list[RunConfig]:
    from bench.run.prepare_test import config_of_run

    if not runs:
        raise UsageError("nothing to test: give run directories, or a model with --artifact")
    for option, value in (("--declared-flops", declared_flops), ("--model", model)):
        if value is not None:
            raise UsageError(f"{option} {value}: belongs to --artifact; a run has its own FLOPs and its own base")
    each_task = [{"task": task} for task in tasks] or [{}]
    return [config_of_run(run, changes | task) for run in runs for task in each_task]


def _declared(
    artifact: str,
    runs: tuple[Path, ...],
    tasks: tuple[str, ...],
    changes: dict[str, Any],
    declared_flops: str | None,
    model: str | None,
) -> list[RunConfig]:
    from bench.compute.budget import parse_flops
    from bench.run.grid import CHECKS
    from bench.run.prepare_test import config_of_model

    if runs:
        raise UsageError(f"--artifact {artifact}: give either it or run directories ({runs[0]})")
    if declared_flops is None:
        raise UsageError(
            f"--artifact {artifact}: its training was not metered, so say what it took with --declared-flops, such as "
            "--declared-flops 1e15"
        )
    if model is None or not tasks:
        raise UsageError(
            f"--artifact {artifact}: also needs {'--task' if model else '--model, the base of its training'}"
        )
    CHECKS["model"](model)
    flops = parse_flops("--declared-flops", declared_flops)
    return [config_of_model(artifact, flops, {**changes, "model": model, "task": task}) for task in tasks]
