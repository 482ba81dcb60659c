"""Operations on the program's objects, which the candidate performs for the handles of the checker."""

from __future__ import annotations

import builtins
import copy
import operator
from collections.abc import Callable
from typing import Any

PREFIX = "object:"
_NOTHING = object()
BASES = (int, float, str, bytes, list, tuple, dict, set, frozenset)
"""Plain types whose subclasses have plain data that can be fetched."""


def _next(value: Any) -> tuple[Any, ...]:
    """Return the next item in a tuple; an empty tuple at the end. No StopIteration crosses the socket."""
    item = next(value, _NOTHING)
    return () if item is _NOTHING else (item,)


class _Stranger:
    """An object that equals none of the program's objects."""


STRANGERS = ("8d1f", 982451653, None, (982451653,), _Stranger(), _Stranger)


def _equal(one: Any, other: Any) -> list[Any]:
    """Return whether two objects are equal: both orders and again, then whether either equals a stranger."""
    answers = [one == other, other == one, one == other]
    for value in (one, other):
        for stranger in STRANGERS:
            try:
                answers.append(value == stranger)
            except Exception:  # a class may read attributes of what it is compared with
                answers.append(False)
    return [answer if type(answer) is bool else None for answer in answers]


BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
ORDER = ("lt", "le", "gt", "ge")
UNARY = ("abs", "neg", "pos", "invert")
_BUILTINS = (
    *("getattr", "setattr", "delattr", "len", "bool", "iter", "str", "repr", "format", "hash", "int", "float"),
    *("complex", "round", "isinstance", "issubclass"),
)
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in [*BINARY, *ORDER, *UNARY, "contains"]},
    **{f"i{name.rstrip('_')}": getattr(operator, f"i{name.rstrip('_')}") for name in BINARY},
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "index")},
    **{name: getattr(builtins, name) for name in _BUILTINS},
    "equal": _equal,
    "next": _next,
    "call": lambda value, *args, **kwargs: value(*args, **kwargs),
    "plain": lambda value: next(kind for kind in BASES if isinstance(value, kind))(value),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda value: value.__enter__(),
    "exit": lambda value, error=None: value.__exit__(error and type(error), error, error and error.__traceback__),
}
"""Operations on the program's objects, which the candidate serves under `PREFIX` and these names."""
