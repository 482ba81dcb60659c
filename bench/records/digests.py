"""Digests of the files of a run directory. They stand in its result, and are checked where the files are there.

`Result.files` has those of the samples and the artifact, which are the same if a run is repeated. The journal holds
times, so its digest stands in `Result.timing`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.records.schema import Result
JOURNAL = "journal.jsonl"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each part of a run directory that is there, by the name of its file or folder.

    Example: `{"samples.jsonl": "3f…", "artifact": "c0…", "journal.jsonl": "9a…"}`.

    Raises:
        BenchError: If the artifact has a symbolic link.
    """
    return {name: _OF[name](folder / name) for name in _OF if os.path.lexists(folder / name)}


def check_digests(result: Result, folder: Path, names: Iterable[str]) -> None:
    """Check that files of a run directory are those that its result was made from.

    Args:
        result: Result of the run. One of an earlier version has no digests, so that only links are noticed.
        folder: Run directory.
        names: Files to check: `samples.jsonl`, `journal.jsonl`, `artifact`. A file that is not there passes.

    Raises:
        BenchError: If one was changed since, or the artifact has a symbolic link. The message names it.
    """
    for name in names:
        path = folder / name
        if not os.path.lexists(path):
            continue
        now = _OF[name](path)
        journal = result.timing.journal if result.timing else None
        known = (result.files | ({JOURNAL: journal} if journal else {})).get(name, now)
        if known != now:
            told = f"its SHA-256 is {now[:8]}..., in result.json {known[:8]}..."
            raise BenchError(f"{path}: was changed since the run ended ({told}); restore it, or repeat the run")


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_folder(path: Path) -> str:
    """Return the digest of the names and contents of all files of a folder."""
    state = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_symlink():
            raise BenchError(f"{file}: a symbolic link; an artifact holds files alone. Remove it, or repeat the run")
        if file.is_file():
            state.update(f"{file.relative_to(path).as_posix()}\0{_of_file(file)}\n".encode())
    return state.hexdigest()


_OF: Mapping[str, Callable[[Path], str]] = {"samples.jsonl": _of_file, "artifact": _of_folder, JOURNAL: _of_file}
