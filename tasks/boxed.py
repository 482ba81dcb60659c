r"""What competition tasks share: the prompt asks for `\boxed{...}`, and the scorer reads it there."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote
from tasks.maths import boxed, hashes, judged, said, strict_share, vote

FORM = r"Put the final answer, and nothing else, into \boxed{}; several answers into one box, with commas between them."
PROMPTS = {
    DEFAULT_PROMPT: f"Solve this problem step by step. {FORM}",
    "check": f"Solve this problem step by step, and check the result before you answer. {FORM}",
    "brief": f"Solve this problem. Write down the decisive steps only. {FORM}",
}


class BoxedTask(Task):
    r"""Accuracy takes the flexible extractor: the last box, else what is announced as the answer.

    The strict one takes the box alone, as the prompt asks; both are in the record. Rows have `problem` and `answer`.
    """

    max_new_tokens = 2048
    expected_new_tokens = 500
    prompts = tuple(PROMPTS)
    vote_by = "the value of the answer"

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask for steps and a box."""
        return [{"role": "user", "content": f"{example.fields['problem']}\n\n{PROMPTS[prompt]}"}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the same request, to be continued with the solution."""
        return f"Problem: {example.fields['problem']}\n\n{PROMPTS[prompt]}\n\nSolution:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """A base model would go on with a problem of its own."""
        return ("\nProblem:",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the answer with the gold one; see `tasks.maths`."""
        return judged(example.fields["answer"], flexible(text))

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the accuracy under the strict and under the flexible extractor."""
        strictly = [judged(e.fields["answer"], boxed(text)) for e, text in zip(examples, texts, strict=True)]
        return strict_share(strictly, scores)

    def gold(self, example: Example) -> str:
        """Return the published answer in a box."""
        return rf"\boxed{{{example.fields['answer']}}}"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Answers of equal value are equal votes."""
        return vote(flexible(text))


def flexible(text: str) -> str | None:
    """Return the last box, else what is announced as the answer in words or behind `####`."""
    return boxed(text) or said(text) or hashes(text)
