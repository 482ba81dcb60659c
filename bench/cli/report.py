"""`bench report`: write finished runs as a website."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.amounts import counted
from bench.cli.options import json_option, left_out, output_json, say
from bench.cli.outputs import ReportOutput
from bench.cli.paths import Place


@click.command()
@click.argument("runs", nargs=-1, type=Place(exists=True))
@click.option("-o", "--output", type=Place(file_okay=False), required=True, help="Folder to write to.")
@json_option
def report(runs: tuple[Path, ...], output: Path, as_json: bool) -> int:
    """Write finished runs as a static website.

    The site has the leaderboard and one page per run, such as runs/addition-corp-small-seed-0-50bb76b7.html. Open
    index.html in a browser; no server or network is needed.
    RUNS are run directories, record files, or folders of these. Default: `runs`. Existing pages of the same runs are
    replaced, and other files in the folder are kept. Long answers are cut off on a page, which then links to a copy of
    the run's samples.jsonl beside it. A run that cannot be read is named and left out, and the exit status is then 1.
    """
    found = write_report(runs or (Path("runs"),), output)
    if as_json:
        output_json(found)
    else:
        say(f"{found.index}: {counted(len(found.pages), 'run')}")
        if found.unfinished:
            say(f"left out {len(found.unfinished)} unfinished: {', '.join(found.unfinished)}", err=True)
    return left_out(found.unreadable)


def write_report(roots: Sequence[Path], output: Path) -> ReportOutput:
    """Write finished runs as a website.

    Args:
        roots: Run directories, record files, or folders of these.
        output: Folder to write to.

    Raises:
        UsageError: If there is no finished run.
    """
    from bench.records.digests import SAMPLES
    from bench.records.files import read, write_atomically
    from bench.records.samples import read_samples
    from reports.html.analysis import NONE, read_analyses
    from reports.html.leaderboard import board_page
    from reports.html.page import page_names
    from reports.html.run import run_page, sample_kinds
    from reports.leaderboard.build import make_board
    from reports.leaderboard.grouping import agreeing
    from reports.reading import find_records, none_finished, read_records

    finished, unfinished = find_records(roots)
    if not finished:
        raise none_finished(roots, unfinished)
    records, unreadable = read_records(finished)
    runs_once, contradicting = agreeing(records)
    names = page_names(record.result for path, record in records.items() if path not in contradicting)
    pages: dict[Path, str] = {}
    links: dict[str, str] = {}
    copied: dict[Path, str] = {}
    for path, record in records.items():
        if path in contradicting:
            continue
        samples = read_samples(path) if path.is_dir() else []
        analyses = read_analyses(path) if path.is_dir() else NONE
        page = output / "runs" / names[record.result.id]
        links[record.result.id] = f"runs/{page.name}"
        raw = page.with_suffix(".samples.jsonl")
        is_cut = any(kind.is_cut for kind in sample_kinds(record.result, samples))
        pages[page] = run_page(record.result, samples, analyses, board="../index.html", raw=raw.name if is_cut else "")
        if is_cut:
            copied[raw] = read(path / SAMPLES).decode()
    index = output / "index.html"
    board = board_page(make_board(list(runs_once.values())), links)
    for page, text in (copied | pages | {index: board}).items():
        write_atomically(page, text)
    return ReportOutput(
        index=str(index),
        pages=tuple(map(str, pages)),
        unfinished=tuple(map(str, unfinished)),
        unreadable=(*unreadable, *contradicting.values()),
    )
