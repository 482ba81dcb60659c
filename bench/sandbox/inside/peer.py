"""Remote calls between checker and candidate. Each side may call functions that the other side has passed to it.

Both sides run the same code. The checker does not trust anything that it receives: a reply must contain the random
number of its call, values are rebuilt from data, and only functions that the test has passed can be called.

Example of the messages for `f([3, 1])`, where f sorts its argument and returns None:

    {"call": "5f3a...", "target": "f", "args": [[3, 1]], "kwargs": {}}
    {"value": null, "reply": "5f3a...", "printed": "", "changed": [[0, [1, 3]]]}
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from . import wire

_TEXT = 10_000  # maximum number of characters of an exception argument
_EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


class Broken(BaseException):
    """The other side ended or broke the protocol. A BaseException, so that `except Exception` does not catch it."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Proxy:
    """Proxy of a function of the other side.

    No attribute but its name can be read. Otherwise "{0.__init__.__globals__}", which a program may pass to a `format`
    that a test gave it, would read the checker's memory.
    """

    __slots__ = ("_peer", "_target")

    def __init__(self, peer: Peer, target: str | int) -> None:
        self._peer, self._target = peer, target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; see `Peer.call`."""
        read = object.__getattribute__
        return read(self, "_peer").call(read(self, "_target"), args, kwargs)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            target = object.__getattribute__(self, "_target")
            return target if isinstance(target, str) else "function"
        if name == "__class__":
            return types.FunctionType
        if name == "__deepcopy__":
            return lambda memo: self
        raise AttributeError(f"a function of the program has no attribute {name!r} here")


class Peer:
    """One end of the socket between checker and candidate.

    Attributes:
        broken: The failure that ended the communication; None while it works.
        calls: Number of calls made to the other side.
        printed: Last output that the other side printed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._exported: list[Callable[..., Any]] = []
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
            message = wire.receive(lambda size: os.read(self._descriptor, size))
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

    def function(self, target: str | int) -> Callable[..., Any]:
        """Return a proxy that calls the other side's function of this name or number."""
        return Proxy(self, target)

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
            try:
                trees = [wire.encode(value, self._export, self.hold) for value in args]
                named = {name: wire.encode(value, self._export, self.hold) for name, value in kwargs.items()}
                self.send({"call": number, "target": target, "args": trees, "kwargs": named})
            except wire.WireError as error:
                raise TypeError(f"cannot pass this argument to the program: {error}") from None
            while "call" in (message := self.receive()):
                self.answer(message)
            if message.get("reply") != number:
                self.fail("failed", "the program broke the protocol: a reply to no call")
            return self._outcome(message, [*args, *kwargs.values()])

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
        trees, values = [*args, *kw.values()], []
        reply: dict[str, Any]
        try:
            function = self._served(target)
            values = [wire.decode(tree, self.function, self.held) for tree in trees]
            result = function(*values[: len(args)], **dict(zip(kw, values[len(args) :], strict=True)))
            try:
                reply = {"value": wire.encode(result, self._export, self.hold)}
            except wire.WireError as error:
                reply = {"unplain": str(error)}
        except Broken:
            raise
        except BaseException as error:
            reply = exception_message(error)
        reply |= {"reply": number, "printed": self.take_printed(), "changed": self._changes(trees, values)}
        try:
            self.send(reply)
        except wire.WireError as error:
            self.send({"reply": number, "unplain": str(error), "changed": []})

    def _changes(self, before: list[Any], values: list[Any]) -> list[Any]:
        """Return position and new tree of each argument that the call changed."""
        changes = []
        # There are fewer values than trees if decoding an argument failed.
        for position, (tree, value) in enumerate(zip(before, values, strict=False)):
            if isinstance(tree, (list, dict)):
                with contextlib.suppress(wire.WireError):
                    after = wire.encode(value, hold=self.hold)
                    if after != tree:
                        changes.append([position, after])
        return changes

    def _served(self, target: str | int) -> Callable[..., Any]:
        if isinstance(target, str):
            return self.find(target)
        if not 0 <= target < len(self._exported):
            self.fail("failed", "the program broke the protocol: it called a function it was not given")
        return self._exported[target]

    def _export(self, function: Callable[..., Any]) -> int:
        for number, known in enumerate(self._exported):
            if known is function:
                return number
        self._exported.append(function)
        return len(self._exported) - 1

    def _outcome(self, message: dict[str, Any], passed: list[Any]) -> Any:
        """Copy changed arguments back, then return the value of a reply or raise its exception."""
        try:
            for change in message.get("changed", ()):
                match change:
                    case [int(position), tree] if 0 <= position < len(passed):
                        restore(passed[position], wire.decode(tree, held=self.held))
                    case _:
                        raise wire.WireError("not a change of an argument")
            match message:
                case {"value": value}:
                    return wire.decode(value, self.function, self.held)
                case {"raise": str(name), "args": list(args), "where": str(where)}:
                    own = self.own_exception(message.get("own"))
                    error = _exception(name, [wire.decode(tree) for tree in args], where, own)
                case {"unplain": str(why)}:
                    self.fail("failed", f"the result cannot be judged: {why}")
                case _:
                    raise wire.WireError("not a reply")
        except (wire.WireError, TypeError, RecursionError, MemoryError) as violation:
            self.fail("failed", f"the program broke the protocol: {type(violation).__name__}: {violation}")
        raise error


def _exception(name: str, args: list[Any], where: str, own: type[BaseException] | None) -> BaseException:
    """Rebuild an exception from the message of `exception_message`, as its own class if the test knows that one."""
    if name in ("StopIteration", "StopAsyncIteration"):
        # Inside `all(map(f, xs))` they would end the test early instead of failing it.
        name = "RuntimeError"
    try:
        error = (own or _EXCEPTIONS.get(name, Exception))(*args)
    except Exception:
        error = Exception(name, *args)
    # Not a note, which would be a part of the message that a doctest compares.
    error.where = where[:200]  # type: ignore[attr-defined]
    return error


def exception_message(error: BaseException) -> dict[str, Any]:
    """Return an exception as a message: its nearest built-in class, its arguments and the line that raised it."""
    kind = next(kind for kind in type(error).__mro__ if kind in _EXCEPTIONS.values())
    args: list[Any] = []
    # Formatting may itself raise, and text may have any length.
    with contextlib.suppress(Exception):
        values = error.args if kind is type(error) else (str(error),)
        args = [wire.encode(v[:_TEXT] if isinstance(v, (str, bytes)) else v) for v in values]
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f"line {line} of the program"
    message = {"raise": kind.__name__, "args": args, "where": where}
    return message if kind is type(error) else message | {"own": type(error).__name__}


def restore(old: Any, new: Any) -> Any:
    """Copy the content of a changed copy back into the original container, and keep nested objects identical.

    Returns:
        The original container if it can hold the content, else the new value.
    """
    if isinstance(old, (list, deque)) and isinstance(new, (list, deque)):
        items = [restore(o, n) for o, n in zip(old, new, strict=False)] + list(new)[len(old) :]
        old.clear()
        old.extend(items)
    elif isinstance(old, dict) and isinstance(new, dict):
        pairs = {key: restore(old[key], value) if key in old else value for key, value in new.items()}
        old.clear()
        old.update(pairs)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray) and isinstance(new, bytearray):
        old[:] = new
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        if all(restore(o, n) is o or o == n for o, n in zip(old, new, strict=True)):
            return old
        return new
    else:
        return new
    return old
