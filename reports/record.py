"""A finished run in one small file: its result, and for each test item which answers count.

What a board is made of. A run directory is read as one; so is a file that was written from one, without its journal,
its samples' texts and its artifact.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BenchError, usage_error
from bench.records.schema import Result, Sample, find_runs, read_result

RIGHT, WRONG, UNJUDGED = "1", "0", "-"
_VERDICTS = {True: RIGHT, False: WRONG, None: UNJUDGED}


class Record(BaseModel):
    """One run.

    Attributes:
        result: Its result.
        items: sha256 over the ids of the test items in their order; empty for a run that did not end well.
        base: Whether the base's answers count, a character an item: 1, 0, or - where it could not be judged.
        rows: The same for each row, by its label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    items: str = ""
    base: str = Field(default="", pattern="^[01-]*$")
    rows: dict[str, str] = Field(default_factory=dict)


def outcomes(text: str) -> NDArray[np.int8]:
    """Return the verdicts of a record as an array: 1 right, 0 wrong, -3 not judged."""
    return np.frombuffer(text.encode(), dtype=np.int8) - np.int8(ord(WRONG))


def read_record(path: Path) -> Record:
    """Read a run directory, or the file of one.

    Raises:
        BenchError: If it holds none, or one that cannot be read.
    """
    if path.is_dir():
        return record_of(path, read_result(path))
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BenchError(str(usage_error(str(path), error))) from error
    if {len(text) for text in record.rows.values()} - {len(record.base)}:
        raise BenchError(f"{path}: rows and base must have a verdict for each of the same items")
    return record


def record_of(folder: Path, result: Result) -> Record:
    """Return the record of a run directory whose result was read."""
    samples = read_samples(folder)
    if not result.rows:
        return Record(result=result)
    if not samples:
        raise BenchError(f"{folder / 'samples.jsonl'}: missing or empty, though the run ended well; nothing to compare")
    by_row: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        by_row.setdefault(sample.row, {})[sample.id] = sample
    first = next(iter(by_row.values()))
    if set(by_row) != {row.label for row in result.rows} or any(row.keys() != first.keys() for row in by_row.values()):
        raise BenchError(
            f"{folder / 'samples.jsonl'}: does not hold one answer for each row of the result and each item"
        )
    return Record(
        result=result,
        items=items_digest(list(first)),
        base="".join(_VERDICTS[sample.base_correct] for sample in first.values()),
        rows={label: "".join(_VERDICTS[row[i].correct] for i in first) for label, row in by_row.items()},
    )


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off: it would look through thousands of records again and again, and find nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def items_digest(ids: Sequence[str]) -> str:
    """Return what tells one set of test items from another."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def read_samples(folder: Path) -> list[Sample]:
    """Read the test answers of a run; none where there is no file.

    Raises:
        BenchError: If a line cannot be read.
    """
    path = folder / "samples.jsonl"
    samples = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        try:
            samples.append(Sample.model_validate_json(line))
        except ValidationError as error:
            raise BenchError(f"{path}, line {number}: no sample of this version; run it again") from error
    return samples


def find_records(roots: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return what is below folders: finished runs and files of records, and unfinished runs, both sorted.

    A file counts as a record where its name is that of a run directory and ends in `.json`.
    """
    found: set[Path] = set()
    unfinished: set[Path] = set()
    for root in roots:
        root = root.resolve()
        if root.is_file():
            found.add(root)
            continue
        found.update(root.rglob("seed-*.json"))
        for folder in find_runs(root):
            (found if (folder / "result.json").exists() else unfinished).add(folder)
    return sorted(found, key=str), sorted(unfinished, key=str)
