"""Answering questions in a process of its own, so that a scorer that takes for ever or all memory costs one answer.

The process lives on from question to question and is started anew when it is lost. It imports what it needs once, and
the harness never does.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import BenchError

CPU_SECONDS = 3.0
MEMORY = 4 << 30
# A process that waits for a processor is not slow; one that does not answer in so many times its limit is lost.
_PATIENCE = 20

Question = dict[str, Any]


class TooSlow(Exception):
    """A question took more than its time or memory."""


class Unanswerable(Exception):
    """What the process says to a question that has no answer; the text is for the user."""


class Process:
    """The side that asks.

    Args:
        module: Run as a script, it calls `serve`.
        missing: What to tell the user where the module cannot import what it needs.
    """

    def __init__(self, module: str, *, missing: str) -> None:
        self._module, self._missing = module, missing
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        # For what libraries write where they work.
        self._folder: TemporaryDirectory[str] | None = None
        atexit.register(self.stop)

    def ask(self, question: Question, *, seconds: float = CPU_SECONDS) -> Any:
        """Return the answer.

        Args:
            question: What `serve` is to answer; JSON.
            seconds: Processor time that it may take.

        Raises:
            TooSlow: If it took more time or memory, or the process was lost over it.
            Unanswerable: If the other side raised that.
            BenchError: If the process cannot import what it needs.
        """
        with self._lock:
            reply = self._reply({"question": question, "seconds": seconds}, seconds)
            if reply["status"] in ("missing", "lost"):
                self.stop()
        match reply["status"]:
            case "ok":
                return reply["found"]
            case "unanswerable":
                raise Unanswerable(reply["reason"])
            case "missing":
                raise BenchError(self._missing)
        raise TooSlow(f"more than {seconds:.0f} s or {MEMORY >> 30} GiB")

    def stop(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.communicate()

    def _reply(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(message).encode() + b"\n")
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], _PATIENCE * seconds)
            line = child.stdout.readline() if ready else b""
        except OSError:
            line = b""
        reply: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"status": "lost"}
        return reply

    def _started(self) -> subprocess.Popen[bytes]:
        # A child of another process, left over from before a fork, must not be shared.
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self._folder = self._folder or TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
            named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            path = os.pathsep.join(map(os.path.abspath, [str(Path(__file__).parents[1]), *named]))
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                # Libraries go through sets, whose order must be the same in every process.
                env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            )
            self._owner = os.getpid()
        return self._child


class _OutOfTime(BaseException):
    """Not an Exception, which what is called would catch."""


def serve(answer: Callable[[Question], Any], modules: Sequence[str]) -> None:
    """Answer one question a line until there are no more.

    Args:
        answer: Returns JSON, or raises `Unanswerable`; whatever else it raises makes the answer None.
        modules: What to import first.
    """
    # Whatever a library prints is no answer.
    replies, sys.stdout = sys.stdout, sys.stderr
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def out_of_time(*_: object) -> None:
        raise _OutOfTime

    signal.signal(signal.SIGVTALRM, out_of_time)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for module in modules:
            __import__(module)
    except ImportError:
        print(json.dumps({"status": "missing"}), file=replies, flush=True)
        return
    for line in sys.stdin:
        message = json.loads(line)
        print(json.dumps(_answered(answer, message["question"], message["seconds"])), file=replies, flush=True)


def _answered(answer: Callable[[Question], Any], question: Question, seconds: float) -> dict[str, Any]:
    # Of this process's own time, so that a busy machine changes no verdict.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return {"status": "ok", "found": answer(question)}
    except Unanswerable as error:
        return {"status": "unanswerable", "reason": str(error)}
    except (_OutOfTime, MemoryError):
        return {"status": "slow"}
    except Exception:  # of a library that was given anything
        return {"status": "ok", "found": None}
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
