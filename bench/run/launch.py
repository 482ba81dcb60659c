"""Handing a run's training over to several processes, which `accelerate launch` starts.

The run stays one process. It calibrates, gates, tests and records. For training it starts the others and waits: each
replays the journal to where training begins and trains; rank 0 appends to the journal. When they are done, the run
reads what was appended, as it would after an interruption.
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
from bench.records.files import write_atomically

CONFIG, LOG, FAILURE = "accelerate.json", "processes.log", "failure.txt"
"""In the run's `training`: what accelerate is given, what the processes said, and why the first that failed did."""


def read_launch(launcher: str | None, file: Path | None) -> dict[str, Any] | None:
    """Return a launcher's configuration, to be kept with the run; None without a launcher.

    Args:
        launcher: `accelerate`, or None.
        file: As `accelerate config` writes it; None for where it writes by default.

    Raises:
        UsageError: If there is no such file, or it describes nothing that can be launched here.
        Refused: If accelerate is not installed, or the model would be divided over processes.
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
    except Exception as error:  # accelerate fails in many ways on what it does not know
        raise UsageError(f"{where}: accelerate cannot read it: {error}") from error
    _check(content, where)
    return content


def _check(content: dict[str, Any], where: str) -> None:
    processes, kind = content.get("num_processes"), str(content.get("distributed_type"))
    if not isinstance(processes, int) or processes < 2:
        raise UsageError(f"{where}: num_processes is {processes!r}; 2 or more are launched, one needs no launcher")
    if content.get("num_machines", 1) != 1:
        raise Refused(f"{where}: num_machines is {content['num_machines']!r}; the processes of a run share one machine")
    if not kind.startswith("MULTI_"):
        raise Refused(
            f"{where}: distributed_type is {kind!r}; every process holds the whole model, as MULTI_GPU has it. A model "
            "or optimiser divided over processes could be neither saved nor resumed"
        )
    if str(precision := content.get("mixed_precision", "no")).lower() not in ("no", "none"):
        raise Refused(
            f"{where}: mixed_precision is {precision!r}; take 'no': methods choose their precision by the hardware, in "
            "several processes as in one"
        )
    if kind == "MULTI_CPU" and not content.get("mpirun_config"):
        raise UsageError(
            f"{where}: distributed_type is 'MULTI_CPU', of which accelerate starts one process where there is no "
            "mpirun_config; MULTI_GPU starts them all, on CPUs where the run's device is cpu"
        )


def hand_over(folder: Path, launch: dict[str, Any]) -> None:
    """Let a launcher's processes train the run in a folder; they have journalled what came of it when this returns.

    Raises:
        BenchError: If they failed. All of them have ended, or end now.
    """
    training = folder / "training"
    # A port that is free, unless the file names one: two runs may share a machine.
    write_atomically(training / CONFIG, json.dumps({"main_process_port": 0} | launch, indent=1) + "\n")
    (training / FAILURE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(training / CONFIG)]
    command += ["-m", "bench.run.launch_worker", str(folder), str(os.getpid())]
    with (training / LOG).open("ab") as log:
        launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            status = launcher.wait()
        except BaseException:
            launcher.terminate()
            launcher.wait()
            raise
    if status:
        reason = f"accelerate launch ended with status {status}"
        # Empty where the process that was to write it was ended first.
        if (training / FAILURE).exists() and (said := (training / FAILURE).read_text().strip()):
            reason = said.splitlines()[-1]
        raise BenchError(f"a training process failed: {reason} (see {training / LOG})")
