"""Check of the options on thoughts, `--think` and `--max-think-tokens`, against a model's chat template and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.records.config import RunConfig
from tasks.interface import Task

if TYPE_CHECKING:
    from bench.engines.tokenizer import CheckpointTokenizer
    from bench.run.data import TaskData


def check_thinking(config: RunConfig, data: TaskData, folder: Path) -> None:
    """Check that a model takes the options on thoughts that a run has.

    Args:
        config: Configuration of the run.
        data: Its tasks, whose limits on the length of an answer are those of the run, and their examples.
        folder: The model's checkpoint folder.

    Raises:
        UsageError: If the model takes no such option, `--think` has no effect on a prompt of the run, or a thought
            leaves no room for an answer.
    """
    if config.think == "auto" and config.max_think_tokens is None:
        return
    from bench.engines.tokenizer import CheckpointTokenizer

    option = f"--think {config.think}" if config.think != "auto" else f"--max-think-tokens {config.max_think_tokens}"
    if config.prompt == "completion":
        raise UsageError(f"{option}: texts to complete (--prompt completion) have no thoughts; leave out one option")
    tokenizer = CheckpointTokenizer(str(folder), "cpu", config.think)
    if config.think != "auto":
        _check_effect(data, tokenizer)
    if config.max_think_tokens is not None:
        _check_room(config.max_think_tokens, data.tasks, tokenizer, folder)


def _check_effect(data: TaskData, tokenizer: CheckpointTokenizer) -> None:
    """Check that the default prompts differ with a thought and without.

    A method leaves out other prompts that do not, as it leaves out those that the chat template does not take.
    """
    for task, examples in data.asked:
        for example in examples:
            messages = data.prompting.format(task, "chat", example)
            assert not isinstance(messages, str)
            if reason := tokenizer.unswitched(messages):
                raise UsageError(reason)


def _check_room(limit: int, tasks: Sequence[Task], tokenizer: CheckpointTokenizer, folder: Path) -> None:
    option = f"--max-think-tokens {limit}"
    end = tokenizer.longest_thought_end
    if end is None:
        raise UsageError(
            f"{option}: {folder}: the chat template writes no delimiter of thoughts, so it is not known what ends one; "
            "leave out the option"
        )
    for task in tasks:
        if (most := task.max_new_tokens - end - 1) < limit:
            remedy = f"give at most {most}, or " if most > 0 else "give "
            raise UsageError(
                f"{option}: a thought of {limit} tokens and the {end} that end it leave no room for an answer within "
                f"the {task.max_new_tokens} tokens of {task.name}; {remedy}--max-new-tokens {limit + end + 1} or more"
            )
