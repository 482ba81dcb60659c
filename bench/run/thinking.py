"""Check of the options on thoughts, `--think` and `--max-think-tokens`, against a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.records.config import RunConfig
from tasks.interface import Task

if TYPE_CHECKING:
    from bench.engines.tokenizer import CheckpointTokenizer


def check_thinking(config: RunConfig, tasks: Sequence[Task], folder: Path) -> None:
    """Check that a model takes the options on thoughts that a run has.

    Args:
        config: Configuration of the run.
        tasks: Its tasks, whose limits on the length of an answer are those of the run.
        folder: The model's checkpoint folder.

    Raises:
        UsageError: If the model takes no such option, or a thought leaves no room for an answer.
    """
    if config.think == "auto" and config.max_think_tokens is None:
        return
    from bench.engines.tokenizer import CheckpointTokenizer

    option = f"--think {config.think}" if config.think != "auto" else f"--max-think-tokens {config.max_think_tokens}"
    if config.prompt == "completion":
        raise UsageError(f"{option}: texts to complete (--prompt completion) have no thoughts; leave out one option")
    tokenizer = CheckpointTokenizer(str(folder), "cpu", config.think)
    if config.max_think_tokens is not None:
        _check_room(config.max_think_tokens, tasks, tokenizer, folder)


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
