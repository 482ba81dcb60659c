"""`bench run` and `bench resume`: execute runs, or continue interrupted ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.cells_on import cells_options, read_cells_on
from bench.cli.config_file import config_option
from bench.cli.grid import run_grid
from bench.cli.options import RUN, engine_options, json_option, output_option, quiet_option, run_options
from bench.cli.track import track_option


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
@track_option
@cells_options
@config_option
@quiet_option
@json_option
def run(
    output: Path,
    quiet: bool,
    as_json: bool,
    engines: int | None,
    ray_address: str | None,
    track: tuple[str, ...],
    cells_on: str | None,
    at_once: int | None,
    time_limit: int | None,
    slurm: tuple[str, ...],
    **options: Any,
) -> int:
    """Adapt a model with a method, test it, and record the result.

    Options marked repeatable span a grid: one run for each combination of their values. Complete runs are not run
    again. A grid ends with the leaderboard of its runs. Source says where the default of an option comes from.
    """
    from bench.run.grid import expand

    grid = expand(**options)
    device, launch = options["device"], options["launch"]
    cells = read_cells_on(cells_on, at_once, time_limit, slurm, engines, ray_address, device, launch)
    where = engines_of(engines, ray_address) if cells is None else cells.engines
    return run_grid(grid, output, where, cells, as_json=as_json, quiet=quiet, track=track).exit_code


@click.command(epilog="\b\nExample:\n  bench resume runs/gsm8k/smollm2-135m/corp/quick/seed-0-1a2b3c4d")
@click.argument("runs", nargs=-1, required=True, type=RUN)
@engine_options
@track_option
@quiet_option
@json_option
def resume(
    runs: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
    engines: int | None,
    ray_address: str | None,
    track: tuple[str, ...],
) -> int:
    """Continue interrupted runs.

    RUNS are run directories. A resumed run ends in the same result as an uninterrupted one, with any number of engines.
    A budget of device time keeps the FLOPs that were measured when the run began.
    """
    from bench.run.grid import resumed

    where = engines_of(engines, ray_address)
    grid = [resumed(folder) for folder in runs]
    return run_grid(grid, Path(), where, as_json=as_json, quiet=quiet, track=track).exit_code


def engines_of(count: int | None, address: str | None) -> Any:
    """Return the engines that the options name."""
    from bench.engines.placement import Engines

    engines = Engines(count, address)
    engines.require()
    return engines
