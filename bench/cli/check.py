"""`bench check`: conformance checks of a task or a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bench.amounts import counted
from bench.cli.options import SettingText, fields_option, json_option, number_from, output_json, quiet_option
from bench.cli.paths import Place
from bench.errors import UsageError
from bench.plain import line

if TYPE_CHECKING:
    from bench.conformance import CheckResult
    from bench.run.settings import Assignment

_PASSED = {True: ("passed", "green"), False: ("failed", "red"), None: ("-", "")}


@click.command(
    epilog="\b\nExamples:\n  bench check -t gsm8k\n  bench check -t my_package.tasks:MyTask --data rows.jsonl"
    "\n  bench check -m my_package.methods:MyMethod --set lr=1e-4"
)
@click.option("-t", "--task", help="Task to check: a name from `bench list tasks`, or package.module:Class.")
@click.option("-m", "--method", help="Method to check: a name from `bench list methods`, or package.module:Class.")
@click.option("--data", type=Place(exists=True, dir_okay=False), help="File with the task's rows.")
@fields_option
@click.option(
    "-L",
    "--limit",
    type=number_from(2),
    default=40,
    show_default=True,
    help="Task only: number of examples whose answers are scored.",
)
@click.option(
    "--allow-unsandboxed",
    is_flag=True,
    help="Task only: run model-written code even if the sandbox is weaker than required.",
)
@click.option(
    "-b",
    "--budget",
    type=number_from(1),
    default=256,
    show_default=True,
    help="Method only: budget of each run in model-prompt evaluations.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    type=SettingText("--set"),
    metavar="KEY=VALUE",
    help="Method only: a setting of the method; repeatable.",
)
@quiet_option
@json_option
def check(task: str | None, method: str | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run the conformance checks of a task or a method.

    Checks of a task: splits, prompts, scorer, votes, prompt leaks, contamination. Checks of a method: seeds, budget,
    access to the test split, saved artifact, ledger, refusals, resuming after a kill, variants, restored weights. A
    method is run on the model tiny-adder and the task addition.

    The exit status is 1 if a check fails. A check that does not apply, such as votes for a task without votes, is
    printed as "-" and does not fail.
    """
    if (task is None) == (method is None):
        raise UsageError("bench check needs a task or a method: give one of -t TASK and -m METHOD")
    _reject_options_of("method" if task else "task")
    if task is not None:
        given = options["data"], options["fields"], options["limit"], options["allow_unsandboxed"]
        return _task(task, *given, quiet=quiet, as_json=as_json)
    assert method is not None
    return _method(method, options["budget"], options["settings"], quiet=quiet, as_json=as_json)


_OPTIONS = {"task": ("data", "fields", "limit", "allow_unsandboxed"), "method": ("budget", "settings")}


def _reject_options_of(kind: str) -> None:
    """Raise if an option of the other kind of check was given, because it would have no effect."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in _OPTIONS[kind] and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT:
            raise UsageError(f"{option.opts[-1]}: applies to the check of a {kind} only; leave it out")


def _task(
    task: str,
    data: Path | None,
    fields: str | None,
    limit: int,
    allow_unsandboxed: bool,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    from bench.conformance import check_task
    from bench.console import PlainConsole
    from bench.registry import load_task
    from bench.run.data import field_names
    from bench.run.prepare import admit

    candidate = load_task(task)
    candidate.field_names = field_names(fields, data)
    data = data and data.absolute()
    # Load first: for some tasks the rows decide whether programs are run, and so whether a sandbox is needed.
    candidate.load(data)
    admit(candidate, allow_unsandboxed=allow_unsandboxed)
    with PlainConsole(stderr=True, quiet=quiet).status(task) as status:
        found = check_task(
            task, candidate, data, examined=limit, progress=lambda name: status.update(f"{task}: {name}")
        )
    if as_json:
        output_json(found)
    else:
        title = f"{found.task}, version {found.version}, content {found.content_hash[:16]}"
        _print(title, found.findings, f"scored answers to {counted(found.examined, 'example')}")
    return 0 if found.passed else 1


def _method(method: str, budget: int, settings: Sequence[Assignment], *, quiet: bool, as_json: bool) -> int:
    from bench.conformance.method import check_method
    from bench.console import PlainConsole
    from bench.run.settings import variants

    (variant,) = variants([method], settings)[method]
    with PlainConsole(stderr=True, quiet=quiet).status(method) as status:
        found = check_method(
            method, variant.given, budget=budget, progress=lambda name: status.update(f"{method}: {name}")
        )
    if as_json:
        output_json(found)
    else:
        given = "".join(f", {key} = {value}" for key, value in found.settings.items())
        where = f"{found.model} on {found.task}, {found.budget} evaluations per run"
        _print(f"{found.method}, version {found.version}{given}", found.findings, where)
    return 0 if found.passed else 1


def _print(title: str, findings: Sequence[CheckResult], how: str) -> None:
    from rich.markup import escape
    from rich.text import Text

    from bench.console import PlainConsole, PlainTable

    headings = ("check", "", "details")
    table = PlainTable(headings, left=headings, folds=["details"])
    for finding in findings:
        table.add_row(finding.check, Text(*_PASSED[finding.passed]), finding.detail)
    console = PlainConsole(highlight=False, emoji=False)
    console.print(escape(line(title)))
    console.print(table)
    failed = sum(finding.passed is False for finding in findings)
    verdict = f"[red]{failed} of {len(findings)} checks failed[/red]" if failed else "[green]passed[/green]"
    console.print(f"{verdict}; {how}")
