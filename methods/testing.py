"""A context whose model answers by coin flips: how methods behave is shown on it, and what chance lets through.

An answer of a changed model is the base's, or at the flip rate a fresh draw with the item's own probability of
success, shifted by the true effect. Without an effect, base and changed model are exchangeable, whatever the method
does in between. Every answer costs the same, and answers flip around the base's also where the method has moved on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import AdaptationAccount
from bench.seeds import derive
from bench.weights.checkpoint import Place
from methods.interface import AdaptationSplit, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, TaskTraits

__all__ = ["FLOPS", "CoinFlips"]

FLOPS = 1000
"""Cost of every evaluation, arbitrary and equal."""


class CoinFlips:
    """A context whose model answers at random. See `methods.interface.Context`.

    Args:
        seed: Of method and answers.
        sizes: Examples by split.
        evaluations: Budget.
        accuracy: Mean probability of a right answer; items vary around it.
        flip_rate: Share of items that a changed model answers afresh.
        effect: True gain in accuracy of every changed model.
    """

    def __init__(
        self,
        seed: int,
        sizes: dict[str, int],
        evaluations: int,
        *,
        accuracy: float = 0.5,
        flip_rate: float = 1.0,
        effect: float = 0.0,
    ) -> None:
        self.seed, self.task, self.evaluation_flops = seed, TaskTraits(sizes), float(FLOPS)
        self.report: dict[str, Any] = {}
        self.budget = self.remaining = evaluations * FLOPS
        self._flip_rate, self._shift = flip_rate, effect / flip_rate
        self._rng = np.random.default_rng(derive(seed, "coin flips"))
        self._odds = {name: self._rng.beta(4 * accuracy, 4 * (1 - accuracy), n) for name, n in sizes.items()}
        self._base = {name: self._rng.random(p.size) < p for name, p in self._odds.items()}

    def evaluate(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
        prompt: str = DEFAULT_PROMPT,
    ) -> Evaluation:
        """Flip coins for examples of a split."""
        asked = slice(None) if examples is None else slice(examples.start, examples.stop)
        odds, base = self._odds[split][asked], self._base[split][asked]
        flops = odds.size * FLOPS
        if allowance is not None and flops > allowance:
            self.remaining -= allowance
            return Evaluation(np.empty(0), np.empty(0, dtype=np.bool_), allowance, complete=False)
        if flops > self.remaining:
            raise RuntimeError("the method exceeded its budget")
        self.remaining -= flops
        correct = base if point.is_base else self._changed(odds, base)
        return Evaluation(correct.astype(np.float64), correct, flops)

    def _changed(self, odds: NDArray[np.float64], base: NDArray[np.bool_]) -> NDArray[np.bool_]:
        afresh = self._rng.random(odds.size) < self._flip_rate
        drawn = self._rng.random(odds.size) < odds + self._shift
        return np.where(afresh, drawn, base)

    def train(self, allowance: int, lora: Lora | None = None) -> Training:
        """Refuse: coins cannot be taught."""
        raise NotImplementedError("a model that answers by coin flips cannot be trained")

    def prepare(self, points: Sequence[Place], split: AdaptationSplit, **rest: Any) -> None:
        """Nothing is made here."""

    @contextmanager
    def stage(self, name: str, steps: int | None = None) -> Iterator[CoinFlips]:
        """Show nothing."""
        yield self

    def advance(self, score: float | None = None) -> None:
        """Show nothing."""
