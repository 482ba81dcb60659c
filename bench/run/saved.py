"""Check of the artifact that a finished run saved."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UsageError
from bench.records.digests import ARTIFACT, check_digests
from bench.records.schema import Result


def check_saved(run: Path, result: Result) -> None:
    """Check that a run saved an artifact, and that it is unchanged.

    Raises:
        UsageError: If there is none.
        BenchError: If it was changed since the run ended.
    """
    if result.source is not None:
        raise UsageError(f"{run}: a test, which saves no artifact; what it tested is in {result.source.folder}")
    if not (run / ARTIFACT).is_dir():
        why = "restore the folder, or repeat the run" if result.status == "ok" else f"reason: {result.reason}"
        raise UsageError(f"{run}: ended with status {result.status} and has no folder artifact; {why}")
    check_digests(result, run, [ARTIFACT])
