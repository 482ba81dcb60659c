"""Execution of a grid of runs from the command line: progress on stderr, results on stdout, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.options import output_json
from bench.cli.outputs import RunOutput, RunOutputs

if TYPE_CHECKING:
    from bench.engines.placement import Engines
    from bench.run.grid import GridRun, RunOutcome


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


def run_grid(
    runs: Sequence[GridRun], output: Path, engines: Engines | None = None, *, as_json: bool = False
) -> GridOutcome:
    """Execute runs, show their progress, and print their results. Complete runs are not run again.

    Args:
        runs: Runs, such as those that `bench.run.grid.expand` returns.
        output: Folder for run directories.
        engines: Number and location of the engines. Default: one, on this machine.
        as_json: Whether to print JSON. Nothing else is printed on stdout then.
    """
    from bench.console import PlainConsole
    from bench.run.attempt import ONE
    from bench.run.grid import run_grid as execute
    from bench.run.progress import ProgressDisplay
    from reports.run.terminal import print_run

    stdout, stderr = PlainConsole(), PlainConsole(stderr=True)

    def done(outcome: RunOutcome) -> None:
        if outcome.error is not None:
            stderr.print(
                f"bench: {outcome.error}", style="red", markup=False, highlight=False, emoji=False, soft_wrap=True
            )
        elif not as_json:
            assert outcome.folder is not None
            assert outcome.result is not None
            print_run(stdout, outcome.folder, outcome.result)

    outcomes = execute(runs, output, lambda: ProgressDisplay(stderr), done, engines or ONE)
    if as_json:
        output_json(RunOutputs(runs=tuple(map(_plain, outcomes))))
    return GridOutcome(tuple(outcomes))


def _plain(outcome: RunOutcome) -> RunOutput:
    return RunOutput(
        folder=str(outcome.folder) if outcome.folder else None,
        cached=outcome.cached,
        error=str(outcome.error) if outcome.error else None,
        result=outcome.result,
    )
