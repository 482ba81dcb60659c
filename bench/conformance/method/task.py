"""What a method adapts to in its exam: some of the sums of `addition`, which tell who reads them when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.addition import Addition
from tasks.interface import DEFAULT_PROMPT, Example, Score, Splits

if TYPE_CHECKING:
    from bench.conformance.method.instrument import Instrument


class Sums(Addition):
    """Few sums, so that an exam takes seconds.

    Attributes:
        instrument: Told when data are loaded, and which examples are posed and judged; None outside of an exam.
    """

    name = "sums"
    instrument: Instrument | None = None

    def load(self, data: Path | None = None) -> Splits:
        """Return 64 support, 32 select, 64 gate and 24 test pairs."""
        if self.instrument is not None:
            self.instrument.loaded()
        splits = super().load(data)
        return Splits(splits.support[:64], splits.select[:32], splits.gate[:64], splits.test[:24])

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the sum as a text to continue."""
        if self.instrument is not None:
            self.instrument.read(example)
        return super().completion(example, prompt)

    def score(self, example: Example, text: str) -> Score:
        """Compare digits with the sum."""
        if self.instrument is not None:
            self.instrument.read(example)
        return super().score(example, text)


class BareSums(Sums):
    """The same without what a task need not have: votes, a signal, a second prompt, a select and a gate split."""

    name = "bare-sums"

    def __init__(self) -> None:
        self.prompts, self.vote_by, self.signal_by = (DEFAULT_PROMPT,), None, None  # type: ignore[misc, assignment]

    def load(self, data: Path | None = None) -> Splits:
        """Return support and test pairs alone."""
        splits = super().load(data)
        return Splits(splits.support, (), (), splits.test)
