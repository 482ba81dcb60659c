"""`bench leaderboard`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import json_option, output_json


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown"]),
    default="terminal",
    show_default=True,
    help="How to print it.",
)
@json_option
def leaderboard(runs: tuple[Path, ...], form: str, as_json: bool) -> None:
    """Compare finished runs: accuracy with its interval, what adaptation cost, and what one answer costs.

    RUNS are run directories or folders of them; `runs` if none is named. Only runs of one task, model, budget and item
    set stand in one table; seeds of a method are averaged.
    """
    from dataclasses import asdict

    from rich.console import Console

    from bench.errors import UsageError
    from bench.records.schema import find_runs
    from reports.board import read_run, tabulate
    from reports.tables import markdown, print_board

    roots = runs or (Path("runs"),)
    folders = [folder for root in roots for folder in find_runs(root)]
    finished = [folder for folder in folders if (folder / "result.json").exists()]
    if not finished:
        raise UsageError(
            f"{', '.join(map(str, roots))}: no finished run; bench run -t addition -M tiny-adder makes one"
        )
    groups = tabulate([read_run(folder) for folder in finished])
    if as_json:
        output_json({"groups": [asdict(group) for group in groups], "unfinished": len(folders) - len(finished)})
    elif form == "markdown":
        click.echo(markdown(groups))
    else:
        # A pipe has no width; what reads it should get every column.
        print_board(Console(width=None if sys.stdout.isatty() else 200), groups)
