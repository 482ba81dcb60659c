"""`bench compare`: compare two runs item by item."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import RUN, json_option, number_from, output_json


@click.command()
@click.argument("first", type=RUN)
@click.argument("second", type=RUN)
@click.option(
    "-r",
    "--row",
    "rows",
    multiple=True,
    help="Row to compare, such as k=5, if a run has several. Give it twice to choose one row for each run.",
)
@click.option(
    "-n",
    "--samples",
    type=number_from(0),
    default=3,
    show_default=True,
    help="Number of fixes, and of regressions, to print with both answers.",
)
@json_option
def compare(first: Path, second: Path, rows: tuple[str, ...], samples: int, as_json: bool) -> None:
    """Compare two finished runs item by item.

    A fix is a test item that FIRST gets wrong and SECOND gets right. A regression is the reverse.
    """
    from bench.console import PlainConsole
    from bench.errors import UsageError
    from reports.comparison.compare import compare_runs
    from reports.comparison.terminal import print_comparison

    if len(rows) > 2:
        raise UsageError(f"--row {' --row '.join(rows)}: at most two, one for each run")
    found = compare_runs((first, second), rows)
    if as_json:
        output_json(found)
    else:
        print_comparison(PlainConsole(), found, samples)
