"""Stand-ins of functions, iterators and coroutines of the other side: each use of one is a call across the socket.

Other attributes, such as `cache_clear` of a function or `peek` of an iterator, are read from the program, unless plain
values have them. A program asks for nothing of the test but the name and the text of a function.

No attribute of a stand-in leads into the process that holds it. Otherwise "{0.__init__.__globals__}", which a program
may pass to a `format` that a test gave it, would read the checker's memory. So a stand-in has slots, hides its class,
and its methods are stand-ins, too.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, NoReturn, Protocol

from . import raised
from .classes import PLAIN_ATTRIBUTES

MOST_READ = 200_000
"""Maximum number of values that are read from one iterator."""

DESCRIBED = frozenset({"__name__", "__qualname__", "__doc__"})
"""Texts that describe a function."""
_read = object.__getattribute__


class Caller(Protocol):
    """End of the socket that a stand-in's calls go through: the part of `peer.Peer` that it uses."""

    def call(self, target: str | int, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function of the other side."""

    def attribute(self, target: str | int, name: str) -> Any:
        """Return an attribute of a value of the other side."""

    def fail(self, status: str, detail: str) -> NoReturn:
        """End the communication permanently."""


class Bound:
    """Method of a stand-in."""

    __slots__ = ("_function", "_subject")

    def __init__(self, function: Callable[..., Any], subject: object) -> None:
        self._function, self._subject = function, subject

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return _read(self, "_function")(_read(self, "_subject"), *args, **kwargs)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return types.MethodType
        raise AttributeError(f"a method of the program has no attribute {name!r} here")


class StandIn:
    """Stand-in of something that the other side knows by a name or number."""

    __slots__ = ("_peer", "_target")
    looks_like: ClassVar[type] = types.FunctionType
    methods: ClassVar[dict[str, Callable[..., Any]]] = {}
    # Special attributes that the other side tells, besides those with names of their own. None: it tells no attribute.
    described: ClassVar[frozenset[str] | None] = None

    def __init__(self, peer: Caller, target: str | int) -> None:
        self._peer, self._target = peer, target

    def __getattribute__(self, name: str) -> Any:
        kind = type(self)
        if name == "__class__":
            return kind.looks_like
        if name == "__deepcopy__":
            return Bound(lambda self, memo: self, self)
        if name in kind.methods:
            return Bound(kind.methods[name], self)
        asked = kind.described is not None and not (name.startswith("_") or name in PLAIN_ATTRIBUTES)
        if asked or name in (kind.described or ()):
            return _read(self, "_peer").attribute(_read(self, "_target"), name)
        raise AttributeError(f"{self!r} has no attribute {name!r} here")

    def __repr__(self) -> str:
        # Without an address, so that a vote or a message is the same each time.
        return f"<{type(self).looks_like.__name__} of the program>"


def ask(self: StandIn, *args: Any, **kwargs: Any) -> Any:
    """Call the other side; see `peer.Peer.call`."""
    return _read(self, "_peer").call(_read(self, "_target"), args, kwargs)


class Proxy(StandIn):
    """Proxy of a function."""

    __slots__ = ()
    described: ClassVar = DESCRIBED

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return ask(self, *args, **kwargs)


class RemoteIterator(StandIn):
    """Iterator whose items are asked for one by one, so that it may be endless."""

    __slots__ = ("_left",)
    looks_like = object
    described: ClassVar = frozenset()
    methods: ClassVar = {"__iter__": lambda self: self, "__next__": lambda self: next(self)}

    def __init__(self, peer: Caller, target: int) -> None:
        super().__init__(peer, target)
        self._left = MOST_READ

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return _item(self)


def _item(self: RemoteIterator, *how: Any) -> Any:
    """Ask for the next item, as `_advance` answers."""
    left = _read(self, "_left") - 1
    self._left = left
    if left < 0:
        _read(self, "_peer").fail("failed", f"more than {MOST_READ:,} values were read from an iterator")
    match ask(self, *how):
        case (True, item):
            return item
        case (False, None):
            raise StopIteration
        case (False, returned):
            raise StopIteration(returned)
    return _read(self, "_peer").fail("failed", "the program broke the protocol: not the next item")


def _throw(self: RemoteIterator, error: Any, value: Any = None, trace: Any = None) -> Any:
    """Raise an exception where the generator waits: `throw(error)`, or `throw(kind, value)` as before Python 3.12."""
    if isinstance(value, BaseException):
        error = value
    elif isinstance(error, type):
        error = error() if value is None else error(value)
    return _item(self, "throw", raised.message(error))


class RemoteGenerator(RemoteIterator):
    """Generator."""

    __slots__ = ()
    looks_like = types.GeneratorType
    methods: ClassVar = RemoteIterator.methods | {
        "send": lambda self, value: _item(self, "send", value),
        "throw": _throw,
        "close": lambda self: ask(self, "close"),
    }


class RemoteAwaitable(StandIn):
    """Coroutine, which runs to its end on its own side when it is awaited."""

    __slots__ = ()
    looks_like = types.CoroutineType
    methods: ClassVar = {"send": lambda self, value: next(self), "close": lambda self: None}

    def __await__(self) -> RemoteAwaitable:
        return self

    def __next__(self) -> Any:
        raise StopIteration(ask(self))


class _Step(RemoteAwaitable):
    """Next item of an asynchronous iterator."""

    __slots__ = ()

    def __next__(self) -> Any:
        match ask(self):
            case (True, item):
                raise StopIteration(item)
            case (False, None):
                raise StopAsyncIteration
        _read(self, "_peer").fail("failed", "the program broke the protocol: not the next item")


class RemoteStream(StandIn):
    """Asynchronous iterator."""

    __slots__ = ()
    looks_like = types.AsyncGeneratorType

    def __aiter__(self) -> RemoteStream:
        return self

    def __anext__(self) -> _Step:
        return _Step(_read(self, "_peer"), _read(self, "_target"))


STAND_INS: dict[str, Callable[[Any, int], StandIn]] = {
    "function": Proxy,
    "iterator": RemoteIterator,
    "generator": RemoteGenerator,
    "awaitable": RemoteAwaitable,
    "stream": RemoteStream,
}
"""Stand-ins by the kinds of `wire`."""
ITERATORS = frozenset({"iterator", "generator", "stream"})
"""Kinds that have items."""


def served(kind: str | None, value: Any, rebuild: Callable[[dict[str, Any]], BaseException]) -> Callable[..., Any]:
    """Return the function that answers a stand-in's calls on the side that has the value.

    Args:
        kind: Kind of the value, as of `wire.remote_kind`.
        value: The value.
        rebuild: Function that returns the exception of a message; see `raised`.
    """
    if kind in ("iterator", "generator"):
        return partial(_advance, rebuild, value)
    if kind == "awaitable":
        return partial(_complete, value)
    if kind == "stream":
        return partial(_advance_stream, value)
    function: Callable[..., Any] = value
    return function


def _advance(
    rebuild: Callable[[dict[str, Any]], BaseException], iterator: Any, how: str = "next", *args: Any
) -> tuple[bool, Any] | None:
    """Return True and the next item, or False and the value that a generator returned at its end.

    No StopIteration crosses the socket.
    """
    if how == "close":
        iterator.close()
        return None
    try:
        if how == "send":
            return True, iterator.send(*args)
        return True, iterator.throw(rebuild(*args)) if how == "throw" else next(iterator)
    except StopIteration as end:
        return False, end.value


def is_end(answer: Any) -> bool:
    """Return whether an answer to a stand-in of `ITERATORS` is not an item."""
    return answer is None or answer[0] is False


async def _finish(awaitable: Any) -> Any:
    return await awaitable


async def _next_of(stream: Any) -> Any:
    try:
        return True, await anext(stream)
    except StopAsyncIteration:
        return False, None


def _advance_stream(stream: Any) -> Any:
    return _complete(_next_of(stream))


_loop: list[Any] = []


def _complete(awaitable: Any) -> Any:
    """Run an awaitable to its end in this process's event loop, even if it is called while a loop runs."""
    import asyncio  # takes 50 ms, which most programs need not spend

    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        if not _loop:
            _loop.append(asyncio.new_event_loop())
        loop = asyncio.new_event_loop() if _loop[0].is_running() else _loop[0]
        return loop.run_until_complete(_finish(awaitable))
    finally:
        asyncio._set_running_loop(running)
