"""State of the cells of grids, from what is on disk: for `bench status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bench.cells.batch import waiting
from bench.cells.state import CellState, CellStatus
from bench.errors import BenchError
from bench.plain import sentence
from bench.records.config import read_config
from bench.records.schema import Result, find_runs, read_result
from bench.run.grid import GridRun, common_settings, resumed
from bench.run.prepare import COMPLETE
from bench.run.progress import Snapshot
from bench.run.status import RunStatus, is_executed, read_status, silence


def cells_in(roots: Sequence[Path]) -> Iterator[CellStatus]:
    """Yield the state of each run below some folders, and of each job there that waits."""
    for root in roots:
        folders = find_runs(root)
        yield from cell_statuses(folders)
        cells = list(waiting(root))
        made = set() if all(cell.expected for cell in cells) else {run.key for run in _runs(folders).values()}
        for cell in cells:
            if cell.expected or cell.key not in made:
                state: CellState = "waiting" if cell.expected else "submitted"
                yield CellStatus(name=cell.title, state=state, where=f"job {cell.job}" if cell.job else None)


def planned(run: GridRun) -> CellStatus:
    """Return the state of a planned run that has no folder."""
    return CellStatus(name=run.title, state="waiting")


def cell_statuses(folders: Sequence[Path]) -> Iterator[CellStatus]:
    """Yield the state of run directories. Their names leave out the settings in which all runs of a method agree."""
    runs = _runs(folders)
    common = common_settings(list(runs.values()))
    for folder in folders:
        run = runs.get(folder)
        name = str(folder) if run is None else run.titled(common.get(run.config.method, ()))
        yield _cell_status(folder, name)


def _runs(folders: Sequence[Path]) -> dict[Path, GridRun]:
    """Return the runs in directories, without those that cannot be read."""
    runs = {}
    for folder in folders:
        with suppress(BenchError):
            runs[folder] = resumed(folder)
    return runs


def _cell_status(folder: Path, name: str) -> CellStatus:
    """Return the state of a run directory. One that cannot be read says why."""
    try:
        read_config(folder)
        status = read_status(folder)
        result = read_result(folder) if (folder / "result.json").exists() else None
    except BenchError as error:
        return CellStatus(name=name, folder=str(folder), state="unreadable", reason=sentence(str(error)))
    if status is not None and (result is None or result.status not in COMPLETE):
        return _in_progress(folder, name, status)
    if result is None:
        return CellStatus(name=name, folder=str(folder), state="unfinished")
    return CellStatus(
        name=name,
        folder=str(folder),
        state=result.status,
        spent=_spent(result),
        accuracy={row.label: row.accuracy.accuracy for row in result.artifacts},
        reason=None if result.reason is None else sentence(result.reason),
    )


def _in_progress(folder: Path, name: str, status: RunStatus) -> CellStatus:
    """Return the state of a run whose process has not ended in good order."""
    state: CellState = "running" if is_executed(folder, status) else "stopped" if status.stopped else "dead"
    now: Snapshot = status.now
    where = f"{status.pid} on {status.host}"
    return CellStatus(
        name=name,
        folder=str(folder),
        state=state,
        where=f"{where}, {status.job}" if status.job else where,
        stage=now.stage or None,
        steps=now.steps or None,
        best=now.best,
        spent=now.spent,
        seconds_left=now.seconds_left if state == "running" else None,
        silent=silence(status) if state == "running" else None,
    )


def _spent(result: Result) -> float | None:
    return result.budget.spent / result.budget.flops if result.budget and result.budget.flops else None
