"""Remote calls between checker and candidate. Each side may call functions that the other side has passed to it.

Both sides run the same code. The checker does not trust anything that it receives: a reply must contain the random
number of its call, values are rebuilt from data, and only functions that the test has passed can be called.

Example of the messages for `f([3, 1])`, where f sorts its argument and returns None:

    {"call": "5f3a...", "target": "f", "args": [[3, 1]], "kwargs": {}}
    {"changed": [[0, [1, 3]]], "value": null, "reply": "5f3a...", "printed": ""}

Both sides number the lists and other values of a call that can be changed, in the order in which `wire` encodes them. A
reply names the changed ones by their numbers, and so does a result that is one of them.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from . import raised, standins, wire


class Broken(BaseException):
    """The other side ended or broke the protocol. A BaseException, so that `except Exception` does not catch it."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Peer:
    """One end of the socket between checker and candidate.

    Attributes:
        broken: The failure that ended the communication; None while it works.
        calls: Number of calls made to the other side.
        printed: Last output that the other side printed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = functools.partial(os.read, descriptor)
        self._exported: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._stand_ins: dict[tuple[str, int], Any] = {}
        self._turn = threading.RLock()
        self.broken: Broken | None = None
        self.calls = 0
        self.printed = ""

    def find(self, target: str) -> Callable[..., Any]:
        """Return the function to serve under a name. The base class serves none."""
        raise NameError(f"name {target!r} is not defined")

    def take_printed(self) -> str:
        """Return the text that this side printed since the last reply."""
        return ""

    def hold(self, value: Any, last: bool) -> list[Any] | None:
        """Return the parts by which the other side knows an object; see `wire.encode`. The base class holds none."""
        return None

    def held(self, *parts: Any) -> Any:
        """Return the object of some parts; see `wire.decode`. The base class holds none."""
        raise wire.WireError("not an object")

    def own_exception(self, name: object) -> type[BaseException] | None:
        """Return the stand-in of an exception class that the other side defines, if there is one."""
        return None

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        try:
            wire.send(self._descriptor, message)
        except OSError:
            self.fail("crashed", "the program ended")

    def receive(self) -> dict[str, Any]:
        """Wait for a message, and return it."""
        try:
            message = wire.receive(self._read)
        except (EOFError, OSError):
            self.fail("crashed", "the program ended before it answered")
        except (wire.WireError, MemoryError) as error:
            self.fail("failed", f"the program broke the protocol: {type(error).__name__}: {error}")
        if not isinstance(message, dict):
            self.fail("failed", "the program broke the protocol: a message is an object")
        printed = message.get("printed")
        if isinstance(printed, str) and printed:
            self.printed = (self.printed + printed)[-2000:]
            if sys.stdout is not sys.__stdout__:  # the test captures what the program prints
                sys.stdout.write(printed)
        return message

    def fail(self, status: str, detail: str) -> NoReturn:
        """End the communication permanently. The verdict no longer depends on the test."""
        self.broken = self.broken or Broken(status, detail)
        raise self.broken

    def function(self, target: str) -> Callable[..., Any]:
        """Return a proxy that calls the other side's function of this name."""
        return standins.Proxy(self, target)

    def remote(self, kind: str, number: int) -> Any:
        """Return the stand-in of the other side's function, iterator or coroutine: the same one for the same value."""
        if (kind, number) not in self._stand_ins:
            self._stand_ins[kind, number] = standins.STAND_INS[kind](self, number)
        return self._stand_ins[kind, number]

    def call(self, target: str | int, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function of the other side, and serve its calls until it replies.

        Args:
            target: Name of a function of the program, or number of a passed function.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            TypeError: If an argument is not a plain value.
            BaseException: The exception that the function raised, as the nearest built-in class.
            Broken: If the other side ended or broke the protocol.
        """
        args = list(args)
        with self._turn:
            if self.broken:
                raise self.broken
            self.calls += 1
            number = os.urandom(8).hex()
            shared: list[Any] = []
            try:
                trees = [wire.encode(value, self._export, self.hold, shared) for value in args]
                named = {name: wire.encode(value, self._export, self.hold, shared) for name, value in kwargs.items()}
                self.send({"call": number, "target": target, "args": trees, "kwargs": named})
            except wire.WireError as error:
                raise TypeError(f"cannot pass this argument to the program: {error}") from None
            while "call" in (message := self.receive()):
                self.answer(message)
            if message.get("reply") != number:
                self.fail("failed", "the program broke the protocol: a reply to no call")
            return self._outcome(message, shared)

    def load(self, code: str, *, objects: bool = False) -> None:
        """Let the other side run the program.

        Args:
            code: Source of the program.
            objects: Whether the other side may send objects that are no plain values.

        Raises:
            BaseException: The exception that the program raised, as the nearest built-in class.
            Broken: If the other side ended or broke the protocol.
        """
        self.send({"code": code, "objects": objects})
        message = self.receive()
        if message.get("loaded") is not True:
            self._outcome(message, [])
            self.fail("failed", "the program broke the protocol: not a reply")

    def answer(self, message: dict[str, Any]) -> None:
        """Serve one call of the other side."""
        match message:
            case {
                "call": str(number),
                "target": str() | int() as target,
                "args": list(args),
                "kwargs": dict(kw),
            }:
                pass
            case _:
                self.fail("failed", "the program broke the protocol: not a call")
        shared: list[Any] = []
        before: list[Any] = []
        changed = None
        reply: dict[str, Any]
        try:
            function = self._served(target)
            values = [wire.decode(tree, self.remote, self.held, shared) for tree in (*args, *kw.values())]
            before = [_content(value) for value in shared]
            result = function(*values[: len(args)], **dict(zip(kw, values[len(args) :], strict=True)))
            changed = self._changes(before, shared)
            try:
                reply = {"value": wire.encode(result, self._export, self.hold, shared)}
            except wire.WireError as error:
                reply = {"unplain": str(error)}
        except Broken:
            raise
        except BaseException as error:
            reply = raised.message(error)
        if changed is None:
            changed = self._changes(before, shared)
        reply |= {"reply": number, "printed": self.take_printed(), "changed": changed}
        try:
            self.send(reply)
        except wire.WireError as error:
            self.send({"reply": number, "unplain": str(error), "changed": []})

    def _changes(self, before: list[Any], shared: list[Any]) -> list[Any]:
        """Return number and new tree of each value that a call changed. The trees' own such values join `shared`."""
        changes = []
        for number, old in enumerate(before):
            new = _content(shared[number])
            if len(old) != len(new) or not all(map(operator.is_, old, new)):
                known = len(shared)
                try:
                    changes.append([number, wire.encode(shared[number], self._export, self.hold, shared, again=True)])
                except wire.WireError:
                    del shared[known:]
        return changes

    def _served(self, target: str | int) -> Callable[..., Any]:
        if isinstance(target, str):
            return self.find(target)
        if not 0 <= target < len(self._exported):
            self.fail("failed", "the program broke the protocol: it called a function it was not given")
        value = self._exported[target]
        return standins.served(wire.remote_kind(value), value, self._rebuilt)

    def _export(self, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self._exported))
        if number == len(self._exported):
            self._exported.append(value)
        return number

    def _outcome(self, message: dict[str, Any], shared: list[Any]) -> Any:
        """Copy changed arguments back, then return the value of a reply or raise its exception."""
        try:
            passed, changes = len(shared), []
            for change in message.get("changed", ()):
                match change:
                    case [int(number), tree] if 0 <= number < passed:
                        changes.append((shared[number], wire.decode(tree, self.remote, self.held, shared)))
                    case _:
                        raise wire.WireError("not a change of an argument")
            for old, new in changes:
                _replace_content(old, new)
            match message:
                case {"value": value}:
                    return wire.decode(value, self.remote, self.held, shared)
                case {"raise": _}:
                    error = self._rebuilt(message)
                case {"unplain": str(why)}:
                    self.fail("failed", f"the result cannot be judged: {why}")
                case _:
                    raise wire.WireError("not a reply")
        except (wire.WireError, TypeError, RecursionError, MemoryError) as violation:
            self.fail("failed", f"the program broke the protocol: {type(violation).__name__}: {violation}")
        raise error

    def _rebuilt(self, message: dict[str, Any]) -> BaseException:
        return raised.rebuilt(message, self.own_exception(message.get("own")))


def _content(value: Any) -> list[Any] | bytes:
    """Return the items of a value that can be changed: references to them, or the bytes of an array."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return bytes(value) if isinstance(value, (bytearray, array)) else list(value)


def _replace_content(old: Any, new: Any) -> None:
    """Give a value that can be changed the items of another one.

    Raises:
        TypeError: If they are not of the same kind.
    """
    kind: Any = next((kind for kind in (list, bytearray, array, deque, dict, set) if isinstance(old, kind)), None)
    if kind is None or not isinstance(new, kind):
        raise TypeError("a change of an argument keeps its kind")
    if kind in (list, bytearray, array):
        old[:] = new
        return
    old.clear()
    if kind is dict:  # Counter.update would count
        for key, item in new.items():
            old[key] = item
    elif kind is set:
        old.update(new)
    else:
        old.extend(new)
