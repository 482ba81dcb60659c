"""`bench compare`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import RUN, json_option, output_json


@click.command()
@click.argument("first", type=RUN)
@click.argument("second", type=RUN)
@click.option(
    "-r", "--row", "rows", multiple=True, help="Which row, such as k=5, where a run has several; twice for one each."
)
@click.option(
    "-n",
    "--samples",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Fixes, and as many regressions, to print with both answers.",
)
@json_option
def compare(first: Path, second: Path, rows: tuple[str, ...], samples: int, as_json: bool) -> None:
    """Compare two finished runs item by item: what SECOND gets right that FIRST does not, and the reverse."""
    from dataclasses import asdict

    from rich.console import Console

    from bench.errors import UsageError
    from reports.comparison.compare import compare_runs
    from reports.comparison.terminal import print_comparison

    if len(rows) > 2:
        raise UsageError(f"--row {' --row '.join(rows)}: at most two, one for each run")
    found = compare_runs((first, second), rows)
    if as_json:
        data = asdict(found)
        for side in ("first", "second"):
            data[side]["cost"] = getattr(found, side).cost.model_dump()
        output_json(data)
    else:
        print_comparison(Console(), found, samples)
