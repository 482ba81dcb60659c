"""`bench demo`: a grid of several methods in a minute, its board, and how to read it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.grid import GridOutcome, run_grid
from bench.cli.options import json_option, quiet_option, say
from bench.cli.report import write_report

if TYPE_CHECKING:
    from bench.run.grid import GridRun

METHODS = ("base", "corp", "randopt", "es")
TRAINED = "grpo"
"""Method that joins where the extra `train` is installed."""
BUDGET = "medium"
"""Largest named budget at which the runs end in about a minute; the next one takes 15 times as long. Generating answers
takes 84 % of the time, and loading the model of each run 0.4 %.

All of the minute goes to one seed. The board has an interval over seeds from five seeds on, which would leave a sixth
of this budget to each run. That is too little: with 12,000 evaluations corp gained 3.1 points over five seeds, and its
interval was -0.1 to +6.3.
"""
MEMBERS = [1, 5]
"""Sizes of randopt's ensembles. The default has one of 50 members, whose test would take as long as all adaptation."""


@click.command(epilog="\b\nExample:\n  bench demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Folder for run directories and the page.",
)
@quiet_option
@json_option
def demo(output: Path, quiet: bool, as_json: bool) -> int:
    """Compare three methods with the base, and explain the result.

    The model tiny-adder, which is part of the package, learns sums by corp, randopt and es, which takes about a minute.
    Where the extra `train` is installed, grpo joins them and takes half a minute more. All methods have the same budget
    of FLOPs. This needs the extra `local`, and no network. Runs that are complete are not run again.
    """
    from bench.compute.budget import parse_budget
    from bench.run.prepare import require_libraries

    require_libraries("transformers")
    training = find_spec("trl") is not None
    runs = grid([*METHODS, *([TRAINED] if training else [])])
    takes = "about a minute on two idle cores" + (f", and half a minute more for {TRAINED}" if training else "")
    if not quiet:
        say(
            f"{len(runs)} runs with the budget {BUDGET}, {parse_budget(BUDGET).amount:,} evaluations: {takes}", err=True
        )
    if not quiet and not training:
        say(f"without {TRAINED}: it needs pip install -c requirements/cpu.txt -e '.[train]'", err=True)
    outcome = run_grid(runs, output, as_json=as_json, quiet=quiet)
    if outcome.folders:
        _explain(outcome, output / "report", quiet=quiet)
    return outcome.exit_code


def grid(methods: list[str]) -> list[GridRun]:
    """Return the runs of the demo, one for each method. The processor computes them on every machine."""
    from bench.run.grid import expand
    from bench.run.settings import Assignment

    return expand(
        methods=methods,
        tasks=["addition"],
        models=["tiny-adder"],
        budgets=[BUDGET],
        seeds=[0],
        settings=[Assignment(("randopt", "top_k"), (MEMBERS,), "bench demo")],
        device="cpu",
    )


def _explain(outcome: GridOutcome, site: Path, *, quiet: bool) -> None:
    """Say on stderr how to read the board of finished runs, and write its page. Only data goes to stdout.

    Args:
        outcome: Outcome of the grid.
        site: Folder of the page.
        quiet: Whether to say only where the page is.
    """
    from reports.leaderboard.build import make_board
    from reports.leaderboard.reading import how_to_read
    from reports.reading import read_records

    records, _ = read_records(outcome.folders)
    for group in () if quiet else make_board(list(records.values())).groups:
        for sentence in how_to_read(group):
            say(sentence, err=True)
    say(f"page to open: {write_report(outcome.folders, site).index}", err=True)
