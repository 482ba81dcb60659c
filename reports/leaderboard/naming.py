"""Names of settings' values in the names of rows."""

from __future__ import annotations

from typing import Any


def short(value: Any) -> str:
    """Return a setting's value as a row's name shows it."""
    values = value if isinstance(value, list) else [value]
    return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
