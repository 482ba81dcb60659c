"""Calls between the checker and the candidate: either side may call a function that the other has given it.

Both sides run the same code, and the checker believes nothing that it receives: a reply must carry the random
number of the call it answers, values are rebuilt from data, and only functions that the test
passed are served.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from . import wire

_TEXT = 10_000  # characters of one exception argument that cross
_EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


class Broken(BaseException):
    """The other side left or broke the protocol; no `except Exception` may take it for an answer."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Peer:
    """One end of the socket between checker and candidate."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._exported: list[Callable[..., Any]] = []
        self._turn = threading.RLock()
        self.broken: Broken | None = None
        self.calls = 0
        self.printed = ""

    def find(self, target: str) -> Callable[..., Any]:
        """Returns the function served under a name; the default serves none."""
        raise NameError(f"name {target!r} is not defined")

    def take_printed(self) -> str:
        """Returns what this side printed since the last reply."""
        return ""

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message."""
        try:
            wire.send(self._descriptor, message)
        except OSError:
            self.fail("crashed", "the program ended")

    def receive(self) -> dict[str, Any]:
        """Waits for a message."""
        try:
            message = wire.receive(lambda size: os.read(self._descriptor, size))
        except (EOFError, OSError):
            self.fail("crashed", "the program ended before it answered")
        except (wire.WireError, MemoryError) as error:
            self.fail("failed", f"the program broke the protocol: {type(error).__name__}: {error}")
        if not isinstance(message, dict):
            self.fail("failed", "the program broke the protocol: a message is an object")
        printed = message.get("printed")
        if isinstance(printed, str):
            self.printed = (self.printed + printed)[-2000:]
        return message

    def fail(self, status: str, detail: str) -> NoReturn:
        """Ends the conversation for good: what the test makes of it no longer matters."""
        self.broken = self.broken or Broken(status, detail)
        raise self.broken

    def function(self, target: str | int) -> Callable[..., Any]:
        """Returns a stand-in that calls the other side's function of this name or number."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return self.call(target, args, kwargs)

        stand_in.__name__ = stand_in.__qualname__ = target if isinstance(target, str) else "function"
        return stand_in

    def call(self, target: str | int, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the other side, and serves its calls until it answers.

        Raises:
            TypeError: An argument is not a plain value.
            BaseException: What the function raised, as the nearest built-in class.
            Broken: The other side is gone or broke the protocol.
        """
        args = list(args)
        with self._turn:
            if self.broken:
                raise self.broken
            self.calls += 1
            number = os.urandom(8).hex()
            try:
                trees = [wire.encode(value, self._export) for value in args]
                named = {name: wire.encode(value, self._export) for name, value in kwargs.items()}
                self.send({"call": number, "target": target, "args": trees, "kwargs": named})
            except wire.WireError as error:
                raise TypeError(f"cannot pass this argument to the program: {error}") from None
            while "call" in (message := self.receive()):
                self.answer(message)
            if message.get("reply") != number:
                self.fail("failed", "the program broke the protocol: a reply to no call")
            return self._outcome(message, [*args, *kwargs.values()])

    def load(self, code: str) -> None:
        """Has the other side run the program.

        Raises:
            BaseException: What the program raised, as the nearest built-in class.
            Broken: The other side is gone or broke the protocol.
        """
        self.send({"code": code})
        message = self.receive()
        if message.get("loaded") is not True:
            self._outcome(message, [])
            self.fail("failed", "the program broke the protocol: not a reply")

    def answer(self, message: dict[str, Any]) -> None:
        """Serves one call of the other side."""
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
            values = [wire.decode(tree, self.function) for tree in trees]
            result = function(*values[: len(args)], **dict(zip(kw, values[len(args) :], strict=True)))
            try:
                reply = {"value": wire.encode(result, self._export)}
            except wire.WireError as error:
                reply = {"unplain": str(error)}
        except Broken:
            raise
        except BaseException as error:
            reply = portrait(error)
        reply |= {"reply": number, "printed": self.take_printed(), "changed": _changes(trees, values)}
        try:
            self.send(reply)
        except wire.WireError as error:
            self.send({"reply": number, "unplain": str(error), "changed": []})

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
        """Returns or raises what a reply says, after copying changed arguments back."""
        try:
            for change in message.get("changed", ()):
                match change:
                    case [int(position), tree] if 0 <= position < len(passed):
                        restore(passed[position], wire.decode(tree))
                    case _:
                        raise wire.WireError("not a change of an argument")
            match message:
                case {"value": value}:
                    return wire.decode(value, self.function)
                case {"raise": str(name), "args": list(args), "where": str(where)}:
                    error = _exception(name, [wire.decode(tree) for tree in args], where)
                case {"unplain": str(why)}:
                    self.fail("failed", f"the result cannot be judged: {why}")
                case _:
                    raise wire.WireError("not a reply")
        except (wire.WireError, TypeError, RecursionError, MemoryError) as violation:
            self.fail("failed", f"the program broke the protocol: {type(violation).__name__}: {violation}")
        raise error


def _exception(name: str, args: list[Any], where: str) -> BaseException:
    """Rebuilds an exception from its portrait."""
    if name in ("StopIteration", "StopAsyncIteration"):
        # Raised inside `all(map(f, xs))` they would end the test early instead of failing it.
        name = "RuntimeError"
    try:
        error = _EXCEPTIONS.get(name, Exception)(*args)
    except Exception:
        error = Exception(name, *args)
    error.add_note(where[:200])
    return error


def portrait(error: BaseException) -> dict[str, Any]:
    """Describes an exception by its nearest built-in class, its arguments and the line that raised it."""
    kind = next(kind for kind in type(error).__mro__ if kind in _EXCEPTIONS.values())
    args: list[Any] = []
    # Formatting may itself raise, and text may be of any length.
    with contextlib.suppress(Exception):
        values = error.args if kind is type(error) else (str(error),)
        args = [wire.encode(v[:_TEXT] if isinstance(v, (str, bytes)) else v) for v in values]
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f"line {line} of the program"
    return {"raise": kind.__name__, "args": args, "where": where}


def _changes(before: list[Any], values: list[Any]) -> list[Any]:
    """Lists position and new tree of each argument that the call changed."""
    changes = []
    # There are no values where the arguments did not decode.
    for position, (tree, value) in enumerate(zip(before, values, strict=False)):
        if isinstance(tree, (list, dict)):
            with contextlib.suppress(wire.WireError):
                after = wire.encode(value)
                if after != tree:
                    changes.append([position, after])
    return changes


def restore(old: Any, new: Any) -> Any:
    """Writes the content of a copy back into the container that was copied, keeping nested identities.

    Returns:
        The old container where it could hold the content, else the new value.
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
