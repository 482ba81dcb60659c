"""Execution of a grid of runs from the command line: progress, results, what is not done, and the command to go on.

Results go to stdout. Progress, failures and the command to go on go to stderr.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.interrupts import interruptible, resume_command, same_command
from bench.cli.leaderboard import leaderboard
from bench.cli.options import output_json
from bench.cli.outputs import RunOutput, RunOutputs
from bench.plain import line

if TYPE_CHECKING:
    from bench.cli.cells import CellTable
    from bench.cli.cells_on import CellsOn
    from bench.console import PlainConsole
    from bench.engines.placement import Engines
    from bench.records.schema import Result
    from bench.run.grid import GridRun, RunOutcome, State
    from bench.run.progress import ProgressDisplay


NOT_DONE: tuple[State, ...] = ("failed", "refused", "held", "stopped")
"""States of cells that a grid's end gives the reasons of."""


@dataclass(frozen=True)
class GridOutcome:
    """Outcome of a grid.

    Attributes:
        outcomes: Outcome of each run, in the grid's order.
    """

    outcomes: tuple[RunOutcome, ...]

    @property
    def exit_code(self) -> int:
        """Exit status: 0 if all runs are done, else 1 if one failed, else 2, else 3."""
        codes = {outcome.exit_code for outcome in self.outcomes}
        return next((code for code in (1, 2, 3) if code in codes), 0)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Directories of the runs that have a record."""
        return tuple(each.folder for each in self.outcomes if each.folder is not None and each.result is not None)


@dataclass(frozen=True)
class _How:
    """How a grid is executed and shown. See `run_grid`."""

    engines: Engines
    cells: CellsOn | None
    as_json: bool
    quiet: bool
    track: list[str]


def run_grid(
    runs: Sequence[GridRun],
    output: Path,
    engines: Engines | None = None,
    cells: CellsOn | None = None,
    *,
    as_json: bool = False,
    track: Sequence[str] = (),
    quiet: bool = False,
) -> GridOutcome:
    """Execute runs, show their progress, and print their results. Complete runs are not run again.

    One run ends with its own results. A grid of several ends with the leaderboard of its records.

    Args:
        runs: Runs, such as those that `bench.run.grid.expand` returns.
        output: Folder for run directories.
        engines: Number and location of the engines. Default: one, on this machine.
        cells: Place where the runs are executed as jobs; None to execute one after the other in this process.
        as_json: Whether to print JSON. Nothing else is printed on stdout then.
        track: Names of trackers.
        quiet: Whether to print no progress and no notes.

    Raises:
        Interrupted: If Ctrl-C or SIGTERM ends the grid.
        WriteFailed: If records cannot be written.
    """
    from bench.run.attempt import ONE

    how = _How(engines or ONE, cells, as_json, quiet, list(dict.fromkeys(track)))
    outcome = (_run_one if cells is None and len(runs) == 1 else _run_several)(runs, output, how)
    if as_json:
        output_json(RunOutputs(runs=tuple(map(_plain, outcome.outcomes))))
    return outcome


def _run_one(runs: Sequence[GridRun], output: Path, how: _How) -> GridOutcome:
    from bench.console import PlainConsole
    from bench.run.grid import RunInterrupted
    from bench.run.grid import run_grid as execute
    from bench.run.progress import ProgressDisplay
    from bench.track.live import tracked
    from reports.run.terminal import print_run

    stderr = PlainConsole(stderr=True)
    display = tracked(ProgressDisplay(stderr, quiet=how.quiet), how.track)

    def begin(number: int) -> ProgressDisplay:
        display.say(runs[number].title, style="bold")
        return display

    def end(_: int, outcome: RunOutcome) -> None:
        if outcome.error is not None:
            _print(stderr, f"bench: {outcome.error}", "red")
        elif not how.as_json:
            assert outcome.folder is not None
            assert outcome.result is not None
            print_run(PlainConsole(), outcome.folder, outcome.result, _more(outcome.folder, outcome.result))

    def command(stop: KeyboardInterrupt) -> str:
        if isinstance(stop, RunInterrupted) and (stop.folder / "config.json").exists():
            return resume_command(stop.folder)
        return same_command()

    with interruptible(command):
        return GridOutcome(tuple(execute(runs, output, begin, end, how.engines)))


def _more(folder: Path, result: Result) -> str | None:
    """Return what to try next: for a base that is never right, or to let the gate decide more. None without a gate."""
    from bench.registry import load_method
    from bench.run.data import load_task_data
    from bench.run.forecast import deciding_budget, never_right

    config = result.config
    if config.source is not None or result.budget is None or not result.rows:
        return None
    if found := never_right(result.rows, folder):
        return found
    kind = load_method(config.method)
    method = kind(kind.Config.model_validate(config.method_config))
    return deciding_budget(method, config, result.budget.evaluations, load_task_data(config).traits)


def _run_several(runs: Sequence[GridRun], output: Path, how: _How) -> GridOutcome:
    from bench.cli.cells import CellTable
    from bench.console import PlainConsole
    from bench.run.grid import run_grid as execute
    from bench.track.live import tracked

    stderr = PlainConsole(stderr=True)
    with interruptible(partial(_go_on, output)):
        with CellTable(runs, stderr, quiet=how.quiet) as table:
            if how.cells is None:

                def begin(number: int) -> ProgressDisplay:
                    return tracked(table.begin(number), how.track)

                outcomes = execute(runs, output, begin, table.end, how.engines)
            else:
                outcomes = _run_jobs(runs, output, how, table)
        outcome = GridOutcome(tuple(outcomes))
        if outcome.folders and not how.as_json:
            click.get_current_context().invoke(leaderboard, runs=outcome.folders)
        if not how.quiet or outcome.exit_code:
            for text, style in _ending(outcomes, [cell.name for cell in table.cells]):
                _print(stderr, text, style)
    return outcome


def _run_jobs(runs: Sequence[GridRun], output: Path, how: _How, table: CellTable) -> list[RunOutcome]:
    from bench.cells.batch import Batch
    from bench.cells.loop import CellLoop

    assert how.cells is not None
    batch = Batch.create(output)
    jobs = how.cells.jobs(batch)
    return CellLoop(runs, output, batch, jobs, how.engines, table.begin, table.end, table.tell, how.track).run()


def _go_on(output: Path, stop: KeyboardInterrupt) -> str:
    """Return the command to go on with after an interruption, and what is said about jobs that were not stopped."""
    from bench.cells.loop import CellsGoOn

    if not isinstance(stop, CellsGoOn):
        return same_command()
    jobs = " ".join(stop.jobs)
    look = shlex.join(["bench", "status", str(output)])
    return (
        f"{same_command()}\nThe jobs {jobs} were not stopped. Look at them with `{look}`; `scancel {jobs}` stops them"
    )


def _print(console: PlainConsole, text: str, style: str) -> None:
    """Print one line, whatever the text holds."""
    console.print(line(text), style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _ending(outcomes: Sequence[RunOutcome], names: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Yield the last lines of a grid with their styles: counts, what is not done and why, and the command to go on."""
    states = Counter(outcome.state for outcome in outcomes)
    before, done = states["done before"], states["done"]
    several = "was" if before == 1 else "were"
    counts = [f"{before} of {len(outcomes)} cells {several} done before"] if before else []
    counts += [f"{done} done" if before else f"{done} of {len(outcomes)} cells done"]
    counts += [f"{states[state]} {state}" for state in NOT_DONE if states[state]]
    yield ", ".join(counts), "bold"
    reasons: dict[tuple[str, str], list[int]] = {}
    for number, outcome in enumerate(outcomes):
        if outcome.state in NOT_DONE:
            reasons.setdefault((outcome.state, outcome.reason), []).append(number)
    for (state, reason), found in sorted(reasons.items()):
        yield f"{state}: {reason}", "red" if state == "failed" else "yellow"
        yield f"  {'; '.join(names[number] for number in found)}", ""
        folder = outcomes[found[0]].folder
        if state == "failed" and folder is not None and (folder / "result.json").exists():  # a dead worker wrote none
            yield f"  traceback: {folder / 'result.json'}", ""
    if states["failed"] or states["held"] or states["stopped"]:
        yield f"next:   {same_command()}", ""
    elif reasons:
        yield "next:   change what the reasons name; the same command is refused again", ""


def _plain(outcome: RunOutcome) -> RunOutput:
    return RunOutput(
        folder=str(outcome.folder) if outcome.folder else None,
        cached=outcome.cached,
        error=str(outcome.error) if outcome.error else None,
        result=outcome.result,
    )
