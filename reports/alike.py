"""Comparison of figures that were computed twice: by a record and by its check, or by a run and its repetition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

CLOSE = 1e-9
"""Difference of two floats that are still called equal, relative or absolute.

Libraries and the layout of memory change the last digits of a sum or a quantile, by about 1e-15 of it for each of its
terms. No page shows nine digits, so a figure that was edited to be seen differs by more. Counts must be equal.
"""


def alike(one: Any, two: Any) -> bool:
    """Return whether two parts of a record are equal, but for rounding in their floats."""
    if isinstance(one, BaseModel) and isinstance(two, BaseModel):
        return alike(one.model_dump(), two.model_dump())
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[name], two[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(alike, one, two))
    if isinstance(one, float) and isinstance(two, (int, float)):
        return math.isclose(one, two, rel_tol=CLOSE, abs_tol=CLOSE)
    return alike(two, one) if isinstance(two, float) and isinstance(one, int) else bool(one == two)


def differences(name: str, given: BaseModel, expected: BaseModel) -> Iterator[tuple[str, Any, str]]:
    """Yield the fields of a part of a record that differ: the name, the value, and the one expected."""
    for field in type(expected).model_fields:
        value, wanted = getattr(given, field), getattr(expected, field)
        if not alike(value, wanted):
            yield f"{name}.{field}", value, f"{wanted}"
