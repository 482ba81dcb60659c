"""Configuration and hashes of a checkpoint folder, without torch."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from bench.errors import UsageError, os_reason, shown

FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "additional_chat_templates/*.jinja",
    "tokenizer.model.*",
    "*.codes",
    "*.spm",
    "*.tokenizer",
)
"""Patterns of all files that transformers loads: weights, configuration, tokenizer. Their formats contain no code."""

_SAFETENSORS_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}

GIT_LFS = "version https://git-lfs"
"""First characters of a pointer, which git leaves in place of a large file until `git lfs pull` fetches the file."""


LARGEST_TEXT = 200_000_000
"""Limit of a file that is parsed as a whole, in bytes. The largest published tokenizers have 40 MB."""


def check_file(file: Path, largest: int | None = None) -> None:
    """Check that a path is a file that can be read without waiting, and is no Git LFS pointer.

    Args:
        file: The file, or a link to it.
        largest: Limit of its size in bytes.

    Raises:
        UsageError: If it is not.
        OSError: If it cannot be read.
    """
    found = file.stat()
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{file}: a folder in place of a file; remove it, or copy the file from its source again")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{file}: a device, pipe or socket in place of a file; replace it by the file")
    if largest is not None and found.st_size > largest:
        raise UsageError(
            f"{file}: has {found.st_size} bytes, and at most {largest} are read of such a file; copy it from its "
            "source again"
        )
    with file.open("rb") as opened:
        if opened.read(len(GIT_LFS)) == GIT_LFS.encode():
            raise UsageError(f"{file}: a Git LFS pointer in place of the file; run `git lfs pull` in the folder")


def json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        UsageError: If the file cannot be read, or holds no JSON object.
    """
    try:
        check_file(file, LARGEST_TEXT)
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {os_reason(error, 'model')}") from error
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


def loaded_files(folder: Path) -> list[Path]:
    """Return the files in a folder that transformers loads or may load, sorted; `FILES` are their patterns."""
    return sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})


def folder_sha256(folder: Path) -> str:
    """Return a sha256 over the names and hashes of the checkpoint files in this folder."""
    files = loaded_files(folder)
    lines = "".join(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
