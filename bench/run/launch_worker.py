"""One process of a training group, started by a launcher: `python -m bench.run.launch_worker FOLDER PID`."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from bench.distributed import ProcessGroup
from bench.errors import UsageError
from bench.records.schema import RunConfig, read_config
from bench.run.launch import FAILURE
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import take_part
from methods.interface import Diverged


def main(folder: Path, run: int) -> None:
    """Train; whatever ends it ends the process.

    Args:
        folder: Of the run.
        run: Id of the process that owns it.
    """
    _end_with(run, os.getppid())
    try:
        config = read_config(folder)
        ranks = _join(config)
        prepared = replace(prepare(config, folder.parent, ProgressDisplay(quiet=True)), folder=folder)
        take_part(prepared, ranks)
    except Diverged:
        return  # an outcome, and journalled
    except Exception:
        # The first to fail is why the others do.
        with suppress(FileExistsError), (folder / "training" / FAILURE).open("x") as file:
            file.write(traceback.format_exc())
        raise


def _join(config: RunConfig) -> ProcessGroup:
    from accelerate import PartialState

    # Also makes this process's device the current one.
    state = PartialState(cpu=config.device == "cpu")
    if state.num_processes != config.processes:
        raise UsageError(
            f"accelerate started {state.num_processes} process where num_processes is {config.processes}; "
            "see distributed_type in --launch-config"
        )
    return ProcessGroup(state.process_index, state.num_processes)


def _end_with(*others: int) -> None:
    """End this process as soon as one of others has ended, however: nobody may write to a run that has no owner."""
    threading.Thread(target=_watch, args=(others,), daemon=True).start()


def _watch(others: tuple[int, ...]) -> None:
    with suppress(psutil.NoSuchProcess):
        processes = [psutil.Process(other) for other in others]
        while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            time.sleep(0.1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
