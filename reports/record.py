"""Compact record of a finished run: its result, and which test items it answered correctly.

The leaderboard is made from these. A record is read from a run directory, or from one JSON file such as those in
reports/records, which leaves out the journal, the texts of the samples and the artifact:

    {"result": {...}, "items": "ddf26b57...", "base": "1011-0...", "rows": {"k=1": "1111-0..."}}
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
    """Compact record of one run.

    Attributes:
        result: Content of the run's result.json.
        items: SHA-256 of the ids of the test items, in order; empty for a run without test answers.
        base: Verdicts on the base model's answers, one character per test item: 1 correct, 0 wrong, - not judged.
        rows: Verdicts on the answers of each row, by row label, in the same form and order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    items: str = ""
    base: str = Field(default="", pattern="^[01-]*$")
    rows: dict[str, str] = Field(default_factory=dict)


def outcomes(text: str) -> NDArray[np.int8]:
    """Return the verdicts of a record, shape [items]: 1 correct, 0 wrong, -3 not judged."""
    return np.frombuffer(text.encode(), dtype=np.int8) - np.int8(ord(WRONG))


def read_record(path: Path) -> Record:
    """Read the record of a run directory, or a record file.

    Raises:
        BenchError: If the path holds no finished run, or the record cannot be read.
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
    """Return the record of a run directory, given its result.

    Raises:
        BenchError: If samples.jsonl is missing or does not match the rows of the result.
    """
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
def gc_disabled() -> Iterator[None]:
    """Switch Python's cyclic garbage collector off while records are read.

    It would scan the growing list of records again and again. With it on, reading 10,000 records and making their
    board takes 1.7 times as long (`python -m measurements.leaderboard`).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def items_digest(ids: Sequence[str]) -> str:
    """Return the SHA-256 of a list of test item ids, which identifies the item set."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def read_samples(folder: Path) -> list[Sample]:
    """Read the test answers of a run from samples.jsonl. Return an empty list if there is no such file.

    Raises:
        BenchError: If a line cannot be read.
    """
    path = folder / "samples.jsonl"
    samples = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        try:
            samples.append(Sample.model_validate_json(line))
        except ValidationError as error:
            raise BenchError(
                f"{path}, line {number}: not a sample in the format of this version; repeat the run"
            ) from error
    return samples


def find_records(roots: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Find runs and record files below folders.

    A file is a record if its name is a run directory's name plus `.json`, such as `seed-0-1a2b3c4d.json`.

    Returns:
        Finished runs and record files, sorted; and unfinished runs, sorted.
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
