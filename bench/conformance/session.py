"""One task in its exam: what the checks look at, and how they report it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Score, Splits, Task

TOLD = 3
"""How much of what is wrong is reported."""

Pair = tuple[Example, str]
Observation = tuple[bool | None, str]
"""Whether a check holds, None if there is nothing to examine; and what was seen."""


@dataclass(frozen=True)
class TaskSession:
    """A task with its data.

    Attributes:
        name: What the task is loaded by.
        task: The task, allowed to judge what it has to.
        data: File with its rows; None for its own source.
        splits: The data.
        examples: Those whose answers are scored.
    """

    name: str
    task: Task
    data: Path | None
    splits: Splits
    examples: tuple[Example, ...]

    @cached_property
    def golds(self) -> list[Pair]:
        """The examples whose gold answers are known, with these."""
        return [(example, gold) for example in self.examples if (gold := self.task.gold(example)) is not None]

    @cached_property
    def gold_scores(self) -> list[Score]:
        """The scores of the gold answers."""
        return self.score(self.golds)

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """Score answers to examples."""
        return self.task.score_many([example for example, _ in pairs], [text for _, text in pairs])

    def posed(self, example: Example) -> str:
        """Return what a chat model is told by default."""
        return "\n".join(turn["content"] for turn in self.task.messages(example, DEFAULT_PROMPT))

    def posed_in_all_ways(self, example: Example) -> str:
        """Return what any model is told by any prompt."""
        ways = self.task.prompts
        turns = [turn["content"] for prompt in ways for turn in self.task.messages(example, prompt)]
        return "\n".join([*turns, *(self.task.completion(example, prompt) for prompt in ways)])


def spread(splits: Splits, count: int) -> tuple[Example, ...]:
    """Return so many examples, as many from each split as from any other as far as there are."""
    parts = [getattr(splits, name) for name in SPLITS]
    turns = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
    return tuple(turns[:count])


def outcome(wrong: Sequence[str], otherwise: str) -> Observation:
    """Report the first of what is wrong; or, if nothing is, what was seen."""
    more = [f"and {len(wrong) - TOLD} more"] if len(wrong) > TOLD else []
    return not wrong, "; ".join([*wrong[:TOLD], *more]) or otherwise


def named(pair: Pair) -> str:
    """Return an example and the beginning of the answer to it, for a report."""
    example, text = pair
    return f"{example.id}: {text[:40]!r}"


Check = Callable[[TaskSession], Observation]
