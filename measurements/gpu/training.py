"""Section `flops`: steps of training, counted by the meter and by PyTorch's counter."""

from __future__ import annotations

from pathlib import Path

from bench.compute.ledger import hardware_flops
from measurements.gpu.engine import on_gpu
from measurements.gpu.schema import Found, Skipped
from measurements.gpu.shapes import Setup


def flops(setup: Setup) -> Found:
    """Count steps of GRPO and SFT with the meter and with PyTorch's counter, which must agree to the last FLOP."""
    try:
        from measurements import training
    except ImportError as error:
        raise Skipped(
            f"{error.name} is not installed; pip install -c requirements/cpu.txt '.[train]' installs it"
        ) from error
    checks: dict[str, bool] = {}
    figures: dict[str, float] = {}
    for name in ("grpo", "sft"):
        folder = Path(setup.folder) / name
        trainer = training.METHODS[name]("llama", folder, None, False, use_cpu=not on_gpu(setup.device))
        found = training.count(trainer)
        checks[f"{name}: the meter's FLOPs are the counter's"] = (
            hardware_flops(found.profile, found.work) == found.counter - found.masked
        )
        figures[f"{name}: meter by counter, ratio"] = found.ratio
    return Found(checks=checks, figures=figures)
