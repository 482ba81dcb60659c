"""Training worker, started by the launcher as `python -m bench.run.launch_worker FOLDER PID`."""

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
from bench.records.config import RunConfig, read_config
from bench.run.launch import FAILURE
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import train_as_worker
from methods.interface import Diverged


def main(folder: Path, run: int) -> None:
    """Train the run as one worker of the group.

    Args:
        folder: Run directory.
        run: Process id of the run that launched the workers.
    """
    _exit_with(run, os.getppid())
    try:
        config = read_config(folder)
        ranks = _join(config)
        prepared = replace(prepare(config, folder.parent, ProgressDisplay(quiet=True)), folder=folder)
        train_as_worker(prepared, ranks)
    except Diverged:
        return  # not an error: it is journalled, and the run reports it
    except Exception:
        # Only the first worker to fail writes the file; the others fail because of it.
        with suppress(FileExistsError), (folder / "training" / FAILURE).open("x") as file:
            file.write(traceback.format_exc())
        raise


def _join(config: RunConfig) -> ProcessGroup:
    from accelerate import PartialState

    # PartialState also selects this process's device.
    state = PartialState(cpu=config.device == "cpu")
    if state.num_processes != config.processes:
        raise UsageError(
            f"accelerate started {state.num_processes} process, but num_processes is {config.processes}; "
            "check distributed_type in --launch-config"
        )
    return ProcessGroup(state.process_index, state.num_processes, sharded=config.sharded)


def _exit_with(*others: int) -> None:
    """Exit this process as soon as one of the others has ended. A worker must not write to an abandoned run."""
    threading.Thread(target=_watch, args=(others,), daemon=True).start()


def _watch(others: tuple[int, ...]) -> None:
    with suppress(psutil.NoSuchProcess):
        processes = [psutil.Process(other) for other in others]
        while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            time.sleep(0.1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
