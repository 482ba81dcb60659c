"""Candidate process: runs the program, and holds only one end of a socket to the checker.

This process is not trusted once the program has run, because the program may have replaced any of its code.
"""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from . import raised
from .confinement import Confinement
from .operations import BASES, OPERATIONS, PREFIX
from .peer import Peer

MODULE = "program"
_KEPT = 1 << 16  # bytes of output


def main(descriptor: int, confinement: Confinement, seconds: float) -> None:
    """Run the program that the checker sends, and answer calls of its functions until killed."""
    confinement.apply(seconds)
    os.dup2(descriptor, 3)
    os.closerange(4, 256)
    sys.argv = [MODULE]
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = _STREAM  # type: ignore[misc]
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    peer = _Program(3, module)
    peer.send({"ready": True})
    job = peer.receive()
    code, peer.objects = job["code"], job["objects"]
    try:
        exec(compile(code, "<program>", "exec"), vars(module))
        outcome: dict[str, Any] = {"loaded": True}
    except BaseException as error:
        outcome = raised.message(error)
    peer.send(outcome | {"printed": _TAIL.take()})
    while True:
        peer.answer(peer.receive())


class _Program(Peer):
    """The candidate's end of the socket. It serves the functions that the program defines, and holds its objects."""

    def __init__(self, descriptor: int, module: types.ModuleType) -> None:
        super().__init__(descriptor)
        self.objects = False  # whether the test names classes of the program
        self._module = module
        self._objects: list[Any] = []
        self._places: dict[int, int] = {}

    def find(self, target: str) -> Callable[..., Any]:
        own: dict[str, Callable[..., Any]] = {"class": self._class, f"{PREFIX}exit": self._exit}
        if target in own:
            return own[target]
        table, name = (OPERATIONS, target.removeprefix(PREFIX)) if target.startswith(PREFIX) else (None, target)
        try:
            function: Callable[..., Any] = (vars(self._module) if table is None else table)[name]
        except KeyError:
            raise NameError(f"the program does not define {target!r}") from None
        return function

    def told(self, target: str | int, name: str) -> Any:
        return getattr(self._value(target), name)

    def hold(self, value: Any, last: bool) -> list[Any] | None:
        # If the test names classes, their objects are held even if they are plain values, or iterators, too. So are
        # context managers: those of `contextlib` can be called, and are more than functions.
        own = type(value).__module__ == MODULE and (self.objects or callable(value))
        own = own or hasattr(type(value), "__enter__")
        if not (last or own or isinstance(value, _Held)):
            return None
        if isinstance(value, _Held):
            value = value.content
        number = self._places.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return [number, type(value).__name__, isinstance(value, BASES)]

    def held(self, *parts: Any) -> Any:
        return self._objects[parts[0]]

    def own_exception(self, name: object) -> type[BaseException] | None:
        """Return the program's exception class of this name, which the test may raise in a function or generator."""
        found = vars(self._module).get(name) if isinstance(name, str) else None
        return found if isinstance(found, type) and issubclass(found, BaseException) else None

    def _class(self, name: str) -> Any:
        """Return a class of the program, or the name of its nearest built-in class if it is an exception."""
        found = self._served(name)
        if not isinstance(found, type):
            return None, None
        if issubclass(found, BaseException):
            base = next(kind.__name__ for kind in found.__mro__ if kind.__module__ == "builtins")
            return None, base
        return _Held(found), None

    def _exit(self, value: Any, error: dict[str, Any] | None) -> bool:
        """Leave the context of an object, with the exception of a message; return whether that ends here."""
        return bool(OPERATIONS["exit"](value, *([] if error is None else [self._rebuilt(error)])))

    def take_printed(self) -> str:
        return _TAIL.take()


class _Held(NamedTuple):
    """Class of the program, which is sent as an object although it can be called."""

    content: type


class _Tail(io.RawIOBase):
    """Standard stream that keeps the last bytes written to it."""

    name = "<stdout>"

    def __init__(self) -> None:
        super().__init__()
        self._bytes = bytearray()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._bytes += view[-_KEPT:]
        if len(self._bytes) > 2 * _KEPT:
            del self._bytes[:-_KEPT]
        return view.nbytes

    def take(self) -> str:
        """Return the kept text, and clear it."""
        text = self._bytes[-_KEPT:].decode("utf-8", "backslashreplace")
        self._bytes.clear()
        return text


# The fork server makes the stream, and holds the inherited ones, because to make and to close them takes time for each
# program.
_INHERITED = sys.stdout, sys.stderr
_TAIL = _Tail()
_STREAM = io.TextIOWrapper(_TAIL, encoding="utf-8", errors="backslashreplace", write_through=True)
