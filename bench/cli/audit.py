"""`bench audit`: check records, and repeat a part of their runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.amounts import counted
from bench.cli.options import json_option, number_from, output_json, quiet_option
from bench.cli.paths import Place
from bench.errors import BenchError, UsageError
from bench.plain import line

if TYPE_CHECKING:
    from bench.run.progress import ProgressDisplay
    from reports.audit import Audit, Difference, Finding
    from reports.record import Record

SMALL = 60.0
"""A run that took at most this many seconds is repeated whole if there is nothing else to repeat."""
SHOWN = 20
"""Number of differences that are printed. With --json all are."""
_STYLES = {"agrees": "green", "differs": "red", "tolerated": "yellow", "not checked": "dim"}


@click.command(
    epilog="\b\nExamples:\n  bench audit runs/addition/tiny-adder/es/small/seed-0-1a2b3c4d"
    "\n  bench audit reports/records/addition/tiny-adder/randopt/small/seed-10-b0536844.json"
)
@click.argument("records", nargs=-1, required=True, type=Place(exists=True))
@click.option(
    "--items",
    type=number_from(1),
    default=10,
    show_default=True,
    help="Number of test items that the base and the artifacts of a run directory answer again.",
)
@click.option("--whole", is_flag=True, help="Repeat the whole run, also of run directories and of long runs.")
@quiet_option
@json_option
def audit(records: tuple[Path, ...], items: int, whole: bool, quiet: bool, as_json: bool) -> int:
    """Check records, and repeat a part of their runs.

    RECORDS are run directories, record files, or folders of these. Each record is checked against itself, its run
    directory, the data of its task, its method and its model. Of a run directory, the base and the saved artifacts
    answer some test items again, chosen by a hash of the run's id. Of a record file, a run that took at most a minute
    is repeated whole.

    Answers, verdicts and FLOPs must be equal on the same kind of processor; docs/trust.md has the tolerance for another
    kind, and says what an audit cannot see. Nothing is downloaded, and only a temporary folder is written to. The exit
    status is 1 if something differs.
    """
    from bench.console import PlainConsole
    from bench.run.progress import ProgressDisplay
    from reports.reading import find_records, none_finished

    found, unfinished = find_records(records)
    if unfinished:
        raise UsageError(f"{unfinished[0]}: this run has not finished; continue it with: bench resume {unfinished[0]}")
    if not found:
        raise none_finished(records)
    audits = []
    for path in found:
        audits.append(_audit(path, items, whole, ProgressDisplay(PlainConsole(stderr=True), quiet=quiet)))
        if not as_json:
            _print(audits[-1])
    if as_json:
        from reports.audit import Audits

        output_json(Audits(audits=tuple(audits)))
    return 0 if all(each.passed for each in audits) else 1


def _audit(path: Path, items: int, whole: bool, display: ProgressDisplay) -> Audit:
    from reports.audit import Audit, Finding, check_parts
    from reports.reading import unchecked_record

    try:
        record = unchecked_record(path)
    except BenchError as error:
        return Audit(path=str(path), id=None, findings=(Finding(check="format", verdict="differs", detail=str(error)),))
    findings = [Finding(check="format", verdict="agrees"), *check_parts(record, path), *_here(record)]
    differences: tuple[Difference, ...] = ()
    if reason := _hindrance(findings):
        findings.append(Finding(check="repetition", verdict="not checked", detail=reason))
    else:
        repeated, differences = _repeat(path, record, items, whole, display)
        findings += repeated
    return Audit(path=str(path), id=record.result.id, findings=tuple(findings), differences=differences)


def _here(record: Record) -> Iterator[Finding]:
    """Yield the results of the checks against the data of the task, the method and the model on this machine."""
    from bench.run.items import NotHere, check_items
    from bench.run.recheck import check_origins
    from reports.audit import Finding

    for name, check in (
        (_ITEMS, lambda: check_items(record.result, record.items, record.clusters)),
        ("method and model", lambda: check_origins(record.result)),
    ):
        try:
            check()
        except NotHere as reason:
            yield Finding(check=name, verdict="not checked", detail=str(reason).removeprefix("not checked: "))
        except BenchError as error:
            yield Finding(check=name, verdict="differs", detail=str(error))
        else:
            yield Finding(check=name, verdict="agrees")


_ITEMS = "items of the task"


def _hindrance(findings: Sequence[Finding]) -> str | None:
    """Return why nothing is repeated after these findings; None if it can be."""
    if failed := [finding.check for finding in findings if finding.verdict == "differs"]:
        return f"the record was changed: see {', '.join(failed)}"
    return next((each.detail for each in findings if each.check == _ITEMS and each.verdict == "not checked"), None)


def _repeat(
    path: Path, record: Record, items: int, whole: bool, display: ProgressDisplay
) -> tuple[list[Finding], tuple[Difference, ...]]:
    """Repeat a part of a run, or all of it, in a temporary folder."""
    from bench.run.repeat import NotRepeatable
    from reports.audit import Finding

    seconds = record.result.timing.total if record.result.timing else None
    if not (whole or path.is_dir()) and (seconds is None or seconds > SMALL):
        took = "an unknown time" if seconds is None else f"{seconds:.0f} s"
        detail = f"the run took {took}; repeat it with --whole"
        return [Finding(check="repetition", verdict="not checked", detail=detail)], ()
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as folder:
        try:
            if path.is_dir() and not whole:
                return _answers(path, record, items, Path(folder), display)
            return _whole(record, Path(folder), display)
        except NotRepeatable as reason:
            return [Finding(check="repetition", verdict="not checked", detail=str(reason))], ()
        except BenchError as error:
            return [Finding(check="repetition", verdict="differs", detail=str(error))], ()


def _answers(
    path: Path, record: Record, items: int, scratch: Path, display: ProgressDisplay
) -> tuple[list[Finding], tuple[Difference, ...]]:
    """Repeat some answers. If one differs, repeat all in the batches of the run, as rounding depends on the batch."""
    from bench.records.samples import read_samples
    from bench.run.repeat import answer_again, choose, same_processor
    from reports.audit import answers_finding, compare_answers

    result, recorded = record.result, read_samples(path)
    ids = [sample.id for sample in recorded if sample.row == 0]
    chosen = choose(ids, result.id, items)
    again = answer_again(path, result, chosen, scratch / "part", display)
    differences, differing = compare_answers(recorded, again)
    if differing and len(chosen) < len(ids):
        again = answer_again(path, result, ids, scratch / "all", display)
        differences, differing = compare_answers(recorded, again)
    rows = len({sample.row for sample in again})
    name = f"answers of {counted(rows, 'row')} to {counted(len(again) // max(rows, 1), 'item')}, repeated"
    return [answers_finding(name, differing, len(again), same=same_processor(result))], differences


def _whole(record: Record, scratch: Path, display: ProgressDisplay) -> tuple[list[Finding], tuple[Difference, ...]]:
    from bench.records.samples import read_samples
    from bench.run.repeat import run_again, same_processor
    from reports.audit import compare_runs
    from reports.reading import read_record

    folder = run_again(record.result, scratch, display)
    again = read_record(folder)
    ids = [sample.id for sample in read_samples(folder) if sample.row == 0] if again.result.rows else []
    findings, differences = compare_runs(record, again, ids, same=same_processor(record.result))
    return list(findings), differences


def _print(found: Audit) -> None:
    from rich.markup import escape
    from rich.text import Text

    from bench.console import PlainConsole, PlainTable

    headings = ("check", "", "details")
    table = PlainTable(headings, left=headings, folds=["details"])
    for finding in found.findings:
        table.add_row(finding.check, Text(finding.verdict, _STYLES[finding.verdict]), finding.detail)
    console = PlainConsole(highlight=False, emoji=False)
    console.print(escape(line(found.path)), soft_wrap=True)
    console.print(table)
    for each in _lines(found.differences):
        console.print(escape(line(each)), soft_wrap=True)
    console.print("[green]passed[/]" if found.passed else "[red]something differs[/]")


def _lines(differences: Sequence[Difference]) -> Iterator[str]:
    for each in differences[:SHOWN]:
        yield f"  row {each.row}, item {each.item}: {each.field} {each.recorded} in the record, and {each.now} now"
    if len(differences) > SHOWN:
        yield f"  and {len(differences) - SHOWN} more; --json prints all"
