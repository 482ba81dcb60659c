"""Values of classes that are data alone: named tuples, and members of enumerations.

The receiver builds a class of its own from the names, so that `point.x` and `colour.name` can be read. None of the
sender's code is a part of it.

Examples of parts: `["Point", ["x", "y"], 1, 2]` for `Point(x=1, y=2)`, and `["Enum", "", "Colour", "RED", 1]` for the
member `RED = 1` of an enumeration.
"""

from __future__ import annotations

import functools
import keyword
import re
from array import array
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from types import GeneratorType
from typing import Any

SCALARS = (bool, int, float, str, bytes, type(None))
_TEXTS_AND_NUMBERS = (int, float, complex, str, bytes, tuple, frozenset)
_CONTAINERS = (list, dict, set, bytearray, deque, Counter, OrderedDict, array, memoryview, range, slice)
_OTHERS: tuple[type, ...] = (
    date,
    datetime,
    time,
    timedelta,
    Decimal,
    Fraction,
    type(None),
    type(iter([])),
    GeneratorType,
)
PLAIN_TYPES = (*_TEXTS_AND_NUMBERS, *_CONTAINERS, *_OTHERS, type({}.keys()), type({}.values()), type({}.items()))
PLAIN_ATTRIBUTES = {name for kind in PLAIN_TYPES for name in dir(kind)}
"""Attributes of plain values. A test that reads another one expects an object."""
PLAIN_METHODS = {name for kind in _TEXTS_AND_NUMBERS for name in dir(kind)}
"""Attributes of text, numbers, tuples and sets."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)
_ENUMS = {kind.__name__: kind for kind in (IntEnum, StrEnum, Enum)}
_MIXED = {kind.__name__: kind for kind in (int, float, str)}


def parts(value: Any) -> tuple[str, list[Any]] | None:
    """Return tag and parts of a named tuple or of a member of an enumeration; None for any other value."""
    kind = type(value)
    if isinstance(value, tuple):
        fields = getattr(kind, "_fields", None)
        if type(fields) is tuple and len(fields) == len(value) and _are_fields(fields):
            return "namedtuple", [_name(kind), list(fields), *tuple.__iter__(value)]
    elif isinstance(value, Enum) and not isinstance(value, Flag) and _is_name(value.name) and _is_simple(value.value):
        enum = next(name for name, base in _ENUMS.items() if isinstance(value, base))
        mixed = next((name for name, base in _MIXED.items() if enum == "Enum" and isinstance(value, base)), "")
        return "enum", [enum, mixed, _name(kind), value.name, value.value]
    return None


def _name(kind: type) -> str:
    return kind.__name__ if _is_name(kind.__name__) else "Value"


def _is_name(name: Any) -> bool:
    return type(name) is str and _NAME.fullmatch(name) is not None and not keyword.iskeyword(name)


def _are_fields(fields: Any) -> bool:
    return len(set(fields)) == len(fields) and all(map(_is_name, fields))


def _is_simple(value: Any) -> bool:
    return type(value) in SCALARS or (type(value) is tuple and all(type(part) in SCALARS for part in value))


def _rebuilt_tuple(name: str, fields: list[str], *values: Any) -> Any:
    if not (_is_name(name) and type(fields) is list and _are_fields(fields)):
        raise ValueError("not the fields of a named tuple")
    if any(field in PLAIN_ATTRIBUTES and callable(value) for field, value in zip(fields, values, strict=True)):
        return values  # a function of the program would answer in place of a method, such as `startswith`
    return _tuple_class(name, tuple(fields))(*values)


@functools.lru_cache(maxsize=256)
def _tuple_class(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


def _rebuilt_member(enum: str, mixed: str, kind: str, name: str, value: Any) -> Any:
    if not (_is_name(kind) and _is_name(name) and _is_simple(value)):
        raise ValueError("not a member of an enumeration")
    return _member(_ENUMS[enum], _MIXED[mixed] if mixed else None, kind, name, value)


@functools.lru_cache(maxsize=4096, typed=True)
def _member(enum: Any, mixed: type | None, kind: str, name: str, value: Any) -> Any:
    return enum(kind, {name: value}, type=mixed)[name]


REBUILD: dict[str, Callable[..., Any]] = {"namedtuple": _rebuilt_tuple, "enum": _rebuilt_member}
"""Functions that rebuild a value from its parts, by tag."""
