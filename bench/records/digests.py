"""Check of the files of a run directory against the digests in its result.

The result has the digest of the artifact (`saved`), of the samples (`samples_sha256`), and of the journal (in `timing`,
because the journal holds times).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bench.errors import BenchError
from bench.records.files import file_digest, folder_digest

if TYPE_CHECKING:
    from bench.records.schema import Result

SAMPLES: Final = "samples.jsonl"
JOURNAL: Final = "journal.jsonl"
ARTIFACT: Final = "artifact"
Part = Literal["samples.jsonl", "journal.jsonl", "artifact"]


PARTS: Final[tuple[Part, ...]] = (SAMPLES, JOURNAL, ARTIFACT)


def items_digest(ids: Sequence[str]) -> str:
    """Return the SHA-256 of a list of test item ids, which identifies the item set."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def recorded_digest(result: Result, name: Part) -> str | None:
    """Return the digest of a part of a run directory in its result; None in records of earlier versions."""
    if name == SAMPLES:
        return result.samples_sha256
    if name == JOURNAL:
        return result.timing.journal if result.timing else None
    return result.saved.sha256 if result.saved else None


def check_digests(result: Result, folder: Path, names: Iterable[Part]) -> None:
    """Check that files of a run directory are those that its result was made from. A file that is not there passes.

    Args:
        result: Result of the run. One of an earlier version has no digests, so that only links are noticed.
        folder: Run directory.
        names: Files to check.

    Raises:
        BenchError: If one was changed since, or the artifact has a symbolic link. The message names it.
    """
    for name in names:
        path = folder / name
        if not path.exists():
            continue
        now = (folder_digest if path.is_dir() else file_digest)(path)
        if (recorded := recorded_digest(result, name) or now) != now:
            told = f"its SHA-256 is {now[:12]}, and {recorded[:12]} in result.json"
            raise BenchError(f"{path}: was changed since the run ended ({told}); restore it, or repeat the run")
