"""Chunks: the examples of one point that one engine answers together, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.engines.interface import Completion, Finish, Job
from bench.records.entries import Shape
from tasks.interface import DEFAULT_PROMPT
from tasks.thoughts import answer_start

CHUNKS_ON_CPU = {8: 4.0, 4: 1.0, 2: 0.25}
"""Smallest evaluation, in batches, for each number of chunks. Engines of one core answer two chunks of 8 or 16 prompts
in 60 to 70 % of the time in which one of them answers all (SmolLM2, two cores)."""
CHUNKS = {8: 4.0, 4: 2.0, 2: 1.0}
"""The same for GPUs and for vLLM, which are faster with large batches."""
LARGEST_CHUNK = 4
"""Maximum size of a chunk, in batches."""


def cut(count: int, settings: Mapping[str, str | int]) -> list[range]:
    """Cut the examples of one point into chunks that several engines can compute in parallel.

    The cut depends on the number of examples and on the engine's settings, not on the number of engines. The number of
    chunks is usually a power of two, which 2, 4 or 8 engines share evenly. Example: with batches of 64 on a CPU, 82
    examples make four chunks, of 20 or 21.

    Args:
        count: Number of examples.
        settings: The engine's `settings`.

    Returns:
        Ranges of consecutive examples.
    """
    batch = int(settings["batch_size"])
    on_cpu = settings.get("backend") == "transformers" and settings.get("device") == "cpu"
    usual = next((n for n, batches in (CHUNKS_ON_CPU if on_cpu else CHUNKS).items() if count >= batches * batch), 1)
    number = max(usual, -(-count // (LARGEST_CHUNK * batch)))
    bounds = [count * i // number for i in range(number + 1)]
    return [range(*ends) for ends in pairwise(bounds)]


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
