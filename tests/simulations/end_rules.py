"""Rules that end answers of tiny models, for tests of engines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AtDigit:
    """Rule that ends an answer at a digit."""

    digit: str

    def may_end(self, tail: str) -> bool:
        """Return whether the end of an answer could complete it."""
        return tail.endswith(self.digit)

    def is_complete(self, answer: str) -> bool:
        """Return whether an answer is complete."""
        return self.digit in answer
