"""Handles of the program's objects: the checker's view of instances of classes that the program defines.

The object stays in the candidate's process. The test holds a handle: its attributes, calls and operators are remote
calls. What they return is decided by the program, so a handle must never stand in for a plain value of the test:

- A handle equals another handle if the program says so each time that it is asked, in both orders, and does not say the
  same of strangers: a text, a number, None, a tuple, an object of another class. It never equals a plain value. Nor is
  it ordered with one. Only of an object of a subclass of a plain type, such as a named tuple, the plain data is fetched
  and compared here.
- An operator with a plain value hands that value to the program, as in `abs(f(x) - 3.5) < 1e-6`. It is allowed for
  objects of classes that the test names, and must return an object again. Such a result is not converted to a number,
  nor are the objects that are reached from it. Plain values that are reached from it can be read.
- A test that names no class expects objects only if it uses one as no plain value can be used: it reads an attribute
  that no plain value has, such as `push`, or it makes a call. Otherwise an object fails the program.
- The methods of text, tuples, sets and numbers, such as `startswith`, are refused on results of functions.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import raised, standins, wire
from .classes import PLAIN_ATTRIBUTES, PLAIN_METHODS, PLAIN_TYPES
from .operations import BINARY, OPERATIONS, ORDER, PREFIX, STRANGERS, UNARY
from .peer import Peer
from .sharing import Shared

Plain = TypeVar("Plain")


class Program(Peer):
    """The checker's end of the socket, which turns the program's objects into handles.

    Attributes:
        objects: Whether the test expects objects: it names classes of the program, or it has used an object as no plain
            value can be used.
        exceptions: Stand-ins of the program's exception classes that the test names.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.objects = False
        self.exceptions: dict[str, type[BaseException]] = {}
        self._handles: dict[int, Handle] = {}
        self._mixing = False  # whether what arrives comes from an operator with a plain value
        self._mixed: set[str | int] = set()  # functions and iterators that do

    @property
    def unexpected(self) -> str | None:
        """Class of an object that the test got and does not expect."""
        return None if self.objects else next((_state(handle).name for handle in self._handles.values()), None)

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
        """Let the candidate perform one of `OPERATIONS`. What it returns of a mixed object is mixed."""
        return self._call(PREFIX + name, args, kwargs, any(type(a) is Handle and _state(a).mixed for a in args))

    def call(self, target: str | int, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call a function of the candidate. What a mixed function or iterator gives is mixed."""
        return self._call(target, args, kwargs, target in self._mixed)

    def attribute(self, target: str | int, name: str) -> Any:
        """Return an attribute of a function or iterator. That of a mixed one is mixed."""
        before, self._mixing = self._mixing, self._mixing or target in self._mixed
        try:
            return super().attribute(target, name)
        finally:
            self._mixing = before

    def _call(self, target: str | int, args: Any, kwargs: dict[str, Any], mixed: bool) -> Any:
        if not mixed:
            return super().call(target, args, kwargs)
        before, self._mixing = self._mixing, True
        try:
            return super().call(target, args, kwargs)
        finally:
            self._mixing = before

    def remote(self, shared: Shared, kind: str, number: int) -> Any:
        """Return a stand-in. A function or iterator of a mixed object is mixed."""
        if self._mixing:
            self._mixed.add(number)
        return super().remote(shared, kind, number)

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
            case (int(number), str(name), bool(plain)):
                if number not in self._handles:
                    self._handles[number] = Handle(_State(self, number, ascii(name[:100])[1:-1], plain))
                _state(self._handles[number]).mixed |= self._mixing
                return self._handles[number]
        raise wire.WireError("not an object")


class _State:
    """State of a handle.

    Attributes:
        program: The checker's end of the socket.
        number: Number of the object.
        name: Name of its class, for messages.
        plain: Whether its class is a subclass of a plain type.
        declared: Whether its class is one that the test names.
        mixed: Whether it comes from an operator with a plain value, or from an object that does.
        data: Number of calls of the program after the plain data was fetched, and the data; None before.
    """

    __slots__ = ("data", "declared", "mixed", "name", "number", "plain", "program")

    def __init__(self, program: Program, number: int, name: str, plain: bool) -> None:
        self.program, self.number, self.name, self.plain = program, number, name, plain
        self.declared = self.mixed = False
        self.data: tuple[int, Any] | None = None


class Handle:
    """Object of the program. Its number is all that the checker knows of it.

    No attribute of the handle itself can be read; see `standins`.
    """

    __slots__ = ("_handle",)

    def __init__(self, state: _State) -> None:
        object.__setattr__(self, "_handle", state)

    def __getattribute__(self, name: str) -> Any:
        if name == "__deepcopy__":
            return standins.Bound(_deepcopy, self)
        if name == "__class__":
            return object
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{_state(self).name!r} object has no attribute {name!r}")
        if name in PLAIN_METHODS and not _state(self).declared:
            raise TypeError(f"{name!r} is a method of plain values, and the program returned an object instead")
        program = _state(self).program
        found = program.operate("getattr", self, name)
        if name not in PLAIN_ATTRIBUTES and not name.startswith("_"):
            program.objects = True
        elif not program.objects and type(found) is standins.Proxy:
            return standins.Bound(_call_as_plain, (program, found, name))
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        _state(self).program.operate("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        _state(self).program.operate("delattr", self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object. What a class that the test names makes, is of a class that the test names."""
        _state(self).program.objects = True
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
            answers = _state(self).program.operate("equal", self, other)
            return bool(answers == [True] * 3 + [False] * 2 * len(STRANGERS))
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
        _state(self).program.objects = True
        return _state(self).program.operate("enter", self)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Tell the program of the exception. Its answer counts only where no check of the test can have failed."""
        answer = _state(self).program.operate("exit", self, None if error is None else raised.message(error))
        return answer is True and error is not None and raised.deliberately(error)

    def __copy__(self) -> Any:
        return _derived(self, "copy")


def _deepcopy(self: Handle, memo: Any) -> Any:
    return _derived(self, "deepcopy")


def _call_as_plain(method: tuple[Program, Any, str], *args: Any, **kwargs: Any) -> Any:
    """Call a method that has the name of a plain value's. No plain value takes the arguments of `cache.get()`."""
    program, function, name = method
    if not any(_takes(getattr(kind, name), args, kwargs) for kind in PLAIN_TYPES if hasattr(kind, name)):
        program.objects = True
    return function(*args, **kwargs)


def _takes(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a method of a plain value takes arguments; True if that is not known."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError:
        return False
    return True


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


for _name in BINARY:
    _plain_name = _name.rstrip("_")
    _define(_plain_name, lambda self, other, name=_name: _binary(self, name, self, other, other))
    _define(f"r{_plain_name}", lambda self, other, name=_name: _binary(self, name, other, self, other))
    _define(f"i{_plain_name}", lambda self, other, name=f"i{_plain_name}": _binary(self, name, self, other, other))
for _name in ORDER:
    _define(_name, lambda self, other, name=_name: _ordered(self, name, other))
for _name in UNARY:
    _define(_name, lambda self, name=_name: _derived(self, name))
