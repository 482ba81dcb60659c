"""`bench run` and `bench resume`: execute runs, or continue interrupted ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.cli.config_file import config_option
from bench.cli.options import RUN, engine_options, json_option, output_json, output_option, run_options
from bench.cli.outputs import RunOutput, RunOutputs


@click.command(
    epilog="\b\nExamples:\n  bench run -t addition -M tiny-adder"
    "\n  bench run -m corp -m grpo -t gsm8k -M Qwen/Qwen2.5-0.5B-Instruct -b small -s 0 -s 1"
    "\n  bench run -C grid.toml"
    "\n\n\b\nExample of grid.toml:"
    '\n  method = ["base", "corp"]\n  task = "gsm8k"\n  seed = [0, 1, 2]'
    '\n  [set.corp]\n  rank = 4\n  [vary.corp]\n  noise = ["iid", "tied"]'
)
@run_options
@output_option
@engine_options
@config_option
@json_option
def run(output: Path, as_json: bool, engines: int | None, ray_address: str | None, **options: Any) -> int:
    """Adapt a model with a method, test it, and record the result.

    Options marked repeatable span a grid: one run for each combination of their values. Complete runs are not run
    again. Source says where the default of an option comes from.
    """
    from bench.run.grid import expand

    grid = expand(**options)
    where = engines_of(engines, ray_address)
    return execute(as_json, lambda displays, done: run_all(grid, output, displays, done, where))


@click.command(epilog="\b\nExample:\n  bench resume runs/gsm8k/smollm2-135m/corp/quick/seed-0-1a2b3c4d")
@click.argument("runs", nargs=-1, required=True, type=RUN)
@engine_options
@json_option
def resume(runs: tuple[Path, ...], as_json: bool, engines: int | None, ray_address: str | None) -> int:
    """Continue interrupted runs.

    RUNS are run directories. A resumed run ends in the same result as an uninterrupted one, with any number of engines.
    A budget of device time keeps the FLOPs that were measured when the run began.
    """
    where = engines_of(engines, ray_address)
    return execute(as_json, lambda displays, done: [_resume(folder, displays(), done, where) for folder in runs])


def engines_of(count: int | None, address: str | None) -> Any:
    """Return the engines that the options name."""
    from bench.engines.placement import Engines

    engines = Engines(count, address)
    engines.require()
    return engines


def run_all(
    grid: list[Any], output: Path, displays: Callable[[], Any], done: Callable[[Any], None], engines: Any
) -> list[Any]:
    """Execute a grid. Return the outcomes."""
    from bench.run.grid import run_grid

    return run_grid(grid, output, displays, done, engines)


def _resume(folder: Path, display: Any, done: Callable[[Any], None], engines: Any) -> Any:
    from bench.run.grid import RunOutcome, resume_run

    outcome: RunOutcome = resume_run(folder, display, engines)
    done(outcome)
    return outcome


def execute(as_json: bool, work: Callable[[Callable[[], Any], Callable[[Any], None]], list[Any]]) -> int:
    """Execute runs and print each outcome. Return the exit status.

    Args:
        as_json: Whether to print JSON.
        work: Executes the runs, given a function that makes a progress display and one to call with each outcome.
    """
    from bench.console import PlainConsole
    from bench.run.progress import ProgressDisplay
    from reports.run.terminal import print_run

    stdout, stderr = PlainConsole(), PlainConsole(stderr=True)

    def done(outcome: Any) -> None:
        if outcome.error is not None:
            stderr.print(
                f"bench: {outcome.error}", style="red", markup=False, highlight=False, emoji=False, soft_wrap=True
            )
        elif not as_json:
            print_run(stdout, outcome.folder, outcome.result)

    outcomes = work(lambda: ProgressDisplay(stderr), done)
    if as_json:
        output_json(RunOutputs(runs=tuple(map(_plain, outcomes))))
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (1, 2, 3) if code in codes), 0)


def _plain(outcome: Any) -> RunOutput:
    return RunOutput(
        folder=str(outcome.folder) if outcome.folder else None,
        cached=outcome.cached,
        error=str(outcome.error) if outcome.error else None,
        result=outcome.result,
    )
