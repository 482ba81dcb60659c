"""`bench status`: the cells of grids that are executed now, were interrupted, or are done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option, output_json
from bench.cli.outputs import StatusOutput
from bench.cli.paths import Place

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.cells.status import CellStatus

STATES = ("running", "waiting", "submitted", "stopped", "dead", "unfinished", "failed", "refused", "unreadable")
"""States in the order of the table. Runs that are done come last."""
WATCH = 2.0
"""Seconds between two looks."""


@click.command(
    epilog="\b\nExamples:\n  bench status runs/ci\n  bench status -C suites/ci.toml --watch\n  bench status runs --json"
)
@click.argument("runs", nargs=-1, type=Place(exists=True, file_okay=False))
@click.option(
    "-C",
    "--config",
    type=Place(exists=True, dir_okay=False),
    help="TOML file of a grid: show its cells alone, also those that have no folder.",
)
@click.option("--watch", is_flag=True, help="Look again every two seconds until nothing runs or waits.")
@json_option
def status(runs: tuple[Path, ...], config: Path | None, watch: bool, as_json: bool) -> None:
    """Show how far runs are.

    RUNS are folders of runs. Default: the folder `runs`. The state comes from what is on disk, so runs of other
    processes and of other machines on the same file system are shown too. `dead` means that the process of a run no
    longer exists. A run that is stopped or dead goes on with `bench resume`, or with the command of its grid.
    """
    if watch and as_json:
        raise click.UsageError("--watch shows a table; leave it out, or leave out --json")
    roots = runs or (Path("runs"),)
    if as_json:
        output_json(StatusOutput(cells=tuple(_cells(roots, config))))
    elif watch:
        _watch(roots, config)
    else:
        from bench.console import PlainConsole

        PlainConsole().print(table(list(_cells(roots, config))))


def _cells(roots: Sequence[Path], config: Path | None) -> Iterator[CellStatus]:
    """Yield the cells below some folders; with a file of a grid, those of the grid."""
    from bench.cells.status import cell_statuses, cells_in, planned

    if config is None:
        yield from cells_in(roots)
        return
    from bench.cli.config_file import planned_runs
    from bench.errors import BenchError
    from bench.records.config import read_config
    from bench.records.run_key import run_key
    from bench.records.schema import find_runs

    made: dict[str, list[Path]] = {}
    for folder in (folder for root in roots for folder in find_runs(root)):
        try:
            found = read_config(folder)
        except BenchError:  # it may be a run of another grid
            continue
        made.setdefault(run_key(found, found.method_config), []).append(folder)
    runs = [
        (run, made.get(run_key(run.config, run.settings.model_dump(mode="json")), [])) for run in planned_runs(config)
    ]
    yield from cell_statuses([folder for _, folders in runs for folder in folders])
    yield from (planned(run) for run, folders in runs if not folders)


def _watch(roots: Sequence[Path], config: Path | None) -> None:
    from rich.live import Live

    from bench.console import PlainConsole

    console = PlainConsole()
    cells = list(_cells(roots, config))
    with Live(table(cells), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while any(cell.state in ("running", "waiting") for cell in cells):
            time.sleep(WATCH)
            cells = list(_cells(roots, config))
            live.update(table(cells), refresh=True)


def table(cells: Sequence[CellStatus]) -> RenderableType:
    """Return the cells as a table, the running ones first, and a line of counts."""
    from rich.console import Group
    from rich.text import Text

    from bench.console import PlainTable
    from bench.plain import line
    from bench.run.timekeeper import clock

    found = PlainTable(["cell", "state", "best", "spent", "left", "where"], left=("cell", "state", "where"))
    order = {state: place for place, state in enumerate(STATES)}
    for cell in sorted(cells, key=lambda cell: (order.get(cell.state, len(STATES)), cell.folder is None, cell.name)):
        best = "" if cell.best is None else f"{cell.best:.3f}"
        spent = "" if cell.spent is None else f"{100 * cell.spent:.0f} %"
        found.add_row(line(cell.name), _state(cell), best, spent, clock(cell.seconds_left), line(cell.where or ""))
    counts = Counter(cell.state for cell in cells)
    states = sorted(counts, key=lambda state: order.get(state, len(STATES)))
    text = ", ".join(f"{counts[state]} {'done' if state == 'ok' else state}" for state in states)
    return Group(found, Text(text or "no runs", style="bold")) if cells else Text("no runs")


def _state(cell: CellStatus) -> str:
    """Return the state in words, with the stage, the accuracies, or the reason."""
    from bench.plain import line
    from bench.run.status import HEARTBEAT
    from bench.run.timekeeper import clock

    names = {"ok": "done", "submitted": "submitted, not begun"}
    parts = [names.get(cell.state, cell.state), cell.stage or "", cell.steps or ""]
    text = " ".join(filter(None, parts))
    if cell.accuracy:
        text += ", " + ", ".join(f"{label} {100 * value:.1f} %".strip() for label, value in cell.accuracy.items())
    if cell.reason:
        text += f": {cell.reason}"
    if cell.silent is not None and cell.silent > 2 * HEARTBEAT:
        text += f", no sign for {clock(cell.silent)}"
    return line(text)
