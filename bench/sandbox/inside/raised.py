"""Exceptions as messages. Each arrives as its nearest built-in class, or as a class that the receiver has for it.

Example: `{"raise": "ValueError", "args": ["no roots"], "where": "line 3 of the program"}`. An instance of a class that
the sender defines has the name of that class, too: `"own": "NoRoots"`.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
from typing import Any

from . import wire

_TEXT = 10_000  # maximum number of characters of an argument
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_CLOSURE", "LOAD_FROM_DICT")
_EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


def message(error: BaseException) -> dict[str, Any]:
    """Return an exception as a message: its nearest built-in class, its arguments and the line that raised it."""
    kind = next(kind for kind in type(error).__mro__ if kind in _EXCEPTIONS.values())
    args: list[Any] = []
    # Formatting may itself raise, and text may have any length.
    with contextlib.suppress(Exception):
        try:
            given: object = type(error).__str__
            own_text = given is not kind.__str__
            args = [_argument(value) for value in ((str(error),) if own_text else error.args)]
        except wire.WireError:
            args = [str(error)[:_TEXT]]
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f"line {line} of the program"
    found: dict[str, Any] = {"raise": kind.__name__, "args": args, "where": where}
    if attributes := _attributes(error):
        found["attributes"] = attributes
    return found if kind is type(error) else found | {"own": type(error).__name__}


def _argument(value: Any) -> Any:
    return wire.encode(value[:_TEXT] if isinstance(value, (str, bytes)) else value)


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return the plain attributes that a program gave an exception."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        for name, value in vars(error).items():
            if not name.startswith("_"):
                with contextlib.suppress(wire.WireError):
                    found[name] = _argument(value)
    return found


def deliberately(error: BaseException) -> bool:
    """Return whether a statement `raise` of the test raised an exception, other than a failed assertion.

    An expression such as `1 / 0` counts as well, if it uses no names but those of built-in values.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename != "<test>" or isinstance(error, AssertionError):
        return False
    code = list(dis.get_instructions(trace.tb_frame.f_code))
    place = next(instruction for instruction in code if instruction.offset == trace.tb_lasti)
    if place.opname == "RAISE_VARARGS":
        return True
    names = {part.argval for part in code if part.opname.startswith(_LOADS) and _is_within(part, place)}
    known = vars(builtins).keys() - trace.tb_frame.f_globals.keys()
    return place.opname.startswith(("BINARY_", "PRECALL", "CALL")) and names <= known


def _is_within(part: dis.Instruction, whole: dis.Instruction) -> bool:
    one, other = part.positions, whole.positions
    if one is None or other is None or None in (*one, *other):
        return True
    first, last = (other.lineno, other.col_offset), (other.end_lineno, other.end_col_offset)
    return bool(first <= (one.lineno, one.col_offset) and (one.end_lineno, one.end_col_offset) <= last)


def rebuilt(message: dict[str, Any], own: type[BaseException] | None) -> BaseException:
    """Return the exception of a message.

    Args:
        message: Result of `message`, or anything else from a hostile sender.
        own: The receiver's class for the class of the sender's own; None if it has none.

    Raises:
        WireError: If the message is not that of an exception.
    """
    match message:
        case {"raise": str(name), "args": list(args), "where": str(where)}:
            values = [wire.decode(tree) for tree in args]
        case _:
            raise wire.WireError("not an exception")
    if name in ("StopIteration", "StopAsyncIteration"):
        # Inside `all(map(f, xs))` they would end the test early instead of failing it.
        name = "RuntimeError"
    try:
        error = (own or _EXCEPTIONS.get(name, Exception))(*values)
    except Exception:
        error = Exception(name, *values)
    attributes = message.get("attributes", {})
    if not isinstance(attributes, dict):
        raise wire.WireError("not the attributes of an exception")
    for attribute, tree in attributes.items():
        if not (attribute.startswith("_") or hasattr(error, attribute)):
            setattr(error, attribute, wire.decode(tree))
    # Not a note, which would be a part of the message that a doctest compares.
    error.where = where[:200]  # type: ignore[attr-defined]
    return error
