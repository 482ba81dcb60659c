"""Small grids for tests of cells, and what two executions of a run must have in common."""

import os
import platform
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.records.journal import read_entries
from bench.records.schema import find_runs, read_result
from bench.run.grid import expand
from bench.run.progress import Snapshot
from bench.run.status import RunStatus
from methods.base import Base


class Warned(Base):
    """Method that is stopped by SIGUSR1 in its first attempt, after it has computed something."""

    def adapt(self, context):
        adapted = super().adapt(context)
        marker = Path(os.environ["WARNED"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(60)
        return adapted


def grid(methods=("base",), seeds=(0, 1)):
    return expand(
        methods=methods,
        tasks=["addition"],
        models=["tiny-adder"],
        budgets=["400"],
        seeds=seeds,
        limit=20,
        dtype="float32",
    )


def status(**fields):
    """Return the status of a run that this process executes."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given: dict[str, Any] = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": now,
        "updated": now,
        "now": Snapshot("es", "1/3"),
    }
    return RunStatus(**given | fields)


def records(root):
    """Everything on record below a folder, without times: results, answers and journalled work by the run's folder."""
    found = {}
    for folder in find_runs(root):
        result = read_result(folder).model_dump(mode="json", exclude={"timing"})
        files = [(folder / name).read_bytes() for name in ("config.json", "samples.jsonl")]
        work = [entry.get("key") for entry in read_entries(folder / "journal.jsonl")[0]]
        found[folder.relative_to(root)] = (result, work, *files)
    return found
