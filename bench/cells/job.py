"""One cell of a grid as a job: it is executed in a process of its own, on this machine or another.

A job can be started again at any time. The folder of its run has a lock and a journal, so a second attempt goes on
where the first one ended.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.cells.batch import Batch
from bench.cells.signals import signal_of, stopping
from bench.engines.placement import Engines
from bench.errors import BenchError, Refused, UsageError
from bench.imports import check_packages, set_environment
from bench.records.schema import read_result
from bench.run.grid import CellStopped, GridRun, RunInterrupted, RunOutcome, run_cell
from bench.run.progress import ProgressDisplay, Snapshot
from bench.run.runner import Held
from bench.track.live import LIMIT, tracked

GRACE = LIMIT + 15.0
"""Seconds that stopped jobs have to end in good order, of which trackers may take `LIMIT`."""
Kind = Literal["held", "usage", "refused", "failed", "stopped"]
"""Reason why a job has no record. `stopped`: a signal ended it, and all finished work is saved."""
ERRORS: dict[Kind, type[BenchError]] = {"held": Held, "usage": UsageError, "refused": Refused, "stopped": CellStopped}


class NotingDisplay(ProgressDisplay):
    """Progress of a run that is shown by something else, such as a table. Its notes are handed on.

    Args:
        tell: Function that takes a note.
        snapshot: Function that returns the progress of a run that another process executes; None if this one does.
        warn: Function that takes a warning. Default: `tell`.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        snapshot: Callable[[], Snapshot] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(quiet=True)
        self._tell, self._elsewhere, self._warn = tell, snapshot, warn or tell

    def note(self, text: str) -> None:
        """Hand on a fact that the user should know of."""
        self._tell(text)

    def warn(self, text: str) -> None:
        """Hand on that something has failed which the run does not need."""
        self._warn(text)

    def snapshot(self) -> Snapshot:
        """Return the present state of the run."""
        return super().snapshot() if self._elsewhere is None else self._elsewhere()


@dataclass(frozen=True)
class Ended:
    """End of a job, as it is sent back. The record is in the run's folder.

    Attributes:
        folder: Run directory; None if the job has none.
        cached: Whether the run was already complete.
        kind: Why there is no record; None if there is one.
        reason: The same in words.
        notes: Facts that the user should know of.
        number: Signal that stopped the job; None if none did.
        warnings: Failures that cost no run, such as those of trackers.
        late: Names of trackers that did not end in time.
    """

    folder: str | None = None
    cached: bool = False
    kind: Kind | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    number: int | None = None
    warnings: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    def outcome(self, run: GridRun) -> RunOutcome:
        """Return the outcome of the run that the job executed."""
        folder = None if self.folder is None else Path(self.folder)
        try:
            if self.kind is not None:
                raise ERRORS.get(self.kind, BenchError)(self.reason)
            assert folder is not None
            result = read_result(folder)
            return RunOutcome(result.config, folder, result, cached=self.cached)
        except BenchError as error:
            return RunOutcome(run.config, folder, error=error)


@dataclass(frozen=True)
class CellJob:
    """Job that executes one run of a grid. It is pickled.

    Attributes:
        number: Index of the run in the grid.
        run: The run.
        output: Folder for run directories.
        batch: Folder of the grid's jobs.
        engines: Number and location of the engines.
        track: Names of trackers.
        here: Working directory, which relative paths in settings refer to.
        cores: Cores that the process may use; empty for all.
    """

    number: int
    run: GridRun
    output: Path
    batch: Batch
    engines: Engines
    track: tuple[str, ...] = ()
    here: Path = field(default_factory=Path.cwd)
    cores: tuple[int, ...] = ()

    def __call__(self) -> Ended:
        """Execute the run. A warning of the batch system stops it in good order."""
        notes: list[str] = []
        warnings: list[str] = []
        folder: list[Path] = []
        track = list(self.track)  # a tracker that does not end in time is removed from it

        def begin(found: Path) -> None:
            folder.append(found)
            self.batch.begin(self.number, found)

        def ended(kind: Kind | None, reason: str, *, cached: bool = False, number: int | None = None) -> Ended:
            return Ended(
                str(folder[0]) if folder else None,
                cached,
                kind,
                reason,
                tuple(notes),
                number,
                tuple(warnings),
                late=tuple(name for name in self.track if name not in track),
            )

        try:
            with _stopping():
                self._settle()
                display = tracked(NotingDisplay(notes.append, warn=warnings.append), track)
                outcome = run_cell(self.run, self.output, display, self.engines, begin)
        except (KeyboardInterrupt, RunInterrupted) as stop:
            number = signal_of(stop)
            return ended(
                "stopped", f"stopped by {signal.Signals(number).name}; all finished work is saved", number=number
            )
        except BenchError as error:
            return ended(_kind(error), str(error))
        if outcome.folder is not None and not folder:
            folder.append(outcome.folder)
        if outcome.result is None:
            assert outcome.error is not None
            return ended(_kind(outcome.error), str(outcome.error))
        return ended(None, "", cached=outcome.cached)

    def _settle(self) -> None:
        set_environment()
        check_packages()
        self.batch.check_visible(platform.node())
        if self.here.is_dir():
            os.chdir(self.here)
        if self.cores:
            os.sched_setaffinity(0, self.cores)


def _kind(error: BenchError) -> Kind:
    return next((kind for kind, each in ERRORS.items() if isinstance(error, each)), "failed")


def _stopping() -> AbstractContextManager[None]:
    """Return `stopping`, or nothing in a thread, where Python takes no signals."""
    return stopping() if threading.current_thread() is threading.main_thread() else nullcontext()
