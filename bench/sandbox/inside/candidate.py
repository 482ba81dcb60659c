"""Candidate process: runs the program, and holds only one end of a socket to the checker.

This process is not trusted once the program has run, because the program may have replaced any of its code.
"""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from .confinement import Confinement
from .peer import Peer, exception_message

MODULE = "program"
_KEPT = 2000  # bytes of output


def main(descriptor: int, confinement: Confinement, seconds: float) -> None:
    """Run the program that the checker sends, and answer calls of its functions until killed."""
    confinement.apply(seconds)
    os.dup2(descriptor, 3)
    os.closerange(4, 256)
    os.environ.clear()
    sys.argv = [MODULE]
    tail = _Tail()
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
        tail, encoding="utf-8", errors="backslashreplace", write_through=True
    )
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    peer = _Program(3, module, tail)
    peer.send({"ready": True})
    code = peer.receive()["code"]
    try:
        exec(compile(code, "<program>", "exec"), vars(module))
        outcome: dict[str, Any] = {"loaded": True}
    except BaseException as error:
        outcome = exception_message(error)
    peer.send(outcome | {"printed": tail.take()})
    while True:
        peer.answer(peer.receive())


class _Program(Peer):
    """The candidate's end of the socket. It serves the functions that the program defines."""

    def __init__(self, descriptor: int, module: types.ModuleType, tail: _Tail) -> None:
        super().__init__(descriptor)
        self._module = module
        self._tail = tail

    def find(self, target: str) -> Callable[..., Any]:
        try:
            function: Callable[..., Any] = vars(self._module)[target]
        except KeyError:
            raise NameError(f"the program does not define {target!r}") from None
        return function

    def take_printed(self) -> str:
        return self._tail.take()


class _Tail(io.RawIOBase):
    """Standard stream that keeps the last bytes written to it."""

    name = "<stdout>"

    def __init__(self) -> None:
        super().__init__()
        self._bytes = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._bytes = (self._bytes + bytes(view[-_KEPT:]))[-_KEPT:]
        return view.nbytes

    def take(self) -> str:
        """Return the kept text, and clear it."""
        text = self._bytes.decode("utf-8", "backslashreplace")
        self._bytes = b""
        return text
