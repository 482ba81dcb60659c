"""Values that a task returned, checked where they come in: a record holds no others, and is written at the very end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from bench.errors import BenchError, UsageError, problems, shown
from bench.records.entries import Judged
from bench.records.samples import Turn
from tasks.interface import DEFAULT_PROMPT, Example, Score, Task

_TURNS = TypeAdapter(list[Turn])
_PARTS = TypeAdapter(Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)])
_MEASURES = TypeAdapter(dict[str, Annotated[float, Field(allow_inf_nan=False)]])


def require_texts(task: Task, *parts: Sequence[Example]) -> None:
    """Check the reference answers and categories of all examples, and the prompts of the first one of each part.

    Args:
        task: Task of the examples.
        parts: Examples by split.

    Raises:
        UsageError: If one is no text; names the task, the function, the example and the value.
    """
    for part in parts:
        found = [problem for example in part[:1] for problem in prompt_problems(task, example)]
        for example in part:
            found += filter(None, (gold_problem(task, example), category_problem(task, example)))
        if found:
            raise UsageError(f"task {task.name}: {found[0]}")


def prompt_problems(task: Task, example: Example) -> Iterator[str]:
    """Yield what is wrong with the prompts that a task returns for an example.

    Example text: `messages of example 3+4 returned [{"role": "user"}]: 0.content: missing`.
    """
    for prompt in task.prompts:
        named = "" if prompt == DEFAULT_PROMPT else f" and prompt {prompt}"
        messages, text = task.messages(example, prompt), task.completion(example, prompt)
        try:
            _TURNS.validate_python(messages, strict=True)
        except ValidationError as error:
            wrong = next(text for _, text in problems(error))
            yield f"messages of example {example.id}{named} returned {shown(messages)}: {wrong}"
        if not isinstance(text, str):
            yield f"completion of example {example.id}{named} returned {shown(text)}; expected text"


def gold_problem(task: Task, example: Example) -> str | None:
    """Return what is wrong with the reference answer that a task returns for an example; None if nothing is.

    Example text: `gold of example 3+4 returned 7; expected text, or None if no reference answer is known`.
    """
    return _text_problem("gold", task.gold(example), example, "no reference answer is known")


def category_problem(task: Task, example: Example) -> str | None:
    """Return what is wrong with the category that a task returns for an example; None if nothing is.

    Example text: `category of example 3+4 returned 7; expected text, or None if the example has no category`.
    """
    return _text_problem("category", task.category(example), example, "the example has no category")


def _text_problem(what: str, value: object, example: Example, none: str) -> str | None:
    """Return what is wrong with a value that may be text, or None, which has the meaning given."""
    if value is None or isinstance(value, str):
        return None
    return f"{what} of example {example.id} returned {shown(value)}; expected text, or None if {none}"


def scores_of(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
    """Return a task's scores of answers.

    Raises:
        BenchError: If one is no score that a record holds; names the task, the example, the field and the value.
    """
    found = task.score_many(examples, texts)
    if len(found) != len(examples):
        raise BenchError(
            f"task {task.name}: score_many returned {len(found)} scores of {len(examples)} answers; return one each"
        )
    return [_score(task, example, score) for example, score in zip(examples, found, strict=True)]


def _score(task: Task, example: Example, score: Score) -> Score:
    where = f"task {task.name}: score of an answer to example {example.id}"
    if not isinstance(score, Score):
        raise BenchError(f"{where} returned {shown(score)}; expected a Score")
    try:
        return Score(**dict(Judged.One.model_validate(vars(score))))
    except ValidationError as error:
        raise BenchError(f"{where}: {'; '.join(text for _, text in problems(error))}") from error


def rewards_of(
    task: Task, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
) -> list[dict[str, float] | None]:
    """Return the parts of a task's reward for each answer.

    Raises:
        BenchError: If one is no number in [0, 1], or an answer has none; names the task, the example, the part and the
            value.
    """
    found = task.rewards(examples, texts, scores)
    if len(found) != len(examples):
        raise BenchError(
            f"task {task.name}: rewards returned {len(found)} items for {len(examples)} answers; return one each"
        )
    return [None if p is None else _parts(task, example, p) for example, p in zip(examples, found, strict=True)]


def _parts(task: Task, example: Example, parts: dict[str, float]) -> dict[str, float]:
    try:
        return _PARTS.validate_python(parts)
    except ValidationError as error:
        where = f"task {task.name}: rewards of an answer to example {example.id}"
        raise BenchError(f"{where}: {'; '.join(text for _, text in problems(error))}") from error


def measures_of(
    task: Task, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
) -> dict[str, float]:
    """Return a task's additional metrics of scored answers.

    Raises:
        BenchError: If one is no finite number; names the task, the metric and the value.
    """
    try:
        return _MEASURES.validate_python(task.measures(examples, texts, scores))
    except ValidationError as error:
        raise BenchError(f"task {task.name}: measures: {'; '.join(text for _, text in problems(error))}") from error
