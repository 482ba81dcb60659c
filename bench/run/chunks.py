"""Chunks: the examples of one point that one engine answers together, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.engines.interface import Completion, Finish, Job
from bench.records.entries import Shape
from tasks.interface import DEFAULT_PROMPT
from tasks.thoughts import answer_start


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    Attributes:
        text: Decoded answer.
        finish: Reason for its end.
        prompt_tokens: Length of the prompt in tokens.
        new_tokens: Number of generated tokens.
        thought_tokens: Number of tokens of the thought among them; 0 without a thought. None if it is not known.
        thought_cut: Whether the thought was ended at the run's limit. None as above.
        prompt: Name of the prompt that it answers, as the method gave it.
        drafts: Earlier answers that its prompt shows.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    new_tokens: int
    thought_tokens: int | None
    thought_cut: bool | None
    prompt: str = DEFAULT_PROMPT
    drafts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Examples that one engine answers together.

    Attributes:
        key: Key for prefetched results in the journal.
        job: Job for the engine.
        read: Converts the engine's completions into a journal value.
        shape: Check of a journal value.
    """

    key: dict[str, Any]
    job: Job
    read: Callable[[Sequence[Completion]], dict[str, Any]]
    shape: Shape


def journalled_answers(completions: Sequence[Completion]) -> dict[str, Any]:
    """Return answers as a journal value: `{"answers": [["42", "end", 7, 3], ...]}`, an answer without a thought.

    One with a thought has two fields more: `["<think>6 * 7</think>42", "end", 7, 12, 9, false]`.
    """
    return {"answers": [_fields(completion) for completion in completions]}


def _fields(found: Completion) -> list[Any]:
    thought = [found.thought_tokens, found.thought_cut] if _has_thought(found.text) else []
    return [found.text, found.finish, found.prompt_tokens, found.new_tokens, *thought]


def answer_from(fields: Sequence[Any], prompt: str, drafts: tuple[str, ...] = ()) -> Answer:
    """Return the answer that a journal holds, to a prompt with drafts.

    Earlier versions did not write the two fields of a thought. What they say of an answer with a thought is not known.
    """
    text, finish, prompt_tokens, new_tokens, *known = fields
    thought_tokens, cut_short = known or ((None, None) if _has_thought(text) else (0, False))
    return Answer(text, finish, prompt_tokens, new_tokens, thought_tokens, cut_short, prompt, drafts)


def _has_thought(text: str) -> bool:
    return answer_start(text) != 0
