"""Fork server of one worker: forks a candidate and a checker for each job, and ends them in time.

For each job the server receives a descriptor and a time limit, but never code, tests or verdicts. Every candidate
inherits the server's memory, so this memory must not contain anything about other jobs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from . import candidate, checker
from .confinement import MOUNTS, SECCOMP, Confinement

if sys.platform == "linux":
    from . import linux, mounts

# Modules that short programs often import. They are imported here once, so that each program starts faster.
_WARM = (
    "abc array base64 bisect calendar cmath collections contextlib copy dataclasses datetime decimal difflib"
    " enum fractions functools hashlib heapq io itertools json logging math numbers operator queue random re"
    " statistics string struct textwrap threading time traceback types typing unicodedata uuid"
)

# Parts of packages that are imported on first use, which programs and tests cannot do.
_PARTS = {"numpy": ("numpy.testing",)}

READY = b"ready"
LIMIT = struct.Struct("=d")
ENDING = struct.Struct("=?ii")


class Ending(NamedTuple):
    """End of a job: whether it timed out, and the wait statuses of its processes."""

    timed_out: bool
    checker: int
    candidate: int


def main(arguments: list[str]) -> None:
    """Serve jobs until the host closes the control socket, which is standard input.

    Args:
        arguments: Names of the confinement layers, and packages that tests import, each as `name=folder` with the
            folder that it is imported from.
    """
    layers = [argument for argument in arguments if "=" not in argument]
    control = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)  # /dev/null
    for name in _WARM.split():
        importlib.import_module(name)
    folders = _import(argument.split("=", 1) for argument in arguments if "=" in argument)
    os.environ.clear()
    if sys.platform == "linux":
        # Without seccomp, a program may fork, and its processes are found in /proc.
        if MOUNTS in layers and SECCOMP in layers:
            mounts.enter(folders)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    confinement = Confinement(layers, folders)
    gc.collect()
    gc.freeze()
    control.sendall(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LIMIT.size, 1)
        if not message:
            return
        (verdict,) = descriptors
        (seconds,) = LIMIT.unpack(message)
        ending = _run(control, verdict, confinement, seconds)
        control.sendall(ENDING.pack(*ending))


def _import(packages: Iterable[list[str]]) -> list[Path]:
    """Import packages, and return the folders of all modules that came with them.

    Tests find the packages imported. The folders that they are installed in are not on the path of programs or tests.
    """
    installed = {}
    for name, folder in packages:
        installed[folder] = Path(folder)
        sys.path.append(folder)
        for module in (name, *_PARTS.get(name, ())):
            importlib.import_module(module)
        sys.path.remove(folder)
    files = [Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    found = set()
    for root in installed.values():
        for name in {file.relative_to(root).parts[0] for file in files if root in file.parents}:
            found |= {path for path in (root / name, root / f"{name}.libs") if path.exists()}
    return sorted(found)


def _run(control: socket.socket, verdict: int, confinement: Confinement, seconds: float) -> Ending:
    ours, theirs = socket.socketpair()
    # Only the checker holds the writing end, so the reading end becomes readable when the checker has ended.
    alive, lifeline = os.pipe()
    children = []
    try:
        children.append(_fork(candidate.main, theirs.fileno(), confinement, seconds))
        theirs.close()
        inherited = (control.fileno(), alive)
        children.append(_fork(checker.main, ours.fileno(), verdict, confinement, seconds, close=inherited))
        for descriptor in (lifeline, verdict):
            os.close(descriptor)
        ours.close()
        ready, _, _ = select.select([alive, control.fileno()], [], [], seconds)
    finally:
        os.close(alive)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    _reap_strays()
    return Ending(not ready, statuses[1], statuses[0])


def _fork(body: Callable[..., None], *args: object, close: tuple[int, ...] = ()) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        if sys.platform == "linux":
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        for descriptor in close:
            os.close(descriptor)
        _renew_standard_streams()
        if os.getppid() == parent:
            body(*args)
    finally:
        os._exit(0)


def _renew_standard_streams() -> None:
    """Open /dev/null anew. Processes that share an open file share its status flags, and so could leave messages."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _reap_strays() -> None:
    """Kill processes that a candidate forked, which is possible without a seccomp filter."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(ChildProcessError, OSError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
