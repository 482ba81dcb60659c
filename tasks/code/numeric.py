"""What tests use of numpy, which the sandbox does not have: comparing numbers, alone and in lists.

The text of this module runs in the judge's checker as `numpy`, so it imports nothing but the standard library.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from typing import Any

# In a test, the name of the entry point is the program's, even if it is that of a builtin.
_IMPORTED = re.compile(r"^(?:import|from) numpy\b", re.MULTILINE)
_BEFORE = """
import builtins, sys, types
sys.modules["numpy"] = types.ModuleType("numpy")
builtins.exec({text!a}, builtins.vars(sys.modules["numpy"]))
"""


def self_contained(test: str) -> str:
    """Return a test that needs no numpy: one that imports it gets this module in its place."""
    return _BEFORE.format(text=inspect.getsource(sys.modules[__name__])) + test if _IMPORTED.search(test) else test


class ndarray:  # noqa: N801
    """No value is one: a program's results come as plain values."""


def allclose(actual: Any, desired: Any, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Say whether numbers are within `atol + rtol * |desired|`, or sequences of one length are so item by item.

    Unlike numpy's, it takes no number for a sequence of equal ones.
    """
    if isinstance(desired, (list, tuple)):
        return (
            isinstance(actual, (list, tuple))
            and len(actual) == len(desired)
            and all(allclose(a, d, rtol, atol) for a, d in zip(actual, desired, strict=True))
        )
    if not isinstance(actual, (int, float, complex)) or not isinstance(desired, (int, float, complex)):
        return False
    return actual == desired or (math.isfinite(abs(desired)) and abs(actual - desired) <= atol + rtol * abs(desired))


class testing:  # noqa: N801
    """The assertions of `numpy.testing`."""

    @staticmethod
    def assert_allclose(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0.0) -> None:
        """Raise unless `allclose`."""
        if not allclose(actual, desired, rtol, atol):
            raise AssertionError(f"{actual!r} is not close to {desired!r}")
