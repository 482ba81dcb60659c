r"""Base class of competition mathematics tasks, whose answers are given as `\boxed{...}`."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote
from tasks.maths import after_hashes, announced, boxed, score_answer, strict_share, vote

FORM = r"Put the final answer, and nothing else, into \boxed{}; several answers into one box, with commas between them."
PROMPTS = {
    DEFAULT_PROMPT: f"Solve this problem step by step. {FORM}",
    "check": f"Solve this problem step by step, and check the result before you answer. {FORM}",
    "brief": f"Solve this problem. Write down the decisive steps only. {FORM}",
}


class BoxedTask(Task):
    r"""Task with rows of `problem` and `answer`. Accuracy uses the extractor `flexible`.

    The strict extractor takes only the box that the prompt asks for. The record has both accuracies.
    """

    max_new_tokens = 2048
    expected_new_tokens = 500
    prompts = tuple(PROMPTS)
    vote_by = "the value of the answer"

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the problem with a request for steps and a boxed answer."""
        return [{"role": "user", "content": f"{example.fields['problem']}\n\n{PROMPTS[prompt]}"}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the same request, followed by `Solution:`."""
        return f"Problem: {example.fields['problem']}\n\n{PROMPTS[prompt]}\n\nSolution:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion where a base model would invent another problem."""
        return ("\nProblem:",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the answer with the gold one; see `tasks.maths`."""
        return score_answer(example.fields["answer"], flexible(text))

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the accuracy under the strict and under the flexible extractor."""
        strictly = [score_answer(e.fields["answer"], boxed(text)) for e, text in zip(examples, texts, strict=True)]
        return strict_share(strictly, scores)

    def gold(self, example: Example) -> str:
        """Return the published answer in a box."""
        return rf"\boxed{{{example.fields['answer']}}}"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the value of the answer as the vote."""
        return vote(flexible(text))


def flexible(text: str) -> str | None:
    """Return the content of the last box, else the text after "the answer is", else after `####`."""
    return boxed(text) or announced(text) or after_hashes(text)
