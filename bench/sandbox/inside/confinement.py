"""Confinement of a process: resource limits, no privileges, Landlock and seccomp, applied in this order."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection
from pathlib import Path

MOUNTS, RLIMITS, LANDLOCK, SECCOMP = LAYERS = ("mounts", "rlimits", "landlock", "seccomp")
"""All layers. That of mounts is entered by the fork server, once for all of its processes."""

ADDRESS_SPACE = 1 << 30
_OPEN_FILES = 64
_CPU_SLACK = 2  # seconds beyond the wall-clock limit, which should be reached first

if sys.platform != "win32":
    import resource
if sys.platform == "linux":
    from . import landlock, linux, seccomp, syscalls


class Confinement:
    """Confinement layers, prepared once in the forking process, so that each fork only has to apply them."""

    def __init__(self, layers: Collection[str], folders: Collection[Path] = ()) -> None:
        """Prepare layers.

        Args:
            layers: Names of the layers, of `LAYERS`.
            folders: Folders that may be read in addition to the standard library.

        Raises:
            OSError: If this system lacks one of them.
        """
        self._layers = layers
        self._rules = -1
        if sys.platform != "linux":
            if LANDLOCK in layers or SECCOMP in layers:
                raise OSError(f"{sys.platform} has neither Landlock nor seccomp")
            return
        if LANDLOCK in layers:
            self._rules = landlock.ruleset(folders)
        if SECCOMP in layers:
            machine = os.uname().machine
            if machine not in syscalls.AUDIT_ARCH:
                known = " and ".join(syscalls.AUDIT_ARCH)
                raise OSError(f"no system-call table for {machine}, only for {known}")
            self._filter = seccomp.prepare(seccomp.program(machine, read_only=LANDLOCK not in layers))

    def apply(self, seconds: float) -> None:
        """Confine this process permanently.

        Args:
            seconds: Wall-clock limit of the process in seconds. The limit on its CPU time is slightly higher.

        Raises:
            OSError: If the system refuses. The process may be partly confined then, and must end.
        """
        if RLIMITS in self._layers:
            _limit(resource.RLIMIT_AS, ADDRESS_SPACE)
            _limit(resource.RLIMIT_CPU, math.ceil(seconds) + _CPU_SLACK)
            _limit(resource.RLIMIT_FSIZE, 0)
            _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
            _limit(resource.RLIMIT_CORE, 0)
        if sys.platform != "linux":
            return
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        linux.drop_capabilities()
        if LANDLOCK in self._layers:
            landlock.restrict(self._rules)
            os.close(self._rules)
        if SECCOMP in self._layers:
            seccomp.install(self._filter)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(which, (value, value))
    except ValueError as error:
        raise OSError(str(error)) from None
