"""Samples of a run: each test answer of each row with its score, one JSON object a line in samples.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from bench.errors import BenchError, usage_error
from bench.records.files import read
from bench.records.lines import NotStrict, decode, split
from bench.records.migrations import Document, migrate, parse
from bench.records.rows import Frozen
from bench.records.schema import result_path


class Sample(Frozen):
    """One line of samples.jsonl: the answer of one row to one test example.

    Example line (shortened):

        {"row":1,"id":"17","prompt_sha256":"3f…","text":"The sum is 42.","answer":"42","correct":true,"reward":1.0,
         "status":"ok","detail":"","finish":"end","prompt_tokens":31,"new_tokens":7,"cluster":null}

    Attributes:
        row: Index of the row in the result; 0 is the base.
        id: Id of the test example.
        prompt_sha256: sha256 of the token ids of the example's default prompt.
        text: Answer of the row, in full.
        answer: Final answer that the scorer extracted from it; None if there is none.
        correct: Whether the answer is correct; None if it could not be judged.
        reward: Shaped reward; None if it could not be judged.
        status: Status from the scorer; None for the base in records of schema 2.
        detail: Detail from the scorer.
        finish: Reason for the end of the answer: `end`, `stop` or `length`. This and the next two fields are None if
            no model generated this text on its own, and in records of schema 2.
        prompt_tokens: Length of the prompt in tokens.
        new_tokens: Length of the answer in tokens.
        cluster: Label of the example, equal for test examples that belong together, such as parts of one problem; None
            if no two of them do, and in records of earlier versions.
    """

    row: NonNegativeInt
    id: str
    prompt_sha256: str
    text: str
    answer: str | None
    correct: bool | None
    reward: float | None
    status: str | None
    detail: str
    finish: Literal["end", "stop", "length"] | None = None
    prompt_tokens: NonNegativeInt | None = None
    new_tokens: NonNegativeInt | None = None
    cluster: NonNegativeInt | None = None


_SAMPLES = TypeAdapter(list[Sample])


def read_samples(folder: Path) -> list[Sample]:
    """Read the test answers of a finished run, ordered by row. Return an empty list if it has no samples.jsonl.

    Raises:
        UsageError: If the folder is not a run directory, or the run has not finished.
        BenchError: If this version cannot read the record.
    """
    path = result_path(folder)
    document = {"result": parse(path), **read_lines(folder)}
    return samples_of(folder, migrate(document, folder / "samples.jsonl"))


def first_samples(folder: Path, count: int) -> list[Sample]:
    """Return all rows' answers to the first test examples of a finished run, ordered by example.

    Args:
        folder: Run directory.
        count: Number of examples.
    """
    by_item: dict[str, list[Sample]] = {}
    for sample in read_samples(folder):
        by_item.setdefault(sample.id, []).append(sample)
    return [sample for item in list(by_item.values())[:count] for sample in item]


def read_lines(folder: Path) -> dict[str, list[Any]]:
    """Return the samples of a run as plain data, in the schema that they were written in: `{"samples": [...]}`.

    Raises:
        BenchError: If the file cannot be read, or a line is not strict JSON.
    """
    path = folder / "samples.jsonl"
    found = []
    for number, line in split(read(path) if path.exists() else b""):
        try:
            found.append(decode(line))
        except NotStrict as error:
            raise BenchError(f"{path}, line {number}: {error}; repeat the run") from error
    return {"samples": found}


def samples_of(folder: Path, document: Document) -> list[Sample]:
    """Return the samples of a migrated document.

    Raises:
        BenchError: If a sample does not fit the schema.
    """
    try:
        return _SAMPLES.validate_python(document["samples"])
    except ValidationError as error:
        raise BenchError(f"{usage_error(str(folder / 'samples.jsonl'), error)}; repeat the run") from error
