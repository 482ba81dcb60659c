"""Tasks of a run: it is adapted and tested on one task, or adapted on one and tested on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.records.config import RunConfig
from bench.registry import load_task
from tasks.interface import Example, Message, PromptStyle, Splits, Task, TaskTraits


@dataclass(frozen=True)
class TaskData:
    """Tasks of a run and their data.

    Attributes:
        task: Task to test on.
        adapted_on: Task to adapt on; the same object as `task` unless `adapt_on` is set.
        splits: Support, select and gate of `adapted_on`, test of `task`.
    """

    task: Task
    adapted_on: Task
    splits: Splits

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All distinct tasks: one or two."""
        return tuple(dict.fromkeys((self.adapted_on, self.task)))

    @property
    def traits(self) -> TaskTraits:
        """Task properties that methods may see."""
        return TaskTraits.of(self.task, self.splits, adapted_on=self.adapted_on)

    def max_length(self, style: PromptStyle, encode: Callable[[list[Message] | str], Sequence[int]]) -> int:
        """Return the maximum length of prompt plus answer, in tokens, over all examples and prompts."""
        adaptation = (*self.splits.support, *self.splits.select, *self.splits.gate)
        return max(
            len(encode(format_prompt(task, style, example, prompt))) + task.max_new_tokens
            for task, examples in ((self.adapted_on, adaptation), (self.task, self.splits.test))
            for example in examples
            for prompt in task.prompts
        )


def format_prompt(task: Task, style: PromptStyle, example: Example, prompt: str) -> list[Message] | str:
    """Format an example with one of the task's prompts, as chat messages or as a text to complete."""
    return task.messages(example, prompt) if style == "chat" else task.completion(example, prompt)


def load_task_data(config: RunConfig) -> TaskData:
    """Load the tasks of a configuration and their data.

    Raises:
        BenchError: If a task or its data cannot be loaded, or the two tasks share an example.
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
    adapted_on, adapt_data = load_task(config.adapt_on), config.adapt_data and Path(config.adapt_data)
    splits, tested = adapted_on.load(adapt_data or None), task.whole(data or None)
    try:
        return TaskData(task, adapted_on, Splits(splits.support, splits.select, splits.gate, tested))
    except ValueError as error:
        raise UsageError(
            f"--adapt-on {config.adapt_on}: has examples in common with {config.task}, and all examples of "
            f"{config.task} are test examples; adapt on another task, or leave the option out"
        ) from error
