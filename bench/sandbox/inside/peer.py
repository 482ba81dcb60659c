"""Remote calls between checker and candidate. Each side may call functions that the other side has passed to it.

Both sides run the same code. The checker does not trust anything that it receives: a reply must contain the random
number of its call, values are rebuilt from data, and only functions that the test has passed can be called.

Example of the messages for `f([3, 1])`, where f sorts its argument and returns None:

    {"call": "5f3a...", "target": "f", "args": [[3, 1]], "kwargs": {}}
    {"changed": [[0, [1, 3]]], "value": null, "reply": "5f3a...", "printed": ""}

Both sides number the lists and other values of a call that can be changed, in the order in which `wire` encodes them. A
reply names the changed ones by their numbers, and so does a result that is one of them. If an iterator crosses, its
calls go on with these numbers: see `sharing`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

from . import raised, standins, wire
from .sharing import Shared

ATTRIBUTE = "attribute:"
"""Target under which each side tells attributes of its functions and iterators."""


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
        self._read = partial(os.read, descriptor)
        self._exported: list[Any] = []
        # Values that are shared as long as an iterator, by its number: those of this side, and those of the other.
        self._lent: dict[int, Shared] = {}
        self._borrowed: dict[str | int, Shared] = {}
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

    def remote(self, shared: Shared, kind: str, number: int) -> Any:
        """Return the stand-in of the other side's function, iterator or coroutine: the same one for the same value.

        Args:
            shared: Values that the two sides share at this moment.
            kind: Kind of the stand-in, a key of `standins.STAND_INS`.
            number: Number of the value on the other side.
        """
        if (kind, number) not in self._stand_ins:
            if kind in standins.ITERATORS:
                self._borrowed.setdefault(number, shared)
                shared.followed = True
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
            shared = self._borrowed.get(target) or Shared()
            export = partial(self._export, shared)
            try:
                trees = [wire.encode(value, export, self.hold, shared) for value in args]
                named = {name: wire.encode(value, export, self.hold, shared) for name, value in kwargs.items()}
                message = {"call": number, "target": target, "args": trees, "kwargs": named}
                if shared.followed:
                    message["changed"] = self._changes(shared, complete=False)
                    shared.note()
                self.send(message)
            except wire.WireError as error:
                if shared.followed:  # what this side noted, the other one will not know
                    self.fail("failed", f"cannot pass this argument to the program: {error}")
                raise TypeError(f"cannot pass this argument to the program: {error}") from None
            while "call" in (message := self.receive()):
                self.answer(message)
            if message.get("reply") != number:
                self.fail("failed", "the program broke the protocol: a reply to no call")
            return self._outcome(message, shared)

    def attribute(self, target: str | int, name: str) -> Any:
        """Return an attribute of a function or iterator of the other side."""
        try:
            return self.call(ATTRIBUTE, (target, name), {})
        finally:
            self.calls -= 1

    def told(self, target: str | int, name: str) -> Any:
        """Return an attribute that the other side asks for: a text that describes a function.

        Raises:
            AttributeError: If it is another attribute.
        """
        value = getattr(self._value(target), name, None) if name in standins.DESCRIBED else None
        if not isinstance(value, str):
            raise AttributeError(f"no attribute {name!r} here")
        return value

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
            self._outcome(message, Shared())
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
        shared = self._lent.get(target) if isinstance(target, int) else None
        shared, ended = shared or Shared(), True
        reply: dict[str, Any]
        try:
            function = self._served(target)
            remote = partial(self.remote, shared)
            values = [wire.decode(tree, remote, self.held, shared) for tree in (*args, *kw.values())]
            if changes := message.get("changed"):
                self._change(changes, shared)
            shared.note()
            result = function(*values[: len(args)], **dict(zip(kw, values[len(args) :], strict=True)))
            ended = target not in self._lent or standins.is_end(result)
            try:
                reply = {"value": wire.encode(result, partial(self._export, shared), self.hold, shared)}
            except wire.WireError as error:
                reply = {"unplain": str(error)}
        except Broken:
            raise
        except BaseException as error:
            reply = raised.message(error)
        reply |= {"reply": number, "printed": self.take_printed(), "changed": self._changes(shared, complete=ended)}
        if shared.followed:
            shared.note()
            reply["unused"] = shared.drop()
        try:
            self.send(reply)
        except wire.WireError as error:
            self.send({"reply": number, "unplain": str(error), "changed": []})

    def _changes(self, shared: Shared, *, complete: bool = True) -> list[Any]:
        """Return number and new tree of each shared value that this side changed; see `Shared.changed`."""
        changes = []
        for number in shared.changed(complete=complete):
            known, export = shared.count, partial(self._export, shared)
            try:
                changes.append([number, wire.encode(shared.values[number], export, self.hold, shared, again=True)])
            except wire.WireError:
                shared.cut(known)
        return changes

    def _change(self, changes: Any, shared: Shared) -> None:
        """Change shared values as the other side did.

        Raises:
            WireError: If this is no result of `_changes`.
            TypeError: If a value would become one of another kind.
        """
        found = []
        remote = partial(self.remote, shared)
        for change in changes:
            match change:
                case [int(number), tree] if number in shared.values:
                    found.append((number, wire.decode(tree, remote, self.held, shared, again=True)))
                case _:
                    raise wire.WireError("not a change of an argument")
        for number, new in found:
            shared.replace(number, new)

    def _served(self, target: str | int) -> Callable[..., Any]:
        if target == ATTRIBUTE:
            return self.told
        value = self._value(target)
        return value if isinstance(target, str) else standins.served(wire.remote_kind(value), value, self._rebuilt)

    def _value(self, target: str | int) -> Any:
        if isinstance(target, str):
            return self.find(target)
        if not 0 <= target < len(self._exported):
            self.fail("failed", "the program broke the protocol: it called a function it was not given")
        return self._exported[target]

    def _export(self, shared: Shared, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self._exported))
        if number == len(self._exported):
            self._exported.append(value)
            if wire.remote_kind(value) in standins.ITERATORS:
                self._lent[number] = shared
                shared.followed = True
        return number

    def _outcome(self, message: dict[str, Any], shared: Shared) -> Any:
        """Change the shared values as the other side did, and return the value of a reply or raise its exception."""
        value: Any = None
        error: BaseException | None = None
        try:
            match message:
                case {"value": tree}:
                    value = wire.decode(tree, partial(self.remote, shared), self.held, shared)
                case {"raise": _}:
                    error = self._rebuilt(message)
                case {"unplain": str(why)}:
                    self.fail("failed", f"the result cannot be judged: {why}")
                case _:
                    raise wire.WireError("not a reply")
            if changes := message.get("changed"):
                self._change(changes, shared)
            if shared.followed:
                for number in message.get("unused", ()):
                    if type(number) is int and number in shared.values:
                        shared.forget(number)
                shared.note()
        except (wire.WireError, TypeError, RecursionError, MemoryError) as violation:
            self.fail("failed", f"the program broke the protocol: {type(violation).__name__}: {violation}")
        if error is not None:
            raise error
        return value

    def _rebuilt(self, message: dict[str, Any]) -> BaseException:
        return raised.rebuilt(message, self.own_exception(message.get("own")))
