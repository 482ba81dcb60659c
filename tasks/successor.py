"""The number after another: the first of two questions that a chat model of a hundred million parameters can learn.

Such a model rambles, and is right now and then; most of what adaptation can gain is a form in which it says what it
knows. Tasks with real questions are out of its reach. Generated, no licence, no source but this file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.errors import UsageError
from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, Vote, cut
from tasks.maths import judged, last_number, vote

SIZES = {"support": 200, "select": 200, "gate": 400, "test": 500}


class Successor(Task):
    """The last number of a reply is the next after one below two thousand; the reward is the same 0 or 1."""

    name = "successor"
    version = "1"
    max_new_tokens = 16
    expected_new_tokens = 14
    prompts = (DEFAULT_PROMPT, "brief")
    vote_by = "the last number"
    signal_by = "the last number is not that of the question"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 200 select, 400 gate and 500 test questions."""
        if data is not None:
            raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file")
        asked = sorted(range(10, 2000), key=self._drawn)
        examples = [Example(str(n), {"n": n}) for n in asked[: sum(SIZES.values())]]
        return cut(examples, salt=f"{self.name}-1", **SIZES)

    def _drawn(self, n: int) -> bytes:
        return hashlib.sha256(f"{self.name}-1\0{n}".encode()).digest()

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Pose the question as one user turn."""
        return [{"role": "user", "content": self.question(example.fields["n"], prompt)}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the question, and where its answer would follow."""
        return f"Question: {self.question(example.fields['n'], prompt)}\nAnswer:"

    def question(self, n: int, prompt: str) -> str:
        """Return the question in the words of a prompt."""
        brief = f"Say the number after {n}, nothing else."
        return brief if prompt == "brief" else f"Which number comes after {n}? Reply with the number only."

    def score(self, example: Example, text: str) -> Score:
        """Compare the last number with the answer."""
        return judged(self.gold(example), last_number(text))

    def gold(self, example: Example) -> str:
        """Return the next number."""
        return str(example.fields["n"] + 1)

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Equal numbers are equal votes."""
        return vote(last_number(text))

    def signal(self, example: Example, text: str) -> float:
        """Return 0 for no number, and for a reply that ends with the question's own."""
        return float(last_number(text) not in (None, str(example.fields["n"])))
