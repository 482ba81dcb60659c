"""Sections of the check, each in a process of its own with a time limit.

A section that raises an error, dies or takes too long fails alone. Its process group is killed, so that nothing
stays in the memory of the device.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.engines.vllm.support import DISTRIBUTIONS
from measurements.gpu.schema import Machine, Report, Section
from measurements.gpu.shapes import Setup

ROOT = Path(__file__).parents[2]
TOTAL = 480.0
"""Seconds of all sections together."""
LOG = 2000
"""Characters of a failed section's output that are kept."""
PACKAGES = (
    "bench-post-training",
    "numpy",
    "torch",
    "transformers",
    "numba",
    "accelerate",
    "peft",
    "trl",
    *DISTRIBUTIONS,
)


@dataclass(frozen=True)
class Planned:
    """A section to run.

    Attributes:
        name: Name of the section.
        target: Its function, as `module:function`. It takes a `Setup` and returns `Found`.
        limit: Seconds after which it is ended.
    """

    name: str
    target: str
    limit: float


SECTIONS = (
    Planned("model", "measurements.gpu.shapes:make", 30),
    Planned("moves", "measurements.gpu.moves:moves", 45),
    Planned("noise", "measurements.gpu.moves:noise", 20),
    Planned("texts", "measurements.gpu.engine:texts", 75),
    Planned("speed", "measurements.gpu.engine:speed", 70),
    Planned("flops", "measurements.gpu.training:flops", 35),
    Planned("memory", "measurements.gpu.engine:memory", 25),
    Planned("run", "measurements.gpu.run:run", 70),
    Planned("vllm", "measurements.gpu.vllm_engine:vllm", 200),
)
"""All sections in order. The last takes what time is left, up to its limit: vLLM starts slowly."""


def run_sections(planned: Sequence[Planned], setup: Setup, total: float = TOTAL) -> Iterator[Section]:
    """Run sections one after another, and yield each as it ends. Those that no time is left for fail.

    Args:
        planned: Sections in order.
        setup: Arguments of each.
        total: Seconds of all together.
    """
    end = time.monotonic() + total
    for section in planned:
        yield run_section(section, setup, min(section.limit, end - time.monotonic()))


def run_section(planned: Planned, setup: Setup, limit: float) -> Section:
    """Run a section in a process, and end it after a number of seconds."""
    about: dict[str, Any] = {"name": planned.name, "limit": planned.limit}
    if limit <= 0:
        return Section(**about, state="failed", seconds=0, reason="no time was left for it")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "outcome.json", Path(folder) / "log"
        arguments = [planned.target, json.dumps(asdict(setup)), str(path)]
        with log.open("wb") as output:
            # The child imports what this process does, also where the working directory is not searched.
            search = os.pathsep.join([*filter(None, sys.path), str(ROOT)])
            process = subprocess.Popen(
                [sys.executable, "-m", "measurements.gpu.child", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": search},
                start_new_session=True,
            )
            try:
                status: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_group(process)
        seconds = time.monotonic() - begun
        # A library may crash or hang as its process ends, after all has been measured.
        found = json.loads(path.read_text()) if path.exists() else {"error": death(status, limit)}
        printed = log.read_text(errors="replace")[-LOG:]
    return Section(**about, seconds=round(seconds, 2), **judged(found, printed))


def judged(found: dict[str, Any], log: str) -> dict[str, Any]:
    """Return state, reason and results of a section from its outcome."""
    if "skipped" in found:
        return {"state": "skipped", "reason": found["skipped"]}
    if "error" in found:
        return {"state": "failed", "reason": found["error"], "log": log}
    wrong = [name for name, true in found["checks"].items() if not true]
    if wrong:
        return {"state": "failed", "reason": f"not true: {'; '.join(wrong)}", "log": log, **found}
    return {"state": "passed", **found}


def death(status: int | None, limit: float) -> str:
    """Return why a process left no outcome."""
    if status is None:
        return f"not done after {limit:.1f} s"
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"the process ended without an outcome: {how}"


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check(
    device: str, shape: str, planned: Sequence[Planned], ended: Callable[[Report], None], total: float = TOTAL
) -> Report:
    """Run sections, and pass the report so far to `ended` after each of them.

    Args:
        device: Torch device.
        shape: Name of the shape of the random model.
        planned: Sections to run.
        ended: Called after each section.
        total: Seconds of all sections.
    """
    machine, begun, started = describe(device), datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    sections: list[Section] = []
    with tempfile.TemporaryDirectory() as folder:
        for section in run_sections(planned, Setup(device, shape, folder), total):
            sections.append(section)
            report = Report(
                shape=shape,
                begun=begun,
                seconds=round(time.monotonic() - started, 2),
                machine=machine,
                sections=tuple(sections),
                waiting=len(planned) - len(sections),
            )
            ended(report)
    return report


def describe(device: str) -> Machine:
    """Return what is known of this machine."""
    import psutil
    import torch

    name, memory = platform.machine(), psutil.virtual_memory().total
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    return Machine(
        device=device,
        name=name,
        memory=memory,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cuda=torch.version.cuda,
        packages={package: installed(package) for package in PACKAGES},
    )


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
