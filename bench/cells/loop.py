"""Execution of a grid whose cells are jobs: submit them, try again those whose worker died, collect the outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench.cells.batch import Batch
from bench.cells.job import CellJob, Ended
from bench.engines.placement import Engines
from bench.errors import BenchError
from bench.run.grid import GridRun, RunOutcome
from bench.run.progress import ProgressDisplay, Snapshot
from bench.run.status import read_status

TRIES = 3
"""Number of times that a cell is begun at most. It is begun again if its worker was killed, or its node failed."""
INTERVAL = 0.5
"""Seconds between two looks at the jobs."""


class CellsGoOn(KeyboardInterrupt):
    """Interruption of a grid whose jobs go on.

    Attributes:
        jobs: The jobs, such as `81`.
    """

    def __init__(self, jobs: Sequence[str]) -> None:
        super().__init__(", ".join(jobs))
        self.jobs = tuple(jobs)


class Jobs(Protocol):
    """Place where cells are executed."""

    name: str
    """`local`, `slurm` or `ray`."""
    outlive: bool
    """Whether jobs go on when the process that submitted them ends."""

    def room(self) -> int | None:
        """Return how many more cells may be submitted now; None for any number."""

    def submit(self, cells: Sequence[CellJob]) -> Mapping[int, str]:
        """Submit cells. Return the name of each one's job by the cell's number."""

    def ended(self) -> Mapping[int, Ended | None]:
        """Return how jobs ended since the last call, by the cell's number; None for one whose worker died."""

    def log(self, number: int) -> Path | None:
        """Return the file with the output of a cell's last job; None if there is none."""

    def stop(self) -> None:
        """Stop all jobs in good order, and wait for their ends."""

    def close(self) -> None:
        """Release the place. No job is left."""


class CellLoop:
    """Grid whose cells are jobs.

    Args:
        runs: Runs of the grid.
        output: Folder for run directories, which all workers see.
        batch: Folder of the jobs.
        jobs: Place where cells are executed.
        engines: Number and location of the engines of each cell.
        make_display: Function that makes the display of a run that has begun, given its index and the function that
            returns its progress.
        on_outcome: Function to call with the index of a run and its outcome: twice for a run that is tried again.
        tell: Function that shows a fact that the user should know of.
        track: Names of trackers that each run is logged to. One that does not end in time is left out of the cells that
            are submitted after that.
    """

    def __init__(
        self,
        runs: Sequence[GridRun],
        output: Path,
        batch: Batch,
        jobs: Jobs,
        engines: Engines,
        make_display: Callable[[int, Callable[[], Snapshot]], ProgressDisplay],
        on_outcome: Callable[[int, RunOutcome], None],
        tell: Callable[[str], None],
        track: Sequence[str] = (),
    ) -> None:
        self._runs, self._output, self._jobs, self._engines = runs, output.absolute(), jobs, engines
        self._make_display, self._on_outcome, self._tell = make_display, on_outcome, tell
        self._batch, self._track = batch, tuple(track)
        self._names: dict[int, str] = {}
        self._running: set[int] = set()
        self._displays: dict[int, ProgressDisplay] = {}
        self._died: Counter[int] = Counter()
        self._lost = False

    def run(self) -> list[RunOutcome]:
        """Execute all runs. A run that another process is executing is tried again at the end of the grid.

        Raises:
            CellsGoOn: If the grid is interrupted, and its jobs go on.
            KeyboardInterrupt: If the grid is interrupted. Its jobs were stopped.
            WriteFailed: If the list of cells cannot be written.
        """
        outcomes: dict[int, RunOutcome] = {}
        try:
            self._write()
            self._execute(range(len(self._runs)), outcomes)
            if len(self._runs) > 1:
                self._execute([number for number in sorted(outcomes) if outcomes[number].state == "held"], outcomes)
        except KeyboardInterrupt as stop:
            if self._jobs.outlive:
                raise CellsGoOn(sorted({self._names[number].partition("_")[0] for number in self._running})) from stop
            self._jobs.stop()
            self._batch.close(keep=self._lost)
            raise
        except BaseException:
            self._jobs.stop()
            raise
        finally:
            self._jobs.close()
        self._batch.close(keep=self._lost)
        return [outcomes[number] for number in range(len(self._runs))]

    def _execute(self, numbers: Sequence[int], outcomes: dict[int, RunOutcome]) -> None:
        waiting = list(numbers)
        while waiting or self._running:
            room = self._jobs.room()
            now, waiting = (waiting, []) if room is None else (waiting[:room], waiting[room:])
            if now:
                self._names |= self._jobs.submit([self._job(number) for number in now])
                self._running.update(now)
                self._write()
            else:
                time.sleep(INTERVAL)
            for number in self._running - self._displays.keys():
                self._begin(number)
            for number, ended in self._jobs.ended().items():
                self._running.discard(number)
                if ended is not None:
                    self._track = tuple(name for name in self._track if name not in ended.late)
                if ended is None and self._dies(number):
                    waiting.insert(0, number)
                    continue
                outcomes[number] = self._outcome(number, ended)
                self._on_outcome(number, outcomes[number])
                self._displays.pop(number, None)

    def _job(self, number: int) -> CellJob:
        return CellJob(number, self._runs[number], self._output, self._batch, self._engines, self._track)

    def _write(self) -> None:
        titles, keys = [run.title for run in self._runs], [run.key for run in self._runs]
        self._batch.write(self._jobs.name, titles, keys, self._names)

    def _begin(self, number: int, folder: Path | None = None) -> ProgressDisplay | None:
        """Make the display of a cell that has a run directory."""
        folder = self._batch.folder_of(number) or folder
        if folder is None:
            return None

        def progress(folder: Path = folder) -> Snapshot:
            status = read_status(folder)
            return status.now if status else Snapshot()

        self._displays[number] = self._make_display(number, progress)
        return self._displays[number]

    def _dies(self, number: int) -> bool:
        """Count the death of a worker. Return whether the cell is tried again."""
        self._died[number] += 1
        tried = self._died[number]
        if tried >= TRIES:
            return False
        self._tell(f"{self._runs[number].title}: its worker died; it goes on in try {tried + 1} of {TRIES}")
        return True

    def _outcome(self, number: int, ended: Ended | None) -> RunOutcome:
        if ended is None:
            self._lost = True
            log = self._jobs.log(number)
            where = f"; its output is in {log}" if log else ""
            error = BenchError(f"its worker died {TRIES} times{where}")
            return RunOutcome(self._runs[number].config, self._batch.folder_of(number), error=error)
        if number not in self._displays:  # it ended between two looks
            self._begin(number, Path(ended.folder) if ended.folder else None)
        for note in ended.notes:
            self._tell(note)
        if (display := self._displays.get(number)) is not None:  # without a run directory, no tracker was started
            for warning in ended.warnings:
                display.warn(warning)
        return ended.outcome(self._runs[number])
