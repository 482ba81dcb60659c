"""Wire format for plain values: length-prefixed frames of tagged JSON.

The receiver rebuilds each value from data, as exactly the base type. An object with a forged `__eq__`, `__class__` or
`__reduce__` therefore cannot be transferred. Nothing here evaluates, imports or unpickles.

Example: `(1, {"a": {2}})` is encoded as `{"tuple": [1, {"dict": ["a", {"set": [2]}]}]}`.

A list, dictionary or other value that can be changed is encoded once. Where it occurs again, `{"same": [n]}` stands for
the nth such value, counted from 0 in the order of their ends: `[x, x]` with an empty list x is `[[], {"same": [0]}]`.
"""

from __future__ import annotations

import builtins
import json
import os
import struct
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, ItemsView, Iterator, KeysView, ValuesView
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import GeneratorType
from typing import Any, NamedTuple

from . import classes
from .sharing import Shared

MAX_BYTES = 16 << 20
MAX_DEPTH = 200
MAX_ITEMS = 1_000_000

_HEADER = struct.Struct(">I")
_JSON_INT = 1 << 63
_JSON_TYPES = frozenset({type(None), bool, str, float})
# A Python string may contain lone surrogates. Written as escapes, two of them would be read as one character.
_JSON = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


class WireError(ValueError):
    """A value that is not plain or exceeds a limit, or a frame that cannot be decoded."""


class _Plain(NamedTuple):
    """Encoding of one type: a value becomes a list of parts, from which `rebuild` makes an equal value."""

    type: type
    parts: Callable[[Any], list[Any]]
    rebuild: Callable[..., Any]


def _dict_parts(value: dict[Any, Any]) -> list[Any]:
    return [part for item in value.items() for part in item]


def _dict(*parts: Any) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _memory(data: bytes, form: str, shape: list[int], read_only: bool) -> memoryview:
    view = memoryview(data if read_only else bytearray(data))
    cast: memoryview = view.cast(form) if len(shape) == 1 else view.cast(form, shape)  # type: ignore[call-overload]
    return cast


# A subclass is encoded as the first base in this list, so OrderedDict precedes dict and datetime precedes date.
_PLAIN: dict[str, _Plain] = {
    "tuple": _Plain(tuple, list, lambda *parts: parts),
    "Counter": _Plain(Counter, _dict_parts, lambda *parts: Counter(_dict(*parts))),
    "OrderedDict": _Plain(OrderedDict, _dict_parts, lambda *parts: OrderedDict(_dict(*parts))),
    "dict": _Plain(dict, _dict_parts, _dict),
    "set": _Plain(set, list, lambda *parts: set(parts)),
    "frozenset": _Plain(frozenset, list, lambda *parts: frozenset(parts)),
    "deque": _Plain(deque, lambda v: [list(v), v.maxlen], deque),
    "bytes": _Plain(bytes, lambda v: [v.hex()], bytes.fromhex),
    "bytearray": _Plain(bytearray, lambda v: [v.hex()], bytearray.fromhex),
    "range": _Plain(range, lambda v: [v.start, v.stop, v.step], range),
    "complex": _Plain(complex, lambda v: [v.real, v.imag], lambda real, imag: complex(real, imag)),
    "Decimal": _Plain(Decimal, lambda v: [str(v)], Decimal),
    "Fraction": _Plain(Fraction, lambda v: [v.numerator, v.denominator], lambda n, d: Fraction(n, d)),
    "datetime": _Plain(datetime, lambda v: [v.isoformat(), v.fold], lambda t, f: _fold(datetime, t, f)),
    "date": _Plain(date, lambda v: [v.isoformat()], date.fromisoformat),
    "time": _Plain(time, lambda v: [v.isoformat(), v.fold], lambda t, f: _fold(time, t, f)),
    "timedelta": _Plain(timedelta, lambda v: [v.days, v.seconds, v.microseconds], timedelta),
    "timezone": _Plain(timezone, lambda v: [v.utcoffset(None)], timezone),
    "slice": _Plain(slice, lambda v: [v.start, v.stop, v.step], slice),
    "array": _Plain(array, lambda v: [v.typecode, v.tolist()], array),
    "memoryview": _Plain(memoryview, lambda v: [v.tobytes(), v.format, list(v.shape), v.readonly], _memory),
}
_TAG = {plain.type: tag for tag, plain in _PLAIN.items()}
_CHANGEABLE = frozenset({"Counter", "OrderedDict", "dict", "set", "deque", "bytearray", "array"})
"""Tags of values that can be changed, so that it matters whether two of them are the same one. So are lists."""
_CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented}
_TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_TYPE_NAME = {kind: name for name, kind in _TYPES.items()}


def _fold(kind: Any, text: str, fold: int) -> Any:
    return kind.fromisoformat(text).replace(fold=fold)


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if not all(type(item) is tuple and len(item) == 2 for item in items):
        raise WireError("an item of a dictionary is a pair")
    return items


_VIEWS: dict[str, tuple[Any, Callable[[list[Any]], Any]]] = {
    "keys": (KeysView, lambda items: dict.fromkeys(items).keys()),
    "values": (ValuesView, lambda items: dict(enumerate(items)).values()),
    "items": (ItemsView, lambda items: dict(_pairs(items)).items()),
}
"""Views of dictionaries, which equal no list: each becomes a view of a new dictionary."""

_REMOTE: dict[str, Callable[[Any], bool]] = {
    "generator": lambda value: isinstance(value, GeneratorType),
    "iterator": lambda value: isinstance(value, Iterator),
    "awaitable": lambda value: isinstance(value, Awaitable),
    "stream": lambda value: isinstance(value, AsyncIterator),
    "function": callable,
}
"""Values that stay where they are. The other side asks for each item or result, so no more is read than it uses."""

Hold = Callable[[Any, bool], "list[Any] | None"]


def remote_kind(value: Any) -> str | None:
    """Return how a value that stays where it is can be used by the other side: a key of `_REMOTE`, or None."""
    return next((kind for kind, is_kind in _REMOTE.items() if is_kind(value)), None)


def encode(
    value: Any,
    export: Callable[[Any], int] | None = None,
    hold: Hold | None = None,
    shared: Shared | None = None,
    *,
    again: bool = False,
) -> Any:
    """Return a value as a JSON tree. An instance of a subclass becomes its plain base; see also `classes`.

    Args:
        value: Value to send.
        export: Function that returns the number by which the other side may use a function or an iterator. Without it,
            these are refused, so that encoding does not change the value.
        hold: Function that returns the parts by which an object is known to the other side, or None if the object is
            sent as a plain value or not at all. Its second argument is true if no other encoding is left.
        shared: Values that can be changed and that the other side has already. Those of this value are added.
        again: Whether this is the new content of a value of `shared`, which is sent in full.

    Raises:
        WireError: If the value is not plain, or it exceeds the limits on depth or size.
    """
    if type(value) in _JSON_TYPES:  # as most results are, for which the functions below are not worth defining
        return value
    left = MAX_ITEMS
    shared = Shared() if shared is None else shared

    def walk(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise WireError(f"more than {MAX_ITEMS:,} values")
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        kind = type(value)
        if kind in _JSON_TYPES:
            return value
        if kind is int:
            # Decimal conversion takes quadratic time and is limited to 4300 digits; hexadecimal has neither problem.
            return value if -_JSON_INT < value < _JSON_INT else {"int": [hex(value)]}
        if kind is list:
            return changeable(value, None, depth)
        tag = _TAG.get(kind)
        if tag is not None:
            return tagged(value, tag, depth)
        if hold is not None and (parts := hold(value, False)) is not None:
            return {"object": parts}
        if (found := classes.parts(value)) is not None:
            tag, parts = found
            return {tag: [walk(part, depth + 1) for part in parts]}
        if isinstance(value, int):
            return walk(int.__int__(value), depth)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list):
            return changeable(value, None, depth)
        for tag, (view, _) in _VIEWS.items():
            if isinstance(value, view):
                return {tag: [walk(item, depth + 1) for item in value]}
        for tag, plain in _PLAIN.items():
            if isinstance(value, plain.type):
                return tagged(value, tag, depth)
        if kind is type and value in _TYPE_NAME:
            return {"type": [_TYPE_NAME[value]]}
        for name, constant in _CONSTANTS.items():
            if value is constant:
                return {"constant": [name]}
        if export is not None and (tag := remote_kind(value)) is not None:
            return {tag: [export(value)]}
        if hold is not None and (parts := hold(value, True)) is not None:
            return {"object": parts}
        raise WireError(f"{kind.__name__} is not a plain value")

    def tagged(value: Any, tag: str, depth: int) -> Any:
        if tag in _CHANGEABLE:
            return changeable(value, tag, depth)
        return {tag: [walk(part, depth + 1) for part in _PLAIN[tag].parts(value)]}

    def changeable(value: Any, tag: str | None, depth: int) -> Any:
        nonlocal left
        new = depth > 0 or not again
        if new and (number := shared.number(value)) is not None:
            left -= shared.sizes[number]  # values count as often as they occur
            shared.met = True
            return {"same": [number]}
        start = left
        tree: Any = [walk(part, depth + 1) for part in (value if tag is None else _PLAIN[tag].parts(value))]
        if new:
            shared.add(value, start - left)
        return tree if tag is None else {tag: tree}

    return walk(value, 0)


def decode(
    tree: Any,
    remote: Callable[[str, int], Any] | None = None,
    held: Callable[..., Any] | None = None,
    shared: Shared | None = None,
    *,
    again: bool = False,
) -> Any:
    """Return the value of a JSON tree, rebuilt from data as exactly the base type.

    Args:
        tree: Result of `encode`, or any other JSON from a hostile sender.
        remote: Function that returns a stand-in of the sender's function or iterator, from its kind (a key of
            `_REMOTE`) and number. Without it, these are refused.
        held: Function that returns the object of some parts. Without it, objects are refused.
        shared: See `encode`.
        again: See `encode`.

    Raises:
        WireError: If the tree is not a possible result of `encode`, or exceeds the limits.
    """
    if not isinstance(tree, (list, dict)):
        return tree
    left = MAX_ITEMS
    shared = Shared() if shared is None else shared

    def walk(tree: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise WireError(f"more than {MAX_ITEMS:,} values")
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        if isinstance(tree, list):
            start = left
            return share([walk(item, depth + 1) for item in tree], start, depth)
        if not isinstance(tree, dict):
            return tree
        if len(tree) != 1:
            raise WireError("a tagged value has exactly one tag")
        ((tag, parts),) = tree.items()
        if not isinstance(parts, list):
            raise WireError("a tagged value is a list of parts")
        start = left
        values = [walk(part, depth + 1) for part in parts]
        if tag in _PLAIN:
            value = _PLAIN[tag].rebuild(*values)
            return share(value, start, depth) if tag in _CHANGEABLE else value
        if tag in _VIEWS:
            return _VIEWS[tag][1](values)
        if tag in classes.REBUILD:
            return classes.REBUILD[tag](*values)
        if tag == "object" and held is not None:
            return held(*values)
        (part,) = values
        if tag == "same" and type(part) is int and part in shared.values:
            left -= shared.sizes[part]
            return shared.values[part]
        if tag == "int":
            return int(part, 16)
        if tag == "type":
            return _TYPES[part]
        if tag == "constant":
            return _CONSTANTS[part]
        if tag in _REMOTE and remote is not None and type(part) is int:
            return remote(tag, part)
        raise WireError(f"unknown tag {tag!r}")

    def share(value: Any, start: int, depth: int) -> Any:
        if depth or not again:
            shared.add(value, start - left)
        return value

    try:
        return walk(tree, 0)
    except WireError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise WireError(f"malformed value: {type(error).__name__}") from None


def dumps(tree: Any) -> bytes:
    """Return the frame of a JSON tree: the length of its text in 4 bytes, big-endian, then the text."""
    body = _JSON.encode(tree).encode("utf-8", "surrogatepass")
    if len(body) > MAX_BYTES:
        raise WireError(f"more than {MAX_BYTES >> 20} MiB")
    return _HEADER.pack(len(body)) + body


def loads(body: bytes) -> Any:
    """Return the JSON tree of a frame's text."""
    try:
        return json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"malformed frame: {type(error).__name__}") from None


def send(descriptor: int, tree: Any) -> None:
    """Write a frame to a blocking descriptor."""
    rest = memoryview(dumps(tree))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(read: Callable[[int], bytes]) -> Any:
    """Read one frame, and return its JSON tree.

    Args:
        read: Function that returns from one up to the requested number of bytes, and none at the end of the stream.

    Raises:
        EOFError: If the stream ends before the frame does.
        WireError: If the frame exceeds the limit or is not JSON.
    """
    (size,) = _HEADER.unpack(_read_exactly(read, _HEADER.size))
    if size > MAX_BYTES:
        raise WireError(f"a frame of {size:,} bytes, more than {MAX_BYTES >> 20} MiB")
    return loads(_read_exactly(read, size))


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = read(min(size, 1 << 20))
        if not part:
            raise EOFError("the stream ended")
        if len(part) == size and not parts:
            return part
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
