"""What a start of a run ran on: versions, hardware, commit. For the reader; no figure depends on it."""

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

from bench.engines.cluster import Engines
from bench.records.files import write_atomically
from bench.records.schema import RunConfig

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "bench-post-training")


def write_attempt(folder: Path, config: RunConfig, engines: Engines) -> None:
    """Add a file for this start to a run's `attempts`.

    Raises:
        WriteFailed: If it cannot be written.
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
    """The commit of a source checkout; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
