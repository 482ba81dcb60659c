"""Base class of tasks that ask for a Python function, given its signature and docstring. Hidden tests score it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.sandbox import Program
from tasks.code.answer import code_block, definition
from tasks.code.behaviour import SIGNAL_BY, VOTE_BY, Behaviour, observe_all
from tasks.code.numeric import self_contained
from tasks.code.scoring import judge_all
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote

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
    executes_code = True

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
        """End a chat after its code block, and a completion at the first line outside the function.

        A fence followed by an empty line closes a block. Without the empty line it could be an opening fence.
        """
        return ("\n```\n\n",) if style == "chat" else ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```")

    def score(self, example: Example, text: str) -> Score:
        """Score one answer; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Run the tests on the programs in the answers."""
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        return judge_all(programs, allow_unsandboxed=self.allow_unsandboxed)

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
    """Return the answer as a program.

    If the answer defines the function, the prompt's imports and helpers come before it. Otherwise the answer continues
    the prompt.
    """
    prompt, name = example.fields["prompt"], example.fields["entry_point"]
    block = code_block(text, name)
    code = text if block is None else block
    if definition(code, name) is not None:
        prompt = prompt[: definition(prompt, name)]
    test = self_contained(example.fields["test"])
    return Program(code=code, test=test, entry_point=name, name=example.id, prompt=prompt)
