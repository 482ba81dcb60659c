"""`bench publish`: add runs to the committed leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.amounts import counted
from bench.cli.options import json_option, left_out, output_json, say
from bench.cli.outputs import PublishOutput
from bench.cli.paths import Place

if TYPE_CHECKING:
    from reports.record import Record


@click.command()
@click.argument("runs", nargs=-1, type=Place(exists=True))
@click.option(
    "--into",
    "folder",
    type=Place(file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Folder of the committed leaderboard.",
)
@json_option
def publish(runs: tuple[Path, ...], folder: Path, as_json: bool) -> int:
    """Add finished runs to the committed leaderboard.

    This writes one small record file per run, without samples, journal and paths, and rebuilds the leaderboard
    (Markdown and HTML) from all records. RUNS are run directories, record files, or folders of these. Without RUNS,
    only the leaderboard is rebuilt. Each run is compared with the data of its task, its method and its model where
    these are on this machine. A run that cannot be read, differs from these, contradicts a committed record or was made
    with another version of a built-in method is named and left out, and the exit status is then 1.
    """
    from bench.cli.config_file import suites_beside
    from bench.errors import BenchError, UsageError
    from bench.run.items import OtherVersion
    from bench.run.recheck import check_here
    from reports.leaderboard.committed import is_committed, publish
    from reports.reading import find_records, none_finished

    finished, unfinished = find_records(runs)
    if unfinished:
        raise UsageError(f"{unfinished[0]}: this run has not finished; continue it with: bench resume {unfinished[0]}")
    if runs and not finished:
        raise none_finished(runs)
    unchecked: dict[str, str] = {}

    def check(record: Record) -> None:
        try:
            reason = check_here(record.result, record.items, record.clusters)
        except OtherVersion as error:
            if not is_committed(record, folder):
                advice = "publish it with the release of bench that made it, or repeat the run"
                raise OtherVersion(f"{error}, so its ruleset and plan cannot be checked; {advice}") from error
            reason = str(error)
        except BenchError as error:
            raise BenchError(f"{error}. The record was changed or is damaged") from error
        if reason:
            unchecked[record.result.id] = reason

    made = publish(finished, folder, suites_beside(folder), check)
    if as_json:
        written, pages = tuple(map(str, made.records)), tuple(map(str, made.pages))
        output_json(PublishOutput(records=written, pages=pages, unreadable=made.unreadable, unchecked=unchecked))
    else:
        say(f"{counted(len(made.records), 'record')} written; built {', '.join(map(str, made.pages))}")
    for identity, reason in unchecked.items():
        say(f"run {identity[:8]}: {reason}", err=True)
    return left_out(made.unreadable)
