"""Environment of each attempt of a run: versions, hardware, commit. For information only; rounding depends on it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.engines.placement import Engines
from bench.records.config import RunConfig
from bench.records.files import write_atomically
from bench.records.schema import Processor

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "bench-post-training")


def write_attempt(folder: Path, config: RunConfig, engines: Engines) -> None:
    """Write the environment of this attempt to `attempts/<n>.json` of a run.

    Raises:
        WriteFailed: If the file cannot be written.
    """
    number = len(list(folder.glob("*.json"))) + 1 if folder.exists() else 1
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    attempt = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "pid": os.getpid(),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": _threads(),
        "processor": processor(config.device).model_dump(mode="json"),
        "engines": asdict(engines),
        "commit": _commit(),
        "seed": config.seed,
        "packages": versions,
    }
    write_atomically(folder / f"{number}.json", json.dumps(attempt, indent=1) + "\n")


def holder(folder: Path) -> str:
    """Return the process of the last attempt in a folder, if it still runs as far as this machine can tell.

    Example: `another process (4711 on gpu-3, since 2026-01-31T12:00:00+00:00)`.
    """
    other = "another process"
    try:
        last = max(folder.glob("*.json"), key=lambda path: int(path.stem))
        attempt = json.loads(last.read_text(encoding="utf-8"))
        pid, host, started = int(attempt["pid"]), attempt["host"], attempt["started"]
    except (OSError, ValueError, LookupError, TypeError):  # it has not written its attempt yet
        return other
    if host == platform.node() and not process_exists(pid):
        return other
    return f"{other} ({pid} on {host}, since {started})"


def process_exists(pid: int) -> bool:
    """Return whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)  # sends no signal
    except PermissionError:  # there is, and it belongs to another user
        return True
    except (OSError, OverflowError):
        return False
    return True


FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "sve", "bf16")
"""Instruction sets that decide which kernels compute products, by their names in /proc/cpuinfo."""


MODEL = {"cpu family": "family", "model": "model", "cpu implementer": "implementer", "cpu part": "part"}
"""Lines of /proc/cpuinfo that identify a model, of x86 and of Arm processors, and our words for them."""


def processor(device: str) -> Processor:
    """Return the kind of processor behind a torch device, and the version of torch.

    On Linux a CPU is described by /proc/cpuinfo. Elsewhere only its name is known.
    """
    import torch

    if device.startswith("cuda"):
        return Processor(name=torch.cuda.get_device_name(device), torch=torch.__version__)
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.exists() else []
    facts = {name.strip().lower(): value.strip() for name, _, value in lines}
    present = (facts.get("flags") or facts.get("features") or "").split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = (f"{label} {facts[key]}" for key, label in MODEL.items() if key in facts)
    return Processor(
        name=name,
        features=tuple(feature for feature in FEATURES if feature in present),
        model=", ".join(numbers) or None,
        torch=torch.__version__,
    )


def _threads() -> int:
    """Return the number of threads of an operation on the CPU. Sums over other numbers of parts round differently."""
    import torch

    return torch.get_num_threads()


def _commit() -> str | None:
    """Return the git commit of the source checkout; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
