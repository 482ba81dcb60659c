"""Multi-process training with `accelerate launch`.

The run itself stays one process: it calibrates, gates, tests and records. For training it launches worker processes
and waits. Each worker replays the journal up to the start of training, then trains. Rank 0 appends to the journal.
When the workers have ended, the run reads the new journal entries, as it does when it resumes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Refused, UsageError
from bench.imports import child_environment
from bench.records.files import write_atomically
from bench.run.fsdp_config import check_sharding, spelled_out, whole_model

CONFIG, LOG, FAILURE = "accelerate.json", "processes.log", "failure.txt"
"""Files in the run's `training` folder: accelerate's configuration, output of the workers, error of the first worker
that failed."""


def read_launch(launcher: str | None, file: Path | None) -> dict[str, Any] | None:
    """Read the launcher's configuration, which is stored with the run. Return None without a launcher.

    Args:
        launcher: `accelerate`, or None.
        file: Configuration file as written by `accelerate config`; None for accelerate's default path.

    Raises:
        UsageError: If the file does not exist or cannot be used here.
        Refused: If accelerate is not installed, or the configuration asks for what was not tested.
    """
    if launcher is None:
        if file is not None:
            raise UsageError(f"--launch-config {file}: is read with --launch accelerate, which was not given")
        return None
    if importlib.util.find_spec("accelerate") is None:
        raise Refused("--launch accelerate needs accelerate: pip install -c requirements/cpu.txt '.[train]'")
    import yaml
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    path = Path(default_config_file if file is None else file)
    where = f"--launch-config {path}"
    if not path.is_file():
        hint = "" if file else "; `accelerate config` writes it, or give --launch-config FILE"
        raise UsageError(f"{where}: there is no such file{hint}")
    try:
        load_config_from_file(str(path))
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # accelerate raises many kinds of errors for invalid files
        raise UsageError(
            f"{where}: accelerate cannot read it ({error}); expected a file that `accelerate config` wrote"
        ) from error
    _check(content, where)
    return spelled_out(content)


def _check(content: dict[str, Any], where: str) -> None:
    processes, kind = content.get("num_processes"), str(content.get("distributed_type"))
    if not isinstance(processes, int) or processes < 2:
        raise UsageError(
            f"{where}: num_processes is {processes!r}; set 2 or more, or leave out --launch to train in one process"
        )
    if content.get("num_machines", 1) != 1:
        raise Refused(
            f"{where}: num_machines is {content['num_machines']!r}; set 1, because all processes of a run must share "
            "one machine"
        )
    if not kind.startswith("MULTI_") and kind != "FSDP":
        reason = ", which was never tested here" if kind == "DEEPSPEED" else ""
        raise Refused(
            f"{where}: distributed_type is {kind!r}{reason}; use MULTI_GPU, where every process holds the whole model, "
            "or FSDP, where each holds a part"
        )
    if str(precision := content.get("mixed_precision", "no")).lower() not in ("no", "none"):
        raise Refused(
            f"{where}: mixed_precision is {precision!r}; set 'no', because methods choose their precision by the "
            "hardware"
        )
    for key in ("dynamo_config", "fp8_config", "parallelism_config"):
        if content.get(key):
            raise Refused(f"{where}: {key} is {content[key]!r}; leave it out, because training does not follow it")
    check_sharding(content, where)
    if kind == "MULTI_CPU" and not content.get("mpirun_config"):
        raise UsageError(
            f"{where}: distributed_type is 'MULTI_CPU', and without mpirun_config accelerate starts one process only; "
            "use MULTI_GPU, which also works on CPUs, with --device cpu"
        )


def launch_training(folder: Path, launch: dict[str, Any]) -> None:
    """Train the run in a folder with launched processes. Their results are in the journal when this returns.

    Raises:
        BenchError: If a process failed. The launcher then ends all others.
    """
    training = folder / "training"
    # Port 0 picks a free port unless the file sets one, because two runs may share a machine.
    started = {"main_process_port": 0} | whole_model(launch)
    write_atomically(training / CONFIG, json.dumps(started, indent=1) + "\n")
    (training / FAILURE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(training / CONFIG)]
    command += ["-m", "bench.run.launch_worker", str(folder), str(os.getpid())]
    with (training / LOG).open("ab") as log:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        launcher = subprocess.Popen(command, env=child_environment(), **streams)
        try:
            status = launcher.wait()
        except BaseException:
            launcher.terminate()
            launcher.wait()
            raise
    if status:
        reason = f"accelerate launch ended with status {status}"
        # The file is empty if its process was terminated before it wrote the traceback.
        if (training / FAILURE).exists() and (trace := (training / FAILURE).read_text().strip()):
            reason = trace.splitlines()[-1]
        raise BenchError(f"a training process failed: {reason} (see {training / LOG})")
