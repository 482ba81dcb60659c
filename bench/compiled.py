"""Compilation of loops over NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(**flags: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles a function when it is first called, without the GIL.

    The machine code is cached on disk if a folder is writable.

    Args:
        flags: Further arguments of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True, **flags)(function)
        except RuntimeError:  # no folder is writable for the cache
            return numba.njit(nogil=True, **flags)(function)

    return decorate
