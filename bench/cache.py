"""Cache folder for downloaded and converted files."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "BENCH_CACHE"


def folder(kind: str) -> Path:
    """Return the cache folder for one kind of file, for example `~/.cache/bench/models`.

    The parent is `$BENCH_CACHE`. If that is unset, it is `bench` in the user's cache folder.
    """
    configured = os.environ.get(VARIABLE)
    root = Path(configured).expanduser() if configured else platformdirs.user_cache_path("bench", appauthor=False)
    return root / kind
