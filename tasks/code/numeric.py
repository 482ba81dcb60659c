"""Replacement for the parts of numpy that tests use, since the sandbox has no numpy: comparing numbers and lists.

The source of this module runs in the sandbox's checker under the name `numpy`, so it imports only the standard library.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from typing import Any

# In a test, the entry point's name refers to the program, even if it is the name of a builtin.
_IMPORTED = re.compile(r"^(?:import|from) numpy\b", re.MULTILINE)
_BEFORE = """
import builtins, sys, types
sys.modules["numpy"] = types.ModuleType("numpy")
builtins.exec({text!a}, builtins.vars(sys.modules["numpy"]))
"""


def self_contained(test: str) -> str:
    """Return a test that does not need numpy: if it imports numpy, it gets this module instead."""
    return _BEFORE.format(text=inspect.getsource(sys.modules[__name__])) + test if _IMPORTED.search(test) else test


class ndarray:  # noqa: N801
    """Type for `isinstance` checks. No value has it, because results of a program are plain values."""


def allclose(actual: Any, desired: Any, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Return whether two numbers differ by at most `atol + rtol * |desired|`, or two sequences item by item.

    Unlike numpy, it does not broadcast: a number never equals a sequence.
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
