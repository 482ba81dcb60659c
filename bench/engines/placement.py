"""Number and location of the engines: one here, several child processes, or actors on a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec

from bench.errors import Refused, UsageError

COPIES = 4
"""Copies of the weights that an engine holds at most: base, current, packed, and a centre or directions made ahead."""
MEMORY_SHARE = 0.5
"""Part of the free memory that the engines may take."""


@dataclass(frozen=True)
class Engines:
    """Number and location of the engines. Not part of a run's identity, because results do not depend on it.

    A budget of device time is the exception: it becomes FLOPs at the speed of these engines.

    Attributes:
        count: Number of engines; None chooses by `resolve`.
        address: Address of a Ray cluster; None for this machine.
    """

    count: int | None = 1
    address: str | None = None

    @property
    def here(self) -> bool:
        """True if one engine in this process is enough."""
        return self.count == 1 and self.address is None

    def require(self) -> None:
        """Check that Ray is installed if it is needed.

        Raises:
            Refused: If it is not installed.
            UsageError: If a cluster is named without a number of engines.
        """
        if self.address is None:
            return
        if self.count is None:
            raise UsageError(
                f"--ray-address {self.address}: say how many engines the cluster is to run, with --engines"
            )
        if find_spec("ray") is None:
            raise Refused(f"--ray-address {self.address} needs ray: pip install -c requirements/cpu.txt '.[ray]'")

    def resolve(self, *, backend: str, device: str, weight_bytes: int, small: bool) -> Engines:
        """Return the same with a number of engines.

        On CPUs every core gets an engine of one thread, as far as memory allows: two engines of one thread answered
        1.7 times as many prompts as one of two threads (SmolLM2, two cores; `python -m measurements.pool`). One engine
        serves on a GPU, for vLLM, which has a scheduler of its own, and for a model so small that starting processes
        takes longer than most runs.

        Args:
            backend: `transformers` or `vllm`.
            device: Torch device, such as `cuda:0`.
            weight_bytes: Size of one copy of the weights.
            small: Whether the model is that small.
        """
        if self.count is not None:
            return self
        if backend != "transformers" or not device.startswith("cpu") or small:
            return replace(self, count=1)
        import psutil

        affordable = int(MEMORY_SHARE * psutil.virtual_memory().available / (COPIES * weight_bytes))
        return replace(self, count=max(1, min(cores(), affordable)))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
