"""Prompts of a run: the one place where an example becomes a conversation or a text to complete.

A run can put all its questions, of base and method, adaptation and test, under one named prompt of the task, behind
worked examples of the support split, and under a system message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import UsageError
from bench.records.config import RunConfig
from bench.seeds import derive
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Task


@dataclass(frozen=True)
class Shot:
    """Worked example.

    Attributes:
        task: Task of the example, which words its question.
        example: The example.
        gold: Its reference answer.
    """

    task: Task
    example: Example
    gold: str


@dataclass(frozen=True)
class Prompting:
    """Prompts of a run.

    Attributes:
        template: Name of the task's prompt that stands for the default one.
        shots: Worked examples, one more than a prompt shows. An example that is itself among the first is asked behind
            the others, so that no prompt tells its own answer.
        system: System message; None for the prompt's own, if it has one.
    """

    template: str = DEFAULT_PROMPT
    shots: tuple[Shot, ...] = ()
    system: str | None = None

    def names(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return which of a task's prompts a method may choose from: the default alone if the run has fixed another."""
        return tuple(prompts) if self.template == DEFAULT_PROMPT else (DEFAULT_PROMPT,)

    def fixed(self, prompts: Sequence[str]) -> dict[str, str]:
        """Return which of a task's prompts a method may not choose, each with the reason."""
        names = self.names(prompts)
        return {name: f"--template {self.template} fixes the prompt" for name in prompts if name not in names}

    def format(
        self, task: Task, style: PromptStyle, example: Example, prompt: str = DEFAULT_PROMPT
    ) -> list[Message] | str:
        """Format an example with one of the task's prompts, as chat messages or as a text to complete.

        Worked examples are turns of user and assistant before the question. In a text to complete they are paragraphs
        of question and answer, with a space between after a colon. A tag that the question opened is not opened again.
        A system message stands before the prompt's own.
        """
        name = self.template if prompt == DEFAULT_PROMPT else prompt
        shots = [shot for shot in self.shots if shot.example.id != example.id][: max(0, len(self.shots) - 1)]
        if style == "completion":
            parts = [_completed(shot, name) for shot in shots]
            return "\n\n".join([*parts, task.completion(example, name)])
        system, turns = _divided(task.messages(example, name))
        for shot in reversed(shots):
            answer: Message = {"role": "assistant", "content": shot.gold}
            turns = [*_divided(shot.task.messages(shot.example, name))[1], answer, *turns]
        if self.system is not None:
            texts = [self.system, *(message["content"] for message in system)]
            system = [{"role": "system", "content": "\n\n".join(texts)}]
        return [*system, *turns]


PLAIN = Prompting()
"""Prompts as the tasks word them."""


def prompting_of(config: RunConfig, task: Task, support: Sequence[Example], prompts: Sequence[str]) -> Prompting:
    """Return the prompts of a run.

    Args:
        config: Configuration of the run.
        task: Task that the run adapts on.
        support: Its support split, from which worked examples are drawn.
        prompts: Names of the prompts that the run's tasks share.

    Raises:
        UsageError: If the prompt is unknown, or the support split has too few examples or reference answers.
    """
    if config.template not in prompts:
        raise UsageError(f"--template {config.template}: {config.task_label} has the prompts {', '.join(prompts)}")
    return Prompting(config.template, _draw(config, task, support), config.system)


def _draw(config: RunConfig, task: Task, support: Sequence[Example]) -> tuple[Shot, ...]:
    if not config.shots:
        return ()
    if config.shots >= len(support):
        raise UsageError(
            f"--shots {config.shots}: the support split of {task.name} has {len(support)} examples, and one is kept to "
            f"stand in for the example that is asked about; give at most {len(support) - 1}"
        )
    order = np.random.default_rng(derive("shots", config.shots_seed)).permutation(len(support))
    shots = []
    for example in (support[i] for i in order[: config.shots + 1].tolist()):
        if (gold := task.gold(example)) is None:
            raise UsageError(
                f"--shots {config.shots}: a worked example shows a reference answer, and example {example.id} of "
                f"{task.name} has none"
            )
        shots.append(Shot(task, example, gold))
    return tuple(shots)


def _divided(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Return the system messages at the beginning of a conversation, and its turns."""
    turns = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    return list(messages[:turns]), list(messages[turns:])


def _completed(shot: Shot, prompt: str) -> str:
    """Return a worked example as a text: its question and the answer that a model should complete it with."""
    question, gold = shot.task.completion(shot.example, prompt), shot.gold
    if (tag := re.match(r"<\w+>", gold)) and question.endswith(tag.group()):
        gold = gold[tag.end() :]
    return question + (" " if question.endswith(":") else "") + gold
