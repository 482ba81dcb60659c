"""Session of a task's conformance checks: the data that checks inspect, and helpers to report results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Score, Splits, Task

MAX_REPORTED = 3
"""Maximum number of defects in the detail of a check."""

Pair = tuple[Example, str]
"""Example and an answer to it."""
Observation = tuple[bool | None, str]
"""Whether a check passed (None if it does not apply), and its detail."""


@dataclass(frozen=True)
class TaskSession:
    """Task under check, with its data.

    Attributes:
        name: Name that the task is loaded by.
        task: Task, already admitted to the sandbox if it runs code.
        data: File with the task's rows; None for its own source.
        splits: Splits of the data.
        examples: Examples whose answers are scored.
    """

    name: str
    task: Task
    data: Path | None
    splits: Splits
    examples: tuple[Example, ...]

    @cached_property
    def golds(self) -> list[Pair]:
        """Examples that have a gold answer, with that answer."""
        return self.golds_of(self.examples)

    @property
    def all_examples(self) -> tuple[Example, ...]:
        """Examples of all splits."""
        return tuple(example for name in SPLITS for example in getattr(self.splits, name))

    def golds_of(self, examples: Sequence[Example]) -> list[Pair]:
        """Return the examples that have a gold answer, with that answer."""
        return [(example, gold) for example in examples if isinstance(gold := self.task.gold(example), str)]

    @cached_property
    def gold_scores(self) -> list[Score]:
        """Scores of the gold answers."""
        return self.score(self.golds)

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """Score answers to examples."""
        return self.task.score_many([example for example, _ in pairs], [text for _, text in pairs])

    def default_prompt(self, example: Example) -> str:
        """Return the text of an example's default chat prompt."""
        return "\n".join(turn["content"] for turn in self.task.messages(example, DEFAULT_PROMPT))

    def all_prompts(self, example: Example) -> str:
        """Return the joined text of all chat and completion prompts of an example."""
        names = self.task.prompts
        turns = [turn["content"] for prompt in names for turn in self.task.messages(example, prompt)]
        return "\n".join([*turns, *(self.task.completion(example, prompt) for prompt in names)])


def sample_evenly(splits: Splits, count: int) -> tuple[Example, ...]:
    """Return the first examples of all splits in turn, at most `count` in total."""
    parts = [getattr(splits, name) for name in SPLITS]
    turns = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
    return tuple(turns[:count])


def outcome(wrong: Sequence[str], otherwise: str) -> Observation:
    """Return the result of a check: failed with the first defects, or passed with the detail `otherwise`."""
    more = [f"and {len(wrong) - MAX_REPORTED} more"] if len(wrong) > MAX_REPORTED else []
    return not wrong, "; ".join([*wrong[:MAX_REPORTED], *more]) or otherwise


def describe(pair: Pair) -> str:
    """Return the example id and the start of the answer, such as `17: 'The sum is 42.'`."""
    example, text = pair
    return f"{example.id}: {text[:40]!r}"


Check = Callable[[TaskSession], Observation]
