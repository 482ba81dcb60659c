"""`bench push`: publish a model, records or a board on the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.amounts import counted
from bench.cli.options import RUN, json_option, left_out, output_json, say
from bench.cli.outputs import PushOutput
from bench.cli.paths import Place

if TYPE_CHECKING:
    from bench.hub.client import Pushed

F = TypeVar("F", bound=Callable[..., Any])
RUNS = Place(exists=True)


@click.group()
def push() -> None:
    """Publish a model, records or a board on the Hugging Face hub.

    Each push is one commit. Log in with `hf auth login`, or set HF_TOKEN to a token that may write.
    """


def _options(command: F) -> F:
    """Add the options of all pushes."""
    for option in reversed(
        [
            click.option(
                "--to", "name", metavar="OWNER/NAME", required=True, help="Repository; created if there is none."
            ),
            click.option("--private", is_flag=True, help="Make a new repository private."),
            click.option("--revision", metavar="BRANCH", help="Branch to push to; created if there is none."),
            click.option("--replace", is_flag=True, help="Remove what else the repository holds, in the same commit."),
            json_option,
        ]
    ):
        command = option(command)
    return command


@push.command(epilog="\b\nExample:\n  bench push model runs/addition/tiny-adder/es/small/seed-0-1a2b3c4d --to me/adder")
@click.argument("run", type=RUN)
@click.option(
    "--dtype",
    type=click.Choice(["float32"]),
    help="Push the weights as computed, in float32. Default: in the type that the run tested them in.",
)
@_options
def model(
    run: Path, name: str, private: bool, revision: str | None, replace: bool, dtype: str | None, as_json: bool
) -> None:
    """Push the artifact of a finished run as a model.

    The repository holds the files that `bench export` writes, the run's record, and a card that is made from the
    record. A repository that holds another run or other files is refused without --replace.
    """
    from bench.hub.client import Hub, Repository
    from bench.hub.model import check_same_run, write_model

    repository = Repository("model", name, revision)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        result = write_model(run, repository, folder, dtype)
        hub = Hub()
        there = hub.content(repository)
        if not replace:
            check_same_run(there, repository, result)
        message = f"Run {result.id[:8]}: {result.config.method} on {result.config.task_label}"
        removed = "*" if replace else "*.safetensors*"  # a run in another type has other files of weights
        pushed = hub.push(repository, folder, message, there, private=private, removed=removed)
    _report(pushed, (result.id,), as_json)


@push.command(epilog="\b\nExample:\n  bench push records runs --to me/my-records")
@click.argument("runs", nargs=-1, required=True, type=RUNS)
@_options
def records(
    runs: tuple[Path, ...], name: str, private: bool, revision: str | None, replace: bool, as_json: bool
) -> int:
    """Add the records of finished runs to a data set.

    RUNS are run directories, record files, or folders of these. Records that the data set holds stay. They have the
    form of `bench publish`: no answers, journals or paths. A run that cannot be read or contradicts a record is named
    and left out, and the exit status is then 1.
    """
    from bench.hub.client import Hub, Repository
    from bench.hub.records import read_pushed, write_records

    found = _finished(runs)
    repository, hub = Repository("dataset", name, revision), Hub()
    there = hub.content(repository)
    with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as folder:
        held = {} if replace else read_pushed(hub, repository, there, Path(before))
        new, unreadable = write_records(found, held, repository, Path(folder))
        message = f"Add {counted(len(new), 'record')}"
        pushed = hub.push(repository, Path(folder), message, there, private=private, removed="*" if replace else None)
    _report(pushed, tuple(record.result.id for record in new.values()), as_json, unreadable)
    return left_out(unreadable)


@push.command(epilog="\b\nExample:\n  bench push board runs --to me/my-board")
@click.argument("runs", nargs=-1, required=True, type=RUNS)
@_options
def board(runs: tuple[Path, ...], name: str, private: bool, revision: str | None, replace: bool, as_json: bool) -> int:
    """Push the website of `bench report` as a Space.

    RUNS are run directories, record files, or folders of these. The pages are made from the records alone, so they show
    no answers. They replace the pages that the Space shows. A run that cannot be read is named and left out, and the
    exit status is then 1.
    """
    from bench.cli.report import write_report
    from bench.hub.board import check_board, write_card, write_published
    from bench.hub.client import Hub, Repository

    found = _finished(runs)
    repository, hub = Repository("space", name, revision), Hub()
    there = hub.content(repository)
    if not replace:
        check_board(hub, there, repository)
    with tempfile.TemporaryDirectory() as published, tempfile.TemporaryDirectory() as folder:
        unreadable = write_published(found, Path(published))
        site = write_report([Path(published)], Path(folder))
        write_card(name, Path(folder))
        message, removed = f"Board of {counted(len(site.pages), 'run')}", "*" if replace else "runs/*"
        pushed = hub.push(repository, Path(folder), message, there, private=private, removed=removed)
    reasons = (*unreadable, *site.unreadable)
    _report(pushed, tuple(Path(page).stem for page in site.pages), as_json, reasons)
    return left_out(reasons)


def _finished(runs: tuple[Path, ...]) -> list[Path]:
    """Return the finished runs among run directories, record files and folders of these.

    Raises:
        UsageError: If one has not finished, or there is none.
    """
    from bench.errors import UsageError
    from reports.reading import find_records, none_finished

    finished, unfinished = find_records(runs)
    if unfinished:
        raise UsageError(f"{unfinished[0]}: this run has not finished; continue it with: bench resume {unfinished[0]}")
    if not finished:
        raise none_finished(runs)
    return finished


def _report(pushed: Pushed, runs: tuple[str, ...], as_json: bool, unreadable: tuple[str, ...] = ()) -> None:
    if as_json:
        output_json(
            PushOutput(
                url=pushed.url, commit=pushed.commit, unchanged=pushed.unchanged, runs=runs, unreadable=unreadable
            )
        )
    elif pushed.unchanged:
        say(f"{pushed.url}: held the same files already, commit {pushed.commit[:12]}")
    else:
        say(f"{pushed.url}: commit {pushed.commit[:12]} with {counted(len(runs), 'run')}")
