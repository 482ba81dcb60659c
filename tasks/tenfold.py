"""Ten times a number: the second question that a chat model of a hundred million parameters can learn."""

from __future__ import annotations

from tasks.interface import Example
from tasks.successor import Successor


class Tenfold(Successor):
    """The last number of a reply is ten times one below two thousand; the reward is the same 0 or 1."""

    name = "tenfold"
    version = "1"

    def question(self, n: int, prompt: str) -> str:
        """Return the question in the words of a prompt."""
        brief = f"Say ten times {n}, nothing else."
        return brief if prompt == "brief" else f"What is {n} times ten? Reply with the number only."

    def gold(self, example: Example) -> str:
        """Return ten times the number."""
        return str(example.fields["n"] * 10)
