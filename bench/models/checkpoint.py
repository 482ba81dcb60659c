"""Configuration and hashes of a checkpoint folder, without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Patterns of weights, configuration and tokenizer files, in formats that contain no code."""


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the content of the folder's `config.json`, or None if it is missing or unreadable."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return a sha256 over the names and hashes of the checkpoint files in this folder."""
    files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    lines = "".join(f"{path.name}\0{file_sha256(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
