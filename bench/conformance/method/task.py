"""Small addition task for conformance checks of methods. It reports each access to its data to an instrument."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.addition import Addition
from tasks.interface import DEFAULT_PROMPT, Example, Score, Splits

if TYPE_CHECKING:
    from bench.conformance.method.instrument import Instrument


class Sums(Addition):
    """Subset of `addition`, small enough for checks that take seconds.

    Attributes:
        instrument: Receiver of data accesses; None outside a conformance session.
    """

    name = "sums"
    instrument: Instrument | None = None

    def load(self, data: Path | None = None) -> Splits:
        """Return 64 support, 32 select, 64 gate and 24 test pairs."""
        if self.instrument is not None:
            self.instrument.on_load()
        splits = super().load(data)
        return Splits(splits.support[:64], splits.select[:32], splits.gate[:64], splits.test[:24])

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the sum as a completion prompt."""
        if self.instrument is not None:
            self.instrument.on_read(example)
        return super().completion(example, prompt)

    def score(self, example: Example, text: str) -> Score:
        """Score the digits of an answer against the sum."""
        if self.instrument is not None:
            self.instrument.on_read(example)
        return super().score(example, text)


class BareSums(Sums):
    """Same sums without the optional parts of a task: votes, signal, second prompt, select and gate split."""

    name = "bare-sums"

    def __init__(self) -> None:
        self.prompts, self.vote_by, self.signal_by = (DEFAULT_PROMPT,), None, None  # type: ignore[misc, assignment]

    def load(self, data: Path | None = None) -> Splits:
        """Return support and test pairs only."""
        splits = super().load(data)
        return Splits(splits.support, (), (), splits.test)
