"""Where what was fetched or made once is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "BENCH_CACHE"


def folder(kind: str) -> Path:
    """Return the folder of all cached things of a kind, in `$BENCH_CACHE` or in `bench` in the user's cache folder."""
    named = os.environ.get(VARIABLE)
    home = Path(named).expanduser() if named else platformdirs.user_cache_path("bench", appauthor=False)
    return home / kind
