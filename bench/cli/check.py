"""`bench check`: the exam of a task."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option, output_json

if TYPE_CHECKING:
    from bench.exam import Certificate

_PASSED = {True: "[green]passed[/green]", False: "[red]failed[/red]", None: "-"}


@click.command()
@click.option("-t", "--task", required=True, help="Task; yours by package.module:Class. `bench list tasks` shows ours.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the task's rows.")
@click.option(
    "-L",
    "--limit",
    type=click.IntRange(min=2),
    default=40,
    show_default=True,
    help="Examples whose answers are scored.",
)
@click.option("--allow-unsandboxed", is_flag=True, help="Go on although the sandbox is weaker than required.")
@json_option
def check(task: str, data: Path | None, limit: int, allow_unsandboxed: bool, as_json: bool) -> int:
    """Have a task sit the exam: splits, prompts, scorer, votes, leaks and contamination.

    Exit status 1 if a check fails. One that has nothing to examine, such as votes where a task has none, does not fail.
    """
    from rich.console import Console

    from bench.exam import examine
    from bench.registry import load_task
    from bench.run.cell import admit

    candidate = load_task(task)
    data = data and data.absolute()
    # Before it is admitted: what a file's rows are decides whether programs are run.
    candidate.load(data)
    admit(candidate, allow_unsandboxed=allow_unsandboxed)
    with Console(stderr=True).status(task) as status:
        found = examine(task, candidate, data, examined=limit, progress=lambda name: status.update(f"{task}: {name}"))
    if as_json:
        output_json(asdict(found) | {"passed": found.passed})
    else:
        _print(found)
    return 0 if found.passed else 1


def _print(found: Certificate) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what was seen", overflow="fold")
    for finding in found.findings:
        printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in finding.detail)
        table.add_row(finding.check, _PASSED[finding.passed], escape(printable))
    console = Console(highlight=False, emoji=False)
    console.print(f"{escape(found.task)}, version {found.version}, content {found.content_hash[:16]}")
    console.print(table)
    failed = sum(finding.passed is False for finding in found.findings)
    verdict = f"[red]{failed} of {len(found.findings)} checks failed[/red]" if failed else "[green]passed[/green]"
    console.print(f"{verdict}; answers to {found.examined} examples were scored")
