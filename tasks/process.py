"""Worker process with limits on time and memory, for scorers that may hang or exhaust memory.

A request over the limit fails alone. The process serves one request after another and is restarted when it dies. It
imports its libraries once; the harness never imports them.
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
# On a busy machine the process may wait long for a CPU. It counts as dead after this many times its limit of CPU time.
_PATIENCE = 20

Question = dict[str, Any]


class TooSlow(Exception):
    """Raised if a question takes more than its time or memory."""


class Unanswerable(Exception):
    """Raised if a question has no answer; the message is for the user."""


class Process:
    """Client of the worker process.

    Args:
        module: Module that calls `serve` when run as a script.
        missing: Message for the user if the module cannot import its libraries.
    """

    def __init__(self, module: str, *, missing: str) -> None:
        self._module, self._missing = module, missing
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        # Working directory of the process, for files that libraries write there.
        self._folder: TemporaryDirectory[str] | None = None
        atexit.register(self.stop)

    def ask(self, question: Question, *, seconds: float = CPU_SECONDS) -> Any:
        """Return the answer to a question.

        Args:
            question: JSON-serialisable question for `serve`.
            seconds: Limit of CPU time.

        Raises:
            TooSlow: If the question took more time or memory, or the process died.
            Unanswerable: If the worker raised it.
            BenchError: If the process cannot import its libraries.
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
        """Stop the process, if it runs."""
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
        # After a fork, the child process of the parent must not be shared.
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
                # Libraries iterate over sets, whose order must be the same in every process.
                env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            )
            self._owner = os.getpid()
        return self._child


class _OutOfTime(BaseException):
    """Raised by the timer. Not an Exception, because library code catches those."""


def serve(answer: Callable[[Question], Any], modules: Sequence[str]) -> None:
    """Read questions from standard input, one per line, and write the replies to standard output.

        {"question": {"latex": "1/2", "projective": false}, "seconds": 3.0}
        {"status": "ok", "found": "1/2"}

    Args:
        answer: Returns a JSON-serialisable answer, or raises `Unanswerable`. Any other exception makes the answer None.
        modules: Modules to import first.
    """
    # Libraries may print, so standard output is reserved for replies.
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
        print(json.dumps(_reply(answer, message["question"], message["seconds"])), file=replies, flush=True)


def _reply(answer: Callable[[Question], Any], question: Question, seconds: float) -> dict[str, Any]:
    # The timer counts CPU time of this process, so a busy machine does not change results.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return {"status": "ok", "found": answer(question)}
    except Unanswerable as error:
        return {"status": "unanswerable", "reason": str(error)}
    except (_OutOfTime, MemoryError):
        return {"status": "slow"}
    except Exception:  # libraries raise anything if given an arbitrary answer
        return {"status": "ok", "found": None}
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
