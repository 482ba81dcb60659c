"""Configuration and hashes of a checkpoint folder, without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.errors import UsageError, shown

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Patterns of weights, configuration and tokenizer files, in formats that contain no code."""

_SAFETENSORS_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


GIT_LFS = "version https://git-lfs"
"""First characters of a pointer, which git leaves in place of a large file until `git lfs pull` fetches the file."""


def check_pointer(file: Path) -> None:
    """Check that a file is no Git LFS pointer.

    Raises:
        UsageError: If it is one.
    """
    with file.open("rb") as opened:
        if opened.read(len(GIT_LFS)) == GIT_LFS.encode():
            raise UsageError(f"{file}: a Git LFS pointer in place of the file; run `git lfs pull` in the folder")


def json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        UsageError: If the file cannot be read, or holds no JSON object.
    """
    try:
        check_pointer(file)
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); expected a checkpoint's JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not valid JSON ({error}); copy the file from its source again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file}: {shown(found)} is no JSON object; copy the file from its source again")
    return found


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the content of the folder's `config.json`, or None if it is missing or unreadable."""
    try:
        return json_object(folder / "config.json")
    except UsageError:
        return None


def configured_dtype(folder: Path) -> str | None:
    """Return the dtype that a checkpoint's configuration names, such as `bfloat16`; None if it names none."""
    config = read_config(folder) or {}
    for found in (config, config.get("text_config")):
        if isinstance(found, dict) and isinstance(name := found.get("dtype") or found.get("torch_dtype"), str):
            return name.removeprefix("torch.")
    return None


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return a sha256 over the names and hashes of the checkpoint files in this folder."""
    files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    lines = "".join(f"{path.name}\0{file_sha256(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
