"""Addition of two numbers below one hundred: a proving ground small enough for tests.

The task belongs to the model `tiny-adder`, which was trained on `pretraining_pairs()` until it solves about half of
the rest. Every split below is disjoint from what that model has seen. Generated, no licence, no source but this file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.errors import UsageError
from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, Vote, cut

SALT = "addition-1"
HELD_OUT = 4000


def _ordered_pairs() -> list[tuple[int, int]]:
    pairs = [(a, b) for a in range(100) for b in range(100)]
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{SALT}\0pair\0{pair}".encode()).digest())


def pretraining_pairs() -> list[tuple[int, int]]:
    """Return the 6000 pairs that the shipped model was trained on; no split contains one of them."""
    return _ordered_pairs()[HELD_OUT:]


class Addition(Task):
    """Exact match of the sum; the reward is the same 0 or 1."""

    name = "addition"
    version = "1"
    max_new_tokens = 4
    expected_new_tokens = 4
    prompts = (DEFAULT_PROMPT, "swapped")
    vote_by = "the number"
    signal_by = "the number is no smaller than either addend"

    def load(self, data: Path | None = None) -> Splits:
        """Return 400 support, 400 select, 1000 gate and 2000 test pairs."""
        if data is not None:
            raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file")
        examples = [Example(f"{a}+{b}", {"a": a, "b": b}) for a, b in _ordered_pairs()[:HELD_OUT]]
        return cut(examples, salt=SALT, support=400, select=400, gate=1000, test=2000)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Pose the sum as one user turn; the model's chat template adds nothing but its beginning-of-text id."""
        return [{"role": "user", "content": self.completion(example, prompt)}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return `12+34=`, or `34+12=`, which asks for the same sum."""
        a, b = example.fields["a"], example.fields["b"]
        return f"{b}+{a}=" if prompt == "swapped" else f"{a}+{b}="

    def score(self, example: Example, text: str) -> Score:
        """Compare digits with the sum; anything else is no answer."""
        answer = text.strip()
        if not (answer.isascii() and answer.isdigit()):
            return Score(0.0, False, status="no_answer", detail=f"not a number: {answer[:20]!r}")
        number = answer.lstrip("0") or "0"
        correct = number == self.gold(example)
        return Score(float(correct), correct, number)

    def gold(self, example: Example) -> str:
        """Return the sum."""
        return str(example.fields["a"] + example.fields["b"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Equal numbers are equal votes."""
        answer = self.score(example, text).answer
        return None if answer is None else Vote(answer)

    def signal(self, example: Example, text: str) -> float:
        """Return 1 for what could be the sum by its size, else 0."""
        answer = self.score(example, text).answer
        # A sum has three digits at most, and a longer text may be too long to convert.
        return float(answer is not None and len(answer) <= 3 and self._fits(example, int(answer)))

    def _fits(self, example: Example, number: int) -> bool:
        return number >= max(example.fields["a"], example.fields["b"])
