"""Child process of the probe: confines itself, and tries actions that must fail.

The attempts are necessary because a layer can be applied without an error and still have no effect.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from .confinement import ADDRESS_SPACE, LANDLOCK, LAYERS, MOUNTS, RLIMITS, SECCOMP, Confinement

if sys.platform == "linux":
    from . import mounts

_DENIALS = (errno.EPERM, errno.EACCES, errno.ENOMEM)


def main(layers: list[str]) -> None:
    """Apply layers, and print a JSON object with the reason for each layer that does not work.

    Example output: `{"landlock": "a child could read a file"}`.

    Args:
        layers: Names of the layers to apply.
    """
    reasons = {}
    if reason := _in_child(lambda: _reason_against_mounts(MOUNTS in layers)):
        reasons[MOUNTS] = reason
    for layer in (layer for layer in LAYERS if layer in layers and layer != MOUNTS):
        try:
            Confinement([layer]).apply(60.0)
        except OSError as error:
            reasons[layer] = str(error)
    for layer, attempts in _ATTEMPTS.items():
        done = [what for what, attempt in attempts.items() if not _denied(attempt)]
        if done:
            reasons.setdefault(layer, f"a child could {', '.join(done)}")
    os.write(sys.stdout.fileno(), json.dumps(reasons).encode())
    os._exit(0)


def _in_child(examine: Callable[[], str]) -> str:
    """Return what a function returns in a forked process, whose namespace it may change."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, examine().encode())
        os._exit(0)
    os.close(write)
    text = os.read(read, 4096).decode()
    os.close(read)
    os.waitpid(pid, 0)
    return text


def _reason_against_mounts(apply: bool) -> str:
    if sys.platform != "linux":
        return f"{sys.platform} has no mount namespaces"
    try:
        if apply:
            mounts.enter()
    except OSError as error:
        return f"this system does not let a process have its own mounts ({error.strerror})"
    seen = [path for path in (__file__, "/proc/self", "/etc/passwd") if os.path.lexists(path)]
    return f"a child could see {', '.join(seen)}" if seen else ""


def _denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in _DENIALS
    except ValueError:
        return True  # setrlimit raises it for EPERM
    return False


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


# Attempts that are harmless if they are not denied.
_ATTEMPTS: dict[str, dict[str, Callable[[], object]]] = {
    RLIMITS: {"map twice the memory": lambda: mmap.mmap(-1, 2 * ADDRESS_SPACE).close()},
    LANDLOCK: {
        "read a file": lambda: os.close(os.open(__file__, os.O_RDONLY)),
        "list a folder": lambda: next(Path("/").iterdir()),
    },
    SECCOMP: {
        "fork": _fork,
        "execute": lambda: os.execv("/nonexistent", ["nonexistent"]),
        "make a network socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "make a local socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "send a signal": lambda: os.kill(os.getpid(), 0),
        "change a file's mode": lambda: Path("/nonexistent").chmod(0),
        "open a file for writing": lambda: os.close(os.open(__file__, os.O_WRONLY)),
        "set a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    },
}
