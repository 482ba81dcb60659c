"""Environment of each attempt of a run: versions, hardware, commit. For information only; no result depends on it."""

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
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": _device_name(config.device),
        "engines": asdict(engines),
        "commit": _commit(),
        "seed": config.seed,
        "packages": versions,
    }
    write_atomically(folder / f"{number}.json", json.dumps(attempt, indent=1) + "\n")


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu"


def _commit() -> str | None:
    """Return the git commit of the source checkout; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
