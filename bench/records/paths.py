"""Texts without the paths of the machine that a run was on."""

from __future__ import annotations

import re
from typing import Any

_PATH = re.compile(r"""(?<![^\s'"(=,])/(?:[^/\s'",:)]+/)+(?=[^/\s'",:)])""")


def without_paths(value: Any) -> Any:
    """Shorten every absolute path in nested data to its last part: `/home/me/runs/x` becomes `x`."""
    if isinstance(value, str):
        return _PATH.sub("", value)
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return {key: without_paths(inner) for key, inner in value.items()} if isinstance(value, dict) else value
