"""What tasks share that pose a function to write: signature and docstring, tests that are not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.sandbox import Program
from tasks.code.answer import code_block, definition
from tasks.code.behaviour import SIGNAL_BY, VOTE_BY, Behaviour, watch_all
from tasks.code.numeric import self_contained
from tasks.code.scoring import judge_all
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote

INSTRUCTION = "Complete this Python function. Reply with one code block that holds the whole function.\n\n"


class Pose(NamedTuple):
    """What stands around the code in a conversation."""

    before: str = INSTRUCTION
    after: str = ""
    system: str = ""


POSES = {
    DEFAULT_PROMPT: Pose(),
    "bare": Pose(before=""),
    "expert": Pose(system="You are a careful Python programmer. You read the docstring and write code that is right."),
    "examples": Pose(after="\n\nBefore you reply, check the function against the examples in its docstring."),
}


class FunctionTask(Task):
    """A task whose examples have fields `prompt`, which ends with signature and docstring, `entry_point` and `test`."""

    prompts = tuple(POSES)
    vote_by = VOTE_BY
    signal_by = SIGNAL_BY
    executes_code = True

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask for the whole function in one code block, or in the way of another prompt.

        The prompt `bare` is the code alone, `expert` has a system message, `examples` asks to check the examples.
        """
        before, after, system = POSES[prompt]
        content = f"{before}```python\n{example.fields['prompt'].strip()}\n```{after}"
        turn: list[Message] = [{"role": "user", "content": content}]
        return [{"role": "system", "content": system}, *turn] if system else turn

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return signature and docstring, to be continued; all prompts are one to a model that is not asked."""
        return str(example.fields["prompt"])

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End with the code block, or with the first line that leaves the function.

        A fence alone could be the opening one; with an empty line behind it, it closed the block.
        """
        return ("\n```\n\n",) if style == "chat" else ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```")

    def score(self, example: Example, text: str) -> Score:
        """Judge one answer; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Run the tests on the programs found in the answers."""
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        return judge_all(programs, allow_unsandboxed=self.allow_unsandboxed)

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the vote of one answer; see `vote_keys`."""
        return self.vote_keys([example], [text])[0]

    def vote_keys(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return votes by what programs do; the outputs of the examples have no part in them.

        See `tasks.code.behaviour.watch_all`.
        """
        return [behaviour.vote for behaviour in self._watch(examples, texts)]

    def signal(self, example: Example, text: str) -> float:
        """Return the signal of one answer; see `signals`."""
        return self.signals([example], [text])[0]

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the shares of their prompts' examples that programs pass."""
        return [behaviour.signal for behaviour in self._watch(examples, texts)]

    def _watch(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Behaviour]:
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        statements = [e.fields["prompt"] for e in examples]
        return watch_all(programs, statements, allow_unsandboxed=self.allow_unsandboxed)


def fenced(code: str) -> str:
    """Return a program as the reply that the default prompt asks for."""
    return f"```python\n{code.strip()}\n```"


def _program(example: Example, text: str) -> Program:
    """The answer as a program: a whole function after what the prompt imports and defines, or a continued prompt."""
    prompt, name = example.fields["prompt"], example.fields["entry_point"]
    block = code_block(text, name)
    code = text if block is None else block
    if definition(code, name) is not None:
        prompt = prompt[: definition(prompt, name)]
    test = self_contained(example.fields["test"])
    return Program(code=code, test=test, entry_point=name, name=example.id, prompt=prompt)
