"""`bench leaderboard`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option, output_json

if TYPE_CHECKING:
    from reports.leaderboard.board import Rate

FORMATS = ["terminal", "markdown", "html", "csv", "json"]
SORT_KEYS = ["accuracy", "difference", "name", "flops", "passes", "answer-flops", "seconds"]


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True, help="How to print it."
)
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="accuracy",
    show_default=True,
    help="Order of rows in a table, best or cheapest first; rows that adapt nothing stand above.",
)
@click.option("-t", "--task", "tasks", multiple=True, help="Only this task; repeatable.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Only run directories last started at this time (UTC) or later.",
)
@click.option(
    "--rate",
    metavar="AMOUNT UNIT",
    help="What a PFLOP (1e15 model FLOPs) costs you, '0.002 USD' or '0.7 Wh'; adds what adaptation and answers cost.",
)
@click.option("--check", is_flag=True, help="Only say whether committed boards, `reports` or RUNS, are as published.")
@json_option
def leaderboard(
    runs: tuple[Path, ...],
    check: bool,
    form: str,
    sort: str,
    tasks: tuple[str, ...],
    since: datetime | None,
    rate: str | None,
    as_json: bool,
) -> int:
    """Compare finished runs: accuracy with its interval, what adaptation cost, and what one answer costs.

    RUNS are run directories, files of records, or folders of them; `runs` if none is named. Only runs of one task,
    model, budget and item set stand in one table and are ranked; seeds of a method are averaged.
    """
    from rich.console import Console

    from bench.errors import UsageError
    from reports.leaderboard.build import make_board
    from reports.leaderboard.text import as_csv, as_data, markdown, print_board
    from reports.record import find_records, gc_disabled, read_record

    if check:
        return _check(runs or (Path("reports"),))
    price = _rate(rate)
    roots = runs or (Path("runs"),)
    finished, unfinished = find_records(roots)
    if since is not None:
        finished = [path for path in finished if _started(path) >= since.replace(tzinfo=UTC)]
    with gc_disabled():
        read = map(read_record, finished)
        records = [record for record in read if not tasks or record.result.config.subject in tasks]
        board = make_board(records, sort=sort, rate=price)
    if not records:
        asked = "".join([*(f", --task {task}" for task in tasks), f", --since {since:%F %T}" if since else ""])
        raise UsageError(
            f"{', '.join(map(str, roots))}{asked}: no finished run; bench run -t addition -M tiny-adder makes one"
        )
    if as_json or form == "json":
        output_json(as_data(board) | {"unfinished": list(map(str, unfinished))})
    elif form == "markdown":
        click.echo(markdown(board))
    elif form == "html":
        from reports.html.leaderboard import board_page

        click.echo(board_page(board), nl=False)
    elif form == "csv":
        click.echo(as_csv(board), nl=False)
    else:
        # A pipe has no width; what reads it should get every column.
        print_board(Console(width=None if sys.stdout.isatty() else 240), board)
    if unfinished:
        click.echo(f"{len(unfinished)} unfinished, in no table: {', '.join(map(str, unfinished))}", err=True)
    return 0


def _check(folders: tuple[Path, ...]) -> int:
    """Say which committed boards are not what their records give; 1 if any is."""
    from reports.leaderboard.committed import stale

    found = 0
    for folder in folders:
        for page in stale(folder):
            found = 1
            command = "bench publish" + ("" if folder == Path("reports") else f" --into {folder}")
            click.echo(f"{page}: not what {folder / 'records'} gives; build it anew: {command}", err=True)
    return found


def _rate(text: str | None) -> Rate | None:
    from bench.errors import UsageError
    from reports.leaderboard.board import Rate

    if text is None:
        return None
    amount, _, unit = text.strip().partition(" ")
    try:
        rate = Rate(float(amount), unit.strip())
    except ValueError:
        rate = Rate(-1.0, "")
    if not (0 <= rate.amount < float("inf") and rate.unit):
        raise UsageError(f"--rate {text!r}: expected a number that is not negative and a unit, as '0.002 USD'")
    return rate


def _started(path: Path) -> datetime:
    """When a run directory was last started; the file of a record knows no time, and counts as begun before any."""
    import json

    attempts = sorted(path.glob("attempts/*.json")) if path.is_dir() else []
    times = [datetime.fromisoformat(json.loads(attempt.read_text())["started"]) for attempt in attempts]
    return max(times, default=datetime.min.replace(tzinfo=UTC))
