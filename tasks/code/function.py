"""Base class of tasks that ask for a Python function, given its signature and docstring. Hidden tests score it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.sandbox import Program
from tasks.code.answer import WholeProgram, program_in
from tasks.code.behaviour import SIGNAL_BY, VOTE_BY, Behaviour, observe_all
from tasks.code.forms import defined_classes, packages
from tasks.code.parts import REWARDS_BY, rewards_of
from tasks.code.scoring import judge_all
from tasks.interface import DEFAULT_PROMPT, EndRule, Example, Message, PromptStyle, Score, Task, Vote

INSTRUCTION = "Complete this Python function. Reply with one code block that holds the whole function.\n\n"


class Prompt(NamedTuple):
    """Text around the code in a conversation.

    Attributes:
        before: Text before the code block.
        after: Text after the code block.
        system: System message; empty for none.
    """

    before: str = INSTRUCTION
    after: str = ""
    system: str = ""


PROMPTS = {
    DEFAULT_PROMPT: Prompt(),
    "bare": Prompt(before=""),
    "expert": Prompt(
        system="You are a careful Python programmer. You read the docstring and write code that is right."
    ),
    "examples": Prompt(after="\n\nBefore you reply, check the function against the examples in its docstring."),
}


class FunctionTask(Task):
    """Task whose answers are Python functions.

    Examples have the fields `prompt` (Python that ends with signature and docstring), `entry_point` (name of the
    function) and `test`.
    """

    prompts = tuple(PROMPTS)
    vote_by = VOTE_BY
    signal_by = SIGNAL_BY
    rewards_by = REWARDS_BY
    executes_code = True

    def content(self, example: Example) -> str:
        """Return the signature and docstring."""
        return str(example.fields["prompt"])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return a request for the whole function in one code block.

        The prompt `bare` is only the code, `expert` has a system message, and `examples` asks to check the examples.
        """
        before, after, system = PROMPTS[prompt]
        content = f"{before}```python\n{example.fields['prompt'].strip()}\n```{after}"
        turn: list[Message] = [{"role": "user", "content": content}]
        return [{"role": "system", "content": system}, *turn] if system else turn

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the signature and docstring. All prompts give the same completion."""
        return str(example.fields["prompt"])

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion at the first line outside the function."""
        return () if style == "chat" else ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```")

    def end_rule(self, example: Example, style: PromptStyle) -> EndRule | None:
        """End a chat after the code block that is scored. A stub or a shell command before it ends nothing."""
        return WholeProgram(example.fields["entry_point"], example.fields["prompt"]) if style == "chat" else None

    def score(self, example: Example, text: str) -> Score:
        """Score one answer; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Run the tests on the programs in the answers."""
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        return judge_all(programs, allow_unsandboxed=self.allow_unsandboxed)

    def rewards(
        self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return which of the tests each program passes; see `tasks.code.parts.rewards_of`."""
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        return rewards_of(programs, scores, allow_unsandboxed=self.allow_unsandboxed)

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the vote of one answer; see `vote_keys`."""
        return self.vote_keys([example], [text])[0]

    def vote_keys(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return votes by the results of the programs on the prompt's examples; see `tasks.code.behaviour.observe_all`.

        The results that the prompt states are not used.
        """
        return [behaviour.vote for behaviour in self._observe(examples, texts)]

    def signal(self, example: Example, text: str) -> float:
        """Return the signal of one answer; see `signals`."""
        return self.signals([example], [text])[0]

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the fraction of the prompt's examples that each program passes."""
        return [behaviour.signal for behaviour in self._observe(examples, texts)]

    def _observe(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Behaviour]:
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        statements = [e.fields["prompt"] for e in examples]
        return observe_all(programs, statements, allow_unsandboxed=self.allow_unsandboxed)


def fenced(code: str) -> str:
    """Return a program in a code block, as the default prompt asks for it."""
    return f"```python\n{code.strip()}\n```"


def _program(example: Example, text: str) -> Program:
    """Return the program in an answer; see `tasks.code.answer`."""
    name, test = example.fields["entry_point"], example.fields["test"]
    before, code = program_in(text, name, example.fields["prompt"])
    return Program(
        code=code,
        test=test,
        entry_point=name,
        name=example.id,
        prompt=before,
        packages=packages(test),
        classes=defined_classes(example.fields.get("canonical_solution", ""), test),
    )
