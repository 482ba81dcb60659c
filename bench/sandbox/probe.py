"""Probe of the sandbox's strength on this system: a child process tries actions that must fail."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass

from bench.errors import Refused
from bench.sandbox.inside.confinement import LANDLOCK, LAYERS, RLIMITS, SECCOMP
from bench.sandbox.launch import command, environment

SPLIT = "split"
LEVELS = ("split+landlock+seccomp", "split+seccomp", "split", "none")


@dataclass(frozen=True)
class Strength:
    """Layers that confine programs on this system.

    Attributes:
        layers: Each layer's name with None if it works, else the reason why it does not. The layers are `split`
            (program and test in two processes), `mounts` (other files do not exist), `rlimits`, `landlock` and
            `seccomp`. The level does not depend on `mounts`.
    """

    layers: dict[str, str | None]

    @property
    def level(self) -> str:
        """Strongest level of `LEVELS` that is available."""
        return level(self.present)

    @property
    def present(self) -> frozenset[str]:
        """Layers that work."""
        return frozenset(layer for layer, reason in self.layers.items() if reason is None)

    def require(self, *, allow_unsandboxed: bool = False) -> None:
        """Check that model-written code may run on this system.

        Args:
            allow_unsandboxed: Whether to accept level `split` too.

        Raises:
            Refused: If the level is `none`, or it is `split` and `allow_unsandboxed` is false.
        """
        rank = LEVELS.index(self.level)
        if rank <= LEVELS.index("split+seccomp") or (allow_unsandboxed and self.level != "none"):
            return
        missing = "; ".join(f"{layer}: {reason}" for layer, reason in self.layers.items() if reason)
        remedy = "Run on Linux 5.13 or newer (x86-64 or AArch64) where the container allows seccomp filters"
        if self.level != "none":
            remedy += ", or pass --allow-unsandboxed to let model-written code read files and use the network"
        raise Refused(f"Model-written code is not run at sandbox level {self.level!r} ({missing}). {remedy}.")


def level(layers: Collection[str]) -> str:
    """Return the level of a set of layers."""
    if SPLIT not in layers:
        return "none"
    if SECCOMP not in layers or RLIMITS not in layers:
        return "split"
    return "split+landlock+seccomp" if LANDLOCK in layers else "split+seccomp"


@functools.cache
def probe() -> Strength:
    """Test which layers work on this system, once per process. No model-written code is run."""
    return examine(LAYERS)


def examine(layers: Collection[str]) -> Strength:
    """Start a child process that applies some layers, and tries actions that each layer must block."""
    if not hasattr(os, "fork"):
        return _none(f"{sys.platform} is not supported: it cannot fork")
    try:
        child = subprocess.run(
            command("probe_child", *layers),
            env=environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        reasons = json.loads(child.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        last = (why.decode(errors="replace") if isinstance(why, bytes) else why).strip().splitlines()[-1:]
        return _none(f"the probe did not run: {''.join(last)}")
    return Strength({SPLIT: None} | {layer: reasons.get(layer) for layer in LAYERS})


def _none(reason: str) -> Strength:
    return Strength({SPLIT: reason, **dict.fromkeys(LAYERS, "not tried")})
