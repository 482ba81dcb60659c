"""`bench pull`: fetch a model or records that were pushed to the hub, and check them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bench.amounts import counted
from bench.cli.options import json_option, output_json, say
from bench.cli.outputs import PullOutput
from bench.cli.paths import Place, check_new

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def pull() -> None:
    """Fetch a model or records that `bench push` published.

    What is private needs `hf auth login` or HF_TOKEN. A download that was interrupted goes on when it is repeated.
    """


def _options(command: F) -> F:
    """Add the options of all pulls."""
    for option in (
        json_option,
        click.option("--revision", metavar="REVISION", help="Branch, tag or commit. Default: the main branch."),
        click.option("-o", "--output", type=Place(), help="Folder to create. Default: NAME."),
        click.argument("name", metavar="OWNER/NAME"),
    ):
        command = option(command)
    return command


@pull.command()
@_options
def model(name: str, output: Path | None, revision: str | None, as_json: bool) -> None:
    """Fetch a model with its record, and check its files against the record.

    `bench test` takes the folder in place of a run directory, with what its adaptation cost. The checkpoint is in
    `artifact`.
    """
    from bench.hub.client import Hub, Repository
    from bench.hub.model import RESULT, record_name, unpack_model
    from bench.records.files import folder_atomically
    from reports.run.summary import run_title

    repository = Repository("model", name, revision)
    output = output or Path(name.partition("/")[2])
    check_new(output)
    staging, commit = Hub().fetch(repository, output)
    try:
        with folder_atomically(output) as folder:
            result = unpack_model(staging, repository, folder).result
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if as_json:
        output_json(PullOutput(folder=str(output), commit=commit, runs=(result.id,)))
        return
    say(f"{output}: run {result.id[:8]}, {run_title(result.config)}; its files are those of its record")
    say(f"record: bench show {output / record_name(result)}")
    if (output / RESULT).exists():
        say(f"test:   bench test {output}")
    else:
        say(f"test:   none, as the weights are in float32, and the run tested them in {result.engine.get('dtype')}")
    for label, kind in (result.saved.classes if result.saved else {}).items():
        if kind == "methods.interface:SingleModel":
            say(f"model:  {output / 'artifact' / label}, which -M, --artifact and from_pretrained take")


@pull.command()
@_options
def records(name: str, output: Path | None, revision: str | None, as_json: bool) -> None:
    """Fetch records, and check that each agrees with itself.

    `bench leaderboard` and the other commands that read records take the folder.
    """
    from bench.hub.client import Hub, Repository
    from bench.hub.records import unpack_records
    from bench.records.files import folder_atomically

    repository = Repository("dataset", name, revision)
    output = output or Path(name.partition("/")[2])
    check_new(output)
    staging, commit = Hub().fetch(repository, output)
    try:
        with folder_atomically(output) as folder:
            found = unpack_records(staging, repository, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if as_json:
        runs = tuple(record.result.id for record in found.values())
        output_json(PullOutput(folder=str(output), commit=commit, runs=runs))
        return
    say(f"{output}: {counted(len(found), 'record')}")
    say(f"next: bench leaderboard {output}")
