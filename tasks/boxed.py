r"""Base class of competition mathematics tasks, whose answers are given as `\boxed{...}`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.errors import UsageError
from tasks.golds import sole
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote
from tasks.maths import accuracies, after_hashes, announced, boxed, extractor_rewards, score_answer, vote
from tasks.sources import Row
from tasks.splitting import text_id

FORM = r"Put the final answer, and nothing else, into \boxed{}; several answers into one box, with commas between them."
PROMPTS = {
    DEFAULT_PROMPT: f"Solve this problem step by step. {FORM}",
    "check": f"Solve this problem step by step, and check the result before you answer. {FORM}",
    "brief": f"Solve this problem. Write down the decisive steps only. {FORM}",
}


class BoxedTask(Task):
    r"""Task with rows of `problem` and `answer`. Accuracy uses the extractor `flexible`.

    The strict extractor takes only the box that the prompt asks for. The record has both accuracies, and that of
    math-verify.
    """

    max_new_tokens = 2048
    expected_new_tokens = 500
    prompts = tuple(PROMPTS)
    vote_by = "the value of the answer"
    rewards_by = "the strict and the flexible extractor"

    def content(self, example: Example) -> str:
        """Return the problem."""
        return str(example.fields["problem"])

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
        return score_answer(example.fields["answer"], flexible(text), example.fields["problem"])

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the accuracy under the strict and the flexible extractor, and under math-verify."""
        golds, questions = ([example.fields[name] for example in examples] for name in ("answer", "problem"))
        return accuracies(golds, questions, texts, boxed, scores)

    def rewards(
        self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return whether each answer is right under the strict and under the flexible extractor."""
        golds, questions = ([example.fields[name] for example in examples] for name in ("answer", "problem"))
        return extractor_rewards(golds, questions, texts, boxed, scores)

    def gold(self, example: Example) -> str:
        """Return the published answer in a box."""
        return rf"\boxed{{{example.fields['answer']}}}"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the value of the answer as the vote."""
        return vote(flexible(text))


def flexible(text: str) -> str | None:
    """Return the content of the last box, else the text after "the answer is", else after `####`."""
    return boxed(text) or announced(text) or after_hashes(text)


def published(row: Row) -> Row:
    r"""Convert a row of competition mathematics, in any published layout, into one with `problem` and `answer`.

        {"problem": "...", "solution": "... \boxed{5}.", "level": "Level 5", "type": "Algebra"}          MATH
        {"unique_id": "...", "problem": "...", "answer": "5", "subject": "Algebra", "level": 5, ...}      MATH-500
        {"id": 60, "problem": "...", "answer": "204", ...}   {"Problem": "...", "Answer": 204, ...}       AIME
        {"id": 1606, "context": null, "question": "...", "final_answer": ["5"], ...}                OlympiadBench

    Without an answer of its own, a row has the content of the last box of its solution. A row without an id gets one
    from its problem.

    Raises:
        KeyError: If a row lacks a field.
        UsageError: If a row has no answer, is about an image, or asks for a proof.
    """
    names = {re.sub(r"[^a-z]", "", name.lower()): name for name in row}
    if row.get("modality") == "Multimodal":
        raise UsageError("field 'modality' is 'Multimodal'; a prompt cannot show the problem's images, remove the row")
    problem = row[names.get("problem", names.get("question", "problem"))]
    context = row.get(names.get("context", "context"))
    found = {"problem": f"{context}\n\n{problem}" if context else problem}
    solution = row.get(names.get("solution", "solution"))
    gold = names.get("answer", names.get("finalanswer"))
    if gold is None and isinstance(solution, str):
        inner = boxed(solution)
        if inner is None:
            raise UsageError("field 'solution' has no \\boxed{answer}, and there is no field 'answer'")
        found["answer"] = inner
    else:
        found["answer"] = sole(row[gold or "answer"], gold or "answer")
    number = row.get(names.get("uniqueid", names.get("id", "id")))
    if number is None:
        number = text_id(str(problem))
    found["id"] = int(number) if isinstance(number, str) and number.isdecimal() else number
    return row | found
