"""Configuration and hashes of a checkpoint folder, without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.errors import UsageError

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Patterns of weights, configuration and tokenizer files, in formats that contain no code."""

_SAFETENSORS_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the content of the folder's `config.json`, or None if it is missing or unreadable."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def stored_dtype(folder: Path) -> str:
    """Return the dtype of a checkpoint's weights, such as `bfloat16`: what its configuration names, else its tensors'.

    Raises:
        UsageError: If neither tells.
    """
    config = read_config(folder) or {}
    for found in (config, config.get("text_config")):
        if isinstance(found, dict) and isinstance(name := found.get("dtype") or found.get("torch_dtype"), str):
            return name.removeprefix("torch.")
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        kinds = {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"}
        for kind in sorted(kinds & _SAFETENSORS_DTYPES.keys()):
            return _SAFETENSORS_DTYPES[kind]
    raise UsageError(
        f"{folder}: neither config.json nor a safetensors file tells the dtype of the weights; set --dtype"
    )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return a sha256 over the names and hashes of the checkpoint files in this folder."""
    files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    lines = "".join(f"{path.name}\0{file_sha256(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
