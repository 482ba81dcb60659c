"""Handles of the program's objects: the checker's view of instances of classes that the program defines.

The object stays in the candidate's process. The test holds a handle: its attributes, calls and operators are remote
calls. What they return is decided by the program, so a handle must never stand in for a plain value of the test:

- A handle equals another handle if the program says so and does not say the same of a random text. It never equals a
  plain value. Nor is it ordered with one. Only of an
  object of a subclass of a plain type, such as a named tuple, the plain data is fetched and compared here.
- An operator with a plain value hands that value to the program, as in `abs(f(x) - 3.5) < 1e-6`. It is allowed for
  objects of classes that the test names, and must return an object again. Numbers are not read from such a result.
- The methods of text, tuples, sets and numbers, such as `startswith`, are refused on results of functions.
"""

from __future__ import annotations

import builtins
import copy
import operator
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import wire
from .peer import Peer

Plain = TypeVar("Plain")

_PREFIX = "object:"
_PLAIN_METHODS = {name for kind in (str, bytes, tuple, frozenset, int, float) for name in dir(kind)}
_NOTHING = object()
BASES = (int, float, str, bytes, list, tuple, dict, set, frozenset)
"""Plain types whose subclasses have plain data that can be fetched."""


def _next(value: Any) -> tuple[Any, ...]:
    """Return the next item in a tuple; an empty tuple at the end. No StopIteration crosses the socket."""
    item = next(value, _NOTHING)
    return () if item is _NOTHING else (item,)


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
_ORDER = ("lt", "le", "gt", "ge")
_UNARY = ("abs", "neg", "pos", "invert")
_BUILTINS = (
    *("getattr", "setattr", "delattr", "len", "bool", "iter", "str", "repr", "format", "hash", "int", "float"),
    *("complex", "round", "isinstance", "issubclass"),
)
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in [*_BINARY, *_ORDER, *_UNARY, "eq", "ne", "contains"]},
    **{f"i{name.rstrip('_')}": getattr(operator, f"i{name.rstrip('_')}") for name in _BINARY},
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "index")},
    **{name: getattr(builtins, name) for name in _BUILTINS},
    "next": _next,
    "call": lambda value, *args, **kwargs: value(*args, **kwargs),
    "plain": lambda value: next(kind for kind in BASES if isinstance(value, kind))(value),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda value: value.__enter__(),
    "exit": lambda value: value.__exit__(None, None, None),
}
"""Operations on the program's objects, which the candidate serves under the name `object:` and these names."""


def operation(target: str) -> Callable[..., Any] | None:
    """Return the operation of a call's target; None if the target is the name of a function."""
    return OPERATIONS.get(target.removeprefix(_PREFIX)) if target.startswith(_PREFIX) else None


class Program(Peer):
    """The checker's end of the socket, which turns the program's objects into handles.

    Attributes:
        objects: Whether the test uses classes of the program. Without it, a result that is no plain value fails.
        exceptions: Stand-ins of the program's exception classes that the test names.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.objects = False
        self.exceptions: dict[str, type[BaseException]] = {}
        self._handles: dict[int, Handle] = {}

    def named_class(self, name: str) -> Any:
        """Return a class of the program as a handle, a stand-in if it is an exception, or else a proxy of a function.

        Raises:
            NameError: If the program does not define the name.
        """
        kind, base = self.call("class", (name,), {})
        self.calls -= 1
        if isinstance(kind, Handle):
            _state(kind).declared = True
            return kind
        if base is None:
            return self.function(name)
        builtin = getattr(builtins, base, None) if isinstance(base, str) else None
        if not (isinstance(builtin, type) and issubclass(builtin, BaseException)):
            self.fail("failed", "the program broke the protocol: not a class")
        if not issubclass(builtin, Exception) or issubclass(builtin, (StopIteration, StopAsyncIteration)):
            builtin = RuntimeError  # the others could end a test early, without failing it
        self.exceptions[name] = type(name, (builtin,), {})
        return self.exceptions[name]

    def operate(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Let the candidate perform one of `OPERATIONS`."""
        return self.call(_PREFIX + name, args, kwargs)

    def own_exception(self, name: object) -> type[BaseException] | None:
        """Return the stand-in of an exception class of the program that the test names."""
        return self.exceptions.get(name) if isinstance(name, str) else None

    def hold(self, value: Any, last: bool) -> list[Any] | None:
        """Return number, name and kind of a handle."""
        state = _state(value) if type(value) is Handle else None
        return None if state is None else [state.number, state.name, state.plain]

    def held(self, *parts: Any) -> Any:
        """Return the handle of an object: the same one for the same object, so that `is` compares objects."""
        match parts:
            case (int(number), str(name), bool(plain)) if self.objects:
                if number not in self._handles:
                    self._handles[number] = Handle(_State(self, number, name[:100], plain))
                return self._handles[number]
            case (int(), str(name), bool()):
                self.fail("failed", f"the result cannot be judged: {ascii(name[:100])[1:-1]} is not a plain value")
        raise wire.WireError("not an object")


class _State:
    """State of a handle.

    Attributes:
        program: The checker's end of the socket.
        number: Number of the object.
        name: Name of its class, for messages.
        plain: Whether its class is a subclass of a plain type.
        declared: Whether its class is one that the test names.
        mixed: Whether it comes from an operator with a plain value.
        data: Number of calls of the program after the plain data was fetched, and the data; None before.
    """

    __slots__ = ("data", "declared", "mixed", "name", "number", "plain", "program")

    def __init__(self, program: Program, number: int, name: str, plain: bool) -> None:
        self.program, self.number, self.name, self.plain = program, number, name, plain
        self.declared = self.mixed = False
        self.data: tuple[int, Any] | None = None


class Handle:
    """Object of the program. Its number is all that the checker knows of it.

    No attribute of the handle itself can be read: text such as "{0._handle}", which the program may pass to a `format`
    that a test gave it, must not lead into the checker.
    """

    __slots__ = ("_handle",)

    def __init__(self, state: _State) -> None:
        object.__setattr__(self, "_handle", state)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__copy__", "__deepcopy__"):
            return object.__getattribute__(self, name)
        if name == "__class__":
            return object
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{_state(self).name!r} object has no attribute {name!r}")
        if name in _PLAIN_METHODS and not _state(self).declared:
            raise TypeError(f"{name!r} is a method of plain values, and the program returned an object instead")
        return _state(self).program.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _state(self).program.operate("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        _state(self).program.operate("delattr", self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object. What a class that the test names makes, is of a class that the test names."""
        result = _state(self).program.operate("call", self, *args, **kwargs)
        if _state(self).declared and type(result) is Handle:
            _state(result).declared = True
        return result

    def __instancecheck__(self, value: Any) -> bool:
        return type(value) is Handle and _state(self).program.operate("isinstance", value, self) is True

    def __subclasscheck__(self, kind: Any) -> bool:
        return type(kind) is Handle and _state(self).program.operate("issubclass", kind, self) is True

    def __eq__(self, other: object) -> bool:
        if type(other) is Handle:
            return _state(self).program.operate("eq", self, other) is True and not _equals_anything(self)
        return _state(self).plain and bool(_data(self) == other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return _expect(self, int, "hash")

    def __bool__(self) -> bool:
        return _number(self, bool, "bool")

    def __len__(self) -> int:
        return _expect(self, int, "len")

    def __str__(self) -> str:
        return _expect(self, str, "str")

    def __repr__(self) -> str:
        return _expect(self, str, "repr")

    def __format__(self, spec: str) -> str:
        return _expect(self, str, "format", spec)

    def __index__(self) -> int:
        return _number(self, int, "index")

    def __int__(self) -> int:
        return _number(self, int, "int")

    def __float__(self) -> float:
        return _number(self, float, "float")

    def __complex__(self) -> complex:
        return _number(self, complex, "complex")

    def __round__(self, digits: int | None = None) -> Any:
        return _derived(self, "round", *(() if digits is None else (digits,)))

    def __iter__(self) -> Iterator[Any]:
        found = _state(self).program.operate("iter", self)
        return found if type(found) is Handle else iter(found)

    def __next__(self) -> Any:
        match _state(self).program.operate("next", self):
            case (item,):
                return item
            case ():
                raise StopIteration
        raise TypeError("not an iterator")

    def __contains__(self, item: Any) -> bool:
        if type(item) is not Handle and _state(self).plain:
            return item in _data(self)
        _refuse_plain(self, item)
        return _state(self).program.operate("contains", self, item) is True

    def __getitem__(self, key: Any) -> Any:
        return _state(self).program.operate("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _state(self).program.operate("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        _state(self).program.operate("delitem", self, key)

    def __enter__(self) -> Any:
        return _state(self).program.operate("enter", self)

    def __exit__(self, *error: object) -> None:
        _state(self).program.operate("exit", self)

    def __copy__(self) -> Any:
        return _derived(self, "copy")

    def __deepcopy__(self, memo: Any) -> Any:
        return _derived(self, "deepcopy")


def _equals_anything(self: Handle) -> bool:
    """Return whether an object says that it equals a random text, as one does whose `__eq__` is always true."""
    try:
        return _state(self).program.operate("eq", self, os.urandom(8).hex()) is True
    except Exception:  # a class may read attributes of what it is compared with
        return False


def _state(handle: Handle) -> _State:
    state: _State = object.__getattribute__(handle, "_handle")
    return state


def _expect(self: Handle, kind: type[Plain], name: str, *args: Any) -> Plain:
    """Return the result of an operation, which Python requires to be of this type."""
    result = _state(self).program.operate(name, self, *args)
    if type(result) is not kind:
        raise TypeError(f"{name} of {_state(self).name!r} object returned {type(result).__name__}")
    return result


def _number(self: Handle, kind: type[Plain], name: str) -> Plain:
    if _state(self).mixed:
        raise TypeError(f"{name}: no number is read from an object that an operator made of a plain value")
    return _expect(self, kind, name)


def _derived(self: Handle, name: str, *args: Any) -> Any:
    """Return the result of an operation on this object alone."""
    result = _state(self).program.operate(name, self, *args)
    if type(result) is Handle:
        _state(result).declared |= _state(self).declared
        _state(result).mixed |= _state(self).mixed
    elif _state(self).mixed:
        raise TypeError(f"{name}: no value is read from an object that an operator made of a plain value")
    return result


def _data(self: Handle) -> Any:
    """Return the plain data of an object whose class is a subclass of a plain type.

    It is fetched again only after another call of the program. Otherwise an object could be one number at the first
    comparison of `1 <= x <= 3`, and another one at the second.
    """
    state = _state(self)
    if state.mixed:
        raise TypeError(f"no plain data of a {state.name!r} object are read that an operator made of a plain value")
    if state.data is None or state.data[0] != state.program.calls:
        data = state.program.operate("plain", self)
        if type(data) is Handle:
            raise TypeError(f"{state.name!r} object has no plain data")
        state.data = (state.program.calls, data)
    return state.data[1]


def _refuse_plain(self: Handle, other: Any) -> None:
    if type(other) is not Handle and not _state(self).declared:
        raise TypeError(f"an operator between a plain value and {_state(self).name!r}, which the test does not name")


def _binary(self: Handle, name: str, left: Any, right: Any, other: Any) -> Any:
    if type(other) is not Handle and _state(self).plain:
        return OPERATIONS[name](*(_data(self) if side is self else side for side in (left, right)))
    _refuse_plain(self, other)
    result = _state(self).program.operate(name, left, right)
    plain = type(other) is not Handle
    mixed = plain or _state(self).mixed or _state(other).mixed
    if type(result) is Handle:
        _state(result).declared |= _state(self).declared
        _state(result).mixed |= mixed
    elif mixed:
        raise TypeError(f"{name}: an operator of an object with a plain value must return an object")
    return result


def _ordered(self: Handle, name: str, other: Any) -> bool:
    if type(other) is not Handle and _state(self).plain:
        return bool(OPERATIONS[name](_data(self), other))
    if type(other) is not Handle:
        raise TypeError(f"{_state(self).name!r} object is not ordered with a plain value")
    return _state(self).program.operate(name, self, other) is True


def _define(name: str, method: Callable[..., Any]) -> None:
    setattr(Handle, f"__{name}__", method)


for _name in _BINARY:
    _plain_name = _name.rstrip("_")
    _define(_plain_name, lambda self, other, name=_name: _binary(self, name, self, other, other))
    _define(f"r{_plain_name}", lambda self, other, name=_name: _binary(self, name, other, self, other))
    _define(f"i{_plain_name}", lambda self, other, name=f"i{_plain_name}": _binary(self, name, self, other, other))
for _name in _ORDER:
    _define(_name, lambda self, other, name=_name: _ordered(self, name, other))
for _name in _UNARY:
    _define(_name, lambda self, name=_name: _derived(self, name))
