"""What a run adapts on and what it is tested on: one task, or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.records.schema import RunConfig
from bench.registry import load_task
from tasks.interface import Example, Message, PromptStyle, Splits, Task, TaskTraits


@dataclass(frozen=True)
class TaskData:
    """The tasks of a run and their data.

    Attributes:
        task: What is tested on.
        adapted_on: What is adapted on; the same object, if it is no other task.
        splits: Support, select and gate of the one, test of the other.
    """

    task: Task
    adapted_on: Task
    splits: Splits

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Each task once."""
        return tuple(dict.fromkeys((self.adapted_on, self.task)))

    @property
    def traits(self) -> TaskTraits:
        """What a method may know of it."""
        return TaskTraits.of(self.task, self.splits, adapted_on=self.adapted_on)

    def positions(self, style: PromptStyle, encode: Callable[[list[Message] | str], Sequence[int]]) -> int:
        """Return the most tokens that a prompt and its answer can take."""
        ours = (*self.splits.support, *self.splits.select, *self.splits.gate)
        return max(
            len(encode(format_prompt(task, style, example, prompt))) + task.max_new_tokens
            for task, examples in ((self.adapted_on, ours), (self.task, self.splits.test))
            for example in examples
            for prompt in task.prompts
        )


def format_prompt(task: Task, style: PromptStyle, example: Example, prompt: str) -> list[Message] | str:
    """Return an example as a conversation, or as a text to continue, posed in one of the task's ways."""
    return task.messages(example, prompt) if style == "chat" else task.completion(example, prompt)


def load_task_data(config: RunConfig) -> TaskData:
    """Load the tasks of a configuration, and their data.

    Raises:
        BenchError: If a task or its data cannot be had, or the two tasks have an example in common.
    """
    task_data = _load(config)
    if config.max_new_tokens is not None:
        for task in task_data.tasks:
            task.max_new_tokens = config.max_new_tokens
            task.expected_new_tokens = min(task.expected_new_tokens, config.max_new_tokens)
    return task_data


def _load(config: RunConfig) -> TaskData:
    task, data = load_task(config.task), config.data and Path(config.data)
    if config.adapt_on is None:
        if config.adapt_data is not None:
            raise UsageError(f"--adapt-data {config.adapt_data}: name the task that it belongs to with --adapt-on")
        return TaskData(task, task, task.load(data or None))
    adapted_on, its_data = load_task(config.adapt_on), config.adapt_data and Path(config.adapt_data)
    ours, tested = adapted_on.load(its_data or None), task.whole(data or None)
    try:
        return TaskData(task, adapted_on, Splits(ours.support, ours.select, ours.gate, tested))
    except ValueError as error:
        raise UsageError(
            f"--adapt-on {config.adapt_on}: has examples in common with {config.task}, all of which is tested on; "
            "adapt on another task, or leave the option out"
        ) from error
