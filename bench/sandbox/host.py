"""Caller's side of the sandbox: a pool of warm workers, which are replaced when they are lost."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import importlib.util
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import BenchError
from bench.sandbox.inside import wire
from bench.sandbox.inside.server import ENDING, LIMIT, READY, Ending
from bench.sandbox.launch import command, environment
from bench.sandbox.probe import SPLIT, level, probe
from bench.sandbox.program import Program, Status, Verdict
from bench.sandbox.timeout import default_timeout

_START_TIMEOUT = 60.0
_GRACE = 10.0  # seconds after a job's time limit at which its fork server counts as lost


class LostError(Exception):
    """The fork server ended, or did not end a job in time."""


class Outcome(NamedTuple):
    """Result of one program, with fields as in `Verdict`."""

    status: Status
    detail: str
    output: str | None = None


@contextlib.contextmanager
def _opening() -> Iterator[None]:
    """Report that this process has no descriptor left. That is not the fault of a program or of a fork server."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise BenchError(f"the sandbox cannot open a socket: {error.strerror}; raise the limit (ulimit -n)") from None


class Worker:
    """A warm fork server that judges one program at a time."""

    def __init__(self, layers: Collection[str], packages: Collection[str] = ()) -> None:
        """Start the fork server.

        Args:
            layers: Confinement layers to apply, of `bench.sandbox.inside.confinement.LAYERS`.
            packages: Packages that tests import.

        Raises:
            LostError: If it does not start.
            BenchError: If this process has too many files open.
        """
        with _opening():
            self._control, theirs = socket.socketpair()
        with contextlib.ExitStack() as failed, theirs, _opening():
            failed.callback(self._control.close)
            # Spawn a new interpreter: the caller may hold gigabytes and have threads, so it must not be forked.
            self._process = subprocess.Popen(
                command("server", *layers, *(f"{name}={_folder(name)}" for name in packages)),
                env=environment(),
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            failed.pop_all()
        try:
            self._receive(len(READY), _START_TIMEOUT)
        except LostError:
            self.close()
            raise

    def judge(self, frame: bytes, seconds: float) -> Outcome:
        """Judge one program.

        Args:
            frame: Encoded job for the checker.
            seconds: Wall-clock limit in seconds.

        Raises:
            LostError: If the fork server is lost. The worker must be closed then.
            BenchError: If this process has too many files open.
        """
        with _opening():
            ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    self._control.settimeout(_GRACE)
                    socket.send_fds(self._control, [LIMIT.pack(seconds)], [theirs.fileno()])
            except OSError:
                raise LostError("the fork server does not accept jobs") from None
            ours.settimeout(seconds + _GRACE)
            verdict: dict[str, Any] | None = None
            # A checker that cannot be confined reports this without reading its job.
            with contextlib.suppress(OSError):
                ours.sendall(frame)
            # If there is no verdict, `_conclude` uses the exit statuses instead.
            with contextlib.suppress(OSError, EOFError):
                verdict = wire.receive(ours.recv)
        ending = Ending(*ENDING.unpack(self._receive(ENDING.size, seconds + _GRACE)))
        return _conclude(verdict, ending, seconds)

    def close(self) -> None:
        """Stop the fork server and its children."""
        self._control.close()
        try:
            # The server ends its children and itself when the control socket is closed.
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self, size: int, seconds: float) -> bytes:
        self._control.settimeout(seconds)
        data = b""
        while len(data) < size:
            try:
                part = self._control.recv(size - len(data))
            except OSError as error:
                raise LostError(f"the fork server does not answer: {error}") from None
            if not part:
                raise LostError("the fork server ended")
            data += part
        return data


def _conclude(verdict: dict[str, Any] | None, ending: Ending, seconds: float) -> Outcome:
    if verdict is None:
        if ending.timed_out:
            return Outcome("timeout", f"no verdict within {seconds:g} s")
        if os.WIFSIGNALED(ending.checker) and os.WTERMSIG(ending.checker) == signal.SIGKILL:
            return Outcome("infrastructure", "the checker was killed")
        return Outcome("crashed", f"the checker ended without a verdict, {_exit_description(ending.checker)}")
    if verdict["status"] == "crashed":
        return Outcome("crashed", f"{verdict['detail']}, {_exit_description(ending.candidate)}")
    return Outcome(**verdict)


def _exit_description(wait_status: int) -> str:
    code = os.waitstatus_to_exitcode(wait_status)
    return f"exit status {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"


class WorkerPool:
    """Pool of warm workers with the same confinement layers."""

    def __init__(self, layers: Collection[str]) -> None:
        """Create an empty pool. Workers are started on demand.

        Args:
            layers: Layers that work on this system, from `Strength.present`.
        """
        self.level = level(layers)
        self._layers = sorted(set(layers) - {SPLIT})
        self._idle: defaultdict[tuple[str, ...], queue.LifoQueue[Worker]] = defaultdict(queue.LifoQueue)

    def judge(
        self,
        programs: Sequence[Program],
        *,
        workers: int,
        on_verdict: Callable[[int, Verdict], None] | None = None,
    ) -> list[Verdict]:
        """Judge programs. See `bench.sandbox.judge`."""
        verdicts: dict[int, Verdict] = {}
        with ThreadPoolExecutor(workers, "judge") as threads:
            futures = {threads.submit(self.judge_one, program): i for i, program in enumerate(programs)}
            try:
                for future in as_completed(futures):
                    index = futures[future]
                    verdicts[index] = future.result()
                    if on_verdict is not None:
                        on_verdict(index, verdicts[index])
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return [verdicts[i] for i in range(len(programs))]

    def judge_one(self, program: Program) -> Verdict:
        """Judge one program, and repeat it on a new worker if the first one is lost."""
        seconds = default_timeout() if program.timeout is None else program.timeout
        start = time.monotonic()
        outcome = self._attempt(program, seconds, fresh=False)
        if outcome.status == "infrastructure":
            outcome = self._attempt(program, seconds, fresh=True)
        return Verdict(outcome.status, outcome.detail, time.monotonic() - start, self.level, outcome.output)

    def close(self) -> None:
        """Stop the idle workers."""
        for idle in self._idle.values():
            with contextlib.suppress(queue.Empty):
                while True:
                    idle.get_nowait().close()

    def _attempt(self, program: Program, seconds: float, *, fresh: bool) -> Outcome:
        job = {name: getattr(program, name) for name in ("prompt", "code", "test", "entry_point")}
        job["classes"] = list(program.classes)
        try:
            frame = wire.dumps(job)
        except wire.WireError as error:
            return Outcome("failed", f"the program with its test is too long: {error}")
        try:
            worker = Worker(self._layers, program.packages) if fresh else self._take(program.packages)
        except LostError as lost:
            return Outcome("infrastructure", str(lost))
        try:
            outcome = worker.judge(frame, seconds)
        except LostError as lost:
            worker.close()
            return Outcome("infrastructure", str(lost))
        except BenchError:
            worker.close()
            raise
        if outcome.status == "infrastructure":
            worker.close()
        else:
            self._idle[program.packages].put(worker)
        return outcome

    def _take(self, packages: tuple[str, ...]) -> Worker:
        try:
            return self._idle[packages].get_nowait()
        except queue.Empty:
            return Worker(self._layers, packages)


@functools.cache
def _folder(package: str) -> Path:
    """Return the folder that a package is imported from.

    Raises:
        BenchError: If the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BenchError(f"the tests import {package}, which is not installed: pip install {package}")
    return Path(spec.origin).parents[1]


_pool: WorkerPool | None = None
_pool_lock = threading.Lock()


def judge(
    programs: Sequence[Program],
    *,
    workers: int | None = None,
    allow_unsandboxed: bool = False,
    on_verdict: Callable[[int, Verdict], None] | None = None,
) -> list[Verdict]:
    """Run each program's test, and return verdicts that the programs cannot forge.

    Program and test run in two processes that share only a socket for plain values, and the verdict comes from the
    test's process. Workers stay warm for the next call, and end with this process. The function is thread-safe.

    Args:
        programs: Programs to judge.
        workers: Number of programs to judge at the same time; None for the number of usable CPU cores.
        allow_unsandboxed: Whether to run programs even if they could read files or use the network.
        on_verdict: Called in this thread with index and verdict of each program, in order of completion.

    Returns:
        Verdicts in the order of the programs.

    Raises:
        Refused: If the sandbox on this system is weaker than `split+seccomp` and `allow_unsandboxed` is false, or if
            programs cannot be judged here at all.
        BenchError: If a package that a test imports is not installed, or this process has too many files open.
    """
    global _pool
    strength = probe()
    strength.require(allow_unsandboxed=allow_unsandboxed)
    if not programs:
        return []
    for name in {name for program in programs for name in program.packages}:
        _folder(name)
    with _pool_lock:
        pool = _pool = _pool or WorkerPool(strength.present)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return pool.judge(programs, workers=workers or cores, on_verdict=on_verdict)


@atexit.register
def _close() -> None:
    if _pool is not None:
        _pool.close()


def _drop_pool() -> None:
    """Drop the pool in a forked copy of this process, which must not share its workers."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_pool)
