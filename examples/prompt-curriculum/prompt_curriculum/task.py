"""Sums of two numbers whose last digits carry: a sample task for tiny-adder, whose training data has some of them."""

from __future__ import annotations

from pathlib import Path

from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, UsageError, Vote, cut


class Carries(Task):
    """Addition with carry, scored by exact match. The reward is 1 if correct, else 0."""

    name = "carries"
    version = "1"
    max_new_tokens = 4
    expected_new_tokens = 4
    vote_by = "the text"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 200 select, 400 gate and 1000 test pairs."""
        if data is not None:
            raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file")
        pairs = [(a, b) for a in range(100) for b in range(100) if a % 10 + b % 10 > 9]
        examples = [Example(f"{a}+{b}", {"a": a, "b": b}) for a, b in pairs]
        return cut(examples, salt="carries-1", support=200, select=200, gate=400, test=1000)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return one user turn with the sum."""
        return [{"role": "user", "content": self.completion(example, prompt)}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the sum as text, such as `17+34=`."""
        return f"{example.fields['a']}+{example.fields['b']}="

    def score(self, example: Example, text: str) -> Score:
        """Compare the text with the correct sum."""
        answer = text.strip()
        correct = answer == self.gold(example)
        return Score(float(correct), correct, answer or None, "ok" if answer else "no_answer")

    def gold(self, example: Example) -> str:
        """Return the correct sum."""
        return str(example.fields["a"] + example.fields["b"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the text itself as the vote."""
        return Vote(text.strip()) if text.strip() else None
