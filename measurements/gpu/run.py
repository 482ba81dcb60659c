"""Section `run`: a whole run of tiny-adder, which is part of the package. The run imports torch in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.records.schema import read_result
from measurements.gpu.schema import Found
from measurements.gpu.shapes import Setup

CLOSE = 0.05
"""Largest difference of the base's accuracy on two devices: near ties may be decided otherwise."""


def run(setup: Setup) -> Found:
    """Run corp on tiny-adder on the device and on the CPU, and compare the accuracies of base and result."""
    figures: dict[str, float] = {}
    devices = dict.fromkeys((setup.device, "cpu"))
    for device in devices:
        folder = Path(setup.folder) / f"run-{device.replace(':', '-')}"
        command = [sys.executable, "-m", "bench", "run", "-m", "corp", "-M", "tiny-adder", "-t", "addition"]
        options = ["--dtype", "float32", "--device", device, *setup.size.run, "-o", str(folder)]
        subprocess.run([*command, *options], check=True)
        (file,) = folder.rglob("result.json")
        base, trained = read_result(file.parent).rows[:2]
        figures |= {
            f"base on {device}, accuracy": base.accuracy.accuracy,
            f"corp on {device}, accuracy": trained.accuracy.accuracy,
        }
    off = abs(figures[f"base on {setup.device}, accuracy"] - figures["base on cpu, accuracy"])
    close = {f"the base's accuracy is the CPU's within {CLOSE:.0%}": off <= CLOSE}
    return Found(checks=close if len(devices) > 1 else {}, figures=figures)
