"""How strongly this system can confine judged code, found by trying what must fail."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass

from bench.errors import Refused
from bench.sandbox.inside.lock import LANDLOCK, LAYERS, RLIMITS, SECCOMP
from bench.sandbox.launch import command, environment

SPLIT = "split"
LEVELS = ("split+landlock+seccomp", "split+seccomp", "split", "none")


@dataclass(frozen=True)
class Strength:
    """What confines judged code here.

    Attributes:
        layers: `split` (program and test in two processes), `rlimits`, `landlock`, `seccomp`: None for one
            that holds, else the reason why it is missing.
    """

    layers: dict[str, str | None]

    @property
    def level(self) -> str:
        """The strongest of `LEVELS` that holds."""
        return level(self.present)

    @property
    def present(self) -> frozenset[str]:
        """The layers that hold."""
        return frozenset(layer for layer, reason in self.layers.items() if reason is None)

    def require(self, *, allow_unsandboxed: bool = False) -> None:
        """Checks that model-written code may be run here.

        Raises:
            Refused: The level is below `split+seccomp` and that was not allowed, or nothing can be judged.
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
    """Names the level that a set of layers makes."""
    if SPLIT not in layers:
        return "none"
    if SECCOMP not in layers or RLIMITS not in layers:
        return "split"
    return "split+landlock+seccomp" if LANDLOCK in layers else "split+seccomp"


@functools.cache
def probe() -> Strength:
    """Measures which layers hold on this system, once per process; it judges no code."""
    return examine(LAYERS)


def examine(layers: Collection[str]) -> Strength:
    """Has a child put on some layers and try what each must make fail."""
    if not hasattr(os, "fork"):
        return _none(f"{sys.platform} is not supported: it cannot fork")
    try:
        child = subprocess.run(
            command("trial", *layers),
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
