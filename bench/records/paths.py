"""Texts without the paths and addresses of the machines that a run used."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

_PATH = re.compile(r"""(?<![^\s'"(=,])/(?:[^/\s'",:)]+/)+(?=[^/\s'",:)])""")


def without_paths(value: Any) -> Any:
    """Shorten every absolute path in nested data to its last part: `/home/me/runs/x` becomes `x`."""
    if isinstance(value, str):
        return _PATH.sub("", value)
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return {key: without_paths(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def without_address(text: str, url: str) -> str:
    """Replace a server's URL in a text by `URL`, and its host alone by `HOST`."""
    host = re.escape(urlsplit(url).hostname or url)
    return re.sub(rf"(?<![\w.-]){host}(?![\w-])", "HOST", text.replace(url, "URL"), flags=re.IGNORECASE)
