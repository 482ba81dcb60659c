"""Folder of a grid's jobs, `.cells/TIME-PID` in the folder for run directories. All workers must see it.

It holds the list of the cells, a file for each cell that has begun, and the logs of the jobs. It is removed when all
cells have ended, unless one failed because its workers died.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError, Refused
from bench.records.files import read, write_atomically
from bench.run.environment import process_exists

FOLDER, CELLS = ".cells", "cells.json"


class Cells(BaseModel):
    """Cells of a grid that was handed to other processes.

    Attributes:
        on: `local`, `slurm` or `ray`.
        host: Machine that handed them out.
        pid: Process on it.
        titles: Title of each cell.
        keys: Text by which the run of each cell is recognised, see `bench.records.run_key`.
        jobs: Job of each cell that was submitted, by the number of the cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: str
    host: str
    pid: int
    titles: tuple[str, ...]
    keys: tuple[str, ...]
    jobs: dict[int, str] = {}

    @property
    def expected(self) -> bool:
        """Whether cells that have not begun will begin: the grid's process exists on this machine."""
        return self.host == platform.node() and process_exists(self.pid)

    @property
    def possible(self) -> bool:
        """Whether cells that have not begun may begin. Slurm keeps its jobs when the grid's process has ended."""
        return self.expected or self.on == "slurm" or self.host != platform.node()


@dataclass(frozen=True)
class Waiting:
    """Cell that was handed out and has not begun.

    Attributes:
        title: Its title.
        key: Text by which its run is recognised, see `bench.records.run_key`.
        job: Its job; empty if it was not submitted.
        expected: Whether it will begin; otherwise it may, see `Cells.possible`.
    """

    title: str
    key: str
    job: str
    expected: bool


@dataclass(frozen=True)
class Batch:
    """Folder of a grid's jobs.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, output: Path) -> Batch:
        """Make a new folder in that for run directories."""
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return cls(output.absolute() / FOLDER / f"{now}-{os.getpid()}")

    def write(self, on: str, titles: Sequence[str], keys: Sequence[str], jobs: Mapping[int, str]) -> None:
        """Write the list of cells. See `Cells`.

        Raises:
            WriteFailed: If it cannot be written.
        """
        cells = Cells(
            on=on, host=platform.node(), pid=os.getpid(), titles=tuple(titles), keys=tuple(keys), jobs=dict(jobs)
        )
        write_atomically(self.path / CELLS, cells.model_dump_json(indent=1) + "\n")

    def check_visible(self, host: str) -> None:
        """Check that this process sees the folder.

        Raises:
            Refused: If it does not.
        """
        if not (self.path / CELLS).exists():
            raise Refused(
                f"{self.path}: the worker on {host} does not see this folder; give an --output on a file system that "
                "all workers share"
            )

    def begin(self, number: int, folder: Path) -> None:
        """Say that a cell has begun, and in which run directory.

        Raises:
            WriteFailed: If the file cannot be written.
        """
        write_atomically(self._begun(number), json.dumps({"folder": str(folder)}) + "\n")

    def folder_of(self, number: int) -> Path | None:
        """Return the run directory of a cell; None if it has not begun."""
        path = self._begun(number)
        return Path(json.loads(read(path))["folder"]) if path.exists() else None

    def close(self, *, keep: bool) -> None:
        """Remove the folder, or the list of cells alone so that the logs stay."""
        if keep:
            (self.path / CELLS).unlink(missing_ok=True)
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.exists() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def _begun(self, number: int) -> Path:
        return self.path / f"{number}.json"


def waiting(output: Path) -> Iterator[Waiting]:
    """Yield the cells below a folder that were handed out and have not begun, the newest grid first.

    A cell that may begin is left out if a newer grid in the same folder has it too.
    """
    newer: dict[Path, set[str]] = {}
    for path in sorted(output.rglob(f"{FOLDER}/*/{CELLS}"), reverse=True):  # their names begin with the time
        try:
            cells = Cells.model_validate_json(read(path))
        except (BenchError, ValidationError):  # it was removed meanwhile, or is of another version
            continue
        batch, seen = Batch(path.parent), newer.setdefault(path.parents[1], set())
        for number, (title, key) in enumerate(zip(cells.titles, cells.keys, strict=True)):
            begins = cells.expected or (cells.possible and key not in seen)
            if begins and batch.folder_of(number) is None:
                yield Waiting(title, key, cells.jobs.get(number, ""), cells.expected)
        seen.update(cells.keys)
