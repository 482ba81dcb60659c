"""Process of one tracker, as the process of the run sees it. See `bench.track.__main__`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bench.imports import child_environment


class TrackerProcess:
    """Process of one tracker. It is killed when the block ends, if it is still running.

    Args:
        name: Name of the tracker.

    Attributes:
        where: Where the user finds the run; None until the process has ended, and if the tracker failed.
        error: Why the tracker failed; None until the process has ended, and if it succeeded.
        late: Whether it was stopped because it did not end in time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.where: str | None = None
        self.error: str | None = None
        self.late = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.track", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is for the run; the tracker ends after it
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        os.set_blocking(self._input.fileno(), False)

    def __enter__(self) -> TrackerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message. Return False if the pipe is full because the process does not read; the message is lost then.

        A message to a process that has ended is lost too.
        """
        try:  # the system writes a message of less than a page as a whole or not at all
            os.write(self._input.fileno(), json.dumps(message).encode() + b"\n")
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def send_last(self, message: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Send the last message.

        Args:
            message: The message.
            seconds: Maximum time to wait for room in the pipe.
        """
        deadline = time.monotonic() + seconds
        while not self.send(message) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._input.close()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the process, and stop it if it does not end in time.

        Args:
            seconds: Maximum time; None for no maximum.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.__exit__()
            self.late, self.error = True, "it did not end in time, and was stopped"
        self.look()

    def look(self) -> bool:
        """Return whether the process has ended, and read its outcome then."""
        if self._process.poll() is None:
            return False
        if self.where is None and self.error is None:
            assert self._process.stdout is not None
            outcome = {"error": f"its process ended with status {self._process.returncode}"}
            with suppress(ValueError):
                outcome = json.loads(self._process.stdout.read())
            self.where, self.error = outcome.get("where"), outcome.get("error")
        return True
