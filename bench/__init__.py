"""The benchmark harness: engines, weight space, compute accounting, records, sandbox, statistics, command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from reports.frames import Frames

__all__ = ["read"]


def read(*runs: str | PathLike[str] | Iterable[str | PathLike[str]]) -> Frames:
    """Return finished runs as pandas DataFrames, one for each table of docs/data-frames.md.

    A run that cannot be read is left out with a warning; `Frames.unreadable` has the reasons.

    Example:
        ```python
        frames = bench.read("runs")
        print(frames.rows.groupby(["task", "method"]).accuracy.mean())
        ```

    Args:
        runs: Run directories, record files, or folders of these: paths, or iterables of paths. Default: `runs`.

    Raises:
        UsageError: If an iterable is empty, a path does not exist, or there is no finished run.
        Refused: If pandas or pyarrow is not installed.
    """
    import warnings
    from os import PathLike
    from pathlib import Path

    from reports import frames

    paths: list[str | PathLike[str]] = []
    for given in runs or ("runs",):
        paths.extend([given] if isinstance(given, str | PathLike) else given)
    found = frames.read([Path(path) for path in paths])
    for reason in found.unreadable:
        warnings.warn(f"left out: {reason}", stacklevel=2)
    return found
