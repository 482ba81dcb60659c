"""Prompts of a run: the one place where an example becomes a conversation or a text to complete.

A run can put all its questions, of base and method, adaptation and test, under one named prompt of the task, behind
worked examples of the support split, and under a system message.

A model that completes a text with worked examples goes on, after its answer, with an example of its own. So its answer
ends where that begins: at the blank lines that separate examples, followed by the word that all questions begin with.

    Question: Which number comes after 7? Reply with the number only.
    Answer: 8

    Question: Which number comes after 41? Reply with the number only.
    Answer:
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import numpy as np

from bench.errors import UsageError
from bench.records.config import RunConfig
from bench.seeds import derive
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Task
from tasks.thoughts import answer_of

if TYPE_CHECKING:
    from bench.run.data import TaskData

SHOTS_VERSION = 1
"""Version of the rules for worked examples: which are shown, in what form, and where an answer to them ends."""


@dataclass(frozen=True)
class Shot:
    """Worked example.

    Attributes:
        task: Task of the example, which words its question and its answer.
        example: The example.
    """

    task: Task
    example: Example

    def answer(self, style: PromptStyle) -> str:
        """Return the worked answer."""
        answer = self.task.worked(self.example, style)
        assert answer is not None, "examples without one are not drawn"
        return answer


@dataclass(frozen=True)
class Prompting:
    """Prompts of a run.

    Attributes:
        template: Name of the task's prompt that stands for the default one.
        shots: Worked examples of different families, one more than a prompt shows. An example whose family is among the
            first is asked behind the others, so that no prompt tells its own answer.
        system: System message; None for the prompt's own, if it has one.
        families: Names of the families of examples that are not alone, by id; see `bench.run.data.TaskData`.
        separator: Line breaks between worked examples of a text to complete.
        openings: Beginnings of a next example in such a text, without the separator.
        max_think_tokens: Number of tokens after which the thought of an answer is ended; None for no limit.
    """

    template: str = DEFAULT_PROMPT
    shots: tuple[Shot, ...] = ()
    system: str | None = None
    families: Mapping[str, str] = field(default_factory=dict)
    separator: str = "\n\n"
    openings: tuple[str, ...] = ("",)
    max_think_tokens: int | None = None

    def names(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return which of a task's prompts a method may choose from: the default alone if the run has fixed another."""
        return tuple(prompts) if self.template == DEFAULT_PROMPT else (DEFAULT_PROMPT,)

    def named(self, prompt: str) -> str:
        """Return the name of the task's prompt that a name given by a method stands for."""
        return self.template if prompt == DEFAULT_PROMPT else prompt

    def fixed(self, prompts: Sequence[str]) -> dict[str, str]:
        """Return which of a task's prompts a method may not choose, each with the reason."""
        names = self.names(prompts)
        return {name: f"--template {self.template} fixes the prompt" for name in prompts if name not in names}

    @property
    def refused_rollouts(self) -> str | None:
        """Reason why a method cannot sample answers from a model in training; None if it can."""
        if self.max_think_tokens is None:
            return None
        return f"--max-think-tokens {self.max_think_tokens} ends thoughts, and those sampled in training are not ended"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """Return the strings that end an answer in addition to the task's own: where a next example begins.

        A chat needs none, because its turns end by themselves.
        """
        return tuple(self.separator + opening for opening in self.openings if self.shots and style == "completion")

    def format(
        self,
        task: Task,
        style: PromptStyle,
        example: Example,
        prompt: str = DEFAULT_PROMPT,
        drafts: Sequence[str] = (),
    ) -> list[Message] | str:
        """Format an example with one of the task's prompts, as chat messages or as a text to complete.

        Worked examples are turns of user and assistant before the question. In a text to complete they are paragraphs
        of question and answer, with a space between after a colon. A tag that the question opened is not opened again.
        None is of the example's own family. A system message stands before the prompt's own. With drafts, earlier
        answers to the example, its question is the one that the task words with them. Their thoughts are left out, and
        drafts without an answer.
        """
        name = self.named(prompt)
        shown = [text for draft in drafts if (text := (answer_of(draft) or "").strip())]
        others = [shot for shot in self.shots if family(self.families, shot.example) != family(self.families, example)]
        shots = others[: max(0, len(self.shots) - 1)]
        if style == "completion":
            parts = [_completed(shot, name) for shot in shots]
            question = task.completion(example, name)
            return self.separator.join([*parts, task.with_drafts(question, shown) if shown else question])
        system, turns = _divided(task.messages(example, name))
        if shown:
            turns = [*turns[:-1], {**turns[-1], "content": task.with_drafts(turns[-1]["content"], shown)}]
        for shot in reversed(shots):
            answer: Message = {"role": "assistant", "content": shot.answer(style)}
            turns = [*_divided(shot.task.messages(shot.example, name))[1], answer, *turns]
        if self.system is not None:
            texts = [self.system, *(message["content"] for message in system)]
            system = [{"role": "system", "content": "\n\n".join(texts)}]
        return [*system, *turns]


PLAIN = Prompting()
"""Prompts as the tasks word them."""


def prompting_of(config: RunConfig, data: TaskData) -> Prompting:
    """Return the prompts of a run.

    Args:
        config: Configuration of the run.
        data: Its tasks and their data. Worked examples are drawn from the support split.

    Raises:
        UsageError: If the prompt is unknown, or the support split has too few examples or reference answers.
    """
    prompts = data.traits.prompts
    if config.template not in prompts:
        raise UsageError(
            f"--template {config.template}: {config.task_label} has no such prompt; expected one of "
            f"{', '.join(prompts)}"
        )
    if not config.shots:
        return Prompting(config.template, system=config.system, max_think_tokens=config.max_think_tokens)
    return Prompting(
        config.template,
        _draw(config, data),
        config.system,
        data.families,
        _separator(data.adapted_on, data.splits.support),
        tuple(sorted({_opening(task, examples, prompts) for task, examples in data.asked})),
        config.max_think_tokens,
    )


def family(families: Mapping[str, str], example: Example) -> str:
    """Return the name of an example's family: its own id if it is alone."""
    return families.get(example.id, example.id)


def _draw(config: RunConfig, data: TaskData) -> tuple[Shot, ...]:
    """Return worked examples of different families, so that a question is related to one of them at most."""
    task, support = data.adapted_on, data.splits.support
    order = np.random.default_rng(derive("shots", config.shots_seed)).permutation(len(support))
    found: dict[str, Shot] = {}
    for example in (support[i] for i in order.tolist()):
        if all(task.worked(example, style) is not None for style in get_args(PromptStyle)):
            found.setdefault(family(data.families, example), Shot(task, example))
    if config.shots >= len(found):
        raise UsageError(
            f"--shots {config.shots}: the support split of {task.name} has {len(support)} examples, of which "
            f"{len(found)} can be worked ones (with a reference answer, one of each group or set of near duplicates), "
            f"and one is kept to stand in for the example that is asked about; give at most {max(0, len(found) - 1)}"
        )
    return tuple(found.values())[: config.shots + 1]


def _separator(task: Task, support: Sequence[Example]) -> str:
    """Return more line breaks than follow each other in a worked answer, and at least two."""
    answers = (task.worked(example, "completion") or "" for example in support)
    return "\n" * (1 + max((len(breaks) for answer in answers for breaks in re.findall(r"\n+", answer)), default=1))


def _opening(task: Task, examples: Sequence[Example], prompts: Sequence[str]) -> str:
    """Return the first word of all questions in texts to complete, such as `Question:`; empty if they have several."""
    texts = (task.completion(example, prompt) for example in examples for prompt in prompts)
    words = {re.split(r"\s", text, maxsplit=1)[0] for text in texts}
    return words.pop() if len(words) == 1 else ""


def _divided(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Return the system messages at the beginning of a conversation, and its turns."""
    turns = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    return list(messages[:turns]), list(messages[turns:])


def _completed(shot: Shot, prompt: str) -> str:
    """Return a worked example as a text: its question and the answer that a model should complete it with."""
    question, answer = shot.task.completion(shot.example, prompt), shot.answer("completion")
    if (tag := re.match(r"<\w+>", answer)) and question.endswith(tag.group()):
        answer = answer[tag.end() :]
    return question + (" " if question.endswith(":") else "") + answer
