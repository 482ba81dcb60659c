"""Samples of a run: each test answer of each row with its score, one JSON object a line in samples.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, JsonValue, NonNegativeInt, TypeAdapter, ValidationError

from bench.errors import BenchError, usage_error
from bench.records.files import read
from bench.records.lines import NotStrict, decode, split
from bench.records.migrations import Document, migrate, parse
from bench.records.rows import Frozen
from bench.records.schema import result_path


class Turn(Frozen):
    """One turn of a conversation: `{"role": "user", "content": "What is 2 * 91?"}`.

    Further keys that a task gives to the chat template, such as `name`, are kept.

    Attributes:
        role: Speaker: `system`, `user` or `assistant`.
        content: Text of the turn.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    role: str
    content: str


class Sample(Frozen):
    """One line of samples.jsonl: the answer of one row to one test example, with the question and the reference answer.

    Each line stands alone, so that the lines of several runs make one table. Example line (shortened):

        {"row":1,"task":"addition","model":"tiny-adder","method":"corp","label":"","seed":0,"id":"20+22",
         "prompt_id":"default","prompt":"20+22=","prompt_sha256":"3f…","gold":"42","text":"42","answer":"42",
         "correct":true,"reward":1.0,"status":"ok","detail":"","finish":"end","prompt_tokens":6,"new_tokens":3,
         "cluster":null}

    In records of earlier versions, `task`, `model`, `method`, `label`, `seed`, `prompt_id`, `prompt` and `gold` are
    None.

    Attributes:
        row: Index of the row in the result; 0 is the base.
        task: Name of the task.
        model: Base model, as the run names it.
        method: Method of the row; `base` for row 0.
        label: Label of the row, such as `k=5`; empty for the base, and if the method has one row.
        seed: Seed of the method.
        id: Id of the test example. Examples of two tasks may have the same ids.
        prompt_id: Name of the prompt that this text answers, such as `default` or `swapped`. This and `prompt` are None
            if no model generated the text on its own.
        prompt: The prompt itself, with worked examples and system message: a text to complete, or the turns of a
            conversation before the model's chat template.
        prompt_sha256: sha256 of the token ids of the example's default prompt.
        gold: Reference answer in full, as the task would reply; None if the task has none. Tests that judge a program
            are no part of it.
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
        thought_tokens: Number of these that belong to its thought; 0 without a thought. None as above, in
            records of earlier versions, and if one of them began the run and answered with a thought.
        thought_cut: Whether the thought was ended at the run's limit, `max_think_tokens`. None as above.
        cluster: Label of the example, equal for test examples that belong together, such as parts of one problem; None
            if no two of them do, and in records of earlier versions.
    """

    row: NonNegativeInt
    task: str | None = None
    model: str | None = None
    method: str | None = None
    label: str | None = None
    seed: NonNegativeInt | None = None
    id: str
    prompt_id: str | None = None
    prompt: str | tuple[Turn, ...] | None = None
    prompt_sha256: str
    gold: str | None = None
    text: str
    answer: str | None
    correct: bool | None
    reward: float | None
    status: str | None
    detail: str
    finish: Literal["end", "stop", "length"] | None = None
    prompt_tokens: NonNegativeInt | None = None
    new_tokens: NonNegativeInt | None = None
    thought_tokens: NonNegativeInt | None = None
    thought_cut: bool | None = None
    cluster: NonNegativeInt | None = None

    @property
    def question(self) -> str:
        """The prompt as one text for a reader, each turn of a conversation after its role; empty if it is not known."""
        if isinstance(self.prompt, tuple):
            return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.prompt)
        return self.prompt or ""


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
