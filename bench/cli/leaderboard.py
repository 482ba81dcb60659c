"""`bench leaderboard`: compare finished runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import json_option, left_out, number_from, output_json, say
from bench.cli.paths import Place
from bench.errors import shown

if TYPE_CHECKING:
    from reports.leaderboard.board import Board, Rate

FORMATS = ["terminal", "markdown", "html", "csv", "tsv", "json"]
COLUMNS = [
    *("name", "accuracy", "interval", "difference", "difference_interval", "p", "verdict", "letters", "gated"),
    *("gated_difference", "evaluations", "flops", "share", "matched", "passes", "answer_flops"),
    *("thought_tokens", "seconds", "seeds", "status", "adaptation_price", "answer_price"),
]
SORT_KEYS = ["accuracy", "difference", "name", "flops", "passes", "answer-flops", "seconds"]


class Date(click.DateTime):
    """Day, or day and time."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a text. The error names the forms with an example in place of the patterns of strptime."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r}: expected a day or a day and time, such as 2026-01-31 or 2026-01-31T12:00:00.", param, ctx
            )


@click.command()
@click.argument("runs", nargs=-1, type=Place(exists=True))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Output format. Default: terminal on a terminal; tsv in a pipe or file.",
)
@click.option("--csv", "as_csv_", is_flag=True, help="Print CSV; the same as --format csv.")
@click.option(
    "--columns",
    metavar="NAME,...",
    help=f"Columns to show, such as accuracy,verdict,flops, out of {', '.join(COLUMNS)}. A price needs --rate. "
    "Default: all that apply; a narrow terminal leaves out some, but never accuracy, verdict and costs.",
)
@click.option("--wide", is_flag=True, help="Show all columns in one line for each row, however narrow the terminal is.")
@click.option(
    "--against",
    metavar="ROW",
    help="Compare the rows with this one, such as 'randopt k=1', not with the base. The name is that of the table.",
)
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="accuracy",
    show_default=True,
    help="Sort key of the rows, best or cheapest first. Rows without adaptation always come first.",
)
@click.option("-t", "--task", "tasks", multiple=True, help="Show only this task; repeatable.")
@click.option(
    "--since",
    type=Date(),
    metavar="DATE",
    help="Show only run directories whose last attempt started at this time (UTC) or later: YYYY-MM-DD or "
    "YYYY-MM-DDTHH:MM:SS.",
)
@click.option(
    "--rate",
    metavar="AMOUNT UNIT",
    help="Price of 1e15 model FLOPs, such as '0.002 USD' or '0.7 Wh'. Adds the costs of adaptation and answers.",
)
@click.option(
    "--answers",
    type=number_from(1),
    metavar="N",
    help="Number of deployed answers that the curves of accuracy against compute count beside adaptation. Default: the "
    "number of test items.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=Place(exists=True, dir_okay=False),
    metavar="FILE",
    help="TOML file of `bench run`: say how many of its runs are among RUNS, and which are missing. Repeatable.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Only check that the committed leaderboards in RUNS (default: `reports`) match their records.",
)
@json_option
def leaderboard(
    runs: tuple[Path, ...],
    check: bool,
    form: str | None,
    as_csv_: bool,
    columns: str | None,
    wide: bool,
    against: str | None,
    sort: str,
    tasks: tuple[str, ...],
    since: datetime | None,
    rate: str | None,
    answers: int | None,
    suites: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Compare finished runs: accuracy, gain over the base, costs.

    RUNS are run directories, record files, or folders of these. Default: `runs`. Each table compares only runs of the
    same task, model, budget and test items. The seeds of a method are averaged. The order of rows is no ranking: the
    columns verdict and letters say which rows can be told apart.
    """
    from bench.cli.config_file import planned_runs
    from bench.console import UNFOLDED, PlainConsole
    from bench.errors import UsageError
    from reports.leaderboard.build import make_board
    from reports.leaderboard.grouping import agreeing
    from reports.leaderboard.suites import coverage
    from reports.leaderboard.text import BoardOutput, as_csv, as_tsv, markdown, print_board
    from reports.reading import find_records, gc_disabled, none_finished, read_records

    if check:
        return _check(runs or (Path("reports"),))
    form = _format(form, as_csv=as_csv_, as_json=as_json)
    if form == "json" and columns is not None:
        raise UsageError("--columns: chooses columns of tables, and JSON has all; leave it out, or take --csv")
    price = _rate(rate)
    roots = runs or (Path("runs"),)
    finished, unfinished = find_records(roots)
    if since is not None:
        finished = [path for path in finished if _started(path) >= since.replace(tzinfo=UTC)]
    read, unreadable = read_records(finished)
    kept, contradicting = agreeing(read)
    unreadable += tuple(contradicting.values())
    records = [record for record in kept.values() if not tasks or record.result.config.task_label in tasks]
    with gc_disabled():
        board = make_board(
            records,
            sort=sort,
            rate=price,
            answers=answers,
            against="" if against in (None, "base") else against,
            columns=() if columns is None else [name.strip() for name in columns.split(",")],
        )
    board = replace(board, suites=tuple(coverage(path.stem, planned_runs(path), records) for path in suites))
    if not records and not unreadable:
        filters = "".join([*(f", --task {task}" for task in tasks), f", --since {since:%F %T}" if since else ""])
        if missing := sorted(set(tasks) - (known := {record.result.config.task_label for record in read.values()})):
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"--task {missing[0]}: {', '.join(map(str, roots))}: no run of it; tasks of the runs: {listed}"
            )
        raise none_finished(roots, unfinished, filters)
    _check_row(board)
    if form == "json":
        output_json(BoardOutput(**vars(board), unfinished=tuple(map(str, unfinished)), unreadable=unreadable))
    elif form == "markdown":
        click.echo(markdown(board))
    elif form == "html":
        from reports.html.leaderboard import board_page

        click.echo(board_page(board), nl=False)
    elif form in ("csv", "tsv"):
        click.echo((as_csv if form == "csv" else as_tsv)(board), nl=False)
        for each in board.suites:
            say(each.text, err=True)
    else:
        print_board(PlainConsole(width=UNFOLDED if wide else None), board)
    if unfinished:
        say(f"left out {len(unfinished)} unfinished: {', '.join(map(str, unfinished))}", err=True)
    return left_out(unreadable)


def _format(form: str | None, *, as_csv: bool, as_json: bool) -> str:
    """Return the format of the output; without an option, text for a terminal and TSV for a pipe or file."""
    from bench.errors import UsageError

    given = list(filter(None, [form, as_csv and "csv", as_json and "json"]))
    if len(set(given)) > 1:
        raise UsageError(f"--format {' and '.join(map(str, given))}: different formats; give one")
    return str(given[0]) if given else "terminal" if sys.stdout.isatty() else "tsv"


def _check_row(board: Board) -> None:
    """Raise an error if no table has the row that the others are compared with."""
    from difflib import get_close_matches

    from bench.errors import UsageError

    names = dict.fromkeys(line.name for group in board.groups for line in group.lines)
    if board.against and board.against not in names:
        near = get_close_matches(board.against, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"
        raise UsageError(f"--against {board.against}: no row has this name; {hint}")


def _check(folders: tuple[Path, ...]) -> int:
    """Print each committed leaderboard page that does not match its records. Return 1 if there is one, else 0."""
    from bench.cli.config_file import suites_beside
    from reports.leaderboard.committed import stale

    found = 0
    for folder in folders:
        for page in stale(folder, suites_beside(folder)):
            found = 1
            command = "bench publish" + ("" if folder == Path("reports") else f" --into {folder}")
            say(f"{page}: does not match {folder / 'records'}; rebuild it with: {command}", err=True)
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
        raise UsageError(f"--rate {text!r}: expected a non-negative number and a unit, such as '0.002 USD'")
    return rate


def _started(path: Path) -> datetime:
    """Return the last start time of a run directory. For a record file, which has none, return the minimum datetime."""
    attempts = sorted(path.glob("attempts/*.json")) if path.is_dir() else []
    return max(map(_start_of, attempts), default=datetime.min.replace(tzinfo=UTC))


def _start_of(attempt: Path) -> datetime:
    from bench.errors import BenchError
    from bench.records.migrations import parse

    started: Any = parse(attempt).get("started")
    try:
        return datetime.fromisoformat(started).astimezone(UTC)
    except (TypeError, ValueError) as error:
        raise BenchError(
            f"{attempt}: started is {shown(started)}; expected a time such as 2026-01-31T12:00:00+00:00. Restore the "
            "file, or leave out --since"
        ) from error
