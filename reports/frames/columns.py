"""Columns of a table, and parts of a record whose fields are columns.

The sentence on a column is the one in the docstring of the record's class, so it has one home. This module needs no
optional library.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Kind = Literal["text", "integer", "number", "flag"]
"""Type of a column's values: text, an integer of 64 bits, a double-precision number, or true and false."""

ATTRIBUTES = re.compile(r"\n*^Attributes:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
"""Section of a docstring that describes the attributes."""

LARGE = ("flops", "hardware_flops", "evaluation_flops", "spent", "products", "padded_products")
"""Integers of a record that can exceed 64 bits. As columns they are numbers, exact up to 2**53."""


_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Column:
    """Column of a table. A value of any column can be missing.

    Attributes:
        name: Name of the column.
        kind: Type of its values.
        sentence: Meaning, with the unit.
    """

    name: str
    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Table:
    """Table of runs.

    Attributes:
        name: Name of the table.
        sentence: What a line stands for.
        columns: Columns in order.
    """

    name: str
    sentence: str
    columns: tuple[Column, ...]


def text(name: str, sentence: str) -> Column:
    """Return a column of texts."""
    return Column(name, "text", sentence)


def integer(name: str, sentence: str) -> Column:
    """Return a column of integers."""
    return Column(name, "integer", sentence)


def number(name: str, sentence: str) -> Column:
    """Return a column of numbers."""
    return Column(name, "number", sentence)


def flag(name: str, sentence: str) -> Column:
    """Return a column of true and false."""
    return Column(name, "flag", sentence)


def fitting(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """Return values as their column holds them."""
    if column.kind == "number":
        return [None if value is None else float(value) for value in values]
    if column.kind == "text":  # Arrow has no half of a surrogate pair
        return [None if value is None else value.encode(errors="backslashreplace").decode() for value in values]
    return values


class Part:
    """Fields and properties of a part of a record that are columns.

    Args:
        owner: Class of the part.
        names: Names of those whose column has the same name.
        words: Sentence on a column, in place of one that needs its class for a context.
        renamed: Name of a field by the name of its column, where they differ.
    """

    def __init__(self, owner: type, *names: str, words: Mapping[str, str] = _NONE, **renamed: str) -> None:
        self._fields = {**{name: name for name in names}, **renamed}
        found = [_column(owner, name, field) for name, field in self._fields.items()]
        self.columns = tuple(replace(each, sentence=words.get(each.name, each.sentence)) for each in found)

    def of(self, part: Any) -> dict[str, Any]:
        """Return the values of a part by the name of the column. They are missing (None) where there is no part."""
        return {name: None if part is None else getattr(part, field) for name, field in self._fields.items()}


def _column(owner: type, name: str, field: str) -> Column:
    known = inspect.getattr_static(owner, field, None)
    found = getattr(known, "wrapped", known)  # pydantic wraps computed fields
    if isinstance(found, property):
        hint = get_type_hints(found.fget)["return"]
        sentence = inspect.cleandoc(found.__doc__ or "").partition("\n\n")[0]
    else:
        hint, sentence = get_type_hints(owner)[field], described(owner).get(field, "")
    # A record has None where a table has a missing value.
    sentence = re.sub(r"(^|[.:] )None\b", r"\1Missing", " ".join(sentence.split())).replace("None", "missing")
    return Column(name, "number" if field in LARGE else _kind(hint), sentence)


def _kind(hint: Any) -> Kind:
    kinds = _plain(hint) - {NoneType}
    known: dict[Any, Kind] = {bool: "flag", int: "integer", float: "number"}
    return known.get(kinds.pop(), "text") if len(kinds) == 1 else "text"


def _plain(hint: Any) -> set[Any]:
    """Return the types that a hint allows, without pydantic's limits."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return set[Any]().union(*map(_plain, get_args(hint)))
    return {hint}


@lru_cache
def described(kind: type) -> Mapping[str, str]:
    """Return the sentences on a class's attributes, those of its bases included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for section in ATTRIBUTES.findall(inspect.cleandoc(each.__doc__ or "")):
            for name, sentence in re.findall(r"^    (\w+): (.*?)(?=^    \S|\Z)", section, re.MULTILINE | re.DOTALL):
                found[name] = " ".join(sentence.split())
    return found
